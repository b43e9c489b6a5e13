"""One signer as a source of commitments: its epoch, and for each key the stock, those who wait, and the calls."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from frost_sidecar.config import StockConfig
from frost_sidecar.errors import FaultKind, SignerError
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Signer
from frost_sidecar.offers import Epochs, Offers
from frost_sidecar.stock import Lease, Offer, Stock
from frost_sidecar.transport import SignerCalls, Trace
from frost_sidecar.wire import MAX_COMMITMENTS, Commitment

log = get_logger("frost_sidecar.source")

_REFILL = Trace("stock")
"""What signers' logs call the calls that no request waits for."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 15.0
"""Seconds, at most, that a low stock waits for what rides on answers before it asks itself; doubles with each failure.
By chance it waits half of that, so that not all coordinators at once ask a signer that came back."""
_LONGEST_SLEEP = 30.0
"""Seconds after which a stock that nobody uses is looked at."""
_OLD_ANSWERS = 3
"""Answers of an epoch that is over, one after the other, that those who wait bear with."""


@dataclass(frozen=True, slots=True, eq=False)
class _Want:
    """One who waits for a commitment."""

    lease: asyncio.Future[Lease]
    trace: Trace
    caller: Caller | None


class Source:
    """One signer at its configured address. All its stocks are of one epoch."""

    def __init__(
        self,
        signer: Signer,
        offers: Offers,
        calls: SignerCalls,
        metrics: CoordinatorMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.signer = signer
        self.offers = offers
        self.epochs = Epochs()
        self.events = metrics.commitment_events(signer.name)
        self.lanes: dict[str, Lane] = {}
        self._calls = calls
        self._metrics = metrics
        self._clock = clock

    def open(self, key: str, config: StockConfig) -> None:
        """Keep a stock for this key."""
        stock = Stock(self.signer, key, config, self.events, self._clock)
        self._metrics.commitments_in_stock.labels(self.signer.name, key).set_function(stock.ready)
        self.lanes[key] = Lane(self, stock, self._calls, self._clock)

    def admits(self, epoch: str, sent: float, number: int) -> bool:
        """Count so many offers of one answer, and whether they may be leased; of an epoch that is over they may not."""
        self.events.fetched.inc(number)
        verdict = self.epochs.judge(epoch, sent)
        if verdict == "new":
            self._clear()
        elif verdict == "old":
            self.events.wasted.inc(number)
        return verdict != "old"

    def void(self, epoch: str) -> None:
        """The signer says that this epoch is over."""
        if self.epochs.void(epoch, self._clock()):
            self._clear()

    def unknown(self, lease: Lease) -> None:
        """The signer does not know this commitment. It forgets the oldest of all first: those are gone too."""
        if lease.epoch == self.epochs.current:
            for lane in self.lanes.values():
                lane.stock.drop(lease.sent)
                lane.look()

    def refused(self, fault: SignerError, key: str) -> None:
        """Count a fault for which no request will answer, and say so."""
        self._metrics.faults.labels(self.signer.name, fault.kind).inc()
        log.warning("stock not filled", signer=self.signer.name, key=key, kind=fault.kind, fault=fault.detail)

    def _clear(self) -> None:
        for lane in self.lanes.values():
            lane.stock.clear()
            lane.look()


class Lane:
    """One key's commitments of one signer. One call at a time is under way, for all who wait and for the stock."""

    def __init__(self, source: Source, stock: Stock, calls: SignerCalls, clock: Callable[[], float]) -> None:
        self.source = source
        self.stock = stock
        self._calls = calls
        self._clock = clock
        self._waiting: deque[_Want] = deque()  # no more than sessions are under way
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._old_answers = 0

    def start(self) -> None:
        """Begin to fill the stock, and to serve those who wait."""
        # A plain task, not a task group: a program may open and close a coordinator in different tasks.
        name = f"commitments of {self.source.signer.name} for {self.stock.key}"
        self._task = asyncio.create_task(self._run(), name=name)

    async def stop(self) -> None:
        """End the call that is under way; who waits gets an error, and what is in stock is wasted."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.stock.close()
        self._fail(list(self._waiting), self._closed())

    def take(self, caller: Caller) -> Lease | None:
        """A commitment from stock, at once; None where there is none for this caller."""
        lease = self.stock.take(caller)
        self.look()
        return lease

    async def fetch(self, trace: Trace, caller: Caller | None) -> Lease:
        """A commitment from the next call; raises :class:`SignerError`."""
        if self._task is None:
            raise self._closed()
        want = _Want(asyncio.get_running_loop().create_future(), trace, caller)
        self._waiting.append(want)
        self.stock.wanted(len(self._waiting))
        self._wake.set()
        try:
            return await want.lease
        except asyncio.CancelledError:
            self._left(want)
            raise

    async def arrived(
        self, commitments: Sequence[Commitment], epoch: str, expires_in: float, asked: int, sent: float
    ) -> None:
        """Take into stock what rode on an answer: all of it, or nothing. Who waits has a call under way already."""
        try:
            if commitments:
                offers = await self.source.offers.read(commitments, epoch, expires_in, asked, sent)
                if self.source.admits(epoch, sent, len(offers)):
                    self.stock.add(offers)
        except SignerError as fault:
            self.source.refused(fault, self.stock.key)
        finally:
            self.settle(asked)

    def settle(self, asked: int) -> None:
        """So many that should ride on an answer are here, or will not come."""
        self.stock.settle(asked)
        self.look()

    def look(self) -> None:
        """Let the lane see to its stock, where that is low."""
        if self.stock.is_low:
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._needed()
            await self._ask()

    async def _needed(self) -> None:
        """Return when somebody waits, or when the stock has been low for a while with nothing on its way to it."""
        due: float | None = None
        while not self._waiting:
            self._wake.clear()
            if not self.stock.is_low:
                due, pause = None, min(self.stock.lasts, _LONGEST_SLEEP)
            else:
                due = self._clock() + self._pause() if due is None else due
                pause = due - self._clock()
                if pause <= 0:
                    return
            with anyio.move_on_after(pause):
                await self._wake.wait()

    def _pause(self) -> float:
        longest = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 16), _LONGEST_PAUSE)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret

    async def _ask(self) -> None:
        """One call: for those who wait, in their order, and for what the stock lacks."""
        heads = list(itertools.islice(self._waiting, MAX_COMMITMENTS))
        extra = min(self.stock.lacks(), MAX_COMMITMENTS - len(heads))
        asked = len(heads) + extra
        trace = heads[0].trace if heads else _REFILL
        self.stock.coming += extra
        sent = self._clock()
        try:
            answer = await self._calls.commitments(self.source.signer, self.stock.key, asked, trace)
            offers = await self.source.offers.read(answer.commitments, answer.epoch, answer.expires_in, asked, sent)
        except SignerError as fault:
            # Whoever came while nobody answered has waited long enough, too.
            self._failed(list(self._waiting) if fault.kind == "timeout" else heads, fault)
        except Exception:
            log.exception("a call for commitments failed by a defect", signer=self.source.signer.name)
            self._failed(heads, self._fault("internal", "no commitment: a defect of ours; see the log"))
        else:
            self._serve(heads, offers, answer.epoch, sent)
        finally:
            self.stock.settle(extra)

    def _serve(self, heads: Sequence[_Want], offers: Sequence[Offer], epoch: str, sent: float) -> None:
        """Lease to those who wait, whoever came first; the rest is stock."""
        if not self.source.admits(epoch, sent, len(offers)):
            self._old_answers += 1
            self._failures += 1
            if self._old_answers >= _OLD_ANSWERS:
                self._failed(heads, self._fault("stale-epoch", "it answers for several epochs at once"))
            return
        rest = deque(offers)
        while rest and self._waiting:
            want = self._waiting.popleft()
            if not want.lease.done():
                want.lease.set_result(self.stock.lease_at_once(rest.popleft(), want.caller))
        self.stock.add(rest)
        self._old_answers = 0
        self._failures = 0 if offers[0].expires > self._clock() else self._failures + 1

    def _failed(self, heads: Sequence[_Want], fault: SignerError) -> None:
        """Tell those for whom the call was; later ones have another."""
        self._failures += 1
        self._old_answers = 0
        if not self._fail(heads, fault):
            self.source.refused(fault, self.stock.key)

    def _fail(self, wants: Sequence[_Want], fault: SignerError) -> int:
        told = 0
        for want in wants:
            if not want.lease.done():
                want.lease.set_exception(fault)
                told += 1
        self._waiting = deque(want for want in self._waiting if not want.lease.done())
        return told

    def _left(self, want: _Want) -> None:
        """Who waited was cancelled. What it got in the same moment was leased, and no session will use it."""
        if want in self._waiting:
            self._waiting.remove(want)
        if want.lease.cancelled() or want.lease.exception() is not None:
            return
        self.source.events.burnt.inc()
        self.stock.released(want.lease.result())

    def _closed(self) -> SignerError:
        return self._fault("internal", "the coordinator is not open")

    def _fault(self, kind: FaultKind, detail: str) -> SignerError:
        return SignerError(self.source.signer.identifier, kind, detail)
