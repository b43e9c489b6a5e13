"""The HTTP contract of the sidecar: bodies, answers, headers and statuses, as server and clients both know them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from frost_sidecar import errors
from frost_sidecar.config import MAX_BATCH, Identifier
from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import MAX_MESSAGE_BYTES, BreakerState, KeyName
from frost_sidecar.problem import LONGEST_DETAIL, TYPE_BASE, Problem

SIGN_PATH: Final = "/sign"
BATCH_PATH: Final = "/sign/batch"
KEYS_PATH: Final = "/keys"
JWKS_PATH: Final = "/.well-known/jwks.json"
READY_PATH: Final = "/readyz"
HEALTH_PATH: Final = "/healthz"
METRICS_PATH: Final = "/metrics"
OPENAPI_PATH: Final = "/openapi.json"

PROGRAM_HEADER: Final = "X-Frost-Sidecar"
PROGRAM_VALUE: Final = "1"
"""Required on the Unix socket of requests that sign: a program that means to ask adds it; a browser that was led here,
or a server that fetches what somebody else tells it to, does not."""
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
REPLAY_SECONDS_HEADER: Final = "Idempotency-Replay-Seconds"
"""How long the caller may still ask with this key; shortens ``idempotency.replay_seconds``, never prolongs it."""
REPLAYED_HEADER: Final = "Idempotency-Replayed"
"""``true`` on an answer that was made for an earlier request with the same idempotency key."""

STATUSES: Mapping[type[FrostSidecarError], HTTPStatus] = {
    errors.MalformedRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Denied: HTTPStatus.FORBIDDEN,
    errors.IdempotencyConflict: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ParticipantsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownKey: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.FrostSidecarError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The HTTP status of each error class, or of its nearest base."""

_BASE64 = "|".join(
    f"(?:[A-Za-z0-9{more}]{{4}})*"
    f"(?:[A-Za-z0-9{more}]{{4}}|[A-Za-z0-9{more}]{{2}}[AEIMQUYcgkosw048]=?|[A-Za-z0-9{more}][AQgw](?:==)?)"
    for more in ("+/", "_-")
)
Message = Annotated[
    str,
    Meta(
        description="The bytes to sign; for a JWS its signing input. Standard or URL-safe base64, padded or not, "
        "trailing bits zero.",
        extra_json_schema={
            "pattern": f"^(?:{_BASE64})$",
            "contentEncoding": "base64",
            "maxLength": 4 * (MAX_MESSAGE_BYTES + 2) // 3,
        },
    ),
]
"""Base64 of a message. The pattern is for readers of the schema; :func:`~frost_sidecar.encoding.b64decode` decides."""
Identifiers = Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=255)]
Urls = Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(min_length=1, max_length=255)]


_Number = Annotated[Identifier | Annotated[float, Meta(ge=1, le=65535)], Meta(extra_json_schema={"type": "integer"})]


class SignBody(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of ``POST /sign``. ``participants`` and ``signer_urls`` narrow the choice of signers."""

    msg_b64: Message
    participants: Annotated[tuple[_Number, ...], Meta(min_length=1, max_length=255)] | None = None
    """JSON does not tell 1 from 1.0, so neither do we; see :meth:`identifiers`."""
    signer_urls: Urls | None = None
    key: KeyName | None = None

    def identifiers(self) -> tuple[int, ...] | None:
        """``participants`` as whole numbers; raises :class:`~frost_sidecar.errors.MalformedRequest`."""
        if self.participants is None:
            return None
        if any(int(each) != each for each in self.participants):
            raise errors.MalformedRequest("participants: an identifier is a whole number")
        return tuple(int(each) for each in self.participants)


BatchBody = Annotated[tuple[SignBody, ...], Meta(min_length=1, max_length=MAX_BATCH)]
"""Body of ``POST /sign/batch``: a list of what ``POST /sign`` takes."""


class SignAnswer(Struct, frozen=True):
    """Answer of ``POST /sign``: standard base64, padded."""

    signature_b64: str
    group_public_b64: str
    participants: tuple[int, ...]
    key: str
    request_id: str


class SignedItem(SignAnswer, frozen=True):
    """An item of a batch that was signed. An item that was not is a problem document with its ``outcome``."""

    outcome: Literal["signed"] = "signed"
    replayed: bool = False
    """Whether it was made for an earlier request with the same idempotency key."""


class KeyAnswer(Struct, frozen=True):
    """One key: its public half, its ``kid`` (RFC 7638), and t of n."""

    group_public_b64: str
    kid: str
    min_signers: int
    max_signers: int


class KeysAnswer(Struct, frozen=True):
    """Answer of ``GET /keys``: the keys by name, and the one that signs where a request names none."""

    default_key: str
    keys: dict[str, KeyAnswer]


class SignerReadiness(Struct, frozen=True):
    """One signer, as asked a moment ago."""

    identifier: int
    name: str
    zone: str
    state: BreakerState
    reachable: bool
    keys: tuple[str, ...]
    """Keys that it says it has the right share of; empty when it was not reachable."""
    commitments_in_stock: int
    detail: str | None = None
    """Why it is not reachable, or what is wrong with what it says."""


class KeyReadiness(Struct, frozen=True):
    """Whether a key can sign now."""

    min_signers: int
    usable: tuple[int, ...]
    """Identifiers of the signers that could sign now."""
    zones: dict[str, int]
    """Usable signers by zone."""
    quorum: bool | None
    """Whether enough of them are usable; None where only callers know the signers' addresses."""
    survives_zone_loss: bool
    """Whether a quorum would be left after the loss of any one zone."""


class SinkReadiness(Struct, frozen=True):
    """One audit sink."""

    required: bool
    writable: bool
    backlog: int
    """Records waiting for it."""
    detail: str | None = None


class CertificateReadiness(Struct, frozen=True):
    """A certificate of the process's own."""

    expires: str
    """RFC 3339, UTC."""
    seconds_left: int


class Readiness(Struct, frozen=True):
    """Answer of ``GET /readyz``: whether a request could be signed now, and why not."""

    ready: bool
    reasons: tuple[str, ...]
    """What is wrong, one line each; not everything that is wrong makes the sidecar unready."""
    keys: dict[str, KeyReadiness]
    signers: tuple[SignerReadiness, ...]
    audit: dict[str, SinkReadiness]
    certificates: dict[str, CertificateReadiness]


def find_public(keys: KeysAnswer, key: str | None) -> bytes:
    """The public key of a key's name, None for the default key; raises :class:`~frost_sidecar.errors.UnknownKey`."""
    found = keys.keys.get(keys.default_key if key is None else key)
    if found is None:
        raise errors.UnknownKey(f"there is no key {key!r}; configured: {', '.join(sorted(keys.keys))}")
    return b64decode(found.group_public_b64)


def status_of(error: FrostSidecarError | type[FrostSidecarError]) -> HTTPStatus:
    """The HTTP status of an error, or of its class."""
    kind = error if isinstance(error, type) else type(error)
    return next(STATUSES[base] for base in kind.__mro__ if base in STATUSES)


def problem_of(error: FrostSidecarError, request_id: str) -> Problem:
    """An error as a problem document."""
    status = status_of(error)
    outcome = "denied" if isinstance(error, errors.Denied) else "failed"
    return Problem(TYPE_BASE + error.slug, status.phrase, status, str(error), request_id, outcome, error.reason)


def error_of(problem: Problem, retry_after: float | None = None) -> FrostSidecarError:
    """The error that a problem document stands for: of the same class as in process, with the same words.

    The words are shortened to what a sidecar sends at most, and what cannot be printed is replaced: they go into logs.
    A type that this version does not know becomes :class:`~frost_sidecar.errors.UnexpectedAnswer`.
    """
    kind = _BY_SLUG.get(problem.type.removeprefix(TYPE_BASE))
    if kind is None:
        return errors.UnexpectedAnswer(printable(f"{problem.status} {problem.type}: {problem.detail}"))
    detail = printable(problem.detail)
    error = kind(detail)
    if isinstance(error, errors.Unavailable) and retry_after is not None:
        error.retry_after = retry_after
    error.reason = errors.as_refusal(problem.reason)
    return error


def printable(text: str, longest: int = LONGEST_DETAIL) -> str:
    """What a peer said, for an error: ``longest`` characters at most, and U+FFFD for those that cannot be printed."""
    kept = "".join(each if each.isprintable() else "\ufffd" for each in text[: longest + 1])
    return kept if len(kept) <= longest else kept[:longest] + "…"


def _subclasses(kind: type[FrostSidecarError]) -> list[type[FrostSidecarError]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _subclasses(sub))]


_AS_RAISED: tuple[type[FrostSidecarError], ...] = (
    *(errors.InternalError, errors.MalformedRequest, errors.TooLarge, errors.ParticipantsError, errors.UnknownKey),
    *(errors.IdempotencyConflict, errors.Unauthenticated, errors.Denied, errors.DeadlineExceeded),
    *_subclasses(errors.Unavailable),
)
"""What a caller can get; each with a slug of its own."""
_BY_SLUG: Mapping[str, type[FrostSidecarError]] = {kind.slug: kind for kind in _AS_RAISED}
