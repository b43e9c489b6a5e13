"""FROST sessions over any transport: one fixed signing package each, and the blame when one fails.

A signer is never swapped inside a session: a further attempt is a new session with fresh commitments from everyone.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import anyio
import frost_ed25519 as frost

from frost_sidecar import wire
from frost_sidecar.aggregation import Aggregation, Shares
from frost_sidecar.batching import Batching, Outcome, Part
from frost_sidecar.commitments import Commitments, Lease
from frost_sidecar.config import SigningConfig
from frost_sidecar.containment import contained
from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import Denied, FrostSidecarError, InternalError, NoQuorum, SignerError
from frost_sidecar.hookspecs import Selector
from frost_sidecar.keygen.group import Group
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import AuditSession, Caller, Choice, Quorum, Signer
from frost_sidecar.signers import BLAMELESS, Signers
from frost_sidecar.transport import Trace

log = get_logger("frost_sidecar.sessions")

_LARGEST_ORDER = 16
"""Most quorums that a selector is asked to order."""

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
        batching: Batching,
        aggregation: Aggregation,
        selector: tuple[str, Selector, float | None],
        config: SigningConfig,
        metrics: CoordinatorMetrics,
    ) -> None:
        self._signers = signers
        self._commitments = commitments
        self._batching = batching
        self._aggregation = aggregation
        self._selector_name, self._selector, self._selector_seconds = selector
        self._config = config
        self._results = {result: metrics.sessions.labels(result) for result in ("signed", "failed")}
        self._select_phase = metrics.phases["select"]
        self._commit_phase = metrics.phases["commit"]
        self._shares_phase = metrics.phases["shares"]
        self._aggregate_phase = metrics.phases["aggregate"]

    async def sign(
        self,
        group: Group,
        message: bytes,
        among: Mapping[int, Signer],
        trace: Trace,
        caller: Caller,
        attempts: list[Attempt],
    ) -> tuple[bytes, Quorum]:
        """A signature, verified under the group key, and the quorum of ``among`` that made it.

        ``attempts`` gets each session as it starts.

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
            await self._run(attempt, group, message, {each: among[each] for each in quorum}, trace, caller)
            self._results["signed" if attempt.signature else "failed"].inc()
            if attempt.signature is not None:
                for fault in denied.values():
                    self._signers.outvoted(fault, among[fault.identifier])
                return attempt.signature, quorum
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
        limit = _LARGEST_ORDER if attempts else 1
        choice = Choice(candidates, group.min_signers, limit, trace.request_id)
        try:
            with self._select_phase.time():
                answer = await contained(self._selector_name, self._selector_seconds, self._selector.quorums, choice)
        except FrostSidecarError as error:
            raise InternalError(f"plugin {self._selector_name} could not choose signers") from error
        quorums = _quorums(answer, choice)
        if quorums is None:
            log.error("selector plugin chose no quorum", plugin=self._selector_name, request_id=trace.request_id)
            raise InternalError(f"plugin {self._selector_name} chose no quorum of {group.min_signers} candidates")
        tried = {attempt.quorum for attempt in attempts}
        return next((quorum for quorum in quorums if quorum not in tried), quorums[0] if quorums else None)

    async def _run(
        self,
        attempt: Attempt,
        group: Group,
        message: bytes,
        signers: Mapping[int, Signer],
        trace: Trace,
        caller: Caller,
    ) -> None:
        """One session (RFC 9591, section 5): commitments, signing package, shares, aggregate."""
        leases: dict[int, Lease] = {}
        try:
            with self._commit_phase.time():
                attempt.faults = await self._lease(attempt.quorum, signers, group.name, trace, caller, leases)
            if attempt.faults:
                return
            package = frost.SigningPackage({each: lease.points for each, lease in leases.items()}, message)
            attempt.package_sha256 = package.sha256().hex()
            with self._shares_phase.time():
                shares, attempt.faults = await self._shares(attempt, leases, group.name, message, trace)
            if attempt.faults:
                return
            with self._aggregate_phase.time():
                attempt.signature = await self._aggregate(attempt, Shares(package, shares, group, message))
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
            for lease in leases.values():
                self._commitments.released(lease, signed=attempt.signature is not None)

    async def _aggregate(self, attempt: Attempt, shares: Shares) -> bytes:
        try:
            return await self._aggregation.aggregate(shares)
        except InternalError:
            log.critical("aggregate does not verify under the group key; withheld", session=attempt.session)
            raise

    async def _lease(
        self,
        quorum: Quorum,
        signers: Mapping[int, Signer],
        key: str,
        trace: Trace,
        caller: Caller,
        leases: dict[int, Lease],
    ) -> tuple[SignerError, ...]:
        """A commitment of each, from stock; from the signer itself, all at once, where there is none."""
        missing = []
        for each in quorum:
            lease = self._commitments.take(signers[each], key, caller)
            if lease is None:
                missing.append(each)
            else:
                leases[each] = lease
        if not missing:
            return ()
        faults: list[SignerError] = []

        async def fetch(identifier: int) -> None:
            try:
                leases[identifier] = await self._commitments.fetch(signers[identifier], key, trace, caller)
            except SignerError as fault:
                faults.append(fault)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for each in missing:
                tasks.start_soon(fetch, each)
        if not faults and len(leases) != len(quorum):
            raise InternalError("a signer neither gave a commitment nor failed")
        return tuple(faults)

    async def _shares(
        self, attempt: Attempt, leases: Mapping[int, Lease], key: str, message: bytes, trace: Trace
    ) -> tuple[dict[int, frost.round2.SignatureShare], tuple[SignerError, ...]]:
        """The quorum's shares, or the faults, of which the first ends the waiting."""
        session = wire.Session(
            session=attempt.session,
            msg=b64encode(message),
            commitments={str(each): leases[each].commitment for each in attempt.quorum},
        )
        answers = _Answers(attempt.quorum)
        parts = [Part(leases[each], session, trace, answers.tell) for each in attempt.quorum]
        try:
            for part in parts:
                self._batching.send(key, part)
            await answers.complete
        finally:
            for part in parts:
                part.withdrawn = True
        return answers.shares, tuple(answers.faults)


class _Answers:
    """What a session's signers answer, as it comes in.

    The first fault ends the waiting. But signers that deny a message do so at about the same time, so that after a
    denial the rest have a moment.
    """

    def __init__(self, quorum: Quorum) -> None:
        self._loop = asyncio.get_running_loop()
        self.complete: asyncio.Future[None] = self._loop.create_future()
        self.shares: dict[int, frost.round2.SignatureShare] = {}
        self.faults: list[SignerError] = []
        self._size = len(quorum)

    def tell(self, identifier: int, outcome: Outcome) -> None:
        """Take one signer's answer; one that comes too late is nobody's any more."""
        if self.complete.done():
            return
        if not isinstance(outcome, SignerError):
            self.shares[identifier] = outcome
        else:
            self.faults.append(outcome)
            if outcome.kind != "denied":
                self._end()
            else:
                self._loop.call_later(_AFTER_A_DENIAL, self._end)
        if len(self.shares) + len(self.faults) == self._size:
            self._end()

    def _end(self) -> None:
        if not self.complete.done():
            self.complete.set_result(None)


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
