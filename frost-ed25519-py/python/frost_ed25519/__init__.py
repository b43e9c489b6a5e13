"""FROST(Ed25519, SHA-512), RFC 9591: threshold signatures that verify as plain Ed25519.

A binding to the Rust crate `frost-ed25519`, with its names. The rounds are in
`frost_ed25519.round1` and `frost_ed25519.round2`, keys and their generation in
`frost_ed25519.keys`, and all errors in `frost_ed25519.exceptions`.

Wherever an identifier is taken, an int from 1 to 65535 is taken too; maps that
come back are keyed by `Identifier`.
"""

from frost_ed25519 import exceptions, keys, round1, round2
from frost_ed25519._native import (
    CIPHERSUITE,
    Identifier,
    Signature,
    SigningKey,
    SigningPackage,
    VerifyingKey,
    __version__,
    aggregate,
    aggregate_many,
    verify_many,
    verify_signature_share,
)
from frost_ed25519.exceptions import (
    FrostError,
    InvalidSignature,
    InvalidSignatureShare,
    NonceReused,
)

__all__ = [
    "CIPHERSUITE",
    "FrostError",
    "Identifier",
    "InvalidSignature",
    "InvalidSignatureShare",
    "NonceReused",
    "Signature",
    "SigningKey",
    "SigningPackage",
    "VerifyingKey",
    "__version__",
    "aggregate",
    "aggregate_many",
    "exceptions",
    "keys",
    "round1",
    "round2",
    "verify_many",
    "verify_signature_share",
]
