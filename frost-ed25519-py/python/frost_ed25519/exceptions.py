"""Everything `frost_ed25519` raises on purpose.

`FrostError` is the root. A class that blames a value the caller passed is a
`ValueError` too. The names are those of the crate's error type; the groups
between are this library's. No message contains an input value.

Values of the wrong Python type raise `TypeError`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frost_ed25519._native import Identifier


class FrostError(Exception):
    """Something this library refused or could not do."""


class InvalidValue(FrostError, ValueError):
    """The caller's values cannot be used."""


# What was used up


class AlreadyConsumed(FrostError):
    """A secret that works once was used before, or is in a fork of its process."""


class NonceReused(AlreadyConsumed):
    """Signing nonces were used before. Using them again would reveal the key share."""


class ForkedNonces(NonceReused):
    """Signing nonces belong to the process that made them, and this is a fork of it.

    Each has a copy: had both signed with it, the key share would be known.
    """


class SecretPackageReused(AlreadyConsumed):
    """A secret package of the key generation was used before."""


class ForkedSecretPackage(SecretPackageReused):
    """A secret package belongs to the process that made it, and this is a fork of it."""


# The shape of a group


class InvalidGroup(InvalidValue):
    """The numbers of a t-of-n group are impossible."""


class InvalidMinSigners(InvalidGroup):
    """`min_signers` is below 2 or above `max_signers`."""


class InvalidMaxSigners(InvalidGroup):
    """`max_signers` is below 2 or above 65535."""


class InvalidCoefficients(InvalidGroup):
    """The number of polynomial coefficients does not fit `min_signers`."""


# Identifiers


class IdentifierError(InvalidValue):
    """Identifiers that are malformed, or do not fit together."""


class IdentifierOutOfRange(IdentifierError):
    """An int that is no identifier (1 to 65535), or an identifier that is no such int."""


class MalformedIdentifier(IdentifierError):
    """An identifier that cannot be encoded."""


class DuplicatedIdentifier(IdentifierError):
    """The same participant twice."""


class UnknownIdentifier(IdentifierError):
    """A participant that does not take part here."""


class IncorrectNumberOfIdentifiers(IdentifierError):
    """The number of identifiers is not `max_signers`."""


# Encodings


class SerializationError(FrostError):
    """A value that has no encoding, such as one with the identity element in it."""


class DeserializationError(InvalidValue):
    """Bytes or text that encode no value of the type asked for."""


class MalformedSigningKey(DeserializationError):
    """Not a private key."""


class MalformedVerifyingKey(DeserializationError):
    """Not a public key."""


class MalformedSignature(DeserializationError):
    """Not 64 bytes."""


class MalformedScalar(DeserializationError):
    """Not the canonical encoding of a scalar (32 bytes, below the group order)."""


class InvalidZeroScalar(DeserializationError):
    """A zero scalar where it must not be."""


class MalformedElement(DeserializationError):
    """Not the canonical encoding of a group element (32 bytes)."""


class InvalidIdentityElement(DeserializationError):
    """The identity element, which is never valid."""


class InvalidNonPrimeOrderElement(DeserializationError):
    """A point outside the prime-order group."""


class InvalidCoefficient(DeserializationError):
    """Not a sequence of coefficient commitments."""


class InvalidKeyPackage(DeserializationError):
    """A key package whose signing share does not belong to its verifying share."""


class InvalidPublicKeyPackage(DeserializationError):
    """A public key package whose group key does not belong to its verifying shares."""


# Sets of contributions


class ContributionError(InvalidValue):
    """The contributions of the participants do not fit together."""


class DuplicatedShares(ContributionError):
    """The same share twice."""


class IncorrectNumberOfShares(ContributionError):
    """Fewer signature shares than the threshold."""


class IdentityCommitment(ContributionError):
    """A signing commitment is the identity."""


class MissingCommitment(ContributionError):
    """The signing package has no commitments of this participant."""


class IncorrectCommitment(ContributionError):
    """The signing package has other commitments of this participant than its nonces'."""


class IncorrectNumberOfCommitments(ContributionError):
    """Fewer commitments than the threshold, or another number of coefficients."""


class PackageNotFound(ContributionError):
    """A round 1 package is missing."""


class IncorrectNumberOfPackages(ContributionError):
    """Another number of packages than there are other participants."""


class IncorrectPackage(ContributionError):
    """The packages are not those of the same participants, or not those of the part before."""


# Failed checks


class InvalidSignature(FrostError):
    """The signature is not one by this key on this message."""


class CulpritError(FrostError):
    """A contribution failed its check.

    `culprits` are the participants whose it was, in ascending order; empty
    where the check cannot tell.
    """

    culprits: list[Identifier]

    def __init__(self, message: str, culprits: Sequence[Identifier] = ()) -> None:
        super().__init__(message, culprits)
        self.culprits = list(culprits)

    def __str__(self) -> str:
        message = str(self.args[0])
        if not self.culprits:
            return message
        return f"{message} Culprits: {', '.join(map(repr, self.culprits))}."


class InvalidSignatureShare(CulpritError):
    """Signature shares are bad; `culprits` has all participants whose share is."""


class InvalidSecretShare(CulpritError):
    """A secret share does not fit the commitment it came with."""


class InvalidProofOfKnowledge(CulpritError):
    """A participant does not prove that it knows the secret it committed to."""
