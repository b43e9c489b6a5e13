"""Where the keys that tokens are checked with come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.hookspecs import Component
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_eddsa_jwks.file import read_file
from frost_sidecar_auth_eddsa_jwks.jwk import PublicKey
from frost_sidecar_auth_eddsa_jwks.jwks import KeySet

log = get_logger("frost_sidecar.auth_eddsa_jwks")

ParseSet = Callable[[bytes], KeySet]
"""Reads a JWK set; raises :class:`ValueError`."""


class KeySource(Component):
    """Finds keys by their names."""

    @abstractmethod
    async def find(self, kid: str | None) -> PublicKey:
        """The key named ``kid``; the only one where there is no name.

        Raises:
            Unauthenticated: there is no such key, or nobody can say.
        """


class FileKeys(KeySource):
    """A JWK set in a file."""

    def __init__(self, path: Path, parse: ParseSet, place: str, *, max_bytes: int) -> None:
        """Reads nothing yet: :meth:`reload` does. ``place``: the setting that names the file, for messages."""
        self._path = path
        self._parse = parse
        self._place = place
        self._max_bytes = max_bytes
        self._keys = KeySet({})

    def reload(self) -> float | None:
        """Read the file; returns when the last key ends to be valid (seconds since the epoch), None for never.

        Raises:
            ConfigError: it cannot be read or holds no key that can be used: then the keys before stay.
        """
        data = read_file(self._path, self._place, max_bytes=self._max_bytes, kind="trusted")
        try:
            keys = self._parse(data)
        except ValueError as error:
            raise ConfigError(f"{self._path} cannot be used: {error}", path=self._place) from None
        say_what_is_new(self._keys, keys, str(self._path))
        self._keys = keys
        return keys.expires

    async def find(self, kid: str | None) -> PublicKey:
        """The key named ``kid``; raises :class:`Unauthenticated`."""
        key = self._keys.find(kid)
        if key is None:
            raise no_such_key(kid)
        return key


def say_what_is_new(before: KeySet, after: KeySet, source: str) -> None:
    """Log which keys came and went, and what is wrong with those that are not used, once for each change."""
    if before.keys.keys() != after.keys.keys():
        log.info("keys taken over", source=source, kids=sorted(after.keys))
    if after.ignored and before.ignored != after.ignored:
        log.error("some keys of the set are not used", source=source, why=list(after.ignored))


def check_end(key: PublicKey, now: float) -> None:
    """Raise :class:`Unauthenticated` for a key whose ``exp`` is not after ``now``, seconds since the epoch."""
    if key.expires is not None and key.expires <= now:
        raise Unauthenticated("the token's key has expired", reason="token-key")


def no_such_key(kid: str | None) -> Unauthenticated:
    """The refusal of a token whose key is not known."""
    if kid is None:
        text = "the token's header has no kid, and there are several keys"
    else:
        text = "the token's kid is not one of the keys here; was its key published?"
    return Unauthenticated(text, reason="token-key")
