"""Where the secret comes from, which ones are refused, and that it shows nowhere."""

import base64
import itertools
import logging
import pickle
import secrets
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from frost_sidecar_auth_hs256 import (
    Hs256Authenticator,
    Hs256Issuer,
    Keyring,
    Secret,
    Settings,
    make_authenticator,
    make_token_issuer,
)
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from frost_sidecar.config import Config
from frost_sidecar.encoding import b64encode, b64url
from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.model import Credentials, Identity, TlsFiles, TokenClaims
from frost_sidecar.plugins import load
from frost_sidecar.process import convert

KEY = secrets.token_bytes(32)


def claims() -> TokenClaims:
    now = int(time.time())
    return TokenClaims(
        iss="frost-coord",
        sub="frost-coordinator",
        aud="signer-1",
        iat=now,
        nbf=now,
        exp=now + 30,
        jti="one",
        body_sha256=b64url(b"\0" * 32),
    )


RFC_7515_KEY = base64.urlsafe_b64decode(
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
)


async def authenticate(token: str, key: bytes = KEY) -> Identity | None:
    return await Hs256Authenticator(Keyring(Secret(key))).authenticate(Credentials(token))


# --- where the secret comes from --------------------------------------------------------------------------------------


def context(tmp_path: Path, *, dev: Any = False, **settings: object) -> PluginContext:
    return PluginContext(
        name="auth_hs256",
        role="signer",
        dev=dev,
        tls=TlsFiles(tmp_path, tmp_path, tmp_path),
        signers=(),
        settings=lambda kind: convert(settings, kind, path="plugins.auth_hs256"),
        path=tmp_path.joinpath,
    )


def secret_file(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "secret.b64"
    path.write_text(text)
    path.chmod(mode)
    return path.name


async def accepted(made: PluginContext, key: bytes) -> None:
    token = await make_token_issuer(made).issue(claims())
    assert await authenticate(token, key)
    assert await make_authenticator(made).authenticate(Credentials(token))


@pytest.mark.parametrize(
    "spell",
    [
        b64encode,
        b64url,
        lambda key: f"\n  {b64encode(key)}\r\n",
        lambda key: base64.encodebytes(key).decode(),
    ],
    ids=["standard", "url-safe", "white space", "wrapped lines"],
)
async def test_spellings_of_the_file(tmp_path: Path, spell: Callable[[bytes], str]) -> None:
    key = secrets.token_bytes(100)
    await accepted(context(tmp_path, secret_file=secret_file(tmp_path, spell(key))), key)


async def test_the_file_wins_over_the_plain_form(tmp_path: Path) -> None:
    plain = b64encode(secrets.token_bytes(32))
    file = secret_file(tmp_path, b64encode(KEY))
    await accepted(context(tmp_path, secret_file=file, secret_b64=plain), KEY)
    await accepted(context(tmp_path, secret_b64=b64encode(KEY)), KEY)


async def test_through_the_hosts_own_loader_and_environment(tmp_path: Path) -> None:
    config_file = tmp_path / "sidecar.toml"
    config_file.write_text("[plugins.auth_hs256]\n[[signers]]\nidentifier=1\nurl='https://a'\nzone='z'\n")
    file = secret_file(tmp_path, b64encode(KEY))
    environ = {"JWT_HS256_B64_FILE": str(tmp_path / file), "JWT_HS256_B64": "ignored"}
    config = Config.load(config_file, environ)
    loaded = load(config, "signer")
    [(name, authenticator)] = loaded.all("make_authenticator", Hs256Authenticator)
    assert name == "auth_hs256"
    assert await authenticator.authenticate(Credentials(await Hs256Issuer(Keyring(Secret(KEY))).issue(claims())))


def test_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugins\.auth_hs256: no secret; set secret_file .*JWT_HS256_B64_FILE"):
        make_authenticator(context(tmp_path))


def test_unknown_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret_hex"):
        make_authenticator(context(tmp_path, secret_hex="00"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "has 0 bytes"),
        (b"devsecret", "has 9 bytes"),
        (secrets.token_bytes(31), "has 31 bytes"),
        (b"a" * 32, "pattern"),
        (b"ab" * 32, "pattern"),
        (bytes(range(64)), "pattern"),
        (b"0123456789abcdef" * 2, "repeated"),
        (secrets.token_bytes(20) * 2, "repeated"),
        (b"devsecret" * 4, "pattern"),
        (b"my-very-own-devsecret-for-the-laptop-only", "common word"),
        (b"ChangeMe-" + secrets.token_bytes(32), "common word"),
        (RFC_7515_KEY, "docum"),
    ],
    ids=itertools.count(),
)
async def test_weak_secrets(tmp_path: Path, value: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    for settings in ({"secret_b64": b64encode(value)}, {"secret_file": secret_file(tmp_path, b64encode(value))}):
        with pytest.raises(ConfigError, match=reason) as caught:
            make_authenticator(context(tmp_path, **settings))
        assert "openssl rand" in str(caught.value)
        if value:
            assert b64encode(value) not in str(caught.value)
            await accepted(context(tmp_path, dev=True, **settings), value)
            [*_, last] = caplog.records
            assert last.levelno == logging.WARNING
            assert "weak secret" in last.getMessage()
            assert b64encode(value) not in caplog.text


@given(st.binary(min_size=32, max_size=32))
def test_the_judgement_of_a_secret_never_fails(value: bytes) -> None:
    from frost_sidecar_auth_hs256.secret import find_weakness

    assert find_weakness(value) is None or isinstance(find_weakness(value), str)


def test_random_secrets_pass() -> None:
    from frost_sidecar_auth_hs256.secret import find_weakness

    for _ in range(300):
        assert find_weakness(secrets.token_bytes(32)) is None
        assert find_weakness(secrets.token_hex(16).encode()) is None


async def test_the_development_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await accepted(context(tmp_path, dev=True), b"devsecret")
    ours = [record.levelno for record in caplog.records if record.name.startswith("frost_sidecar")]
    assert ours == [logging.WARNING] * 2
    assert "development secret" in caplog.text
    assert "devsecret" not in caplog.text


@pytest.mark.parametrize("text", ["not base64!", "AAA=AAA", "ab-_+/", "é"])
@pytest.mark.parametrize("dev", [False, True])
def test_a_secret_that_is_no_base64(tmp_path: Path, text: str, *, dev: bool) -> None:
    with pytest.raises(ConfigError, match="base64") as caught:
        make_authenticator(context(tmp_path, dev=dev, secret_file=secret_file(tmp_path, text)))
    assert text not in str(caught.value)


@pytest.mark.parametrize("mode", [0o602, 0o604, 0o622, 0o644])
async def test_a_file_that_everybody_can_read(tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    file = secret_file(tmp_path, b64encode(KEY), mode)
    with pytest.raises(ConfigError, match=r"chmod o-rwx .*secret\.b64"):
        make_authenticator(context(tmp_path, secret_file=file))
    await accepted(context(tmp_path, dev=True, secret_file=file), KEY)
    assert "every user" in caplog.text


async def test_a_file_for_the_group(tmp_path: Path) -> None:
    await accepted(context(tmp_path, secret_file=secret_file(tmp_path, b64encode(KEY), 0o640)), KEY)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "big").write_text("A" * 20000)
    (tmp_path / "big").chmod(0o600)
    for name, reason in {
        "none": "No such file",
        ".": "Is a directory",
        "pipe": "not a regular",
        "big": "larger",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            make_authenticator(context(tmp_path, secret_file=name))


# --- the secret stays secret ------------------------------------------------------------------------------------------


async def test_the_secret_shows_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    text = b64encode(KEY)
    made = context(tmp_path, secret_b64=text)
    issuer, authenticator = make_token_issuer(made), make_authenticator(made)
    settings = made.settings(Settings)
    await issuer.issue(claims())
    secret = Secret(KEY)
    objects = [settings, secret, issuer, authenticator, vars(issuer), vars(authenticator)]
    shown = " ".join([*map(repr, objects), *map(str, objects), *map(pretty_repr, objects), caplog.text])
    assert text not in shown
    assert repr(KEY)[2:-1] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
