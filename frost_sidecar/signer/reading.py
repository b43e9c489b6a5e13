"""Reads the sessions of a shares request: what each asks to be signed, with whom, and whether it may be.

The cheap comes first and for each session alone, the dear last and for all together: rules are applied for one who has
a commitment of that name, curve points are checked for a message that they allow, and those of all sessions in one
piece of work, during which other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from frost_ed25519 import round1
from frost_ed25519.keys import KeyPackage

from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import Denied
from frost_sidecar.model import MAX_MESSAGE_BYTES, JwsSigningInput
from frost_sidecar.signer.nonces import NonceStore, Points
from frost_sidecar.signer.permission import Permissions
from frost_sidecar.wire import Commitment, Session, SessionError, ShareResult, parse_identifier

OnDenied = Callable[[Session, Denied], str | None]
"""Told of a session that the owner's rules refuse; gives what is said of it to the client."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A session's signing package, checked: all that a share needs but the nonces."""

    session: Session
    message: bytes
    mine: str
    """The id of this signer's commitment."""
    points: Points
    """Its points as the session has them, to be compared with those that were issued."""
    others: dict[int, round1.SigningCommitments]
    jws: JwsSigningInput | None


class SessionRefused(Exception):
    """One session gets no share; the others of its request go on."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(error)
        self.error: SessionError = error


@dataclass(frozen=True, slots=True)
class _Draft:
    """A reading that lacks the other participants' points: here they are as bytes, or were decoded before."""

    session: Session
    message: bytes
    mine: str
    points: Points
    others: Mapping[int, Points | round1.SigningCommitments]
    jws: JwsSigningInput | None


class Reader:
    """Reads sessions for one client and one key. It takes nothing and counts nothing."""

    def __init__(
        self,
        nonces: NonceStore,
        permissions: Permissions | None,
        client: str,
        key: str,
        share: KeyPackage,
        group_public: bytes,
    ) -> None:
        """``group_public``: the encoded group key of ``share``."""
        self._nonces = nonces
        self._permissions = permissions
        self._client = client
        self._key = key
        self._own = str(int(share.identifier))
        self._least = share.min_signers
        self._group_public = group_public

    def read(
        self,
        sessions: Iterable[Session],
        judged: Mapping[str, Reading] | None = None,
        on_denied: OnDenied | None = None,
    ) -> dict[str, Reading | ShareResult]:
        """By name of session: its reading, or why it gets no share.

        ``judged``: readings of the sessions that policy plugins have allowed, of which no point is decoded again; no
        other session passes. None: there are no plugins.
        """
        outcomes: dict[str, Reading | ShareResult] = {}
        drafts: list[_Draft] = []
        for session in sessions:
            name = session.session
            try:
                drafts.append(self._draft(session, judged))
            except SessionRefused as refused:
                outcomes[name] = ShareResult(session=name, error=refused.error)
            except Denied as error:
                detail = None if on_denied is None else on_denied(session, error)
                outcomes[name] = ShareResult(session=name, error="denied", detail=detail)
            except ValueError:
                outcomes[name] = ShareResult(session=name, error="malformed")
        return outcomes | _decoded(drafts)

    def _draft(self, session: Session, judged: Mapping[str, Reading] | None) -> _Draft:
        """All of a session but the other participants' points.

        Raises:
            SessionRefused: this signer is not a participant, or does not know its commitment.
            Denied: the owner's rules refuse the message, or it is not in ``judged``.
            ValueError: anything in it is not as the protocol says.
        """
        for name in session.commitments:
            parse_identifier(name)
        mine = session.commitments.get(self._own)
        if mine is None:
            raise SessionRefused("not-a-participant")
        if len(session.commitments) < self._least:
            raise ValueError("fewer participants than the threshold")
        message = b64decode(session.msg)
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError("the message is too long")
        if not self._nonces.holds(self._client, self._key, mine.id):
            raise SessionRefused("unknown-commitment")
        jws = None
        if self._permissions is not None:
            jws = self._permissions.check_message(self._key, self._group_public, message)
        if judged is not None and session.session not in judged:  # a rule about time refused it a moment ago
            raise Denied("the policy plugins have not seen it: it was not allowed when they were asked")
        known = judged[session.session] if judged is not None else None
        others: Mapping[int, Points | round1.SigningCommitments]
        if known is not None and known.session is session:
            others = known.others
        else:
            others = {int(name): _points(each) for name, each in session.commitments.items() if name != self._own}
        return _Draft(session, message, mine.id, _points(mine), others, jws)


def _decoded(drafts: list[_Draft]) -> dict[str, Reading | ShareResult]:
    """The readings of drafts, by name of session; of one with a point that is none, the refusal."""
    # The crate takes a point only in its one encoding, in the prime-order group, and not the identity.
    encoded = [each for draft in drafts for each in draft.others.values() if isinstance(each, tuple)]
    points = iter(round1.decode_many(encoded) if encoded else ())
    outcomes: dict[str, Reading | ShareResult] = {}
    for draft in drafts:
        name = draft.session.session
        others: dict[int, round1.SigningCommitments] = {}
        for identifier, each in draft.others.items():
            point = next(points) if isinstance(each, tuple) else each
            if isinstance(point, round1.SigningCommitments):
                others[identifier] = point
        if len(others) == len(draft.others):
            outcomes[name] = Reading(draft.session, draft.message, draft.mine, draft.points, others, draft.jws)
        else:
            outcomes[name] = ShareResult(session=name, error="malformed")
    return outcomes


def _points(commitment: Commitment) -> Points:
    return b64decode(commitment.hiding), b64decode(commitment.binding)
