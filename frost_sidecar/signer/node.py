"""A signer without its transport: protocol messages in, protocol messages out (docs/signer-protocol.md).

It trusts nobody. A session is checked whole, its message against the owner's rules too, before the nonces are taken;
the nonces are gone before the share is computed; and a commitment counts only for the client that got it, under the key
that it was made for, in this epoch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from frost_ed25519 import FrostError, SigningPackage, round1, round2
from frost_ed25519.keys import KeyPackage

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import Denied, MalformedRequest, StaleEpoch, TooManyClients, UnknownKey
from frost_sidecar.model import MAX_MESSAGE_BYTES, JwsSigningInput
from frost_sidecar.signer.nonces import NonceStore
from frost_sidecar.signer.permission import Permissions
from frost_sidecar.wire import (
    MAX_LISTED,
    PROTOCOL,
    Commitment,
    CommitmentsAnswer,
    CommitmentsRequest,
    InfoAnswer,
    KeyInfo,
    Session,
    SessionError,
    ShareResult,
    SharesAnswer,
    SharesRequest,
    parse_identifier,
)

OnUsed = Callable[[str, str, bytes], None]
"""Told of each use before its share is computed: commitment id, key, SHA-256 of the serialised signing package."""


class SessionRefused(Exception):
    """One session gets no share; the others of its request go on."""

    def __init__(self, error: SessionError, detail: str | None = None) -> None:
        super().__init__(error)
        self.error: SessionError = error
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reading:
    """A session's signing package, checked: all that a share needs but the nonces."""

    message: bytes
    others: dict[int, round1.SigningCommitments]
    mine: Commitment
    jws: JwsSigningInput | None


class SignerNode:
    """Answers the protocol's requests for ``keys``. Its methods may run in several threads at once."""

    def __init__(
        self,
        name: str,
        keys: Mapping[str, KeyPackage],
        nonces: NonceStore,
        *,
        permissions: Permissions | None = None,
        on_used: OnUsed | None = None,
    ) -> None:
        """``permissions``: None for a signer whose keys every client may use for any bytes."""
        self.name = name
        self.nonces = nonces
        self.permissions = permissions
        self._keys = dict(keys)
        self._on_used = on_used

    def info(self, client: str) -> InfoAnswer:
        """Who this signer is, since when, and which keys ``client`` may use: public values only."""
        return InfoAnswer(
            protocols=[PROTOCOL],
            name=self.name,
            epoch=self.nonces.epoch,
            keys={
                name: _describe(share)
                for name, share in self._keys.items()
                if self.permissions is None or self.permissions.may_use(client, name)
            },
        )

    def commitments(self, client: str, request: CommitmentsRequest) -> CommitmentsAnswer:
        """Round one (RFC 9591, section 5.1), ahead of time: fresh commitments for ``client``.

        Raises:
            UnknownKey: no share of that key is here.
            Denied: the client may not use the key.
            TooManyClients: there is no place for another client.
        """
        share = self._share(client, request.key)
        return CommitmentsAnswer(
            identifier=int(share.identifier),
            epoch=self.nonces.epoch,
            commitments=self.nonces.issue(client, request.key, share, request.count),
            expires_in=self.nonces.lifetime,
        )

    def shares(self, client: str, request: SharesRequest, judged: Collection[str] | None = None) -> SharesAnswer:
        """Round two (RFC 9591, section 5.2) for each session, and fresh commitments where asked for.

        ``judged``: names of the sessions that policy plugins have allowed; no other gets a share. None: there are no
        plugins.

        Raises:
            UnknownKey: no share of that key is here.
            Denied: the client may not use the key.
            StaleEpoch: the commitments are of another life of this process.
            MalformedRequest: two sessions have one name, or all together list too many commitments.
        """
        share = self._check(client, request)
        results = [self._result(client, request.key, share, session, judged) for session in request.sessions]
        return SharesAnswer(
            identifier=int(share.identifier),
            epoch=self.nonces.epoch,
            results=results,
            commitments=self._replenish(client, request.key, share, request.replenish),
            expires_in=self.nonces.lifetime,
        )

    def readings(self, client: str, request: SharesRequest) -> dict[str, Reading]:
        """The sessions, by name, that would get a share now; takes and counts nothing.

        Raises:
            UnknownKey, Denied, StaleEpoch, MalformedRequest: as :meth:`shares`.
        """
        share = self._check(client, request)
        readings = {}
        for session in request.sessions:
            with contextlib.suppress(SessionRefused, Denied, ValueError):
                readings[session.session] = self._read(client, request.key, share, session)
        return readings

    def _check(self, client: str, request: SharesRequest) -> KeyPackage:
        """What refuses a whole request."""
        share = self._share(client, request.key)
        if request.epoch != self.nonces.epoch:
            raise StaleEpoch("these commitments are of another epoch of this signer; fetch new ones")
        if len({session.session for session in request.sessions}) != len(request.sessions):
            raise MalformedRequest("two sessions of the request have the same name")
        if sum(len(session.commitments) for session in request.sessions) > MAX_LISTED:
            raise MalformedRequest(f"the sessions of a request list at most {MAX_LISTED} commitments together")
        return share

    def _share(self, client: str, key: str) -> KeyPackage:
        if key not in self._keys:
            raise UnknownKey(f"this signer has no share of a key {key!r}")
        if self.permissions is not None:
            self.permissions.check_client(client, key)
        return self._keys[key]

    def _result(
        self, client: str, key: str, share: KeyPackage, session: Session, judged: Collection[str] | None
    ) -> ShareResult:
        try:
            signed = self._sign(client, key, share, session, judged)
            return ShareResult(session=session.session, share=b64encode(signed))
        except SessionRefused as refused:
            return ShareResult(session=session.session, error=refused.error, detail=refused.detail)

    def _sign(
        self, client: str, key: str, share: KeyPackage, session: Session, judged: Collection[str] | None
    ) -> bytes:
        try:
            read = self._read(client, key, share, session, judged)
            issued = self.nonces.take(client, key, read.mine.id, _points(read.mine))
        except ValueError:
            raise SessionRefused("malformed") from None
        except Denied as error:
            message = b64decode(session.msg)
            detail = self.permissions.denied(client, key, message, error) if self.permissions else None
            raise SessionRefused("denied", detail) from None
        if issued is None:
            raise SessionRefused("unknown-commitment")
        package = SigningPackage({**read.others, int(share.identifier): issued.commitments}, read.message)
        if self._on_used is not None:
            self._on_used(read.mine.id, key, hashlib.sha256(package.serialize()).digest())
        try:
            return round2.sign(package, issued.nonces, share).serialize()
        except FrostError:
            raise SessionRefused("malformed") from None

    def _read(
        self, client: str, key: str, share: KeyPackage, session: Session, judged: Collection[str] | None = None
    ) -> Reading:
        """The session's message, allowed; the other participants' commitments, checked; and ours, to be compared.

        The dear comes last: rules are applied for one who has a commitment of that name, curve points are checked for
        a message that they allow.

        Raises:
            SessionRefused: this signer is not a participant, or does not know its commitment.
            Denied: the owner's rules refuse the message, or it is not in ``judged``.
            ValueError: anything in it is not as the protocol says.
        """
        own = int(share.identifier)
        participants = {parse_identifier(name): each for name, each in session.commitments.items()}
        if own not in participants:
            raise SessionRefused("not-a-participant")
        if len(participants) < share.min_signers:
            raise ValueError("fewer participants than the threshold")
        message = b64decode(session.msg)
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError("the message is too long")
        mine = participants.pop(own)
        if not self.nonces.holds(client, key, mine.id):
            raise SessionRefused("unknown-commitment")
        jws = None
        if self.permissions is not None:
            jws = self.permissions.check_message(key, share.verifying_key.serialize(), message)
        if judged is not None and session.session not in judged:  # a rule about time refused it a moment ago
            raise Denied("the policy plugins have not seen it: it was not allowed when they were asked")
        # The crate takes a point only in its one encoding, in the prime-order group, and not the identity.
        others = {identifier: round1.SigningCommitments(*_points(each)) for identifier, each in participants.items()}
        return Reading(message, others, mine, jws)

    def _replenish(self, client: str, key: str, share: KeyPackage, count: int) -> list[Commitment]:
        """The shares are paid for: that the client lost its place meanwhile must not lose them."""
        try:
            return self.nonces.issue(client, key, share, count) if count else []
        except TooManyClients:
            return []


def _points(commitment: Commitment) -> tuple[bytes, bytes]:
    return b64decode(commitment.hiding), b64decode(commitment.binding)


def _describe(share: KeyPackage) -> KeyInfo:
    return KeyInfo(
        identifier=int(share.identifier),
        min_signers=share.min_signers,
        group_public=b64encode(share.verifying_key.serialize()),
        verifying_share=b64encode(share.verifying_share.serialize()),
    )
