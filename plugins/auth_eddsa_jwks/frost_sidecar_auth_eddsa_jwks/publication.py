"""The file that the public keys are published in; it also is the memory of what was published before a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from frost_sidecar.encoding import decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_eddsa_jwks.file import read_file, write_file
from frost_sidecar_auth_eddsa_jwks.jwk import parse_jwk
from frost_sidecar_auth_eddsa_jwks.jwks import MAX_KEYS
from frost_sidecar_auth_eddsa_jwks.schedule import Entry, Schedule

log = get_logger("frost_sidecar.auth_eddsa_jwks")

_MODE: Final = 0o644
_MAX_BYTES: Final = 1024 * 1024


class Publication:
    """A JWK set in a file. Its methods wait for the file system."""

    def __init__(self, path: Path, place: str) -> None:
        """``place``: the setting that names it, for messages."""
        self._path = path
        self._place = place

    def recall(self) -> Schedule:
        """What the file says was published; nothing where there is none or it cannot be read, which is logged."""
        try:
            self._path.stat()
        except FileNotFoundError:
            return Schedule()
        except OSError:
            pass  # whoever reads it says why not
        try:
            data = read_file(self._path, self._place, max_bytes=_MAX_BYTES, kind="trusted")
            listed = decode_json(data, dict[str, list[dict[str, Any]]])["keys"][:MAX_KEYS]
            return Schedule(entries=tuple(_entry(jwk) for jwk in listed))
        except (ConfigError, KeyError, ValueError) as error:
            text = "the published keys cannot be read; they are published anew"
            log.error(text, path=str(self._path), why=str(error))  # noqa: TRY400 - the reason is the message
            return Schedule()

    def write(self, schedule: Schedule) -> None:
        """Put the file in place, where it would change.

        Raises:
            ConfigError: it cannot be written, or has too many keys for those who read it.
        """
        if len(schedule.entries) > MAX_KEYS:
            raise ConfigError(
                f"more than {MAX_KEYS} keys would be published; wait before more change", path=self._place
            )
        data = msgspec.json.format(msgspec.json.encode(schedule.jwks())) + b"\n"
        try:
            if not self._is(data):
                write_file(self._path, data, _MODE)
        except OSError as error:
            raise ConfigError(f"cannot write {self._path}: {error.strerror}", path=self._place) from None

    def _is(self, data: bytes) -> bool:
        try:
            return read_file(self._path, self._place, max_bytes=_MAX_BYTES, kind="trusted") == data
        except ConfigError:
            return False


def _entry(jwk: dict[str, Any]) -> Entry:
    public = parse_jwk(jwk)
    since = jwk.get("iat", 0)
    if type(since) is not int or not 0 <= since < 2**53:
        raise ValueError("has an iat that is no time")
    return Entry(public, since, None if public.expires is None else int(public.expires))
