"""Seals share files where they lie, opens them, and seals them anew with another key: each complete or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frost_ed25519 import FrostError
from frost_ed25519.keys import KeyPackage

from frost_sidecar.errors import ConfigError
from frost_sidecar.private_file import read_private, wipe
from frost_sidecar.sealing import MAX_SEALED_BYTES, CannotOpen, SealingKeys, is_sealed, sealed_kid

_MAX_SHARE_BYTES = 64 * 1024


@dataclass(frozen=True)
class SealedFile:
    """A file that a command left as it should be."""

    path: Path
    kid: str | None
    """The key that it is sealed with; None: it is not sealed."""
    changed: bool = True


def seal_files(paths: Sequence[Path], keys: SealingKeys) -> list[SealedFile]:
    """Seal shares with the newest key. All are read and sealed before the first is replaced.

    Raises:
        ConfigError: a file cannot be read or replaced, is sealed already, or holds no share.
    """
    contents = [(path, _seal(path, keys)) for path in _once(paths)]
    _replace_all(contents)
    return [SealedFile(path, keys.newest.kid) for path, _ in contents]


def reseal_files(paths: Sequence[Path], keys: SealingKeys) -> list[SealedFile]:
    """Open shares with whichever key they were sealed with, and seal them with the newest.

    One that is sealed with it already is opened, as a test, and stays as it is, so that a command that was interrupted
    can be given again.

    Raises:
        ConfigError: a file cannot be read, opened or replaced.
    """
    contents = [(path, _reseal(path, keys)) for path in _once(paths)]
    _replace_all([(path, new) for path, new in contents if new is not None])
    return [SealedFile(path, keys.newest.kid, changed=new is not None) for path, new in contents]


def unseal_files(paths: Sequence[Path], keys: SealingKeys) -> list[SealedFile]:
    """Open shares and leave them unsealed.

    Raises:
        ConfigError: a file cannot be read, opened or replaced.
    """
    contents = [(path, _open(path, _read(path), keys)) for path in _once(paths)]
    _replace_all(contents)
    return [SealedFile(path, None) for path, _ in contents]


def _once(paths: Sequence[Path]) -> list[Path]:
    """The files that the paths lead to, each once, so that a link stays one."""
    return list(dict.fromkeys(path.resolve() for path in paths))


def _read(path: Path) -> bytearray:
    return read_private(path, what="a key share", most=MAX_SEALED_BYTES, administrator=True)


def _seal(path: Path, keys: SealingKeys) -> bytearray:
    content = _read(path)
    try:
        if is_sealed(content):
            raise ConfigError(f"{path} is sealed already; `keygen reseal` changes its key")
        if len(content) > _MAX_SHARE_BYTES or not _is_share(content):
            raise ConfigError(f"{path} holds no key package of frost-ed25519 (JSON, version 3)")
        if path.stat().st_nlink > 1:
            raise ConfigError(f"{path} has further names (hard links), which would keep it unsealed; remove them first")
        return bytearray(keys.newest.seal(content) + b"\n")
    finally:
        wipe(content)


def _reseal(path: Path, keys: SealingKeys) -> bytearray | None:
    sealed = _read(path)
    content = _open(path, sealed, keys)
    try:
        if sealed_kid(sealed) == keys.newest.kid:
            return None
        return bytearray(keys.newest.seal(content) + b"\n")
    finally:
        wipe(content)


def _open(path: Path, sealed: bytearray, keys: SealingKeys) -> bytearray:
    if not is_sealed(sealed):
        wipe(sealed)
        raise ConfigError(f"{path} is not sealed")
    try:
        return keys.open(sealed)
    except CannotOpen as error:
        fault = str(error)
    raise ConfigError(f"{path} {fault}")


def _is_share(content: bytearray) -> bool:
    try:
        KeyPackage.from_json(content.decode("utf-8"))
    except (FrostError, ValueError):
        return False
    return True


def _replace_all(contents: Sequence[tuple[Path, bytearray]]) -> None:
    try:
        for path, content in contents:
            _replace(path, content)
    finally:
        for _, content in contents:
            wipe(content)


def _replace(path: Path, content: bytearray) -> None:
    """Put ``content`` in place of the file, atomically and durably, with its owner, group and mode.

    Root may prepare the files of a signer that runs as another user: they must stay readable for that user.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        status = path.stat()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, content)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o640)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot replace {path}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _write(descriptor: int, content: bytearray) -> None:
    with memoryview(content) as view:
        done = 0
        while done < len(content):
            done += os.write(descriptor, view[done:])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
