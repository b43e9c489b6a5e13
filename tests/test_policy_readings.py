"""What one reader takes for a JWS and another does not is never signed: no policy could speak for both."""

from __future__ import annotations

import json

import pytest

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import MalformedRequest
from frost_sidecar.jws import parse_jws

HEADER = b64url(b'{"alg":"EdDSA"}').encode()
CLAIMS = b64url(b'{"sub":"alice"}').encode()

TWO_READINGS: dict[str, bytes] = {
    "bytes that are no UTF-8": b'{"sub":"admin","x":"\xff"}',
    "a number of 5000 digits": b'{"sub":"admin","x":' + b"9" * 5000 + b"}",
    "3000 arrays in each other": b'{"sub":"admin","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a line feed in a string": b'{"sub":"admin\n"}',
    "a zero byte behind it": b'{"sub":"admin"}\x00',
    "text behind it": b'{"sub":"admin"}more',
    "a trailing comma": b'{"sub":"admin",}',
    "single quotes": b"{'sub':'admin'}",
    "a comment": b'{/**/"sub":"admin"}',
    "NaN": b'{"sub":"admin","x":NaN}',
    "a member twice": b'{"sub":"alice","sub":"admin"}',
    "a byte order mark": b'\xef\xbb\xbf{"sub":"admin"}',
    "UTF-16": '{"sub":"admin"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"sub":"admin"}'.encode("utf-16-be"),
    "UTF-32": '{"sub":"admin"}'.encode("utf-32"),
    "blanks before, a comma behind": b' \t\r\n{"sub":"admin",}',
    "cut off": b'{"sub":"admin"',
}


@pytest.mark.parametrize("name", TWO_READINGS)
def test_claims_with_two_readings(name: str) -> None:
    with pytest.raises(MalformedRequest, match="payload has two readings"):
        parse_jws(HEADER + b"." + b64url(TWO_READINGS[name]).encode())


@pytest.mark.parametrize("name", TWO_READINGS)
@pytest.mark.parametrize("rest", [CLAIMS, b"", b"a.b"])
def test_a_header_with_two_readings(name: str, rest: bytes) -> None:
    with pytest.raises(MalformedRequest, match="header has two readings"):
        parse_jws(b64url(TWO_READINGS[name]).encode() + b"." + rest)


@pytest.mark.parametrize("b64", [False, 0, "", None, "false"])
def test_an_unencoded_payload(b64: object) -> None:
    header = b64url(json.dumps({"alg": "EdDSA", "b64": b64, "crit": ["b64"]}).encode()).encode()
    for payload in (b"a.b", CLAIMS, b"", b"anything"):
        with pytest.raises(MalformedRequest, match="RFC 7797"):
            parse_jws(header + b"." + payload)


@pytest.mark.parametrize(
    "message",
    [b"", b"plain", b"a.b", b"\x00\x01.\xff", b"[1].[2]", b64url(b"[1]").encode() + b"." + CLAIMS, HEADER + b".a.b"],
)
def test_what_nobody_can_take_for_one(message: bytes) -> None:
    assert parse_jws(message) is None


def test_a_payload_that_is_no_object_has_no_claims() -> None:
    parsed = parse_jws(HEADER + b"." + b64url(b"hello").encode())
    assert parsed is not None
    assert (parsed.claims, parsed.payload) == (None, b"hello")
