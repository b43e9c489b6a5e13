"""Files that keys come from: how they are read, and who else may."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from frost_sidecar.errors import ConfigError


def read_file(path: Path, place: str, *, max_bytes: int, kind: Literal["secret", "trusted"]) -> bytes:
    """The bytes of a small file; waits for the file system. Symbolic links are followed.

    ``place`` is the setting that names it, for messages. A ``secret`` one must not be open to every user, not even for
    reading (its group may read, as Kubernetes' ``fsGroup`` wants it); a ``trusted`` one must not be writable by all.

    Raises:
        ConfigError: it cannot be read, is no regular file, too large, or open to every user.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a regular file", path=place)
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", path=place) from None
    if len(data) > max_bytes:
        raise ConfigError(f"{path} is larger than {max_bytes} bytes; is it the right file?", path=place)
    if kind == "secret" and status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError(f"{path} can be read or written by every user; run `chmod o-rwx {path}`", path=place)
    if kind == "trusted" and status.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{path} can be written by every user; run `chmod o-w {path}`", path=place)
    return data


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Put a file in the place of ``path``, whole, on disk and with ``mode``; raises :class:`OSError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
