"""A shared store that fails, lags, forgets or lies, behind a whole coordinator: what the key still promises."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from frost_sidecar import Coordinator, errors, hookimpl
from frost_sidecar.hookspecs import Claim, IdempotencyStore, PluginContext
from frost_sidecar.idempotency import MemoryStore
from frost_sidecar.model import Answer, Call, Signed
from frost_sidecar.testing.behaviour import Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar
from tests.background import is_background

BODY = {"msg_b64": base64.b64encode(b"message").decode()}
LONGEST_FIRST_PAUSE = 0.1
"""Seconds after the first failure in which nobody asks the store."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Store(IdempotencyStore):
    """A good store with a switch, a gate before its claims, a clock of its own, and a hand that may change answers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.inner = MemoryStore(100, clock=self.clock)
        self.down = False
        self.gate = anyio.Event()
        self.gate.set()
        self.claiming = anyio.Event()
        self.claims = 0
        self.forge: Callable[[dict[str, Any]], None] | None = None

    def hold(self) -> None:
        self.gate, self.claiming = anyio.Event(), anyio.Event()

    def _check(self) -> None:
        if self.down:
            raise ConnectionError("refused")

    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        self.claims += 1
        self._check()
        gate = self.gate
        self.claiming.set()
        await gate.wait()
        held = await self.inner.claim(key, fingerprint, owner, seconds)
        if held.answer is None or self.forge is None:
            return held
        answer = msgspec.json.decode(held.answer)
        self.forge(answer)
        return Claim(mine=held.mine, fingerprint=held.fingerprint, answer=msgspec.json.encode(answer))

    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        self._check()
        await self.inner.complete(key, owner, answer, seconds)

    async def release(self, key: str, owner: str) -> None:
        self._check()
        await self.inner.release(key, owner)

    @hookimpl
    def make_idempotency_store(self, context: PluginContext) -> IdempotencyStore:
        return self


class Held:
    """Every signer of a cluster leaves requests waiting until it is let go."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.begun, self.go = anyio.Event(), anyio.Event()
        for identifier in cluster.identifiers:
            cluster.behave(identifier, self._wait)

    async def _wait(self, handle: Handle, call: Call) -> Answer:
        if is_background(call):
            return await handle(call)
        self.begun.set()
        await self.go.wait()
        return await handle(call)


def cluster_with_a_store(folder: Path, **idempotency: Any) -> MemoryCluster:
    return MemoryCluster(
        folder,
        settings={
            "plugins": {"memory": {}, "store": {}},
            "idempotency": {"store_seconds": 20.0, **idempotency},
            "signing": {"budget_seconds": 20.0, "call_seconds": 20.0},
        },
    )


def signed_records(cluster: MemoryCluster) -> int:
    return [record.outcome for record in cluster.records].count("signed")


# --- one key, a single request and a batch ----------------------------------------------------------------------------


@pytest.mark.parametrize("down_before", [False, True])
async def test_a_batch_is_refused_while_the_key_signs_and_the_store_is_gone(
    tmp_path: Path,
    down_before: bool,  # noqa: FBT001 - a case
) -> None:
    """Where the claim went to the store before it was out, this process alone knows that the key is taken."""
    cluster, store = cluster_with_a_store(tmp_path, on_outage="sign"), Store()
    held, store.down = Held(cluster), down_before
    async with cluster.coordinator({"store": store}) as coordinator:
        with anyio.fail_after(10):
            single = asyncio.create_task(coordinator.sign(b"message", idempotency_key="k"))
            await held.begun.wait()
            store.down = True
            with pytest.raises(errors.IdempotencyConflict):
                await coordinator.sign_batch([b"message"], idempotency_key="k")
            held.go.set()
            assert not (await single).replayed
            with pytest.raises(errors.IdempotencyConflict):
                await coordinator.sign_batch([b"message"], idempotency_key="k")
            assert (await coordinator.sign(b"message", idempotency_key="k")).replayed
    assert signed_records(cluster) == 1


async def test_a_batch_is_refused_while_the_key_is_on_its_way_to_the_store(tmp_path: Path) -> None:
    cluster, store = cluster_with_a_store(tmp_path), Store()
    async with cluster.coordinator({"store": store}) as coordinator:
        with anyio.fail_after(10):
            store.hold()
            single = asyncio.create_task(coordinator.sign(b"message", idempotency_key="k"))
            await store.claiming.wait()
            held, store.gate = store.gate, anyio.Event()
            store.gate.set()  # the next claim would be faster
            with pytest.raises(errors.IdempotencyConflict):
                await coordinator.sign_batch([b"message"], idempotency_key="k")
            held.set()
            assert not (await single).replayed
    assert signed_records(cluster) == 1


@pytest.mark.parametrize("shared", [False, True])
async def test_a_batch_is_refused_while_the_key_signs(tmp_path: Path, shared: bool) -> None:  # noqa: FBT001 - a case
    cluster = cluster_with_a_store(tmp_path) if shared else MemoryCluster(tmp_path)
    held = Held(cluster)
    async with cluster.coordinator({"store": Store()} if shared else None) as coordinator:
        with anyio.fail_after(10):
            single = asyncio.create_task(coordinator.sign(b"message", idempotency_key="k"))
            await held.begun.wait()
            with pytest.raises(errors.IdempotencyConflict):
                await coordinator.sign_batch([b"message"], idempotency_key="k")
            held.go.set()
            assert not (await single).replayed
    assert signed_records(cluster) == 1


async def _batch(coordinator: Coordinator, *messages: bytes) -> list[bool]:
    """Of each message whether it is answered again."""
    outcomes = await coordinator.sign_batch(list(messages), idempotency_key="b", timeout=2.0)
    return [isinstance(outcome, Signed) and outcome.replayed for outcome in outcomes]


async def test_a_batchs_key_outlives_its_deadline_by_the_time_of_replays(tmp_path: Path) -> None:
    """All claims of a request end soon after its deadline; a batch's key must stay as long as its items' answers."""
    cluster, store = cluster_with_a_store(tmp_path, replay_seconds=300.0, store_seconds=0.5), Store()
    async with cluster.coordinator({"store": store}) as coordinator:
        assert await _batch(coordinator, b"one", b"two") == [False, False]
        for seconds in (30.0, 260.0):
            store.clock.now += seconds
            with pytest.raises(errors.IdempotencyConflict):
                await _batch(coordinator, b"one", b"three")
            with pytest.raises(errors.IdempotencyConflict):
                await coordinator.sign(b"one", idempotency_key="b")
            assert await _batch(coordinator, b"one", b"two") == [True, True]
        store.clock.now += 60.0
        assert await _batch(coordinator, b"one", b"three") == [False, False]
    assert signed_records(cluster) == 4


# --- an outage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_outage", ["refuse", "sign"])
async def test_after_the_pause_one_of_many_asks_the_store(tmp_path: Path, on_outage: str) -> None:
    """The others are answered before the store is: nobody waits for it but the one."""
    cluster, store = cluster_with_a_store(tmp_path, on_outage=on_outage), Store()
    outcomes: dict[int, bool] = {}
    async with cluster.coordinator({"store": store}) as coordinator:

        async def one(number: int) -> None:
            try:
                await coordinator.sign(b"message", idempotency_key=f"k-{number}")
            except errors.IdempotencyUnavailable:
                outcomes[number] = False
            else:
                outcomes[number] = True

        store.down = True
        await one(-1)
        assert (store.claims, outcomes.pop(-1)) == (1, on_outage == "sign")
        store.down = False
        store.hold()
        await anyio.sleep(LONGEST_FIRST_PAUSE + 0.02)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(one, number)
                await store.claiming.wait()
                while len(outcomes) < 9:
                    await anyio.sleep(0.005)
                assert store.claims == 2
                assert list(outcomes.values()) == [on_outage == "sign"] * 9
                store.gate.set()
        assert len(outcomes) == 10
        assert list(outcomes.values()).count(True) == (10 if on_outage == "sign" else 1)
        await one(10)
        assert (store.claims, outcomes[10]) == (3, True), "the outage is over"


# --- a store that lies ------------------------------------------------------------------------------------------------


FORGED: dict[str, Callable[[dict[str, Any]], None]] = {
    "the key's name": lambda answer: answer.update(key="other"),
    "the group's key": lambda answer: answer.update(group_public=base64.b64encode(bytes(32)).decode()),
    "the signature": lambda answer: answer.update(signature=base64.b64encode(bytes(64)).decode()),
    "participants nobody knows": lambda answer: answer.update(participants=[8, 9]),
    "another number of participants": lambda answer: answer.update(participants=[1, 2, 3]),
}


@pytest.mark.parametrize("what", FORGED)
async def test_one_forged_member_of_a_stored_answer_withholds_it(short_path: Path, what: str) -> None:
    store, headers = Store(), {"Idempotency-Key": "k"}
    sidecar = MemorySidecar(short_path, plugins={"store": store})
    async with sidecar.serving() as http:
        async with http.post("/sign", json=BODY, headers=headers) as response:
            assert response.status == 200
            first = await response.json()
        async with http.post("/sign/batch", json=[BODY], headers={"Idempotency-Key": "b"}) as response:
            assert [each["outcome"] for each in await response.json()] == ["signed"]
        store.forge = FORGED[what]
        async with http.post("/sign", json=BODY, headers=headers) as response:
            problem = await response.json(content_type="application/problem+json")
            text = await response.text()
        assert (response.status, problem["type"]) == (503, "urn:frost-sidecar:error:idempotency-unavailable")
        assert "cannot be trusted" in problem["detail"]
        assert "signature_b64" not in problem
        assert first["signature_b64"] not in text
        async with http.post("/sign/batch", json=[BODY], headers={"Idempotency-Key": "b"}) as response:
            [item] = await response.json()
        assert (item["outcome"], item["status"]) == ("failed", 503)
        assert "signature_b64" not in item
        store.forge = None
        async with http.post("/sign", json=BODY, headers=headers) as response:
            assert await response.json() == first
            assert response.headers["Idempotency-Replayed"] == "true"
    assert signed_records(sidecar.cluster) == 2
