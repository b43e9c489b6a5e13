"""The native half of `frost_ed25519`. Import the names from there.

The four classes of the key generation have the crate's names only where they
are exported: `frost_ed25519.keys.dkg.round1` and `frost_ed25519.keys.dkg.round2`.

All classes are final and immutable. Public values compare by value, hash, copy
and pickle. Secret ones (`SigningKey`, `SecretShare`, `KeyPackage`,
`SigningNonces`, the secret packages, `Round2Package`) compare by identity only,
show no secret, and refuse to be copied or pickled; their memory is wiped when
they are used up and when they go.

`serialize` and `deserialize` are the crate's byte form, `to_json` and
`from_json` its JSON form. Reading raises `DeserializationError` or one of its
subclasses; only the one byte encoding of a value is accepted, and no JSON that
names a participant twice (`DuplicatedIdentifier`) or has an array for an object.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn, Self, TypeAlias, TypeVar, final

from frost_ed25519.exceptions import FrostError

__all__ = [
    "CIPHERSUITE",
    "Identifier",
    "KeyPackage",
    "PublicKeyPackage",
    "Round1Package",
    "Round1SecretPackage",
    "Round2Package",
    "Round2SecretPackage",
    "SecretShare",
    "Signature",
    "SignatureShare",
    "SigningCommitments",
    "SigningKey",
    "SigningNonces",
    "SigningPackage",
    "VerifiableSecretSharingCommitment",
    "VerifyingKey",
    "VerifyingShare",
    "__version__",
    "aggregate",
    "aggregate_many",
    "commit",
    "commit_many",
    "decode_many",
    "generate_with_dealer",
    "part1",
    "part2",
    "part3",
    "sign",
    "sign_many",
    "split",
    "verify_many",
    "verify_signature_share",
]

CIPHERSUITE: Final[str]
"""The name of the ciphersuite, `FROST-ED25519-SHA512-v1` (RFC 9591, section 6.1)."""

__version__: Final[str]
"""The version of this distribution."""

_V = TypeVar("_V")

_ByIdentifier: TypeAlias = (
    Mapping[Identifier, _V] | Mapping[int, _V] | Mapping[Identifier | int, _V]
)

@final
class Identifier:
    """Who a share belongs to: a nonzero scalar (RFC 9591, section 3.1).

    Made from an int from 1 to 65535. Other scalars come from `derive` and
    `deserialize`. Ordered by value, hashable, immutable. Not equal to an int.
    """

    def __new__(cls, value: int, /) -> Self:
        """Make the identifier of an int from 1 to 65535.

        Raises `IdentifierOutOfRange` for other ints, `TypeError` for a bool.
        """
    @staticmethod
    def derive(data: bytes) -> Identifier:
        """Derive an identifier from any bytes, such as a name or an address.

        The crate's own convenience (hash to a scalar); not part of RFC 9591.
        """
    def __int__(self) -> int:
        """Give the int back, 1 to 65535.

        Raises `IdentifierOutOfRange` if the identifier is another scalar.
        """
    def serialize(self) -> bytes:
        """Give the byte form: 32 bytes, the scalar little-endian."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` (`MalformedScalar`, `InvalidZeroScalar`).
        """
    def to_json(self) -> str:
        """Give the JSON form: the byte form in hexadecimal."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __lt__(self, other: Identifier, /) -> bool: ...
    def __le__(self, other: Identifier, /) -> bool: ...
    def __gt__(self, other: Identifier, /) -> bool: ...
    def __ge__(self, other: Identifier, /) -> bool: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class VerifyingKey:
    """A group's public key. To everyone outside it is a plain Ed25519 public key."""

    def verify(self, message: bytes, signature: Signature) -> None:
        """Check an Ed25519 signature on a message (RFC 8032; RFC 9591, section 5.3).

        Raises `InvalidSignature` if it is bad.
        """
    def serialize(self) -> bytes:
        """Give the byte form: 32 bytes, the RFC 8032 public key."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` (`MalformedElement`, `InvalidIdentityElement`,
        `InvalidNonPrimeOrderElement`).
        """
    def to_json(self) -> str:
        """Give the JSON form: the byte form in hexadecimal."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class Signature:
    """An Ed25519 signature (RFC 9591, section 5.3; RFC 8032)."""

    def serialize(self) -> bytes:
        """Give the byte form: 64 bytes, R then z."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` (`MalformedSignature`, or what is wrong
        with R or z).
        """
    def to_json(self) -> str:
        """Give the JSON form: the byte form in hexadecimal."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class SigningKey:
    """A whole private key, held only to be split. It cannot be read back.

    Secret.
    """

    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read a private scalar: 32 bytes, little-endian, canonical, not zero.

        Raises `MalformedScalar` or `MalformedSigningKey`.
        """
    @classmethod
    def from_ed25519_seed(cls, seed: bytes, /) -> Self:
        """Read an RFC 8032 private key, the 32-byte seed of ordinary Ed25519 keys.

        The public key stays the one the seed has everywhere else.
        Raises `MalformedSigningKey` for another length.
        """
    @property
    def verifying_key(self) -> VerifyingKey:
        """The public key."""
    def __reduce__(self) -> NoReturn: ...

@final
class VerifyingShare:
    """One participant's public key share, to check its signature shares with."""

    def serialize(self) -> bytes:
        """Give the byte form: 32 bytes."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` (`MalformedElement`, `InvalidIdentityElement`,
        `InvalidNonPrimeOrderElement`).
        """
    def to_json(self) -> str:
        """Give the JSON form: the byte form in hexadecimal."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class VerifiableSecretSharingCommitment:
    """Commitments to the coefficients of a secret polynomial (RFC 9591, appendix C.2).

    Everyone in a group must have the same one; the first element is the group's
    public key and their number is the threshold.
    """

    def serialize(self) -> list[bytes]:
        """Give the encoded coefficient commitments, 32 bytes each, constant term first."""
    @classmethod
    def deserialize(cls, coefficients: Sequence[bytes], /) -> Self:
        """Read what `serialize` gives.

        Raises `DeserializationError` for an element that is none, and
        `IncorrectNumberOfCommitments` unless there are 2 to 65535.
        """
    def serialize_whole(self) -> bytes:
        """Give the same in one piece."""
    @classmethod
    def deserialize_whole(cls, data: bytes, /) -> Self:
        """Read what `serialize_whole` gives.

        Raises as `deserialize` does; `InvalidCoefficient` for a length that is
        no multiple of 32.
        """
    def to_json(self) -> str:
        """Give the JSON form: a list of the elements in hexadecimal."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises as `deserialize` does.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class SecretShare:
    """A dealt share and the dealer's commitment (RFC 9591, appendix C).

    Secret. `serialize` and `to_json` contain the share.
    """

    @property
    def identifier(self) -> Identifier:
        """Whose share it is."""
    @property
    def commitment(self) -> VerifiableSecretSharingCommitment:
        """The dealer's commitment; must be the same for all participants."""
    def verify(self) -> tuple[VerifyingShare, VerifyingKey]:
        """Check the share against the commitment (RFC 9591, appendix C.2, `vss_verify`).

        Raises `InvalidSecretShare` if it does not fit.
        """
    def serialize(self) -> bytes:
        """Give the byte form. It contains the share."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` or `IncorrectNumberOfCommitments`. Does
        not `verify`.
        """
    def to_json(self) -> str:
        """Give the JSON form. It contains the share."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError` or `IncorrectNumberOfCommitments`. Does
        not `verify`.
        """
    def __reduce__(self) -> NoReturn: ...

@final
class KeyPackage:
    """A participant's signing share with the public facts it belongs to.

    Secret. `serialize` and `to_json` contain the share; nothing else shows it.
    """

    @classmethod
    def from_secret_share(cls, secret_share: SecretShare) -> Self:
        """Verify a dealt share and make it a key package (RFC 9591, appendix C.2).

        Raises `InvalidSecretShare` if it does not fit the dealer's commitment.
        """
    @property
    def identifier(self) -> Identifier:
        """Whose key package it is."""
    @property
    def verifying_share(self) -> VerifyingShare:
        """The participant's public key share."""
    @property
    def verifying_key(self) -> VerifyingKey:
        """The group's public key."""
    @property
    def min_signers(self) -> int:
        """The threshold, t."""
    def serialize(self) -> bytes:
        """Give the byte form. It contains the share."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError`, `InvalidKeyPackage` if the signing share
        does not belong to the verifying share, or `InvalidMinSigners`.
        """
    def to_json(self) -> str:
        """Give the JSON form. It contains the share."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`, `InvalidKeyPackage` if the signing share
        does not belong to the verifying share, or `InvalidMinSigners`.
        """
    def __reduce__(self) -> NoReturn: ...

@final
class PublicKeyPackage:
    """A group's public key and the public key shares of its participants."""

    def __new__(
        cls,
        verifying_shares: _ByIdentifier[VerifyingShare],
        verifying_key: VerifyingKey,
        min_signers: int | None,
    ) -> Self:
        """Put a package together. Whether the parts belong together is not checked.

        Raises `InvalidMaxSigners`, `InvalidMinSigners`, `DuplicatedIdentifier` or
        `IdentifierOutOfRange`.
        """
    @classmethod
    def from_commitment(
        cls,
        identifiers: Iterable[Identifier | int],
        commitment: VerifiableSecretSharingCommitment,
    ) -> Self:
        """Compute the package of a dealt group from the dealer's commitment.

        Raises as the constructor does.
        """
    @classmethod
    def from_dkg_commitments(
        cls, commitments: _ByIdentifier[VerifiableSecretSharingCommitment]
    ) -> Self:
        """Compute the package of a group that generated its key itself.

        `commitments` has those of all participants. Raises as the constructor
        does; `IncorrectNumberOfCommitments` if their lengths differ.
        """
    @property
    def verifying_shares(self) -> dict[Identifier, VerifyingShare]:
        """The participants' public key shares; a new dict, ascending."""
    @property
    def verifying_key(self) -> VerifyingKey:
        """The group's public key."""
    @property
    def min_signers(self) -> int | None:
        """The threshold, t; `None` in packages older than version 3 of the crate."""
    @property
    def max_signers(self) -> int:
        """The number of participants, n."""
    def serialize(self) -> bytes:
        """Give the byte form."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError`, `InvalidMaxSigners` or `InvalidMinSigners`.
        """
    def to_json(self) -> str:
        """Give the JSON form."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`, `InvalidMaxSigners` or `InvalidMinSigners`.
        """
    def to_bincode(self) -> bytes:
        """Give the bytes that bincode 1 makes of the package.

        Versions 1 and 2 of the crate, which know no `min_signers`, stop reading
        before it.
        """
    @classmethod
    def from_bincode(cls, data: bytes, /) -> Self:
        """Read the bytes that bincode 1 makes of a package of version 1, 2 or 3 of the crate.

        Raises `DeserializationError`, `DuplicatedIdentifier`, `InvalidMaxSigners` or
        `InvalidMinSigners`; the message begins with the field that is wrong.
        """
    def derive_min_signers(self) -> int:
        """Compute the threshold from the verifying shares and the group's key.

        It is the smallest number of shares that give all others and the key,
        whatever `min_signers` says. Takes time in proportion to the square of
        `max_signers`; wrong with a chance below 2^-230.

        Raises `InvalidPublicKeyPackage` if the shares and the key do not belong
        together, and `InvalidMinSigners` if every share alone gives the key.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class SigningNonces:
    """A participant's nonces for one signature (RFC 9591, section 5.1).

    Using them twice would reveal the signing share, so they can be used once,
    by the process that made them, and cannot be stored. Secret.
    """

    @property
    def commitments(self) -> SigningCommitments:
        """The public commitments to these nonces."""
    @property
    def consumed(self) -> bool:
        """Whether they have been used, or belong to another process."""
    def __reduce__(self) -> NoReturn: ...

@final
class SigningCommitments:
    """A participant's published commitments for one signature (RFC 9591, section 5.1)."""

    def __new__(cls, hiding: bytes, binding: bytes) -> Self:
        """Put them together from two encoded group elements, 32 bytes each.

        Raises `MalformedElement`, `InvalidIdentityElement` or
        `InvalidNonPrimeOrderElement`.
        """
    @property
    def hiding(self) -> bytes:
        """The commitment to the hiding nonce, 32 bytes."""
    @property
    def binding(self) -> bytes:
        """The commitment to the binding nonce, 32 bytes."""
    def serialize(self) -> bytes:
        """Give the byte form."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError`.
        """
    def to_json(self) -> str:
        """Give the JSON form."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class SigningPackage:
    """The message and the commitments of all participants of one signature.

    What the coordinator sends out for round two (RFC 9591, section 5.2).
    """

    def __new__(
        cls, signing_commitments: _ByIdentifier[SigningCommitments], message: bytes
    ) -> Self:
        """Put a package together.

        Raises `DuplicatedIdentifier` or `IdentifierOutOfRange`.
        """
    @property
    def signing_commitments(self) -> dict[Identifier, SigningCommitments]:
        """The commitments by participant; a new dict, ascending."""
    def signing_commitment(self, identifier: Identifier | int, /) -> SigningCommitments | None:
        """Give the commitments of one participant."""
    @property
    def message(self) -> bytes:
        """The message to sign."""
    def sha256(self) -> bytes:
        """Give the SHA-256 of the byte form, 32 bytes."""
    def serialize(self) -> bytes:
        """Give the byte form."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError`.
        """
    def to_json(self) -> str:
        """Give the JSON form."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class SignatureShare:
    """One participant's part of a signature (RFC 9591, section 5.2)."""

    def serialize(self) -> bytes:
        """Give the byte form: 32 bytes, a scalar little-endian."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` (`MalformedScalar`).
        """
    def to_json(self) -> str:
        """Give the JSON form."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class Round1SecretPackage:
    """What a participant keeps between part 1 and part 2 of the key generation.

    Secret. Used once, by `part2`, in the process that made it; has no byte form.
    """

    @property
    def identifier(self) -> Identifier:
        """Whose it is."""
    @property
    def consumed(self) -> bool:
        """Whether it has been used, or belongs to another process."""
    def __reduce__(self) -> NoReturn: ...

@final
class Round1Package:
    """What a participant broadcasts after part 1.

    Its commitment, and a proof that it knows the secret in it. Public, but the
    channel must be authentic, and everyone must receive the same.
    """

    def __new__(
        cls, commitment: VerifiableSecretSharingCommitment, proof_of_knowledge: Signature
    ) -> Self:
        """Put a package together. The proof is checked by `part2`."""
    @property
    def commitment(self) -> VerifiableSecretSharingCommitment:
        """The commitment to the participant's polynomial."""
    @property
    def proof_of_knowledge(self) -> Signature:
        """The proof that the participant knows its constant term."""
    def serialize(self) -> bytes:
        """Give the byte form."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError` or `IncorrectNumberOfCommitments`.
        """
    def to_json(self) -> str:
        """Give the JSON form."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError` or `IncorrectNumberOfCommitments`.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[object, tuple[bytes]]: ...

@final
class Round2SecretPackage:
    """What a participant keeps between part 2 and part 3 of the key generation.

    Secret. Used once, by `part3`, in the process that made it; has no byte form.
    """

    @property
    def identifier(self) -> Identifier:
        """Whose it is."""
    @property
    def consumed(self) -> bool:
        """Whether it has been used, or belongs to another process."""
    def __reduce__(self) -> NoReturn: ...

@final
class Round2Package:
    """What a participant sends to one other participant after part 2.

    On a confidential and authentic channel. Secret: `serialize` and `to_json`
    contain the share it carries.
    """

    def __new__(cls, signing_share: bytes) -> Self:
        """Make one from a signing share, a scalar of 32 bytes.

        Raises `MalformedScalar`.
        """
    def serialize(self) -> bytes:
        """Give the byte form. It contains the share."""
    @classmethod
    def deserialize(cls, data: bytes, /) -> Self:
        """Read the byte form.

        Raises `DeserializationError`.
        """
    def to_json(self) -> str:
        """Give the JSON form. It contains the share."""
    @classmethod
    def from_json(cls, text: str, /) -> Self:
        """Read the JSON form.

        Raises `DeserializationError`.
        """
    def __reduce__(self) -> NoReturn: ...

def generate_with_dealer(
    max_signers: int,
    min_signers: int,
    identifiers: Iterable[Identifier | int] | None = None,
) -> tuple[dict[Identifier, SecretShare], PublicKeyPackage]:
    """Generate a key and split it at once (RFC 9591, appendix C).

    The whole key never exists outside this call. `max_signers` is n, 2 to 65535;
    `min_signers` is t, 2 to n; `identifiers` are those of the participants, by
    default 1 to n. Returns the secret share of each participant and the group's
    public data. Time and memory grow with n times t.

    Raises `InvalidMaxSigners`, `InvalidMinSigners`, `IncorrectNumberOfIdentifiers`,
    `DuplicatedIdentifier` or `IdentifierOutOfRange`.
    """

def split(
    signing_key: SigningKey,
    max_signers: int,
    min_signers: int,
    identifiers: Iterable[Identifier | int] | None = None,
) -> tuple[dict[Identifier, SecretShare], PublicKeyPackage]:
    """Split an existing key (RFC 9591, appendix C).

    The caller still has the key: destroying it is the caller's part. The rest
    is as in `generate_with_dealer`.
    """

def part1(
    identifier: Identifier | int, max_signers: int, min_signers: int
) -> tuple[Round1SecretPackage, Round1Package]:
    """Choose a secret and commit to it.

    Returns the secret package to keep and the package to broadcast.
    Raises `InvalidMaxSigners`, `InvalidMinSigners` or `IdentifierOutOfRange`.
    """

def part2(
    secret_package: Round1SecretPackage, round1_packages: _ByIdentifier[Round1Package]
) -> tuple[Round2SecretPackage, dict[Identifier, Round2Package]]:
    """Check what the others broadcast, and make a share for each of them.

    `round1_packages` has the packages of all other participants. The secret
    package is gone afterwards, whatever comes of it. Returns the secret package
    to keep, and the package to send to each participant.

    Raises `SecretPackageReused`, `ForkedSecretPackage` (a `SecretPackageReused`)
    in another process than the one that made it, `InvalidProofOfKnowledge` with
    the culprit, `IncorrectNumberOfPackages`, `IncorrectNumberOfCommitments` or
    `UnknownIdentifier`.
    """

def part3(
    secret_package: Round2SecretPackage,
    round1_packages: _ByIdentifier[Round1Package],
    round2_packages: _ByIdentifier[Round2Package],
) -> tuple[KeyPackage, PublicKeyPackage]:
    """Check the shares the others sent, and derive the key package.

    `round1_packages` must be those of part 2; `round2_packages` are those sent
    to this participant. The secret package is gone afterwards, whatever comes of it.

    Raises `SecretPackageReused`, `ForkedSecretPackage` as `part2` does,
    `InvalidSecretShare` with the culprit,
    `IncorrectPackage` if the packages of the two rounds are not of the same
    participants or those of round 1 are others than in part 2,
    `IncorrectNumberOfPackages` or `UnknownIdentifier`.
    """

def commit(key_package: KeyPackage) -> tuple[SigningNonces, SigningCommitments]:
    """Draw nonces for one signature and commit to them (RFC 9591, section 5.1).

    The nonces stay with the participant; the commitments go to the coordinator.
    """

def commit_many(
    key_package: KeyPackage, count: int
) -> list[tuple[SigningNonces, SigningCommitments]]:
    """Commit for each of `count` signatures (0 to 65535), as `commit` does.

    Raises `InvalidValue` for another count.
    """

def decode_many(
    points: Sequence[tuple[bytes, bytes]],
) -> list[SigningCommitments | FrostError]:
    """Make `SigningCommitments(hiding, binding)` of each pair, in their order.

    A pair that it would have refused is that exception instead, which harms no
    other. Raises nothing but `TypeError`.
    """

def sign(
    signing_package: SigningPackage, nonces: SigningNonces, key_package: KeyPackage
) -> SignatureShare:
    """Make this participant's signature share (RFC 9591, section 5.2).

    The nonces are gone before anything is computed, whatever comes of it.

    Raises `NonceReused` on their second use, `ForkedNonces` (a `NonceReused`) in
    another process than the one that made them, `MissingCommitment` or
    `IncorrectCommitment` if the package does not have these nonces' commitments,
    and `IncorrectNumberOfCommitments` if it has fewer than the threshold.
    """

def sign_many(
    requests: Sequence[tuple[SigningPackage, SigningNonces, KeyPackage]],
) -> list[SignatureShare | FrostError]:
    """Make a signature share for each request, in their order, as `sign` does.

    All nonces are gone before anything is computed, whatever comes of each. An
    item that `sign` would have refused is that exception instead, which harms no
    other; where an item has the nonces of one before it, it is the `NonceReused`.

    Raises nothing but `TypeError`, and then no nonces are gone.
    """

def aggregate(
    signing_package: SigningPackage,
    signature_shares: _ByIdentifier[SignatureShare],
    public_key_package: PublicKeyPackage,
) -> Signature:
    """Add the shares up to a signature, and verify it (RFC 9591, section 5.3).

    Raises `InvalidSignatureShare` with all participants whose share is bad,
    `UnknownIdentifier` if the three do not have the same participants, and
    `IncorrectNumberOfShares` if they are fewer than the threshold.
    """

def aggregate_many(
    requests: Sequence[tuple[SigningPackage, _ByIdentifier[SignatureShare], PublicKeyPackage]],
) -> list[Signature | FrostError]:
    """Make a verified signature of each request, in their order, as `aggregate` does.

    An item that `aggregate` would have refused is that exception instead, with
    the same culprits, which harms no other. Raises nothing but `TypeError`.

    The signatures are verified together, up to 32 at a time. 2, 8 and 32 of them
    take 0.87, 0.71 and 0.64 of the processor time of as many calls of `aggregate`
    (two signers; with five 0.91, 0.78 and 0.72). Where one is bad, each of those
    it was verified with is aggregated again by itself, and it takes 1.7 of it.
    """

def verify_many(
    requests: Sequence[tuple[VerifyingKey, bytes, Signature]],
) -> list[FrostError | None]:
    """Check an Ed25519 signature (key, message, signature) for each request, in their order.

    `None` stands for a good one, and `InvalidSignature` for a bad one, exactly as
    `VerifyingKey.verify` finds. Raises nothing but `TypeError`.

    They are verified together, up to 32 at a time. 2, 8 and 32 of them take 0.77,
    0.43 and 0.36 of the processor time of as many calls of `verify`. Where one is
    bad, each of those it was verified with is checked again by itself.
    """

def verify_signature_share(
    identifier: Identifier | int,
    verifying_share: VerifyingShare,
    signature_share: SignatureShare,
    signing_package: SigningPackage,
    verifying_key: VerifyingKey,
) -> None:
    """Check one signature share (RFC 9591, section 5.3).

    Raises `InvalidSignatureShare` if it is bad, and `UnknownIdentifier` if the
    signing package has nothing of this participant.
    """
