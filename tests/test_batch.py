"""``POST /sign/batch`` and ``sign_batch``: one outcome for each message, in their order."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar import errors
from frost_sidecar.model import BatchItem, Signed
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar


def _body(message: bytes, **members: Any) -> dict[str, Any]:
    return {"msg_b64": base64.b64encode(message).decode(), **members}


async def test_every_item_has_its_own_outcome_in_place(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    bodies = [
        _body(b"one"),
        _body(b"two", participants=[1, 3]),
        _body(b"three", participants=[1]),
        _body(b"four", key="other"),
        _body(b"five" * 5000),
        _body(b"six"),
    ]
    async with sidecar.serving() as http:
        async with http.post("/sign/batch", json=bodies, headers={"X-Request-ID": "mint-7"}) as response:
            assert (response.status, response.content_type) == (200, "application/json")
            items = await response.json()
        async with http.get("/metrics") as response:
            assert "frost_coordinator_batch_size_sum 6.0" in await response.text()
    assert [item["outcome"] for item in items] == ["signed", "signed", "failed", "failed", "failed", "signed"]
    assert [item.get("type", "").rpartition(":")[2] for item in items] == [
        *("", "", "participants", "unknown-key", "too-large", ""),
    ]
    assert [item.get("status") for item in items] == [None, None, 422, 422, 413, None]
    assert [item["request_id"] for item in items] == [f"mint-7:{index}" for index in range(6)]
    assert items[1]["participants"] == [1, 3]
    for body, item in zip(bodies, items, strict=True):
        if item["outcome"] == "signed":
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(item["group_public_b64"]))
            public.verify(base64.b64decode(item["signature_b64"]), base64.b64decode(body["msg_b64"]))
    assert {record.request_id for record in sidecar.cluster.records} >= {"mint-7:0", "mint-7:1", "mint-7:5"}
    assert sidecar.cluster.reused == []


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ([], 400, "malformed-request"),
        ({}, 400, "malformed-request"),
        (_body(b"one"), 400, "malformed-request"),
        ([_body(b"one"), 5], 400, "malformed-request"),
        ([_body(b"one"), {"msg_b64": "*"}], 400, "malformed-request"),
        ([_body(b"one"), _body(b"")], 400, "malformed-request"),
        ([_body(b"one", more=1)], 400, "malformed-request"),
        ([_body(b"one")] * 9, 413, "too-large"),
        ([_body(b"one")] * 1025, 400, "malformed-request"),
    ],
)
async def test_a_batch_that_cannot_be_understood_is_refused_whole(
    short_path: Path, body: Any, status: int, slug: str
) -> None:
    sidecar = MemorySidecar(short_path, server={"max_batch": 8})
    async with sidecar.serving() as http:
        async with http.post("/sign/batch", json=body) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (status, f"urn:frost-sidecar:error:{slug}")
        async with http.post("/sign/batch", json=[_body(b"one")] * 8) as response:
            assert [item["outcome"] for item in await response.json()] == ["signed"] * 8
    assert len(sidecar.cluster.records) == 8


async def test_a_batch_of_which_nothing_was_signed_frees_its_key(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path, settings={"idempotency": {"max_entries": 4}})
    async with cluster.coordinator() as coordinator:
        for index in range(10):
            [outcome] = await coordinator.sign_batch([BatchItem(b"m", key="nobody")], idempotency_key=f"k{index}")
            assert isinstance(outcome, errors.UnknownKey)
        assert await coordinator.sign(b"m", idempotency_key="k0")
        [outcome] = await coordinator.sign_batch([b"m"], idempotency_key="k1")
        assert isinstance(outcome, Signed)
        with pytest.raises(errors.IdempotencyConflict):
            await coordinator.sign(b"m", idempotency_key="k1")


async def test_a_batch_that_failed_does_not_free_the_key_of_one_that_signs(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    batch = [BatchItem(b"one", participants=(1, 2))]
    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:
        cluster.behave(1, behaviour.stalled)
        ended = anyio.Event()

        async def first() -> None:
            [outcome] = await coordinator.sign_batch(batch, idempotency_key="k", timeout=0.3)
            assert isinstance(outcome, errors.DeadlineExceeded)
            ended.set()

        tasks.start_soon(first)
        await anyio.sleep(0.1)
        cluster.behave(1, behaviour.delayed(0.3))
        [outcome] = await coordinator.sign_batch(batch, idempotency_key="k")
        assert isinstance(outcome, Signed)
        assert ended.is_set()
        with pytest.raises(errors.IdempotencyConflict):
            await coordinator.sign_batch([b"another"], idempotency_key="k")


async def test_items_say_whether_they_are_replayed(short_path: Path) -> None:
    headers = {"Idempotency-Key": "k"}
    async with MemorySidecar(short_path).serving() as http:
        for replayed in (False, True):
            async with http.post("/sign/batch", json=[_body(b"one"), _body(b"two")], headers=headers) as response:
                assert [item["replayed"] for item in await response.json()] == [replayed] * 2


async def test_one_deadline_for_all(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    for identifier in cluster.identifiers:
        cluster.behave(identifier, behaviour.stalled)
    async with cluster.coordinator() as coordinator:
        started = anyio.current_time()
        outcomes = await coordinator.sign_batch([b"message"] * 40, timeout=0.2)
        assert anyio.current_time() - started < 2
    assert [type(outcome) for outcome in outcomes] == [errors.DeadlineExceeded] * 40


async def test_a_batch_leaves_room_for_others(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path, settings={"signing": {"max_in_flight": 20}})
    for identifier in cluster.identifiers:
        cluster.behave(identifier, behaviour.delayed(0.02))
    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:
        outcomes: list[object] = []

        async def batch() -> None:
            outcomes.extend(await coordinator.sign_batch([b"message"] * 64))

        tasks.start_soon(batch)
        await anyio.sleep(0.05)
        assert await coordinator.sign(b"another")
    assert all(isinstance(outcome, Signed) for outcome in outcomes)
    assert len(outcomes) == 64


async def test_in_process_items_are_messages_or_items(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    async with cluster.coordinator() as coordinator:
        one, two, three = await coordinator.sign_batch(
            [b"one", BatchItem(b"two", participants=(2, 3)), BatchItem(b"three", key="nobody")], request_id="r"
        )
        assert isinstance(one, Signed)
        assert one.request_id == "r:0"
        assert isinstance(two, Signed)
        assert two.participants == (2, 3)
        assert isinstance(three, errors.UnknownKey)
        wrong: list[Any] = [
            b"one",
            "one",
            [],
            ["text"],
            [b"one", 1],
            [b"one", b""],
            [BatchItem(b"one", participants=("1",))],  # type: ignore[arg-type]
        ]
        for items in wrong:
            with pytest.raises(errors.MalformedRequest):
                await coordinator.sign_batch(items)
        with pytest.raises(errors.TooLarge):
            await coordinator.sign_batch([b"one"] * 65)
    assert [record.outcome for record in cluster.records].count("signed") == 2


async def test_a_batch_that_comes_again_signs_only_what_failed(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    batch = [BatchItem(b"one"), BatchItem(b"two", participants=(1, 2)), BatchItem(b"three")]
    async with cluster.coordinator() as coordinator:
        cluster.behave(2, behaviour.unreachable)
        first = await coordinator.sign_batch(batch, idempotency_key="k")
        assert [type(outcome).__name__ for outcome in first] == ["Signed", "NoQuorum", "Signed"]
        cluster.restart(2)
        again = await coordinator.sign_batch(batch, idempotency_key="k")
        assert all(isinstance(outcome, Signed) for outcome in again)
        assert [isinstance(outcome, Signed) and outcome.replayed for outcome in again] == [True, False, True]
        others = [batch[:2], [*batch, BatchItem(b"four")], [batch[1], batch[0], batch[2]]]
        for other in others:
            with pytest.raises(errors.IdempotencyConflict):
                await coordinator.sign_batch(other, idempotency_key="k")
        with pytest.raises(errors.IdempotencyConflict):
            await coordinator.sign(b"one", idempotency_key="k")
    assert [record.outcome for record in cluster.records].count("signed") == 3
