"""Keys that must not check tokens: one JWK set with all of them, and for each a token that its owner could sign.

RFC 7517, sections 4.2 to 4.5; RFC 7518, sections 3.2, 3.3 and 6; RFC 8037, section 2; RFC 8725, sections 3.1, 3.4, 3.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from frost_sidecar.encoding import b64decode, b64url
from tests.token_attacks.case import Reason, span
from tests.token_attacks.curves import FIELD, ORDER, small_order_points
from tests.token_attacks.forge import Algorithm, Forge, Keys, integer, mac
from tests.token_attacks.weak_keys import encode_pkcs1, exponent_three_key, public_jwk, roca_key, sign_pkcs1, small_key

Jwk = dict[str, Any]
Signer = Callable[[bytes], bytes]

K: Final = "token-key"
SECOND: Final = {"EdDSA": "ed-2", "RS256": "rsa-2", "HS256": "oct-2"}
"""The ``kid`` of the second key where nothing is wrong with it."""


@dataclass(frozen=True)
class KeyCase:
    """A faulty JWK, made from a key that stands in the set without the fault, too."""

    name: str
    """What is wrong; the JWK's ``kid`` as well."""
    jwk: Callable[[Keys], Jwk]
    """The JWK from the second key, but for its ``kid``."""
    reason: Reason = K
    """Of a token that the key's owner signed; of both plugins, where the algorithm is HS256."""
    algorithm: Algorithm = "EdDSA"
    sign: Callable[[Keys, bytes], bytes] | None = None
    """The signature over a signing input, where the second key's own is not one of this key."""
    wycheproof: tuple[int, ...] = ()
    """The published cases (``tcId``) of this kind of json_web_key_test."""
    signatures: tuple[int, ...] = ()
    """Those of json_web_signature_test."""

    def token(self, forge: Forge, second: Keys) -> str:
        """A good token but for the key."""

        def sign(data: bytes) -> bytes:
            return second.sign(self.algorithm, data) if self.sign is None else self.sign(second, data)

        return forge.token(kid=self.name, sign=sign)


def key_set(keys: Keys, second: Keys) -> dict[str, Any]:
    """Both good keys, the second ones, and every faulty one."""
    good = [*keys.jwk_set["keys"], *(second.jwk(each, kid=SECOND[each]) for each in ("EdDSA", "RS256"))]
    faulty = [{**case.jwk(second), "kid": case.name} for case in KEYS]
    twice = [keys.jwk("EdDSA", kid=_TWICE)]
    return {"keys": [*good, *faulty, *twice]}


_TWICE: Final = "two keys of one kid"


def _ed(**changes: object) -> Callable[[Keys], Jwk]:
    return lambda second: second.jwk("EdDSA", **changes)


def _rs(**changes: object) -> Callable[[Keys], Jwk]:
    return lambda second: second.jwk("RS256", **changes)


def _x(change: Callable[[str], str]) -> Callable[[Keys], Jwk]:
    """The public key's text changed."""
    return lambda second: second.jwk("EdDSA", x=change(second.jwk("EdDSA")["x"]))


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Keys], Jwk]:
    """The public key's bytes changed."""
    return _x(lambda text: b64url(change(b64decode(text))))


def _oct(**changes: object) -> Callable[[Keys], Jwk]:
    return lambda second: {"kty": "oct", "k": b64url(second.secret), "use": "sig", **changes}


def _with_private(algorithm: str) -> Callable[[Keys], Jwk]:
    """A set that shows a private key: whoever read it could have signed."""

    def make(second: Keys) -> Jwk:
        if algorithm == "RS256":
            return second.jwk("RS256", d=integer(second.rsa.private_numbers().d))
        return second.jwk("EdDSA", d=b64url(second.ed.private_bytes_raw()))

    return make


# --- points under which anybody can sign ------------------------------------------------------------------------------

NEUTRAL: Final = (1).to_bytes(32, "little")


def forge_under(point: bytes, text: Callable[[], bytes]) -> tuple[bytes, bytes]:
    """A message, and a signature that satisfies Ed25519's equation under a point of small order, without a secret.

    With S = 0 and R neutral it asks for h·A to be neutral: so where h is a multiple of eight. ``text`` gives messages.
    """
    while True:
        data = text()
        challenge = int.from_bytes(hashlib.sha512(NEUTRAL + point + data).digest(), "little") % ORDER
        if challenge % 8 == 0:
            return data, NEUTRAL + bytes(32)


@dataclass(frozen=True)
class SmallOrderCase(KeyCase):
    """A public key of small order, and a token that somebody without any key made."""

    point: bytes = b""

    def token(self, forge: Forge, second: Keys) -> str:
        """Tokens are tried until one fits."""
        data, signature = forge_under(self.point, partial(_signing_input, forge, self.name))
        return f"{data.decode()}.{b64url(signature)}"


def _signing_input(forge: Forge, kid: str) -> bytes:
    return forge.token(kid=kid).rpartition(".")[0].encode()


def _small_order() -> tuple[KeyCase, ...]:
    return tuple(
        SmallOrderCase(f"a point of {name}", _ed(x=b64url(point)), point=point)
        for name, point in small_order_points().items()
    )


def _off_the_curve() -> str:
    """The smallest y that no point of the curve has (RFC 8032, section 5.1.3)."""
    d = -121665 * pow(121666, -1, FIELD) % FIELD
    y = 2
    while pow((y * y - 1) * pow(d * y * y + 1, -1, FIELD), (FIELD - 1) // 2, FIELD) == 1:
        y += 1
    return b64url(y.to_bytes(32, "little"))


S: Final = "token-signature"

KEYS: Final[tuple[KeyCase, ...]] = (
    # for another use, algorithm or type
    KeyCase("use enc", _ed(use="enc"), wycheproof=span(21), signatures=span(354)),
    KeyCase("use enc, RSA", _rs(use="enc"), K, "RS256", signatures=span(353)),
    KeyCase("use enc and an encryption's alg", _rs(use="enc", alg="RSA1_5"), K, "RS256", wycheproof=span(6)),
    KeyCase("use empty", _ed(use="")),
    KeyCase("use in capitals", _ed(use="SIG")),
    KeyCase("key_ops encrypt", _ed(use=None, key_ops=["encrypt"]), signatures=span(356)),
    KeyCase("key_ops encrypt, RSA", _rs(use=None, key_ops=["encrypt"]), K, "RS256", signatures=span(355)),
    KeyCase("key_ops sign alone", _ed(use=None, key_ops=["sign"])),
    KeyCase("key_ops empty", _ed(use=None, key_ops=[])),
    KeyCase("key_ops that is text", _ed(use=None, key_ops="verify")),
    KeyCase("use sig, key_ops encrypt", _ed(key_ops=["encrypt"])),
    KeyCase("alg of another curve", _ed(alg="ES521"), wycheproof=span(19)),
    KeyCase("alg that does not exist", _ed(alg="ES224"), wycheproof=span(20)),
    KeyCase("alg RS256 on a curve", _ed(alg="RS256")),
    KeyCase("alg HS256 on a curve", _ed(alg="HS256")),
    KeyCase("alg Ed25519, token EdDSA", _ed(alg="Ed25519")),
    KeyCase("alg RS512", _rs(alg="RS512"), K, "RS256"),
    KeyCase("alg PS256", _rs(alg="PS256"), K, "RS256"),
    KeyCase("kty RSA on a curve", _ed(kty="RSA"), wycheproof=span(24)),
    KeyCase("kty EC", _ed(kty="EC")),
    KeyCase("no kty", _ed(kty=None)),
    KeyCase("kty OKP on an RSA key", _rs(kty="OKP"), K, "RS256"),
    KeyCase("crv P-256", _ed(crv="P-256"), wycheproof=span(23)),
    KeyCase("crv X25519", _ed(crv="X25519")),
    KeyCase("crv Ed448", _ed(crv="Ed448")),
    # no public key
    KeyCase("x changed", _bytes(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])), S, wycheproof=span(22)),
    KeyCase("x off the curve", _ed(x=_off_the_curve()), S),
    KeyCase("x not below the field's prime", _ed(x=b64url((FIELD + 3).to_bytes(32, "little")))),
    KeyCase("x of 31 bytes", _bytes(lambda raw: raw[:-1])),
    KeyCase("x of 33 bytes", _bytes(lambda raw: raw + b"\0")),
    KeyCase("x empty", _ed(x="")),
    KeyCase("x padded", _x(lambda text: text + "=")),
    KeyCase("x in hexadecimal", _x(lambda text: b64decode(text).hex())),
    KeyCase("the private key in the set", _with_private("EdDSA")),
    KeyCase("the private RSA key in the set", _with_private("RS256"), K, "RS256"),
    *_small_order(),
    # weak RSA
    KeyCase(
        "RSA of 1024 bits",
        lambda _second: public_jwk(small_key()),
        K,
        "RS256",
        lambda _, data: sign_pkcs1(small_key(), data),
        wycheproof=span(8),
    ),
    KeyCase("RSA with the exponent 1", _rs(e="AQ"), K, "RS256", lambda _, data: encode_pkcs1(data), wycheproof=span(9)),
    KeyCase(
        "RSA with the exponent 3",
        lambda _second: public_jwk(exponent_three_key()),
        K,
        "RS256",
        lambda _, data: sign_pkcs1(exponent_three_key(), data),
    ),
    KeyCase("RSA with an even exponent", _rs(e=integer(65538)), K, "RS256"),
    KeyCase(
        "RSA with an even modulus",
        lambda second: second.jwk("RS256", n=integer(second.rsa.public_key().public_numbers().n + 1)),
        K,
        "RS256",
    ),
    KeyCase(
        "RSA modulus with a zero in front",
        lambda second: second.jwk(
            "RS256", n=b64url(b"\0" + second.rsa.public_key().public_numbers().n.to_bytes(256, "big"))
        ),
        K,
        "RS256",
    ),
    KeyCase(
        "RSA of a generator with a flaw (ROCA)",
        lambda _second: public_jwk(roca_key()),
        K,
        "RS256",
        lambda _, data: sign_pkcs1(roca_key(), data),
        wycheproof=span(7),
    ),
    # secrets in the set
    KeyCase("a secret among public keys", _oct(alg="HS256"), "token-unknown", "HS256", wycheproof=span(1)),
    KeyCase("a secret of AES-GCM", _oct(alg="A256GCM", use="enc"), "token-unknown", "HS256", wycheproof=span(25)),
    KeyCase("a secret of AES key wrap", _oct(alg="A256KW", use="enc"), "token-unknown", "HS256", wycheproof=span(26)),
    KeyCase("a secret, token EdDSA", _oct(), K, "EdDSA", lambda second, data: mac(second.secret, data)),
    # names
    KeyCase(_TWICE, _ed(), wycheproof=span(4)),
)
