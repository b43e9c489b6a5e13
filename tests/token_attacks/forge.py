"""The keys of one test session, and tokens of any shape made with them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from frost_sidecar.encoding import b64url

Algorithm = Literal["HS256", "EdDSA", "Ed25519", "RS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("HS256", "EdDSA", "Ed25519", "RS256")
"""``Ed25519`` is RFC 9864's name for what RFC 8037 calls ``EdDSA``."""
USUAL: Final[tuple[Algorithm, ...]] = ("HS256", "EdDSA", "RS256")
ED: Final[tuple[Algorithm, ...]] = ("EdDSA", "Ed25519")
PUBLIC: Final[tuple[Algorithm, ...]] = ("EdDSA", "Ed25519", "RS256")

Claims = Mapping[str, object]


@dataclass(frozen=True)
class Keys:
    """Keys of the good issuer, or of the attacker: one of each kind."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    ed: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    rsa: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    ec: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def sign(self, algorithm: str, data: bytes) -> bytes:
        """The signature or MAC that RFC 7518 or RFC 8037 gives ``algorithm``."""
        if algorithm == "HS256":
            return mac(self.secret, data)
        if algorithm == "RS256":
            return self.rsa.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.ed.sign(data)

    def public(self, algorithm: str) -> ed25519.Ed25519PublicKey | RSAPublicKey:
        """The public half of the key of ``algorithm``."""
        return self.rsa.public_key() if algorithm == "RS256" else self.ed.public_key()

    def jwk(self, algorithm: str, **changes: object) -> dict[str, Any]:
        """The public key as JWK (RFC 7517, RFC 8037), changed; a member that becomes None is left out."""
        if algorithm == "RS256":
            numbers = self.rsa.public_key().public_numbers()
            members: dict[str, object] = {"kty": "RSA", "n": integer(numbers.n), "e": integer(numbers.e)}
        else:
            raw = self.ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            members = {"kty": "OKP", "crv": "Ed25519", "x": b64url(raw)}
        merged = {**members, "kid": kid_of(algorithm), "use": "sig", **changes}
        return {name: value for name, value in merged.items() if value is not None}

    @cached_property
    def jwk_set(self) -> dict[str, Any]:
        """Both public keys."""
        return {"keys": [self.jwk("EdDSA"), self.jwk("RS256")]}


def kid_of(algorithm: str) -> str:
    """The ``kid`` of a session's key."""
    return {"HS256": "shared", "RS256": "rsa-1"}.get(algorithm, "ed-1")


def mac(key: bytes, data: bytes) -> bytes:
    """HMAC with SHA-256, with any key, also one that no library would take for a secret."""
    code = hmac.HMAC(key, hashes.SHA256())
    code.update(data)
    return code.finalize()


def integer(value: int) -> str:
    """Base64urlUInt (RFC 7518, section 2)."""
    return b64url(value.to_bytes((value.bit_length() + 7) // 8 or 1, "big"))


def as_json(value: object) -> bytes:
    """Bytes as they stand, everything else as compact JSON."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Forge:
    """Makes tokens of one algorithm: good ones, and, where told so, ones with a fault.

    ``claims`` are those of a good token for the host under attack; each call gives new ones, with a ``jti`` of its own.
    """

    algorithm: Algorithm
    keys: Keys
    attacker: Keys
    base: Callable[[], dict[str, Any]]

    @property
    def header(self) -> dict[str, Any]:
        """The header of a good token."""
        return {"alg": self.algorithm, "kid": kid_of(self.algorithm), "typ": "JWT"}

    def claims(self, **changes: object) -> dict[str, Any]:
        """Good claims, changed; a claim that becomes None is left out, a callable is called with the time."""
        now = int(time.time())
        merged = {name: value(now) if callable(value) else value for name, value in {**self.base(), **changes}.items()}
        return {name: value for name, value in merged.items() if value is not None}

    def sign(self, data: bytes | str) -> bytes:
        """The good issuer's signature over any bytes."""
        return self.keys.sign(self.algorithm, data.encode() if isinstance(data, str) else data)

    def signed(self, text: str, sign: Callable[[bytes], bytes] | None = None) -> str:
        """``text`` with a signature over it as the third part."""
        return f"{text}.{b64url((sign or self.sign)(text.encode()))}"

    def token(
        self,
        *,
        header: Claims | bytes | None = None,
        payload: Claims | bytes | str | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        **extra: Any,
    ) -> str:
        """A compact token. ``extra`` members join the header; ``sign`` makes the signature instead of the issuer."""
        head = as_json({**self.header, **extra} if header is None else header)
        body = payload.encode() if isinstance(payload, str) else as_json(self.claims() if payload is None else payload)
        return self.signed(f"{b64url(head)}.{b64url(body)}", sign)

    def parts(self) -> tuple[str, str, str]:
        """Header, payload and signature of a good token."""
        header, payload, signature = self.token().split(".")
        return header, payload, signature
