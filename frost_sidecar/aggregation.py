"""Aggregating and verifying many signatures at once: while one batch is being worked on, the next ones gather.

The work itself is the crate's, in a thread, with the interpreter's lock released for a whole batch. Nothing comes out
of here that has not verified under its group's key (RFC 9591, section 5.3): once as the aggregate of a signing package,
and once more as what the request asked for, so that not even a mistake of our own can let another signature out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.to_thread
import frost_ed25519 as frost

from frost_sidecar.errors import InternalError
from frost_sidecar.keygen.group import Group

_LARGEST_BATCH: Final = 32
"""Most signatures worked on in one call: about 5 ms of work in small groups. Larger batches gain nothing any more."""
_INLINE: Final = 8
"""Most shares of a lone session that is aggregated in the event loop: about 0.5 ms, and 1 ms with a lie in it."""
_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Shares:
    """What becomes a signature: all of one session, and the message that its request wants signed."""

    package: frost.SigningPackage
    shares: Mapping[int, frost.round2.SignatureShare]
    group: Group
    message: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of ``shares``: a signature that verified, or why there is none."""

    shares: Shares
    result: bytes | frost.FrostError | InternalError


class Aggregation:
    """Aggregates shares. Enter it before use; leaving waits for what its threads work on."""

    def __init__(self) -> None:
        # Not an executor: those take no work any more once the main thread has ended, where others may still sign.
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._waiting: list[tuple[Shares, asyncio.Future[Outcome]]] = []  # no more than sessions are under way
        self._under_way: set[asyncio.Task[list[Outcome]]] = set()
        self._woken = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            while self._under_way:
                await asyncio.wait(self._under_way)

    async def aggregate(self, shares: Shares) -> bytes:
        """The signature, 64 bytes (RFC 8032).

        Raises:
            frost.InvalidSignatureShare: of which ``culprits`` are all whose share is wrong.
            frost.FrostError: anything else that makes it none.
            InternalError: there is an aggregate, and it is no signature over the request's message.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((shares, future))
        self._wake(loop)
        outcome = await future
        if outcome.shares is not shares:
            raise InternalError("a signature for another request was withheld")
        if isinstance(outcome.result, bytes):
            return outcome.result
        raise outcome.result

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it when all that runs now has had its turn: what comes at the same time is worked on together."""
        if not self._woken and self._waiting and len(self._under_way) < _THREADS:
            self._woken = True
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._woken = False
        batch = [each for each in self._waiting[:_LARGEST_BATCH] if not each[1].done()]
        del self._waiting[:_LARGEST_BATCH]
        work = [shares for shares, _ in batch]
        waiting = [future for _, future in batch]
        if len(work) == 1 and len(work[0].shares) <= _INLINE:  # a thread would cost more than it takes
            _settle(waiting, lambda: _aggregate(work))
        elif work:
            task = loop.create_task(self._in_thread(work), name="aggregation")
            self._under_way.add(task)
            task.add_done_callback(lambda task: self._done(loop, waiting, task))
        self._wake(loop)

    async def _in_thread(self, work: list[Shares]) -> list[Outcome]:
        return await anyio.to_thread.run_sync(_aggregate, work, limiter=self._threads)

    def _done(
        self,
        loop: asyncio.AbstractEventLoop,
        waiting: list[asyncio.Future[Outcome]],
        work: asyncio.Task[list[Outcome]],
    ) -> None:
        self._under_way.discard(work)
        _settle(waiting, work.result)
        self._wake(loop)


def _aggregate(batch: list[Shares]) -> list[Outcome]:
    """An outcome for each, in order."""
    aggregates = frost.aggregate_many([(each.package, each.shares, each.group.package) for each in batch])
    good = [
        (each.group.verifying_key, each.message, aggregate)
        for each, aggregate in zip(batch, aggregates, strict=True)
        if not isinstance(aggregate, frost.FrostError)
    ]
    verdicts = iter(frost.verify_many(good))
    outcomes: list[Outcome] = []
    for shares, aggregate in zip(batch, aggregates, strict=True):
        result: bytes | frost.FrostError | InternalError
        if isinstance(aggregate, frost.FrostError):
            result = aggregate
        elif next(verdicts) is None:
            result = aggregate.serialize()
        else:
            result = InternalError("the aggregate did not verify under the group key and was withheld")
        outcomes.append(Outcome(shares, result))
    return outcomes


def _settle(waiting: list[asyncio.Future[Outcome]], results: Callable[[], list[Outcome]]) -> None:
    """Give everyone who waits the own result; where there is none, all of them the error."""
    try:
        outcomes = results()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, those that wait have to know
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        return
    for future, outcome in zip(waiting, outcomes, strict=True):
        if not future.done():
            future.set_result(outcome)
