"""The stock of commitments: each leased once, in its time and epoch, by whom it was meant for, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import frost_ed25519 as frost
import msgspec
import nacl.signing
import pytest

from frost_sidecar import wire
from frost_sidecar.commitments import Commitments, Lease
from frost_sidecar.config import SigningConfig, StockConfig, TokenConfig
from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import SignerError, TransportError
from frost_sidecar.hookspecs import Transport
from frost_sidecar.keygen.group import Group
from frost_sidecar.metrics import CoordinatorMetrics, new_registry
from frost_sidecar.model import Answer, Call, Caller, Signer
from frost_sidecar.signers import Signers
from frost_sidecar.testing.cluster import PLUGIN, MemoryCluster
from frost_sidecar.transport import SignerCalls, Trace
from frost_sidecar.wire import COMMITMENTS_PATH

TRACE = Trace("request")
ANNA, BERT = Caller("anna", "unix", "anna"), Caller("bert", "unix", "bert")
EVENTS = ("fetched", "leased", "burnt", "expired", "wasted")


class Line(Transport):
    """The way to a cluster's signers. Calls can be held, before the signer or behind it; answers changed or lost."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self.asked: list[tuple[int, int]] = []
        """Of each call for commitments: the signer, and how many."""
        self.seen: list[tuple[int, float, str]] = []
        """Of each call: the signer, when, and the request id."""
        self.before: asyncio.Event | None = None
        self.behind: asyncio.Event | None = None
        self.change: Callable[[dict[str, Any]], None] | None = None

    async def call(self, signer: Signer, call: Call) -> Answer:
        self.seen.append((signer.identifier, anyio.current_time(), call.headers["X-Request-ID"]))
        if call.path == COMMITMENTS_PATH:
            self.asked.append((signer.identifier, msgspec.json.decode(call.body)["count"]))
        before, behind, change = self.before, self.behind, self.change
        if before is not None:
            await before.wait()
        answer = await self._cluster.call(signer, call)
        if behind is not None:
            await behind.wait()
        if change is not None:
            value = msgspec.json.decode(answer.body)
            change(value)
            return Answer(answer.status, msgspec.json.encode(value))
        return answer

    def hold(self) -> asyncio.Event:
        """Hold calls before they reach the signer, until the event is set."""
        self.before = asyncio.Event()
        return self.before


class Opened:
    """Commitments over a cluster in memory, with a clock that can be put forward."""

    def __init__(self, cluster: MemoryCluster, stock: StockConfig, keys: tuple[str, ...] = ("default",)) -> None:
        self.cluster = cluster
        self.line = Line(cluster)
        self.metrics = CoordinatorMetrics(new_registry())
        self.signing = SigningConfig(call_seconds=30.0)
        nodes = cluster.config.signer_nodes
        self.one, self.two, self.three = nodes
        self.signers = Signers(nodes, self.signing, self.metrics)
        self.calls = SignerCalls(
            (PLUGIN, self.line),
            (PLUGIN, cluster.tokens),
            token=TokenConfig(),
            signing=self.signing,
            metrics=self.metrics,
            measured=self.signers.measured,
            calling=self.signers.calling,
            signers=nodes,
        )
        self.forward = 0.0
        file = Path(cluster.config.state) / "group.json"
        self.groups = {key: Group.load(key, file) for key in keys}
        self.commitments = Commitments(self.calls, self.signers, self.groups, stock, self.metrics, self.clock)

    def clock(self) -> float:
        return anyio.current_time() + self.forward

    async def filled(self, number: int, signer: Signer | None = None) -> None:
        """Wait until so many are in stock."""
        with anyio.fail_after(10):
            while self.stock(signer) < number:
                await anyio.sleep(0.002)

    def stock(self, signer: Signer | None = None) -> int:
        return self.commitments.in_stock((signer or self.one).identifier)

    def take(self, caller: Caller = ANNA, signer: Signer | None = None, key: str = "default") -> Lease | None:
        return self.commitments.take(signer or self.one, key, caller)

    def taken(self, caller: Caller = ANNA, signer: Signer | None = None) -> Lease:
        lease = self.take(caller, signer)
        assert lease is not None
        return lease

    def fetching(self, caller: Caller = ANNA) -> asyncio.Task[Lease]:
        return asyncio.create_task(self.commitments.fetch(self.one, "default", TRACE, caller))

    async def fresh(self, number: int) -> wire.CommitmentsAnswer:
        """What rides on an answer: ``number`` commitments of signer 1, past the line."""
        before, change = self.line.before, self.line.change
        self.line.before = self.line.change = None
        try:
            return await self.calls.commitments(self.one, "default", number, TRACE)
        finally:
            self.line.before, self.line.change = before, change

    async def ride(self, answer: wire.CommitmentsAnswer, *, asked: int | None = None, sent: float) -> None:
        """Let an answer's commitments arrive as if they rode on one for shares."""
        number = len(answer.commitments) if asked is None else asked
        await self.commitments.arrived(
            self.one, "default", answer.epoch, answer.commitments, answer.expires_in, number, sent
        )

    def asked(self, sessions: int = 32) -> int:
        return self.commitments.replenishment(self.one, "default", sessions)

    def count(self, event: str, signer: Signer | None = None) -> int:
        labels = {"signer": (signer or self.one).name, "event": event}
        return int(self.metrics.registry.get_sample_value("frost_coordinator_commitments_total", labels) or 0)

    def faults(self, kind: str) -> float:
        labels = {"signer": self.one.name, "kind": kind}
        return self.metrics.registry.get_sample_value("frost_coordinator_signer_faults_total", labels) or 0

    def balance(self) -> int:
        """What the counters leave unexplained: nothing."""
        return self.count("fetched") - self.stock() - sum(self.count(e) for e in ("leased", "expired", "wasted"))


@pytest.fixture
def cluster(tmp_path: Path) -> MemoryCluster:
    return MemoryCluster(tmp_path / "keys")


@asynccontextmanager
async def opened(cluster: MemoryCluster, **stock: Any) -> AsyncIterator[Opened]:
    """Everything open, and the stocks filled; at the end the counters must agree."""
    it = Opened(cluster, StockConfig(**stock))
    async with it.commitments:
        for signer in (it.one, it.two, it.three):
            await it.filled(min(stock.get("least", 32), stock.get("most", 512)), signer)
        yield it
        assert it.balance() == 0
    assert it.stock() == 0
    assert it.balance() == 0


# --- filling -----------------------------------------------------------------------------------------------------


async def test_every_stock_is_filled_in_the_background(cluster: MemoryCluster) -> None:
    it = Opened(cluster, StockConfig(), ("default", "other"))
    cluster.behave(2, _never)
    with anyio.fail_after(1):
        await it.commitments.__aenter__()
    assert it.stock() == 0
    await it.filled(32)
    await it.filled(32, it.three)
    assert it.stock(it.two) == 0
    gauge = it.metrics.registry.get_sample_value
    assert gauge("frost_coordinator_commitments_in_stock", {"signer": "signer-1", "key": "default"}) == 32
    assert gauge("frost_coordinator_commitments_in_stock", {"signer": "signer-1", "key": "other"}) == 0
    with anyio.fail_after(1):
        await it.commitments.__aexit__(None, None, None)
    assert gauge("frost_coordinator_commitments_in_stock", {"signer": "signer-1", "key": "default"}) == 0
    assert it.count("wasted") == it.count("fetched") == 32


async def test_a_dead_signer_is_asked_again_ever_more_rarely_and_then_filled(
    cluster: MemoryCluster, caplog: pytest.LogCaptureFixture
) -> None:
    it = Opened(cluster, StockConfig())
    cluster.crash(1)
    async with it.commitments:
        await it.filled(32, it.two)
        with anyio.fail_after(10):
            while len(times := [when for signer, when, _ in it.line.seen if signer == 1]) < 5:
                await anyio.sleep(0.005)
        assert it.faults("unreachable") >= 4
        assert times[4] - times[3] > times[1] - times[0]
        assert "stock not filled" in caplog.text
        cluster.restart(1)
        await it.filled(32)


async def _never(_handle: object, _call: Call) -> Answer:
    await anyio.sleep_forever()
    raise AssertionError


async def test_a_low_stock_asks_itself_only_where_nothing_is_coming(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=32, caller_share=1.0) as it:
        before = len(it.line.asked)
        asked = it.asked()
        assert asked == 0  # the stock is full
        leases = [it.taken() for _ in range(10)]
        asked = it.asked()
        assert asked > 0
        leases += [it.taken() for _ in range(22)]
        await anyio.sleep(0.2)
        assert it.line.asked[before:] == []
        it.commitments.missed(it.one, "default", asked)
        await it.filled(32)
        assert [signer for signer, _ in it.line.asked[before:]] == [1]
        assert len({lease.commitment.id for lease in leases}) == 32


async def test_what_rides_on_answers_is_bounded(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=256, most=8192, caller_share=1.0) as it:
        for _ in range(256):
            it.taken()
        assert [it.asked(1), it.asked(2), it.asked(20)] == [10, 12, 48]
        assert it.asked(64) == 136
        rest = 0
        while asked := it.asked(64):
            assert asked <= wire.MAX_COMMITMENTS
            rest += asked
        assert rest > 256  # demand rose: 256 are out at once
        assert it.asked(64) == 0
        for asked in (10, 12, 48, 136, rest):
            it.commitments.missed(it.one, "default", asked)
        assert it.asked(1) == 10
        it.commitments.missed(it.one, "default", 10)


async def test_most_answers_to_single_sessions_carry_nothing(cluster: MemoryCluster) -> None:
    """What a signer makes for the stock delays the share of the answer that it rides on."""
    async with opened(cluster, least=32, most=60, caller_share=1.0) as it:
        asked = []
        for _ in range(40):
            lease = it.taken()
            riding = it.asked()
            asked.append(riding)
            it.commitments.released(lease, signed=True)
            if riding:
                answer = await it.fresh(riding)
                await it.commitments.arrived(
                    it.one, "default", answer.epoch, answer.commitments, 600.0, riding, it.clock()
                )
        assert asked == ([0] * 7 + [8]) * 5
        assert it.stock() == 32


async def test_the_high_mark_follows_demand_up_and_down(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=8, most=60, caller_share=1.0) as it:
        lease = it.taken()
        assert it.asked() == 0  # one at a time: the least is enough, and one of eight is soon enough asked for
        it.commitments.released(lease, signed=True)
        waiting = [it.fetching() for _ in range(16)]
        leases = [await each for each in waiting]
        with anyio.fail_after(5):
            while it.stock() < 30:
                await anyio.sleep(0.005)
        more = [it.fetching() for _ in range(40)]
        leases += [await each for each in more]
        await it.filled(60)
        assert it.asked() == 0  # whatever is wanted: never above most
        for each in leases:
            it.commitments.released(each, signed=True)
        it.forward += 300.0
        for _ in range(56):
            it.commitments.released(it.taken(), signed=True)
        assert it.stock() == 4
        assert it.asked() == 4


# --- leasing -----------------------------------------------------------------------------------------------------


async def test_leases_make_signatures_and_what_rides_back_is_leased_next(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4) as it:
        points = set()
        for number in range(12):
            message = b"message %d" % number
            leases = [it.taken(signer=it.one), it.taken(signer=it.three)]
            points |= {each.points.hiding for each in leases}
            listed = {str(each.signer.identifier): each.commitment for each in leases}
            package = frost.SigningPackage({each.signer.identifier: each.points for each in leases}, message)
            shares = {}
            for lease in leases:
                asked = it.commitments.replenishment(lease.signer, "default", 1)
                session = wire.Session(session="s", msg=b64encode(message), commitments=listed)
                request = wire.SharesRequest(key="default", epoch=lease.epoch, sessions=[session], replenish=asked)
                sent = it.clock()
                answer = await it.calls.shares(lease.signer, request, TRACE)
                await it.commitments.arrived(
                    lease.signer, "default", answer.epoch, answer.commitments, answer.expires_in, asked, sent
                )
                assert answer.results[0].share is not None
                share = frost.round2.SignatureShare.deserialize(b64decode(answer.results[0].share))
                shares[lease.signer.identifier] = share
                it.commitments.released(lease, signed=True)
            signature = frost.aggregate(package, shares, it.groups["default"].package).serialize()
            nacl.signing.VerifyKey(cluster.group_public).verify(message, signature)
            assert it.stock() == it.stock(it.three) == 4
        assert len(points) == 24
        assert cluster.reused == []
        assert [count for _, count in it.line.asked] == [4, 4, 4]  # nothing but the first filling was asked for
        assert (it.count("leased"), it.count("burnt")) == (12, 0)


async def test_the_oldest_is_leased_first_also_where_answers_overtook_each_other(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=2, most=64, caller_share=1.0) as it:
        asked = [it.taken(), it.taken()]
        early, late = it.clock(), it.clock() + 0.001
        first, second = await it.fresh(2), await it.fresh(2)
        it.commitments.replenishment(it.one, "default", 1)
        await it.ride(second, asked=2, sent=late)
        await it.ride(first, asked=0 + 2, sent=early)
        ids = [it.taken().commitment.id for _ in range(4)]
        assert ids == [each.id for each in (*first.commitments, *second.commitments)]
        assert len({lease.commitment.id for lease in asked} | set(ids)) == 6


async def test_the_signing_package_gets_our_own_spelling(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:

        def spell(value: dict[str, Any]) -> None:
            for each in value["commitments"]:
                each["hiding"] = each["hiding"].replace("+", "-").replace("/", "_").rstrip("=")

        it.line.change = spell
        lease = await it.fetching()
        assert lease.commitment.hiding == b64encode(lease.points.hiding)
        assert lease.commitment.binding == b64encode(lease.points.binding)


# --- fetching ----------------------------------------------------------------------------------------------------


async def test_those_who_want_at_once_share_one_call_and_are_served_in_their_order(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0, most=4) as it:
        gate = it.line.hold()
        first = it.fetching()
        await _until(lambda: bool(it.line.asked))
        more = [it.fetching() for _ in range(9)]
        await anyio.sleep(0.02)
        assert len(it.line.asked) == 1
        gate.set()
        it.line.before = None
        leases = [await each for each in (first, *more)]
        assert len({lease.commitment.id for lease in leases}) == 10
        assert all(lease.caller == ANNA for lease in leases)
        stock = sum(count for _, count in it.line.asked) - 10
        assert len(it.line.asked) == 2
        assert 0 <= stock == it.stock() <= 4


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.002)


async def test_more_than_one_call_can_bring_are_served_by_several(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0, most=0) as it:
        leases = await asyncio.gather(*(it.fetching() for _ in range(600)))
        assert len({lease.commitment.id for lease in leases}) == 600
        assert it.line.asked == [(1, 256), (1, 256), (1, 88)]


async def test_who_is_cancelled_while_waiting_leaves_its_commitment_to_the_next(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0, most=64) as it:
        gate = it.line.hold()
        tasks = [it.fetching() for _ in range(3)]
        await _until(lambda: bool(it.line.asked))
        later = it.fetching()
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.wait([tasks[0], tasks[2]])
        gate.set()
        leases = [await tasks[1], await later]
        asked = it.line.asked[0][1]
        assert len(it.line.asked) == 1  # the later one had a cancelled one's
        assert it.stock() == asked - 2
        assert (it.count("leased"), it.count("burnt")) == (2, 0)
        assert leases[0] is not leases[1]


async def test_what_was_leased_to_one_who_is_cancelled_in_that_moment_is_burnt(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0, most=0) as it:
        task = it.fetching()

        def cancel(_: dict[str, Any]) -> None:
            """Before the waiter's own turn, and behind the one in which this answer becomes its lease."""
            asyncio.get_running_loop().call_soon(task.cancel)

        it.line.change = cancel
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (it.count("leased"), it.count("burnt"), it.stock()) == (1, 1, 0)


async def test_a_failed_call_is_one_fault_for_all_who_waited_for_it(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:
        gate = it.line.hold()
        cluster.crash(1)
        early = [it.fetching() for _ in range(3)]
        await _until(lambda: bool(it.line.asked))
        late = it.fetching()
        gate.set()
        it.line.before = held = asyncio.Event()
        await asyncio.wait(early)
        faults = [each.exception() for each in early]
        assert isinstance(faults[0], SignerError)
        assert faults[0].kind == "unreachable"
        assert all(each is faults[0] for each in faults)
        assert not late.done()
        cluster.restart(1)
        held.set()
        assert (await late).signer is it.one
        assert it.faults("unreachable") == 0  # whoever waited reports it


async def test_a_fault_that_nobody_waits_for_any_more_is_counted(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:
        gate = it.line.hold()
        cluster.crash(1)
        task = it.fetching()
        await _until(lambda: bool(it.line.asked))
        task.cancel()
        await asyncio.wait([task])
        gate.set()
        await _until(lambda: it.faults("unreachable") == 1)


async def test_a_defect_below_fails_those_who_wait_and_nobody_else(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(cluster, least=0) as it:
        with monkeypatch.context() as patch:

            async def broken(*_: object) -> wire.CommitmentsAnswer:
                raise ZeroDivisionError

            patch.setattr(it.calls, "commitments", broken)
            with pytest.raises(SignerError, match="internal"):
                await it.fetching()
        assert (await it.fetching()).signer is it.one


# --- wrong answers -----------------------------------------------------------------------------------------------


def _not_base64(value: dict[str, Any]) -> None:
    value["commitments"][0]["binding"] = "*" * 44


def _no_point(value: dict[str, Any]) -> None:
    value["commitments"][-1]["hiding"] = b64encode(b"\xff" * 32)


def _identity(value: dict[str, Any]) -> None:
    value["commitments"][0]["hiding"] = b64encode(b"\x01" + bytes(31))


def _twice(value: dict[str, Any]) -> None:
    value["commitments"][0]["hiding"] = value["commitments"][0]["binding"]


@pytest.mark.parametrize("change", [_not_base64, _no_point, _identity, _twice])
@pytest.mark.parametrize("number", [1, 20])
async def test_one_wrong_commitment_refuses_the_answer(
    cluster: MemoryCluster, change: Callable[[dict[str, Any]], None], number: int
) -> None:
    async with opened(cluster, least=0) as it:
        it.line.change = change
        waiting = [it.fetching() for _ in range(number)]
        await asyncio.wait(waiting)
        faults = {each.exception() for each in waiting}
        assert len(faults) == 1
        [fault] = faults
        assert isinstance(fault, SignerError)
        assert fault.kind == "malformed"
        it.line.change = None
        answer = await it.fresh(number)
        value = msgspec.to_builtins(answer)
        change(value)
        sent = it.clock()
        asked = it.asked()
        await it.ride(msgspec.convert(value, wire.CommitmentsAnswer), asked=number, sent=sent)
        assert it.faults("malformed") == 1
        assert (it.stock(), it.count("fetched")) == (0, 0)
        it.commitments.missed(it.one, "default", asked - number)
        await it.ride(answer, asked=0, sent=sent)  # more than asked for
        assert it.faults("malformed") == 2
        assert (it.stock(), it.count("fetched")) == (0, 0)
        await it.ride(answer, asked=number, sent=sent)  # a refused answer left no trace


async def test_a_point_that_was_offered_before_is_refused_by_whatever_way_it_comes(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0, most=64) as it:
        answer = await it.fresh(3)
        await it.ride(answer, sent=it.clock())
        assert it.stock() == 3
        used = answer.commitments[0]
        fresh = (await it.fresh(1)).commitments[0]
        crossed = wire.Commitment(id="x", hiding=fresh.hiding, binding=used.hiding)
        for again in (used, replace_id(used), crossed):
            await it.ride(msgspec.structs.replace(answer, commitments=[fresh, again]), sent=it.clock())
        assert it.faults("malformed") == 3
        assert it.stock() == 3

        def repeat(value: dict[str, Any]) -> None:
            value["commitments"][0] = msgspec.to_builtins(used)

        it.line.change = repeat
        with pytest.raises(SignerError, match="offered the same commitment twice"):
            await it.fetching()
        await it.ride(msgspec.structs.replace(answer, commitments=[fresh]), sent=it.clock())
        assert it.stock() == 4


def replace_id(commitment: wire.Commitment) -> wire.Commitment:
    return msgspec.structs.replace(commitment, id="another-name")


def test_no_point_has_a_second_spelling() -> None:
    key = frost.keys.generate_with_dealer(3, 2)
    good = frost.round1.commit(next(iter(_packages(key))))[1].hiding
    others = [((2**255 - 19 + k) | sign << 255).to_bytes(32, "little") for k in range(19) for sign in (0, 1)]
    read = frost.round1.decode_many([(other, good) for other in others])
    assert all(isinstance(each, frost.FrostError) for each in read)


def _packages(dealt: Any) -> list[frost.keys.KeyPackage]:
    shares, _ = dealt
    return [frost.keys.KeyPackage.from_secret_share(each) for each in shares.values()]


# --- epochs ------------------------------------------------------------------------------------------------------


async def test_a_new_epoch_voids_the_stock(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4) as it:
        old = it.taken()
        cluster.restart(1)
        lease = await it.fetching()
        assert lease.epoch != old.epoch
        assert it.count("wasted") == 3
        await it.filled(4)
        assert {it.taken().epoch for _ in range(2)} == {lease.epoch}
        it.commitments.unknown(old)  # of a life that is over: it says nothing of this one
        assert it.stock() == 2


async def test_a_stale_epoch_voids_the_stock_and_answers_on_their_way(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4) as it:
        epoch = it.taken().epoch
        sent = it.clock()
        late = await it.fresh(2)
        it.commitments.void(it.one, "of another time")
        assert it.stock() == 3
        it.commitments.void(it.one, epoch)
        assert it.stock() == 0
        assert it.take(BERT) is None
        await it.ride(late, sent=sent)
        assert it.stock() == 0
        assert it.count("wasted") == 5
        cluster.restart(1)
        lease = await it.fetching()
        assert lease.epoch not in {epoch, late.epoch}


async def test_an_old_answer_neither_enters_beside_the_new_epoch_nor_voids_it(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4) as it:
        sent = it.clock()
        old = await it.fresh(3)
        cluster.restart(1)
        new = (await it.fetching()).epoch
        await it.filled(4)
        await it.ride(old, sent=sent)
        assert it.stock() == 4
        assert it.taken().epoch == new
        it.commitments.void(it.one, old.epoch)  # one more late word on the old one
        assert it.stock() == 3


async def test_an_answer_to_an_earlier_request_with_the_newer_epoch_loses_until_the_next(
    cluster: MemoryCluster,
) -> None:
    """The request hung in the network and met the new process: not told from an old answer, and put right at once."""
    async with opened(cluster, least=4) as it:
        hung = it.clock()
        before = await it.fresh(1)
        await it.ride(before, sent=it.clock())
        cluster.restart(1)
        await it.ride(await it.fresh(2), sent=hung)
        assert it.taken().epoch == before.epoch
        sent = it.clock()
        after = await it.fresh(2)
        await it.ride(after, sent=sent)
        assert {it.taken().epoch, after.epoch} == {after.epoch}


async def test_of_two_lives_that_ended_neither_comes_back(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4) as it:
        sent = it.clock()
        first = await it.fresh(2)
        cluster.restart(1)
        second = (await it.fetching()).epoch
        it.commitments.void(it.one, second)
        await it.ride(first, sent=sent)
        assert it.stock() == 0


async def test_what_is_unknown_of_an_old_life_says_nothing_of_the_new_one(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:
        hung = it.clock()
        old = await it.fetching()
        it.commitments.void(it.one, old.epoch)
        cluster.restart(1)
        await it.ride(await it.fresh(2), sent=hung)
        it.commitments.unknown(old)
        assert it.stock() == 2


async def test_two_processes_behind_one_address_end_in_a_fault_and_not_in_a_loop(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:
        lives = iter(range(100))

        def flap(value: dict[str, Any]) -> None:
            it.commitments.void(it.one, f"life-{next(lives)}")
            value["epoch"] = "life-0"
            it.commitments.void(it.one, "life-0")

        it.line.change = flap
        before = len(it.line.asked)
        with pytest.raises(SignerError) as caught:
            await it.fetching()
        assert caught.value.kind == "stale-epoch"
        assert len(it.line.asked) - before == 3
        it.line.change = None
        assert (await it.fetching()).epoch != "life-0"


async def test_what_the_signer_does_not_know_takes_the_older_with_it(cluster: MemoryCluster) -> None:
    it = Opened(cluster, StockConfig(least=0, most=64), ("default", "other"))
    async with it.commitments:
        early = it.clock()
        await it.ride(await it.fresh(4), sent=early)
        lease = it.taken()
        late = it.clock()
        await it.ride(await it.fresh(2), sent=late)
        other = await it.fresh(5)
        await it.commitments.arrived(it.one, "other", other.epoch, other.commitments, other.expires_in, 5, early)
        assert it.stock() == 3 + 2 + 5
        it.commitments.unknown(lease)
        assert it.stock() == 2
        assert it.count("wasted") == 8
        assert it.taken().sent == late
        assert it.balance() == 0


# --- age ---------------------------------------------------------------------------------------------------------


async def test_a_commitment_is_leased_only_while_a_session_can_still_use_it(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:
        answer = await it.fresh(3)
        sent = it.clock() - 100.0  # it was under way for long: the age counts from the beginning
        await it.ride(answer, sent=sent)
        it.forward += 600.0 - 100.0 - 5.0 - 1.0
        assert it.taken().sent == sent
        it.forward += 1.5
        assert it.take() is None
        assert (it.count("expired"), it.stock()) == (2, 0)


@pytest.mark.parametrize(("expires_in", "usable"), [(0.0, 0.0), (4.0, 2.0), (10.0, 5.0), (60.0, 55.0), (1e300, 3595.0)])
async def test_the_margin_is_half_of_a_short_life_and_no_life_is_endless(
    cluster: MemoryCluster, expires_in: float, usable: float
) -> None:
    async with opened(cluster, least=0, caller_share=1.0) as it:
        answer = msgspec.structs.replace(await it.fresh(2), expires_in=expires_in)
        await it.ride(answer, sent=it.clock())
        it.forward += usable - 1.0
        assert (it.take() is not None) == (usable > 0)
        it.forward += 1.0
        assert it.take() is None
        assert it.count("expired") == (1 if usable else 2)


async def test_a_stock_that_nobody_uses_has_successors_before_it_expires(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=8) as it:
        first = it.taken()
        it.forward += 600.0 - 5.0 - 30.0
        assert it.taken().epoch == first.epoch  # this also makes the lane look at its stock
        await _until(lambda: it.count("fetched") >= 16)
        it.forward += 40.0
        assert it.stock() == 8
        assert it.count("expired") == 6


async def test_a_signer_that_forgets_at_once_is_not_asked_without_end(cluster: MemoryCluster) -> None:
    it = Opened(cluster, StockConfig())
    it.line.change = lambda value: value.update(expires_in=0.0)
    async with it.commitments:
        lease = await it.fetching()  # one round trip more, and it works
        assert lease.signer is it.one
        await anyio.sleep(0.5)
        assert sum(signer == 1 for signer, _ in it.line.asked) <= 6
        assert it.stock() == 0
        assert it.balance() == 0


# --- callers -----------------------------------------------------------------------------------------------------


async def test_who_floods_leaves_something_to_the_others(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=32) as it:
        held = 0
        while it.take(ANNA) is not None:
            held += 1
        assert held == 16
        assert it.take(replace(ANNA, subject="another token")) is None  # it is the name that counts
        assert sum(it.take(BERT) is not None for _ in range(32)) == 8
        third = [Caller(f"c{number}", "tcp") for number in range(4)]
        assert all(it.take(caller) is not None for caller in third)
        assert (await it.fetching(ANNA)).caller == ANNA  # never an error: one round trip more


async def test_a_caller_gets_its_part_again_when_its_sessions_end(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=8) as it:
        leases = [it.taken() for _ in range(4)]
        assert it.take() is None
        it.commitments.released(leases[0], signed=False)
        it.commitments.released(leases[0], signed=True)  # a second time means nothing to the hold
        assert it.take() is not None
        assert it.take() is None
        assert it.count("burnt") == 1


async def test_one_caller_alone_at_full_speed_is_served_from_stock(cluster: MemoryCluster) -> None:
    """Sixteen at a time, whose answers bring what was asked with them; after the first burst nobody waits."""
    async with opened(cluster, least=32) as it:
        extra = 0
        for turn in range(30):
            leases = []
            for _ in range(16):
                lease = it.take()
                if lease is None:
                    assert turn == 0
                    extra += 1
                    lease = await it.fetching()
                leases.append(lease)
            asked, sent = it.asked(len(leases)), it.clock()
            if asked:
                await it.ride(await it.fresh(asked), asked=asked, sent=sent)
            for lease in leases:
                it.commitments.released(lease, signed=True)
            assert it.take(BERT) is not None
        assert extra <= 1
        assert it.count("leased") == 30 * 17


async def test_without_a_limit_one_caller_may_have_all(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=8, caller_share=1.0) as it:
        assert sum(it.take() is not None for _ in range(9)) == 8


# --- bounds and ends ---------------------------------------------------------------------------------------------


async def test_there_is_never_more_than_most(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4, most=6) as it:
        it.taken()
        it.taken()
        answer = await it.fresh(7)
        await it.ride(answer, sent=it.clock())
        assert it.stock() == 6
        assert it.count("wasted") == 3
        assert it.taken().commitment.id == answer.commitments[1].id


async def test_no_stock_means_one_more_round_trip_each_time(cluster: MemoryCluster) -> None:
    async with opened(cluster, most=0) as it:
        await anyio.sleep(0.1)
        assert it.line.asked == []
        assert it.take() is None
        assert it.asked() == 0
        await it.fetching()
        assert it.line.asked == [(1, 1)]


async def test_an_address_that_a_caller_brings_has_no_stock_and_changes_nothing_in_one(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=8) as it:
        brought = replace(it.one, url="https://signer-1.elsewhere.test")
        epoch = it.taken().epoch
        before = len(it.line.asked)
        assert it.take(BERT, brought) is None
        assert it.commitments.replenishment(brought, "default", 8) == 0
        leases = await asyncio.gather(*(it.commitments.fetch(brought, "default", TRACE, BERT) for _ in range(3)))
        assert it.line.asked[before:] == [(1, 1)] * 3
        assert all(lease.signer is brought for lease in leases)
        answer = await it.fresh(2)
        await it.commitments.arrived(brought, "default", answer.epoch, answer.commitments, 600.0, 2, it.clock())
        it.commitments.missed(brought, "default", 5)
        it.commitments.unknown(leases[0])
        it.commitments.void(brought, epoch)
        it.commitments.released(leases[0], signed=False)
        assert it.stock() == 7
        assert it.count("burnt") == 1
        assert it.asked() == 0  # one of eight is missing
        assert it.taken() is not None
        assert it.asked() == 2  # a quarter is
        it.commitments.missed(it.one, "default", 2)


async def test_a_repeated_point_is_noticed_at_a_brought_address_too(cluster: MemoryCluster) -> None:
    async with opened(cluster, most=0) as it:
        brought = replace(it.one, url="https://signer-1.elsewhere.test")
        answer = msgspec.to_builtins(await it.fresh(1))
        it.line.change = lambda value: value.update(commitments=answer["commitments"])
        await it.commitments.fetch(brought, "default", TRACE, BERT)
        with pytest.raises(SignerError, match="twice"):
            await it.commitments.fetch(brought, "default", TRACE, BERT)


async def test_the_end_waits_for_nobody_and_wastes_what_is_left(cluster: MemoryCluster) -> None:
    it = Opened(cluster, StockConfig(least=8))
    async with it.commitments:
        await it.filled(8)
        await it.filled(8, it.two)
        await it.filled(8, it.three)
        tasks = {task for task in asyncio.all_tasks() if task.get_name().startswith("commitments of")}
        assert len(tasks) == 3
        it.line.hold()
        waiting = it.fetching()
        await anyio.sleep(0.01)
    with pytest.raises(SignerError, match="not open"):
        await waiting
    assert all(task.done() for task in tasks)
    assert (it.stock(), it.count("wasted"), it.balance()) == (0, 8, 0)
    with pytest.raises(SignerError, match="not open"):
        await it.fetching()
    answer_epoch = "whatever"
    it.line.before = None
    answer = msgspec.structs.replace(await it.fresh(2), epoch=answer_epoch)
    await it.ride(answer, sent=it.clock())  # a late one
    assert (it.stock(), it.take(), it.asked()) == (0, None, 0)
    assert it.balance() == 0


async def test_a_signer_of_unknown_address_has_no_stock(cluster: MemoryCluster) -> None:
    it = Opened(cluster, StockConfig())
    unlisted = [replace(each, url="") for each in (it.one, it.two)]
    signers = Signers(unlisted, it.signing, it.metrics)
    async with Commitments(it.calls, signers, it.groups, StockConfig(), it.metrics) as commitments:
        await anyio.sleep(0.1)
        assert it.line.asked == []
        lease = await commitments.fetch(it.one, "default", TRACE, ANNA)
        assert commitments.take(it.one, "default", ANNA) is None
        commitments.released(lease, signed=True)
        assert commitments.in_stock(1) == commitments.in_stock(99) == 0


async def test_the_trace_of_a_request_reaches_the_signer(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=4) as it:
        it.line.seen.clear()
        await it.fetching()
        assert [request for _, _, request in it.line.seen] == ["request"]


async def test_transport_errors_of_every_kind_reach_who_waits(cluster: MemoryCluster) -> None:
    async with opened(cluster, least=0) as it:

        async def refuse(_handle: object, _call: Call) -> Answer:
            raise TransportError("tls", "certificate revoked")

        cluster.behave(1, refuse)
        with pytest.raises(SignerError) as caught:
            await it.fetching()
        assert caught.value.kind == "tls"


async def test_a_scrape_takes_nothing_out_of_a_stock(cluster: MemoryCluster) -> None:
    """Programs may let another thread scrape. What that changed would change under the event loop's hands."""
    async with opened(cluster) as it:
        it.forward = 10_000.0
        gauge = it.metrics.registry.get_sample_value
        labels = {"signer": it.one.name, "key": "default"}
        assert gauge("frost_coordinator_commitments_in_stock", labels) == 32  # nobody has found them too old yet
        assert it.count("expired") == 0
        assert it.stock() == 0
        assert it.count("expired") == 32
        assert gauge("frost_coordinator_commitments_in_stock", labels) == 0
