"""Tokens, against PyJWT and joserfc: never accept what both refuse. And claims, as gate and door judge them."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, Final

import jwt
import pytest
from frost_sidecar_auth_hs256.authenticator import Hs256Authenticator
from frost_sidecar_auth_hs256.keyring import Keyring
from frost_sidecar_auth_hs256.secret import Secret
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from frost_sidecar.access import Door
from frost_sidecar.config import ServerConfig
from frost_sidecar.encoding import b64url, decode_json
from frost_sidecar.errors import Denied, FrostSidecarError, Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.metrics import CoordinatorMetrics, SignerMetrics, new_registry
from frost_sidecar.model import Credentials, Identity
from frost_sidecar.signer import NodeConfig
from frost_sidecar.signer.access import Gate
from frost_sidecar.wire import body_digest
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target, same, settle
from tests.fuzz.mutation import damage_json

NOW: Final = int(time.time())
"""The time that the signer's gate is shown, so that its claims do not expire in a long run."""
SECRET: Final = secrets.token_bytes(32)
BODY: Final = b'{"key":"default","count":1}'
CLIENT: Final = "DNS:coordinator.test"
HEADER: Final = {"alg": "HS256", "typ": "JWT"}


def claims() -> dict[str, Any]:
    """Claims of a call to a signer that are good now."""
    return {
        "iss": "frost-coord",
        "sub": "frost-coordinator",
        "aud": "signer-1",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 60,
        "jti": secrets.token_hex(8),
        "body_sha256": body_digest(BODY),
    }


def _signed(header: bytes, payload: bytes) -> bytes:
    signing_input = f"{b64url(header)}.{b64url(payload)}"
    return f"{signing_input}.{b64url(hmac.digest(SECRET, signing_input.encode(), hashlib.sha256))}".encode()


def _token_seeds() -> list[bytes]:
    header = json.dumps(HEADER).encode()
    return [
        _signed(header, json.dumps(each).encode())
        for each in ({**claims(), "exp": NOW + 86400}, {"sub": "a", "exp": 2_000_000_000})
    ]


@cache
def _authenticator() -> Hs256Authenticator:
    return Hs256Authenticator(Keyring(Secret(SECRET)), leeway=5)


def _authenticate(token: bytes) -> Identity | None:
    return settle(_authenticator().authenticate(Credentials(token.decode("utf-8", "surrogateescape"))))


def _token_read(token: bytes, identity: Identity | None) -> None:
    """A library accepts the signature, and all that do read the same claims under it."""
    if identity is None:
        return
    payloads = set()
    for decode in (
        lambda: jwt.PyJWS().decode(token, SECRET, algorithms=["HS256"]),
        lambda: jws.deserialize_compact(token, OctKey.import_key(SECRET), ["HS256"]).payload,
    ):
        with suppress(jwt.PyJWTError, JoseError):
            payloads.add(decode())
    [payload] = payloads
    assert same(dict(identity.claims), json.loads(payload))
    assert isinstance(identity.subject, str)
    assert identity.subject == identity.claims["sub"] != ""
    assert float(json.loads(payload)["exp"]) > time.time() - 6


def _pair_seeds() -> list[bytes]:
    """Header and payload, a line each; the signature is put on whatever becomes of them."""
    header = json.dumps(HEADER).encode()
    return [
        header + b"\n" + json.dumps(each).encode()
        for each in ({**claims(), "exp": NOW + 86400}, {"sub": "a", "exp": 2_000_000_000})
    ]


def damage_pair(random: Random, seeds: Sequence[bytes]) -> bytes:
    header, _, payload = random.choice(seeds).partition(b"\n")
    if random.randrange(3) == 0:
        header = damage_json(random, [header])
    if random.randrange(4):
        payload = damage_json(random, [payload])
    return header.replace(b"\n", b"") + b"\n" + payload


def _sign_pair(data: bytes) -> bytes:
    header, _, payload = data.partition(b"\n")
    return _signed(header, payload)


class _Believer(Authenticator):
    """Vouches for any claims: what the host checks is under test."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        read = json.loads(credentials.token or "")
        if not isinstance(read, dict):
            raise Unauthenticated("no claims")
        return Identity(read.get("sub", ""), "believer", read)


@cache
def _gate() -> Gate:
    config = NodeConfig.build(
        {"name": "signer-1", "clients": {"names": [CLIENT]}, "plugins": {"x": {}}, "token": {"leeway_seconds": 2.0}}
    )
    return Gate(config, [("x", _Believer())], SignerMetrics(new_registry()), clock=lambda: float(NOW))


@cache
def _door() -> Door:
    config = ServerConfig(bind="127.0.0.1:0", client_names=(CLIENT,))
    return Door(config, {}, [("x", _Believer())], 1.0, CoordinatorMetrics(new_registry()))


def _fresh(data: bytes) -> bytes:
    """Claims with a token id that was not seen, so that the same input has the same outcome each time."""
    return data.replace(_claims_id(), secrets.token_hex(8).encode())


@cache
def _claims_id() -> bytes:
    return b"0123456789abcdef"


def _gate_seeds() -> list[bytes]:
    return [json.dumps({**claims(), "jti": _claims_id().decode(), "exp": NOW + 60}).encode()]


def _admit(data: bytes) -> tuple[bytes, str]:
    _check_json(data)
    token = _fresh(data)
    return token, settle(_gate().admit(token.decode(), (CLIENT,), BODY))


def _check_json(data: bytes) -> None:
    """Claims come to the gate from an authenticator, which has read them as strictly as ours does."""
    try:
        decode_json(data, dict[str, Any])
    except ValueError:
        raise Unauthenticated("no claims") from None


def _admitted(_data: bytes, value: tuple[bytes, str]) -> None:
    token, client = value
    given, now = json.loads(token), NOW
    assert (given["iss"], given["aud"], given["body_sha256"]) == ("frost-coord", "signer-1", body_digest(BODY))
    assert client == f"{CLIENT} {given['sub']}"
    assert client.isprintable()
    assert max(given["iat"], given["nbf"]) <= now + 2
    assert now - 3 < given["exp"] <= given["iat"] + 60
    assert 1 <= len(given["jti"]) <= 256
    with pytest.raises(Unauthenticated, match="used before"):
        settle(_gate().admit(token.decode(), (CLIENT,), BODY))
    with pytest.raises(FrostSidecarError):
        settle(_gate().admit(token.decode(), (CLIENT,), BODY + b" "))


def _caller_seeds() -> list[bytes]:
    now = int(time.time())
    return [
        json.dumps({"sub": "mint", "aud": "frost-coordinator", "exp": now + 3600, "iat": now, "nbf": now}).encode(),
        json.dumps({"sub": "mint", "aud": ["x", "frost-coordinator"], "iss": "idp"}).encode(),
    ]


def _enter(data: bytes) -> tuple[dict[str, Any], str]:
    _check_json(data)
    identity = settle(_door()._identity(Credentials(data.decode(), (CLIENT,))))
    return identity.claims, _door()._subject(identity)


def _entered(_data: bytes, value: tuple[dict[str, Any], str]) -> None:
    given, subject = value
    audience = given.get("aud", "frost-coordinator")
    assert audience == "frost-coordinator" or "frost-coordinator" in audience
    assert isinstance(audience, str | list)
    assert "body_sha256" not in given
    assert 0 < len(subject) <= 256
    assert subject.isprintable()
    assert given.get("exp", time.time()) > time.time() - 3
    assert max(given.get("nbf", 0), given.get("iat", 0)) < time.time() + 3


TARGETS: Final = [
    Target(
        "HS256 token",
        _token_seeds,
        _authenticate,
        (Unauthenticated,),
        _token_read,
        mutate=damage_bytes,
        secrets=lambda: [SECRET.hex(), repr(SECRET)[2:-1], b64url(SECRET)],
        took=lambda identity: identity is not None,
    ),
    Target(
        "HS256 token, signed claims",
        _pair_seeds,
        lambda data: _authenticate(_sign_pair(data)),
        (Unauthenticated,),
        lambda data, identity: _token_read(_sign_pair(data), identity),
        mutate=damage_pair,
        took=lambda identity: identity is not None,
    ),
    Target("signer gate, claims", _gate_seeds, _admit, (Unauthenticated, Denied), _admitted),
    Target("TCP door, claims", _caller_seeds, _enter, (Unauthenticated,), _entered),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
