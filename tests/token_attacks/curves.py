"""Signatures on curves that are no signatures: Ed25519 (RFC 8032), and ECDSA, which neither plugin accepts at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.token_attacks.case import UNKNOWN, Case, span
from tests.token_attacks.forge import ED, Forge

FIELD: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point (RFC 8032, section 5.1)."""
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

S: Final = "token-signature"


def _sqrt(value: int) -> int:
    """A square root modulo the field's prime (RFC 8032, section 5.1.3); there must be one."""
    root = pow(value, (FIELD + 3) // 8, FIELD)
    if root * root % FIELD != value % FIELD:
        root = root * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    assert root * root % FIELD == value % FIELD
    return root


def small_order_points() -> dict[str, bytes]:
    """The encodings of the eight points whose order divides eight, each with the name of its order."""
    d = -121665 * pow(121666, -1, FIELD) % FIELD
    # Doubling a point of order 8 gives one of order 4, which has y = 0: so x^2 = -y^2, and the curve says the rest.
    root = _sqrt(1 + d)
    candidates = [(sign * root - 1) * pow(d, -1, FIELD) % FIELD for sign in (1, -1)]
    square = next(each for each in candidates if pow(each, (FIELD - 1) // 2, FIELD) == 1)
    y = _sqrt(square)
    encoded = {
        "order 1": 1,
        "order 2": FIELD - 1,
        "order 4": 0,
        "order 4, other sign": 1 << 255,
        "order 8": y,
        "order 8, other sign": y | 1 << 255,
        "order 8, minus y": FIELD - y,
        "order 8, minus y, other sign": FIELD - y | 1 << 255,
    }
    return {name: value.to_bytes(32, "little") for name, value in encoded.items()}


NOT_CANONICAL: Final = {
    "the neutral element as p + 1": (FIELD + 1).to_bytes(32, "little"),
    "the neutral element with a sign": (1 | 1 << 255).to_bytes(32, "little"),
    "y = 0 as p": FIELD.to_bytes(32, "little"),
    "all ones": b"\xff" * 32,
}
"""Encodings that RFC 8032, section 5.1.3 refuses: y not below p, or a sign where x is 0."""


def _signed(forge: Forge, change: Callable[[bytes], bytes]) -> str:
    return forge.token(sign=lambda data: change(forge.sign(data)))


def _constant(forge: Forge, signature: bytes) -> str:
    """The same signature, whatever is signed."""
    return forge.token(sign=lambda _data: signature)


def _scalar(forge: Forge) -> int:
    """The private scalar (RFC 8032, section 5.1.5)."""
    seed = forge.keys.ed.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    low = bytearray(hashlib.sha512(seed).digest()[:32])
    low[0] &= 248
    low[31] = low[31] & 127 | 64
    return int.from_bytes(low, "little")


def _with_neutral_nonce(forge: Forge, point: bytes) -> str:
    """The owner's own equation with the nonce 0, and that point written as R."""

    def sign(data: bytes) -> bytes:
        public = forge.keys.ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        challenge = int.from_bytes(hashlib.sha512(point + public + data).digest(), "little")
        return point + (challenge * _scalar(forge) % ORDER).to_bytes(32, "little")

    return forge.token(sign=sign)


def _plus_order(times: int) -> Callable[[bytes], bytes]:
    """S + n·L: the same equation, another spelling (RFC 8032, section 5.1.7 wants S below L)."""

    def change(signature: bytes) -> bytes:
        scalar = int.from_bytes(signature[32:], "little") + times * ORDER
        return signature[:32] + scalar.to_bytes(32, "little")

    return change


def _prehashed(forge: Forge) -> str:
    """Ed25519 over the SHA-512 of the token, as if it were Ed25519ph without its prefix."""
    return forge.token(sign=lambda data: forge.sign(hashlib.sha512(data).digest()))


def _bad_ed25519() -> tuple[Case, ...]:
    points = {**small_order_points(), "y = 2": (2).to_bytes(32, "little"), **NOT_CANONICAL}
    scalars = {"0": 0, "1": 1, "L - 1": ORDER - 1, "L": ORDER}
    return tuple(
        Case(
            f"R of {name}, S = {text}",
            partial(_constant, signature=point + scalar.to_bytes(32, "little")),
            S,
            algorithms=ED,
        )
        for name, point in points.items()
        for text, scalar in scalars.items()
    )


def _es256(name: str, change: Callable[[int, int], bytes], *numbers: int) -> Case:
    """An ECDSA token, good but for ``change``: of an algorithm that nobody here accepts, whatever is in it."""

    def make(forge: Forge) -> str:
        def sign(data: bytes) -> bytes:
            return change(*decode_dss_signature(forge.keys.ec.sign(data, ec.ECDSA(hashes.SHA256()))))

        return forge.token(alg="ES256", sign=sign)

    return Case(name, make, UNKNOWN, span(*numbers))


def _raw(r: int, s: int, size: int = 32) -> bytes:
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _instead(_r: int, _s: int, signature: bytes) -> bytes:
    return signature


def _edges() -> tuple[Case, ...]:
    """r and s at the edges of their range; (0, 0) is good for everybody where nobody looks (CVE-2022-21449)."""
    values = {"0": 0, "1": 1, "n - 1": P256_ORDER - 1, "n": P256_ORDER}
    pairs = [(first, second) for first in values for second in values]
    return tuple(
        _es256(f"ES256, r = {r}, s = {s}", partial(_instead, signature=_raw(values[r], values[s])), 386 + number)
        for number, (r, s) in enumerate(pairs)
    )


CASES: Final = (
    Case("R and S exchanged", lambda forge: _signed(forge, lambda each: each[32:] + each[:32]), S, algorithms=ED),
    Case("signature cut by a byte", lambda forge: _signed(forge, lambda each: each[:-1]), S),
    Case("signature cut in half", lambda forge: _signed(forge, lambda each: each[: len(each) // 2]), S),
    Case("signature of one byte", lambda forge: _signed(forge, lambda each: each[:1]), S),
    Case("a zero byte after the signature", lambda forge: _signed(forge, lambda each: each + b"\0"), S),
    Case("a zero byte before the signature", lambda forge: _signed(forge, lambda each: b"\0" + each), S),
    Case("signature of zeros", lambda forge: _signed(forge, lambda each: bytes(len(each))), S),
    Case("signature of ones", lambda forge: _signed(forge, lambda each: b"\xff" * len(each)), S),
    Case("signature backwards", lambda forge: _signed(forge, lambda each: each[::-1]), S),
    Case("signature in hexadecimal", lambda forge: _signed(forge, lambda each: each.hex().encode()), S),
    Case("signature of 2000 bytes", lambda forge: _signed(forge, lambda each: each + bytes(2000 - len(each))), S),
    Case(
        "signed by another key",
        lambda forge: forge.token(sign=lambda data: forge.attacker.sign(forge.algorithm, data)),
        S,
    ),
    Case("signed without the dot", lambda forge: forge.token(sign=lambda data: forge.sign(data.replace(b".", b""))), S),
    Case(
        "the payload alone signed", lambda forge: forge.token(sign=lambda data: forge.sign(data.partition(b".")[2])), S
    ),
    *(
        Case(
            f"S + {'L' if times == 1 else f'{times} L'}",
            partial(_signed, change=_plus_order(times)),
            S,
            algorithms=ED,
        )
        for times in (1, 2, 8)
    ),
    Case("signed over a digest", _prehashed, S, algorithms=ED),
    *(
        Case(f"R is {name}", partial(_with_neutral_nonce, point=point), S, algorithms=ED)
        for name, point in NOT_CANONICAL.items()
    ),
    *_bad_ed25519(),
    # Case numbers 18 to 32 and 378 to 401 of the published file are ECDSA's.
    _es256("ES256, good", _raw, 18, 347, 351, 378),
    _es256("ES256, a zero before r and s", lambda r, s: _raw(r, s, 33), 379),
    _es256("ES256, zeros after them", lambda r, s: _raw(r, s) + bytes(2), 380),
    _es256("ES256, r + n", lambda r, s: _raw(r + P256_ORDER, s, 33), 381),
    _es256("ES256, s + n", lambda r, s: _raw(r, s + P256_ORDER, 33), 382),
    _es256("ES256, r + 2^256", lambda r, s: _raw(r + 2**256, s, 33), 383),
    _es256("ES256, s + 2^256", lambda r, s: _raw(r, s + 2**256, 33), 384),
    _es256("ES256, r and s of 256 bytes", lambda r, s: _raw(r, s, 256), 385),
    _es256("ES256, n - s", lambda r, s: _raw(r, P256_ORDER - s)),
    *_edges(),
)
