"""The story of one signature: may they → choose → commit → shares → aggregate → record → answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import anyio
import frost_ed25519 as frost

from frost_sidecar.audit import Audit
from frost_sidecar.config import SigningConfig
from frost_sidecar.errors import (
    DeadlineExceeded,
    Denied,
    FrostSidecarError,
    InternalError,
    MalformedRequest,
    Overloaded,
    ShuttingDown,
    TooLarge,
    TooManyRequests,
    UnknownKey,
)
from frost_sidecar.grants import Grants
from frost_sidecar.jws import parse_jws
from frost_sidecar.keygen.group import Group
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Outcome, PolicyRequest, Signed, SignRequest
from frost_sidecar.participants import Participants
from frost_sidecar.policy import Policies
from frost_sidecar.sessions import Attempt, Sessions, blame
from frost_sidecar.transport import Trace

log = get_logger("frost_sidecar.signing")

_STRANGERS: Final = 8
"""Of ``max_in_flight``, the part as which requests without a grant are refused and recorded at once. They take none of
the others' places; more of them are refused unrecorded."""


class Signing:
    """Signs messages for callers. One for a coordinator; all listeners and the in-process API come through here."""

    def __init__(
        self,
        groups: Mapping[str, Group],
        main_key: str,
        participants: Participants,
        grants: Grants,
        policies: Policies,
        sessions: Sessions,
        audit: Audit,
        config: SigningConfig,
        metrics: CoordinatorMetrics,
    ) -> None:
        self._groups = groups
        self._main_key = main_key
        self._participants = participants
        self._grants = grants
        self._policies = policies
        self._sessions = sessions
        self._audit = audit
        self._config = config
        self._metrics = metrics
        self._policy_phase = metrics.phases["policy"]
        metrics.in_flight.set_function(lambda: self._in_flight - self._strangers)
        self._in_flight = 0
        self._strangers = 0
        self._by_caller: Counter[Caller] = Counter()
        self._closed = False
        self._idle = anyio.Event()

    async def sign(self, caller: Caller, request: SignRequest) -> Signed:
        """One Ed25519 signature over ``request.message``, verified under the group key and recorded.

        Raises:
            RequestError: the request cannot be served as it is.
            Denied: the caller has no grant for this, or a policy refuses.
            Unavailable: no quorum, no audit, no policy answer, or too much to do.
            DeadlineExceeded: the request's deadline passed before there was a signature. Recording what came of it
                has a deadline of its own, ``audit.write_seconds``, beyond the request's.
            InternalError: a defect; the cause is logged.
        """
        with self._admitted(caller, request):
            async with self._audit.recording(caller, request) as entry:
                attempts: list[Attempt] = []
                try:
                    async with asyncio.timeout_at(request.deadline):  # a third of the price of a cancel scope
                        group = self.group(request.key)
                        entry.key = group.name
                        among = self._participants.of(group, request)
                        await self._may(caller, group, request)
                        trace = Trace(request.request_id, request.traceparent)
                        signature, quorum = await self._sessions.sign(
                            group, request.message, among, trace, caller, attempts
                        )
                except TimeoutError:
                    raise _late(attempts) from None
                finally:
                    entry.sessions = tuple(each.audit() for each in attempts)
                entry.signature, entry.participants = signature, quorum
        self._metrics.signs.inc()
        return Signed(signature, group.public, quorum, group.name, request.request_id)

    def verify(self, request: SignRequest, signed: Signed) -> None:
        """Check that ``signed`` answers ``request`` under the request's key; raises :class:`FrostSidecarError`."""
        group = self.group(request.key)
        _check_signature(group, request.message, signed.signature)
        if signed.key != group.name or signed.group_public != group.public:
            raise InternalError("the signature is of another key than the one asked for")
        among = group.identifiers if request.participants is None else frozenset(request.participants)
        if len(signed.participants) != group.min_signers or not among & group.identifiers >= set(signed.participants):
            raise InternalError("the signature names participants that the request cannot have had")

    def group(self, key: str | None) -> Group:
        """The group of a key's name, None for the main key; raises :class:`UnknownKey`."""
        group = self._groups.get(key or self._main_key)
        if group is None:
            raise UnknownKey(f"there is no key {key!r}; configured: {', '.join(sorted(self._groups))}")
        return group

    async def _may(self, caller: Caller, group: Group, request: SignRequest) -> None:
        with self._policy_phase.time():
            grant = self._grants.find(caller, group.name)
            jws = parse_jws(request.message)
            grant.check(jws)
            await self._policies.check(PolicyRequest(caller, group.name, request.message, jws, request.request_id))

    def _check(self, caller: Caller, request: SignRequest, *, granted: bool) -> None:
        if self._closed:
            raise ShuttingDown("the coordinator is closed")
        if not request.message:
            raise MalformedRequest("the message is empty")
        size, limit = len(request.message), self._config.max_message_bytes
        if size > limit:
            raise TooLarge(f"the message has {size} bytes, {limit} are allowed")
        most = self._config.max_in_flight
        if not granted and self._strangers > max(1, most // _STRANGERS):
            raise TooManyRequests("too many requests without a grant are being refused already")
        if self._in_flight - self._strangers > most:
            raise Overloaded(f"{most} requests are already under way")
        share = self._config.max_in_flight_per_caller
        if share is not None and self._by_caller[caller] > share:
            raise TooManyRequests(f"this caller has {share} requests under way already, and may have no more")

    async def close(self, seconds: float) -> None:
        """Refuse further requests, and wait up to ``seconds`` for those under way."""
        self._closed = True
        with anyio.move_on_after(seconds, shield=True):
            while self._in_flight:
                self._idle = anyio.Event()
                await self._idle.wait()

    @contextmanager
    def _admitted(self, caller: Caller, request: SignRequest) -> Iterator[None]:
        """Count the request, refuse it if it is one too many, time it, and let only errors of ours out."""
        key = request.key or self._main_key
        granted = self._grants.has(caller, key)
        self._in_flight += 1
        self._strangers += not granted
        self._by_caller[caller] += 1
        started = time.perf_counter()
        outcome: Outcome = "failed"
        try:
            self._check(caller, request, granted=granted)
            with self._grants.budget(caller, key):
                yield
            outcome = "signed"
        except Denied as error:
            outcome = "denied"
            self._metrics.refused(error)
            raise
        except FrostSidecarError as error:
            self._metrics.refused(error)
            raise
        except Exception as error:
            log.exception("signing failed by a defect", request_id=request.request_id)
            raise InternalError("internal error; see the log for this request id") from error
        finally:
            self._in_flight -= 1
            self._strangers -= not granted
            self._by_caller[caller] -= 1
            if not self._by_caller[caller]:
                del self._by_caller[caller]
            self._idle.set()
            self._metrics.requests[outcome].observe(time.perf_counter() - started)


def _late(attempts: list[Attempt]) -> DeadlineExceeded:
    faults = "; ".join(blame(attempts).values()) or f"{len(attempts)} begun session(s), no signer failed"
    return DeadlineExceeded(f"the time budget ran out before there was a signature: {faults}")


def _check_signature(group: Group, message: bytes, signature: bytes) -> None:
    """Return where ``signature`` verifies (RFC 8032); raises :class:`InternalError`."""
    try:
        group.verifying_key.verify(message, frost.Signature.deserialize(signature))
    except frost.FrostError as error:
        raise InternalError("the aggregate did not verify under the group key and was withheld") from error
