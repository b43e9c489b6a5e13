"""A signer without its transport: protocol messages in, protocol messages out (docs/signer-protocol.md).

It trusts nobody. A session is checked whole before the nonces are taken, the nonces are gone before the share is
computed, and a commitment counts only for the client that got it, under the key that it was made for, in this epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from frost_ed25519 import FrostError, SigningPackage, round1, round2
from frost_ed25519.keys import KeyPackage

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import MalformedRequest, StaleEpoch, TooManyClients, UnknownKey
from frost_sidecar.model import MAX_MESSAGE_BYTES
from frost_sidecar.signer.nonces import NonceStore
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

    def __init__(self, error: SessionError) -> None:
        super().__init__(error)
        self.error: SessionError = error


class SignerNode:
    """Answers the protocol's requests for ``keys``. Its methods may run in several threads at once."""

    def __init__(
        self, name: str, keys: Mapping[str, KeyPackage], nonces: NonceStore, *, on_used: OnUsed | None = None
    ) -> None:
        self.name = name
        self.nonces = nonces
        self._keys = dict(keys)
        self._on_used = on_used

    def info(self) -> InfoAnswer:
        """Who this signer is, since when, and for which keys: public values only."""
        return InfoAnswer(
            protocols=[PROTOCOL],
            name=self.name,
            epoch=self.nonces.epoch,
            keys={name: _describe(share) for name, share in self._keys.items()},
        )

    def commitments(self, client: str, request: CommitmentsRequest) -> CommitmentsAnswer:
        """Round one (RFC 9591, section 5.1), ahead of time: fresh commitments for ``client``.

        Raises:
            UnknownKey: no share of that key is here.
            TooManyClients: there is no place for another client.
        """
        share = self._share(request.key)
        return CommitmentsAnswer(
            identifier=int(share.identifier),
            epoch=self.nonces.epoch,
            commitments=self.nonces.issue(client, request.key, share, request.count),
            expires_in=self.nonces.lifetime,
        )

    def shares(self, client: str, request: SharesRequest) -> SharesAnswer:
        """Round two (RFC 9591, section 5.2) for each session, and fresh commitments where asked for.

        Raises:
            UnknownKey: no share of that key is here.
            StaleEpoch: the commitments are of another life of this process.
            MalformedRequest: two sessions have one name, or all together list too many commitments.
        """
        share = self._share(request.key)
        if request.epoch != self.nonces.epoch:
            raise StaleEpoch("these commitments are of another epoch of this signer; fetch new ones")
        if len({session.session for session in request.sessions}) != len(request.sessions):
            raise MalformedRequest("two sessions of the request have the same name")
        if sum(len(session.commitments) for session in request.sessions) > MAX_LISTED:
            raise MalformedRequest(f"the sessions of a request list at most {MAX_LISTED} commitments together")
        results = [self._result(client, request.key, share, session) for session in request.sessions]
        return SharesAnswer(
            identifier=int(share.identifier),
            epoch=self.nonces.epoch,
            results=results,
            commitments=self._replenish(client, request.key, share, request.replenish),
            expires_in=self.nonces.lifetime,
        )

    def _share(self, key: str) -> KeyPackage:
        if key not in self._keys:
            raise UnknownKey(f"this signer has no share of a key {key!r}")
        return self._keys[key]

    def _result(self, client: str, key: str, share: KeyPackage, session: Session) -> ShareResult:
        try:
            return ShareResult(session=session.session, share=b64encode(self._sign(client, key, share, session)))
        except SessionRefused as refused:
            return ShareResult(session=session.session, error=refused.error)

    def _sign(self, client: str, key: str, share: KeyPackage, session: Session) -> bytes:
        try:
            message, others, mine = _read(session, share, lambda name: self.nonces.holds(client, key, name))
            issued = self.nonces.take(client, key, mine.id, _points(mine))
        except ValueError:
            raise SessionRefused("malformed") from None
        if issued is None:
            raise SessionRefused("unknown-commitment")
        package = SigningPackage({**others, int(share.identifier): issued.commitments}, message)
        if self._on_used is not None:
            self._on_used(mine.id, key, hashlib.sha256(package.serialize()).digest())
        try:
            return round2.sign(package, issued.nonces, share).serialize()
        except FrostError:
            raise SessionRefused("malformed") from None

    def _replenish(self, client: str, key: str, share: KeyPackage, count: int) -> list[Commitment]:
        """The shares are paid for: that the client lost its place meanwhile must not lose them."""
        try:
            return self.nonces.issue(client, key, share, count) if count else []
        except TooManyClients:
            return []


def _read(
    session: Session, share: KeyPackage, holds: Callable[[str], bool]
) -> tuple[bytes, dict[int, round1.SigningCommitments], Commitment]:
    """The session's message, the other participants' commitments, checked, and our own, to be compared.

    ``holds`` says whether we have a commitment of that name: without it nothing dear is checked.

    Raises:
        SessionRefused: this signer is not a participant, or does not know its commitment.
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
    if not holds(mine.id):
        raise SessionRefused("unknown-commitment")
    # The crate takes a point only in its one encoding, in the prime-order group, and not the identity.
    others = {identifier: round1.SigningCommitments(*_points(each)) for identifier, each in participants.items()}
    return message, others, mine


def _points(commitment: Commitment) -> tuple[bytes, bytes]:
    return b64decode(commitment.hiding), b64decode(commitment.binding)


def _describe(share: KeyPackage) -> KeyInfo:
    return KeyInfo(
        identifier=int(share.identifier),
        min_signers=share.min_signers,
        group_public=b64encode(share.verifying_key.serialize()),
        verifying_share=b64encode(share.verifying_share.serialize()),
    )
