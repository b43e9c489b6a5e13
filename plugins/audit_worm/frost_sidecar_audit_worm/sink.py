"""The audit sink: the log's writer, in a thread of its own, under the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.to_thread import run_sync

from frost_sidecar.hookspecs import AuditSink
from frost_sidecar.logs import get_logger
from frost_sidecar.model import AuditRecord
from frost_sidecar_audit_worm.writing import Log

log = get_logger("frost_sidecar.audit_worm")

CLOSE_SECONDS: Final = 10.0
"""How long the end waits for a write that hangs on its disk."""


class WormSink(AuditSink):
    """Appends records to the log at a path.

    A write that has begun is never interrupted: a cancelled :meth:`append` returns at once, while its thread goes on
    and leaves the log in order; the records may then be in the log although nobody was told. The next call waits for
    that thread first, so a disk that hangs costs one thread and not one for each call.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: Log | None = None
        self._limiter = anyio.CapacityLimiter(1)
        self._write: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Open the log and check all of it; raises :class:`~frost_sidecar.errors.ConfigError`."""
        opened = await run_sync(Log, self._path, limiter=self._limiter)
        self._log = opened
        if opened.recovered is not None and opened.recovered.fault is not None:
            log.error(
                "the end of the audit log was damaged behind the last head on disk, as by a power loss in a write that "
                "nobody was told of; it was set aside. Without a power loss acknowledged records may be in it: look "
                "into the file",
                path=str(self._path),
                fault=opened.recovered.fault,
                bytes=opened.recovered.bytes,
                lines=opened.recovered.lines,
                file=opened.recovered.file,
            )
        elif opened.recovered is not None:
            log.warning(
                "the last process died in the middle of a write, which nobody was told of; its bytes were set aside",
                path=str(self._path),
                bytes=opened.recovered.bytes,
                file=opened.recovered.file,
            )
        log.info("the audit log is open and intact", path=str(self._path), head=str(opened.head))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._log = self._log, None
        if opened is None:
            return
        with anyio.CancelScope(shield=True):
            if self._write is not None:
                await asyncio.wait([self._write], timeout=CLOSE_SECONDS)
                if not self._write.done():
                    log.error("a write hangs on the disk; the audit log is left open", path=str(self._path))
                    return
            await run_sync(opened.close, limiter=self._limiter)
        log.info("the audit log is closed", path=str(self._path), head=str(opened.head))

    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Return when all ``records`` are on disk; raises :class:`~frost_sidecar.errors.AuditUnavailable` otherwise."""
        if self._log is None:
            raise RuntimeError("the audit sink is used outside of its `async with`")
        if not records:
            return
        if self._write is not None and not self._write.done():
            await asyncio.wait([self._write])
        self._write = asyncio.create_task(run_sync(self._log.append, list(records), limiter=self._limiter))
        self._write.add_done_callback(_settle)
        await asyncio.wait([self._write])
        self._write.result()

    async def check(self) -> None:
        """Return where a record could be stored; raises :class:`~frost_sidecar.errors.AuditUnavailable` otherwise."""
        if self._log is None:
            raise RuntimeError("the audit sink is used outside of its `async with`")
        await run_sync(self._log.check, limiter=self._limiter, abandon_on_cancel=True)


def _settle(write: asyncio.Task[None]) -> None:
    """Look at a write's end, so that asyncio does not complain of one whose caller was cancelled."""
    if not write.cancelled():
        write.exception()
