"""``group.json``: the public side of a group key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen import content, group_file


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
        """Read a public key package in one of the forms of ``group.json`` (docs/key-files.md).

        Raises:
            ConfigError: the file is missing or wrong, or its threshold is another than ``min_signers``. The message
                names the file, and the field in it.
        """
        try:
            data, _ = content.read(path)
        except OSError as error:
            raise ConfigError(f"cannot read the group file {path}: {error.strerror}", path=f"keys.{name}") from None
        except content.WrongContent as error:
            raise ConfigError(f"cannot read the group file {path}: it {error}", path=f"keys.{name}") from None
        try:
            package, threshold = group_file.decode(data)
        except content.WrongContent as error:
            raise ConfigError(f"{path}: {error}", path=f"keys.{name}") from None
        if min_signers not in (None, threshold):
            raise ConfigError(
                f"says {min_signers}, but {path} is of a {threshold}-of-{package.max_signers} group",
                path=f"keys.{name}.min_signers",
            )
        key = package.verifying_key
        identifiers = frozenset(int(each) for each in package.verifying_shares)
        return cls(name, threshold, package, key, key.serialize(), identifiers)
