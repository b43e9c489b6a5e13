"""The JSON bodies of records: what is written, and what is accepted as having been written."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from frost_sidecar.encoding import decode_json
from frost_sidecar.model import AuditRecord

MAX_DEPTH: Final = 32
"""Objects and arrays inside each other in a body; what we write has four. Python's own limit moves with the stack."""

Kind = Literal["request", "recovered"]


class RequestBody(msgspec.Struct, frozen=True, tag_field="kind", tag="request"):
    """Body of a record about a finished request."""

    record: AuditRecord


class RecoveredBody(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="recovered"):
    """Body of a record that accounts for bytes set aside at a start; ``file`` keeps them.

    Without ``fault`` they are the unfinished last line of a process that died. With it they begin with a line that is
    damaged, and ``lines`` counts the finished ones among them: so many records may have been in them.
    """

    time: str
    bytes: int
    sha256: str
    file: str
    fault: str | None = None
    lines: int = 0


class _AnyRequest(msgspec.Struct, tag_field="kind", tag="request"):
    record: dict[str, object]


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RequestBody | RecoveredBody).decode


def kind_of(body: bytes) -> Kind:
    """The kind of a stored body; raises :class:`ValueError` where it is none of the format's.

    A body that comes back byte by byte when it is decoded and written again is strict JSON without a member twice. This
    costs a sixth of the full reading, which is left for the records of versions with other members.
    """
    try:
        value = _decode(body)
        if encode(value) != body:
            value = None
    except (ValueError, RecursionError):
        value = None
    if value is None:
        return _kind_of_any(body)
    return "recovered" if isinstance(value, RecoveredBody) else "request"


def _kind_of_any(body: bytes) -> Kind:
    members = decode_json(body, dict[str, object])
    level: list[object] = [members]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if any(isinstance(each, dict | list) for each in level):
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    value = msgspec.convert(members, _AnyRequest | RecoveredBody)
    return "recovered" if isinstance(value, RecoveredBody) else "request"
