"""Tokens, good and bad: each bad one is refused with its own reason, alone and beside the plugin for HS256."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from frost_sidecar_auth_eddsa_jwks import (
    ClaimRules,
    FileKeys,
    JwksAuthenticator,
    JwksIssuer,
    KeyFiles,
    parse_jwks,
)
from frost_sidecar_auth_hs256 import Hs256Authenticator, Keyring, Secret
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet, OKPKey, RSAKey

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import Refusal, Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.metrics import CollectorRegistry, SignerMetrics, new_registry
from frost_sidecar.model import Credentials, Identity, TokenClaims
from frost_sidecar.signer import NodeConfig
from frost_sidecar.signer.access import Gate
from frost_sidecar.wire import body_digest

SECRET = secrets.token_bytes(32)
BODY = b'{"key":"default","count":1}'
NOW = int(time.time())
"""What authenticators and gates here take for the time: the tests may run long after this was read."""
CLAIMS: dict[str, Any] = {
    "iss": "frost-coord",
    "sub": "frost-coordinator",
    "aud": "signer-1",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 55,
    "jti": "one",
    "body_sha256": body_digest(BODY),
}
ED, OTHER_ED, STRANGER, EXPIRED, FOR_EDDSA = (Ed25519PrivateKey.generate() for _ in range(5))
RSA = rsa.generate_private_key(65537, 2048)


def ed_jwk(key: Ed25519PrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public_key().public_bytes_raw()), "kid": kid, **more}


def rsa_jwk(key: rsa.RSAPrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    return {**RSAKey.import_key(key).as_dict(private=False), "kid": kid, **more}


JWKS = {
    "keys": [
        ed_jwk(ED, "ed"),
        ed_jwk(OTHER_ED, "other"),
        ed_jwk(EXPIRED, "expired", exp=NOW - 10),
        ed_jwk(FOR_EDDSA, "for-eddsa", alg="EdDSA", use="sig", key_ops=["verify"]),
        rsa_jwk(RSA, "rsa"),
        # Never used, each for a reason of its own:
        ed_jwk(STRANGER, "private", d=b64url(STRANGER.private_bytes_raw())),
        {"kty": "oct", "k": b64url(SECRET), "kid": "oct"},
        ed_jwk(STRANGER, "encrypts", use="enc"),
        ed_jwk(STRANGER, "signs", key_ops=["sign"]),
        ed_jwk(STRANGER, "for-hs256", alg="HS256"),
        {**ed_jwk(STRANGER, "x25519"), "crv": "X25519"},
        {**ed_jwk(STRANGER, "unknown-curve"), "crv": "Ed1"},
        {"kty": "OKP", "crv": "Ed25519", "x": b64url(bytes(32)), "kid": "zero"},
    ]
}


def part(value: object) -> str:
    """Bytes as they stand, text as a part that is spelled already, everything else as JSON."""
    if isinstance(value, str):
        return value
    return b64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def token(header: object = None, payload: object = None, *, key: Ed25519PrivateKey = ED, **members: Any) -> str:
    """Signed by hand: any header and payload; ``members`` are added to the header, None takes one away."""
    if header is None:
        header = {"alg": "EdDSA", "kid": "ed", "typ": "JWT", **members}
        header = {name: value for name, value in header.items() if value is not None}
    text = f"{part(header)}.{part(CLAIMS if payload is None else payload)}"
    return f"{text}.{b64url(key.sign(text.encode()))}"


def with_claims(**changes: Any) -> str:
    return token(payload={**CLAIMS, **changes})


def without(name: str) -> str:
    return token(payload={each: value for each, value in CLAIMS.items() if each != name})


def rs256(kid: str, alg: str = "RS256") -> str:
    text = f"{part({'alg': alg, 'kid': kid})}.{part(CLAIMS)}"
    return f"{text}.{b64url(jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(text.encode(), RSA))}"


def hs256(secret: bytes, alg: str = "HS256", **header: Any) -> str:
    text = f"{part({'alg': alg, **header})}.{part(CLAIMS)}"
    return f"{text}.{b64url(hmac.digest(secret, text.encode(), 'sha256'))}"


def lax(text: str) -> str:
    """Another spelling of the same bytes, for decoders that ignore trailing bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(text + "==")
    return other


def changed(position: int, value: object) -> str:
    parts = token().split(".")
    parts[position] = part(value)
    return ".".join(parts)


PUBLIC = ED.public_key()
PUBLIC_FORMS: dict[str, bytes] = {
    "raw": PUBLIC.public_bytes_raw(),
    "PEM": PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "DER": PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "JWK": json.dumps(ed_jwk(ED, "ed")).encode(),
    "x": ed_jwk(ED, "ed")["x"].encode(),
}
EMBEDDED: dict[str, Any] = {
    "jwk": ed_jwk(STRANGER, "ed"),
    "jku": "https://attacker.test/jwks.json",
    "x5u": "https://attacker.test/cert.pem",
    "x5c": ["MIIB"],
    "x5t": "AAAA",
    "x5t#S256": "AAAA",
    "crit": ["exp"],
    "b64": False,
    "zip": "DEF",
    "enc": "A256GCM",
    "epk": {},
    "cty": "JWT",
}

REFUSED: dict[str, tuple[Callable[[], str], Refusal]] = {
    # no compact JWT, or one with two readings
    "empty": (lambda: "", "token-malformed"),
    "no dots": (lambda: "opaque", "token-malformed"),
    "two parts": (lambda: token().rpartition(".")[0], "token-malformed"),
    "four parts": (lambda: token() + ".x", "token-malformed"),
    "a JWE": (lambda: token() + ".x.y", "token-malformed"),
    "JSON serialisation": (lambda: json.dumps({"payload": "e30", "signatures": []}), "token-malformed"),
    "too long": (lambda: with_claims(other="x" * 9000), "token-malformed"),
    "ten million characters": (lambda: "a" * 10_000_000, "token-malformed"),
    "padded": (lambda: token() + "=", "token-malformed"),
    "standard alphabet": (lambda: changed(2, "+/" + token().split(".")[2][2:]), "token-malformed"),
    "white space before": (lambda: " " + token(), "token-malformed"),
    "a line break after": (lambda: token() + "\n", "token-malformed"),
    "not ASCII": (lambda: "é" + token(), "token-malformed"),
    "header with spare bits": (lambda: token(lax(part(b'{"alg":"EdDSA" }'))), "token-malformed"),
    "payload with spare bits": (
        lambda: token(payload=lax(part(json.dumps(CLAIMS).ljust(400).encode()))),
        "token-malformed",
    ),
    "signature with spare bits": (lambda: changed(2, lax(token().split(".")[2])), "token-malformed"),
    "header is no JSON": (lambda: token(b"{"), "token-malformed"),
    "header is a list": (lambda: token([]), "token-malformed"),
    "header has alg twice": (lambda: token(b'{"alg":"EdDSA","kid":"ed","alg":"EdDSA"}'), "token-malformed"),
    "header has kid twice": (lambda: token(b'{"alg":"EdDSA","kid":"other","kid":"ed"}'), "token-malformed"),
    "header is UTF-16": (lambda: token('{"alg":"EdDSA","kid":"ed"}'.encode("utf-16")), "token-malformed"),
    "header is nested deep": (
        lambda: token(b'{"alg":"EdDSA","x":' + b"[" * 2000 + b"]" * 2000 + b"}"),
        "token-malformed",
    ),
    "header without alg": (lambda: token(alg=None), "token-malformed"),
    "alg is a number": (lambda: token(alg=8), "token-malformed"),
    "payload is no JSON": (lambda: token(payload=b"x"), "token-malformed"),
    "payload is a list": (lambda: token(payload=[]), "token-malformed"),
    "payload has a claim twice": (
        lambda: token(payload=json.dumps(CLAIMS).encode().replace(b'{"iss"', b'{"sub":"admin","iss"')),
        "token-malformed",
    ),
    "payload is not UTF-8": (lambda: token(payload=b'{"sub":"\xff"}'), "token-malformed"),
    "payload has NaN": (lambda: with_claims(exp=float("nan")), "token-malformed"),
    "payload has infinity": (lambda: token(payload=b'{"sub":"x","exp":1e999}'), "token-malformed"),
    # algorithms
    **{
        f"alg {alg!r}": (partial(token, alg=alg), "token-algorithm")
        for alg in (
            "none",
            "None",
            "NONE",
            "nOnE",
            "",
            "eddsa",
            "ed25519",
            "Ed448",
            "ES256",
            "PS256",
            "hs256",
            "ES256K",
        )
    },
    "none without a signature": (lambda: token(alg="none").rpartition(".")[0] + ".", "token-algorithm"),
    "RS256 where it was not asked for": (lambda: rs256("rsa"), "token-algorithm"),
    # keys of its own, other readings, other kinds of tokens
    **{f"header has {name}": (partial(token, **{name: value}), "token-header") for name, value in EMBEDDED.items()},
    "signed with the embedded key": (lambda: token(key=STRANGER, jwk=EMBEDDED["jwk"]), "token-header"),
    "typ of another kind": (lambda: token(typ="dpop+jwt"), "token-header"),
    "typ is a number": (lambda: token(typ=1), "token-header"),
    # keys
    "unknown kid": (lambda: token(kid="unknown"), "token-key"),
    "no kid, several keys": (lambda: token(kid=None), "token-key"),
    "kid is empty": (lambda: token(kid=""), "token-key"),
    "kid is a number": (lambda: token(kid=1), "token-key"),
    "kid is a path": (lambda: token(kid="../../dev/null"), "token-key"),
    "kid too long": (lambda: token(kid="x" * 257), "token-key"),
    "kid of another type of key": (lambda: token(kid="rsa"), "token-key"),
    "key for another alg": (lambda: token(alg="Ed25519", kid="for-eddsa", key=FOR_EDDSA), "token-key"),
    "expired key": (lambda: token(kid="expired", key=EXPIRED), "token-key"),
    **{
        f"key that is never used: {kid}": (partial(token, kid=kid, key=STRANGER), "token-key")
        for kid in ("private", "encrypts", "signs", "for-hs256", "x25519", "unknown-curve", "zero", "oct")
    },
    # signatures
    "another key's signature": (lambda: token(key=OTHER_ED), "token-signature"),
    "another key's kid": (lambda: token(kid="other"), "token-signature"),
    "no signature": (lambda: token().rpartition(".")[0] + ".", "token-signature"),
    "signature cut": (lambda: token()[:-2], "token-signature"),
    "signature longer": (lambda: token() + "AAAA", "token-signature"),
    "signature of zeros": (lambda: changed(2, bytes(64)), "token-signature"),
    "another payload": (lambda: changed(1, {**CLAIMS, "sub": "admin"}), "token-signature"),
    "another header": (lambda: changed(0, {"alg": "EdDSA", "kid": "ed"}), "token-signature"),
    "wrong signature before wrong claims": (lambda: token(payload={}, key=STRANGER), "token-signature"),
    # times
    "expired": (lambda: with_claims(iat=NOW - 90, exp=NOW - 60), "token-expired"),
    "nbf ahead": (lambda: with_claims(nbf=NOW + 30), "token-not-yet-valid"),
    "iat ahead": (lambda: with_claims(iat=NOW + 30), "token-not-yet-valid"),
    "lives too long": (lambda: with_claims(exp=NOW + 61), "token-lifetime"),
    "lives for ever": (lambda: with_claims(exp=1e300), "token-lifetime"),
    "ends when it begins": (lambda: with_claims(exp=NOW), "token-lifetime"),
    "ends before it begins": (lambda: with_claims(exp=NOW - 1), "token-lifetime"),
    "no exp": (lambda: without("exp"), "token-claims"),
    "no iat": (lambda: without("iat"), "token-claims"),
    "exp is text": (lambda: with_claims(exp=str(NOW + 30)), "token-claims"),
    "exp is true": (lambda: with_claims(exp=True), "token-claims"),
    "exp is null": (lambda: with_claims(exp=None), "token-claims"),
    "exp is huge": (lambda: with_claims(exp=10**400), "token-claims"),
    "nbf is text": (lambda: with_claims(nbf="now"), "token-claims"),
    # the rest
    "iss is a list": (lambda: with_claims(iss=["frost-coord"]), "token-claims"),
    "jti is a number": (lambda: with_claims(jti=1), "token-claims"),
    "aud is an object": (lambda: with_claims(aud={}), "token-claims"),
    "aud has a number": (lambda: with_claims(aud=["signer-1", 1]), "token-claims"),
    "body_sha256 is null": (lambda: with_claims(body_sha256=None), "token-claims"),
    "no sub": (lambda: without("sub"), "token-subject"),
    "sub is empty": (lambda: with_claims(sub=""), "token-subject"),
    "sub is a list": (lambda: with_claims(sub=["a"]), "token-subject"),
    "iss of somebody else": (lambda: with_claims(iss="attacker"), "token-issuer"),
    "no iss": (lambda: without("iss"), "token-issuer"),
}

AT_THE_GATE: dict[str, tuple[Callable[[], str | None], Refusal]] = {
    **REFUSED,
    "no token": (lambda: None, "token-missing"),
    **{
        f"HS256 with the public key as secret: {form}": (
            partial(hs256, secret, kid="ed"),
            "token-unknown",
        )
        for form, secret in PUBLIC_FORMS.items()
    },
    "HS512": (lambda: hs256(SECRET, "HS512"), "token-unknown"),
    "another signer's": (lambda: with_claims(aud="signer-2"), "token-audience"),
    "another body's": (lambda: with_claims(body_sha256=body_digest(b"other")), "token-body"),
    "without a body": (lambda: without("body_sha256"), "token-claims"),
    "without a jti": (lambda: without("jti"), "token-claims"),
    "another issuer's": (lambda: with_claims(iss="attacker"), "token-issuer"),
}


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(JWKS))
    return path


def authenticator(
    path: Path, *, rs256: bool = False, issuer: tuple[str, ...] = ("frost-coord",), now: float = NOW
) -> JwksAuthenticator:
    algorithms: Any = ("EdDSA", "Ed25519", "RS256") if rs256 else ("EdDSA", "Ed25519")
    keys = FileKeys(path, lambda data: parse_jwks(data, algorithms), "jwks_file", max_bytes=65536)
    keys.reload()
    return JwksAuthenticator(keys, ClaimRules(max_lifetime=60, leeway=2, issuers=issuer, clock=lambda: now), algorithms)


def gate(*authenticators: tuple[str, Authenticator], now: float = NOW) -> tuple[Gate, CollectorRegistry]:
    registry = new_registry()
    config = NodeConfig.build({"name": "signer-1", "clients": {"names": ["DNS:c"]}, "plugins": {}})
    return Gate(config, authenticators, SignerMetrics(registry), clock=lambda: now), registry


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_with_its_reason(name: str, jwks: Path) -> None:
    build, reason = REFUSED[name]
    sent = build()
    with pytest.raises(Unauthenticated) as caught:
        await authenticator(jwks).authenticate(Credentials(sent))
    assert caught.value.reason == reason
    text = str(caught.value)
    assert len(text) < 200
    assert not sent or sent[:40] not in text


def test_reasons_are_those_of_the_host() -> None:
    assert {reason for _, reason in AT_THE_GATE.values()} <= set(get_args(Refusal))


@pytest.mark.parametrize("name", AT_THE_GATE)
@pytest.mark.parametrize("first", ["eddsa", "hs256", "alone"])
async def test_refused_at_a_signers_gate_and_counted(name: str, first: str, jwks: Path) -> None:
    """Also during a migration, in either order."""
    build, reason = AT_THE_GATE[name]
    both: list[tuple[str, Authenticator]] = [
        ("auth_eddsa_jwks", authenticator(jwks)),
        ("auth_hs256", Hs256Authenticator(Keyring(Secret(SECRET)))),
    ]
    if not build():
        reason = "token-missing"
    if first == "alone":
        del both[1]
    elif reason == "token-unknown" and name != "HS512":
        reason = "token-signature"
    if first == "hs256":
        both.reverse()
        if name == "no signature":
            reason = "token-signature"
    door, registry = gate(*both)
    with pytest.raises(Unauthenticated) as caught:
        await door.admit(build(), ("DNS:c",), BODY)
    assert caught.value.reason == reason
    assert registry.get_sample_value("frost_signer_refusals_total", {"reason": reason}) == 1


@pytest.mark.parametrize("hs256_first", [False, True])
async def test_both_kinds_pass_side_by_side_once_each(hs256_first: bool, jwks: Path) -> None:  # noqa: FBT001
    now = int(time.time())
    both: list[tuple[str, Authenticator]] = [
        ("auth_eddsa_jwks", authenticator(jwks, now=now)),
        ("auth_hs256", Hs256Authenticator(Keyring(Secret(SECRET)))),
    ]
    door, _ = gate(*(reversed(both) if hs256_first else both), now=now)
    times = {"iat": now, "nbf": now, "exp": now + 50}
    old = jwt.encode({**CLAIMS, **times, "jti": "two"}, SECRET, algorithm="HS256")
    new = with_claims(**times)
    assert await door.admit(new, ("DNS:c",), BODY) == "DNS:c frost-coordinator"
    assert await door.admit(old, ("DNS:c",), BODY) == "DNS:c frost-coordinator"
    for again in (new, old):
        with pytest.raises(Unauthenticated) as caught:
            await door.admit(again, ("DNS:c",), BODY)
        assert caught.value.reason == "token-replayed"


GOOD: Mapping[str, Callable[[], str]] = {
    "EdDSA": token,
    "Ed25519": lambda: token(alg="Ed25519"),
    "second key": lambda: token(kid="other", key=OTHER_ED),
    "key for EdDSA": lambda: token(kid="for-eddsa", key=FOR_EDDSA),
    "without typ": lambda: token(typ=None),
    "typ at+jwt": lambda: token(typ="application/at+JWT"),
    "a member that nobody knows": lambda: token(other={"x": 1}),
    "fractions": lambda: with_claims(iat=NOW - 0.5, exp=NOW + 30.5),
    "several audiences": lambda: with_claims(aud=["signer-1", "signer-2"]),
    "no nbf": lambda: without("nbf"),
}


@pytest.mark.parametrize("name", GOOD)
async def test_good(name: str, jwks: Path) -> None:
    identity = await authenticator(jwks).authenticate(Credentials(GOOD[name]()))
    assert identity is not None
    assert (identity.subject, identity.method) == ("frost-coordinator", "eddsa")
    assert identity.claims["body_sha256"] == body_digest(BODY)


async def test_rs256_where_it_is_asked_for(jwks: Path) -> None:
    ours = authenticator(jwks, rs256=True)
    identity = await ours.authenticate(Credentials(rs256("rsa")))
    assert identity == Identity("frost-coordinator", "rs256", CLAIMS)
    for wrong in (rs256("ed"), token(kid="rsa")):
        with pytest.raises(Unauthenticated) as caught:
            await ours.authenticate(Credentials(wrong))
        assert caught.value.reason == "token-key"
    with pytest.raises(Unauthenticated) as caught:
        await ours.authenticate(Credentials(rs256("rsa")[:-2]))
    assert caught.value.reason == "token-signature"


@pytest.mark.parametrize("sent", [None, hs256(SECRET), hs256(SECRET, "HS384"), hs256(SECRET, "HS512")])
async def test_not_ours(sent: str | None, jwks: Path) -> None:
    assert await authenticator(jwks).authenticate(Credentials(sent)) is None


async def test_without_kid_where_there_is_one_key(jwks: Path) -> None:
    jwks.write_text(json.dumps({"keys": [ed_jwk(ED, "ed"), ed_jwk(STRANGER, "x", use="enc")]}))
    assert await authenticator(jwks).authenticate(Credentials(token(kid=None)))
    with pytest.raises(Unauthenticated) as caught:
        await authenticator(jwks).authenticate(Credentials(token(kid=None, key=STRANGER)))
    assert caught.value.reason == "token-signature"


async def test_the_edges_of_leeway_and_lifetime(jwks: Path) -> None:
    """RFC 7519: on or after exp a token is refused, on nbf it is accepted; both moved by the leeway."""
    keys = FileKeys(jwks, lambda data: parse_jwks(data, ["EdDSA"]), "jwks_file", max_bytes=65536)
    keys.reload()
    for leeway in (0, 2.5):
        rules = ClaimRules(max_lifetime=60, leeway=leeway, clock=lambda: float(NOW))
        ours = JwksAuthenticator(keys, rules, ["EdDSA"])
        for good in (
            {"iat": NOW - 30, "exp": NOW - leeway + 0.25},
            {"nbf": NOW + leeway},
            {"iat": NOW + leeway, "exp": NOW + leeway + 60},
        ):
            assert await ours.authenticate(Credentials(with_claims(**good)))
        for bad in (
            {"iat": NOW - 30, "exp": NOW - leeway},
            {"nbf": NOW + leeway + 0.25},
            {"iat": NOW + leeway + 0.25, "exp": NOW + 30},
            {"iat": NOW, "exp": NOW + 60.25},
        ):
            with pytest.raises(Unauthenticated):
                await ours.authenticate(Credentials(with_claims(**bad)))


# --- the issuer -------------------------------------------------------------------------------------------------------


def issuer(path: Path, alg: Any) -> JwksIssuer:
    key = RSA if alg == "RS256" else ED
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    made = JwksIssuer(KeyFiles(path, alg, "key_file", folder=False), publish_seconds=0, retired_seconds=0)
    assert made.reload() is None
    return made


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519", "RS256"])
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
async def test_there_and_back_and_other_libraries(alg: str, tmp_path: Path) -> None:
    sent = msgspec.convert(CLAIMS, TokenClaims)
    ours = issuer(tmp_path / "key.pem", alg)
    made = await ours.issue(sent)
    published = ours.jwks()
    (tmp_path / "jwks.json").write_text(json.dumps(published))
    method = "rs256" if alg == "RS256" else "eddsa"
    identity = await authenticator(tmp_path / "jwks.json", rs256=True).authenticate(Credentials(made))
    assert identity == Identity("frost-coordinator", method, CLAIMS)
    read = joserfc_jwt.decode(made, KeySet.import_key_set(published), algorithms=[alg])  # type: ignore[arg-type]
    [key] = published["keys"]
    assert read.claims == CLAIMS
    assert read.header == {"alg": alg, "kid": key["kid"], "typ": "JWT"}
    thumbprint = (RSAKey.import_key(RSA) if alg == "RS256" else OKPKey.import_key(ED)).thumbprint()
    assert key["kid"] == thumbprint
    assert set(key) == ({"kty", "n", "e", "kid", "use", "alg"} if alg == "RS256" else {"kty", "crv", "x", "kid", "use"})
    if alg != "Ed25519":  # which PyJWT does not know
        [verifier] = jwt.PyJWKSet.from_dict(published).keys
        options: Any = {"verify_exp": False}
        assert jwt.decode(made, verifier, algorithms=[alg], audience="signer-1", options=options) == CLAIMS


async def test_a_callers_token_from_another_library(jwks: Path) -> None:
    """As the coordinator's TCP listener sees it: an audience and no body."""
    payload = {"iss": "mint", "sub": "mint-1", "aud": "frost-coordinator", "iat": NOW, "exp": NOW + 50}
    pem = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made = jwt.encode(payload, pem, algorithm="EdDSA", headers={"kid": "ed"})
    identity = await authenticator(jwks, issuer=()).authenticate(Credentials(made))
    assert identity == Identity("mint-1", "eddsa", payload)


@settings(deadline=None)  # the machine may be busy
@given(data=st.data())
async def test_no_single_change_passes(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "one-jwks.json"
    if not path.exists():
        path.write_text(json.dumps(JWKS))
    good = token()
    index = data.draw(st.integers(0, len(good) - 1))
    char = data.draw(st.sampled_from("ABCxyz019-_.=+/ \n"))
    sent = good[:index] + char + good[index + 1 :]
    if sent == good:
        return
    with suppress(Unauthenticated):
        assert await authenticator(path).authenticate(Credentials(sent)) is None


@settings(deadline=None)  # the machine may be busy
@given(sent=st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{1,60}\.[A-Za-z0-9_-]{0,60}"))
async def test_anything_else_is_refused(tmp_path_factory: pytest.TempPathFactory, sent: str) -> None:
    path = tmp_path_factory.getbasetemp() / "one-jwks.json"
    if not path.exists():
        path.write_text(json.dumps(JWKS))
    with pytest.raises(Unauthenticated):
        await authenticator(path).authenticate(Credentials(sent))
