"""One signature for one key: over a store in memory, over stores that fail, and over two replicas that share one."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frost_sidecar import errors
from frost_sidecar.config import IdempotencyConfig
from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.idempotency import Idempotency, MemoryStore
from frost_sidecar.idempotency.answer import MAX_ANSWER_BYTES, decode_answer, encode_answer
from frost_sidecar.idempotency.fingerprint import batch_fingerprint, request_fingerprint, scope_of
from frost_sidecar.metrics import CoordinatorMetrics, new_registry
from frost_sidecar.model import Caller, Claim, Signed, SignRequest
from frost_sidecar.testing.idempotency_contract import IdempotencyStoreContract

CALLER = Caller("mint", "tcp")
RESULTS = ("new", "unshared", "replayed", "joined", "conflict", "unavailable", "corrupt", "overloaded", "failed")


def ask(message: bytes = b"message", *, key: str | None = "k-1", seconds: float = 5.0, **fields: Any) -> SignRequest:
    fields = {"request_id": "r-1", **fields}
    return SignRequest(message=message, deadline=anyio.current_time() + seconds, idempotency_key=key, **fields)


class Signer:
    """Stands for all that makes a signature: counts, waits and fails as it is told."""

    def __init__(self) -> None:
        self.made: list[Signed] = []
        self.calls = 0
        self.fails: Exception | None = None
        self.go = anyio.Event()
        self.go.set()
        self.begun = anyio.Event()

    async def __call__(self, caller: Caller, request: SignRequest) -> Signed:
        self.calls += 1
        self.begun.set()
        try:
            with anyio.fail_after(request.deadline - anyio.current_time()):
                await self.go.wait()
                await anyio.lowlevel.checkpoint()
        except TimeoutError:
            raise errors.DeadlineExceeded("no time left") from None
        if self.fails is not None:
            raise self.fails
        signature = request.message.ljust(56, b"\0")[:56] + len(self.made).to_bytes(8)
        signed = Signed(signature, b"P" * 32, (1, 3), request.key or "default", request.request_id)
        self.made.append(signed)
        return signed

    def verify(self, request: SignRequest, signed: Signed) -> None:
        if signed.signature[:56] != request.message.ljust(56, b"\0")[:56]:
            raise errors.InternalError("does not verify")

    def hold(self) -> None:
        self.go, self.begun = anyio.Event(), anyio.Event()


class Faulty(IdempotencyStore):
    """A store over a good one, between which and its users anything may happen."""

    def __init__(self, inner: IdempotencyStore | None = None) -> None:
        self.inner = inner or MemoryStore(1000)
        self.how: dict[str, str] = {}
        """Method → raises, hangs, loses (the call takes effect, its answer is lost), cancels, lies."""
        self.calls: list[str] = []

    def all(self, how: str) -> None:
        self.how = dict.fromkeys(("claim", "complete", "release"), how)

    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        held: Claim = await self._do("claim", lambda: self.inner.claim(key, fingerprint, owner, seconds))
        return held

    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        await self._do("complete", lambda: self.inner.complete(key, owner, answer, seconds))

    async def release(self, key: str, owner: str) -> None:
        await self._do("release", lambda: self.inner.release(key, owner))

    async def _do(self, method: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(method)
        match self.how.get(method):
            case "raises":
                raise ConnectionError("refused")
            case "hangs":
                await anyio.sleep(60)
            case "loses":
                await call()
                raise ConnectionError("reset")
            case "hangs after":
                await call()
                await anyio.sleep(60)
            case "cancels":
                raise asyncio.CancelledError
            case "lies":
                return "yes"
        return await call()


@dataclass
class Replica:
    idempotency: Idempotency
    signer: Signer
    metrics: CoordinatorMetrics

    async def sign(self, request: SignRequest, caller: Caller = CALLER) -> Signed:
        return await self.idempotency.sign(caller, request)

    def count(self, result: str) -> float:
        labels = {"result": result}
        return self.metrics.registry.get_sample_value("frost_coordinator_idempotency_total", labels) or 0

    def counts(self) -> dict[str, float]:
        return {result: self.count(result) for result in RESULTS if self.count(result)}


def replica(store: IdempotencyStore | None = None, *, signer: Signer | None = None, **config: Any) -> Replica:
    signer, metrics = signer or Signer(), CoordinatorMetrics(new_registry())
    given = None if store is None else ("acme", store)
    config = {"store_seconds": 0.2, **config}
    idempotency = Idempotency(signer, given, IdempotencyConfig(**config), metrics, 0.1, signer.verify)
    return Replica(idempotency, signer, metrics)


def gathered(*requests: Awaitable[Signed]) -> asyncio.Future[list[Signed | BaseException]]:
    return asyncio.gather(*requests, return_exceptions=True)


# --- the store in memory ----------------------------------------------------------------------------------------------


class TestMemoryStore(IdempotencyStoreContract):
    @asynccontextmanager
    async def two_clients(self) -> AsyncIterator[tuple[IdempotencyStore, IdempotencyStore]]:
        async with MemoryStore(1000) as store:
            yield store, store


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_full_memory_takes_no_new_key_and_answers_the_old_ones() -> None:
    clock = Clock()
    store = MemoryStore(3, clock=clock)
    for name in "abc":
        assert (await store.claim(name, b"f", "o", 10)).mine
    await store.complete("a", "o", b"answer", 100)
    with pytest.raises(errors.Overloaded, match="3 idempotency keys"):
        await store.claim("d", b"f", "o", 10)
    assert await store.claim("a", b"f", "x", 10) == Claim(mine=False, fingerprint=b"f", answer=b"answer")
    assert store.find("b") == Claim(mine=False, fingerprint=b"f")
    await store.release("b", "o")
    assert (await store.claim("d", b"f", "o", 10)).mine
    clock.now += 10.2
    assert (await store.claim("e", b"f", "o", 10)).mine
    assert (await store.claim("f", b"f", "o", 10)).mine
    assert store.find("a") is not None
    assert store.find("c") is None
    clock.now += 100
    assert store.find("a") is None


async def test_what_ended_leaves_the_memory_a_little_with_each_call() -> None:
    clock = Clock()
    store = MemoryStore(10_000, clock=clock)
    for number in range(5000):
        clock.now += 0.01
        await store.claim(f"answered {number}", b"f", "o", 1)
        await store.complete(f"answered {number}", "o", b"answer", 300)
        await store.claim(f"released {number}", b"f", "o", 86400)
        await store.release(f"released {number}", "o")
    assert len(store) == 5000
    clock.now += 86400
    before = len(store)
    await store.claim("one more", b"f", "o", 1)
    assert before - 16 <= len(store) - 1 < before
    for number in range(400):
        await store.claim(f"later {number}", b"f", "o", 1)
    assert len(store) == 401
    assert len(store._ending) == len(store._ticks) <= 2


# --- which requests are the same --------------------------------------------------------------------------------------

SAME = SignRequest(b"message", "r-1", 10.0, idempotency_key="k-1")
OTHERS = [
    replace(SAME, message=b"message2"),
    replace(SAME, key="default"),
    replace(SAME, participants=()),
    replace(SAME, participants=(1, 2)),
    replace(SAME, participants=(2, 1)),
    replace(SAME, participants=(12,)),
    replace(SAME, signer_urls=()),
    replace(SAME, signer_urls=("https://a", "https://b")),
    replace(SAME, signer_urls=("https://ahttps://b",)),
    replace(SAME, signer_urls=("\udcff",)),
]


def test_what_is_asked_for_makes_the_fingerprint() -> None:
    prints = [request_fingerprint(each) for each in (SAME, *OTHERS)]
    prints += [batch_fingerprint(each) for each in (b"", b"message", prints[0])]
    assert len(set(prints)) == len(prints)
    assert {len(each) for each in prints} == {32}
    attempt = replace(SAME, request_id="r-2", deadline=99.0, traceparent="00-1", idempotency_key="other")
    assert request_fingerprint(attempt) == prints[0]


def test_no_two_callers_share_a_key() -> None:
    users = [
        Caller("unix:uid=1000,gid=1000", "unix"),
        Caller("unix:uid=1000,gid=1000", "unix", "mint"),
        Caller("unix:uid=1000,gid=1000", "unix", ""),
        Caller("unix:uid=1000,gid=1000", "unix", "other"),
        Caller("unix:uid=1000,gid=1000", "tcp"),
        Caller("in-process", "in-process"),
        Caller("in-process", "tcp"),
        Caller("mint", "tcp"),
        Caller("mintk", "tcp"),
    ]
    scopes = [scope_of(caller, key) for caller in users for key in ("k", "kk", "-1")]
    assert len(set(scopes)) == len(scopes)
    assert all(len(each) == 64 and int(each, 16) >= 0 for each in scopes)
    assert scope_of(Caller("mint", "tcp"), "k") == scope_of(Caller("mint", "tcp"), "k")


@pytest.mark.parametrize("key", ["", "a b", "a\n", "ä", "x" * 256, "\x7f", "\x00"])
async def test_a_key_out_of_form(key: str) -> None:
    one = replica()
    with pytest.raises(errors.MalformedRequest, match="1 to 255"):
        await one.sign(ask(key=key))
    with pytest.raises(errors.MalformedRequest, match="1 to 255"):
        await one.idempotency.reserve(CALLER, key, b"d", anyio.current_time() + 1)
    assert one.signer.calls == 0


# --- one process ------------------------------------------------------------------------------------------------------


async def test_without_a_key_every_request_signs() -> None:
    store = Faulty()
    one = replica(store)
    first, second = [await one.sign(ask(key=None)) for _ in range(2)]
    assert first.signature != second.signature
    assert store.calls == []
    assert one.counts() == {}


@pytest.mark.parametrize("key", ["!", "~" * 255, "123e4567-e89b-12d3-a456-426614174000"])
async def test_the_same_again_is_the_first_answer(key: str) -> None:
    one = replica()
    first = await one.sign(ask(key=key))
    again = await one.sign(ask(key=key, request_id="r-2"))
    assert not first.replayed
    assert again == replace(first, replayed=True)
    assert again.request_id == "r-1"
    assert len(one.signer.made) == 1
    assert one.counts() == {"new": 1, "replayed": 1}


async def test_another_caller_with_the_same_key_is_another_request() -> None:
    one = replica()
    first = await one.sign(ask())
    other = await one.sign(ask(b"of another mint"), Caller("other", "tcp"))
    assert (first.replayed, other.replayed, len(one.signer.made)) == (False, False, 2)


@pytest.mark.parametrize("other", OTHERS, ids=range(len(OTHERS)))
async def test_another_request_with_the_key_is_a_conflict(other: SignRequest) -> None:
    one = replica()
    await one.sign(ask())
    with pytest.raises(errors.IdempotencyConflict, match="fresh key"):
        await one.sign(replace(other, deadline=anyio.current_time() + 5))
    assert one.counts() == {"new": 1, "conflict": 1}


async def test_after_its_time_a_key_is_free() -> None:
    one = replica(replay_seconds=0.2)
    await one.sign(ask())
    with anyio.fail_after(5):
        while True:
            await anyio.sleep(0.05)
            with suppress(errors.IdempotencyConflict):
                if not (await one.sign(ask(b"another"))).replayed:
                    break
    assert len(one.signer.made) == 2


async def test_identical_requests_at_once_are_one_flight() -> None:
    store = Faulty()
    one = replica(store)
    one.signer.hold()
    async with anyio.create_task_group() as tasks:
        answers: list[Signed] = []

        async def run(number: int) -> None:
            answers.append(await one.sign(ask(request_id=f"r-{number}")))

        for number in range(100):
            tasks.start_soon(run, number)
        await one.signer.begun.wait()
        with pytest.raises(errors.IdempotencyConflict):
            await one.sign(ask(b"another"))
        one.signer.go.set()
    assert one.signer.calls == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 99
    assert len({(answer.signature, answer.request_id) for answer in answers}) == 1
    assert store.calls == ["claim", "complete"]
    assert one.counts() == {"new": 1, "joined": 99, "conflict": 1}


@pytest.mark.parametrize(
    "error", [errors.Denied("no"), errors.NoQuorum("none"), errors.AuditUnavailable("disk"), RuntimeError("defect")]
)
async def test_a_failure_is_everybodys_and_frees_the_key(error: Exception) -> None:
    store = Faulty()
    one = replica(store)
    one.signer.hold()
    one.signer.fails = error
    waiting = gathered(*(one.sign(ask()) for _ in range(5)))
    await one.signer.begun.wait()
    await anyio.lowlevel.checkpoint()
    one.signer.go.set()
    assert await waiting == [error] * 5
    assert one.signer.calls == 1
    assert one.counts() == {"failed": 5}
    one.signer.fails = None
    assert not (await one.sign(ask())).replayed


async def _cancelled(one: Replica, leader: asyncio.Task[Signed]) -> None:
    leader.cancel()
    await asyncio.wait([leader])


async def _late(one: Replica, leader: asyncio.Task[Signed]) -> None:
    await asyncio.wait([leader])


async def _shutting_down(one: Replica, leader: asyncio.Task[Signed]) -> None:
    one.signer.fails = errors.ShuttingDown("closed")
    one.signer.go.set()
    await asyncio.wait([leader])
    one.signer.fails = None


@pytest.mark.parametrize("end", [_cancelled, _late, _shutting_down])
async def test_where_the_first_ends_for_a_reason_of_its_own_another_signs(
    end: Callable[[Replica, asyncio.Task[Signed]], Awaitable[None]],
) -> None:
    store = Faulty()
    one = replica(store)
    one.signer.hold()
    leader = asyncio.create_task(one.sign(ask(seconds=0.3 if end is _late else 5)))
    await one.signer.begun.wait()
    others = gathered(*(one.sign(ask(request_id=f"w-{number}")) for number in range(5)))
    await anyio.sleep(0.01)
    await end(one, leader)
    one.signer.go.set()
    answers = await others
    assert leader.cancelled() or isinstance(leader.exception(), errors.DeadlineExceeded | errors.ShuttingDown)
    assert {type(answer) for answer in answers} == {Signed}
    assert len(one.signer.made) == 1
    assert one.signer.made[0].request_id.startswith("w-")
    assert one.counts() == {"failed": 1, "new": 1, "joined": 4}


async def test_a_waiter_has_its_own_deadline() -> None:
    one = replica()
    one.signer.hold()
    leader = asyncio.create_task(one.sign(ask()))
    await one.signer.begun.wait()
    started = anyio.current_time()
    with pytest.raises(errors.DeadlineExceeded):
        await one.sign(ask(seconds=0.05))
    with pytest.raises(errors.DeadlineExceeded):
        await one.sign(ask(seconds=-1))
    assert anyio.current_time() - started < 1
    with anyio.move_on_after(0.05):
        await one.sign(ask())
    one.signer.go.set()
    assert not (await leader).replayed
    assert (await one.sign(ask())).replayed
    assert one.signer.calls == 1


async def test_waiters_are_counted() -> None:
    one = replica()
    one.signer.hold()
    waiting = gathered(*(one.sign(ask()) for _ in range(300)))
    await one.signer.begun.wait()
    await anyio.sleep(0.01)
    one.signer.go.set()
    kinds = [type(each) for each in await waiting]
    assert (kinds.count(Signed), kinds.count(errors.Overloaded)) == (257, 43)
    assert one.count("overloaded") == 43
    assert (await one.sign(ask())).replayed


async def test_waiters_for_all_keys_are_counted_together_and_by_caller() -> None:
    one = replica()
    one.signer.hold()
    callers = [Caller(f"tcp:{number}", "tcp") for number in range(5)]
    calls = [(caller, f"k-{number % 10}") for caller in callers[:4] for number in range(10 + 1024 + 7)]
    calls += [(callers[4], f"k-{number}") for number in range(10)]
    waiting = gathered(*(one.sign(ask(key=key), caller) for caller, key in calls))
    await one.signer.begun.wait()
    await anyio.sleep(0.01)
    last = gathered(one.sign(ask(key="k-0"), callers[4]))
    await anyio.sleep(0.01)
    one.signer.go.set()
    kinds = [type(each) for each in await waiting]
    assert (kinds.count(Signed), kinds.count(errors.Overloaded)) == (50 + 4096, 4 * 7)
    assert [type(each) for each in await last] == [errors.Overloaded]
    assert (len(one.signer.made), one.idempotency._waiting.total()) == (50, 0)


async def test_a_full_memory_refuses_new_keys_before_anything_is_signed() -> None:
    one = replica(max_entries=2)
    for number in range(2):
        await one.sign(ask(key=f"k-{number}"))
    with pytest.raises(errors.Overloaded):
        await one.sign(ask(key="k-2"))
    assert (await one.sign(ask(key="k-0"))).replayed
    assert (len(one.signer.made), one.count("overloaded")) == (2, 1)


async def test_cancelled_twice_while_it_answers_the_signature_is_kept_all_the_same() -> None:
    store = Faulty()
    one = replica(store, store_seconds=5)
    held, reached = anyio.Event(), anyio.Event()
    complete = store.inner.complete

    async def slow(key: str, owner: str, answer: bytes, seconds: float) -> None:
        reached.set()
        await held.wait()
        await complete(key, owner, answer, seconds)

    store.inner.complete = slow  # type: ignore[method-assign]
    leader = asyncio.create_task(one.sign(ask()))
    await reached.wait()
    leader.cancel()
    await anyio.lowlevel.checkpoint()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    again = asyncio.create_task(one.sign(ask()))
    await anyio.sleep(0.03)
    held.set()
    assert (await again).replayed
    assert one.signer.calls == 1


async def test_closing_waits_for_answers_on_their_way_and_takes_no_more() -> None:
    store = Faulty()
    one = replica(store)
    one.signer.hold()
    leader = asyncio.create_task(one.sign(ask()))
    await one.signer.begun.wait()
    closing = asyncio.create_task(one.idempotency.close(5))
    await anyio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(errors.ShuttingDown):
        await one.sign(ask(key="k-2"))
    with pytest.raises(errors.ShuttingDown):
        await one.idempotency.reserve(CALLER, "k-3", b"d", anyio.current_time() + 1)
    one.signer.go.set()
    await closing
    assert leader.done()
    assert store.calls == ["claim", "complete"]


# --- two replicas, one store ------------------------------------------------------------------------------------------


async def test_two_replicas_sign_once() -> None:
    store, signer = MemoryStore(1000), Signer()
    replicas = [replica(store, signer=signer) for _ in range(2)]
    for round_ in range(20):
        signer.hold()
        waiting = gathered(*(each.sign(ask(key=f"k-{round_}")) for each in replicas for _ in range(5)))
        await signer.begun.wait()
        await anyio.sleep(0.002)
        signer.go.set()
        answers = await waiting
        assert {type(each) for each in answers} == {Signed}
        assert len({each.signature for each in answers if isinstance(each, Signed)}) == 1
    assert len(signer.made) == 20
    for each in replicas:
        with pytest.raises(errors.IdempotencyConflict):
            await each.sign(ask(b"another", key="k-0"))


async def test_another_replicas_failure_lets_this_one_sign() -> None:
    store = MemoryStore(1000)
    one, other = replica(store), replica(store)
    one.signer.hold()
    one.signer.fails = errors.NoQuorum("none")
    first = asyncio.create_task(one.sign(ask()))
    await one.signer.begun.wait()
    second = asyncio.create_task(other.sign(ask()))
    await anyio.sleep(0.05)
    assert other.signer.calls == 0
    one.signer.go.set()
    with pytest.raises(errors.NoQuorum):
        await first
    assert not (await second).replayed
    assert (await one.sign(ask())).replayed


async def test_while_another_replica_signs_the_deadline_holds() -> None:
    store = MemoryStore(1000)
    one, other = replica(store), replica(store)
    one.signer.hold()
    first = asyncio.create_task(one.sign(ask()))
    await one.signer.begun.wait()
    started = anyio.current_time()
    with pytest.raises(errors.DeadlineExceeded):
        await other.sign(ask(seconds=0.2))
    with pytest.raises(errors.IdempotencyConflict):
        await other.sign(ask(b"another"))
    assert anyio.current_time() - started < 1
    one.signer.go.set()
    assert not (await first).replayed


async def test_a_replica_that_died_loses_its_claim_and_not_before_its_deadline() -> None:
    store = MemoryStore(1000)
    one, other = replica(store), replica(store)
    request = ask(seconds=0.3)
    taken = await store.claim(scope_of(CALLER, "k-1"), request_fingerprint(request), "dead", 0.3 + 0.1 + 0.2 + 1)
    assert taken.mine
    started = anyio.current_time()
    assert not (await other.sign(ask())).replayed
    assert 1.5 < anyio.current_time() - started < 4
    leases: list[float] = []
    claim = store.claim

    async def listen(key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        leases.append(seconds)
        return await claim(key, fingerprint, owner, seconds)

    store.claim = listen  # type: ignore[method-assign]
    await one.sign(ask(key="k-2", seconds=3))
    assert leases == [pytest.approx(3 + 0.1 + 0.2 + 1, abs=0.2)]


async def test_at_the_end_nobody_waits_for_another_replica() -> None:
    store = MemoryStore(1000)
    one, other = replica(store), replica(store)
    one.signer.hold()
    first = asyncio.create_task(one.sign(ask()))
    await one.signer.begun.wait()
    second = asyncio.create_task(other.sign(ask()))
    await anyio.sleep(0.05)
    started = anyio.current_time()
    await other.idempotency.close(5)
    assert anyio.current_time() - started < 1
    with pytest.raises(errors.ShuttingDown):
        await second
    one.signer.go.set()
    assert not (await first).replayed


# --- a store that fails -----------------------------------------------------------------------------------------------

FAULTS = ["raises", "hangs", "loses", "hangs after", "cancels", "lies"]


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message.partition(": ")[2] for each in caplog.records if each.message.startswith("idempotency store:")]


@pytest.mark.parametrize("how", FAULTS)
async def test_refuse_in_an_outage_before_anything_is_signed(how: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Faulty()
    one = replica(store)
    store.all(how)
    for number in range(5):
        started = anyio.current_time()
        with pytest.raises(errors.IdempotencyUnavailable, match="plugin acme"):
            await one.sign(ask(key=f"k-{number}"))
        with pytest.raises(errors.IdempotencyUnavailable, match="plugin acme"):
            await one.idempotency.reserve(CALLER, f"b-{number}", b"d", anyio.current_time() + 5)
        assert anyio.current_time() - started < 1
    assert one.signer.calls == 0
    assert one.counts() == {"unavailable": 10}
    assert outages(caplog) == ["outage begins"]
    assert "refused" not in "".join(each.message for each in caplog.records)
    store.all("well")
    with anyio.fail_after(5):
        while one.signer.calls == 0:
            with suppress(errors.IdempotencyUnavailable):
                await one.sign(ask(key="k-9"))
            await anyio.sleep(0.02)
    assert outages(caplog) == ["outage begins", "outage over"]
    assert (await one.sign(ask(key="k-9"))).replayed


@pytest.mark.parametrize("how", FAULTS)
async def test_sign_in_an_outage_and_be_idempotent_here(how: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Faulty()
    one = replica(store, on_outage="sign")
    store.all(how)
    first = [await one.sign(ask(key=f"k-{number}")) for number in range(5)]
    again = await gathered(*(one.sign(ask(key=f"k-{number}")) for number in range(5) for _ in range(3)))
    assert [each.signature for each in again if isinstance(each, Signed)] == [
        each.signature for each in first for _ in range(3)
    ]
    with pytest.raises(errors.IdempotencyConflict):
        await one.sign(ask(b"another", key="k-0"))
    assert one.signer.calls == 5
    assert one.counts()["unshared"] == 5
    assert outages(caplog) == ["outage begins"]
    store.all("well")
    await anyio.sleep(2.1)
    assert not (await one.sign(ask(key="k-9"))).replayed
    assert outages(caplog) == ["outage begins", "outage over"]
    assert one.count("new") == 1
    assert (await one.sign(ask(key="k-0"))).signature == first[0].signature, "signed in the outage, known here"
    assert one.signer.calls == 6


async def test_in_an_outage_few_are_made_to_wait_for_the_store() -> None:
    store = Faulty()
    one = replica(store, on_outage="sign")
    store.all("hangs")
    started = anyio.current_time()
    for number in range(100):
        await one.sign(ask(key=f"k-{number}"))
    assert anyio.current_time() - started < 5
    assert store.calls.count("claim") < 20


async def test_many_failures_at_once_are_one() -> None:
    store = Faulty()
    one = replica(store)
    store.all("hangs")
    answers = await gathered(*(one.sign(ask(key=f"k-{number}")) for number in range(50)))
    assert {type(each) for each in answers} == {errors.IdempotencyUnavailable}
    store.all("well")
    await anyio.sleep(0.11)
    assert not (await one.sign(ask(key="k-1"))).replayed


@pytest.mark.parametrize("how", ["raises", "hangs", "loses", "hangs after", "cancels"])
@pytest.mark.parametrize("on_outage", ["refuse", "sign"])
async def test_a_signature_that_cannot_be_stored_is_answered_and_kept_here(
    how: str, on_outage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Faulty()
    one = replica(store, on_outage=on_outage)
    store.how = {"complete": how}
    first = await one.sign(ask())
    again = await one.sign(ask(request_id="r-2"))
    assert again == replace(first, replayed=True)
    assert one.signer.calls == 1
    assert one.counts() == {"unshared": 1, "replayed": 1}
    assert "a signature is answered and not stored; another replica would sign again" in outages(caplog)


@pytest.mark.parametrize("how", ["loses", "hangs after"])
async def test_a_claim_whose_answer_was_lost_is_given_back(how: str) -> None:
    inner = MemoryStore(1000)
    store = Faulty(inner)
    one, other = replica(store), replica(inner)
    store.how = {"claim": how}
    with pytest.raises(errors.IdempotencyUnavailable):
        await one.sign(ask())
    assert not (await other.sign(ask(seconds=1))).replayed
    store.how = {"claim": "hangs after"}
    with anyio.move_on_after(0.05):
        await replica(store).sign(ask(key="k-2"))
    assert not (await other.sign(ask(key="k-2", seconds=1))).replayed


async def test_a_request_shorter_than_the_stores_deadline_keeps_its_own() -> None:
    store = Faulty()
    one = replica(store, store_seconds=5)
    store.how = {"claim": "hangs after"}
    with pytest.raises(errors.DeadlineExceeded):
        await one.sign(ask(seconds=0.05))
    await one.idempotency.close(5)
    assert store.calls == ["claim", "release"]
    assert one.counts() == {"failed": 1}


async def test_a_release_that_fails_changes_no_error() -> None:
    store = Faulty()
    one = replica(store)
    store.how = {"release": "raises"}
    one.signer.fails = errors.Denied("no")
    with pytest.raises(errors.Denied):
        await one.sign(ask())


GOOD = Signed(b"message".ljust(56, b"\0") + bytes(8), b"P" * 32, (1, 3), "default", "r-1")
STORED: dict[str, Any] = msgspec.json.decode(encode_answer(GOOD))
UNREADABLE = {
    "empty": b"",
    "no JSON": b"\xff\x00garbage",
    "a list": b"[]",
    "another version": msgspec.json.encode({**STORED, "v": 2}),
    "a field too many": msgspec.json.encode({**STORED, "more": 1}),
    "a field twice": encode_answer(GOOD).replace(b'{"v":1', b'{"v":1,"v":1'),
    "a field missing": msgspec.json.encode({name: value for name, value in STORED.items() if name != "key"}),
    "a short signature": encode_answer(replace(GOOD, signature=b"s" * 63)),
    "a long public key": encode_answer(replace(GOOD, group_public=b"p" * 33)),
    "no participants": encode_answer(replace(GOOD, participants=())),
    "a participant twice": encode_answer(replace(GOOD, participants=(1, 1))),
    "participant 0": encode_answer(replace(GOOD, participants=(0, 1))),
    "a key's name out of form": encode_answer(replace(GOOD, key="no/name")),
    "a header in the request id": encode_answer(replace(GOOD, request_id="a\r\nSet-Cookie: b")),
    "too long": encode_answer(GOOD) + b" " * MAX_ANSWER_BYTES,
}


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("on_outage", ["refuse", "sign"])
async def test_an_unreadable_answer_is_refused(answer: bytes, on_outage: str, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(10)
    one = replica(store, on_outage=on_outage)
    await store.claim(scope_of(CALLER, "k-1"), request_fingerprint(ask()), "somebody", 60)
    await store.complete(scope_of(CALLER, "k-1"), "somebody", answer, 60)
    with pytest.raises(errors.IdempotencyUnavailable, match="cannot be trusted"):
        await one.sign(ask())
    assert one.signer.calls == 0
    assert one.counts() == {"corrupt": 1}
    assert outages(caplog) == ["unreadable answer"]
    assert (await one.sign(ask(key="fresh"))).replayed is False


async def test_a_signature_in_the_store_that_does_not_verify_never_leaves(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(10)
    one = replica(store, on_outage="sign")
    await store.claim(scope_of(CALLER, "k-1"), request_fingerprint(ask()), "somebody", 60)
    await store.complete(scope_of(CALLER, "k-1"), "somebody", encode_answer(replace(GOOD, signature=b"x" * 64)), 60)
    with pytest.raises(errors.IdempotencyUnavailable, match="cannot be trusted"):
        await one.sign(ask())
    assert one.counts() == {"corrupt": 1}
    assert [each.levelno for each in caplog.records] == [logging.CRITICAL]


async def test_an_entry_that_is_none_of_ours_is_no_conflict(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(10)
    one = replica(store)
    for name in ("k-1", "b-1"):
        await store.claim(scope_of(CALLER, name), b"short", "somebody", 60)
    with pytest.raises(errors.IdempotencyUnavailable, match="cannot be trusted"):
        await one.sign(ask())
    with pytest.raises(errors.IdempotencyUnavailable, match="cannot be trusted"):
        await one.idempotency.reserve(CALLER, "b-1", b"d", anyio.current_time() + 1)
    assert one.counts() == {"corrupt": 2}
    assert outages(caplog) == ["not an entry of ours"] * 2


async def test_a_key_that_this_replica_does_not_know_is_the_requests_fault() -> None:
    one = replica()
    await one.sign(ask(key="k-1"))

    def unknown(request: SignRequest, signed: Signed) -> None:
        raise errors.UnknownKey("there is no such key")

    one.idempotency._verify = unknown
    with pytest.raises(errors.UnknownKey):
        await one.sign(ask(key="k-1"))


@given(
    signature=st.binary(min_size=64, max_size=64),
    participants=st.sets(st.integers(1, 65535), min_size=1, max_size=255),
    key=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", fullmatch=True),
    request_id=st.from_regex(r"[A-Za-z0-9._:/+=-]{1,128}\Z", fullmatch=True),
)
def test_every_signature_fits_and_comes_back(
    signature: bytes, participants: set[int], key: str, request_id: str
) -> None:
    signed = Signed(signature, b"P" * 32, tuple(sorted(participants)), key, request_id)
    assert len(encode_answer(signed)) < MAX_ANSWER_BYTES
    assert decode_answer(encode_answer(signed)) == replace(signed, replayed=True)


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
async def test_a_key_belongs_to_one_batch(*, shared: bool) -> None:
    store = MemoryStore(100) if shared else None
    one, other = replica(store), replica(store)
    replicas = [one, other] if shared else [one]
    until = anyio.current_time() + 5
    for each in replicas * 3:
        await each.idempotency.reserve(CALLER, "b-1", b"digest", until)
    for each in replicas:
        with pytest.raises(errors.IdempotencyConflict):
            await each.idempotency.reserve(CALLER, "b-1", b"another", until)
        with pytest.raises(errors.IdempotencyConflict):
            await each.sign(ask(key="b-1"))
        await each.idempotency.reserve(Caller("other", "tcp"), "b-1", b"another", until)
        assert each.counts() == {"conflict": 2}


async def test_a_single_requests_key_is_no_batchs_also_while_it_is_under_way() -> None:
    one = replica()
    one.signer.hold()
    first = asyncio.create_task(one.sign(ask()))
    await one.signer.begun.wait()
    for _ in range(2):
        with pytest.raises(errors.IdempotencyConflict):
            await one.idempotency.reserve(CALLER, "k-1", b"d", anyio.current_time() + 5)
        one.signer.go.set()
        await first


async def test_a_batch_in_an_outage_is_reserved_here() -> None:
    store = Faulty()
    one = replica(store, on_outage="sign")
    store.all("raises")
    until = anyio.current_time() + 5
    for _ in range(2):
        await one.idempotency.reserve(CALLER, "b-1", b"digest", until)
    with pytest.raises(errors.IdempotencyConflict):
        await one.idempotency.reserve(CALLER, "b-1", b"another", until)
    with pytest.raises(errors.DeadlineExceeded):
        await one.idempotency.reserve(CALLER, "b-2", b"d", anyio.current_time() - 1)


# --- any order of events ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """A request by one of two replicas, and what becomes of it: milliseconds, and whether its signing fails."""

    replica: int
    key: int
    variant: int
    pause: int
    budget: int
    signing: int
    fails: bool
    cancelled_after: tuple[int, ...]
    """When its task is cancelled, as often as it says."""
    given_up_after: int | None
    """When a cancel scope around it ends."""


EVENTS = st.lists(
    st.builds(
        Event,
        replica=st.integers(0, 1),
        key=st.integers(0, 1),
        variant=st.sampled_from([0, 0, 0, 1]),
        pause=st.integers(0, 4),
        budget=st.integers(1, 40),
        signing=st.integers(0, 20),
        fails=st.booleans(),
        cancelled_after=st.just(()) | st.lists(st.integers(0, 20), max_size=3).map(tuple),
        given_up_after=st.none() | st.integers(0, 20),
    ),
    min_size=2,
    max_size=24,
)


class Slow(IdempotencyStore):
    """A good store at a distance: every call takes a little, and may be given up at any point of it."""

    def __init__(self, chance: random.Random) -> None:
        self.inner = MemoryStore(100)
        self._chance = chance

    async def _travel(self) -> None:
        await anyio.sleep(self._chance.choice([0, 0.0005, 0.002]))

    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        await self._travel()
        held = await self.inner.claim(key, fingerprint, owner, seconds)
        await self._travel()
        return held

    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        await self._travel()
        await self.inner.complete(key, owner, answer, seconds)
        await self._travel()

    async def release(self, key: str, owner: str) -> None:
        await self._travel()
        await self.inner.release(key, owner)
        await self._travel()


async def _play(events: list[Event], seed: int) -> None:
    store = Slow(random.Random(seed))
    made: dict[str, list[bytes]] = {}
    script: dict[str, Event] = {}
    numbers = itertools.count()

    async def sign(_: Caller, request: SignRequest) -> Signed:
        event = script[request.request_id]
        try:
            with anyio.fail_after(request.deadline - anyio.current_time()):
                await anyio.sleep(event.signing / 1000)
        except TimeoutError:
            raise errors.DeadlineExceeded("late") from None
        if event.fails:
            raise errors.NoQuorum("none")
        signature = request.message.ljust(56) + next(numbers).to_bytes(8)
        made.setdefault(str(request.idempotency_key), []).append(signature)
        return Signed(signature, b"P" * 32, (1, 2), "default", request.request_id)

    metrics = [CoordinatorMetrics(new_registry()) for _ in range(2)]
    config = IdempotencyConfig(store_seconds=2)
    replicas = [Idempotency(sign, ("slow", store), config, each, 0.01, lambda _r, _s: None) for each in metrics]

    async def one(number: int, event: Event) -> Signed | errors.FrostSidecarError | None:
        request = ask(
            b"variant %d" % event.variant,
            key=f"k-{event.key}",
            seconds=event.budget / 1000,
            request_id=f"r-{number}",
        )
        script[request.request_id] = event
        try:
            with anyio.move_on_after(None if event.given_up_after is None else event.given_up_after / 1000):
                return await replicas[event.replica].sign(CALLER, request)
        except errors.FrostSidecarError as error:
            return error
        else:
            return None
        finally:
            assert anyio.current_time() < request.deadline + 1.0, "hung past its deadline"

    tasks = []
    for number, event in enumerate(events):
        task = asyncio.create_task(one(number, event))
        tasks.append(task)
        for milliseconds in event.cancelled_after:
            asyncio.get_running_loop().call_later(milliseconds / 1000, task.cancel)
        await anyio.sleep(event.pause / 1000)
    done, hanging = await asyncio.wait(tasks, timeout=5)
    assert not hanging
    for each in replicas:
        await each.close(5)
        assert (each._flights, each._waiting) == ({}, {})
    answers = [task.result() for task in done if not task.cancelled()]
    _check(answers, made)
    assert all(entry.answer is not None for entry in store.inner._entries.values()), "a claim is left behind"
    counted = [sample.value for each in metrics for family in each.idempotency.collect() for sample in family.samples]
    assert sum(counted) == len(script)


def _check(answers: list[Signed | errors.FrostSidecarError | None], made: dict[str, list[bytes]]) -> None:
    assert all(len(signatures) == 1 for signatures in made.values()), "signed twice for one key"
    for answer in answers:
        if isinstance(answer, Signed):
            assert answer.signature in itertools.chain(*made.values())
        elif answer is not None:
            assert isinstance(answer, errors.DeadlineExceeded | errors.NoQuorum | errors.IdempotencyConflict)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_whatever_happens_a_key_is_signed_for_once_and_nobody_hangs(events: list[Event], seed: int) -> None:
    asyncio.run(_play(events, seed))
