"""A record on its way to a slow sink: no caller's end stops it, and a queue that is full is said before it refuses."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from frost_sidecar import Coordinator, errors, hookimpl
from frost_sidecar.hookspecs import AuditRecord, AuditSink, PluginContext
from frost_sidecar.model import Answer, Call, Signed
from frost_sidecar.testing.behaviour import Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar
from tests.background import is_background

BODY = {"msg_b64": base64.b64encode(b"message").decode()}
PATIENT = {"write_seconds": 20.0}
"""No test comes near it: what ends a write here is the gate alone."""


class Gated(AuditSink):
    """A required sink that makes records durable once its gate is open."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.gate = anyio.Event()
        self.records: list[AuditRecord] = []

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        return [(record.request_id, record.outcome) for record in self.records]

    async def append(self, records: Sequence[AuditRecord]) -> None:
        self.begun.set()
        await self.gate.wait()
        self.records.extend(records)

    @hookimpl
    def make_audit_sink(self, context: PluginContext) -> AuditSink:
        return self


class Caller:
    """One request in a cancel scope of its own; says when it is over, and what came of it."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self.signed: Signed | None = None
        self.error: errors.FrostSidecarError | None = None

    async def sign(self, coordinator: Coordinator, request_id: str) -> None:
        with self.scope:
            try:
                self.signed = await coordinator.sign(b"message", request_id=request_id)
            except errors.FrostSidecarError as error:
                self.error = error
        self.over.set()


def cluster_with_a_sink(folder: Path, **settings: Any) -> MemoryCluster:
    return MemoryCluster(folder, settings={"plugins": {"memory": {}, "sink": {}}, "audit": PATIENT, **settings})


async def test_a_caller_that_gives_up_during_the_write_ends_when_the_record_is_durable(tmp_path: Path) -> None:
    cluster, sink, caller = cluster_with_a_sink(tmp_path), Gated(), Caller()
    async with cluster.coordinator({"sink": sink}) as coordinator, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            tasks.start_soon(caller.sign, coordinator, "r-1")
            await sink.begun.wait()
            caller.scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert not caller.over.is_set()
            assert sink.records == []
            sink.gate.set()
            await caller.over.wait()
            assert sink.outcomes == [("r-1", "signed")]
    assert sink.outcomes == [("r-1", "signed")], "a whole record needs no correction"
    assert cluster.records == sink.records


async def test_a_caller_that_gives_up_before_there_is_a_signature_leaves_a_record_too(tmp_path: Path) -> None:
    cluster, sink, caller, asked = cluster_with_a_sink(tmp_path), Gated(), Caller(), anyio.Event()

    async def silent(handle: Handle, call: Call) -> Answer:
        if is_background(call):
            return await handle(call)
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    for identifier in cluster.identifiers:
        cluster.behave(identifier, silent)
    async with cluster.coordinator({"sink": sink}) as coordinator, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            tasks.start_soon(caller.sign, coordinator, "r-1")
            await asked.wait()
            caller.scope.cancel()
            await sink.begun.wait()
            await anyio.wait_all_tasks_blocked()
            assert not caller.over.is_set()
            sink.gate.set()
            await caller.over.wait()
            assert sink.outcomes == [("r-1", "failed")]
    assert caller.signed is None
    [record] = sink.records
    assert (record.reason, record.signature_sha256) == ("cancelled", None)
    assert cluster.records == sink.records


async def test_of_many_callers_that_give_up_none_is_missing_from_the_log(tmp_path: Path) -> None:
    """The first is being written, the others are in the queue behind it."""
    cluster, sink, callers = cluster_with_a_sink(tmp_path), Gated(), [Caller() for _ in range(8)]
    async with cluster.coordinator({"sink": sink}) as coordinator, anyio.create_task_group() as tasks:
        with anyio.fail_after(10):
            for number, caller in enumerate(callers):
                tasks.start_soon(caller.sign, coordinator, f"r-{number}")
            while len(cluster.records) < len(callers):
                await anyio.sleep(0.005)
            for caller in callers:
                caller.scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert not any(caller.over.is_set() for caller in callers)
            sink.gate.set()
            for caller in callers:
                await caller.over.wait()
    assert sorted(sink.outcomes) == [(f"r-{number}", "signed") for number in range(len(callers))]


@pytest.mark.parametrize(("waiting", "status"), [(1, 200), (2, 503)])
async def test_a_full_queue_is_not_ready(short_path: Path, waiting: int, status: int) -> None:
    """One record more would be refused: then no request may be sent here."""
    sink, answers = Gated(), []
    audit = {**PATIENT, "max_queue": 2}
    sidecar = MemorySidecar(short_path, plugins={"sink": sink}, audit=audit)
    async with sidecar.serving() as http, anyio.create_task_group() as tasks:

        async def one() -> None:
            async with http.post("/sign", json=BODY) as response:
                answers.append(response.status)

        with anyio.fail_after(10):
            for _ in range(waiting):
                tasks.start_soon(one)
            while len(sidecar.cluster.records) < waiting:
                await anyio.sleep(0.005)
            async with http.get("/readyz") as response:
                report = await response.json()
            assert (response.status, report["ready"]) == (status, status == 200)
            full = status != 200
            assert report["reasons"] == (["audit sink sink: its queue is full"] if full else [])
            assert report["audit"]["sink"]["backlog"] == waiting
            assert report["audit"]["sink"]["writable"] is not full
            assert report["audit"]["memory"] == {"required": True, "writable": True, "backlog": 0, "detail": None}
            sink.gate.set()
    assert answers == [200] * waiting
    assert len(sink.records) == waiting
