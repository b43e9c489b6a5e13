"""Writing key material: complete or not at all, and never readable for others."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen import group_file


def write_new(path: Path, text: str, *, mode: int) -> None:
    """Create ``path`` with ``text`` atomically and durably.

    Raises:
        FileExistsError: there is such a file already; a key share is never overwritten.
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_group(
    folder: Path, package: frost.keys.PublicKeyPackage, shares: Mapping[int, frost.keys.KeyPackage]
) -> tuple[Path, dict[int, Path]]:
    """Write ``share-I.json`` (mode 0600) for each signer I in ``shares``, and ``group.json``; say where they are.

    Existing files are never overwritten: then nothing new stays behind.

    Raises:
        ConfigError: a file exists or cannot be written.
    """
    group = folder / "group.json"
    paths = {identifier: folder / f"share-{identifier}.json" for identifier in shares}
    written: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for identifier, share in shares.items():
            write_new(paths[identifier], share.to_json(), mode=0o600)
            written.append(paths[identifier])
        write_new(group, group_file.encode(package), mode=0o644)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ConfigError(f"cannot write {error.filename2 or error.filename}: {error.strerror}") from None
        raise
    return group, paths
