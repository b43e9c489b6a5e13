"""Messages that are JWS signing inputs or nearly, and compact JWS, as PyJWT and joserfc read them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwt import JWTClaimsRegistry

from frost_sidecar.cli.verify import Finding, check_jws
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import Denied, MalformedRequest
from frost_sidecar.jose import thumbprint
from frost_sidecar.jws import parse_jws
from frost_sidecar.model import JwsSigningInput
from frost_sidecar.rules import JwsRules
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_text
from tests.fuzz.test_fuzz_tokens import claims, damage_pair


def jws_seeds() -> list[bytes]:
    """Signing inputs of JWT and JWS, of plain and of detached payloads."""
    headers = [
        {"alg": "EdDSA"},
        {"alg": "EdDSA", "kid": "k", "typ": "JWT"},
        {"alg": "EdDSA", "b64": False, "crit": ["b64"]},
    ]
    payloads = [json.dumps(claims()).encode(), b"plain bytes", b"{}"]
    made = [f"{b64url(json.dumps(h).encode())}.{b64url(p)}".encode() for h in headers for p in payloads]
    return [*made, b64url(json.dumps(headers[2]).encode()).encode() + b".raw payload"]


def _readers(message: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """Header and payload that libraries see in a token with this signing input."""
    read: list[Callable[[], tuple[dict[str, Any], bytes]]] = [
        lambda: _pyjwt(message),
        lambda: _pyjwt_detached(message),
        lambda: _joserfc(message),
    ]
    found = []
    for each in read:
        try:
            found.append(each())
        except (jwt.PyJWTError, JoseError, ValueError, RecursionError, KeyError, TypeError):
            continue
    return found


def _pyjwt(message: bytes) -> tuple[dict[str, Any], bytes]:
    payload, signing_input, header, _ = jwt.PyJWS()._load(message + b"." + b"A" * 86)
    assert signing_input == message
    return header, payload


def _pyjwt_detached(message: bytes) -> tuple[dict[str, Any], bytes]:
    """RFC 7797: the payload as it is, which a token need not carry."""
    protected, dot, rest = message.partition(b".")
    _, _, header, _ = jwt.PyJWS()._load(protected + b".." + b"A" * 86)
    if not dot or header.get("b64", True) is not False:
        raise ValueError("not detached")
    return header, rest


def _joserfc(message: bytes) -> tuple[dict[str, Any], bytes]:
    extracted = jws.extract_compact(message + b"." + b"A" * 86)
    return extracted.headers(), extracted.payload


def _jws_read(message: bytes, found: JwsSigningInput | None) -> None:
    """A policy has read what every library will; where it saw nothing, no library may see anything."""
    seen = [each for each in _readers(message) if isinstance(each[0], dict)]
    if found is None:
        assert not seen, f"read by a library: {seen[0]}"
        return
    for header, payload in seen:
        assert header == found.header
        assert payload == found.payload
    if found.claims is not None:
        assert json.loads(found.payload) == found.claims


@cache
def _pair() -> tuple[Ed25519PrivateKey, bytes]:
    key = Ed25519PrivateKey.generate()
    return key, key.public_key().public_bytes_raw()


def _compact_seeds() -> list[bytes]:
    key, public = _pair()
    header = b64url(json.dumps({"alg": "EdDSA", "kid": thumbprint(public)}).encode())
    made = [f"{header}.{b64url(json.dumps(each).encode())}" for each in (claims(), {"a": 1})]
    return [f"{each}.{b64url(key.sign(each.encode()))}".encode() for each in made]


def _check_jws(token: bytes) -> Finding:
    public = _pair()[1]
    return check_jws(token, [(thumbprint(public), public)])


def _jws_judged(token: bytes, finding: Finding) -> None:
    """Good here is good for PyJWT."""
    if finding.fault is not None:
        return
    payload = jwt.PyJWS().decode(token.strip(), _pair()[0].public_key(), algorithms=["EdDSA"])
    assert payload == finding.payload


RULES: Final = JwsRules(
    typ=("at+jwt", "JWT"),
    iss=("https://mint.example",),
    aud=("https://api.example", "https://*.api.example"),
    sub=("user:*",),
    max_lifetime_seconds=900,
    required=("jti",),
    forbidden=("act",),
    values={"scope": ("read", "write")},
)
NOW: Final = 1_800_000_000
KEY_ID: Final = thumbprint(bytes(range(32)))
_REGISTERED: Final = {"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}


def _header_and_claims() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    good = {
        "iss": "https://mint.example",
        "sub": "user:alice",
        "aud": "https://api.example",
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "one",
        "scope": "read",
    }
    header = {"alg": "EdDSA", "kid": KEY_ID, "typ": "at+jwt"}
    second = {**good, "aud": ["https://a.api.example"], "nbf": NOW, "scope": ["read", "write"], "extra": {"act": [1.5]}}
    return [(header, good), ({**header, "alg": "Ed25519", "typ": "application/JWT"}, second)]


def _rules_pairs() -> list[bytes]:
    return [json.dumps(head).encode() + b"\n" + json.dumps(body).encode() for head, body in _header_and_claims()]


def _rules_messages() -> list[bytes]:
    return [_joined(each) for each in _rules_pairs()]


def _joined(pair: bytes) -> bytes:
    header, _, payload = pair.partition(b"\n")
    return f"{b64url(header)}.{b64url(payload)}".encode()


def _permitted(message: bytes) -> JwsSigningInput | None:
    jws = parse_jws(message)
    RULES.check(jws, KEY_ID, now=NOW)
    return jws


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _keeps_the_rules(message: bytes, _: object) -> None:
    """What the rules allow, read by the standard library and judged by joserfc, ``urllib`` and plain words."""
    header_part, payload_part = message.decode("ascii").split(".")
    header, body = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_once)
        for part in (header_part, payload_part)
    )
    assert all(b64url(base64.urlsafe_b64decode(p + "=" * (-len(p) % 4))) == p for p in (header_part, payload_part))
    assert set(header) == {"alg", "kid", "typ"}
    assert header["alg"] in ("EdDSA", "Ed25519")
    assert header["kid"] == KEY_ID
    assert header["typ"].lower() in {"jwt", "at+jwt", "application/jwt", "application/at+jwt"}
    JWTClaimsRegistry(
        now=NOW,
        leeway=5,
        iss={"essential": True, "value": "https://mint.example"},
        sub={"essential": True},
        aud={"essential": True},
        jti={"essential": True},
    ).validate({name: value for name, value in body.items() if name not in {"exp", "nbf"}})
    assert "act" not in {name.lower() for name in body}
    assert {name for name in body if name.casefold() in _REGISTERED} <= _REGISTERED
    assert re.fullmatch(r"user:[\w.~-]+", body["sub"], re.ASCII)
    audiences = body["aud"] if isinstance(body["aud"], list) else [body["aud"]]
    assert audiences
    for each in audiences:
        url = urlsplit(each)
        assert (url.scheme, url.netloc.lower()) == ("https", url.hostname)
        assert not url.path + url.query + url.fragment
        assert f".{url.hostname}".endswith(".api.example")
    scopes = body["scope"] if isinstance(body["scope"], list) else [body["scope"]]
    assert {*scopes} <= {"read", "write"}
    assert scopes
    times = [body[name] for name in ("exp", "nbf", "iat") if name in body]
    assert all(type(each) in (int, float) and 0 <= each < 2**48 for each in times)
    assert body["exp"] <= NOW + 5 + 900
    assert body["exp"] - body.get("iat", NOW + 5) <= 900
    assert body.get("iat", 0) <= NOW + 5


TARGETS: Final = [
    Target(
        "JWS rules, signing input",
        _rules_messages,
        _permitted,
        (MalformedRequest, Denied),
        _keeps_the_rules,
        mutate=damage_bytes,
    ),
    Target(
        "JWS rules, header and claims",
        _rules_pairs,
        lambda pair: _permitted(_joined(pair)),
        (MalformedRequest, Denied),
        lambda pair, found: _keeps_the_rules(_joined(pair), found),
        mutate=damage_pair,
    ),
    Target(
        "JWS signing input",
        jws_seeds,
        parse_jws,
        (MalformedRequest,),
        _jws_read,
        mutate=damage_bytes,
        took=lambda found: found is not None,
    ),
    Target(
        "compact JWS to verify",
        _compact_seeds,
        _check_jws,
        (),
        _jws_judged,
        mutate=damage_text,
        took=lambda finding: finding.fault is None,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
