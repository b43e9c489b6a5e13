"""Natural batching, seen from the signers: what leaves in which request, and what nobody has to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import nacl.signing
import pytest

from frost_sidecar import errors
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.model import Answer, Call
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.behaviour import Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.wire import COMMITMENTS_PATH, MAX_SESSIONS, SHARES_PATH

SECONDS = 10.0
"""How long anything may take before a test gives up."""


class Gate:
    """An honest signer behind a gate, which notes the requests for shares and how many were there at once."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.calls: list[dict[str, Any]] = []
        self.request_ids: list[str] = []
        self.commitment_calls = 0
        self.at_once = self.most_at_once = 0
        self._opened = asyncio.Event()
        if is_open:
            self._opened.set()

    def open(self) -> None:
        self._opened.set()

    @property
    def sizes(self) -> list[int]:
        """Sessions in each request, in order."""
        return [len(call["sessions"]) for call in self.calls]

    async def __call__(self, handle: Handle, call: Call) -> Answer:
        self.commitment_calls += call.path == COMMITMENTS_PATH
        if call.path != SHARES_PATH:
            return await handle(call)
        self.calls.append(msgspec.json.decode(call.body))
        self.request_ids.append(call.headers["X-Request-ID"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._opened.wait()
            return await handle(call)
        finally:
            self.at_once -= 1


def make_cluster(folder: Path, **signing: Any) -> MemoryCluster:
    settings = {"signing": {"call_seconds": SECONDS, "budget_seconds": SECONDS, **signing}}
    return MemoryCluster(folder / "keys", min_signers=2, max_signers=2, settings=settings)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(SECONDS):
        while not condition():
            await anyio.sleep(0.005)


def sample(coordinator: Coordinator, name: str, **labels: str) -> float:
    return coordinator.registry.get_sample_value(name, labels) or 0.0


async def stocked(coordinator: Coordinator) -> None:
    """Wait until every signer's commitments are in stock."""
    with anyio.fail_after(SECONDS):
        while not all(each.commitments_in_stock for each in (await coordinator.readiness()).signers):
            await anyio.sleep(0.02)


async def sign_all(coordinator: Coordinator, messages: list[bytes]) -> list[bytes]:
    async with asyncio.timeout(2 * SECONDS):
        signed = await asyncio.gather(*(coordinator.sign(each) for each in messages))
    for message, each in zip(messages, signed, strict=True):
        nacl.signing.VerifyKey(each.group_public).verify(message, each.signature)
    return [each.signature for each in signed]


async def test_with_commitments_in_stock_a_signature_takes_one_round_trip(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    gates = {each: Gate(is_open=True) for each in cluster.identifiers}
    for each, gate in gates.items():
        cluster.behave(each, gate)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        before = [gate.commitment_calls for gate in gates.values()]
        await sign_all(coordinator, [b"one"])
        assert [gate.sizes for gate in gates.values()] == [[1], [1]]
        assert [gate.commitment_calls for gate in gates.values()] == before


async def test_what_comes_while_requests_are_under_way_leaves_together(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=1)
    gates = {each: Gate() for each in cluster.identifiers}
    for each, gate in gates.items():
        cluster.behave(each, gate)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sign_all(coordinator, [b"first"]))
            await until(lambda: all(gate.sizes == [1] for gate in gates.values()))
            tasks.create_task(sign_all(coordinator, [b"message %d" % each for each in range(20)]))
            await until(lambda: sample(coordinator, "frost_coordinator_share_queue") == 40)
            assert all(gate.sizes == [1] for gate in gates.values())
            for gate in gates.values():
                gate.open()
        assert [gate.sizes for gate in gates.values()] == [[1, 20], [1, 20]]
        assert sample(coordinator, "frost_coordinator_share_queue") == 0
        assert sample(coordinator, "frost_coordinator_share_batch_size_sum") == 42


async def test_what_comes_at_once_leaves_together_also_when_nothing_is_under_way(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    gate = Gate(is_open=True)
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        await sign_all(coordinator, [b"message %d" % each for each in range(8)])
    assert gate.sizes == [8]


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_no_more_requests_at_once_than_configured(tmp_path: Path, most: int) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=most)
    gate = Gate()
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator, asyncio.TaskGroup() as tasks:
        await stocked(coordinator)
        for number in range(6):
            tasks.create_task(sign_all(coordinator, [b"message %d" % number]))
            await until(lambda number=number: len(gate.calls) >= min(number + 1, most))  # type: ignore[misc]
        assert gate.most_at_once == most
        gate.open()
    assert gate.most_at_once == most
    assert sum(gate.sizes) == 6


async def test_a_request_has_no_more_sessions_and_bytes_than_allowed(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=1)
    gate = Gate(is_open=True)
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        await sign_all(coordinator, [b"message %d" % each for each in range(150)])
        assert sum(gate.sizes) == 150
        assert max(gate.sizes) == MAX_SESSIONS
        gate.calls.clear()
        await sign_all(coordinator, [b"%d" % each + b"x" * 16_000 for each in range(100)])
        assert sum(gate.sizes) == 100
        bytes_of_messages = [sum(len(each["msg"]) for each in call["sessions"]) for call in gate.calls]
        assert 512 * 1024 < max(bytes_of_messages) <= 1024 * 1024


async def test_the_ids_of_all_requests_reach_the_signer(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    gate = Gate(is_open=True)
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        await coordinator.sign(b"alone", request_id="r-alone")
        await asyncio.gather(*(coordinator.sign(b"m%d" % each, request_id=f"r-{each}") for each in range(5)))
    alone, together = gate.calls
    assert gate.request_ids[0] == "r-alone"
    assert "request" not in alone["sessions"][0]
    assert [each["request"] for each in together["sessions"]] == [f"r-{each}" for each in range(5)]
    assert gate.request_ids[1] not in {"r-alone", *(f"r-{each}" for each in range(5))}


async def test_what_nobody_waits_for_any_more_does_not_leave(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=1)
    gate = Gate()
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        first = asyncio.create_task(coordinator.sign(b"first"))
        await until(lambda: gate.sizes == [1])
        with pytest.raises(errors.DeadlineExceeded):
            await coordinator.sign(b"late", timeout=0.1)
        last = asyncio.create_task(coordinator.sign(b"last"))
        await until(lambda: sample(coordinator, "frost_coordinator_share_queue") >= 1)
        gate.open()
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(first, last)
        assert sample(coordinator, "frost_coordinator_share_queue") == 0
        assert sample(coordinator, "frost_coordinator_commitments_total", signer="signer-1", event="burnt") == 1
    messages = [each["msg"] for call in gate.calls for each in call["sessions"]]
    assert len(messages) == 2


class Broken:
    """Fails every request for shares, and counts them."""

    def __init__(self, *, silent: bool) -> None:
        self.calls = 0
        self._silent = silent

    async def __call__(self, handle: Handle, call: Call) -> Answer:
        if call.path != SHARES_PATH:
            return await handle(call)
        self.calls += 1
        return await behaviour.drops_answers(handle, call) if self._silent else Answer(500, b"")


@pytest.mark.parametrize("kind", ["refused", "unreachable"])
async def test_one_failed_request_is_one_fault_and_all_of_it_is_signed_by_others(tmp_path: Path, kind: str) -> None:
    settings = {"signing": {"call_seconds": SECONDS, "budget_seconds": SECONDS}}
    cluster = MemoryCluster(tmp_path / "keys", min_signers=2, max_signers=3, settings=settings)
    broken = Broken(silent=kind == "unreachable")
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        cluster.behave(1, broken)
        with anyio.fail_after(SECONDS):
            while not broken.calls:  # what comes at once goes to the same signers, by chance not to this one
                await sign_all(coordinator, [b"message %d" % each for each in range(40)])
                await anyio.sleep(0.02)
        faults = sample(coordinator, "frost_coordinator_signer_faults_total", signer="signer-1", kind=kind)
        assert 1 <= faults == broken.calls <= 8
    assert cluster.reused == []


async def test_a_restart_under_load_costs_a_session_and_is_not_held_against_the_signer(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        cluster.restart(1)
        await sign_all(coordinator, [b"message %d" % each for each in range(50)])
        kinds = {"stale-epoch": 0.0, "unknown-commitment": 0.0, "timeout": 0.0}
        for kind in kinds:
            kinds[kind] = sample(coordinator, "frost_coordinator_signer_faults_total", signer="signer-1", kind=kind)
        assert kinds["stale-epoch"] >= 1
        assert kinds["timeout"] == kinds["unknown-commitment"] == 0
        assert [each.state for each in (await coordinator.readiness()).signers] == ["healthy", "healthy"]
    assert cluster.reused == []


async def test_two_keys_never_share_a_request(tmp_path: Path) -> None:
    cluster = MemoryCluster(
        tmp_path / "keys",
        min_signers=2,
        max_signers=2,
        settings={
            "keys": {"default": {}, "other": {}},
            "default_key": "default",
            "signing": {"batches_per_signer": 1, "call_seconds": SECONDS, "budget_seconds": SECONDS},
        },
    )
    gate = Gate(is_open=True)
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        with anyio.fail_after(SECONDS):
            results = await asyncio.gather(
                *(coordinator.sign(b"m%d" % each, key=("default", "other")[each % 2]) for each in range(10)),
                return_exceptions=True,
            )
    assert [type(each).__name__ for each in results] == ["Signed", "NoQuorum"] * 5  # nobody has a share of the other
    assert {call["key"] for call in gate.calls} == {"default"}


async def test_a_coordinator_that_closes_leaves_nobody_waiting(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=1, budget_seconds=0.5)
    gate = Gate()
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        tasks = [asyncio.create_task(coordinator.sign(b"message %d" % each)) for each in range(5)]
        await until(lambda: gate.at_once == 1)
    async with asyncio.timeout(SECONDS):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in results} == {errors.DeadlineExceeded}


async def test_who_waits_behind_a_request_that_nobody_answers_waits_no_longer_than_it(tmp_path: Path) -> None:
    signing = {"call_seconds": 0.5, "budget_seconds": SECONDS, "batches_per_signer": 1, "cool_down_seconds": SECONDS}
    cluster = MemoryCluster(tmp_path / "keys", min_signers=2, max_signers=3, settings={"signing": signing})
    gate = Gate()
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        cluster.behave(1, gate)
        tasks: list[asyncio.Task[Any]] = []
        while not gate.calls or len(tasks) < 30:  # within the first moments, when nobody knows yet
            tasks.append(asyncio.create_task(coordinator.sign(b"message %d" % len(tasks))))
            await anyio.sleep(0.001)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*tasks)
        assert len(gate.calls) == 1
        assert sample(coordinator, "frost_coordinator_signer_faults_total", signer="signer-1", kind="timeout") == 1
    assert cluster.reused == []
