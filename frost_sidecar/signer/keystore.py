"""Loads key shares from files that nobody else can read.

A share is parsed once into the binding's opaque object, and only that object travels on. No error of this module
carries a byte of the file: not in its message, and not as its context, which crash reporters print.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from frost_ed25519 import FrostError
from frost_ed25519.keys import KeyPackage

from frost_sidecar.errors import ConfigError

_MAX_SHARE_BYTES = 64 * 1024


def load_shares(files: Mapping[str, Path]) -> dict[str, KeyPackage]:
    """The key shares, by key name.

    Raises:
        ConfigError: a file cannot be read, is open to others, or holds no key package; names the file.
    """
    return {key: load_share(path, setting=f"keys.{key}.share") for key, path in files.items()}


def load_share(path: Path, *, setting: str) -> KeyPackage:
    """The key share in ``path``; a symbolic link is followed, and what it leads to is checked."""
    content = _read_private(path, setting)
    share = _parse(content)
    if share is None:
        raise ConfigError(f"{path} holds no key package of frost-ed25519 (JSON, version 3)", path=setting)
    return share


def _parse(content: bytes) -> KeyPackage | None:
    try:
        share = KeyPackage.from_json(content.decode("utf-8"))
        int(share.identifier)
    except (FrostError, ValueError):
        return None
    return share


def _read_private(path: Path, setting: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", path=setting) from None
    try:
        _check(os.fstat(descriptor), path, setting)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MAX_SHARE_BYTES)
    finally:
        os.close(descriptor)


def _check(status: os.stat_result, path: Path, setting: str) -> None:
    """Check the opened file, so that nobody can exchange it between the check and the reading."""
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a file", path=setting)
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{path} holds a key share and is open to other users (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run: chmod 600 {path}",
            path=setting,
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{path} holds a key share and belongs to user {status.st_uid}; "
            f"it must belong to root or to this process's user, {os.geteuid()}",
            path=setting,
        )
    if status.st_size > _MAX_SHARE_BYTES:
        raise ConfigError(f"{path} is too large for a key share", path=setting)
