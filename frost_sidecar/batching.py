"""Many sessions, one request per signer: while one is under way, the next sessions gather and leave together.

There are no timers. A session that finds its signer idle leaves at once; one that finds it busy waits for the next
answer, beside all the others that do.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import anyio
import frost_ed25519 as frost
import msgspec

from frost_sidecar import wire
from frost_sidecar.commitments import Commitments, Lease
from frost_sidecar.config import SigningConfig
from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import FaultKind, SignerError
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Signer
from frost_sidecar.transport import SignerCalls, Trace

log = get_logger("frost_sidecar.batching")

_MOST_BYTES: Final = 1024 * 1024
"""Most bytes of messages and commitment lists in one request; a single session may have more."""
_FEW: Final = 128
"""Parts that may wait for a signer without a look at which of them nobody waits for any more."""
_COMMITMENT_BYTES: Final = 200
"""About what one listed commitment takes."""

Outcome = frost.round2.SignatureShare | SignerError
"""What became of one signer's part in a session."""

_SESSION_ERRORS: dict[wire.SessionError, FaultKind] = {
    "unknown-commitment": "unknown-commitment",
    "denied": "denied",
}
"""What a signer says of a session that means more than "refused"."""


@dataclass(slots=True, eq=False)
class Part:
    """One signer's part in one session: its lease, and who is told of the outcome."""

    lease: Lease
    session: wire.Session
    trace: Trace
    tell: Callable[[int, Outcome], None]
    withdrawn: bool = False
    """Nobody waits for it any more; it is not sent if it has not left yet."""

    @property
    def size(self) -> int:
        """About how many bytes it takes in a request."""
        return len(self.session.msg) + _COMMITMENT_BYTES * len(self.session.commitments)


@dataclass(slots=True)
class _Lane:
    """The way to one address of one signer."""

    signer: Signer
    waiting: deque[tuple[str, Part]] = field(default_factory=deque)
    """Parts and the keys that they are for, in order of arrival."""
    under_way: int = 0
    woken: bool = False
    many: int = _FEW
    """At so many waiting, those that nobody waits for are thrown out, which a signer that hangs would keep long."""

    def add(self, key: str, part: Part) -> None:
        """Put ``part`` behind the others."""
        if len(self.waiting) >= self.many:
            self.waiting = deque(each for each in self.waiting if not each[1].withdrawn)
            self.many = max(_FEW, 2 * len(self.waiting))
        self.waiting.append((key, part))


class Batching:
    """Asks signers for shares. Enter it before use; leaving ends what is under way."""

    def __init__(
        self, calls: SignerCalls, commitments: Commitments, config: SigningConfig, metrics: CoordinatorMetrics
    ) -> None:
        self._calls = calls
        self._commitments = commitments
        self._most = config.batches_per_signer
        self._sizes = metrics.share_batch_size
        metrics.share_queue.set_function(lambda: sum(len(lane.waiting) for lane in tuple(self._lanes.values())))
        self._lanes: dict[tuple[int, str], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Plain tasks, not a task group: a program may open and close a coordinator in different tasks.
        self._closed = True
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0)  # a task that is cancelled before it begins tells nobody
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes.values():
            for _, part in lane.waiting:
                part.tell(lane.signer.identifier, _ended(lane.signer))

    def send(self, key: str, part: Part) -> None:
        """Let ``part`` leave with the next request to its signer. ``part.tell`` gets the outcome, exactly once."""
        signer = part.lease.signer
        if self._closed:
            part.tell(signer.identifier, _ended(signer))
            return
        lane = self._lanes.setdefault((signer.identifier, signer.url), _Lane(signer))
        lane.add(key, part)
        self._wake(lane)

    def _wake(self, lane: _Lane) -> None:
        """See to the lane when all that runs now has had its turn: what comes at the same time leaves together."""
        if not lane.woken and lane.under_way < self._most and not self._closed:
            lane.woken = True
            asyncio.get_running_loop().call_soon(self._leave, lane)

    def _leave(self, lane: _Lane) -> None:
        lane.woken = False
        while lane.under_way < self._most and not self._closed:
            batch = self._gathered(lane)
            if batch is None:
                break
            lane.under_way += 1
            task = asyncio.create_task(self._ask(lane, *batch), name=f"shares of {lane.signer.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not lane.waiting and not lane.under_way:
            self._lanes.pop((lane.signer.identifier, lane.signer.url), None)

    def _gathered(self, lane: _Lane) -> tuple[str, list[Part]] | None:
        """The oldest part, and those that can go with it: of its key and epoch, within the bounds of a request."""
        parts: list[Part] = []
        others: list[tuple[str, Part]] = []
        first: tuple[str, str] | None = None
        size = listed = 0
        waiting = lane.waiting
        while waiting:
            key, part = waiting[0]
            if part.withdrawn:
                waiting.popleft()
                continue
            if first is None:
                first = key, part.lease.epoch
            if first != (key, part.lease.epoch):
                others.append(waiting.popleft())
                continue
            size += part.size
            listed += len(part.session.commitments)
            full = len(parts) >= wire.MAX_SESSIONS or listed > wire.MAX_LISTED or size > _MOST_BYTES
            if parts and full:
                break
            waiting.popleft()
            parts.append(part)
        waiting.extendleft(reversed(others))
        return None if first is None else (first[0], parts)

    async def _ask(self, lane: _Lane, key: str, parts: list[Part]) -> None:
        """One request and its answer; whatever becomes of it, every part is told."""
        signer, epoch = lane.signer, parts[0].lease.epoch
        outcomes: list[Outcome] = [_ended(signer)] * len(parts)
        asked = self._commitments.replenishment(signer, key, len(parts))
        answer = None
        sent = time.monotonic()
        try:
            self._sizes.observe(len(parts))
            answer = await self._calls.shares(signer, *_request(key, epoch, parts, asked))
            outcomes = self._outcomes(parts, answer.results)
        except SignerError as fault:
            outcomes = [fault] * len(parts)
            if fault.kind == "stale-epoch":
                self._commitments.void(signer, epoch)
            elif fault.kind == "timeout":
                self._give_up(lane, fault)
        except Exception:
            log.exception("a request for shares failed by a defect", signer=signer.name)
        finally:
            if answer is None:
                self._commitments.missed(signer, key, asked)
            lane.under_way -= 1
            for part, outcome in zip(parts, outcomes, strict=True):
                part.tell(signer.identifier, outcome)
            self._wake(lane)
        if answer is not None:
            await self._commitments.arrived(
                signer, key, answer.epoch, answer.commitments, answer.expires_in, asked, sent
            )

    def _give_up(self, lane: _Lane, fault: SignerError) -> None:
        """Whoever waits behind a request that nobody answered has waited for this signer long enough, too."""
        waiting, lane.waiting = lane.waiting, deque()
        for _, part in waiting:
            part.tell(lane.signer.identifier, fault)

    def _outcomes(self, parts: list[Part], results: list[wire.ShareResult]) -> list[Outcome]:
        """What each part got. One answer is one event for a signer's health: alike faults are one object."""
        faults: dict[tuple[FaultKind, str], SignerError] = {}
        outcomes: list[Outcome] = []
        for part, result in zip(parts, results, strict=True):
            try:
                outcomes.append(_share(part.lease.signer, result))
            except SignerError as fault:
                if fault.kind == "unknown-commitment":
                    self._commitments.unknown(part.lease)
                outcomes.append(faults.setdefault((fault.kind, fault.detail), fault))
        return outcomes


def _request(key: str, epoch: str, parts: list[Part], replenish: int) -> tuple[wire.SharesRequest, Trace]:
    """What leaves, and under which trace: that of the only part, or one of the call's own."""
    sessions = [part.session for part in parts]
    trace = parts[0].trace
    if len(parts) > 1:
        named = zip(parts, sessions, strict=True)
        sessions = [msgspec.structs.replace(each, request=part.trace.request_id) for part, each in named]
        trace = Trace(secrets.token_hex(16))
    return wire.SharesRequest(key=key, epoch=epoch, sessions=sessions, replenish=replenish), trace


def _share(signer: Signer, result: wire.ShareResult) -> frost.round2.SignatureShare:
    """The signature share in a result; raises :class:`SignerError`."""
    if result.error is not None or result.share is None:
        kind = _SESSION_ERRORS.get(result.error, "refused") if result.error else "malformed"
        why = f"{result.error}, {result.detail}" if result.detail else result.error
        raise SignerError(signer.identifier, kind, f"no share: {why or 'neither share nor error'}")
    try:
        return frost.round2.SignatureShare.deserialize(b64decode(result.share))
    except (ValueError, frost.FrostError) as error:
        raise SignerError(signer.identifier, "malformed", f"unusable share: {error}") from None


def _ended(signer: Signer) -> SignerError:
    return SignerError(signer.identifier, "internal", "no request for the share was finished; see the log")
