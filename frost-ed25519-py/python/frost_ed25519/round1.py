"""Round one: nonces and the commitments to them (RFC 9591, section 5.1)."""

from frost_ed25519._native import (
    SigningCommitments,
    SigningNonces,
    commit,
    commit_many,
    decode_many,
)

__all__ = ["SigningCommitments", "SigningNonces", "commit", "commit_many", "decode_many"]
