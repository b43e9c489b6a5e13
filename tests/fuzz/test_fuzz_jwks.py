"""Keys and tokens of ``auth_eddsa_jwks``, against joserfc, PyJWT, libsodium and whole numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import nacl.bindings
import nacl.exceptions
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from frost_sidecar_auth_eddsa_jwks import KeySet, PrivateKey, PublicKey, parse_private
from frost_sidecar_auth_eddsa_jwks.fetching import parse_url
from frost_sidecar_auth_eddsa_jwks.jwk import ALGORITHMS, parse_jwk
from frost_sidecar_auth_eddsa_jwks.jwks import parse_jwks
from joserfc.jwk import JWKRegistry
from yarl import URL

from frost_sidecar.encoding import b64url, decode_json
from frost_sidecar.errors import ConfigError
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_json, damage_text

_SMALL: Final = (
    *("01" + "00" * 31, "ec" + "ff" * 30 + "7f", "00" * 32, "00" * 31 + "80"),
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
)
"""The eight points of small order: keys under which everybody can sign."""
_ROTTEN: Final = (*_SMALL, "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f", "ff" * 32, "01" + "00" * 30 + "80")
"""The same in further encodings, and others that are none."""


@cache
def edwards_keys() -> tuple[Ed25519PrivateKey, Ed25519PrivateKey]:
    return Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


@cache
def rsa_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def edwards_jwk(key: Ed25519PrivateKey, **more: Any) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public_key().public_bytes_raw()), **more}


def _number(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8))


def rsa_jwk(**more: Any) -> dict[str, Any]:
    public = rsa_key().public_key().public_numbers()
    return {"kty": "RSA", "n": _number(public.n), "e": _number(public.e), **more}


def _private_jwks() -> list[dict[str, Any]]:
    first, second = edwards_keys()
    numbers = rsa_key().private_numbers()
    primes = {"p": numbers.p, "q": numbers.q, "dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    members = {name: _number(value) for name, value in {"d": numbers.d, **primes}.items()}
    return [
        edwards_jwk(first, d=b64url(first.private_bytes_raw()), kid="first", use="sig", exp=4_000_000_000),
        edwards_jwk(second, d=b64url(second.private_bytes_raw()), key_ops=["sign", "verify"], alg="EdDSA"),
        edwards_jwk(second, d=b64url(second.private_bytes_raw())),
        edwards_jwk(first, d=b64url(first.private_bytes_raw()), kid="x" * 256),
        rsa_jwk(**members, alg="RS256", kid="rsa"),
    ]


def public_jwks() -> list[dict[str, Any]]:
    first, second = edwards_keys()
    return [
        edwards_jwk(first, kid="first", use="sig", iat=1, exp=4_000_000_000),
        edwards_jwk(second, alg="Ed25519", key_ops=["verify"], x5c=["a"]),
        rsa_jwk(kid="rsa", alg="RS256", use="sig"),
        rsa_jwk(),
    ]


@cache
def _private_texts() -> tuple[str, ...]:
    """Whatever of a private key might stand in an error."""
    members = [each[name] for each in _private_jwks() for name in ("d", "p", "q", "dp", "dq", "qi") if name in each]
    lines = [
        line
        for pem in _pem_seeds()[:4]
        for line in pem.decode().split("\n")
        if re.fullmatch("[A-Za-z0-9+/]{10,}=*", line)
    ]
    return (*members, *lines, *(key.private_bytes_raw().hex() for key in edwards_keys()))


def damage_jwk(random: Random, seeds: Sequence[bytes]) -> bytes:
    """JSON; now and then with the public point, or a number, exchanged for one that is weak."""
    data = damage_json(random, seeds)
    if random.randrange(6) == 0:
        point = b64url(bytes.fromhex(random.choice(_ROTTEN))).encode()
        data = re.sub(rb'"x": ?"[A-Za-z0-9_-]{43}"', b'"x":"' + point + b'"', data, count=1)
    elif random.randrange(6) == 0:
        value = random.choice((3, 65536, 2**32 + 1, 2**2047 + 1, 2**16384 + 1, 3 * 2**1022, 2**2049 - 2))
        name = random.choice((b"n", b"e", b"p", b"d"))
        number = _number(value).encode()
        data = re.sub(rb'"' + name + rb'": ?"[A-Za-z0-9_-]+"', b'"' + name + b'":"' + number + b'"', data, count=1)
    return data


def _thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638, by the standard library."""
    required = {"OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    text = json.dumps({name: jwk[name] for name in required}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _whole(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _check_public(jwk: Mapping[str, Any], key: PublicKey) -> None:
    """A key that was taken: public, for signatures, strong, and the same to every library that reads it."""
    assert not jwk.keys() & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    assert jwk.get("use", "sig") == "sig"
    assert "verify" in jwk.get("key_ops", ["verify"])
    assert key.kid == jwk.get("kid", _thumbprint(jwk))
    assert 1 <= len(key.kid) <= 256
    assert key.kid.isprintable()
    assert _thumbprint(key.members) == _thumbprint(jwk)
    assert key.expires == jwk.get("exp")
    fitting: set[object] = {"EdDSA", "Ed25519"} if jwk["kty"] == "OKP" else {"RS256"}
    assert set[object](key.algorithms) == ({jwk["alg"]} if "alg" in jwk else fitting) <= fitting
    plain = {name: jwk[name] for name in ("kty", "crv", "x", "n", "e") if name in jwk}
    assert JWKRegistry.import_key(plain).thumbprint() == _thumbprint(jwk)
    read = jwt.PyJWK(plain).key
    if jwk["kty"] == "OKP":
        assert read.public_bytes_raw() == base64.urlsafe_b64decode(jwk["x"] + "=")
        _check_point(read.public_bytes_raw())
    else:
        numbers = read.public_numbers()
        assert (numbers.n, numbers.e) == (_whole(jwk["n"]), _whole(jwk["e"]))
        assert 2048 <= numbers.n.bit_length() <= 8192
        assert numbers.n % 2 == numbers.e % 2 == 1
        assert 65537 <= numbers.e < 2**32


def _check_point(point: bytes) -> None:
    """Nobody signs under it without its private half: it is not of small order, which libsodium says, too.

    One that is on no curve checks nothing, so that it does no harm. One with a part of small order is left: its owner
    alone can make it, and sign.
    """
    assert point.hex() not in _ROTTEN
    if nacl.bindings.crypto_core_ed25519_is_valid_point(point) or not _is_on_curve(point):
        return
    # The rest of a sum with a point of small order is one of the prime order: libsodium knows it when it is alone.
    sums = (nacl.bindings.crypto_core_ed25519_add(point, bytes.fromhex(each)) for each in _SMALL)
    assert any(nacl.bindings.crypto_core_ed25519_is_valid_point(each) for each in sums), "of small order"


def _is_on_curve(point: bytes) -> bool:
    """RFC 8032, section 5.1.3, steps 1 to 3: whether the square of x that y asks for is a square."""
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime)
    y = int.from_bytes(point, "little") % 2**255
    square = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
    return pow(square, (prime - 1) // 2, prime) in (0, 1)


def _jwk(data: bytes) -> PublicKey:
    return parse_jwk(decode_json(data, dict[str, Any]))


def _jwk_read(data: bytes, key: PublicKey) -> None:
    _check_public(json.loads(data), key)


def _jwk_seeds() -> list[bytes]:
    return [json.dumps(each).encode() for each in (*public_jwks(), *_private_jwks())]


def _set_seeds() -> list[bytes]:
    public, private = public_jwks(), _private_jwks()
    sets = [
        public,
        [*public, private[1]],
        [public[0], {**public[1], "kid": "first"}],
        [{"kty": "oct", "k": "AA"}, public[2]],
    ]
    return [json.dumps({"keys": each}).encode() for each in sets]


def _set_read(data: bytes, read: KeySet) -> None:
    """Each key is one of the set; two keys of one name are none; what is said of the others shows nothing of them."""
    listed = json.loads(data)["keys"]
    assert 1 <= len(read.keys) <= len(listed) <= 64
    objects = [each for each in listed if isinstance(each, dict)]
    for kid, key in read.keys.items():
        mine = [each for each in objects if _is_named(each, kid, key)]
        assert any(_holds(each, key) for each in mine), "a key that is not in the set, or not to be used"
        assert read.find(kid) is key
    assert read.find(None) is (next(iter(read.keys.values())) if len(read.keys) == 1 else None)
    said = "; ".join(read.ignored)
    assert not any(text[at : at + 10] in said for text in _private_texts() for at in range(len(text) - 9))


def _holds(jwk: Mapping[str, Any], key: PublicKey) -> bool:
    with suppress(AssertionError):
        _check_public(jwk, key)
        return True
    return False


def _is_named(jwk: Mapping[str, Any], kid: str, key: PublicKey) -> bool:
    with suppress(KeyError, TypeError):
        return jwk.get("kid", _thumbprint(jwk)) == kid and all(jwk[name] == key.members[name] for name in key.members)
    return False


def _pem_seeds() -> list[bytes]:
    pems = [
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in (*edwards_keys(), rsa_key())
    ]
    first = edwards_keys()[0]
    openssh = first.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = first.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return [pems[0], pems[1], b"a comment\n" + pems[0], pems[2], openssh, pems[1] + public]


def _damage_pem(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Lines; or the bytes below the base64."""
    data = random.choice(seeds)
    found = re.search(rb"-----\n([A-Za-z0-9+/=\n]+)-----END", data)
    if found is None or random.randrange(2):
        return damage_text(random, seeds)
    try:
        damaged = damage_bytes(random, [base64.b64decode(found[1])])
    except ValueError:  # a seed that is damaged already
        return damage_text(random, seeds)
    return data[: found.start(1)] + base64.encodebytes(damaged) + data[found.end(1) :]


def _private(data: bytes) -> PrivateKey:
    return parse_private(data, "RS256" if len(data) > 1000 else "EdDSA", "plugins.auth_eddsa_jwks.key_file")


def _signs(key: PrivateKey) -> None:
    """Its tokens are good for PyJWT, with its public half; and it shows itself to nobody."""
    public = jwt.PyJWK({**key.public.members, "alg": "RS256" if "n" in key.public.members else "EdDSA"})
    token = key.sign(b'{"sub":"a"}')
    assert jwt.PyJWS().decode(token, public, algorithms=["EdDSA", "RS256"]) == b'{"sub":"a"}'
    assert jwt.get_unverified_header(token)["kid"] == key.public.kid
    assert not any(text in repr(key) for text in _private_texts())


def _private_jwk_read(data: bytes, key: PrivateKey) -> None:
    """The public half belongs to the private one: by libsodium, and by the rules of RSA."""
    jwk = json.loads(data)
    assert jwk.get("use", "sig") == "sig"
    assert "sign" in jwk.get("key_ops", ["sign"])
    assert key.public.kid == jwk.get("kid", _thumbprint(jwk))
    assert key.public.expires == jwk.get("exp")
    if jwk["kty"] == "OKP":
        seed = base64.urlsafe_b64decode(jwk["d"] + "=")
        assert nacl.bindings.crypto_sign_seed_keypair(seed)[0] == base64.urlsafe_b64decode(jwk["x"] + "=")
    else:
        n, e, d, p, q, dp, dq, qi = (_whole(jwk[name]) for name in ("n", "e", "d", "p", "q", "dp", "dq", "qi"))
        assert p * q == n
        assert e * d % math.lcm(p - 1, q - 1) == 1
        assert (dp, dq, qi * q % p) == (d % (p - 1), d % (q - 1), 1)
    assert key.public.members == {name: jwk[name] for name in key.public.members}
    _signs(key)


def _private_pem_read(data: bytes, key: PrivateKey) -> None:
    if "n" in key.public.members:
        private = load_pem_private_key(data, None)
        assert isinstance(private, RSAPrivateKey)
        numbers = private.private_numbers()
        assert numbers.p * numbers.q == numbers.public_numbers.n == _whole(key.public.members["n"])
    else:
        body = re.search(rb"-----BEGIN [A-Z ]+-----(.*?)-----END", data, re.DOTALL)
        assert body is not None
        der = base64.b64decode(body[1])
        at = der.index(b"\x04\x20", 12)  # RFC 8410, section 7: an OCTET STRING in an OCTET STRING
        pair = nacl.bindings.crypto_sign_seed_keypair(der[at + 2 : at + 34])
        assert pair[0] == base64.urlsafe_b64decode(key.public.members["x"] + "=")
    _signs(key)


def _url_seeds() -> list[bytes]:
    return [b"https://idp.test/jwks.json", b"https://[::1]:8443/a/b", b"HTTPS://idp.test", b"https://a:b@idp.test/?q#f"]


def _url(data: bytes) -> URL:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ConfigError("no TOML") from None
    return parse_url(text, "plugins.auth_eddsa_jwks.jwks_url")


def _url_read(data: bytes, url: URL) -> None:
    split = urlsplit(data.decode())
    assert split.scheme == url.scheme == "https"
    assert split.hostname
    assert not split.username
    assert not split.password
    assert not split.query + split.fragment
    assert url.port == (443 if split.port is None else split.port)


TARGETS: Final = [
    Target("JWK", _jwk_seeds, _jwk, (ValueError,), _jwk_read, mutate=damage_jwk, secrets=_private_texts),
    Target(
        "JWK set of authenticators",
        _set_seeds,
        lambda data: parse_jwks(data, ALGORITHMS),
        (ValueError,),
        _set_read,
        mutate=damage_jwk,
        secrets=_private_texts,
    ),
    Target(
        "private key, JWK",
        lambda: [json.dumps(each).encode() for each in _private_jwks()],
        _private,
        (ConfigError,),
        _private_jwk_read,
        mutate=damage_jwk,
        secrets=_private_texts,
        bare=True,
    ),
    Target(
        "private key, PEM",
        _pem_seeds,
        _private,
        (ConfigError,),
        _private_pem_read,
        mutate=_damage_pem,
        secrets=_private_texts,
        bare=True,
    ),
    Target(
        "JWK set's address",
        _url_seeds,
        _url,
        (ConfigError,),
        _url_read,
        mutate=damage_bytes,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
