"""RSA keys that are too small, too simple, or made by a generator with a flaw, and signatures with them."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.token_attacks.forge import integer


@cache
def small_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)


def public_jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": integer(numbers.n), "e": integer(numbers.e), "use": "sig"}


def sign_pkcs1(key: rsa.RSAPrivateKey, data: bytes) -> bytes:
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def encode_pkcs1(data: bytes) -> bytes:
    """The encoded message itself: with the exponent 1 it is its own signature."""
    info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(data).digest()
    return b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info


@cache
def exponent_three_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(3, 2048)


_PRIMES: Final = [each for each in range(3, 702) if all(each % other for other in range(2, each))]
"""Those whose product ROCA's primes are built from, for 2048 bits."""


def _is_prime(number: int) -> bool:
    """Miller and Rabin, with random bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(20):
        value = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


def _roca_prime() -> int:
    """k·M + (65537^a mod M): the form that CVE-2017-15361's library gave all its primes."""
    product = 2
    for each in _PRIMES[:125]:
        product *= each
    while True:
        remainder = pow(65537, secrets.randbits(200), product)
        low, high = (3 << 1022) // product + 1, (1 << 1024) // product
        candidate = (low + secrets.randbelow(high - low - 1)) * product + remainder
        if candidate.bit_length() == 1024 and (candidate - 1) % 65537 and _is_prime(candidate):
            return candidate


@cache
def roca_key() -> rsa.RSAPrivateKey:
    """A key of 2048 bits whose factors can be found in practice, from its public half alone."""
    p, q = _roca_prime(), _roca_prime()
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
