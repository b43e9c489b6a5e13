"""Good signatures over claims that are wrong, meant for somebody else, or read in two ways.

RFC 8725, sections 2.6 to 2.8, 3.7 to 3.10 and 3.12; RFC 7515, sections 10.10 and 10.12; RFC 7519, sections 4 and 7.2.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from frost_sidecar.encoding import b64url
from frost_sidecar.wire import body_digest
from tests.token_attacks.case import Case, Host, Reason
from tests.token_attacks.forge import Forge, as_json

M: Final = "token-malformed"
SIGNER: Final[tuple[Host, ...]] = ("signer",)
COORDINATOR: Final[tuple[Host, ...]] = ("coordinator",)


def _with(name: str, reason: Reason, hosts: tuple[Host, ...] = ("signer", "coordinator"), **changes: Any) -> Case:
    return Case(name, lambda forge: forge.token(payload=forge.claims(**changes)), reason, hosts=hosts)


def _bytes(name: str, change: Callable[[bytes], bytes], reason: Reason = M) -> Case:
    return Case(name, lambda forge: forge.token(payload=change(as_json(forge.claims()))), reason)


def _member(text: bytes) -> Callable[[bytes], bytes]:
    """One more member in front."""
    return lambda payload: b"{" + text + b"," + payload[1:]


def _compressed(forge: Forge) -> str:
    """RFC 7516's compression, which does not exist for signed tokens."""
    deflated = zlib.compress(as_json(forge.claims()), wbits=-15)
    return forge.token(payload=deflated)


CASES: Final = (
    # times
    _with("expired", "token-expired", exp=lambda now: now - 10, iat=lambda now: now - 40, nbf=lambda now: now - 40),
    _with("expired in 1970", "token-expired", exp=0),
    _with("a negative exp", "token-expired", exp=-1),
    _with("no exp", "token-claims", exp=None),
    _with("exp is text", "token-claims", exp="9999999999"),
    _with("exp is true", "token-claims", exp=True),
    _with("exp is a list", "token-claims", exp=[9999999999]),
    _with("exp is an object", "token-claims", exp={"$gt": 0}),
    _with("exp beyond a double", "token-claims", exp=10**400),
    _with("nbf in the future", "token-not-yet-valid", nbf=lambda now: now + 30),
    _with("iat in the future", "token-not-yet-valid", iat=lambda now: now + 30),
    _with("nbf is text", "token-claims", nbf="0"),
    _with("iat is text", "token-claims", iat="0"),
    _with("a life of an hour", "token-lifetime", SIGNER, exp=lambda now: now + 3600),
    _with("a life of a thousand years", "token-lifetime", SIGNER, exp=lambda now: now + 31_536_000_000),
    # who, and for whom
    _with("another issuer", "token-issuer", iss="somebody"),
    _with("the issuer in capitals", "token-issuer", iss="FROST-COORD"),
    _with("the issuer and a NUL", "token-issuer", iss="frost-coord\0"),
    _with("the issuer in a list", "token-claims", iss=["frost-coord"]),
    _with("no issuer, on a signer", "token-claims", SIGNER, iss=None),
    _with("no issuer, at the coordinator", "token-issuer", COORDINATOR, iss=None),
    _with("no subject", "token-subject", sub=None),
    _with("an empty subject", "token-subject", sub=""),
    _with("the subject is a number", "token-subject", sub=7),
    _with("the subject is a list", "token-subject", sub=["mint", "admin"]),
    _with("a line break in the subject", "token-subject", sub="mint\nadmin"),
    _with("a NUL in the subject", "token-subject", sub="mint\0"),
    _with("text that is written right to left in the subject", "token-subject", sub="mint\u202enimda"),
    _with("a subject of 300 characters", "token-subject", sub="x" * 300),
    _with("another signer's audience", "token-audience", aud="signer-2"),
    _with("the audience and more", "token-audience", aud="signer-10"),
    _with("no audience, on a signer", "token-claims", SIGNER, aud=None),
    _with("a list of audiences, on a signer", "token-claims", SIGNER, aud=["signer-1", "signer-2"]),
    _with("the audience is a wildcard", "token-audience", aud="*"),
    _with("the audience is a number", "token-claims", aud=1),
    _with("an empty list of audiences, at the coordinator", "token-audience", COORDINATOR, aud=[]),
    _with("no token identifier", "token-claims", SIGNER, jti=None),
    _with("an empty token identifier", "token-claims", SIGNER, jti=""),
    _with("the token identifier is a number", "token-claims", SIGNER, jti=1),
    _with("another body", "token-body", SIGNER, body_sha256=body_digest(b"another body")),
    _with("no body digest", "token-claims", SIGNER, body_sha256=None),
    _with("an empty body digest", "token-body", SIGNER, body_sha256=""),
    # for another use
    Case(
        "a token of a caller, shown to a signer",
        lambda forge: forge.token(
            payload=forge.claims(jti=None, body_sha256=None, aud="frost-coordinator", sub="mint")
        ),
        "token-claims",
        hosts=SIGNER,
    ),
    _with(
        "a token of a signer's call, shown to the coordinator",
        "token-audience",
        COORDINATOR,
        aud="signer-1",
        body_sha256=body_digest(b""),
    ),
    _with(
        "a token of a signer's call with the coordinator's audience",
        "token-audience",
        COORDINATOR,
        body_sha256=body_digest(b""),
    ),
    _with("an access token of another service", "token-audience", aud="https://api.example.test", scope="admin"),
    # payloads that readers may differ over
    _bytes("sub twice", _member(b'"sub":"admin"')),
    _bytes("exp twice", _member(b'"exp":1')),
    _bytes("sub once more with an escape in its name", _member(b'"s\\u0075b":"admin"')),
    _bytes("a member twice further down", _member(b'"x":{"a":1,"a":2}')),
    _bytes("payload: a byte order mark", lambda payload: b"\xef\xbb\xbf" + payload),
    _bytes("payload: UTF-16", lambda payload: payload.decode().encode("utf-16")),
    _bytes("payload: UTF-32", lambda payload: payload.decode().encode("utf-32")),
    _bytes("payload: not UTF-8", _member(b'"x":"\xff"')),
    _bytes("payload: overlong UTF-8", _member(b'"x":"\xc0\xaf"')),
    _bytes("payload: half a surrogate pair", _member(b'"x":"\\ud800"')),
    _bytes("payload: a NUL in it", _member(b'"x":"\0"')),
    _bytes("payload: NaN", _member(b'"x":NaN')),
    _bytes("payload: infinity", _member(b'"x":-Infinity')),
    _bytes("payload: a number beyond a double", _member(b'"x":1e999')),
    _bytes("payload: 2000 digits", _member(b'"x":' + b"9" * 2000), None),
    _bytes("payload: a leading zero", _member(b'"x":01')),
    _bytes("payload: hexadecimal", _member(b'"x":0x10')),
    _bytes("payload: nested 1500 deep", _member(b'"x":' + b"[" * 1500 + b"]" * 1500)),
    _bytes("payload: text after it", lambda payload: payload + b"{}"),
    _bytes("payload: a comment", _member(b"/**/")),
    _bytes("payload: a comma too many", lambda payload: payload[:-1] + b",}"),
    _bytes("payload: single quotes", lambda payload: payload.replace(b'"', b"'")),
    _bytes("payload: cut off", lambda payload: payload[:-1]),
    _bytes("payload: a list", lambda payload: b"[" + payload + b"]"),
    _bytes("payload: a string with the claims in it", lambda payload: b'"' + payload.replace(b'"', b'\\"') + b'"'),
    _bytes("payload: a number", lambda _payload: b"1"),
    _bytes("payload: null", lambda _payload: b"null"),
    _bytes("payload: base64 once more", lambda payload: b64url(payload).encode()),
    _bytes("payload: blanks around it", lambda payload: b" \t\r\n" + payload + b"\n ", None),
    Case("payload: compressed", _compressed, M),
    _with("a token of more than 8192 characters", M, x="x" * 8192),
    _with("a token of a million characters", M, x="x" * 750_000),
)
