"""What may be signed: every configured policy must allow the message, for this caller and key."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from frost_sidecar.containment import contained
from frost_sidecar.encoding import decode_base64url, decode_json
from frost_sidecar.errors import Denied, FrostSidecarError, MalformedRequest, PolicyUnavailable
from frost_sidecar.hookspecs import Policy
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Decision, JwsSigningInput, PolicyRequest

log = get_logger("frost_sidecar.policy")


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
    if (_leniently(protected) or {}).get("b64", True) is not True:
        raise MalformedRequest("the message is a JWS with an unencoded payload (b64, RFC 7797), which is not signed")
    if b"." in rest:
        return None
    header = _object(protected, "header")
    if header is None:
        return None
    claims = _object(rest, "payload")
    try:
        payload = decode_base64url(rest)
    except ValueError as error:
        raise MalformedRequest(f"the message has a JWS header, and its payload is not base64url: {error}") from None
    return JwsSigningInput(header, payload, claims)


def _object(part: bytes, name: str) -> dict[str, object] | None:
    """The JSON object in a part, None where even a lenient reader finds none."""
    try:
        return decode_json(decode_base64url(part), dict[str, object])
    except ValueError as error:
        if _leniently(part) is not None:
            raise MalformedRequest(f"the message looks like a JWS, and its {name} has two readings: {error}") from None
        return None


def _leniently(part: bytes) -> dict[str, object] | None:
    """The JSON object that the most forgiving reader finds in a part."""
    try:
        value = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
