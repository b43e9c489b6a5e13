"""The values that travel through a request: plain, immutable, without behaviour of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

Outcome = Literal["signed", "denied", "failed"]
"""How a request ended: the same three words in HTTP, audit and metric labels."""

BreakerState = Literal["healthy", "cooling", "quarantined"]
"""What a signer's record so far means for it: asked as usual, asked last, not asked."""

Quorum = tuple[int, ...]
"""Identifiers of the signers of one session, ascending."""


KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]
"""Name of a group key, the same at the coordinator and at its signers."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}\Z")
"""Form of a request id: it goes into headers, logs and the audit log."""

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
"""Form of a W3C trace context (Trace Context, section 3.2)."""

IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}\Z")
"""Form of an idempotency key: printable ASCII without blanks. A UUID is a good one."""

MAX_MESSAGE_BYTES = 64 * 1024
"""Most bytes of a message that is signed."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of the process's own certificate chain and key, and of the authority that its peers' certificates need."""

    cert: Path
    key: Path
    ca: Path
    crl: Path | None = None
    """Certificate revocation lists (RFC 5280), PEM: peers in one of them are refused. Then each issuer needs one."""
    trust_domain: str | None = None
    """SPIFFE trust domain: peers need one ``spiffe://`` URI in it, whatever else their names."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A configured signer node: where it is, and which name its certificate must carry."""

    identifier: int
    name: str
    url: str
    zone: str
    server_name: str
    proved: bool = True
    """Whether the name in its certificate proves which signer it is; not where a caller alone says so."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a signature, as proved by the channel (never by the body)."""

    subject: str
    """What was proved, in the words of its source; the same for all requests of the same caller."""
    source: Literal["in-process", "unix", "tcp"]
    name: str | None = None
    """Its name in ``[callers]``; None for one that is not configured, and has no grant."""


@dataclass(frozen=True, slots=True)
class SignRequest:
    """What a caller wants signed. ``message`` is signed as it is; for a JWS it is the signing input (RFC 7515, 5.1)."""

    message: bytes
    request_id: str
    deadline: float
    """Point on :func:`anyio.current_time`'s clock by which the answer must be there, in seconds."""
    key: str | None = None
    participants: tuple[int, ...] | None = None
    signer_urls: tuple[str, ...] | None = None
    traceparent: str | None = None
    idempotency_key: str | None = None
    replay_seconds: float | None = None
    """How long its answer is kept for the idempotency key, where that is shorter than configured."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One message of a batch, with what may differ from item to item."""

    message: bytes
    key: str | None = None
    participants: tuple[int, ...] | None = None
    signer_urls: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """One Ed25519 signature (RFC 8032), verified and recorded before this object exists."""

    signature: bytes
    group_public: bytes
    participants: Quorum
    key: str
    request_id: str
    replayed: bool = False
    """Whether it was made for an earlier request with the same idempotency key."""


@dataclass(frozen=True, slots=True)
class JwsSigningInput:
    """A message that parses as JWS signing input: decoded header, payload bytes, and claims where it is a JWT."""

    header: dict[str, object]
    payload: bytes
    claims: dict[str, object] | None


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    """What a policy decides on. ``jws`` is None where the message is not a JWS signing input."""

    caller: Caller
    key: str
    message: bytes
    jws: JwsSigningInput | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's answer. ``reason`` is shown to the caller and recorded; it is required for a refusal."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A signer as a selector sees it. ``latency`` is the smoothed call time in seconds, None before the first call."""

    identifier: int
    zone: str
    healthy: bool
    latency: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The question to a selector: order at most ``limit`` quorums of exactly ``size`` of the ``candidates``."""

    candidates: tuple[Candidate, ...]
    size: int
    limit: int
    request_id: str


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP exchange with a signer, ready to send: the transport adds nothing and hides nothing."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    max_answer_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A signer's answer, whole and within the cap of its :class:`Call`."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a peer presented: the bearer token, and the names in its verified certificate."""

    token: str | None = field(repr=False)
    certificate_names: tuple[str, ...] = ()
    """Subject alternative names as ``DNS:…`` and ``URI:…``; the common name is not an identity."""


class TokenClaims(msgspec.Struct, frozen=True, omit_defaults=True):
    """Claims of the bearer token of one signer call (RFC 7519 names; times in seconds since the epoch).

    ``body_sha256`` is base64url, unpadded, of SHA-256 over the request body: a stolen token signs nothing else.
    """

    iss: str
    sub: str
    aud: str
    iat: int
    nbf: int
    exp: int
    jti: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What an idempotency store knows of a key after :meth:`~frost_sidecar.hookspecs.IdempotencyStore.claim`.

    ``mine``: the key was free and is now held for the one who asked. Otherwise ``fingerprint`` is that of the request
    which holds or held it, and ``answer`` what was stored for it, None while that request is still under way.
    """

    mine: bool
    fingerprint: bytes = b""
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What an authenticator proved: the subject and the verified claims, which the host checks against the call."""

    subject: str
    method: str
    claims: dict[str, object]


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One finished request, as audit sinks store it. Carries digests, never the message, the signature or a secret."""

    time: str
    """RFC 3339, UTC, microseconds."""
    request_id: str
    outcome: Outcome
    caller: str
    key: str
    message_sha256: str
    participants: tuple[int, ...] = ()
    sessions: tuple[AuditSession, ...] = ()
    signature_sha256: str | None = None
    reason: str | None = None
    traceparent: str | None = None
    caller_name: str | None = None
    """The caller's name in the configuration."""
    refusal: str | None = None
    """Why it was denied, as one word (:data:`frost_sidecar.errors.Refusal`); ``reason`` says it in a sentence."""


class AuditSession(msgspec.Struct, frozen=True, kw_only=True):
    """One FROST session of the request: whom it asked, the exact package they were sent, and how it ended."""

    session: str
    participants: tuple[int, ...]
    package_sha256: str | None = None
    """SHA-256 of the signing package in the crate's serialisation; None when round 1 already failed."""
    faults: tuple[str, ...] = ()
