"""What may be signed: every configured policy plugin must allow the message, for this caller and key."""

from __future__ import annotations

from collections.abc import Sequence

from frost_sidecar.containment import contained
from frost_sidecar.errors import Denied, FrostSidecarError, PolicyUnavailable
from frost_sidecar.hookspecs import Policy
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Decision, PolicyRequest

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
