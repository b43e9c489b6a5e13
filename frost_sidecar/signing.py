"""The story of one signature: may they → choose → commit → shares → aggregate → record → answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

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
    ParticipantsError,
    ShuttingDown,
    TooLarge,
    UnknownKey,
)
from frost_sidecar.keygen.group import Group
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Outcome, PolicyRequest, Signed, Signer, SignRequest
from frost_sidecar.policy import Policies, parse_jws
from frost_sidecar.sessions import Attempt, Sessions, blame
from frost_sidecar.transport import Trace

log = get_logger("frost_sidecar.signing")


class Signing:
    """Signs messages for callers. One for a coordinator; all listeners and the in-process API come through here."""

    def __init__(
        self,
        groups: Mapping[str, Group],
        main_key: str,
        signers: Mapping[int, Signer],
        policies: Policies,
        sessions: Sessions,
        audit: Audit,
        config: SigningConfig,
        metrics: CoordinatorMetrics,
    ) -> None:
        self._groups = groups
        self._main_key = main_key
        self._signers = signers
        self._policies = policies
        self._sessions = sessions
        self._audit = audit
        self._config = config
        self._metrics = metrics
        self._in_flight = 0
        self._closed = False
        self._idle = anyio.Event()

    async def sign(self, caller: Caller, request: SignRequest) -> Signed:
        """One Ed25519 signature over ``request.message``, verified under the group key and recorded.

        Raises:
            RequestError: the request cannot be served as it is.
            Denied: a policy refuses.
            Unavailable: no quorum, no audit, no policy answer, or too much to do.
            DeadlineExceeded: the request's deadline passed before there was a signature. Recording what came of it
                has a deadline of its own, ``audit.write_seconds``, beyond the request's.
            InternalError: a defect; the cause is logged.
        """
        async with self._admitted(request), self._audit.recording(caller, request) as entry:
            attempts: list[Attempt] = []
            try:
                with _until(request.deadline, attempts):
                    group = self.group(request.key)
                    entry.key = group.name
                    among = self._participants(group, request)
                    await self._may(caller, group, request)
                    trace = Trace(request.request_id, request.traceparent)
                    attempt = await self._sessions.sign(group, request.message, among, trace, attempts)
            finally:
                entry.sessions = tuple(each.audit() for each in attempts)
            entry.signature = _verified(group, request.message, attempt)
            entry.participants = attempt.quorum
        self._metrics.signs.inc()
        return Signed(entry.signature, group.public, attempt.quorum, group.name, request.request_id)

    def group(self, key: str | None) -> Group:
        """The group of a key's name, None for the main key; raises :class:`UnknownKey`."""
        group = self._groups.get(key or self._main_key)
        if group is None:
            raise UnknownKey(f"there is no key {key!r}; configured: {', '.join(sorted(self._groups))}")
        return group

    async def _may(self, caller: Caller, group: Group, request: SignRequest) -> None:
        with self._metrics.phases.labels("policy").time():
            await self._policies.check(
                PolicyRequest(caller, group.name, request.message, parse_jws(request.message), request.request_id)
            )

    def _participants(self, group: Group, request: SignRequest) -> frozenset[int]:
        """Who may take part: all signers of the key, or fewer where the caller narrows the choice."""
        among = group.identifiers & self._signers.keys()
        if request.participants is not None:
            given = frozenset(request.participants)
            if len(given) != len(request.participants):
                raise ParticipantsError("participants: an identifier stands twice")
            if not given <= among:
                unknown = ", ".join(map(str, sorted(given - among)))
                raise ParticipantsError(f"participants: no signer {unknown} is configured for key {group.name!r}")
            among = given
        if request.signer_urls is not None:
            among = self._addressed(request, among)
        if len(among) < group.min_signers:
            raise ParticipantsError(f"participants: {len(among)} signers given, {group.min_signers} are needed")
        return among

    def _addressed(self, request: SignRequest, among: frozenset[int]) -> frozenset[int]:
        """The signers that ``signer_urls`` name. A caller can only name configured ones, never point us elsewhere."""
        by_url = {signer.url: identifier for identifier, signer in self._signers.items()}
        urls = [url.rstrip("/") for url in request.signer_urls or ()]
        if any(url not in by_url for url in urls):
            raise ParticipantsError("signer_urls: not the URL of a configured signer")
        identifiers = [by_url[url] for url in urls]
        if len(set(identifiers)) != len(identifiers):
            raise ParticipantsError("signer_urls: a URL stands twice")
        if request.participants is not None and tuple(identifiers) != request.participants:
            raise ParticipantsError("signer_urls do not pair with participants by position")
        if not among.issuperset(identifiers):
            raise ParticipantsError("signer_urls: a signer is not one of the key's")
        return frozenset(identifiers)

    def _check(self, request: SignRequest) -> None:
        if self._closed:
            raise ShuttingDown("the coordinator is closed")
        if not request.message:
            raise MalformedRequest("the message is empty")
        size, limit = len(request.message), self._config.max_message_bytes
        if size > limit:
            raise TooLarge(f"the message has {size} bytes, {limit} are allowed")
        if self._in_flight > self._config.max_in_flight:
            raise Overloaded(f"{self._config.max_in_flight} requests are already under way")

    async def close(self, seconds: float) -> None:
        """Refuse further requests, and wait up to ``seconds`` for those under way."""
        self._closed = True
        with anyio.move_on_after(seconds, shield=True):
            while self._in_flight:
                self._idle = anyio.Event()
                await self._idle.wait()

    @asynccontextmanager
    async def _admitted(self, request: SignRequest) -> AsyncIterator[None]:
        """Count the request, refuse it if it is one too many, time it, and let only errors of ours out."""
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        started = time.perf_counter()
        outcome: Outcome = "failed"
        try:
            self._check(request)
            yield
            outcome = "signed"
        except Denied:
            outcome = "denied"
            raise
        except FrostSidecarError:
            raise
        except Exception as error:
            log.exception("signing failed by a defect", request_id=request.request_id)
            raise InternalError("internal error; see the log for this request id") from error
        finally:
            self._in_flight -= 1
            self._idle.set()
            self._metrics.in_flight.set(self._in_flight)
            self._metrics.requests.labels(outcome).observe(time.perf_counter() - started)


@contextmanager
def _until(deadline: float, attempts: list[Attempt]) -> Iterator[None]:
    try:
        with anyio.fail_after(deadline - anyio.current_time()):
            yield
    except TimeoutError:
        faults = "; ".join(blame(attempts).values()) or f"{len(attempts)} sessions begun, no signer failed"
        raise DeadlineExceeded(f"the time budget ran out before there was a signature: {faults}") from None


def _verified(group: Group, message: bytes, attempt: Attempt) -> bytes:
    """The attempt's signature, once it verifies under the group key (RFC 8032): nothing else may leave."""
    try:
        group.verifying_key.verify(message, frost.Signature.deserialize(attempt.signature or b""))
    except frost.FrostError as error:
        log.critical("aggregate does not verify under the group key; withheld", session=attempt.session)
        raise InternalError("the aggregate did not verify under the group key and was withheld") from error
    return attempt.signature or b""
