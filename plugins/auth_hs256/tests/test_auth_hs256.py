"""Issuer and authenticator, each against the other and against two independent JWT libraries."""

import base64
import hmac
import json
import logging
import pickle
import secrets
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from frost_sidecar_auth_hs256 import (
    Hs256Authenticator,
    Hs256Issuer,
    Secret,
    Settings,
    make_authenticator,
    make_token_issuer,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import OctKey
from rich.pretty import pretty_repr

from frost_sidecar.config import Config, convert
from frost_sidecar.encoding import b64encode, b64url
from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.model import Credentials, Identity, TlsFiles, TokenClaims
from frost_sidecar.plugins import load

KEY = secrets.token_bytes(32)


def claims(**changes: Any) -> TokenClaims:
    now = int(time.time())
    base = TokenClaims(
        iss="frost-coord",
        sub="frost-coordinator",
        aud="signer-1",
        iat=now,
        nbf=now,
        exp=now + 30,
        jti="one",
        body_sha256=b64url(b"\0" * 32),
    )
    return msgspec.structs.replace(base, **changes)


def raw(header: object, payload: object, key: bytes = KEY) -> str:
    """A token with any header and payload, signed by hand."""
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    text = ".".join(b64url(part) for part in parts)
    return f"{text}.{b64url(algorithm.sign(text.encode(), key))}"


RFC_7515_KEY = base64.urlsafe_b64decode(
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
)
HEADER = {"alg": "HS256", "typ": "JWT"}


def payload(**changes: Any) -> dict[str, Any]:
    values = {**msgspec.to_builtins(claims()), **changes}
    return {name: value for name, value in values.items() if value is not None}


async def authenticate(token: str | None, key: bytes = KEY) -> Identity | None:
    return await Hs256Authenticator(Secret(key)).authenticate(Credentials(token))


async def refusal(token: str, key: bytes = KEY) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authenticate(token, key)
    text = str(caught.value)
    assert len(text) < 200
    assert token[:40] not in text
    return text


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_there_and_back() -> None:
    sent = claims()
    token = await Hs256Issuer(Secret(KEY)).issue(sent)
    assert await authenticate(token) == Identity("frost-coordinator", "hs256", msgspec.to_builtins(sent))


async def test_other_libraries_read_our_tokens() -> None:
    sent = claims()
    token = await Hs256Issuer(Secret(KEY)).issue(sent)
    assert jwt.decode(token, KEY, algorithms=["HS256"], audience="signer-1") == msgspec.to_builtins(sent)
    read = joserfc_jwt.decode(token, OctKey.import_key(KEY), algorithms=["HS256"])
    assert read.header == HEADER
    assert read.claims == msgspec.to_builtins(sent)
    assert base64.urlsafe_b64decode(token.partition(".")[0] + "==") == b'{"alg":"HS256","typ":"JWT"}'


async def test_we_read_other_libraries_tokens() -> None:
    for token in (
        jwt.encode(payload(), KEY, algorithm="HS256", headers={"kid": "x"}),
        joserfc_jwt.encode({"alg": "HS256"}, payload(), OctKey.import_key(KEY)),
    ):
        identity = await authenticate(token)
        assert identity is not None
        assert identity.claims.keys() == payload().keys()
        assert identity.claims["body_sha256"] == payload()["body_sha256"]


@pytest.mark.parametrize("alg", ["none", "NONE", "hs256", "HS384", "EdDSA", "RS256", "Ed25519"])
async def test_another_algorithm_is_not_ours(alg: str) -> None:
    assert await authenticate(raw({"alg": alg}, payload())) is None


async def test_no_token_is_not_ours() -> None:
    assert await authenticate(None) is None


async def test_an_unsigned_token() -> None:
    token = jwt.encode(payload(), "", algorithm="none")
    assert "three parts" in await refusal(token)
    forged = token.replace(token.partition(".")[0], b64url(json.dumps(HEADER).encode()))
    assert "three parts" in await refusal(forged)


async def test_a_public_key_is_not_the_secret() -> None:
    """The classic confusion: a token signed with a public key, that everybody has, as if it were the HMAC secret."""
    public = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
    assert "signature is wrong" in await refusal(raw(HEADER, payload(), public))
    with pytest.raises(ConfigError, match="asymmetric"):
        Hs256Issuer(Secret(public))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": lambda: int(time.time()) - 5}, "expired"),
        ({"exp": None}, "exp is missing"),
        ({"exp": "9999999999"}, "exp is missing or not a number"),
        ({"exp": True}, "exp is missing or not a number"),
        ({"nbf": lambda: int(time.time()) + 60}, "not valid yet (nbf"),
        ({"iat": lambda: int(time.time()) + 60}, "not valid yet (iat"),
        ({"exp": 10**400}, "exp is out of range"),
        ({"exp": -(10**400)}, "exp is out of range"),
        ({"nbf": -(10**400)}, "nbf is out of range"),
        ({"nbf": "soon"}, "nbf is missing or not a number"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"sub": 7}, "no subject"),
        ({"sub": ["a"]}, "no subject"),
    ],
)
async def test_wrong_claims(changes: dict[str, object], reason: str) -> None:
    now = {name: value() if callable(value) else value for name, value in changes.items()}
    assert reason in await refusal(raw(HEADER, payload(**now)))


async def test_clocks_that_differ_a_little() -> None:
    now = int(time.time())
    strict, mild = Hs256Authenticator(Secret(KEY)), Hs256Authenticator(Secret(KEY), leeway=5)
    for changes in ({"nbf": now + 3}, {"iat": now + 3}, {"exp": now - 3}):
        credentials = Credentials(raw(HEADER, payload(**changes)))
        assert await mild.authenticate(credentials)
        with pytest.raises(Unauthenticated):
            await strict.authenticate(credentials)
    for changes in ({"nbf": now + 10}, {"iat": now + 10}, {"exp": now - 10}):
        with pytest.raises(Unauthenticated):
            await mild.authenticate(Credentials(raw(HEADER, payload(**changes))))
    assert await mild.authenticate(Credentials(raw(HEADER, payload(exp=1e300))))


@pytest.mark.parametrize("member", ["crit", "b64", "jku", "jwk", "x5u", "x5c"])
async def test_headers_that_bring_their_own_rules(member: str) -> None:
    assert repr(member) in await refusal(raw({**HEADER, member: ["exp"]}, payload()))


async def test_a_changed_token() -> None:
    token = raw(HEADER, payload())
    header, body, signature = token.split(".")
    other = b64url(json.dumps(payload(sub="someone-else")).encode())
    assert "signature is wrong" in await refusal(f"{header}.{other}.{signature}")
    assert "signature is wrong" in await refusal(f"{b64url(json.dumps({'alg': 'HS256'}).encode())}.{body}.{signature}")
    assert "signature is wrong" in await refusal(token, secrets.token_bytes(32))
    assert "signature is wrong" in await refusal(f"{header}.{body}.{signature[:-3]}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "!!!.???.***",
        "é.é.é",
        raw(HEADER, payload()) + "\n",
        " " + raw(HEADER, payload()),
        raw(HEADER, payload()) + "=",
        raw(HEADER, payload()).replace(".", "=.", 1),
        raw(b"[]", payload()),
        raw(b"{", payload()),
        raw(b'{"alg":"HS256","alg":"none"}', payload()),
        raw(b'{"typ":"JWT"}', payload()),
        raw(b'{"alg":256}', payload()),
        raw(b'{"alg":"HS256","x":' + b"[" * 2000 + b"]" * 2000 + b"}", payload()),
        raw(HEADER, b"[]"),
        raw(HEADER, b"not json"),
        raw(HEADER, b"\xff"),
        raw(HEADER, b"[" * 2500),
    ],
)
async def test_junk(token: str) -> None:
    with pytest.raises(Unauthenticated, match=r"not a compact JWT|not a JWT"):
        await authenticate(token)


@pytest.mark.parametrize(
    "body",
    [
        b'{"sub":"x","exp":NaN}',
        b'{"sub":"x","exp":Infinity}',
        b'{"sub":"x","exp":1e999}',
        b'{"sub":"x","exp":9999999999,"nbf":NaN}',
        b'{"sub":"x","exp":9999999999,"iat":-Infinity}',
        b'{"sub":"x","exp":9999999999,"other":{"x":[1e999]}}',
        b'{"sub":"x","exp":' + b"9" * 5000 + b"}",
        b'{"sub":"x","exp":1,"exp":9999999999}',
        b'{"sub":"victim","sub":"admin","exp":9999999999}',
        b'{"sub":"x","exp":9999999999,"other":{"a":1,"a":2}}',
        b'{"sub":"\\ud800","exp":9999999999}',
        b'{"sub":"\xff","exp":9999999999}',
        b'\xef\xbb\xbf{"sub":"x","exp":9999999999}',
        '{"sub":"x","exp":9999999999}'.encode("utf-16"),
        '{"sub":"x","exp":9999999999}'.encode("utf-16-le"),
        '{"sub":"x","exp":9999999999}'.encode("utf-32"),
        b'{"sub":"x","exp":9999999999,"a":' + b"[" * 2900 + b"]" * 2900 + b"}",
        b'{"sub":"x","exp":9999999999} {}',
        b"{'sub':'x','exp':9999999999}",
    ],
)
async def test_a_payload_that_readers_may_differ_over(body: bytes) -> None:
    assert "its payload is not strict JSON" in await refusal(raw(HEADER, body))


@pytest.mark.parametrize("name", ["iss", "jti", "body_sha256", "aud"])
@pytest.mark.parametrize("value", [5, True, {}, {"a": "b"}, [5], ["signer-1", None]])
async def test_claims_that_are_no_strings(name: str, value: object) -> None:
    assert f"claim {name} is not a string" in await refusal(raw(HEADER, payload(**{name: value})))
    assert f"claim {name} is not a string" in await refusal(raw(HEADER, payload() | {name: None}))


async def test_numbers_and_audiences_that_are_right() -> None:
    for changes in ({"exp": 9999999999.5}, {"exp": 10**300}, {"aud": ["signer-1", "signer-2"]}, {"iss": None}):
        identity = await authenticate(raw(HEADER, payload(**changes)))
        assert identity is not None
        assert changes.items() <= (identity.claims | {"iss": None} if "iss" in changes else identity.claims).items()


def lax(part: str) -> str:
    """Another spelling of the same bytes, for decoders that ignore trailing bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = part[:-1] + alphabet[alphabet.index(part[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(part + "==")
    return other


def signed(text: str) -> str:
    return f"{text}.{b64url(hmac.digest(KEY, text.encode(), 'sha256'))}"


async def test_one_spelling_of_a_token() -> None:
    """Also where the signature is over the other spelling: base64url without spare bits, in each of the three parts."""
    header, body = b64url(b'{"alg":"HS256" }'), b64url(json.dumps(payload()).ljust(400).encode())
    token = signed(f"{header}.{body}")
    assert await authenticate(token)
    head, _, signature = token.rpartition(".")
    for other in (signed(f"{lax(header)}.{body}"), signed(f"{header}.{lax(body)}"), f"{head}.{lax(signature)}"):
        assert other != token
        assert "base64url or JSON is broken" in await refusal(other)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "none"])
async def test_pyjwt_is_told_one_algorithm(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line: even where our own look at the header lets another algorithm through."""
    token = jwt.encode(payload(), "" if algorithm == "none" else KEY.ljust(64, b"\0"), algorithm=algorithm)
    monkeypatch.setattr("frost_sidecar_auth_hs256.authenticator._header", lambda token: {"alg": "HS256"})
    told: list[object] = []
    real = jwt.PyJWS.decode

    def decode(self: jwt.PyJWS, *arguments: Any, **options: Any) -> Any:
        told.append(options["algorithms"])
        return real(self, *arguments, **options)

    monkeypatch.setattr(jwt.PyJWS, "decode", decode)
    with pytest.raises(Unauthenticated, match="is not a JWT"):
        await Hs256Authenticator(Secret(KEY.ljust(64, b"\0"))).authenticate(Credentials(token))
    assert told == [["HS256"]]


async def test_the_edges_of_the_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7519: on or after exp a token is refused, on nbf it is accepted; both moved by the leeway."""
    now = 2_000_000_000
    monkeypatch.setattr("frost_sidecar_auth_hs256.authenticator.time.time", lambda: float(now))
    for leeway in (0, 2, 2.5):
        authenticator = Hs256Authenticator(Secret(KEY), leeway=leeway)
        base = {"exp": now + 30, "nbf": now, "iat": now}
        for changes in ({"exp": now - leeway + 0.25}, {"nbf": now + leeway}, {"iat": now + leeway}):
            assert await authenticator.authenticate(Credentials(raw(HEADER, payload(**{**base, **changes}))))
        for changes in ({"exp": now - leeway}, {"nbf": now + leeway + 0.25}, {"iat": now + leeway + 0.25}):
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(Credentials(raw(HEADER, payload(**{**base, **changes}))))


async def test_a_huge_token() -> None:
    assert "longer than 8192" in await refusal(raw(HEADER, payload(sub="x" * 10000)))
    assert "longer than 8192" in await refusal("a" * 10_000_000)


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}"))
async def test_anything_else_is_refused_or_not_ours(token: str) -> None:
    with suppress(Unauthenticated):
        assert await authenticate(token) is None


@given(st.data())
async def test_no_single_change_passes(data: st.DataObject) -> None:
    token = raw(HEADER, payload())
    index = data.draw(st.integers(0, len(token) - 1))
    char = data.draw(st.sampled_from("ABCxyz019-_.=+/ \n"))
    changed = token[:index] + char + token[index + 1 :]
    if changed == token:
        return
    with suppress(Unauthenticated):
        assert await authenticate(changed) is None


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
    assert await authenticator.authenticate(Credentials(raw(HEADER, payload())))


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


@pytest.mark.parametrize("mode", [0o604, 0o644])
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
