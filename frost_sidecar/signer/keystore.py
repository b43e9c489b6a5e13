"""Loads key shares from files that nobody else can read, sealed or not.

A share is parsed once into the binding's opaque object, and only that object travels on. No error of this module
carries a byte of the file: not in its message, and not as its context, which crash reporters print.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from frost_ed25519 import FrostError
from frost_ed25519.keys import KeyPackage

from frost_sidecar.errors import ConfigError
from frost_sidecar.private_file import read_private, wipe
from frost_sidecar.sealing import MAX_SEALED_BYTES, CannotOpen, SealingKeys, is_sealed

_MAX_SHARE_BYTES = 64 * 1024
SEAL_KEY_SETTING = "seal_key_file"


def load_shares(files: Mapping[str, Path], *, seal_key_file: Path | None = None) -> dict[str, KeyPackage]:
    """The key shares, by key name. With ``seal_key_file`` all must be sealed with a key in it; without, none may be.

    Raises:
        ConfigError: a file cannot be read, is open to others, cannot be opened, or holds no key package; names the
            file.
    """
    keys = None if seal_key_file is None else SealingKeys.load(seal_key_file, setting=SEAL_KEY_SETTING)
    return {key: load_share(path, setting=f"keys.{key}.share", keys=keys) for key, path in files.items()}


def load_share(path: Path, *, setting: str, keys: SealingKeys | None = None) -> KeyPackage:
    """The key share in ``path``; a symbolic link is followed, and what it leads to is checked.

    Raises:
        ConfigError: as :func:`load_shares`.
    """
    most = _MAX_SHARE_BYTES if keys is None else MAX_SEALED_BYTES
    content = read_private(path, what="a key share", most=most, setting=setting)
    try:
        share, fault = _share(content, keys)
    finally:
        wipe(content)
    if share is None:
        raise ConfigError(f"{path} {fault}", path=setting)
    return share


def _share(content: bytearray, keys: SealingKeys | None) -> tuple[KeyPackage | None, str]:
    """The share, or what is wrong, as the end of a sentence."""
    fault = "holds no key package of frost-ed25519 (JSON, version 3)"
    if keys is None:
        if is_sealed(content):
            return None, f"is sealed; name the file with its key in {SEAL_KEY_SETTING}"
        return _parse(content), fault
    if not is_sealed(content):
        return None, (
            f"is not sealed, and with {SEAL_KEY_SETTING} every share must be; run: frost-sidecar keygen seal, "
            "or put back the sealed one"
        )
    try:
        opened = keys.open(content)
    except CannotOpen as error:
        return None, str(error)
    try:
        return _parse(opened), fault
    finally:
        wipe(opened)


def _parse(content: bytearray) -> KeyPackage | None:
    try:
        share = KeyPackage.from_json(content.decode("utf-8"))
        int(share.identifier)
    except (FrostError, ValueError):
        return None
    return share
