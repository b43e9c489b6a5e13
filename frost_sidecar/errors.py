"""Every error that leaves frost-sidecar, in process and, as an RFC 9457 problem, on the socket.

A caller catches :class:`FrostSidecarError` and has them all. ``slug`` is the last part of the problem's ``type`` and
never changes once released; which HTTP status goes with which class is one table in :mod:`frost_sidecar.routes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

FaultKind = Literal[
    "unreachable",  # no connection, or the connection broke
    "timeout",  # connected or not, no whole answer inside the deadline
    "tls",  # the channel's identity or encryption was refused by either side
    "refused",  # the signer answered with an error of its own
    "malformed",  # the answer does not follow the signer protocol
    "identity",  # the answer speaks for another signer than the one asked
    "stale-epoch",  # the signer restarted: its commitments are burnt, and that is not its fault
    "unknown-commitment",  # expired or evicted at the signer: burnt, and not its fault
    "bad-share",  # a signature share that does not verify: proof of misbehaviour
    "denied",  # the signer's own policy refuses the message: the request's fault, not the signer's
    "internal",  # the transport or token plugin itself failed
]

Refusal = Literal[
    "token-missing",
    "token-malformed",  # no compact JWT, or one with two readings
    "token-unknown",  # no authenticator takes it for one of its kind
    "token-algorithm",
    "token-header",  # crit, or a key of its own: jwk, jku, x5u, x5c
    "token-key",  # no key of that kid, or one of the wrong type or use
    "token-signature",
    "token-expired",
    "token-not-yet-valid",  # nbf or iat in the future
    "token-lifetime",
    "token-issuer",
    "token-audience",
    "token-subject",
    "token-claims",  # a claim is missing or of the wrong type
    "token-body",  # made for another body
    "token-replayed",
    "token-unchecked",  # its authenticator or the keys were not to be had
    "certificate-missing",
    "certificate-untrusted",  # of another authority, or not for this use
    "certificate-expired",
    "certificate-revoked",
    "certificate-name",
    "certificate-trust-domain",
    "handshake",  # no TLS as wanted here
    "peer-unknown",  # the kernel does not say, or no longer says, who is at the socket's other end
    "header-missing",
    "forwarded",  # a browser or a proxy speaks for somebody else
    "caller-unknown",
    "grant-missing",
    "rate",
    "concurrency",
    "not-a-jws",
    "jws-algorithm",
    "jws-key",
    "jws-type",
    "jws-critical",
    "jws-header",
    "jws-issuer",
    "jws-audience",
    "jws-subject",
    "jws-lifetime",
    "jws-claims",
    "policy",  # a policy plugin
    "signer-policy",  # the signers' own rules
]
"""Why somebody or something was refused: the ``reason`` in problem documents, metrics and the audit log."""

_REFUSALS: Mapping[str, Refusal] = {each: each for each in get_args(Refusal)}

_LONGEST_DETAIL = 240
"""Characters of what a signer or a transport said that are kept; it goes into logs, answers and the audit log."""


class FrostSidecarError(Exception):
    """Base of all errors raised by frost-sidecar on purpose."""

    slug: ClassVar[str] = "internal"
    reason: Refusal | None = None
    """Of a refusal: which one."""


class ConfigError(FrostSidecarError):
    """The configuration cannot be used; raised at start, never at the first request.

    ``path`` is the place in the TOML file (``signers[0].url``) or the environment variable, where one is known.
    """

    slug = "configuration"

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class PluginError(FrostSidecarError):
    """A plugin is missing, offered twice, of the wrong shape, or failed. The plugin's name leads the message."""

    slug = "plugin"

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"plugin {plugin}: {message}")
        self.plugin = plugin


class InternalError(FrostSidecarError):
    """A defect of ours or of a plugin. The cause is in the log under the request id, not in the answer."""

    slug = "internal"


class RequestError(FrostSidecarError):
    """Base of errors that the caller can mend by asking for something else."""

    slug = "malformed-request"


class MalformedRequest(RequestError):
    """The request cannot be understood: bad JSON, a wrong type, an unknown field, invalid base64."""

    slug = "malformed-request"


class TooLarge(RequestError):
    """The body or the message is larger than the configured cap."""

    slug = "too-large"


class ParticipantsError(RequestError):
    """``participants`` or ``signer_urls`` leave no quorum, repeat themselves, or name someone not configured."""

    slug = "participants"


class UnknownKey(RequestError):
    """``key`` names no configured key."""

    slug = "unknown-key"


class IdempotencyConflict(RequestError):
    """The idempotency key was used for another request a short while ago. Use a fresh key for each request."""

    slug = "idempotency-conflict"


class StaleEpoch(RequestError):
    """The commitments are of another life of the signer: burnt. The coordinator fetches new ones."""

    slug = "stale-epoch"


class Unauthenticated(FrostSidecarError):
    """The credentials are missing or were refused, for ``reason``."""

    slug = "unauthenticated"

    def __init__(self, message: str, *, reason: Refusal = "token-unchecked") -> None:
        super().__init__(message)
        self.reason = reason


class Denied(FrostSidecarError):
    """The caller may not have this signed, or may not call at all, for ``reason``."""

    slug = "denied"

    def __init__(self, message: str, *, reason: Refusal = "policy") -> None:
        super().__init__(message)
        self.reason = reason


class Unavailable(FrostSidecarError):
    """Base of errors that may pass by themselves. ``retry_after`` is a hint in seconds."""

    slug = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NoQuorum(Unavailable):
    """No set of enough signers produced a valid signature. The message names every signer that failed, and how."""

    slug = "no-quorum"


class AuditUnavailable(Unavailable):
    """A required audit sink did not confirm the record, so the signature was not released."""

    slug = "audit-unavailable"


class PolicyUnavailable(Unavailable):
    """A policy gave no clear answer; an unknown answer is a refusal."""

    slug = "policy-unavailable"


class Overloaded(Unavailable):
    """As many requests as configured are already under way."""

    slug = "overloaded"


class TooManyRequests(Unavailable):
    """This caller asks more often than its grant allows, or has as many requests under way as it may have."""

    slug = "too-many-requests"

    def __init__(self, message: str, *, retry_after: float = 1.0, reason: Refusal = "concurrency") -> None:
        super().__init__(message, retry_after=retry_after)
        self.reason = reason


class IdempotencyUnavailable(Unavailable):
    """The shared idempotency store gave no answer, so nobody can say whether this request was signed before."""

    slug = "idempotency-unavailable"


class SidecarUnreachable(Unavailable):
    """Raised by the clients: there is no connection to the sidecar, or it broke before the answer was whole."""

    slug = "sidecar-unreachable"


class TooManyClients(Unavailable):
    """A signer holds commitments for as many clients as configured already."""

    slug = "too-many-clients"


class ShuttingDown(Unavailable):
    """The process is ending; nothing was released for this request. Ask another replica, or again in a moment."""

    slug = "shutting-down"


class DeadlineExceeded(FrostSidecarError):
    """The request's time budget ran out before a signature was verified and recorded."""

    slug = "deadline-exceeded"


class UnexpectedAnswer(FrostSidecarError):
    """Raised by the clients: what answered does not speak the sidecar's contract; is it the right address?"""

    slug = "unexpected-answer"


class TransportError(FrostSidecarError):
    """What a :class:`~frost_sidecar.hookspecs.Transport` raises: the bytes did not get there and back."""

    slug = "transport"

    def __init__(self, kind: Literal["unreachable", "timeout", "tls", "malformed"], detail: str) -> None:
        super().__init__(detail)
        self.kind: FaultKind = kind
        self.detail = detail


class SignerError(FrostSidecarError):
    """One call to one signer failed. Ends a session, not the request: the next quorum is tried."""

    slug = "signer"

    def __init__(self, identifier: int, kind: FaultKind, detail: str) -> None:
        printable = "".join(each if each.isprintable() else "\ufffd" for each in detail[: _LONGEST_DETAIL + 1])
        self.detail = printable if len(printable) <= _LONGEST_DETAIL else printable[:_LONGEST_DETAIL] + "…"
        super().__init__(f"signer {identifier}: {kind}: {self.detail}")
        self.identifier = identifier
        self.kind: FaultKind = kind


def as_refusal(text: str | None) -> Refusal | None:
    """A reason that a peer sent, where it is one of ours."""
    return None if text is None else _REFUSALS.get(text)
