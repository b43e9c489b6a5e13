"""Reads a log from start to end and believes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from frost_sidecar_audit_worm.bodies import kind_of
from frost_sidecar_audit_worm.chain import (
    MAX_BODY_BYTES,
    PREFIX_BYTES,
    CorruptLogError,
    DamagedLineError,
    Fault,
    Head,
    Header,
    Record,
    check_line,
    genesis,
    parse_head,
)

_MAX_LINE: Final = PREFIX_BYTES + MAX_BODY_BYTES + 1
_QUIET_SECONDS: Final = 1.0
"""An unfinished last line counts as torn once the file has not changed for so long; before, its writer may be at it."""
_MAX_HEAD_READINGS: Final = 100


@dataclass(frozen=True, slots=True)
class Report:
    """What :func:`verify` found. ``fault`` is None for a log in which every byte is as written.

    ``records`` counts the good records before the fault, ``recovered`` those among them that account for a torn write;
    ``head`` is ``COUNT:HEX`` of the last good one, to be kept elsewhere and given back as ``expected_head``.
    """

    path: Path
    log_id: str | None
    created: str | None
    records: int
    recovered: int
    head: str | None
    fault: Fault | None


class Reader:
    """Yields the records of an open log and remembers where the good part ends.

    ``head`` and ``offset`` are those of the last good record; ``torn`` holds the bytes of an unfinished last line.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Read the header; raises :class:`CorruptLogError`."""
        self._file = file
        line = file.readline(_MAX_LINE)
        header = Header.parse(line)
        if header is None:
            raise CorruptLogError(Fault("not the header of a frost-sidecar audit log of version 1", 1))
        self.header = header
        self.head = genesis(line)
        self.offset = len(line)
        self.recovered = 0
        self.torn = b""

    def __iter__(self) -> Iterator[Record]:
        """Yield record after record; raises :class:`CorruptLogError` at the first that is wrong."""
        while line := self._next_line():
            record = check_line(self.head, line)
            try:
                kind = kind_of(record.body)
            except ValueError as error:
                reason = ascii(str(error)[:200])[1:-1]  # it may quote the body
                raise CorruptLogError(
                    Fault(f"the body is none of this format: {reason}", record.sequence + 1, record.sequence)
                ) from None
            self.recovered += kind == "recovered"
            self.head = Head(record.sequence, record.digest)
            self.offset += len(line)
            yield record

    def _next_line(self) -> bytes:
        line = self._file.readline(_MAX_LINE)
        if line.endswith(b"\n"):
            return line
        if len(line) == _MAX_LINE:
            number = self.head.count + 1
            raise DamagedLineError(
                Fault(f"the line has more than {_MAX_LINE} bytes: it was changed", number + 1, number)
            )
        self.torn = line
        return b""


def read(path: Path) -> Iterator[Record]:
    """Yield the records of the log at ``path``, each checked against the chain.

    Raises:
        OSError: the file cannot be read.
        CorruptLogError: at the first record that is not as written. The head file is not looked at.
    """
    with resolve(path).open("rb") as file:
        yield from Reader(file)


def verify(path: Path, *, expected_head: str | None = None) -> Report:
    """Check every byte of the log at ``path`` and of its head file; works beside a running writer.

    ``expected_head`` is a ``COUNT:HEX`` that was kept elsewhere: the log must still contain it. Without one, a log that
    was rewritten as a whole together with its head file cannot be told from a genuine one.

    Raises:
        OSError: the log cannot be read.
        ValueError: ``expected_head`` is not of that form.
    """
    wanted = [] if expected_head is None else [("the expected head", Head.parse(expected_head))]
    real = resolve(path)
    stored = read_head(real)  # before the log, which is never behind its head
    with real.open("rb") as file:
        return _check(path, file, stored, wanted)


def resolve(path: Path) -> Path:
    """``path`` without symbolic links: the log's other files are beside the file itself, not beside a link to it."""
    return Path(os.path.realpath(path))


def head_path(path: Path) -> Path:
    """Where the head of the log at the resolved ``path`` is kept."""
    return path.with_name(path.name + ".head")


def read_head(path: Path) -> bytes | None:
    """The bytes of the head file of the log at the resolved ``path``; None where there is none.

    Read until two readings agree, so as not to take one from the middle of the writer's change.
    """
    last: bytes | None = None
    for _ in range(_MAX_HEAD_READINGS):
        try:
            now = head_path(path).read_bytes()[:4096]
        except FileNotFoundError:
            return None
        if now == last:
            break
        last = now
    return last


def check_head(reader: Reader, stored: bytes | None) -> Head:
    """The head in the head file of the reader's log; raises :class:`CorruptLogError` where it is none of its own."""
    if stored is None:
        raise CorruptLogError(Fault("the head file is missing: removed, or not copied with the log"))
    parsed = parse_head(stored)
    if parsed is None:
        raise CorruptLogError(Fault("the head file was changed: it is not of the form that is written"))
    log_id, head = parsed
    if log_id != reader.header.log_id:
        raise CorruptLogError(Fault("the head file belongs to another log, or the log's header was changed"))
    return head


def walk(reader: Reader, wanted: list[tuple[str, Head]]) -> None:
    """Read to the end and check that the chain goes through each head in ``wanted``, given with its name.

    Raises:
        CorruptLogError: it does not, or a record is wrong.
    """
    pending = sorted(wanted, key=lambda each: each[1].count, reverse=True)
    _pass_heads(reader.head, pending)
    for _ in reader:
        _pass_heads(reader.head, pending)
    if pending:
        name, head = pending[-1]
        count = reader.head.count
        raise CorruptLogError(
            Fault(
                f"{name} names {head.count} records, the log ends after {count}: it was truncated", count + 2, count + 1
            )
        )


def _pass_heads(head: Head, pending: list[tuple[str, Head]]) -> None:
    while pending and pending[-1][1].count == head.count:
        name, wanted = pending.pop()
        if wanted != head:
            raise CorruptLogError(
                Fault(f"its hash is not the one in {name}: the log was rewritten", head.count + 1, head.count or None)
            )


def _check(path: Path, file: BinaryIO, stored: bytes | None, wanted: list[tuple[str, Head]]) -> Report:
    reader: Reader | None = None
    fault = None
    try:
        reader = Reader(file)
        wanted.append(("the head file", check_head(reader, stored)))
        walk(reader, wanted)
        if reader.torn:
            _await_end_of_write(reader, file)
    except CorruptLogError as error:
        fault = error.fault
    if reader is None:
        return Report(path, None, None, 0, 0, None, fault)
    header, head = reader.header, reader.head
    return Report(path, header.log_id, header.created, head.count, reader.recovered, str(head), fault)


def _await_end_of_write(reader: Reader, file: BinaryIO) -> None:
    """Let a writer that is alive finish its line; raises :class:`CorruptLogError` if nobody does."""
    end = time.monotonic() + _QUIET_SECONDS
    while reader.torn:
        if time.monotonic() > end or time.time() - os.fstat(file.fileno()).st_mtime > _QUIET_SECONDS:
            number = reader.head.count + 1
            raise CorruptLogError(
                Fault(f"{len(reader.torn)} bytes of an unfinished write: torn, cut or appended", number + 1, number)
            )
        time.sleep(0.01)
        file.seek(reader.offset)
        reader.torn = b""
        next(iter(reader), None)
