"""What a message is, read as everybody would read it: JWS signing input (RFC 7515, section 5.1), or not."""

from __future__ import annotations

import base64
import re
from typing import Final

from frost_sidecar.encoding import decode_base64url, decode_json
from frost_sidecar.errors import MalformedRequest
from frost_sidecar.model import JwsSigningInput

_URLSAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BEFORE_AN_OBJECT = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"
"""White space, byte order marks, and the zero bytes of wider encodings."""
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_=-]*")
_OUTSIDE_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]")
_BASE64_OF_SOME: Final = re.compile(rb"[A-Za-z0-9_=+/\s-]*")
"""What forgiving readers take: either alphabet, and line breaks in between."""


def parse_jws(message: bytes) -> JwsSigningInput | None:
    """``message`` as JWS signing input (RFC 7515, section 5.1), or None where nobody can take it for one.

    Raises:
        MalformedRequest: a lenient reader would see a JWS or JWT in it, and perhaps another one than a strict reader:
            a repeated member, bits or characters too many in the base64url, a payload that is not base64url at all
            (``b64`` in the header, RFC 7797), no protected header at all (section 5.1, step 4: in the JSON
            serialisation all of it may be unprotected). No policy could speak for all readers.
    """
    protected, dot, rest = message.partition(b".")
    if not dot:
        return None
    if not protected and rest and _BASE64URL.fullmatch(rest):
        raise MalformedRequest("the message is a JWS without a protected header, so that anybody may write one for it")
    header = _object(protected, "header")
    if header is None:
        return None
    if header.get("b64", True) is not True:
        raise MalformedRequest("the message is a JWS with an unencoded payload (b64, RFC 7797), which is not signed")
    if b"." in rest:
        return None
    claims = _object(rest, "payload")
    try:
        payload = decode_base64url(rest)
    except ValueError as error:
        raise MalformedRequest(f"the message has a JWS header, and its payload is not base64url: {error}") from None
    return JwsSigningInput(header, payload, claims)


def is_token(payload: bytes) -> bool:
    """Whether some reader could take ``payload`` for a token in the compact form of JWS or JWE: a nested one."""
    protected, *others = payload.strip(b" \t\r\n\"'").split(b".")
    compact = len(others) in {2, 4} and all(_BASE64_OF_SOME.fullmatch(each) for each in (protected, *others))
    return compact and _leniently_decoded(protected).lstrip(_BEFORE_AN_OBJECT).startswith(b"{")


def _object(part: bytes, name: str) -> dict[str, object] | None:
    """The JSON object in a part, None where nobody can find one.

    Readers differ in what they forgive: bits and characters in the base64url, members that stand twice, bytes that are
    no UTF-8, numbers and depths beyond their bounds, text behind the end. What begins as an object and is none by the
    strictest reading is refused, whoever might read it.
    """
    try:
        return decode_json(decode_base64url(part), dict[str, object])
    except ValueError as error:
        if _leniently_decoded(part).lstrip(_BEFORE_AN_OBJECT).startswith(b"{"):
            raise MalformedRequest(f"the message looks like a JWS, and its {name} has two readings: {error}") from None
        return None


def _leniently_decoded(part: bytes) -> bytes:
    """What the most forgiving reader finds behind the base64 of a part."""
    standard = _OUTSIDE_BASE64.sub(b"", part.translate(_URLSAFE_TO_STANDARD))
    alone = len(standard) % 4 == 1
    try:
        return base64.b64decode(standard[: -1 if alone else None] + b"=" * (-(len(standard) - alone) % 4))
    except ValueError:
        return b""
