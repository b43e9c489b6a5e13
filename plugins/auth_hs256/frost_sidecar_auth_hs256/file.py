"""The file that a secret comes from: whether it is another one than before, and whether it can be used."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from frost_sidecar.errors import ConfigError
from frost_sidecar_auth_hs256.secret import HOW_TO, Secret, parse_secret

_MAX_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is replaced, written to, or opened to others."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """The inode's change time, in nanoseconds since 1970; unlike the one of modification nobody sets it at will."""

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """The stamp in what ``stat`` said."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def same_file(self, other: Stamp) -> bool:
        """Whether both are of one file, written to in place where they differ, and not of two that were exchanged."""
        return (self.device, self.inode) == (other.device, other.inode)


@dataclass(frozen=True, slots=True)
class Reading:
    """A secret, and the file that it was read from."""

    secret: Secret
    stamp: Stamp
    forgiven: tuple[str, ...]
    """What is wrong with it but for the development switch, a sentence each, for the log."""
    steady: bool
    """Whether the file stayed as its stamp says while it was read."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the file cannot be used, and which one it was, where there is one."""

    message: str
    stamp: Stamp | None = None


class SecretFile:
    """A file with a secret in base64. Its methods wait for the file system: call them at start or in a thread."""

    def __init__(self, path: Path, place: str, *, dev: bool) -> None:
        """``place``: the setting that names the file, for messages. ``dev``: forgive weakness and open permissions."""
        self.path = path
        self._place = place
        self._dev = dev

    def look(self, known: Stamp | None) -> Reading | Fault | None:
        """What the file holds now; None where it still is the one with the stamp ``known``. Raises nothing.

        Symbolic links are followed, so that a link's new target is a new file.
        """
        try:
            stamp = Stamp.of(self.path.stat())
        except OSError as error:
            return Fault(str(self._unreadable(error)))
        if stamp == known:
            return None
        try:
            return self.read()
        except ConfigError as error:
            return Fault(str(error), stamp)

    def read(self) -> Reading:
        """Read the file.

        Raises:
            ConfigError: it cannot be read, is no regular file, is open to every user, or its secret is refused by
                :func:`~frost_sidecar_auth_hs256.secret.parse_secret`.
        """
        try:
            with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise self._error(f"{self.path} is not a regular file")
                data = file.read(_MAX_BYTES + 1)
                steady = Stamp.of(os.fstat(file.fileno())) == Stamp.of(status)
        except OSError as error:
            raise self._unreadable(error) from None
        if len(data) > _MAX_BYTES:
            raise self._error(f"{self.path} is larger than {_MAX_BYTES} bytes; is it the right file?")
        open_to_all = bool(status.st_mode & (stat.S_IROTH | stat.S_IWOTH))
        if open_to_all and not self._dev:
            raise self._error(f"{self.path} can be read or written by every user; run `chmod o-rwx {self.path}`")
        if not data.isascii():  # a failed decode() would carry all of it in its error
            raise self._error(f"{self.path} holds no base64 text; {HOW_TO}")
        secret, forgiven = parse_secret(data.decode("ascii"), self._place, dev=self._dev)
        if open_to_all:
            forgiven = (
                *forgiven,
                "the secret's file can be read or written by every user: accepted under the development switch",
            )
        return Reading(secret, Stamp.of(status), forgiven, steady)

    def _error(self, message: str) -> ConfigError:
        return ConfigError(message, path=self._place)

    def _unreadable(self, error: OSError) -> ConfigError:
        return self._error(f"cannot read {self.path}: {error.strerror}")
