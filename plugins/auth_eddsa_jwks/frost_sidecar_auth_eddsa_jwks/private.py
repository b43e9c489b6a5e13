"""One private key: its spelling as PEM or JWK, and what it signs."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from frost_sidecar.encoding import b64url, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar_auth_eddsa_jwks.jwk import (
    Algorithm,
    PublicKey,
    check_purpose,
    check_rsa,
    parse_jwk,
    read_end,
    read_kid,
    read_member,
)

HOW_TO: Final = "make one with `openssl genpkey -algorithm ed25519`"
_PRIMES: Final = ("p", "q", "dp", "dq", "qi")


class PrivateKey:
    """A private key that shows itself to nobody; it signs tokens of one ``alg``."""

    __slots__ = ("_alg", "_key", "_prefix", "public")

    def __init__(self, key: OKPKey | RSAKey, public: PublicKey, alg: Algorithm) -> None:
        self._key = key
        self._alg = JWSRegistry.algorithms[alg]
        self._prefix = b64url(msgspec.json.encode({"alg": alg, "kid": public.kid, "typ": "JWT"})).encode() + b"."
        self.public = public
        """Its public half, with its ``kid`` and end."""

    def sign(self, payload: bytes) -> str:
        """The compact JWS (RFC 7515, section 7.1) of ``payload``."""
        message = self._prefix + b64url(payload).encode()
        return f"{message.decode()}.{b64url(self._alg.sign(message, self._key))}"

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.kid!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled")


def parse_private(data: bytes, alg: Algorithm, place: str) -> PrivateKey:
    """The key that ``data`` spells as PEM (PKCS 8, RFC 5958) or as JWK (RFC 7517; RFC 8037).

    Raises:
        ConfigError: it is neither, encrypted, a public key, weak, not consistent, made for another purpose, or ``alg``
            does not fit it. The message leads with ``place`` and shows none of it.
    """
    try:
        jwk = _read_jwk(data) if data.lstrip()[:1] == b"{" else {}
        key = _from_jwk(jwk) if jwk else _from_pem(data)
        # The public half comes from the private one, so that what is published is what signs.
        plain = {name: str(value) for name, value in key.as_dict(private=False).items()}
        own: dict[str, Any] = {name: value for name, value in jwk.items() if name in {"kid", "exp", "alg"}}
        public = parse_jwk({**plain, **own})
    except ValueError as error:
        raise ConfigError(f"the key {error}", path=place) from None
    if alg not in public.algorithms:
        fitting = " or ".join(sorted(public.algorithms))
        raise ConfigError(f"the key does not fit alg = {alg!r}; it is one for {fitting}", path=place)
    return PrivateKey(key, public, alg)


def _read_jwk(data: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        return decode_json(data, dict[str, Any])
    raise ValueError("is not strict JSON")  # out here: that error carries the file, and would be this one's context


def _from_jwk(jwk: Mapping[str, Any]) -> OKPKey | RSAKey:
    if "keys" in jwk:
        raise ValueError("is a JWK set; put one key into each file")
    check_purpose(jwk, "sign")
    read_kid(jwk)
    read_end(jwk)
    if "d" not in jwk:
        raise ValueError("has no private member d; is it the public one, or a symmetric one?")
    if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519":
        return _edwards(jwk)
    if jwk.get("kty") == "RSA":
        return _rsa(jwk)
    raise ValueError("is neither Ed25519 nor RSA")


def _edwards(jwk: Mapping[str, Any]) -> OKPKey:
    seed = read_member(jwk, "d")
    if len(seed) != 32:
        raise ValueError("has a d that is not 32 bytes")
    private = Ed25519PrivateKey.from_private_bytes(seed)
    if not hmac.compare_digest(private.public_key().public_bytes_raw(), read_member(jwk, "x")):
        raise ValueError("has an x that does not belong to its d")
    return OKPKey.import_key(private)


def _rsa(jwk: Mapping[str, Any]) -> RSAKey:
    if missing := [name for name in _PRIMES if name not in jwk]:
        raise ValueError(f"has no {missing[0]}")
    if "oth" in jwk:
        raise ValueError("has more than two primes")
    numbers = {name: int.from_bytes(read_member(jwk, name)) for name in ("n", "e", "d", *_PRIMES)}
    check_rsa(numbers["n"], numbers["e"])
    try:
        return RSAKey.import_key({"kty": "RSA", **{name: jwk[name] for name in numbers}})
    except (JoseError, ValueError):
        raise ValueError("has numbers that do not belong together") from None


def _from_pem(data: bytes) -> OKPKey | RSAKey:
    if b"-----BEGIN " not in data:
        raise ValueError(f"is neither PEM nor a JWK; {HOW_TO}")
    if data.count(b"-----BEGIN ") > 1:
        raise ValueError("has other PEM blocks beside it; put one key into each file")
    if b"ENCRYPTED" in data:
        raise ValueError("is encrypted; decrypt it with `openssl pkey` and protect the file by its mode")
    if b"BEGIN OPENSSH" in data:
        raise ValueError(f"is one of SSH, not PKCS 8; {HOW_TO}")
    if b"PRIVATE KEY" not in data:
        raise ValueError("is no private key; is it a public one, or a certificate?")
    private = None
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        private = load_pem_private_key(data, password=None)
    if private is None:  # out here, as above
        raise ValueError("is not readable PEM (PKCS 8)")
    if isinstance(private, Ed25519PrivateKey):
        return OKPKey.import_key(private)
    if isinstance(private, RSAPrivateKey):
        numbers = private.public_key().public_numbers()
        check_rsa(numbers.n, numbers.e)
        return RSAKey.import_key(private)
    raise ValueError(f"is neither Ed25519 nor RSA; {HOW_TO}")
