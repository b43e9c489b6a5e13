"""The one writer of a log: opens, checks, locks, appends. Every function here blocks; none may run in an event loop."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from frost_sidecar.errors import AuditUnavailable, ConfigError
from frost_sidecar.model import AuditRecord
from frost_sidecar_audit_worm.bodies import RecoveredBody, RequestBody, encode
from frost_sidecar_audit_worm.chain import (
    MAX_BODY_BYTES,
    CorruptLogError,
    DamagedLineError,
    Fault,
    Head,
    Header,
    encode_head,
    genesis,
    link,
    parse_head,
)
from frost_sidecar_audit_worm.reading import Reader, check_head, head_path, resolve, walk

_CHUNK_BYTES: Final = 1024 * 1024


class Log:
    """An open log. Not for two threads at once; the caller sees to that."""

    def __init__(self, path: Path) -> None:
        """Open or create the log at ``path``, lock it, check every record in it and account for a torn write.

        Symbolic links are followed here, once: the log is the file that ``path`` leads to now.

        Raises:
            ConfigError: another process writes it, it is not as it was written, or it cannot be opened. The message
                says what to do.
        """
        self.path = resolve(path)
        self.recovered: RecoveredBody | None = None
        self._broken: str | None = None
        with contextlib.ExitStack() as undo:
            try:
                self._open(undo)
            except CorruptLogError as error:
                raise ConfigError(
                    f"the audit log {self.path} is not as it was written: {error}; keep it and its head file as "
                    "evidence, move both away, and start again with a new log"
                ) from None
            except OSError as error:
                raise ConfigError(
                    f"cannot open the audit log {error.filename or self.path}: {error.strerror}"
                ) from None
            except AuditUnavailable as error:
                raise ConfigError(str(error)) from None
            undo.pop_all()

    @property
    def head(self) -> Head:
        """The last durable point of the chain."""
        return self._head

    def append(self, records: Sequence[AuditRecord]) -> None:
        """Append one line a record and return when all are on disk; raises :class:`AuditUnavailable` otherwise."""
        self._append([encode(RequestBody(record)) for record in records])

    def check(self) -> None:
        """Raise :class:`AuditUnavailable` where the next append would fail, as far as one can see without writing."""
        self._check_still_ours()
        room = os.fstatvfs(self._fd)
        if room.f_bavail * room.f_frsize < MAX_BODY_BYTES:
            raise AuditUnavailable(f"the disk of {self.path} is full")

    def close(self) -> None:
        """Flush the head file and release the lock; raises :class:`OSError` when the flush fails."""
        try:
            _flush(self._head_fd)
        finally:
            os.close(self._fd)
            os.close(self._head_fd)

    def _open(self, undo: contextlib.ExitStack) -> None:
        if self.path.is_symlink():
            raise ConfigError(f"the audit log {self.path} is a symbolic link that leads back to itself")
        exists = self.path.exists()
        if exists and not head_path(self.path).exists():
            raise CorruptLogError(Fault("the head file is missing: removed, or not copied with the log"))
        self._head_fd = os.open(head_path(self.path), os.O_RDWR | (0 if exists else os.O_CREAT), 0o600)
        undo.callback(os.close, self._head_fd)
        self._lock(self._head_fd)
        if not self.path.exists():
            self._create()
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND)
        undo.callback(os.close, self._fd)
        self._lock(self._fd)
        self._load()

    def _lock(self, fd: int) -> None:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError(f"the audit log {self.path} and its head file must be regular files")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another process writes the audit log {self.path}; give each process a path of its own"
            ) from None

    def _create(self) -> None:
        """Make head file and log such that a crash at any point leaves either no log or a good one."""
        stored = os.pread(self._head_fd, 4096, 0)
        parsed = parse_head(stored)
        if stored and (parsed is None or parsed[1].count):
            raise ConfigError(
                f"the audit log {self.path} is gone, but its head file tells of records (or is no head file): find the "
                "log; or, to start a new one, move the head file away"
            )
        created = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        header = Header(secrets.token_hex(16), created)
        line = header.encode()
        os.ftruncate(self._head_fd, 0)
        os.pwrite(self._head_fd, encode_head(header.log_id, genesis(line)), 0)
        _flush(self._head_fd)
        fresh = self.path.with_name(self.path.name + ".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(fd, line)
            _flush(fd)
        finally:
            os.close(fd)
        fresh.rename(self.path)
        self._flush_folder()

    def _load(self) -> None:
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            reader = Reader(file)
            stored = check_head(reader, os.pread(self._head_fd, 4096, 0) or None)
            fault = None
            try:
                walk(reader, [("the head file", stored)])
            except DamagedLineError as error:
                if reader.head.count < stored.count:
                    raise
                fault = str(error)  # behind the head: as a power loss leaves a write that was not flushed yet
        self._log_id = reader.header.log_id
        self._head = reader.head
        self._size = reader.offset
        if reader.torn or fault:
            self._recover(fault)
        else:
            _flush(self._fd)  # the last process may have died between write and flush, and the head is never ahead
            self._store_head()
        _flush(self._head_fd)

    def _recover(self, fault: str | None) -> None:
        """Set aside everything behind the last good record, cut it off, and say so in a record."""
        size = os.fstat(self._fd).st_size - self._size
        kept, digest, lines = self._keep(size)
        try:
            os.ftruncate(self._fd, self._size)
        except PermissionError:
            kept.unlink()
            raise ConfigError(
                f"a crash left {size} bytes of an unfinished write at the end of {self.path}, and the file may "
                "not be shortened; run `chattr -a` on it, start once, and run `chattr +a` again"
            ) from None
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self.recovered = RecoveredBody(now, size, digest, kept.name, fault, lines)
        self._append([encode(self.recovered)])

    def _keep(self, size: int) -> tuple[Path, str, int]:
        """Copy the last ``size`` bytes of the log to a file of their own; also return their hash and line feeds."""
        moment = int(time.time())
        while True:
            kept = self.path.with_name(f"{self.path.name}.torn-{moment}")
            try:
                fd = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileExistsError:
                moment += 1
        digest, lines = hashlib.sha256(), 0
        with os.fdopen(fd, "wb") as file:
            for offset in range(self._size, self._size + size, _CHUNK_BYTES):
                piece = os.pread(self._fd, min(_CHUNK_BYTES, self._size + size - offset), offset)
                digest.update(piece)
                lines += piece.count(b"\n")
                file.write(piece)
            file.flush()
            _flush(fd)
        self._flush_folder()
        return kept, digest.hexdigest(), lines

    def _append(self, bodies: Sequence[bytes]) -> None:
        self._check_still_ours()
        head = self._head
        lines = []
        for body in bodies:
            if len(body) > MAX_BODY_BYTES:
                raise AuditUnavailable(f"a record has {len(body)} bytes; at most {MAX_BODY_BYTES} can be stored")
            record = link(head, body)
            head = Head(record.sequence, record.digest)
            lines.append(record.encode())
        block = b"".join(lines)
        self._write(block)
        try:
            _flush(self._fd)
        except OSError as error:
            # What the failed flush left in the page cache may or may not be on disk, and a second flush would not tell.
            self._broken = f"flushing it to disk failed ({error.strerror})"
            self._take_back()
            raise self._refusal() from None
        self._head = head
        self._size += len(block)
        try:
            self._store_head()
        except OSError as error:
            self._broken = f"its head file cannot be written ({error.strerror})"
            raise self._refusal() from None

    def _check_still_ours(self) -> None:
        if self._broken:
            raise self._refusal()
        for fd, path in ((self._fd, self.path), (self._head_fd, head_path(self.path))):
            own = os.fstat(fd)
            try:
                there = path.stat()
            except OSError as error:
                raise AuditUnavailable(f"{path} was removed while in use ({error.strerror}); put it back") from None
            if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino):
                raise AuditUnavailable(f"{path} was replaced while in use; put the original file back")
        if os.fstat(self._fd).st_size != self._size:
            raise AuditUnavailable(f"{self.path} was changed by somebody else while in use; verify it, then restart")

    def _write(self, block: bytes) -> None:
        try:
            written = os.write(self._fd, block)
            while written < len(block):  # a full disk shows as a short write; the next one says why
                written += os.write(self._fd, block[written:])
        except OSError as error:
            if not self._take_back():
                self._broken = f"a write failed ({error.strerror}) and could not be taken back"
                raise self._refusal() from None
            raise AuditUnavailable(f"cannot write to {self.path}: {error.strerror}") from None

    def _take_back(self) -> bool:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            return False
        return True

    def _store_head(self) -> None:
        stored = encode_head(self._log_id, self._head)
        if os.pwrite(self._head_fd, stored, 0) != len(stored):
            raise OSError(None, "short write")

    def _refusal(self) -> AuditUnavailable:
        return AuditUnavailable(
            f"the audit log {self.path} takes no records any more: {self._broken}; mend the disk and restart",
            retry_after=60,
        )

    def _flush_folder(self) -> None:
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _flush(fd: int) -> None:
    """Everything written to ``fd`` to the disk itself, with the size of the file."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)
