"""Whatever happens to a stock, in whatever order: no commitment twice, none too old, none of a life that is over.

Hypothesis drives one stock over a real signer node through leases, cancellations, lost, late and overtaking answers,
restarts, evictions and the passing of time. Nothing happens by itself: every call waits until a rule lets it go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import frost_ed25519 as frost
import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from frost_sidecar.commitments import Commitments, Lease
from frost_sidecar.config import SigningConfig, StockConfig, TokenConfig
from frost_sidecar.errors import SignerError, TransportError
from frost_sidecar.hookspecs import TokenIssuer, Transport
from frost_sidecar.keygen.group import Group
from frost_sidecar.metrics import CoordinatorMetrics, SignerMetrics, new_registry
from frost_sidecar.model import Answer, Call, Caller, Signer, TokenClaims
from frost_sidecar.signer import NonceStore, SignerNode
from frost_sidecar.signers import Signers
from frost_sidecar.transport import SignerCalls, Trace
from frost_sidecar.wire import CommitmentsAnswer, CommitmentsRequest

T = TypeVar("T")

LIFE, BUDGET, MOST, KEPT = 100.0, 5.0, 24, 300
SIGNER = Signer(1, "signer-1", "https://signer-1.test", "ad-1", "signer-1.test")
CALLERS = [Caller(name, "unix", name) for name in ("anna", "bert", "carl")]
PLACES = st.integers(0, 5)
"""Which of several: drawn without a look at them, for how many there are is the loop's affair, too."""
SHARES, PUBLIC = frost.keys.generate_with_dealer(2, 2)
SHARE = next(
    package
    for package in (frost.keys.KeyPackage.from_secret_share(each) for each in SHARES.values())
    if int(package.identifier) == 1
)


def pick(among: Sequence[T], place: int) -> Sequence[T]:
    """One of these, or none where there is none."""
    return [among[place % len(among)]] if among else []


class Tokens(TokenIssuer):
    async def issue(self, claims: TokenClaims) -> str:
        return claims.jti


@dataclass(eq=False)
class Held:
    """A call on its way: to the signer, then back."""

    body: bytes
    back: asyncio.Future[Answer]
    answer: CommitmentsAnswer | None = None


@dataclass(eq=False)
class Ride:
    """Commitments that shall ride on the answer to a request for shares."""

    epoch: str
    asked: int
    sent: float
    answer: CommitmentsAnswer | None = None
    stale: bool = False


class Hand(Transport):
    """Calls wait for the rules."""

    def __init__(self) -> None:
        self.held: list[Held] = []

    async def call(self, signer: Signer, call: Call) -> Answer:
        held = Held(call.body, asyncio.get_running_loop().create_future())
        self.held.append(held)
        return await held.back


@dataclass
class Issued:
    """What the signer gave, as the model remembers it."""

    epoch: str
    until: float
    leased: int = 0


@dataclass
class Model:
    issued: dict[str, Issued] = field(default_factory=dict)
    over: dict[str, float] = field(default_factory=dict)
    """Epochs of which the stock was told that they are over, and when."""


class Stocked(RuleBasedStateMachine):
    """One signer, one key, three callers."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.broken: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))
        self.now = 1000.0
        self.model = Model()
        self.waiting: list[asyncio.Task[Lease]] = []
        self.rides: list[Ride] = []
        self.leases: list[Lease] = []
        self.lives: list[str] = []

    def clock(self) -> float:
        self.now += 1e-6  # no two events at one time
        return self.now

    def run(self, step: Coroutine[Any, Any, object]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(step, 10))

    def turn(self) -> None:
        """Let everything go on until it waits."""
        for _ in range(8):
            self.run(asyncio.sleep(0))
        for task in [each for each in self.waiting if each.done()]:
            self.waiting.remove(task)
            if not task.cancelled() and task.exception() is None:
                self.got(task.result(), fetched=True)
            elif not task.cancelled():
                assert isinstance(task.exception(), SignerError)

    def got(self, lease: Lease, *, fetched: bool) -> None:
        """Check a lease the moment it is given."""
        issued = self.model.issued[lease.commitment.id]
        issued.leased += 1
        assert issued.leased == 1
        assert issued.epoch == lease.epoch
        assert lease.sent > self.model.over.get(lease.epoch, 0.0)
        if not fetched:
            assert self.now + BUDGET <= issued.until
        self.leases.append(lease)

    def restarted(self) -> None:
        self.nonces = NonceStore(SignerMetrics(new_registry()), per_client=KEPT, lifetime=LIFE, clock=self.clock)
        self.lives.append(self.nonces.epoch)
        self.node = SignerNode("signer-1", {"default": SHARE}, self.nonces)

    def issue(self, count: int) -> CommitmentsAnswer:
        answer = self.node.commitments("coordinator", CommitmentsRequest(key="default", count=count))
        for each in answer.commitments:
            self.model.issued[each.id] = Issued(answer.epoch, self.now + LIFE)
        return answer

    @initialize(least=st.integers(0, 12), most=st.sampled_from([3, MOST]), share=st.sampled_from([0.25, 0.5, 1.0]))
    def open(self, least: int, most: int, share: float) -> None:
        self.restarted()
        self.most = most
        self.hand = Hand()
        self.metrics = CoordinatorMetrics(new_registry())
        signing = SigningConfig(call_seconds=600.0)
        signers = Signers([SIGNER], signing, self.metrics)
        calls = SignerCalls(
            ("hand", self.hand),
            ("hand", Tokens()),
            token=TokenConfig(),
            signing=signing,
            metrics=self.metrics,
            measured=signers.measured,
            calling=signers.calling,
            signers=[SIGNER],
        )
        key = PUBLIC.verifying_key
        group = Group("default", 2, PUBLIC, key, key.serialize(), frozenset({1, 2}))
        config = StockConfig(least=least, most=most, caller_share=share)
        self.commitments = Commitments(
            calls, signers, {"default": group}, config, self.metrics, self.clock, budget_seconds=BUDGET
        )
        self.run(self.commitments.__aenter__())
        self.turn()

    @rule(caller=st.sampled_from(CALLERS), number=st.integers(1, 8))
    def take(self, caller: Caller, number: int) -> None:
        for _ in range(number):
            lease = self.commitments.take(SIGNER, "default", caller)
            if lease is not None:
                self.got(lease, fetched=False)

    @rule(caller=st.sampled_from(CALLERS), number=st.integers(1, 6))
    def fetch(self, caller: Caller, number: int) -> None:
        for _ in range(number):
            task = self.loop.create_task(self.commitments.fetch(SIGNER, "default", Trace("r"), caller))
            self.waiting.append(task)
        self.turn()

    @rule(which=PLACES)
    def cancel(self, which: int) -> None:
        for task in pick(self.waiting, which):
            task.cancel()
        self.turn()

    @rule(which=PLACES)
    def a_call_reaches_the_signer(self, which: int) -> None:
        for held in pick([each for each in self.hand.held if each.answer is None], which):
            held.answer = self.issue(msgspec.json.decode(held.body)["count"])

    @rule(which=PLACES, cancelled=st.one_of(st.none(), st.integers(0, 6)))
    def a_call_is_answered(self, which: int, cancelled: int | None) -> None:
        """Answer it; perhaps with a waiter that is cancelled some turns of the loop later."""
        for held in pick([each for each in self.hand.held if each.answer], which):
            self.hand.held.remove(held)
            if not held.back.done():
                held.back.set_result(Answer(200, msgspec.json.encode(held.answer)))
        if cancelled is not None and self.waiting:
            for _ in range(cancelled):
                self.run(asyncio.sleep(0))
            self.waiting[0].cancel()
        self.turn()

    @rule(which=PLACES)
    def a_call_is_lost(self, which: int) -> None:
        for held in pick(self.hand.held, which):
            self.hand.held.remove(held)
            if not held.back.done():
                held.back.set_exception(TransportError("unreachable", "reset"))
        self.turn()

    @rule(sessions=st.integers(1, 64))
    def ask_for_shares(self, sessions: int) -> None:
        epoch = self.leases[-1].epoch if self.leases else self.nonces.epoch
        asked = self.commitments.replenishment(SIGNER, "default", sessions)
        assert asked <= 8 + 2 * sessions
        self.rides.append(Ride(epoch, asked, self.clock()))

    @rule(which=PLACES)
    def shares_are_made(self, which: int) -> None:
        for ride in pick([each for each in self.rides if each.answer is None and not each.stale], which):
            if ride.epoch != self.nonces.epoch:
                ride.stale = True
            elif ride.asked:
                ride.answer = self.issue(ride.asked)
            else:
                ride.answer = CommitmentsAnswer(identifier=1, epoch=ride.epoch, commitments=[], expires_in=LIFE)

    @rule(which=PLACES)
    def shares_arrive(self, which: int) -> None:
        for ride in pick([each for each in self.rides if each.answer or each.stale], which):
            self.rides.remove(ride)
            answer = ride.answer
            if answer is None:
                self.commitments.missed(SIGNER, "default", ride.asked)
                self.model.over[ride.epoch] = self.clock()
                self.commitments.void(SIGNER, ride.epoch)
            else:
                self.run(
                    self.commitments.arrived(
                        SIGNER, "default", answer.epoch, answer.commitments, answer.expires_in, ride.asked, ride.sent
                    )
                )
        self.turn()

    @rule(which=PLACES)
    def shares_are_lost(self, which: int) -> None:
        for ride in pick(self.rides, which):
            self.rides.remove(ride)
            self.commitments.missed(SIGNER, "default", ride.asked)

    @rule(which=PLACES, signed=st.booleans())
    def use(self, *, which: int, signed: bool) -> None:
        """A session ends: the signer finds the commitment, or says that it does not know it."""
        for lease in pick(self.leases, which):
            self.leases.remove(lease)
            if lease.epoch == self.nonces.epoch:
                points = lease.points.hiding, lease.points.binding
                [found] = self.nonces.take("coordinator", "default", [(lease.commitment.id, points)])
                assert found != "malformed"
                if found == "unknown-commitment":
                    self.commitments.unknown(lease)
                    signed = False
            self.commitments.released(lease, signed=signed)
            self.commitments.released(lease, signed=True)
        self.turn()

    @rule(seconds=st.sampled_from([0.01, 1.0, 10.0, 40.0, 93.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    @rule()
    def the_signer_restarts(self) -> None:
        self.restarted()

    @rule(count=st.integers(1, 256))
    def another_coordinator_of_the_same_name(self, count: int) -> None:
        """It makes the signer evict what is ours."""
        self.issue(count)

    @rule(which=PLACES)
    def a_stale_epoch_is_heard_of(self, which: int) -> None:
        """By a request for shares that nothing rides on; perhaps late, of an epoch that ended long ago."""
        [epoch] = pick(self.lives[::-1], which)
        if epoch == self.nonces.epoch:
            self.restarted()
        self.model.over[epoch] = self.clock()
        self.commitments.void(SIGNER, epoch)
        self.turn()

    def count(self, event: str) -> int:
        labels = {"signer": "signer-1", "event": event}
        return int(self.metrics.registry.get_sample_value("frost_coordinator_commitments_total", labels) or 0)

    @invariant()
    def the_counters_agree_and_the_bound_holds(self) -> None:
        if hasattr(self, "commitments"):
            stock = self.commitments.in_stock(1)
            assert stock <= self.most
            labels = {"signer": "signer-1", "key": "default"}
            assert self.metrics.registry.get_sample_value("frost_coordinator_commitments_in_stock", labels) == stock
            assert self.count("fetched") == stock + sum(map(self.count, ("leased", "expired", "wasted")))
            assert self.count("burnt") <= self.count("leased")
        assert self.broken == []

    def teardown(self) -> None:
        """The end: nobody waits any more, and nothing is left."""
        try:
            if hasattr(self, "commitments"):
                self.run(self.commitments.__aexit__(None, None, None))
                self.turn()
                assert self.waiting == []
                assert self.commitments.in_stock(1) == 0
                self.the_counters_agree_and_the_bound_holds()
                assert not asyncio.all_tasks(self.loop)
        finally:
            self.loop.close()


Stocked.TestCase.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestStocked = Stocked.TestCase
