"""A group that signs, in as few lines as the tests need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from frost_ed25519 import Identifier, Signature, SigningPackage, aggregate, round1, round2
from frost_ed25519.keys import (
    KeyPackage,
    PublicKeyPackage,
    SecretShare,
    dkg,
    generate_with_dealer,
)

ELEMENT = bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")
"""The encoded base point (RFC 8032, section 5.1)."""

IDENTITY = bytes([1]) + bytes(31)
"""The encoded identity element."""

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""The order of the prime-order group (RFC 8032, section 5.1)."""

FIELD_ORDER = 2**255 - 19
"""The order of the field the coordinates are in."""


def scalar(value: int) -> bytes:
    """Encode a scalar, canonical or not."""
    return value.to_bytes(32, "little")


@dataclass(frozen=True)
class Session:
    """One signature on its way: the package, and everybody's share."""

    group: Group
    package: SigningPackage
    shares: dict[Identifier, round2.SignatureShare]

    def aggregate(self) -> Signature:
        """Let the coordinator finish."""
        return aggregate(self.package, self.shares, self.group.public)


@dataclass(frozen=True)
class Group:
    """All participants at once."""

    keys: dict[Identifier, KeyPackage]
    public: PublicKeyPackage
    shares: dict[Identifier, SecretShare] = field(default_factory=dict)

    def key(self, identifier: Identifier | int) -> KeyPackage:
        """Give one participant's key package."""
        return self.keys[self.identifier(identifier)]

    @staticmethod
    def identifier(identifier: Identifier | int) -> Identifier:
        """Make an identifier of either form."""
        return Identifier(identifier) if isinstance(identifier, int) else identifier

    def open(
        self, signers: Iterable[Identifier | int], message: bytes
    ) -> tuple[SigningPackage, dict[Identifier, round1.SigningNonces]]:
        """Go through round one."""
        nonces, commitments = {}, {}
        for signer in map(self.identifier, signers):
            nonces[signer], commitments[signer] = round1.commit(self.keys[signer])
        return SigningPackage(commitments, message), nonces

    def sign(self, signers: Iterable[Identifier | int], message: bytes) -> Session:
        """Go through both rounds."""
        package, nonces = self.open(signers, message)
        shares = {who: round2.sign(package, nonces[who], self.keys[who]) for who in nonces}
        return Session(self, package, shares)


def deal(
    max_signers: int, min_signers: int, identifiers: Iterable[Identifier | int] | None = None
) -> Group:
    """Have a dealer make a group."""
    shares, public = generate_with_dealer(max_signers, min_signers, identifiers)
    keys = {who: KeyPackage.from_secret_share(share) for who, share in shares.items()}
    return Group(keys, public, shares)


def generate(participants: Iterable[Identifier | int], min_signers: int) -> Group:
    """Have participants make a group among themselves."""
    everybody = [Group.identifier(participant) for participant in participants]
    secret1, broadcast = {}, {}
    for who in everybody:
        secret1[who], broadcast[who] = dkg.part1(who, len(everybody), min_signers)
    others = {
        who: {other: package for other, package in broadcast.items() if other != who}
        for who in everybody
    }
    secret2, sent = {}, {}
    for who in everybody:
        secret2[who], sent[who] = dkg.part2(secret1[who], others[who])
    keys, publics = {}, []
    for who in everybody:
        received = {other: sent[other][who] for other in everybody if other != who}
        keys[who], public = dkg.part3(secret2[who], others[who], received)
        publics.append(public)
    assert all(public == publics[0] for public in publics)
    return Group(keys, publics[0])
