"""Messages that are JWS signing inputs or nearly, and compact JWS, as PyJWT and joserfc read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.errors import JoseError

from frost_sidecar.cli.verify import Finding, check_jws
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import MalformedRequest
from frost_sidecar.jose import thumbprint
from frost_sidecar.model import JwsSigningInput
from frost_sidecar.policy import parse_jws
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_text
from tests.fuzz.test_fuzz_tokens import claims


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


TARGETS: Final = [
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
