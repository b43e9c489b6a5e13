"""RSA signatures that are none: PKCS #1 v1.5 padding misspelt, other paddings and digests, numbers out of range.

RFC 8017, sections 8.2.2 and 9.2; RFC 7518, sections 3.3 and 3.5; RFC 8725, section 3.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.token_attacks.case import UNKNOWN, Case, span
from tests.token_attacks.der import digest_info, misspelt
from tests.token_attacks.forge import Algorithm, Forge

RS: Final[tuple[Algorithm, ...]] = ("RS256",)
SIZE: Final = 256
"""Bytes of the modulus of the session's key."""

S: Final = "token-signature"


def _power(forge: Forge, encoded: bytes) -> bytes:
    """The RSA signature primitive (RFC 8017, section 5.2.1) on any encoded message."""
    private = forge.keys.rsa.private_numbers()
    message = int.from_bytes(encoded, "big")
    first, second = pow(message, private.dmp1, private.p), pow(message, private.dmq1, private.q)
    value = second + (first - second) * private.iqmp % private.p * private.q
    return value.to_bytes(SIZE, "big")


def _padded(info: bytes, *, start: bytes = b"\0\1", fill: int = 0xFF, end: bytes = b"\0", behind: bytes = b"") -> bytes:
    """EMSA-PKCS1-v1_5 (RFC 8017, section 9.2), or nearly."""
    filling = SIZE - len(start) - len(end) - len(info) - len(behind)
    return start + bytes([fill]) * filling + end + info + behind


def _with_info(change: Callable[[bytes], bytes]) -> Callable[[Forge], str]:
    """A token whose encoded message is made of the signing input's SHA-256 by ``change``."""
    return lambda forge: forge.token(sign=lambda data: _power(forge, change(hashlib.sha256(data).digest())))


def _misspelt(name: str) -> Callable[[Forge], str]:
    return _with_info(lambda digest: _padded(dict(misspelt(digest))[name]))


def _info(digest: bytes) -> bytes:
    return digest_info(digest).encode()


def _integer(change: Callable[[int, int], int], size: int = SIZE) -> Callable[[Forge], str]:
    """A token whose signature, as a number, is changed; the second argument is the modulus."""

    def make(forge: Forge) -> str:
        modulus = forge.keys.rsa.public_key().public_numbers().n
        return forge.token(
            sign=lambda data: change(int.from_bytes(forge.sign(data), "big"), modulus).to_bytes(size, "big")
        )

    return make


def _pkcs1(algorithm: hashes.HashAlgorithm, alg: str = "RS256") -> Callable[[Forge], str]:
    return lambda forge: forge.token(
        alg=alg, sign=lambda data: forge.keys.rsa.sign(data, padding.PKCS1v15(), algorithm)
    )


def _pss(
    algorithm: hashes.HashAlgorithm, alg: str = "RS256", *, salt: int | None = None, broken: bool = False
) -> Callable[[Forge], str]:
    """RSASSA-PSS with MGF1 of the same hash; ``broken``: with a bit of the encoded message changed."""

    def make(forge: Forge) -> str:
        scheme = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size if salt is None else salt)

        def sign(data: bytes) -> bytes:
            signature = forge.keys.rsa.sign(data, scheme, algorithm)
            return signature[:-1] + bytes([signature[-1] ^ 1]) if broken else signature

        return forge.token(alg=alg, sign=sign)

    return make


SHA256, SHA384, SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()
MISSPELT: Final = tuple(name for name, _ in misspelt(hashlib.sha256(b"").digest()))

CASES: Final = (
    *(Case(f"PKCS #1, {name}", _misspelt(name), S, algorithms=RS, hosts=("signer",)) for name in MISSPELT),
    # RFC 8017's padding otherwise
    Case("PKCS #1, right", _with_info(lambda digest: _padded(_info(digest))), None, algorithms=RS),
    Case("PKCS #1, block type 0", _with_info(lambda digest: _padded(_info(digest), start=b"\0\0")), S, algorithms=RS),
    Case("PKCS #1, block type 2", _with_info(lambda digest: _padded(_info(digest), start=b"\0\2")), S, algorithms=RS),
    Case("PKCS #1, first byte 1", _with_info(lambda digest: _padded(_info(digest), start=b"\1\1")), S, algorithms=RS),
    Case("PKCS #1, filled with zeros", _with_info(lambda digest: _padded(_info(digest), fill=0)), S, algorithms=RS),
    Case(
        "PKCS #1, filled with another byte",
        _with_info(lambda digest: _padded(_info(digest), fill=0xFE)),
        S,
        algorithms=RS,
    ),
    Case(
        "PKCS #1, no zero after the filling",
        _with_info(lambda digest: _padded(_info(digest), end=b"")),
        S,
        algorithms=RS,
    ),
    Case(
        "PKCS #1, two zeros after the filling",
        _with_info(lambda digest: _padded(_info(digest), end=b"\0\0")),
        S,
        algorithms=RS,
    ),
    Case(
        "PKCS #1, eight bytes of filling and garbage behind",
        _with_info(lambda digest: _padded(_info(digest), behind=b"\xaa" * (SIZE - 62))),
        S,
        algorithms=RS,
    ),
    Case(
        "PKCS #1, no filling and garbage behind",
        _with_info(lambda digest: _padded(_info(digest), behind=b"\xaa" * (SIZE - 54))),
        S,
        algorithms=RS,
    ),
    Case(
        "PKCS #1, one byte of garbage behind",
        _with_info(lambda digest: _padded(_info(digest), behind=b"\0")),
        S,
        algorithms=RS,
    ),
    Case("PKCS #1, the digest alone", _with_info(_padded), S, algorithms=RS),
    Case(
        "PKCS #1, AlgorithmIdentifier without NULL",
        _with_info(lambda digest: _padded(bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + digest)),
        S,
        algorithms=RS,
    ),
    Case("no padding at all", _with_info(lambda digest: _info(digest).rjust(SIZE, b"\0")), S, algorithms=RS),
    # another digest or padding
    Case("signed with SHA-1", _pkcs1(hashes.SHA1()), S, algorithms=RS),
    Case("signed with MD5", _pkcs1(hashes.MD5()), S, algorithms=RS),
    Case("signed with SHA-224", _pkcs1(hashes.SHA224()), S, algorithms=RS),
    Case("signed with SHA-384", _pkcs1(SHA384), S, span(333), RS),
    Case("signed with SHA-512", _pkcs1(SHA512), S, span(335), RS),
    Case("RS384, good", _pkcs1(SHA384, "RS384"), UNKNOWN, span((264, 267), 334), RS),
    Case("RS512, good", _pkcs1(SHA512, "RS512"), UNKNOWN, span((268, 271), 336), RS),
    Case("signed with PSS, SHA-256", _pss(SHA256), S, span(332), RS),
    Case("signed with PSS, SHA-384", _pss(SHA384), S, algorithms=RS),
    Case("signed with PSS, SHA-512", _pss(SHA512), S, algorithms=RS),
    Case("PS256, good", _pss(SHA256, "PS256"), UNKNOWN, span((272, 275), (287, 288), 338), RS),
    Case("PS256, salt of another length", _pss(SHA256, "PS256", salt=0), UNKNOWN, span((281, 286)), RS),
    Case("PS256, changed", _pss(SHA256, "PS256", broken=True), UNKNOWN, span((276, 280), (289, 319)), RS),
    Case("PS384, good", _pss(SHA384, "PS384"), UNKNOWN, span((320, 323), 340, 346, 350), RS),
    Case("PS384, changed", _pss(SHA384, "PS384", broken=True), UNKNOWN, span(324), RS),
    Case("PS512, good", _pss(SHA512, "PS512"), UNKNOWN, span((325, 328)), RS),
    Case("PS512, changed", _pss(SHA512, "PS512", broken=True), UNKNOWN, span((329, 330)), RS),
    Case("PS512's name, PKCS #1", _pkcs1(SHA256, "PS512"), UNKNOWN, span(331), RS),
    Case("PS512's name, PSS with another digest", _pss(SHA256, "PS512"), UNKNOWN, span(337, 339), RS),
    # numbers
    Case("the signature is 0", _integer(lambda _s, _n: 0), S, algorithms=RS),
    Case("the signature is 1", _integer(lambda _s, _n: 1), S, algorithms=RS),
    Case("the signature is n - 1", _integer(lambda _s, n: n - 1), S, algorithms=RS),
    Case("the signature is n", _integer(lambda _s, n: n), S, algorithms=RS),
    Case("the signature plus n", _integer(lambda s, n: s + n, SIZE + 1), S, algorithms=RS),
    Case("n minus the signature", _integer(lambda s, n: n - s), S, algorithms=RS),
    Case("two zeros before the signature", _integer(lambda s, _n: s, SIZE + 2), S, algorithms=RS),
    Case("two zeros after the signature", _integer(lambda s, _n: s << 16, SIZE + 2), S, algorithms=RS),
)
