"""Why a token is refused, in the one word that goes into problems, metrics and the audit log."""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
from frost_sidecar_auth_hs256 import Hs256Authenticator, Keyring, Secret

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import Refusal, Unauthenticated
from frost_sidecar.model import Credentials

KEY = secrets.token_bytes(32)
HEADER = {"alg": "HS256", "typ": "JWT"}
NOW = int(time.time())
CLAIMS: dict[str, Any] = {"sub": "frost-coordinator", "iat": NOW, "nbf": NOW, "exp": NOW + 3600}


def token(header: object = HEADER, payload: object = CLAIMS, *, key: bytes = KEY) -> str:
    """Signed by hand, with any header and payload: bytes as they stand, everything else as JSON."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    text = ".".join(b64url(part) for part in parts)
    return f"{text}.{b64url(hmac.digest(key, text.encode(), 'sha256'))}"


def with_claims(**changes: object) -> str:
    return token(payload={**CLAIMS, **changes})


def without(name: str) -> str:
    return token(payload={each: value for each, value in CLAIMS.items() if each != name})


def another_payload() -> str:
    header, _, signature = token().split(".")
    return f"{header}.{with_claims(sub='x').split('.')[1]}.{signature}"


REFUSED: dict[str, tuple[Callable[[], str], Refusal]] = {
    "empty": (lambda: "", "token-malformed"),
    "no dots": (lambda: "token", "token-malformed"),
    "two parts": (lambda: token().rpartition(".")[0], "token-malformed"),
    "no signature": (lambda: token().rpartition(".")[0] + ".", "token-signature"),
    "four parts": (lambda: token() + ".x", "token-malformed"),
    "five parts": (lambda: token() + ".x.y", "token-malformed"),
    "too long": (lambda: with_claims(other="x" * 9000), "token-malformed"),
    "padded": (lambda: token() + "=", "token-malformed"),
    "a line break after it": (lambda: token() + "\n", "token-malformed"),
    "impossible length of base64": (lambda: token() + "AA", "token-malformed"),
    "header is no JSON": (lambda: token(b"{"), "token-malformed"),
    "header is a list": (lambda: token([]), "token-malformed"),
    "header has a member twice": (lambda: token(b'{"alg":"HS256","alg":"HS256"}'), "token-malformed"),
    "header without alg": (lambda: token({"typ": "JWT"}), "token-malformed"),
    "alg is a number": (lambda: token({"alg": 256}), "token-malformed"),
    "payload is no JSON": (lambda: token(payload=b"x"), "token-malformed"),
    "payload is a list": (lambda: token(payload=[]), "token-malformed"),
    "payload has a member twice": (lambda: token(payload=b'{"sub":"a","sub":"b"}'), "token-malformed"),
    "payload is not UTF-8": (lambda: token(payload=b'{"sub":"\xff"}'), "token-malformed"),
    "payload has NaN": (lambda: with_claims(exp=float("nan")), "token-malformed"),
    **{
        f"header has {name}": (partial(token, {**HEADER, name: ["x"]}), "token-header")
        for name in ("b64", "crit", "cty", "enc", "epk", "jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u", "zip")
    },
    "another type of token": (lambda: token({**HEADER, "typ": "dpop+jwt"}), "token-header"),
    "type is a number": (lambda: token({**HEADER, "typ": 5}), "token-header"),
    "another secret": (lambda: token(key=secrets.token_bytes(32)), "token-signature"),
    "empty secret": (lambda: token(key=b""), "token-signature"),
    "signature cut": (lambda: token()[:-3], "token-signature"),
    "signature longer": (lambda: f"{token()[:-1]}AAAA", "token-signature"),
    "another payload": (another_payload, "token-signature"),
    "wrong signature before wrong claims": (lambda: token(payload={}, key=bytes(32)), "token-signature"),
    "expired": (lambda: with_claims(exp=NOW - 60), "token-expired"),
    "expired in 1970": (lambda: with_claims(exp=0), "token-expired"),
    "nbf ahead": (lambda: with_claims(nbf=NOW + 86400), "token-not-yet-valid"),
    "iat ahead": (lambda: with_claims(iat=NOW + 86400), "token-not-yet-valid"),
    "no exp": (lambda: without("exp"), "token-claims"),
    "exp is text": (lambda: with_claims(exp="9999999999"), "token-claims"),
    "exp is true": (lambda: with_claims(exp=True), "token-claims"),
    "exp is null": (lambda: with_claims(exp=None), "token-claims"),
    "exp beyond a double": (lambda: with_claims(exp=10**400), "token-claims"),
    "nbf is text": (lambda: with_claims(nbf="now"), "token-claims"),
    "iss is a number": (lambda: with_claims(iss=5), "token-claims"),
    "jti is a number": (lambda: with_claims(jti=5), "token-claims"),
    "aud is a number": (lambda: with_claims(aud=5), "token-claims"),
    "aud has a number": (lambda: with_claims(aud=["a", 5]), "token-claims"),
    "body_sha256 is a number": (lambda: with_claims(body_sha256=5), "token-claims"),
    "no sub": (lambda: without("sub"), "token-subject"),
    "sub is empty": (lambda: with_claims(sub=""), "token-subject"),
    "sub is a list": (lambda: with_claims(sub=["a"]), "token-subject"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_each_refusal_has_its_reason(kind: str) -> None:
    make, reason = REFUSED[kind]
    authenticator = Hs256Authenticator(Keyring(Secret(KEY)))
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(Credentials(make()))
    assert caught.value.reason == reason
    assert reason in get_args(Refusal)
    identity = await authenticator.authenticate(Credentials(token()))
    assert identity is not None
    assert identity.subject == "frost-coordinator"


@pytest.mark.parametrize("alg", ["none", "None", "hs256", "HS512", "EdDSA", "RS256", ""])
async def test_a_token_of_another_kind_has_none_here(alg: str) -> None:
    assert await Hs256Authenticator(Keyring(Secret(KEY))).authenticate(Credentials(token({"alg": alg}))) is None


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, "token-subject"),
        ({"iss": ""}, "token-subject"),
        ({"iss": 5}, "token-claims"),
        ({"iss": "a", "exp": 1}, "token-expired"),
        ({"iss": "a", "exp": None}, "token-claims"),
        ({"iss": "a", "iat": NOW + 86400}, "token-not-yet-valid"),
    ],
)
async def test_undated_tokens_have_the_same_reasons(claims: dict[str, Any], reason: Refusal) -> None:
    authenticator = Hs256Authenticator(Keyring(Secret(KEY)), accept_undated=True)
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(Credentials(token(payload=claims)))
    assert caught.value.reason == reason
    assert await authenticator.authenticate(Credentials(token(payload={"iss": "a"}))) is not None
