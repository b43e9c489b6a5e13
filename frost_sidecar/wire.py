"""Signer protocol v1: the messages between coordinator and signer (docs/signer-protocol.md).

Requests are read strictly, unknown members refused; answers are read tolerantly, so that a newer signer may say more.
There is no place for a nonce in any of them: a coordinator that knew the nonces of a share ``z = d + e*rho +
lambda*s*c`` could solve for the key share ``s``. Only the commitments, their public half, travel.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from frost_sidecar.encoding import b64url
from frost_sidecar.model import MAX_MESSAGE_BYTES, REQUEST_ID, KeyName

PROTOCOL = 1
COMMITMENTS_PATH = "/v1/commitments"
SHARES_PATH = "/v1/shares"
INFO_PATH = "/v1/info"

MAX_COMMITMENTS = 256
"""Most commitments in one request or answer."""
MAX_SESSIONS = 64
"""Most sessions in one shares request."""
MAX_PARTICIPANTS = 255
"""Most participants in one session."""
MAX_LISTED = 4096
"""Most commitments listed by all sessions of one request together."""
MAX_KEYS = 64
"""Most keys that a signer's info is read for."""
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Most bytes in one request or answer."""
MAX_TOKEN_LIFETIME = 60
"""Longest validity of a call's bearer token, in seconds."""

Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
Point = Annotated[str, Meta(min_length=43, max_length=44)]
Scalar = Annotated[str, Meta(min_length=43, max_length=44)]
RequestId = Annotated[str, Meta(min_length=1, max_length=128, pattern="^" + REQUEST_ID.pattern)]
Message = Annotated[str, Meta(max_length=4 * (MAX_MESSAGE_BYTES + 2) // 3 + 4)]

SessionError = Literal[
    "unknown-commitment",  # not issued to this client in this epoch, already used, expired or evicted
    "not-a-participant",  # this signer is not in the session's commitment list
    "malformed",  # a commitment, identifier or message in the session cannot be used
    "denied",  # the signer's own policy refuses the message
]

_IDENTIFIER = re.compile(r"[1-9][0-9]{0,4}\Z")


class Commitment(Struct, frozen=True, forbid_unknown_fields=True):
    """The public half of one pair of nonces (RFC 9591, section 5.1), under the name its signer gave it."""

    id: Id
    hiding: Point
    binding: Point


class CommitmentsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for ``count`` fresh commitments under ``key``."""

    key: KeyName
    count: Annotated[int, Meta(ge=1, le=MAX_COMMITMENTS)]


class CommitmentsAnswer(Struct, frozen=True):
    """Fresh commitments, valid until they are used, expire, or the signer's epoch ends."""

    identifier: Annotated[int, Meta(ge=1, le=65535)]
    epoch: Id
    commitments: Annotated[list[Commitment], Meta(max_length=MAX_COMMITMENTS)]
    expires_in: Annotated[float, Meta(ge=0)]
    """Seconds from the answer until the signer forgets the nonces of these commitments."""


class Session(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One signing package: the message and the commitment list (RFC 9591, section 5.2), keyed by identifier."""

    session: Id
    msg: Message
    commitments: Annotated[dict[str, Commitment], Meta(min_length=1, max_length=MAX_PARTICIPANTS)]
    request: RequestId | None = None
    """The id of the request that the session is for, where a call carries sessions of several; for logs alone."""


class SharesRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for this signer's signature share in each session; ``replenish`` fresh commitments ride back."""

    key: KeyName
    epoch: Id
    sessions: Annotated[list[Session], Meta(min_length=1, max_length=MAX_SESSIONS)]
    replenish: Annotated[int, Meta(ge=0, le=MAX_COMMITMENTS)] = 0


class ShareResult(Struct, frozen=True, omit_defaults=True):
    """One session's outcome: exactly one of ``share`` and ``error``."""

    session: Id
    share: Scalar | None = None
    error: SessionError | None = None
    detail: Annotated[str, Meta(max_length=1024)] | None = None
    """Of an error: why, for people."""


class SharesAnswer(Struct, frozen=True):
    """One result per session, in the order of the request, and the fresh commitments that were asked for."""

    identifier: Annotated[int, Meta(ge=1, le=65535)]
    epoch: Id
    results: Annotated[list[ShareResult], Meta(max_length=MAX_SESSIONS)]
    commitments: Annotated[list[Commitment], Meta(max_length=MAX_COMMITMENTS)]
    expires_in: Annotated[float, Meta(ge=0)]


class KeyInfo(Struct, frozen=True):
    """What a signer says of one key share: public values only."""

    identifier: Annotated[int, Meta(ge=1, le=65535)]
    min_signers: int
    group_public: Point
    verifying_share: Point


class InfoAnswer(Struct, frozen=True):
    """Who a signer is, since when, and what it can do."""

    protocols: list[int]
    name: Annotated[str, Meta(max_length=128)]
    epoch: Id
    keys: Annotated[dict[str, KeyInfo], Meta(max_length=MAX_KEYS)]


def parse_identifier(text: str) -> int:
    """A participant identifier in its one decimal spelling, 1 to 65535; raise :class:`ValueError` otherwise."""
    if not _IDENTIFIER.match(text) or int(text) > 65535:
        raise ValueError(f"not a participant identifier: {text[:16]!r}")
    return int(text)


def body_digest(body: bytes) -> str:
    """The ``body_sha256`` claim for a request body."""
    return b64url(hashlib.sha256(body).digest())
