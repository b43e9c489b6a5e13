"""One flight for one key: of all requests that are the same, one signs, and the others wait for what it gets."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import anyio

from frost_sidecar.config import IdempotencyConfig
from frost_sidecar.errors import (
    DeadlineExceeded,
    FrostSidecarError,
    Overloaded,
    RequestError,
    ShuttingDown,
)
from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.idempotency.answer import decode_answer, encode_answer
from frost_sidecar.idempotency.fingerprint import batch_fingerprint, request_fingerprint, scope_of
from frost_sidecar.idempotency.stores import Stores
from frost_sidecar.idempotency.use import Use
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Claim, Signed, SignRequest

log = get_logger("frost_sidecar.idempotency")

_MAX_WAITING = 4096
"""Requests that wait for another one's answer at once, all keys together."""
_MAX_WAITING_OF_ONE = 1024
"""The same of one caller."""
_MAX_JOINED = 256
"""The same for one key."""
_SHORTEST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
"""Seconds between two looks at a key that another replica holds."""
_LEASE_MARGIN = 1.0
"""Seconds that a claim outlives whatever its request may still do."""


@dataclass(slots=True)
class _Flight:
    """A key that a request of this process is signing for, or asking the store about."""

    use: Use
    done: anyio.Event = field(default_factory=anyio.Event)
    waiting: int = 0
    signed: Signed | None = None
    error: Exception | None = None


@dataclass(slots=True)
class _Reservation:
    """A key that batches of one kind are using in this process."""

    users: int = 0
    signed: bool = False
    release: Callable[[], Awaitable[None]] | None = None
    """Frees the key in the store, where one of them has claimed it."""


class Idempotency:
    """Signs once for each idempotency key of each caller, within ``replay_seconds``."""

    def __init__(
        self,
        sign: Callable[[Caller, SignRequest], Awaitable[Signed]],
        store: tuple[str, IdempotencyStore] | None,
        config: IdempotencyConfig,
        metrics: CoordinatorMetrics,
        write_seconds: float,
        verify: Callable[[SignRequest, Signed], None],
    ) -> None:
        """Put it before ``sign``.

        Args:
            sign: makes the signature, by the request's deadline and ``write_seconds`` at the latest.
            store: a plugin's name and its store; None: this process's memory is the store.
            config: times, bounds, and what to do in an outage of the store.
            metrics: where results are counted.
            write_seconds: how long ``sign`` may take to record its result, beyond the request's deadline.
            verify: raises a :class:`FrostSidecarError` unless a signature from the store answers the request under
                the group's key: a store may be damaged or hostile, and nothing unverified leaves.
        """
        self._sign = sign
        self._stores = Stores(store, config)
        self._config = config
        self._metrics = metrics
        self._overtime = write_seconds + config.store_seconds + _LEASE_MARGIN
        self._verify = verify
        self._flights: dict[str, _Flight] = {}
        self._reservations: dict[str, _Reservation] = {}
        self._waiting: Counter[Caller] = Counter()
        self._closed = False

    async def sign(self, caller: Caller, request: SignRequest) -> Signed:
        """What ``sign`` returns; for a key that was answered before, the signature made then, marked as replayed.

        Raises:
            MalformedRequest: the key is out of form.
            IdempotencyConflict: the key was used for another request.
            IdempotencyUnavailable: the store gives no answer, or one that cannot be trusted.
            Overloaded: too many requests wait for others, or too many keys are remembered.
            DeadlineExceeded: the deadline passed while another request with the key was under way.
            FrostSidecarError: whatever ``sign`` raises, here or for the same request under way elsewhere in this
                process.
        """
        if request.idempotency_key is None:
            return await self._sign(caller, request)
        scope = scope_of(caller, request.idempotency_key)
        use = Use(scope, request_fingerprint(request), request.deadline, request.request_id, request.replay_seconds)
        try:
            while (flight := self._flights.get(scope)) is not None:
                signed = await self._join(flight, use, caller)
                if signed is not None:
                    return signed
            return await self._lead(use, caller, request)
        finally:
            self._metrics.idempotency.labels(use.result).inc()

    async def reserve(
        self,
        caller: Caller,
        idempotency_key: str,
        digest: bytes,
        deadline: float,
        replay_seconds: float | None = None,
    ) -> Callable[[bool], Awaitable[None]]:
        """Mark a caller's key as that of the batch with ``digest``, which may come any number of times.

        The items of the batch are signed with keys of their own. ``deadline`` is on :func:`anyio.current_time`'s clock.
        Returns what must be told, at the end of the batch, whether any of it was signed. If nothing was, by this batch
        and by others like it that were under way in this process meanwhile, the key is free again.

        Raises:
            MalformedRequest: the key is out of form.
            IdempotencyConflict: the key was used for another batch or for a single request.
            IdempotencyUnavailable: the store gives no answer.
            Overloaded: too many keys are remembered.
            DeadlineExceeded: the deadline passed.
        """
        use = Use(scope_of(caller, idempotency_key), batch_fingerprint(digest), deadline, "", replay_seconds)
        reservation = self._reservations.setdefault(use.scope, _Reservation())
        reservation.users += 1
        try:
            self._check_open()
            if (flight := self._flights.get(use.scope)) is not None:
                use.check(flight.use.fingerprint)
            seconds = use.kept(self._config.replay_seconds) + use.left() + self._overtime
            owner = secrets.token_hex(16)
            store, claim = await self._stores.claim(use, owner, seconds)
            if claim.mine:
                reservation.release = lambda: self._stores.release(store, use, owner)
            else:
                use.check_claim(claim)
        except BaseException:
            self._leave(use.scope, reservation)
            self._metrics.idempotency.labels(use.result).inc()
            raise

        async def end(signed: bool) -> None:  # noqa: FBT001 - its one argument
            reservation.signed |= signed
            self._leave(use.scope, reservation)
            if not reservation.users and not reservation.signed and reservation.release is not None:
                await reservation.release()

        return end

    def _leave(self, scope: str, reservation: _Reservation) -> None:
        reservation.users -= 1
        if not reservation.users:
            self._reservations.pop(scope, None)

    async def close(self, seconds: float) -> None:
        """Refuse further keys, and wait up to ``seconds`` for what is under way, answers on their way to the store."""
        self._closed = True
        with anyio.move_on_after(seconds, shield=True):
            for flight in list(self._flights.values()):
                await flight.done.wait()
            await self._stores.settled()

    async def _join(self, flight: _Flight, use: Use, caller: Caller) -> Signed | None:
        """What comes of a flight; None where its request ended for a reason of its own, and another one must sign."""
        use.check(flight.use.fingerprint)
        if flight.waiting >= _MAX_JOINED:
            use.result = "overloaded"
            raise Overloaded(f"{_MAX_JOINED} requests wait already for the answer to this idempotency key")
        flight.waiting += 1
        try:
            with self._a_place(use, caller), anyio.move_on_after(use.left()):
                await flight.done.wait()
        finally:
            flight.waiting -= 1
        if not flight.done.is_set():
            use.left()
        if flight.error is not None:
            use.result = flight.use.result
            raise flight.error.with_traceback(None)
        if flight.signed is None:
            return None
        use.result = "joined"
        return replace(flight.signed, replayed=True)

    async def _lead(self, use: Use, caller: Caller, request: SignRequest) -> Signed:
        # No await between the look for a flight and this line: two leaders cannot be.
        flight = self._flights[use.scope] = _Flight(use)
        try:
            self._check_open()
            flight.signed = await self._answer(use, caller, request)
        except (DeadlineExceeded, ShuttingDown):
            raise
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[use.scope]
            flight.done.set()
        return flight.signed

    async def _answer(self, use: Use, caller: Caller, request: SignRequest) -> Signed:
        owner = secrets.token_hex(16)
        store, claim = await self._take(use, owner, caller)
        if claim.answer is not None:
            return self._replayed(use, request, claim.answer)
        try:
            signed = await self._sign(caller, request)
        except BaseException:
            await self._stores.release(store, use, owner)
            raise
        await self._stores.keep(store, use, owner, encode_answer(signed))
        return signed

    async def _take(self, use: Use, owner: str, caller: Caller) -> tuple[IdempotencyStore, Claim]:
        """The key, or its answer; waits while another replica holds it."""
        pause = _SHORTEST_PAUSE
        while True:
            store, claim = await self._stores.claim(use, owner, use.left() + self._overtime)
            if claim.mine:
                return store, replace(claim, answer=None)
            use.check_claim(claim)
            if claim.answer is not None:
                return store, claim
            with self._a_place(use, caller):
                await anyio.sleep(min(use.left(), pause * random.uniform(0.5, 1.0)))  # noqa: S311 - jitter, no secret
            self._check_open()
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _replayed(self, use: Use, request: SignRequest, answer: bytes) -> Signed:
        """A stored answer, once it proves to be the answer to ``request``."""
        try:
            signed = decode_answer(answer)
        except ValueError as error:
            log.error(  # noqa: TRY400 - a traceback of the decoder helps nobody
                "idempotency store: unreadable answer", why=str(error), scope=use.scope, request_id=use.request_id
            )
            raise use.untrusted() from None
        try:
            self._verify(request, signed)
        except RequestError:
            raise
        except FrostSidecarError as error:
            log.critical(
                "idempotency store: a stored signature does not verify under the group key; withheld",
                why=str(error),
                scope=use.scope,
                request_id=use.request_id,
            )
            raise use.untrusted() from None
        use.result = "replayed"
        return signed

    @contextmanager
    def _a_place(self, use: Use, caller: Caller) -> Iterator[None]:
        if self._waiting.total() >= _MAX_WAITING or self._waiting[caller] >= _MAX_WAITING_OF_ONE:
            use.result = "overloaded"
            raise Overloaded(f"{self._waiting.total()} requests wait already for answers to idempotency keys")
        self._waiting[caller] += 1
        try:
            yield
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def _check_open(self) -> None:
        if self._closed:
            raise ShuttingDown("the coordinator is closed")
