"""Round two: signature shares (RFC 9591, section 5.2)."""

from frost_ed25519._native import SignatureShare, sign, sign_many

__all__ = ["SignatureShare", "sign", "sign_many"]
