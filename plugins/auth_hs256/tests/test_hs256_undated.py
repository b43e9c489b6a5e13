"""Tokens without end and subject, as the original coordinator's callers send them: only where that is asked for."""

from __future__ import annotations

import json
import logging
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from frost_sidecar_auth_hs256 import Hs256Authenticator, Keyring, Secret

from frost_sidecar.config import Config
from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.model import Credentials, Identity
from frost_sidecar.plugins import load
from frost_sidecar.signer import NodeConfig
from frost_sidecar.testing.authority import Authority

KEY = secrets.token_bytes(32)


async def authenticate(claims: dict[str, Any], *, accept_undated: bool = True, key: bytes = KEY) -> Identity | None:
    authenticator = Hs256Authenticator(Keyring(Secret(KEY)), leeway=2, accept_undated=accept_undated)
    return await authenticator.authenticate(Credentials(jwt.encode(claims, key, algorithm="HS256")))


async def test_the_original_callers_token() -> None:
    claims: dict[str, Any] = {"iss": "frost-coord"}
    assert await authenticate(claims) == Identity("frost-coord", "hs256", claims)
    with pytest.raises(Unauthenticated, match="exp is missing"):
        await authenticate(claims, accept_undated=False)
    with pytest.raises(Unauthenticated, match="no subject"):
        await authenticate({**claims, "exp": int(time.time()) + 30}, accept_undated=False)


@pytest.mark.parametrize(
    ("claims", "subject"),
    [
        ({"sub": "mint"}, "mint"),
        ({"sub": "mint", "iss": "frost-coord"}, "mint"),
        ({"iss": "frost-coord", "exp": 9999999999}, "frost-coord"),
        ({"iss": "frost-coord", "sub": "mint", "exp": 9999999999, "iat": 5, "nbf": 5}, "mint"),
    ],
)
async def test_who_it_is(claims: dict[str, Any], subject: str) -> None:
    identity = await authenticate(claims)
    assert identity is not None
    assert (identity.subject, identity.claims) == (subject, claims)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, "neither a subject"),
        ({"exp": 9999999999}, "neither a subject"),
        ({"iss": ""}, "neither a subject"),
        ({"iss": "a", "sub": ""}, "no subject"),
        ({"iss": "a", "exp": 1}, "expired"),
        ({"iss": "a", "exp": "9999999999"}, "exp is missing or not a number"),
        ({"iss": "a", "exp": None}, "exp is missing or not a number"),
        ({"iss": "a", "nbf": 9999999999}, "nbf is in the future"),
        ({"iss": "a", "iat": 9999999999}, "iat is in the future"),
        ({"iss": "a", "body_sha256": 5}, "body_sha256 is not a string"),
        ({"iss": "a", "aud": [5]}, "aud is not a string"),
    ],
)
async def test_what_is_there_is_checked_all_the_same(claims: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unauthenticated, match=reason):
        await authenticate(claims)


@pytest.mark.parametrize("payload", [{"iss": 5}, {"iss": None}, {"iss": "a", "sub": 5}, {"iss": "a", "sub": None}])
async def test_names_that_are_no_strings(payload: dict[str, Any]) -> None:
    """PyJWT's claims do not take these: the payload is signed as bytes."""
    token = jwt.PyJWS().encode(json.dumps(payload).encode(), KEY, algorithm="HS256")
    authenticator = Hs256Authenticator(Keyring(Secret(KEY)), accept_undated=True)
    with pytest.raises(Unauthenticated, match=r"not a string|no subject"):
        await authenticator.authenticate(Credentials(token))


async def test_another_secret_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="signature is wrong"):
        await authenticate({"iss": "frost-coord"}, key=secrets.token_bytes(32))


# --- where it may be switched on --------------------------------------------------------------------------------------


def plugins(*, on: bool) -> dict[str, Any]:
    return {"auth_hs256": {"secret_b64": b64encode(KEY), **({"accept_undated": True} if on else {})}}


def coordinator(*, on: bool) -> Config:
    signers = [{"identifier": 1, "url": "https://signer-1.test", "zone": "a"}]
    return Config.build({"signers": signers, "plugins": {"transport_mtls": {}, **plugins(on=on)}})


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates where a configuration without ``tls`` looks for them."""
    files = Authority(tmp_path).issue("coordinator", ["coordinator.test"])
    monkeypatch.setattr(Config, "tls_files", files)


@pytest.mark.usefixtures("tls")
async def test_a_coordinator_takes_the_setting_and_warns_loudly(caplog: pytest.LogCaptureFixture) -> None:
    credentials = Credentials(jwt.encode({"iss": "frost-coord"}, KEY, algorithm="HS256"))
    [(_, strict)] = load(coordinator(on=False), "coordinator").all("make_authenticator", Hs256Authenticator)
    assert caplog.records == []
    with pytest.raises(Unauthenticated):
        await strict.authenticate(credentials)
    [(_, lax)] = load(coordinator(on=True), "coordinator").all("make_authenticator", Hs256Authenticator)
    assert await lax.authenticate(credentials)
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert "a token without exp is good for ever" in warning.getMessage()


def test_a_signer_refuses_to_start_with_it(caplog: pytest.LogCaptureFixture) -> None:
    def node(*, on: bool) -> NodeConfig:
        return NodeConfig.build({"name": "signer-1", "clients": {"names": ["DNS:c"]}, "plugins": plugins(on=on)})

    assert load(node(on=False), "signer").all("make_authenticator", Hs256Authenticator)
    with pytest.raises(ConfigError, match=r"^plugins\.auth_hs256\.accept_undated: a signer takes only .* remove"):
        load(node(on=True), "signer")
    assert caplog.records == []
