"""A signature in the form in which stores keep it: strict JSON, versioned, below 4096 bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from frost_sidecar.encoding import b64decode, b64encode, decode_json
from frost_sidecar.model import REQUEST_ID, KeyName, Signed

MAX_ANSWER_BYTES = 4096
"""Longest stored answer that is looked at; ours have at most about 2000 bytes."""


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    v: Literal[1]
    signature: str
    group_public: str
    participants: Annotated[tuple[Annotated[int, Meta(ge=1, le=65535)], ...], Meta(min_length=1, max_length=255)]
    key: KeyName
    request_id: Annotated[str, Meta(pattern=f"^{REQUEST_ID.pattern}")]


def encode_answer(signed: Signed) -> bytes:
    """``signed`` as a stored answer."""
    return msgspec.json.encode(
        _Answer(
            1,
            b64encode(signed.signature),
            b64encode(signed.group_public),
            signed.participants,
            signed.key,
            signed.request_id,
        )
    )


def decode_answer(answer: bytes) -> Signed:
    """The signature in a stored answer, marked as replayed; raises :class:`ValueError` for anything out of form.

    Form is all that is checked here: whoever can write to the store can write a well-formed answer, so it must be
    verified against the request before it leaves.
    """
    if len(answer) > MAX_ANSWER_BYTES:
        raise ValueError(f"it has {len(answer)} bytes")
    read = decode_json(answer, _Answer)
    if any(lower >= upper for lower, upper in pairwise(read.participants)):
        raise ValueError("its participants are not in ascending order")
    signature, public = b64decode(read.signature), b64decode(read.group_public)
    if (len(signature), len(public)) != (64, 32):
        raise ValueError("its signature or its public key has another length")
    return Signed(signature, public, read.participants, read.key, read.request_id, replayed=True)
