"""The files with private keys: one, or a folder of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_eddsa_jwks.file import read_file
from frost_sidecar_auth_eddsa_jwks.jwk import Algorithm
from frost_sidecar_auth_eddsa_jwks.private import PrivateKey, parse_private

log = get_logger("frost_sidecar.auth_eddsa_jwks")

MAX_FILES: Final = 32
"""Most keys in a folder."""
_MAX_BYTES: Final = 32 * 1024


class KeyFiles:
    """Where the private keys are. Its methods wait for the file system."""

    def __init__(self, path: Path, alg: Algorithm, place: str, *, folder: bool) -> None:
        """``place``: the setting that names it, for messages."""
        self.path = path
        self._alg = alg
        self._place = place
        self._folder = folder
        self._faults: Mapping[str, str] = {}

    def read(self) -> tuple[PrivateKey, ...]:
        """All keys that can be used, the newest first.

        In a folder the name decides: the last one in the order of its characters is the newest, so that dates in front
        are a good name (``2026-11-22.pem``). Times of files say nothing, as all files of a Kubernetes volume get new
        ones together. Names with a dot in front and subfolders do not count. A file that cannot be used is left out,
        and logged once.

        Raises:
            ConfigError: no key can be used, or there are more than ``MAX_FILES``.
        """
        if not self._folder:
            return (self._read(self.path),)
        keys: dict[str, tuple[str, PrivateKey]] = {}
        faults: dict[str, str] = {}
        for path in self._files():
            try:
                key = self._read(path)
            except ConfigError as error:
                faults[path.name] = str(error)
                continue
            name, other = keys.setdefault(key.public.kid, (path.name, key))
            if not other.public.is_same(key.public):
                faults[path.name] = f"it has the kid of {name}, and is another key"
        self._say(faults)
        if not keys:
            why = next(iter(faults.values()), "it is empty")
            raise ConfigError(f"no usable key in {self.path}: {why}", path=self._place)
        return tuple(key for _, key in keys.values())

    def _files(self) -> list[Path]:
        try:
            paths = [path for path in self.path.iterdir() if not path.name.startswith(".") and not path.is_dir()]
        except OSError as error:
            raise ConfigError(f"cannot read {self.path}: {error.strerror}", path=self._place) from None
        if len(paths) > MAX_FILES:
            raise ConfigError(f"{self.path} has {len(paths)} files; at most {MAX_FILES} are read", path=self._place)
        return sorted(paths, key=lambda path: path.name, reverse=True)

    def _read(self, path: Path) -> PrivateKey:
        data = read_file(path, self._place, max_bytes=_MAX_BYTES, kind="secret")
        try:
            return parse_private(data, self._alg, self._place)
        except ConfigError as error:
            raise ConfigError(f"{error} ({path})") from None

    def _say(self, faults: Mapping[str, str]) -> None:
        for name, why in faults.items():
            if self._faults.get(name) != why:
                log.error("key file cannot be used; the others are", file=name, why=why)
        for name in self._faults.keys() - faults.keys():
            log.info("key file is no longer in the way", file=name)
        self._faults = faults
