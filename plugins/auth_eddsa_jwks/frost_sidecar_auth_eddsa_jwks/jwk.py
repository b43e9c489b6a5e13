"""One public key: which JWKs are used to check tokens, and for what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from frost_sidecar.encoding import decode_base64url

Algorithm = Literal["EdDSA", "Ed25519", "RS256"]
"""``EdDSA`` (RFC 8037) and ``Ed25519`` (RFC 9864) for a key on that curve, ``RS256`` (RFC 7518) for RSA."""

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
MAX_KID: Final = 256
"""Longest ``kid``, in characters."""
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
"""More would let one key make each check expensive."""
MIN_RSA_EXPONENT: Final = 65537

_OKP: Final[frozenset[Algorithm]] = frozenset({"EdDSA", "Ed25519"})
_RSA: Final[frozenset[Algorithm]] = frozenset({"RS256"})
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_FIELD: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _FIELD - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)
"""The y coordinates of the eight points of small order: under such a "key" anybody can make signatures."""
_ROCA: Final = {
    prime: frozenset(pow(65537, exponent, prime) for exponent in range(prime))
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
"""By prime, what remains of each modulus of a generator whose keys can be factored (CVE-2017-15361).

All seventeen at once remain of another modulus once in 240 million times.
"""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that tokens may be checked with."""

    kid: str
    """The JWK's own, or else its thumbprint (RFC 7638)."""
    members: Mapping[str, str]
    """The JWK's required members (RFC 7638, section 3.2): what makes it this key."""
    algorithms: frozenset[Algorithm]
    """The ``alg`` of tokens that it may check."""
    expires: float | None
    """Seconds since the epoch; None: it does not say."""
    _key: OKPKey | RSAKey = field(repr=False)

    def verify(self, alg: Algorithm, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``message``; never for an ``alg`` that is not one of its own."""
        return alg in self.algorithms and JWSRegistry.algorithms[alg].verify(message, signature, self._key)

    def is_same(self, other: PublicKey) -> bool:
        """Whether both are one key, whatever they are called."""
        return self.members == other.members


def parse_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """The key that a JWK (RFC 7517) spells, if tokens may be checked with it.

    Members that are not known count for nothing (section 4). Raises :class:`ValueError` with what is wrong, as the end
    of a sentence; it shows no value of a member.
    """
    if shown := sorted(_PRIVATE & jwk.keys()):
        raise ValueError(f"has the private member {shown[0]!r}: whoever read it can sign; make another key")
    check_purpose(jwk, "verify")
    key: OKPKey | RSAKey
    match jwk.get("kty"):
        case "OKP":
            key, algorithms = _edwards(jwk), _OKP
        case "RSA":
            key, algorithms = _rsa(jwk), _RSA
        case _:
            raise ValueError("is of another type (kty) than OKP and RSA")
    if "alg" in jwk:
        algorithms = frozenset(each for each in algorithms if each == jwk["alg"])
        if not algorithms:
            raise ValueError("has an alg that does not fit it")
    plain = {name: str(value) for name, value in key.as_dict(private=False).items()}
    members = {name: plain[name] for name in sorted(plain.keys() & {"kty", "crv", "x", "n", "e"})}
    return PublicKey(read_kid(jwk) or key.thumbprint(), members, algorithms, read_end(jwk), key)


def check_purpose(jwk: Mapping[str, Any], operation: Literal["sign", "verify"]) -> None:
    """Check ``use`` and ``key_ops`` (RFC 7517, sections 4.2 and 4.3); raises :class:`ValueError`."""
    if jwk.get("use", "sig") != "sig":
        raise ValueError("has another use than sig")
    operations = jwk.get("key_ops", [operation])
    if not isinstance(operations, list) or operation not in operations:
        raise ValueError(f"has key_ops without {operation}")


def read_kid(jwk: Mapping[str, Any]) -> str | None:
    """The ``kid``, where there is one; raises :class:`ValueError`."""
    kid = jwk.get("kid")
    if "kid" in jwk and not is_kid(kid):
        raise ValueError(f"has a kid that is not 1 to {MAX_KID} printable characters")
    return kid


def is_kid(value: object) -> bool:
    """Whether a ``kid`` is one that can be looked up and logged."""
    return isinstance(value, str) and 0 < len(value) <= MAX_KID and value.isprintable()


def read_end(jwk: Mapping[str, Any]) -> float | None:
    """When the key ends to be valid (``exp``), seconds since the epoch; raises :class:`ValueError`."""
    end = jwk.get("exp")
    if end is None and "exp" not in jwk:
        return None
    if isinstance(end, bool) or not isinstance(end, int | float) or not 0 <= end < 2**53 or not math.isfinite(end):
        raise ValueError("has an exp that is no time")
    return end


def read_member(jwk: Mapping[str, Any], name: str) -> bytes:
    """The bytes that a member spells in base64url, in the one canonical spelling; raises :class:`ValueError`."""
    text = jwk.get(name)
    if not isinstance(text, str):
        raise ValueError(f"has no text as {name}")  # noqa: TRY004 - one error for all that is wrong
    with suppress(ValueError):
        return decode_base64url(text.encode("ascii"))
    raise ValueError(f"has a {name} that is not base64url")  # out here: that error may carry the text, which is secret


def check_rsa(modulus: int, exponent: int) -> None:
    """Refuse weak RSA keys, and those so large that they slow everybody down; raises :class:`ValueError`."""
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise ValueError(f"is RSA with {modulus.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")
    if not MIN_RSA_EXPONENT <= exponent < 2**32 or not exponent % 2 or not modulus % 2:
        raise ValueError(f"is RSA with a modulus or exponent that is none; {MIN_RSA_EXPONENT} is a good exponent")
    if all(modulus % prime in remainders for prime, remainders in _ROCA.items()):
        raise ValueError("is RSA from a generator whose keys can be factored (ROCA, CVE-2017-15361); make another key")


def _edwards(jwk: Mapping[str, Any]) -> OKPKey:
    if jwk.get("crv") != "Ed25519":
        raise ValueError("is on another curve (crv) than Ed25519")
    point = read_member(jwk, "x")
    y = int.from_bytes(point, "little") & (2**255 - 1)
    if len(point) != 32 or y >= _FIELD or y in _SMALL_ORDER:
        raise ValueError("has an x that is no Ed25519 public key")
    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": jwk["x"]})


def _rsa(jwk: Mapping[str, Any]) -> RSAKey:
    modulus, exponent = read_member(jwk, "n"), read_member(jwk, "e")
    if not modulus or not exponent or modulus[0] == 0 or exponent[0] == 0:
        raise ValueError("has an n or e with zeros in front (RFC 7518, section 2)")
    check_rsa(int.from_bytes(modulus), int.from_bytes(exponent))
    try:
        return RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
    except (JoseError, ValueError):
        raise ValueError("is no RSA public key") from None
