"""Keys, their shares, and key generation by a trusted dealer (RFC 9591, appendix C).

Key generation without a dealer is in `frost_ed25519.keys.dkg`.
"""

from frost_ed25519._native import (
    KeyPackage,
    PublicKeyPackage,
    SecretShare,
    VerifiableSecretSharingCommitment,
    VerifyingShare,
    generate_with_dealer,
    split,
)
from frost_ed25519.keys import dkg

__all__ = [
    "KeyPackage",
    "PublicKeyPackage",
    "SecretShare",
    "VerifiableSecretSharingCommitment",
    "VerifyingShare",
    "dkg",
    "generate_with_dealer",
    "split",
]
