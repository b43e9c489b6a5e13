"""Seals a key share for its rest on disk: a compact JWE (RFC 7516), so that any JOSE library can open it with the key.

``alg`` is ``dir`` (the key seals the content itself), ``enc`` is ``A256GCM``. A sealing key is 32 random bytes, in
base64 on a line of a file; further lines hold older keys, which open what they sealed until it has been sealed anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct

from frost_sidecar.encoding import b64decode, b64url, decode_base64url, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.private_file import read_private, wipe

TYPE: Final = "frost-share+jwe"
"""The ``typ`` of a sealed share."""
KEY_BYTES: Final = 32
MAX_KEYS: Final = 8
MAX_SEALED_BYTES: Final = 128 * 1024
HOW_TO: Final = "make one with `openssl rand -base64 32`"

_DOMAIN: Final = b"frost-sidecar sealing key id\0"
_MAX_KEY_FILE_BYTES: Final = 4096
_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_MIN_DISTINCT_BYTES: Final = 17
"""32 random bytes have about 30 different values, and fewer than this once in 10^13; one half repeated has 16."""


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The protected header; whatever else there is (``crit``, ``zip``, keys) is refused."""

    alg: Literal["dir"]
    enc: Literal["A256GCM"]
    typ: Literal["frost-share+jwe"]
    kid: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{11}\Z")]


class CannotOpen(Exception):
    """Why something cannot be opened, as the end of a sentence; without any of the content."""


class SealingKey:
    """One sealing key; it shows nothing of itself but ``kid``, a short digest that names it.

    Raises:
        ValueError: ``value`` is not 32 bytes, or plainly not random; without any of it.
    """

    __slots__ = ("_aead", "kid")

    def __init__(self, value: bytes) -> None:
        if (weakness := _weakness(value)) is not None:
            raise ValueError(weakness)
        self._aead = AESGCM(value)
        self.kid = b64url(hashlib.sha256(_DOMAIN + value).digest()[:8])

    def seal(self, content: bytes | bytearray) -> bytes:
        """``content`` as a compact JWE, with a new random IV."""
        header = msgspec.json.encode(_Header("dir", "A256GCM", TYPE, self.kid))
        protected, iv = b64url(header).encode(), os.urandom(_IV_BYTES)
        sealed = self._aead.encrypt(iv, content, protected)
        parts = (iv, sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
        return b".".join([protected, b"", *(b64url(part).encode() for part in parts)])

    def open(self, iv: bytes, sealed: bytes, protected: bytes) -> bytearray:
        """The content; raises :class:`cryptography.exceptions.InvalidTag`."""
        content = bytearray(len(sealed) - _TAG_BYTES)
        self._aead.decrypt_into(iv, sealed, protected, content)
        return content

    def __repr__(self) -> str:
        return f"SealingKey({self.kid})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a sealing key is not pickled")


class SealingKeys:
    """The keys of one file, the newest first: it seals, and each opens what it sealed."""

    def __init__(self, keys: Sequence[SealingKey]) -> None:
        self._keys = {each.kid: each for each in keys}
        self.newest = keys[0]

    @classmethod
    def load(cls, path: Path, *, setting: str | None = None, administrator: bool = False) -> SealingKeys:
        """The keys in ``path``, one on each line, the newest first; empty lines do not count.

        ``administrator`` as in :func:`~frost_sidecar.private_file.read_private`.

        Raises:
            ConfigError: the file cannot be read, is open to others, or a line is no key; without any of its content.
        """
        what = "a sealing key"
        content = read_private(path, what=what, most=_MAX_KEY_FILE_BYTES, setting=setting, administrator=administrator)
        keys: list[SealingKey] = []
        fault: str | None = None
        try:
            for number, line in enumerate(content.splitlines(), 1):
                if line.strip():
                    fault = fault or _add(keys, line, number)
                wipe(line)
        finally:
            wipe(content)
        if fault is None and not keys:
            fault = f"holds no sealing key; {HOW_TO}"
        if fault is not None:
            raise ConfigError(f"{path} {fault}", path=setting)
        return cls(keys)

    def open(self, sealed: bytes | bytearray) -> bytearray:
        """What was sealed with one of the keys; :func:`~frost_sidecar.private_file.wipe` it after use.

        Raises:
            CannotOpen: it is damaged, of another form, or was sealed with another key.
        """
        header, protected, iv, body = _parts(bytes(sealed).strip())
        key = self._keys.get(header.kid)
        if key is None:
            have = ", ".join(self._keys)
            raise CannotOpen(f"was sealed with the key {header.kid}, which is not in the key file (it has {have})")
        try:
            return key.open(iv, body, protected)
        except InvalidTag:
            fault = f"does not open with its key, {header.kid}: it was changed after it was sealed"
        raise CannotOpen(fault)


def is_sealed(content: bytes | bytearray) -> bool:
    """Whether this is meant as a compact JWE: each begins so, and no JSON does."""
    return content.startswith(b"eyJ")


def sealed_kid(sealed: bytes | bytearray) -> str:
    """Which key something was sealed with, without opening it; raises :class:`CannotOpen` where it is damaged."""
    return _parts(bytes(sealed).strip())[0].kid


def _parts(sealed: bytes) -> tuple[_Header, bytes, bytes, bytes]:
    """Header, protected header as it stands, IV, and ciphertext with tag."""
    damaged = "is damaged: it is no compact JWE as `keygen seal` makes them"
    parts = sealed.split(b".", 5)
    if len(parts) != 5 or parts[1]:
        raise CannotOpen(damaged)
    try:
        header = decode_json(decode_base64url(parts[0]), _Header)
        iv, body, tag = (decode_base64url(part) for part in parts[2:])
    except ValueError:
        header = None
    if header is None or len(iv) != _IV_BYTES or len(tag) != _TAG_BYTES:
        raise CannotOpen(damaged)
    return header, parts[0], iv, body + tag


def _add(keys: list[SealingKey], line: bytearray, number: int) -> str | None:
    """Take up the key on a line; what is wrong with it, as the end of a sentence."""
    try:
        key = SealingKey(b64decode(line.strip().decode("latin-1")))
    except ValueError as error:
        return f"line {number}: {error}; {HOW_TO}"
    if key.kid in {each.kid for each in keys}:
        return f"line {number}: the key {key.kid} stands there twice"
    if len(keys) >= MAX_KEYS:
        return f"has more than {MAX_KEYS} keys; take out those that nothing is sealed with any more"
    keys.append(key)
    return None


def _weakness(value: bytes) -> str | None:
    if len(value) != KEY_BYTES:
        return f"a sealing key has {KEY_BYTES} bytes, this has {len(value)}"
    if value.isascii() and value.decode("ascii").isprintable():
        return "this is text and no random key"
    if len(set(value)) < _MIN_DISTINCT_BYTES or len({(b - a) % 256 for a, b in pairwise(value)}) == 1:
        return "this is a simple pattern and no random key"
    return None
