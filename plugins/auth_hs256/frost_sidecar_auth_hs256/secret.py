"""The shared secret: where it comes from, and which ones are refused."""

from __future__ import annotations

import os
import stat
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn

from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_hs256.settings import Settings

log = get_logger("frost_sidecar.auth_hs256")

MIN_BYTES: Final = 32
"""RFC 7518, section 3.2: a key at least as long as the hash."""
MIN_DISTINCT_BYTES: Final = 8
"""Fewer different byte values than this are no random secret; 32 random bytes have about 30, 32 hex digits 13."""
DEV_SECRET: Final = b"devsecret"
"""What the development switch falls back to when no secret is configured."""

_MAX_FILE_BYTES: Final = 16 * 1024
_KNOWN_WORDS: Final = (b"secret", b"password", b"changeme", b"change-me", b"example", b"insecure", b"default")
_PUBLISHED: Final = b64decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
"""The key printed in RFC 7515, appendix A.1."""
_HOW_TO = "make one with `openssl rand -base64 32`"


class Secret:
    """A shared secret that shows itself to nobody but :meth:`reveal`'s caller."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret as an HMAC key of at least 32 bytes.

        HMAC fills a key up to its block size with zero bytes (RFC 2104, section 2), so filling up a shorter one here
        changes no signature; it only tells PyJWT that the length has been judged already.
        """
        return self._value.ljust(MIN_BYTES, b"\0")

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def load_secret(context: PluginContext) -> Secret:
    """The configured secret, or under the development switch ``devsecret`` where none is configured.

    Raises:
        ConfigError: no secret is configured, its file cannot be read or is open to every user, it is not base64, or it
            is too weak. The message never shows any of it.
    """
    settings = context.settings(Settings)
    if settings.secret_file is not None:
        place = f"plugins.{context.name}.secret_file"
        text = _read(context.path(settings.secret_file), place, dev=context.dev)
    elif settings.secret_b64 is not None:
        place = f"plugins.{context.name}.secret_b64"
        text = settings.secret_b64
    elif context.dev:
        log.warning("no secret is configured: the development secret is in use; anybody can make valid tokens")
        return Secret(DEV_SECRET)
    else:
        raise ConfigError(
            f"no secret; set secret_file (environment: JWT_HS256_B64_FILE) to a file with it in base64; {_HOW_TO}",
            path=f"plugins.{context.name}",
        )
    try:
        value = b64decode("".join(text.split()))
    except ValueError as error:
        raise ConfigError(f"the secret is {error}; {_HOW_TO}", path=place) from None
    weakness = find_weakness(value)
    if weakness and (not context.dev or not value):
        raise ConfigError(f"the secret {weakness}; {_HOW_TO}", path=place)
    if weakness:
        log.warning(
            "a weak secret is accepted under the development switch: anybody may guess it",
            place=place,
            weakness=weakness,
        )
    return Secret(value)


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


def _read(path: Path, place: str, *, dev: bool) -> str:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path} is not a regular file", path=place)
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", path=place) from None
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_FILE_BYTES} bytes; is it the right file?", path=place)
    if mode & stat.S_IROTH:
        if not dev:
            raise ConfigError(f"{path} can be read by every user; run `chmod o-rwx {path}`", path=place)
        log.warning("the secret's file can be read by every user", path=str(path))
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds no base64 text; {_HOW_TO}", path=place) from None
