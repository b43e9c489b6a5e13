"""The audit log as its reader finds it: every byte of what it accepts is what a writer wrote."""

from __future__ import annotations

import io
import json
import secrets
from functools import cache
from typing import Any, Final

import msgspec
import pytest
from frost_sidecar_audit_worm.bodies import RecoveredBody, RequestBody, encode, kind_of
from frost_sidecar_audit_worm.chain import (
    CorruptLogError,
    Head,
    Header,
    Record,
    encode_head,
    genesis,
    link,
    parse_head,
)
from frost_sidecar_audit_worm.reading import Reader, check_head, walk

from frost_sidecar.encoding import decode_json
from frost_sidecar.model import AuditRecord, AuditSession
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_json, damage_text

Read = tuple[Reader, list[Record]]


@cache
def _header() -> Header:
    return Header(secrets.token_hex(16), "2026-01-02T03:04:05.000006Z")


def body_seeds() -> list[bytes]:
    """Bodies of records of both kinds."""
    record = AuditRecord(
        time="2026-01-02T03:04:05.000006Z",
        request_id=secrets.token_hex(8),
        outcome="signed",
        caller="unix:uid=1,gid=1",
        key="default",
        message_sha256=secrets.token_hex(32),
        participants=(1, 3),
        sessions=(AuditSession(session="s", participants=(1, 3), package_sha256="a", faults=("é: \u2028",)),),
        signature_sha256=secrets.token_hex(32),
        traceparent=None,
    )
    torn = RecoveredBody("2026-01-02T03:04:05.000006Z", 17, secrets.token_hex(32), "log.torn-1")
    return [encode(RequestBody(record)), encode(torn), encode(msgspec.structs.replace(torn, fault="f", lines=2))]


def log_seeds() -> list[bytes]:
    """Logs without records, with some, and with an unfinished line."""
    made, head = _header().encode(), genesis(_header().encode())
    logs = [made]
    for body in body_seeds() * 2:
        record = link(head, body)
        head = Head(record.sequence, record.digest)
        made += record.encode()
        logs.append(made)
    return [*logs, made + b"00000012 0000"]


def _log(data: bytes) -> Read:
    reader = Reader(io.BytesIO(data))
    return reader, list(reader)


def _log_read(data: bytes, value: Read) -> None:
    reader, records = value
    written = reader.header.encode() + b"".join(record.encode() for record in records)
    assert written + reader.torn == data
    assert reader.offset == len(written)
    assert reader.head.count == len(records)
    assert b"\n" not in reader.torn
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert isinstance(json.loads(record.body), dict)


def _rechained(data: bytes) -> bytes:
    """The same bodies in a chain that is right, as somebody would write who can rewrite the whole log."""
    head, made = genesis(_header().encode()), _header().encode()
    for body in data.split(b"\n"):
        record = link(head, body)
        head = Head(record.sequence, record.digest)
        made += record.encode()
    return made


def _body_read(data: bytes, kind: str) -> None:
    given = decode_json(data, dict[str, Any])
    assert given["kind"] == kind
    assert b"\n" not in data or json.loads(data) == given


def _head_seeds() -> list[bytes]:
    return [encode_head(_header().log_id, Head(count, secrets.token_bytes(32))) for count in (0, 7, 10**15)]


def _head(data: bytes) -> tuple[str, Head] | None:
    return parse_head(data)


def _head_read(data: bytes, value: tuple[str, Head] | None) -> None:
    if value is not None:
        assert encode_head(*value) == data


def _expected(data: bytes) -> Head:
    return Head.parse(data.decode("utf-8", "replace"))


def _expected_read(data: bytes, head: Head) -> None:
    count, _, digest = data.decode().partition(":")
    assert (head.count, head.digest.hex()) == (int(count), digest)
    assert Head.parse(str(head)) == head


def _with_head_seeds() -> list[bytes]:
    """A log, and behind an empty line its head file."""
    found = []
    for data in log_seeds():
        reader, _ = _log(data)
        found.append(data + b"\n" + encode_head(reader.header.log_id, reader.head))
    return found


def _with_head(data: bytes) -> tuple[bytes, bytes, Reader]:
    log, empty, stored = data.rpartition(b"\nfrost-sidecar-audit-head")
    stored = empty[1:] + stored
    reader = Reader(io.BytesIO(log))
    walk(reader, [("the head file", check_head(reader, stored if empty else None))])
    return log, stored, reader


def _with_head_read(_data: bytes, value: tuple[bytes, bytes, Reader]) -> None:
    """A log that passes contains the point that its head names."""
    log, stored, reader = value
    parsed = parse_head(stored)
    assert parsed is not None
    log_id, head = parsed
    assert log_id == reader.header.log_id
    passed = [genesis(reader.header.encode())]
    passed += [Head(record.sequence, record.digest) for record in Reader(io.BytesIO(log))]
    assert head in passed


TARGETS: Final = [
    Target("audit log", log_seeds, _log, (CorruptLogError,), _log_read, mutate=damage_text),
    Target(
        "audit log, rewritten",
        lambda: [b"\n".join(body_seeds()), *body_seeds()],
        lambda data: _log(_rechained(data)),
        (CorruptLogError,),
        lambda data, value: _log_read(_rechained(data), value),
        mutate=damage_text,
    ),
    Target("audit body", body_seeds, kind_of, (ValueError,), _body_read, mutate=damage_json),
    Target(
        "audit head file",
        _head_seeds,
        _head,
        (),
        _head_read,
        mutate=damage_bytes,
        took=lambda value: value is not None,
    ),
    Target(
        "audit head, kept elsewhere",
        lambda: [str(Head(count, secrets.token_bytes(32))).encode() for count in (0, 12)],
        _expected,
        (ValueError,),
        _expected_read,
        mutate=damage_bytes,
    ),
    Target(
        "audit log with head file",
        _with_head_seeds,
        _with_head,
        (CorruptLogError,),
        _with_head_read,
        mutate=damage_text,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
