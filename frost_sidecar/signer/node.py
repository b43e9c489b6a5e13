"""A signer without its transport: protocol messages in, protocol messages out (docs/signer-protocol.md).

It trusts nobody. A session is checked whole, its message against the owner's rules too, before the nonces are taken;
the nonces are gone before the share is computed; and a commitment counts only for the client that got it, under the key
that it was made for, in this epoch. All sessions of a request go through this together: points are decoded, shares and
fresh commitments made, in one piece of work each, during which other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from frost_ed25519 import FrostError, SigningPackage, round2
from frost_ed25519.keys import KeyPackage

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import Denied, MalformedRequest, StaleEpoch, TooManyClients, UnknownKey
from frost_sidecar.signer.nonces import Issued, NonceStore
from frost_sidecar.signer.permission import Permissions
from frost_sidecar.signer.reading import Reader, Reading
from frost_sidecar.wire import (
    MAX_LISTED,
    PROTOCOL,
    Commitment,
    CommitmentsAnswer,
    CommitmentsRequest,
    InfoAnswer,
    KeyInfo,
    Session,
    ShareResult,
    SharesAnswer,
    SharesRequest,
)


@dataclass(frozen=True, slots=True)
class Use:
    """One commitment and the signing package that it was used for."""

    commitment: str
    key: str
    package: bytes
    """SHA-256 of the serialised signing package."""
    session: str
    request: str | None
    """The id of the request that the session is for, where the coordinator says it."""


OnUsed = Callable[[Sequence[Use]], None]
"""Told of all uses of a request, when their nonces are gone and before a share is computed."""


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
        self._publics = {key: share.verifying_key.serialize() for key, share in keys.items()}
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

    def shares(self, client: str, request: SharesRequest, judged: Mapping[str, Reading] | None = None) -> SharesAnswer:
        """Round two (RFC 9591, section 5.2) for each session, and fresh commitments where asked for.

        ``judged``: those of the :meth:`readings` that policy plugins have allowed; no other session gets a share.
        None: there are no plugins.

        Raises:
            UnknownKey: no share of that key is here.
            Denied: the client may not use the key.
            StaleEpoch: the commitments are of another life of this process.
            MalformedRequest: two sessions have one name, or all together list too many commitments.
        """
        share = self._check(client, request)
        results = self._results(client, request, share, judged)
        return SharesAnswer(
            identifier=int(share.identifier),
            epoch=self.nonces.epoch,
            results=[results[session.session] for session in request.sessions],
            commitments=self._replenish(client, request.key, share, request.replenish),
            expires_in=self.nonces.lifetime,
        )

    def readings(self, client: str, request: SharesRequest) -> dict[str, Reading]:
        """The sessions, by name, that would get a share now; takes and counts nothing.

        Raises:
            UnknownKey, Denied, StaleEpoch, MalformedRequest: as :meth:`shares`.
        """
        share = self._check(client, request)
        outcomes = self._reader(client, request.key, share).read(request.sessions)
        return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Reading)}

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

    def _reader(self, client: str, key: str, share: KeyPackage) -> Reader:
        return Reader(self.nonces, self.permissions, client, key, share, self._publics[key])

    def _results(
        self, client: str, request: SharesRequest, share: KeyPackage, judged: Mapping[str, Reading] | None
    ) -> dict[str, ShareResult]:
        """Each session's outcome, by its name. From :meth:`NonceStore.take` on the nonces are gone, come what may."""
        key = request.key
        reader = self._reader(client, key, share)
        results: dict[str, ShareResult] = {}
        taken: list[tuple[Reading, Issued]] = []

        def denied(session: Session, error: Denied) -> str | None:
            return self.permissions.denied(client, key, b64decode(session.msg), error) if self.permissions else None

        for turn in _turns(request.sessions, str(int(share.identifier))):
            readings: list[Reading] = []
            for name, outcome in reader.read(turn, judged, denied).items():
                if isinstance(outcome, Reading):
                    readings.append(outcome)
                else:
                    results[name] = outcome
            found = self.nonces.take(client, key, [(each.mine, each.points) for each in readings])
            for reading, issued in zip(readings, found, strict=True):
                if isinstance(issued, Issued):
                    taken.append((reading, issued))
                else:
                    name = reading.session.session
                    results[name] = ShareResult(session=name, error=issued)
        return results | self._signed(key, share, taken)

    def _signed(self, key: str, share: KeyPackage, taken: Sequence[tuple[Reading, Issued]]) -> dict[str, ShareResult]:
        if not taken:
            return {}
        own = int(share.identifier)
        asked = []
        uses = []
        for reading, issued in taken:
            package = SigningPackage({**reading.others, own: issued.commitments}, reading.message)
            asked.append((package, issued.nonces, share))
            session = reading.session
            uses.append(Use(reading.mine, key, package.sha256(), session.session, session.request))
        if self._on_used is not None:
            self._on_used(uses)
        signed = round2.sign_many(asked)
        return {use.session: _result(use.session, each) for use, each in zip(uses, signed, strict=True)}

    def _replenish(self, client: str, key: str, share: KeyPackage, count: int) -> list[Commitment]:
        """The shares are paid for: that the client lost its place meanwhile must not lose them."""
        try:
            return self.nonces.issue(client, key, share, count) if count else []
        except TooManyClients:
            return []


def _turns(sessions: Sequence[Session], own: str) -> Iterator[list[Session]]:
    """The sessions in turns, in which no two name one commitment of ours: the second must see what the first took."""
    waiting = list(sessions)
    while waiting:
        named: set[str] = set()
        turn: list[Session] = []
        later: list[Session] = []
        for session in waiting:
            mine = session.commitments.get(own)
            (later if mine is not None and mine.id in named else turn).append(session)
            named |= {mine.id} if mine is not None else set()
        yield turn
        waiting = later


def _result(session: str, signed: round2.SignatureShare | FrostError) -> ShareResult:
    if isinstance(signed, FrostError):
        return ShareResult(session=session, error="malformed")
    return ShareResult(session=session, share=b64encode(signed.serialize()))


def _describe(share: KeyPackage) -> KeyInfo:
    return KeyInfo(
        identifier=int(share.identifier),
        min_signers=share.min_signers,
        group_public=b64encode(share.verifying_key.serialize()),
        verifying_share=b64encode(share.verifying_share.serialize()),
    )
