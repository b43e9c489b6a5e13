"""One shared secret: its spelling in base64, and which ones are refused."""

from __future__ import annotations

import hmac
from itertools import pairwise
from typing import Final, NoReturn

import jwt

from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import ConfigError

MIN_BYTES: Final = 32
"""RFC 7518, section 3.2: a key at least as long as the hash."""
MIN_DISTINCT_BYTES: Final = 8
"""Fewer different byte values than this are no random secret; 32 random bytes have about 30, 32 hex digits 13."""
HOW_TO: Final = "make one with `openssl rand -base64 32`"

_KNOWN_WORDS: Final = (b"secret", b"password", b"changeme", b"change-me", b"example", b"insecure", b"default")
_PUBLISHED: Final = b64decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
"""The key printed in RFC 7515, appendix A.1."""
_HMAC: Final = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)


class Secret:
    """A shared secret that shows itself to nobody but :meth:`reveal`'s caller.

    Raises :class:`~frost_sidecar.errors.ConfigError` for a key of another kind (PEM, SSH): everybody has its public
    half.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        try:
            _HMAC.prepare_key(value)
        except jwt.InvalidKeyError:
            raise ConfigError(
                f"the HS256 secret is an asymmetric key or a certificate; use random bytes: {HOW_TO}"
            ) from None
        self._value = value

    def reveal(self) -> bytes:
        """The secret as an HMAC key of at least 32 bytes.

        HMAC fills a key up to its block size with zero bytes (RFC 2104, section 2), so filling up a shorter one here
        changes no signature; it only tells PyJWT that the length has been judged already.
        """
        return self._value.ljust(MIN_BYTES, b"\0")

    def matches(self, other: Secret) -> bool:
        """Whether both are the same secret; takes the same time wherever they differ."""
        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def parse_secret(text: str, place: str, *, dev: bool) -> tuple[Secret, tuple[str, ...]]:
    """The secret that ``text`` spells in base64, and what the development switch forgave, a sentence each for the log.

    Raises:
        ConfigError: it is not base64, empty, too weak, or a key of another kind. The message leads with ``place`` and
            shows none of it.
    """
    try:
        value = b64decode("".join(text.split()))
    except ValueError as error:
        raise ConfigError(f"the secret is {error}; {HOW_TO}", path=place) from None
    weakness = find_weakness(value)
    if weakness and (not dev or not value):
        raise ConfigError(f"the secret {weakness}; {HOW_TO}", path=place)
    forgiven = (f"a weak secret is accepted under the development switch: it {weakness}",) if weakness else ()
    try:
        return Secret(value), forgiven
    except ConfigError as error:
        raise ConfigError(str(error), path=place) from None


def find_weakness(value: bytes) -> str | None:
    """Why a secret must not be used, as the end of a sentence; None for one that may be random.

    This finds carelessness, not bad randomness: too short, few different bytes, one step from byte to byte, a piece
    repeated, a word from examples, or the key printed in RFC 7515.
    """
    if len(value) < MIN_BYTES:
        return f"has {len(value)} bytes, at least {MIN_BYTES} are needed"
    if len(set(value)) < MIN_DISTINCT_BYTES or len({(b - a) % 256 for a, b in pairwise(value)}) == 1:
        return "is one simple pattern"
    if any(value == (value[:size] * (len(value) // size + 1))[: len(value)] for size in range(1, len(value) // 2 + 1)):
        return "is one piece repeated"
    if value == _PUBLISHED or any(word in value.lower() for word in _KNOWN_WORDS):
        return "is known from documentation or contains a common word"
    return None
