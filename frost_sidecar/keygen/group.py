"""``group.json``: the public side of a group key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Group:
    """A group key: who shares it, how many must sign, and what verifies (RFC 9591, section 4.1, and RFC 8032)."""

    name: str
    min_signers: int
    package: frost.keys.PublicKeyPackage
    verifying_key: frost.VerifyingKey
    public: bytes
    """The Ed25519 public key, 32 bytes."""
    identifiers: frozenset[int]

    @classmethod
    def load(cls, name: str, path: Path, min_signers: int | None = None) -> Group:
        """Read the crate's JSON of a ``PublicKeyPackage``.

        Raises:
            ConfigError: the file is missing or wrong, or says another threshold than ``min_signers``.
        """
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read the group file {path}: {error.strerror}", path=f"keys.{name}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not a JSON file", path=f"keys.{name}") from None
        try:
            package = frost.keys.PublicKeyPackage.from_json(text)
            identifiers = frozenset(int(each) for each in package.verifying_shares)
        except (frost.FrostError, ValueError) as error:
            raise ConfigError(f"{path} is not a public key package: {error}", path=f"keys.{name}") from None
        threshold = package.min_signers or min_signers
        if threshold is None:
            raise ConfigError(f"{path} does not say the threshold; set it", path=f"keys.{name}.min_signers")
        if min_signers not in (None, threshold):
            raise ConfigError(f"{path} says {threshold}, not {min_signers}", path=f"keys.{name}.min_signers")
        if not 2 <= threshold <= len(identifiers):
            raise ConfigError(f"{path}: {threshold} of {len(identifiers)} is no threshold", path=f"keys.{name}")
        key = package.verifying_key
        return cls(name, threshold, package, key, key.serialize(), identifiers)
