"""Key generation by a trusted dealer (RFC 9591, appendix C): quick, and one process saw the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.files import write_group


@dataclass(frozen=True, slots=True)
class Dealt:
    """Files that a dealer wrote, and the public key of the group."""

    group_public: bytes
    group_file: Path
    share_files: dict[int, Path]


def deal(folder: Path, *, min_signers: int, max_signers: int, existing: frost.SigningKey | None = None) -> Dealt:
    """Write ``group.json`` and ``share-I.json`` for each signer I into ``folder``.

    ``existing`` is split instead of a fresh key, so that the public key and all ``kid`` stay. Share files are the
    crate's ``KeyPackage`` as JSON, mode 0600. Existing files are never overwritten: then nothing new stays behind.

    Raises:
        ConfigError: the threshold is impossible, or a file exists or cannot be written.
    """
    if not 2 <= min_signers <= max_signers <= 255:
        raise ConfigError(f"{min_signers} of {max_signers} is no threshold: 2 <= t <= n <= 255 is needed")
    if existing is None:
        shares, package = frost.keys.generate_with_dealer(max_signers, min_signers)
    else:
        shares, package = frost.keys.split(existing, max_signers, min_signers)
    packages = {int(each): frost.keys.KeyPackage.from_secret_share(share) for each, share in shares.items()}
    group_file, share_files = write_group(folder, package, packages)
    return Dealt(package.verifying_key.serialize(), group_file, share_files)
