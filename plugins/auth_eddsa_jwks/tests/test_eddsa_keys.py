"""Keys: which private ones a coordinator signs with, which public ones are used, and the command that makes them."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from frost_sidecar_auth_eddsa_jwks import KeyFiles, parse_jwk, parse_jwks, parse_private
from frost_sidecar_auth_eddsa_jwks.__main__ import main
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import OKPKey, RSAKey
from nacl.bindings import crypto_core_ed25519_is_valid_point

from frost_sidecar.encoding import b64url, decode_base64url
from frost_sidecar.errors import ConfigError

ED = Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)
SMALL_EXPONENT = rsa.generate_private_key(3, 2048)


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    made: bytes = key.private_bytes(Encoding.PEM, form, encryption)
    return made


def number(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8))


def private_members(key: Any) -> dict[str, Any]:
    if isinstance(key, Ed25519PrivateKey):
        return {"d": b64url(key.private_bytes_raw())}
    numbers = key.private_numbers()
    values = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
    values |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    return {name: number(value) for name, value in values.items()}


def private_jwk(key: Any = ED, **changes: Any) -> bytes:
    return json.dumps(public_jwk(key, **{"kid": None, **private_members(key), **changes})).encode()


def public_jwk(key: Any = ED, **changes: Any) -> dict[str, Any]:
    """As it should be, but for ``changes``; None takes a member away."""
    jwk: dict[str, Any]
    if isinstance(key, Ed25519PrivateKey):
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public_key().public_bytes_raw())}
    else:
        numbers = key.public_key().public_numbers()
        jwk = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    return {name: value for name, value in {**jwk, "kid": "one", **changes}.items() if value is not None}


# --- private keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "alg"),
    [
        (pem(ED), "EdDSA"),
        (pem(ED), "Ed25519"),
        (pem(RSA), "RS256"),
        (pem(RSA, PrivateFormat.TraditionalOpenSSL), "RS256"),
        (private_jwk(), "EdDSA"),
        (private_jwk(alg="EdDSA", use="sig", key_ops=["sign", "verify"]), "EdDSA"),
        (private_jwk(alg="Ed25519"), "Ed25519"),
        (private_jwk(RSA, alg="RS256"), "RS256"),
        (b"\n " + private_jwk(), "EdDSA"),
    ],
)
def test_private_keys_that_are_used(data: bytes, alg: Any) -> None:
    key = parse_private(data, alg, "key_file")
    kind = RSAKey.import_key(RSA) if alg == "RS256" else OKPKey.import_key(ED)
    assert key.public.kid == kind.thumbprint()
    assert dict(key.public.members) == public_jwk(RSA if alg == "RS256" else ED, kid=None)
    text = key.sign(b"payload").encode()
    message, _, signature = text.rpartition(b".")
    assert key.public.verify(alg, message, decode_base64url(signature))
    assert not key.public.verify(alg, message + b"x", decode_base64url(signature))
    assert not key.public.verify("EdDSA" if alg == "RS256" else "RS256", message, decode_base64url(signature))
    assert repr(key) == f"PrivateKey({key.public.kid!r})"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def test_a_jwks_own_kid_and_end_are_kept() -> None:
    key = parse_private(private_jwk(kid="2026-11", exp=2_000_000_000), "EdDSA", "key_file")
    assert (key.public.kid, key.public.expires) == ("2026-11", 2_000_000_000)


OTHER = Ed25519PrivateKey.generate()
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "neither PEM nor a JWK"),
    "random": (secrets.token_bytes(64), "neither PEM nor a JWK"),
    "encrypted": (pem(ED, password=b"word"), "is encrypted"),
    "encrypted, old form": (pem(RSA, PrivateFormat.TraditionalOpenSSL, b"word"), "is encrypted"),
    "SSH": (pem(ED, PrivateFormat.OpenSSH), "one of SSH"),
    "public": (ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "no private key"),
    "two in one": (pem(ED) + pem(OTHER), "one key into each file"),
    "half": (pem(ED)[:60] + b"\n-----END PRIVATE KEY-----\n", "not readable PEM"),
    "P-256": (pem(ec.generate_private_key(ec.SECP256R1())), "neither Ed25519 nor RSA"),
    "X25519": (pem(x25519.X25519PrivateKey.generate()), "neither Ed25519 nor RSA"),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), "neither Ed25519 nor RSA"),
    "RSA for EdDSA": (pem(RSA), "does not fit alg = 'EdDSA'; it is one for RS256"),
    "weak RSA": (pem(WEAK_RSA), "RSA with 1024 bits"),
    "RSA with exponent 3": (pem(SMALL_EXPONENT), "65537 is a good exponent"),
    "JWK set": (b'{"keys":[' + private_jwk() + b"]}", "is a JWK set"),
    "JWK twice": (private_jwk() + private_jwk(), "not strict JSON"),
    "JWK with a member twice": (private_jwk()[:-1] + b',"crv":"Ed25519"}', "not strict JSON"),
    "public JWK": (json.dumps(public_jwk()).encode(), "no private member d"),
    "symmetric JWK": (b'{"kty":"oct","k":"AAAA"}', "no private member d"),
    "JWK with another x": (private_jwk(x=public_jwk(OTHER)["x"]), "does not belong to its d"),
    "JWK without x": (private_jwk(x=None), "no text as x"),
    "JWK with a short d": (private_jwk(d="AAAA"), "not 32 bytes"),
    "JWK with a padded d": (private_jwk(d=b64url(ED.private_bytes_raw()) + "="), "d that is not base64url"),
    "JWK on another curve": (private_jwk(crv="X25519"), "neither Ed25519 nor RSA"),
    "JWK for encryption": (private_jwk(use="enc"), "another use"),
    "JWK that only verifies": (private_jwk(key_ops=["verify"]), "key_ops without sign"),
    "JWK for HS256": (private_jwk(alg="HS256"), "alg that does not fit"),
    "JWK for the other name": (private_jwk(alg="Ed25519"), "does not fit alg = 'EdDSA'"),
    "JWK with an empty kid": (private_jwk(kid=""), "kid that is not"),
    "JWK with exp as text": (private_jwk(exp="2030"), "exp that is no time"),
    "RSA JWK without primes": (private_jwk(RSA, p=None), "has no p"),
    "RSA JWK of two keys": (private_jwk(RSA, d=b64url(secrets.token_bytes(256))), "do not belong together"),
    "weak RSA JWK": (private_jwk(WEAK_RSA), "RSA with 1024 bits"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_private_keys_that_are_refused(name: str, tmp_path: Path) -> None:
    data, why = BROKEN[name]
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"^plugins\.auth_eddsa_jwks\.key_file: the key ") as caught:
        KeyFiles(path, "EdDSA", "plugins.auth_eddsa_jwks.key_file", folder=False).read()
    text = str(caught.value)
    assert why in text
    assert str(path) in text
    for secret in (b64url(ED.private_bytes_raw()), "PRIVATE KEY-----", "MC4CAQ"):
        assert secret not in text
    assert caught.value.__cause__ is None


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"

    def refusal() -> str:
        with pytest.raises(ConfigError) as caught:
            KeyFiles(path, "EdDSA", "key_file", folder=False).read()
        return str(caught.value)

    assert "No such file" in refusal()
    path.write_bytes(pem(ED))
    for mode in (0o604, 0o644, 0o602, 0o666):
        path.chmod(mode)
        assert "by every user; run `chmod o-rwx" in refusal()
    path.chmod(0o640)  # Kubernetes' fsGroup
    assert KeyFiles(path, "EdDSA", "key_file", folder=False).read()
    path.write_bytes(pem(ED).ljust(40000))
    assert "larger than" in refusal()
    path.unlink()
    os.mkfifo(path, 0o600)
    assert "not a regular file" in refusal()
    path.unlink()
    path.mkdir()
    assert "cannot read" in refusal() or "not a regular file" in refusal()


# --- public keys ------------------------------------------------------------------------------------------------------

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def small_points() -> list[bytes]:
    """The encodings of all points whose order divides 8 (RFC 8032, section 5.1), worked out from the curve's equation.

    Those of order 8 double to one with y = 0, so that x**2 = -y**2, and D * y**4 + 2 * y**2 = 1.
    """
    ys = [0, 1, P - 1]
    for root in roots(1 + D):
        ys += roots((root - 1) * pow(D, -1, P))
    assert len(set(ys)) == 5
    return [(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)]


def roots(square: int) -> list[int]:
    """Both square roots modulo P (RFC 8032, section 5.1.3), or none."""
    root = pow(square, (P + 3) // 8, P)
    if (root * root - square) % P:
        root = root * pow(2, (P - 1) // 4, P) % P
    return [] if (root * root - square) % P else [root, P - root]


UNUSABLE: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "private": (lambda: json.loads(private_jwk()), "private member 'd'"),
    "private RSA": (lambda: json.loads(private_jwk(RSA)), "private member 'd'"),
    "symmetric": (lambda: {"kty": "oct", "k": "AAAA"}, "private member 'k'"),
    "symmetric without k": (lambda: {"kty": "oct"}, "another type"),
    "no kty": (lambda: public_jwk(kty=None), "another type"),
    "EC": (lambda: {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}, "another type"),
    "encryption": (lambda: public_jwk(use="enc"), "another use"),
    "use is null": (lambda: {**public_jwk(), "use": None}, "another use"),
    "only signs": (lambda: public_jwk(key_ops=["sign"]), "key_ops without verify"),
    "key_ops is text": (lambda: public_jwk(key_ops="verify"), "key_ops without verify"),
    "HS256": (lambda: public_jwk(alg="HS256"), "alg that does not fit"),
    "none": (lambda: public_jwk(alg="none"), "alg that does not fit"),
    "RS256 on a curve": (lambda: public_jwk(alg="RS256"), "alg that does not fit"),
    "alg is a list": (lambda: public_jwk(alg=["EdDSA"]), "alg that does not fit"),
    "X25519": (lambda: public_jwk(crv="X25519"), "another curve"),
    "unknown curve": (lambda: public_jwk(crv="Ed1"), "another curve"),
    "no x": (lambda: public_jwk(x=None), "no text as x"),
    "x padded": (lambda: public_jwk(x=public_jwk()["x"] + "="), "not base64url"),
    "x not ASCII": (lambda: public_jwk(x="é" * 43), "not base64url"),
    "x short": (lambda: public_jwk(x=b64url(bytes(31))), "no Ed25519 public key"),
    "x not reduced": (lambda: public_jwk(x=b64url((P + 3).to_bytes(32, "little"))), "no Ed25519 public key"),
    **{
        f"small order {index}": (partial(public_jwk, x=b64url(point)), "no Ed25519 public key")
        for index, point in enumerate(small_points())
    },
    "weak RSA": (lambda: public_jwk(WEAK_RSA), "RSA with 1024 bits"),
    "huge RSA": (lambda: {"kty": "RSA", "n": b64url(b"\xff" * 2048), "e": "AQAB"}, "RSA with 16384 bits"),
    "exponent 3": (lambda: public_jwk(SMALL_EXPONENT), "exponent"),
    "exponent 1": (lambda: public_jwk(RSA, e="AQ"), "exponent"),
    "huge exponent": (lambda: public_jwk(RSA, e=b64url(b"\xff" * 200)), "exponent"),
    "even modulus": (lambda: {"kty": "RSA", "n": b64url(b"\xff" * 255 + b"\0"), "e": "AQAB"}, "modulus"),
    "zeros in front": (lambda: public_jwk(RSA, e="AAEAAQ"), "zeros in front"),
    "no modulus": (lambda: public_jwk(RSA, n=""), "zeros in front"),
    "kid empty": (lambda: public_jwk(kid=""), "kid"),
    "kid long": (lambda: public_jwk(kid="x" * 257), "kid"),
    "kid with a line break": (lambda: public_jwk(kid="a\nb"), "kid"),
    "kid is a number": (lambda: public_jwk(kid=7), "kid"),
    "exp is text": (lambda: public_jwk(exp="never"), "exp that is no time"),
    "exp is true": (lambda: public_jwk(exp=True), "exp that is no time"),
    "exp is null": (lambda: {**public_jwk(), "exp": None}, "exp that is no time"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_public_keys_that_are_not_used_and_hurt_no_other(name: str) -> None:
    build, why = UNUSABLE[name]
    with pytest.raises(ValueError, match=r".+") as caught:
        parse_jwk(build())
    assert why in str(caught.value)
    found = parse_jwks(json.dumps({"keys": [build(), public_jwk(kid="good")]}).encode(), ["EdDSA"])
    assert list(found.keys) == ["good"]
    assert len(found.ignored) == 1
    with pytest.raises(ValueError, match="no key that can be used"):
        parse_jwks(json.dumps({"keys": [build()]}).encode(), ["EdDSA", "Ed25519", "RS256"])


def test_points_of_small_order_by_another_library() -> None:
    """libsodium refuses them, too."""
    assert len(small_points()) == 10
    for point in small_points():
        assert not crypto_core_ed25519_is_valid_point(point)
    for _ in range(20):
        assert parse_jwk(public_jwk(Ed25519PrivateKey.generate())).kid == "one"


def test_one_kid_for_two_keys_is_nobodys() -> None:
    keys = [public_jwk(), public_jwk(OTHER), public_jwk(RSA, kid="two"), public_jwk(RSA, kid="two")]
    found = parse_jwks(json.dumps({"keys": keys}).encode(), ["EdDSA", "RS256"])
    assert list(found.keys) == ["two"]
    assert found.ignored == ("keys[1] has the kid of another key; neither is used",)


def test_a_key_without_kid_has_its_thumbprint() -> None:
    """RFC 8037, appendix A.3."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert parse_jwk(jwk).kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_keys_of_no_use_are_left_out() -> None:
    keys = json.dumps({"keys": [public_jwk(RSA), public_jwk(kid="two", alg="Ed25519")]}).encode()
    assert list(parse_jwks(keys, ["Ed25519"]).keys) == ["two"]
    with pytest.raises(ValueError, match="of no use"):
        parse_jwks(keys, ["EdDSA"])


# --- whatever else is in a file ---------------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
NAMES = [
    "kty",
    "crv",
    "x",
    "n",
    "e",
    "d",
    "p",
    "q",
    "dp",
    "dq",
    "qi",
    "kid",
    "use",
    "key_ops",
    "alg",
    "exp",
    "oth",
    "k",
]


@settings(deadline=None)  # the machine may be busy
@given(key=st.sampled_from([ED, RSA]), changes=st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=3))
def test_any_jwk_is_read_or_refused(key: Any, changes: dict[str, Any]) -> None:
    with suppress(ValueError):
        assert parse_jwk({**public_jwk(key), **changes}).members.keys() <= {"kty", "crv", "x", "n", "e"}
    data = json.dumps({**json.loads(private_jwk(key)), **changes}).encode()
    with suppress(ConfigError):
        parse_private(data, "RS256" if key is RSA else "EdDSA", "key_file").sign(b"payload")


@settings(deadline=None)  # the machine may be busy
@given(data=st.binary(max_size=200), position=st.integers(0, 2000), cut=st.integers(0, 8))
def test_any_bytes_are_read_or_refused(data: bytes, position: int, cut: int) -> None:
    for good in (pem(ED), private_jwk(), json.dumps({"keys": [public_jwk(RSA)]}).encode()):
        at = position % len(good)
        for changed in (data, good[:at] + data + good[at + cut :]):
            with suppress(ConfigError):
                parse_private(changed, "EdDSA", "key_file")
            with suppress(ValueError):
                parse_jwks(changed, ["RS256"])


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519", "RS256"])
def test_keygen_and_jwks(alg: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    kids = []
    for name in ("1.pem", "2.pem"):
        assert main(["keygen", str(keys / name), "--alg", alg]) == 0
        kids.append(capsys.readouterr().out.strip())
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600
    for path, expected in ((keys, kids[::-1]), (keys / "1.pem", kids[:1])):
        assert main(["jwks", str(path), "--alg", alg]) == 0
        out = capsys.readouterr().out
        assert list(parse_jwks(out.encode(), [alg]).keys) == expected  # type: ignore[list-item]
        assert '"d"' not in out


def test_keygen_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key.pem"
    path.write_text("precious")
    path.chmod(0o600)
    assert main(["keygen", str(path)]) == 2
    assert main(["jwks", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "File exists" in captured.err
    assert "neither PEM nor a JWK" in captured.err
    assert path.read_text() == "precious"


def test_the_command_as_a_process_and_openssls_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ED))
    path.chmod(0o600)
    done = subprocess.run(
        [sys.executable, "-m", "frost_sidecar_auth_eddsa_jwks", "jwks", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    [key] = json.loads(done.stdout)["keys"]
    assert key == {**public_jwk(kid=OKPKey.import_key(ED).thumbprint()), "use": "sig"}
