"""Issuer and authenticator, each against the other and against two independent JWT libraries."""

import base64
import hmac
import itertools
import json
import secrets
import time
from contextlib import suppress
from typing import Any

import jwt
import msgspec
import pytest
from frost_sidecar_auth_hs256 import (
    Hs256Authenticator,
    Hs256Issuer,
    Keyring,
    Secret,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import OctKey

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.model import Credentials, Identity, TokenClaims

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
    return await Hs256Authenticator(Keyring(Secret(key))).authenticate(Credentials(token))


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
    token = await Hs256Issuer(Keyring(Secret(KEY))).issue(sent)
    assert await authenticate(token) == Identity("frost-coordinator", "hs256", msgspec.to_builtins(sent))


async def test_other_libraries_read_our_tokens() -> None:
    sent = claims()
    token = await Hs256Issuer(Keyring(Secret(KEY))).issue(sent)
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
    assert await authenticate(token) is None  # another plugin's to refuse, or the host's
    forged = token.replace(token.partition(".")[0], b64url(json.dumps(HEADER).encode()))
    assert "signature is wrong" in await refusal(forged)


async def test_a_public_key_is_not_the_secret() -> None:
    """The classic confusion: a token signed with a public key, that everybody has, as if it were the HMAC secret."""
    public = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"
    assert "signature is wrong" in await refusal(raw(HEADER, payload(), public))
    with pytest.raises(ConfigError, match="asymmetric"):
        Secret(public)


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
    strict, mild = Hs256Authenticator(Keyring(Secret(KEY))), Hs256Authenticator(Keyring(Secret(KEY)), leeway=5)
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
    ids=itertools.count(),
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
        await Hs256Authenticator(Keyring(Secret(KEY.ljust(64, b"\0")))).authenticate(Credentials(token))
    assert told == [["HS256"]]


async def test_the_edges_of_the_leeway(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7519: on or after exp a token is refused, on nbf it is accepted; both moved by the leeway."""
    now = 2_000_000_000
    monkeypatch.setattr("frost_sidecar_auth_hs256.authenticator.time.time", lambda: float(now))
    for leeway in (0, 2, 2.5):
        authenticator = Hs256Authenticator(Keyring(Secret(KEY)), leeway=leeway)
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
