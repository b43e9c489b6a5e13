"""Tokens that ``auth_eddsa_jwks`` checks, against PyJWT and joserfc: never accept what both refuse."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from frost_sidecar_auth_eddsa_jwks import ClaimRules, FileKeys, JwksAuthenticator
from frost_sidecar_auth_eddsa_jwks.jwk import ALGORITHMS
from frost_sidecar_auth_eddsa_jwks.jwks import parse_jwks
from frost_sidecar_auth_eddsa_jwks.token import Token, parse_token
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.model import Credentials, Identity
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target, same, settle
from tests.fuzz.mutation import damage_json
from tests.fuzz.test_fuzz_files import written
from tests.fuzz.test_fuzz_jwks import edwards_jwk, edwards_keys, public_jwks, rsa_jwk, rsa_key
from tests.fuzz.test_fuzz_tokens import NOW, claims, damage_pair


def _token_header(alg: str, **more: Any) -> bytes:
    return json.dumps({"alg": alg, "kid": "rsa" if alg == "RS256" else "first", "typ": "JWT", **more}).encode()


def _token_claims() -> bytes:
    return json.dumps({**claims(), "iat": NOW, "exp": NOW + 60}).encode()


def _signed(header: bytes, payload: bytes) -> bytes:
    """A token under this header: with the key that it names, or, as attackers do, with a public key as a secret."""
    message = f"{b64url(header)}.{b64url(payload)}".encode()
    if b"RS256" in header:
        signature = rsa_key().sign(message, PKCS1v15(), SHA256())
    elif b"HS" in header:
        signature = hmac.digest(edwards_keys()[0].public_key().public_bytes_raw(), message, hashlib.sha256)
    else:
        signature = edwards_keys()[0].sign(message)
    return message + b"." + b64url(signature).encode()


def _token_pairs() -> list[bytes]:
    headers = [_token_header("EdDSA"), _token_header("Ed25519"), _token_header("RS256"), _token_header("HS256")]
    return [header + b"\n" + _token_claims() for header in headers]


def _token_seeds() -> list[bytes]:
    return [_signed(*pair.split(b"\n")) for pair in _token_pairs()]


@cache
def _authenticator() -> JwksAuthenticator:
    public = public_jwks()
    jwks = json.dumps({"keys": [public[0], public[2]]}).encode()
    keys = FileKeys(written("jwks.json", jwks), lambda data: parse_jwks(data, ALGORITHMS), "jwks_file", max_bytes=65536)
    keys.reload()
    return JwksAuthenticator(keys, ClaimRules(max_lifetime=60, clock=lambda: float(NOW)), ALGORITHMS)


def _authenticate(token: bytes) -> Identity | None:
    return settle(_authenticator().authenticate(Credentials(token.decode("utf-8", "surrogateescape"))))


_REGISTRY: Final = jws.JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)


def _token_read(token: bytes, identity: Identity | None) -> None:
    """A library accepts it with the key that it names, and all that do read the same claims."""
    if identity is None:
        return
    header = json.loads(base64.urlsafe_b64decode(token.partition(b".")[0] + b"=="))
    assert header["alg"] in ALGORITHMS
    plain = {"first": edwards_jwk(edwards_keys()[0]), "rsa": rsa_jwk()}[header["kid"]]
    readers: list[Callable[[], bytes]] = [
        lambda: jwt.PyJWS().decode(token, jwt.PyJWK(plain).key, algorithms=["EdDSA", "RS256"]),
        lambda: jws.deserialize_compact(token, JWKRegistry.import_key(plain), registry=_REGISTRY).payload,
    ]
    payloads = set()
    for each in readers:
        with suppress(jwt.PyJWTError, JoseError), warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # EdDSA as a name is going out of use (RFC 9864)
            payloads.add(each())
    [payload] = payloads
    given = json.loads(payload)
    assert same(dict(identity.claims), given)
    assert identity.subject == given["sub"] != ""
    assert identity.method == ("rs256" if header["kid"] == "rsa" else "eddsa")
    assert given["iat"] <= NOW < given["exp"] <= given["iat"] + 60
    assert given.get("nbf", 0) <= NOW


def _sign_pair(data: bytes) -> bytes:
    header, _, payload = data.partition(b"\n")
    return _signed(header, payload)


def _parse(token: bytes) -> Token:
    return parse_token(token.decode("utf-8", "surrogateescape"))


def _parsed(token: bytes, read: Token) -> None:
    """PyJWT and joserfc, where they can, find the same parts."""
    assert b".".join([read.message, b64url(read.signature).encode()]) == token
    payload, message, header, signature = jwt.PyJWS()._load(token)
    assert same(header, read.header)
    assert (payload, message, signature) == (read.payload, read.message, read.signature)
    with suppress(JoseError):
        found = jws.extract_compact(token)
        assert (found.payload, found.headers()) == (read.payload, read.header)


def _unsigned_seeds() -> list[bytes]:
    return [
        *_token_seeds(),
        _token_seeds()[0].rpartition(b".")[0] + b".",
        b64url(b'{"alg":"none"}').encode() + b".e30.",
    ]


def _damage_token(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Bytes of the token; or the JSON of its header."""
    if random.randrange(2):
        return damage_bytes(random, seeds)
    first, dot, rest = random.choice(seeds).partition(b".")
    with suppress(ValueError):  # of a seed that is damaged already
        first = b64url(damage_json(random, [base64.urlsafe_b64decode(first + b"==")])).encode()
    return first + dot + rest


TARGETS: Final = [
    Target("compact JWT", _unsigned_seeds, _parse, (Unauthenticated,), _parsed, mutate=_damage_token),
    Target(
        "EdDSA and RS256 token",
        _token_seeds,
        _authenticate,
        (Unauthenticated,),
        _token_read,
        mutate=_damage_token,
        took=lambda identity: identity is not None,
    ),
    Target(
        "EdDSA and RS256 token, signed claims",
        _token_pairs,
        lambda data: _authenticate(_sign_pair(data)),
        (Unauthenticated,),
        lambda data, identity: _token_read(_sign_pair(data), identity),
        mutate=damage_pair,
        took=lambda identity: identity is not None,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
