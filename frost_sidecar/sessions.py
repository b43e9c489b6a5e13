"""FROST sessions over any transport: one fixed signing package each, and the blame when one fails.

A signer is never swapped inside a session: a further attempt is a new session with fresh commitments from everyone.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio
import frost_ed25519 as frost

from frost_sidecar import wire
from frost_sidecar.commitments import Commitments, Lease
from frost_sidecar.config import SigningConfig
from frost_sidecar.containment import contained
from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import Denied, FaultKind, FrostSidecarError, InternalError, NoQuorum, SignerError
from frost_sidecar.hookspecs import Selector
from frost_sidecar.keygen.group import Group
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import AuditSession, Choice, Quorum, Signer
from frost_sidecar.signers import BLAMELESS, Signers
from frost_sidecar.transport import SignerCalls, Trace

log = get_logger("frost_sidecar.sessions")

T = TypeVar("T")

_LARGEST_ORDER = 16
"""Most quorums that a selector is asked to order."""

_SESSION_ERRORS: dict[wire.SessionError, FaultKind] = {
    "unknown-commitment": "unknown-commitment",
    "denied": "denied",
}
"""What a signer says of a session that means more than "refused"."""

_AFTER_A_DENIAL = 0.1
"""Seconds that the rest of a session has to deny the message too, or to give a share that nobody will use."""

_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds to wait, at most, before failed signers are asked again where nobody else is left. Then it is "no quorum"."""


@dataclass(slots=True)
class Attempt:
    """One session as it went: ``signature`` is set only where every share was there and valid."""

    session: str
    quorum: Quorum
    package_sha256: str | None = None
    signature: bytes | None = None
    faults: tuple[SignerError, ...] = ()

    def audit(self) -> AuditSession:
        """What the audit record keeps of it."""
        return AuditSession(
            session=self.session,
            participants=self.quorum,
            package_sha256=self.package_sha256,
            faults=tuple(str(fault) for fault in self.faults),
        )


class Sessions:
    """Runs sessions until one gives a signature, or nothing is left to try."""

    def __init__(
        self,
        signers: Signers,
        commitments: Commitments,
        calls: SignerCalls,
        selector: tuple[str, Selector],
        config: SigningConfig,
        metrics: CoordinatorMetrics,
    ) -> None:
        self._signers = signers
        self._commitments = commitments
        self._calls = calls
        self._selector_name, self._selector = selector
        self._config = config
        self._metrics = metrics

    async def sign(
        self, group: Group, message: bytes, among: Mapping[int, Signer], trace: Trace, attempts: list[Attempt]
    ) -> Attempt:
        """The first attempt that gives a signature, by a quorum of ``among``; ``attempts`` gets each as it starts.

        A signer that denies the message is not asked again for it. The others are: no single signer can keep a message
        from being signed, and none has to sign it.

        Raises:
            Denied: so many signers deny the message that those left are no quorum.
            NoQuorum: nobody is left to ask, or too many sessions failed; the message names signers and faults.
        """
        everyone = frozenset(among)
        denied: dict[int, SignerError] = {}
        out: set[int] = set()
        forgiven: set[int] = set()
        pauses = iter(_PAUSES)
        spare = len(everyone) - group.min_signers
        for _ in range(max(self._config.max_sessions, 2 * spare + 1)):
            quorum = await self._choose(group, everyone - out - denied.keys(), trace, attempts)
            if quorum is None and out and (pause := next(pauses, None)):
                out.clear()
                await anyio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
                quorum = await self._choose(group, everyone - denied.keys(), trace, attempts)
            if quorum is None:
                break
            attempt = Attempt(secrets.token_hex(16), quorum)
            attempts.append(attempt)
            await self._run(attempt, group, message, {each: among[each] for each in quorum}, trace)
            self._metrics.sessions.labels("signed" if attempt.signature else "failed").inc()
            if attempt.signature is not None:
                for fault in denied.values():
                    self._signers.outvoted(fault, among[fault.identifier])
                return attempt
            for fault in attempt.faults:
                self._signers.failed(fault, among[fault.identifier])
                if fault.kind == "denied":
                    denied[fault.identifier] = fault
                elif fault.kind not in BLAMELESS or fault.identifier in forgiven:
                    out.add(fault.identifier)
                forgiven.add(fault.identifier)
            if len(everyone) - len(denied) < group.min_signers:
                faults = "; ".join(str(denied[each]) for each in sorted(denied))
                raise Denied(f"the signers do not sign this: {faults}", reason="signer-policy")
        raise NoQuorum(_explain(group, everyone, self._signers, attempts))

    async def _choose(
        self, group: Group, among: frozenset[int], trace: Trace, attempts: list[Attempt]
    ) -> Quorum | None:
        candidates = self._signers.candidates(among)
        if len(candidates) < group.min_signers:
            return None
        choice = Choice(candidates, group.min_signers, _LARGEST_ORDER, trace.request_id)
        try:
            with self._metrics.phases.labels("select").time():
                answer = await contained(
                    self._selector_name, self._config.plugin_seconds, self._selector.quorums, choice
                )
        except FrostSidecarError as error:
            raise InternalError(f"plugin {self._selector_name} could not choose signers") from error
        quorums = _quorums(answer, choice)
        if quorums is None:
            log.error("selector plugin chose no quorum", plugin=self._selector_name, request_id=trace.request_id)
            raise InternalError(f"plugin {self._selector_name} chose no quorum of {group.min_signers} candidates")
        tried = {attempt.quorum for attempt in attempts}
        return next((quorum for quorum in quorums if quorum not in tried), quorums[0] if quorums else None)

    async def _run(
        self, attempt: Attempt, group: Group, message: bytes, signers: Mapping[int, Signer], trace: Trace
    ) -> None:
        """One session (RFC 9591, section 5): commitments, signing package, shares, aggregate."""
        leases: dict[int, Lease] = {}
        try:
            with self._metrics.phases.labels("commit").time():
                attempt.faults = await _together(
                    attempt.quorum, lambda each: self._commitments.lease(signers[each], group.name, trace), leases
                )
            if attempt.faults:
                return
            package = frost.SigningPackage({each: lease.points for each, lease in leases.items()}, message)
            attempt.package_sha256 = hashlib.sha256(package.serialize()).hexdigest()
            request = wire.Session(
                session=attempt.session,
                msg=b64encode(message),
                commitments={str(each): leases[each].listed() for each in attempt.quorum},
            )
            shares: dict[int, frost.round2.SignatureShare] = {}
            with self._metrics.phases.labels("shares").time():
                attempt.faults = await _together(
                    attempt.quorum, lambda each: self._share(leases[each], group.name, request, trace), shares
                )
            if attempt.faults:
                return
            with self._metrics.phases.labels("aggregate").time():
                attempt.signature = frost.aggregate(package, shares, group.package).serialize()
            for each in attempt.quorum:
                self._signers.answered(signers[each])
        except frost.InvalidSignatureShare as error:
            attempt.faults = tuple(
                SignerError(int(each), "bad-share", f"wrong signature share in session {attempt.session}")
                for each in error.culprits
            )
        except frost.FrostError:
            log.exception("session gave no signature and names nobody", session=attempt.session)
        finally:
            if attempt.signature is None:
                for lease in leases.values():
                    self._commitments.burnt(lease)

    async def _share(self, lease: Lease, key: str, session: wire.Session, trace: Trace) -> frost.round2.SignatureShare:
        signer: Signer = lease.signer
        request = wire.SharesRequest(key=key, epoch=lease.epoch, sessions=[session])
        [result] = (await self._calls.shares(signer, request, trace)).results
        if result.error is not None or result.share is None:
            kind = _SESSION_ERRORS.get(result.error, "refused") if result.error else "malformed"
            why = f"{result.error}, {result.detail}" if result.detail else result.error
            raise SignerError(signer.identifier, kind, f"no share: {why or 'neither share nor error'}")
        try:
            share = frost.round2.SignatureShare.deserialize(b64decode(result.share))
        except (ValueError, frost.FrostError) as error:
            raise SignerError(signer.identifier, "malformed", f"unusable share: {error}") from None
        return share


async def _together(
    quorum: Quorum, ask: Callable[[int], Awaitable[T]], answers: dict[int, T]
) -> tuple[SignerError, ...]:
    """Ask all of ``quorum`` at once, each answer into ``answers``; the faults, of which the first ends the asking.

    Signers that deny a message do so at about the same time, so that after a denial the rest have a moment.
    """
    faults: list[SignerError] = []

    async def one(identifier: int) -> None:
        try:
            answers[identifier] = await ask(identifier)
        except SignerError as fault:
            faults.append(fault)
            moment = _AFTER_A_DENIAL if fault.kind == "denied" else 0.0
            group.cancel_scope.deadline = min(group.cancel_scope.deadline, anyio.current_time() + moment)

    async with anyio.create_task_group() as group:
        for identifier in quorum:
            group.start_soon(one, identifier)
    if not faults and len(answers) != len(quorum):
        raise InternalError("a signer neither answered nor failed")
    return tuple(faults)


def _quorums(answer: object, choice: Choice) -> list[Quorum] | None:
    """What a selector answered, at most as many as it was asked for; None where anything in it is no quorum."""
    allowed = {candidate.identifier for candidate in choice.candidates}
    if not isinstance(answer, Sequence):
        return None
    quorums: list[Quorum] = []
    for each in itertools.islice(answer, choice.limit):
        if not isinstance(each, Collection) or len(each) != choice.size:
            return None
        if not all(type(member) is int and member in allowed for member in each) or len(set(each)) != choice.size:
            return None
        quorums.append(tuple(sorted(each)))
    return quorums


def blame(attempts: Iterable[Attempt]) -> dict[int, str]:
    """The last fault of each signer that failed, in words, by identifier."""
    last = {fault.identifier: str(fault) for attempt in attempts for fault in attempt.faults}
    return dict(sorted(last.items()))


def _explain(group: Group, everyone: frozenset[int], signers: Signers, attempts: list[Attempt]) -> str:
    faults = blame(attempts)
    asked = {candidate.identifier for candidate in signers.candidates(everyone)}
    quarantined = {each: f"signer {each}: quarantined" for each in sorted(everyone - asked - faults.keys())}
    reasons = "; ".join([*faults.values(), *quarantined.values()]) or "none is usable"
    return f"no {group.min_signers} of {len(everyone)} signers gave a signature: {reasons}"
