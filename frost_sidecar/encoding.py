"""Outside bytes to values and back: base64 in both alphabets, and JSON without ambiguity.

Both decoders are strict on purpose. A value that two readers can understand differently is a hole in everything that is
signed, hashed or compared later.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}\Z")
_URLSAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def b64encode(data: bytes) -> str:
    """Standard alphabet, padded (RFC 4648, section 4): the form of everything that we answer."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def b64url(data: bytes) -> str:
    """URL-safe alphabet, unpadded: the form of JOSE (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64decode(text: str) -> bytes:
    """Decode standard or URL-safe base64, padded or not; raise :class:`ValueError` for anything else.

    Mixed alphabets, wrong padding, white space and non-zero trailing bits are refused, so that one value has one
    spelling in each of the four forms.
    """
    if not text.isascii():  # a failed encode() would carry the whole text, perhaps a secret, in its error
        raise ValueError("not base64: a character outside ASCII")
    raw = text.encode("ascii")
    try:
        data = binascii.a2b_base64(raw)
        if binascii.b2a_base64(data, newline=False) == raw:
            return data  # our own form, at a quarter of the price
    except binascii.Error:
        pass
    if (b"-" in raw or b"_" in raw) and (b"+" in raw or b"/" in raw):
        raise ValueError("not base64: the standard and the URL-safe alphabet are mixed")
    standard = raw.translate(_URLSAFE_TO_STANDARD)
    if not _BASE64.match(standard):
        raise ValueError("not base64: a character outside the alphabet, or padding in the wrong place")
    body = standard.rstrip(b"=")
    missing = -len(body) % 4
    if missing == 3 or len(standard) - len(body) not in (0, missing):
        raise ValueError("not base64: wrong length or padding")
    try:
        data = binascii.a2b_base64(body + b"=" * missing)
    except binascii.Error:
        raise ValueError("not base64") from None
    if base64.b64encode(data).rstrip(b"=") != body:
        raise ValueError("not base64: the trailing bits are not zero")
    return data


def length_prefixed(*fields: bytes) -> bytes:
    """Fields in one piece, each with its length as 8 bytes in front, so that no two lists of fields read the same."""
    return b"".join(len(field).to_bytes(8) + field for field in fields)


def decode_base64url(data: bytes) -> bytes:
    """Decode JOSE's base64url (RFC 7515, section 2): URL-safe, unpadded, nothing else; raise :class:`ValueError`."""
    if b"+" in data or b"/" in data or b"=" in data:
        raise ValueError("not base64url: a character of another alphabet, or padding")
    return b64decode(data.decode("latin-1"))


def decode_json(body: bytes, kind: type[T]) -> T:
    """Decode a JSON body into the struct ``kind``; raise :class:`ValueError` with the path of what is wrong.

    Beyond the types: one member twice in an object is refused. RFC 8259 leaves it open which one counts, so the checker
    and the user of a message could read different values.
    """
    try:
        value = msgspec.json.decode(body, type=kind)
        _STRICT.decode(body.decode("utf-8"))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    return value


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the member {twice[:64]!r} stands twice in one object")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant)
