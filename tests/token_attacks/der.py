"""A DigestInfo (RFC 8017, section 9.2) with one value misspelt in DER, in every way that a lenient parser forgives.

PKCS #1 v1.5 verification that parses what it finds, instead of comparing it with what it expects, has been forged
again and again (CVE-2006-4339, CVE-2014-1568, CVE-2018-16152, CVE-2022-24771). The ways here are those of the cases 46
to 258 in Wycheproof's json_web_signature_test, made anew for each of the five values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

SHA256_OID: Final = bytes.fromhex("608648016503040201")
_GARBAGE: Final = bytes.fromhex("0004c0ffee00")
_UNDEFINED: Final = {"undefined tags": bytes.fromhex("aa00bc00ce00"), "an undefined tag": bytes.fromhex("aa02bbcc")}


@dataclass(frozen=True)
class Value:
    """A tag and what stands in it: bytes, or further values."""

    name: str
    tag: int
    content: bytes | tuple[Value, ...]
    raw: bytes | None = None
    """What is written instead of tag, length and content."""

    def body(self) -> bytes:
        """The content's bytes."""
        return self.content if isinstance(self.content, bytes) else b"".join(each.encode() for each in self.content)

    def encode(self) -> bytes:
        """Tag, length and content; all lengths here are below 128."""
        return tlv(self.tag, self.body()) if self.raw is None else self.raw


def tlv(tag: int, body: bytes) -> bytes:
    """Tag, length in one byte, content."""
    return bytes([tag, len(body)]) + body


def digest_info(digest: bytes, oid: bytes = SHA256_OID) -> Value:
    """The DigestInfo of a digest, as a tree."""
    algorithm = Value("AlgorithmIdentifier", 0x30, (Value("OID", 0x06, oid), Value("NULL", 0x05, b"")))
    return Value("DigestInfo", 0x30, (algorithm, Value("OCTET STRING", 0x04, digest)))


def misspelt(digest: bytes) -> Iterator[tuple[str, bytes]]:
    """Every value of a DigestInfo misspelt in every way: what is wrong, and the whole; each spelling once."""
    whole = digest_info(digest)
    seen = {whole.encode()}
    for name in ("DigestInfo", "AlgorithmIdentifier", "OID", "NULL", "OCTET STRING"):
        value = _find(whole, name)
        assert value is not None
        for how, raw in _ways(value):
            spelling = _replaced(whole, name, raw).encode()
            if spelling not in seen:
                seen.add(spelling)
                yield f"{name}: {how}", spelling


def _find(tree: Value, name: str) -> Value | None:
    if tree.name == name:
        return tree
    if isinstance(tree.content, bytes):
        return None
    return next((found for each in tree.content if (found := _find(each, name)) is not None), None)


def _replaced(tree: Value, name: str, raw: bytes) -> Value:
    if tree.name == name:
        return replace(tree, raw=raw)
    if isinstance(tree.content, bytes):
        return tree
    return replace(tree, content=tuple(_replaced(each, name, raw) for each in tree.content))


def _ways(value: Value) -> Iterator[tuple[str, bytes]]:
    tag, body = value.tag, value.body()
    yield from _lengths(tag, body)
    yield from _neighbours(tag, body)
    yield from _tags(tag, body)
    if isinstance(value.content, tuple):
        yield from _sequences(tag, value.content)
    elif value.name == "OID":
        yield from _identifiers(body)
    elif body:
        yield from _contents(tag, body)
    else:
        yield "composed of undefined tags", bytes([tag | 0x20, 0x80]) + b"\xaa\x00\xbc\x00" + bytes(2)
        yield "a high tag number", bytes([0x1F, tag, 0])


def _lengths(tag: int, body: bytes) -> Iterator[tuple[str, bytes]]:
    """The length in another form, or another one."""
    size, head = len(body), bytes([tag])
    yield "length in the long form", head + bytes([0x81, size]) + body
    yield "length with a zero in front", head + bytes([0x82, 0, size]) + body
    yield "length one too large", head + bytes([size + 1]) + body
    if size:
        yield "length one too small", head + bytes([size - 1]) + body
    yield "length plus 2^32", head + b"\x85\x01" + size.to_bytes(4, "big") + body
    yield "length plus 2^64", head + b"\x89\x01" + size.to_bytes(8, "big") + body
    for name, wrong in (
        ("2^31 - 1", 2**31 - 1),
        ("2^31", 2**31),
        ("2^32 - 1", 2**32 - 1),
        ("2^40 - 1", 2**40 - 1),
        ("2^64 - 1", 2**64 - 1),
    ):
        count = (wrong.bit_length() + 7) // 8
        yield f"length {name}", head + bytes([0x80 | count]) + wrong.to_bytes(count, "big") + body
    yield "length of 127 length bytes", head + b"\xff" + body
    yield "length cut off", head + b"\x81"
    yield "indefinite length without an end", head + b"\x80" + body


def _neighbours(tag: int, body: bytes) -> Iterator[tuple[str, bytes]]:
    """Something missing, or something more, inside or behind."""
    whole, composed = tlv(tag, body), tag | 0x20
    yield "left out", b""
    yield "its tag alone", bytes([tag])
    yield "without its content", bytes([tag, 0])
    yield "NULL in its place", b"\x05\x00"
    yield "zeros inside at the end", tlv(tag, body + bytes(2))
    yield "zeros inside at the start", tlv(tag, bytes(2) + body)
    yield "zeros behind", whole + bytes(2)
    yield "NULL inside at the end", tlv(tag, body + b"\x05\x00")
    yield "garbage before it, cut off", tlv(composed, b"\x49\x81\x77" + whole)
    yield "garbage before it", tlv(composed, b"\x25\x00" + whole)
    yield "garbage behind it", tlv(composed, whole) + _GARBAGE
    for how, extra in _UNDEFINED.items():
        yield f"{how} before it", tlv(composed, extra + whole)
    yield "composed of itself, indefinite length", bytes([composed, 0x80]) + whole + bytes(2)
    yield "composed, with another tag", bytes([composed, 0x80]) + tlv(tag ^ 1, body) + bytes(2)


def _tags(tag: int, body: bytes) -> Iterator[tuple[str, bytes]]:
    for other in (tag - 2, tag - 1, tag + 1, tag + 2, 0xFF):
        yield f"tag {other:#04x}", tlv(other, body)


def _sequences(tag: int, parts: tuple[Value, ...]) -> Iterator[tuple[str, bytes]]:
    body = b"".join(each.encode() for each in parts)
    head = bytes([tag, 0x80])
    yield "cut at the end", tlv(tag, body[:-1])
    yield "cut at the start", tlv(tag, body[1:])
    yield "composed of pieces", tlv(tag, tlv(tag, body[:1]) + tlv(tag, body[1:]))
    yield "indefinite length", head + body + bytes(2)
    yield "indefinite length, half an end", head + body + bytes(1)
    yield "indefinite length, one element more", head + body + b"\x05\x00" + bytes(2)
    yield "indefinite length, an element cut off", head + body + b"\x06\x08\x11\x22" + bytes(2)
    yield "indefinite length, garbage", head + body + bytes(2) + b"\xfe\x02\xbe\xef"
    yield "indefinite length, an end that is not empty", head + body + b"\x00\x02\xbe\xef"
    yield "an empty sequence first", tlv(tag, b"\x30\x00" + body)
    yield "an empty sequence last", tlv(tag, body + b"\x30\x00")
    yield "a number last", tlv(tag, body + b"\x02\x01\x00")
    yield "a high tag number last", tlv(tag, body + b"\xbf\x7f\x00")
    yield "NULL with an explicit tag last", tlv(tag, body + b"\xa0\x02\x05\x00")
    yield "NULL with an implicit tag last", tlv(tag, body + b"\xa0\x00")
    yield "a sequence of itself", tlv(tag, tlv(tag, body))
    yield "without its last element", tlv(tag, parts[0].encode())
    yield "its last element twice", tlv(tag, body + parts[-1].encode())


def _identifiers(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "composed of pieces", tlv(0x26, tlv(0x06, body[:1]) + tlv(0x06, body[1:]))
    for how, other in (
        ("first byte changed", bytes([body[0] ^ 2]) + body[1:]),
        ("last byte changed", body[:-1] + bytes([body[-1] ^ 0x80])),
        ("cut at the end", body[:-1]),
        ("cut at the start", body[1:]),
        ("SHA-1's", bytes.fromhex("2b0e03021a")),
        ("one node more", body + b"\x01"),
        ("a node changed", body[:-2] + bytes([body[-2] ^ 0x15]) + body[-1:]),
        ("a node plus 2^32", body[:-1] + b"\x90\x80\x80\x80" + body[-1:]),
        ("a node plus 2^64", body[:-1] + b"\x82\x80\x80\x80\x80\x80\x80\x80\x80" + body[-1:]),
        ("a node without an end", body + b"\xe0"),
        ("a node with a zero in front", body[:1] + b"\x80" + body[1:]),
    ):
        yield how, tlv(0x06, other)


def _contents(tag: int, body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "composed of pieces", tlv(tag | 0x20, tlv(tag, body[:1]) + tlv(tag, body[1:]))
    yield "first bit changed", tlv(tag, bytes([body[0] ^ 0x80]) + body[1:])
    yield "last bit changed", tlv(tag, body[:-1] + bytes([body[-1] ^ 1]))
    yield "cut at the end", tlv(tag, body[:-1])
    yield "cut at the start", tlv(tag, body[1:])
