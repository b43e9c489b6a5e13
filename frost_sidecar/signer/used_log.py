"""A file with every commitment that was used, for checkers: across restarts, none may stand in it twice.

It is for test runs alone, under the development switch. It decides nothing, and nothing ever reads it back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import get_logger
from frost_sidecar.signer.node import Use

log = get_logger("frost_sidecar.signer.used_log")

SETTING: Final = "dev_used_log"
FLUSH_SECONDS: Final = 1.0
"""How old a line in memory may get."""
_BUFFER_BYTES: Final = 64 * 1024


class UsedLog:
    """Appends a line to ``path`` for each use, at the latest with the next :meth:`flush` and at the end of ``with``.

    A line has, with blanks between: epoch, commitment's id, key, SHA-256 of the signing package in hexadecimal. The
    methods may be called in several threads at once. An error of the disk is the caller's: where uses cannot be told,
    no share is made.
    """

    def __init__(self, path: Path, epoch: str) -> None:
        self._path = path
        self._epoch = epoch
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Open the file; raises :class:`~frost_sidecar.errors.ConfigError`."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot append to {self._path}: {error.strerror}", path=SETTING) from None
        self._file = os.fdopen(descriptor, "ab", _BUFFER_BYTES)
        log.warning(
            "development switch: every used commitment is written to a file; never in production",
            setting=SETTING,
            file=str(self._path),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()

    def add(self, uses: Sequence[Use]) -> None:
        """Take the lines of some uses together; raises :class:`OSError`."""
        lines = "".join(f"{self._epoch} {use.commitment} {use.key} {use.package.hex()}\n" for use in uses)
        with self._lock:
            self._file.write(lines.encode("ascii"))

    def flush(self) -> None:
        """Hand all lines to the system; raises :class:`OSError`."""
        with self._lock:
            self._file.flush()
