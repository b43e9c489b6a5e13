"""Follows files: when they change they are read again, and what cannot be used leaves things as they are.

Mounted secrets change by the exchange of a symbolic link (Kubernetes), by renaming, or by writing in place; certificate
and key are two files, so that for a moment they do not fit. A change is therefore taken up when it was seen twice, half
a second apart, and tried again until it can be used.
"""

from __future__ import annotations

import math
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.following")

LOOK_SECONDS: Final = 0.5
"""Time between two looks at the files."""
_RETRY_SECONDS: Final = 5.0
"""Before files that could not be used are read again although they did not change: what was wrong may be elsewhere."""
_RESTLESS_SECONDS: Final = 5.0
"""Files that never come to rest are taken as they are after this long."""
_SILENT_SECONDS: Final = 5.0
"""A look that takes longer than this is worth saying so: the file system hangs."""
SILENT: Final = "no answer from its file system"
"""The fault of files whose look does not end: nobody else can say so."""
_MOST_ENTRIES: Final = 1024
_JOIN_SECONDS: Final = 0.5

Reload = Callable[[], float | None]
"""Reads the files, checks them, and takes them over with one assignment; runs in a thread of its own.

Returns when what was read ends to be valid, in seconds since the epoch, or None where it never does. Raises
:class:`~frost_sidecar.errors.ConfigError` where it cannot be used: then all stays as it is.
"""
Follow = Callable[[str, Sequence[Path], Reload], None]
"""``follow(what, paths, reload)``: see :meth:`Following.follow`."""
Stamp = tuple[tuple[int, ...] | None, ...]


def read_once(_what: str, _paths: Sequence[Path], reload: Reload) -> None:
    """A :data:`Follow` that follows nothing."""
    reload()


class Following:
    """The files that a process follows, from ``with`` to its end. Each set of them has a thread of its own."""

    def __init__(
        self,
        count: Callable[[str, str], None] = lambda _what, _result: None,
        expires: Callable[[str, float], None] = lambda _what, _seconds: None,
    ) -> None:
        """``count`` is told of every reload, with ``ok`` or ``failed``; ``expires`` of every new end of validity.

        What had an end and has none any more is told with infinity.
        """
        self._count = count
        self._expires = expires
        self._followed: dict[str, _Followed] = {}
        self._running = False

    def follow(self, what: str, paths: Sequence[Path], reload: Reload) -> None:
        """Call ``reload`` now, and again whenever one of ``paths`` has changed.

        ``what`` names it in logs, metrics and ``/readyz``. A path may be a folder: then its entries count, too.

        Raises:
            ConfigError: the files cannot be used now.
            ValueError: something else is followed under this name.
        """
        if what in self._followed:
            raise ValueError(f"{what} is followed already")
        stamp = _stamp(paths)
        expires = reload()
        followed = self._followed[what] = _Followed(what, tuple(paths), reload, stamp, self._told)
        self._told(followed, None, expires, first=True)
        if self._running:
            followed.start()

    def forget(self, what: str) -> None:
        """Follow ``what``, and what is named below it (``what.…``), no longer; nothing where nothing is followed."""
        for name in [each for each in self._followed if each == what or each.startswith(f"{what}.")]:
            self._followed.pop(name).stop()

    @property
    def faults(self) -> Mapping[str, str]:
        """What cannot be read again, and why: it still is as it was read before."""
        return {what: why for what, each in self._followed.items() if (why := each.why) is not None}

    @property
    def expiries(self) -> Mapping[str, float]:
        """When what was read ends to be valid, seconds since the epoch."""
        return {what: each.expires for what, each in self._followed.items() if each.expires is not None}

    @property
    def terms(self) -> Mapping[str, float]:
        """For how long it was valid when it was read, in seconds."""
        return {what: each.term for what, each in self._followed.items() if each.expires is not None}

    def __enter__(self) -> Self:
        self._running = True
        for each in self._followed.values():
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        for each in self._followed.values():
            each.stop()
        for each in self._followed.values():
            each.join()

    def _told(self, followed: _Followed, fault: str | None, expires: float | None, *, first: bool = False) -> None:
        if fault is None:
            had_end = followed.expires is not None
            followed.take(expires)
            if expires is not None or had_end:
                self._expires(followed.what, math.inf if expires is None else expires)
        if not first:
            self._count(followed.what, "ok" if fault is None else "failed")


class _Followed:
    """One set of files, and the thread that looks at them."""

    def __init__(
        self,
        what: str,
        paths: tuple[Path, ...],
        reload: Reload,
        stamp: Stamp,
        told: Callable[[_Followed, str | None, float | None], None],
    ) -> None:
        self.what = what
        self.expires: float | None = None
        self.term = 0.0
        self._paths = paths
        self._reload = reload
        self._taken = self._seen = stamp
        self._told = told
        self._fault: str | None = None
        self._retry_at = 0.0
        self._looking_since: float | None = None
        self._restless_since: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, expires: float | None) -> None:
        """Note until when what was just read is valid."""
        self.term = max(0.0, (expires or 0.0) - time.time())
        self.expires = expires

    @property
    def why(self) -> str | None:
        since = self._looking_since
        if since is not None and time.monotonic() - since > _SILENT_SECONDS:
            return SILENT
        return self._fault

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"following {self.what}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._looking_since = time.monotonic()
            self._look()
            self._looking_since = None

    def _look(self) -> None:
        stamp = _stamp(self._paths)
        settled, self._seen = self._settled(stamp), stamp
        due = stamp != self._taken if self._fault is None else time.monotonic() >= self._retry_at
        if not settled or not (due or stamp != self._taken):
            return
        try:
            expires = self._reload()
        except ConfigError as error:
            self._failed(str(error))
        except Exception as error:
            why = f"a defect: {type(error).__name__}"
            if why != self._fault:  # or every try would bring its traceback
                log.exception("reload failed by a defect", what=self.what)
            self._failed(why)
        else:
            if self._fault is not None or stamp != self._taken:
                log.info("files taken over", what=self.what)
            self._fault = None
            self._told(self, None, expires)
        self._taken = stamp

    def _settled(self, stamp: Stamp) -> bool:
        """Whether the files are as they were at the look before, or have not been so at any look for a while."""
        now = time.monotonic()
        if stamp == self._seen:
            self._restless_since = None
            return True
        if self._restless_since is None:
            self._restless_since = now
        if now - self._restless_since < _RESTLESS_SECONDS:
            return False
        self._restless_since = now
        return True

    def _failed(self, why: str) -> None:
        """Say what is wrong, once for each change."""
        if why != self._fault:
            log.error("files cannot be used; what was read before stays", what=self.what, why=why)
            self._told(self, why, None)
        self._fault = why
        self._retry_at = time.monotonic() + _RETRY_SECONDS


def _stamp(paths: Sequence[Path]) -> Stamp:
    """What changes when one of the files is replaced, written to, or opened to others; None for one that is not there.

    Symbolic links are followed, so that a link's new target is a new file.
    """
    return tuple(each for path in paths for each in _stamps(path))


def _stamps(path: Path) -> list[tuple[int, ...] | None]:
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            return [_of(status)]
        entries = sorted(path.iterdir())[:_MOST_ENTRIES]
        return [_of(status), *(each for entry in entries for each in _entry(entry))]
    except OSError:
        return [None]


def _entry(path: Path) -> list[tuple[int, ...] | None]:
    try:
        return [_of(path.stat())]
    except OSError:
        return [None]


def _of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode
