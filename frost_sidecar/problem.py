"""RFC 9457 problem details: the one form of every error answer, of the sidecar and of the signer."""

from __future__ import annotations

import msgspec

CONTENT_TYPE = "application/problem+json"
TYPE_BASE = "urn:frost-sidecar:error:"


LONGEST_DETAIL = 4096
"""Characters of ``detail`` that are answered: it may quote what the caller sent."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details. ``type`` is :data:`TYPE_BASE` and a slug that never changes; ``detail`` is for people."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    outcome: str | None = None
    reason: str | None = None
    """Of a refusal: which one, as one word (:data:`frost_sidecar.errors.Refusal`)."""

    def encode(self) -> bytes:
        """The JSON body."""
        if len(self.detail) > LONGEST_DETAIL:
            return msgspec.json.encode(msgspec.structs.replace(self, detail=self.detail[:LONGEST_DETAIL] + "…"))
        return msgspec.json.encode(self)


def read_problem(body: bytes) -> Problem | None:
    """The problem document that somebody sent, None where it is none of ours."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return problem if problem.type.startswith(TYPE_BASE) else None


def slug_of(body: bytes) -> str | None:
    """The slug of a problem document that somebody sent, None where it is none of ours."""
    problem = read_problem(body)
    return None if problem is None else problem.type.removeprefix(TYPE_BASE)
