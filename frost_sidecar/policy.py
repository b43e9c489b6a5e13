"""What may be signed: every configured policy must allow the message, for this caller and key."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from frost_sidecar.containment import contained
from frost_sidecar.encoding import decode_base64url, decode_json
from frost_sidecar.errors import Denied, FrostSidecarError, MalformedRequest, PolicyUnavailable
from frost_sidecar.hookspecs import Policy
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Decision, JwsSigningInput, PolicyRequest

log = get_logger("frost_sidecar.policy")

_URLSAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BEFORE_AN_OBJECT = b" \t\r\n\x00\xef\xbb\xbf\xfe\xff"
"""White space, byte order marks, and the zero bytes of wider encodings."""


class Policies:
    """Asks all policies, in configuration order. No policy configured means no restriction beyond the channel's."""

    def __init__(self, policies: Sequence[tuple[str, Policy]], seconds: float) -> None:
        self._policies = policies
        self._seconds = seconds

    async def check(self, request: PolicyRequest) -> None:
        """Return when all allow.

        Raises:
            Denied: a policy refuses; with its reason.
            PolicyUnavailable: a policy failed, was late, or answered something else. No answer is a refusal.
        """
        for name, policy in self._policies:
            try:
                decision: object = await contained(name, self._seconds, policy.decide, request)
            except FrostSidecarError as error:
                raise PolicyUnavailable(f"plugin {name} gave no answer, and no answer is a refusal") from error
            if not isinstance(decision, Decision):
                log.error("policy plugin gave no decision", plugin=name, request_id=request.request_id)
                raise PolicyUnavailable(f"plugin {name} gave no decision, and no decision is a refusal")
            if decision.allowed is not True:
                raise Denied(f"{name}: {decision.reason or 'not allowed'}")


def parse_jws(message: bytes) -> JwsSigningInput | None:
    """``message`` as JWS signing input (RFC 7515, section 5.1), or None where nobody can take it for one.

    Raises:
        MalformedRequest: a lenient reader would see a JWS or JWT in it, and perhaps another one than a strict reader:
            a repeated member, bits or characters too many in the base64url, a payload that is not base64url at all
            (``b64`` in the header, RFC 7797). No policy could speak for all readers.
    """
    protected, dot, rest = message.partition(b".")
    if not dot:
        return None
    header = _object(protected, "header")
    if header is None:
        return None
    if header.get("b64", True) is not True:
        raise MalformedRequest("the message is a JWS with an unencoded payload (b64, RFC 7797), which is not signed")
    if b"." in rest:
        return None
    claims = _object(rest, "payload")
    try:
        payload = decode_base64url(rest)
    except ValueError as error:
        raise MalformedRequest(f"the message has a JWS header, and its payload is not base64url: {error}") from None
    return JwsSigningInput(header, payload, claims)


def _object(part: bytes, name: str) -> dict[str, object] | None:
    """The JSON object in a part, None where nobody can find one.

    Readers differ in what they forgive: bits and characters in the base64url, members that stand twice, bytes that are
    no UTF-8, numbers and depths beyond their bounds, text behind the end. What begins as an object and is none by the
    strictest reading is refused, whoever might read it.
    """
    try:
        return decode_json(decode_base64url(part), dict[str, object])
    except ValueError as error:
        if _leniently_decoded(part).lstrip(_BEFORE_AN_OBJECT).startswith(b"{"):
            raise MalformedRequest(f"the message looks like a JWS, and its {name} has two readings: {error}") from None
        return None


def _leniently_decoded(part: bytes) -> bytes:
    """What the most forgiving reader finds behind the base64 of a part."""
    standard = part.translate(_URLSAFE_TO_STANDARD, delete=b"=")
    alone = len(standard) % 4 == 1
    try:
        return base64.b64decode(standard[: -1 if alone else None] + b"=" * (-(len(standard) - alone) % 4))
    except ValueError:
        return b""
