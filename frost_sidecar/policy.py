"""What may be signed: every configured policy must allow the message, for this caller and key."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from frost_sidecar.encoding import decode_base64url, decode_json
from frost_sidecar.errors import Denied, PolicyUnavailable
from frost_sidecar.hookspecs import Policy
from frost_sidecar.logs import get_logger
from frost_sidecar.model import JwsSigningInput, PolicyRequest

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
                with anyio.fail_after(self._seconds):
                    decision = await policy.decide(request)
                allowed, reason = decision.allowed, decision.reason
            except Exception as error:
                log.exception("policy plugin failed", plugin=name, request_id=request.request_id)
                raise PolicyUnavailable(f"plugin {name} gave no answer, and no answer is a refusal") from error
            if allowed is not True:
                raise Denied(f"{name}: {reason or 'not allowed'}")


def parse_jws(message: bytes) -> JwsSigningInput | None:
    """``message`` as JWS signing input (RFC 7515, section 5.1), or None where it is something else."""
    protected, dot, rest = message.partition(b".")
    if not dot or b"." in rest:
        return None
    try:
        header = decode_json(decode_base64url(protected), dict[str, object])
        payload = decode_base64url(rest)
    except ValueError:
        return None
    try:
        claims = decode_json(payload, dict[str, object])
    except ValueError:
        claims = None
    return JwsSigningInput(header, payload, claims)
