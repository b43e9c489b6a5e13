"""The format, byte by byte: header, record lines, hashes, head. README.md specifies the same for other languages."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Longest JSON body of a record."""
PREFIX_BYTES: Final = 8 + 1 + 16 + 1 + 2 * HASH_BYTES + 1
"""Length, sequence number and hash of a record line, each with its space."""

_HEADER = re.compile(
    rb"frost-sidecar-audit 1 ([0-9a-f]{32}) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)\n\Z",
)
_HEAD_FILE = re.compile(rb"frost-sidecar-audit-head 1 ([0-9a-f]{32}) (\d{16}):([0-9a-f]{64})\n\Z")
_HEAD = re.compile(r"([0-9]{1,16}):([0-9a-f]{64})\Z")
_PREFIX = re.compile(rb"(\d{8}) (\d{16}) [0-9a-f]{64} ")
_TAG_HEADER: Final = b"frost-sidecar-audit/1/header"
_TAG_RECORD: Final = b"frost-sidecar-audit/1/record"


@dataclass(frozen=True, slots=True)
class Head:
    """A point of a chain: how many records it has up to there, and the hash of the last (of the header for none)."""

    count: int
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Head:
        """From ``COUNT:HEX``; raises :class:`ValueError` for anything else."""
        match = _HEAD.match(text)
        if match is None:
            raise ValueError(f"not COUNT:HEX with 64 lower-case hexadecimal digits: {text[:100]!r}")
        return cls(int(match[1]), bytes.fromhex(match[2]))

    def __str__(self) -> str:
        return f"{self.count}:{self.digest.hex()}"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line: the log's random id, in hexadecimal, and the time of its creation (RFC 3339, UTC)."""

    log_id: str
    created: str

    @classmethod
    def parse(cls, line: bytes) -> Header | None:
        """From the stored line with its newline; None if it is no header of this version."""
        match = _HEADER.match(line)
        return None if match is None else cls(match[1].decode(), match[2].decode())

    def encode(self) -> bytes:
        """The line to store."""
        return f"frost-sidecar-audit 1 {self.log_id} {self.created}\n".encode()


@dataclass(frozen=True, slots=True)
class Record:
    """One record as stored: its number, counted from 1, its hash, and the raw JSON body."""

    sequence: int
    digest: bytes
    body: bytes

    def encode(self) -> bytes:
        """The line to store."""
        return b"%s%s\n" % (_prefix(len(self.body), self.sequence, self.digest), self.body)


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong with a log. ``line`` counts from 1 (the header); None: not a line of the log."""

    problem: str
    line: int | None = None
    record: int | None = None

    def __str__(self) -> str:
        place = [] if self.line is None else [f"line {self.line}"]
        if self.record is not None:
            place.append(f"record {self.record}")
        return f"{', '.join(place)}: {self.problem}" if place else self.problem


class CorruptLogError(Exception):
    """A log is not what was written. ``fault`` says where and why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class DamagedLineError(CorruptLogError):
    """A line is none that follows the one before: as a change leaves it, or a power loss inside a write."""


def genesis(header_line: bytes) -> Head:
    """The head of a log without records."""
    return Head(0, _hash(_TAG_HEADER, header_line))


def link(previous: Head, body: bytes) -> Record:
    """The record with ``body`` that follows ``previous``."""
    sequence = previous.count + 1
    return Record(sequence, _hash(_TAG_RECORD, previous.digest, sequence.to_bytes(8, "big"), body), body)


def check_line(previous: Head, line: bytes) -> Record:
    """The record in a stored line with its newline; raises :class:`DamagedLineError` unless it follows ``previous``.

    Everything before the body follows from the body and ``previous``, so the line is compared as a whole: there is no
    second spelling of a record.
    """
    record = link(previous, line[PREFIX_BYTES:-1])
    if line == record.encode():
        return record
    raise DamagedLineError(Fault(_diagnose(record.sequence, line), record.sequence + 1, record.sequence))


def encode_head(log_id: str, head: Head) -> bytes:
    """What the head file holds: always the same number of bytes."""
    return f"frost-sidecar-audit-head 1 {log_id} {head.count:016d}:{head.digest.hex()}\n".encode()


def parse_head(stored: bytes) -> tuple[str, Head] | None:
    """Log id and head from a head file's bytes; None if they are not those of a head file."""
    match = _HEAD_FILE.match(stored)
    return None if match is None else (match[1].decode(), Head(int(match[2]), bytes.fromhex(match[3].decode())))


def _diagnose(expected: int, line: bytes) -> str:
    match = _PREFIX.match(line)
    if match is None:
        return "the line is not of the form LENGTH NUMBER HASH BODY: it was changed, cut or inserted"
    stored, found = len(line) - PREFIX_BYTES - 1, int(match[2])
    if found > expected:
        return f"record {found} stands where record {expected} should: records were removed or moved"
    if found < expected:
        return f"record {found} stands where record {expected} should: one was inserted, repeated or moved"
    if int(match[1]) != stored:
        return f"the body should have {int(match[1])} bytes and has {stored}: it was changed"
    return "the hash does not follow from the body and the line before: one of the two lines was changed or exchanged"


def _prefix(length: int, sequence: int, digest: bytes) -> bytes:
    return b"%08d %016d %s " % (length, sequence, digest.hex().encode())


def _hash(*fields: bytes) -> bytes:
    """SHA-256 over the fields, each after its length in eight bytes, big-endian: no two lists of fields hash alike."""
    return hashlib.sha256(b"".join(part for each in fields for part in (len(each).to_bytes(8, "big"), each))).digest()
