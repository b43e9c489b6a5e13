"""One request's use of an idempotency key."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from frost_sidecar.errors import DeadlineExceeded, IdempotencyConflict, IdempotencyUnavailable
from frost_sidecar.idempotency.fingerprint import FINGERPRINT_BYTES
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Claim

log = get_logger("frost_sidecar.idempotency")


@dataclass(slots=True)
class Use:
    """Which key, for what, until when on :func:`anyio.current_time`'s clock; and what came of it."""

    scope: str
    fingerprint: bytes
    deadline: float
    request_id: str
    replay_seconds: float | None = None
    """How long the caller may still ask, where it says so."""
    result: str = "failed"
    """Label of the metric."""

    def left(self) -> float:
        """Seconds until the request's deadline; raises :class:`DeadlineExceeded` where there are none."""
        left = self.deadline - anyio.current_time()
        if left <= 0:
            raise DeadlineExceeded("the time budget ran out while a request with this idempotency key was under way")
        return left

    def kept(self, configured: float) -> float:
        """Seconds for which the answer is kept: as configured, or as long as the caller may still ask."""
        return configured if self.replay_seconds is None else min(configured, self.replay_seconds)

    def check(self, fingerprint: bytes) -> None:
        """Return where ``fingerprint`` is this request's; raises :class:`IdempotencyConflict`."""
        if fingerprint != self.fingerprint:
            self.result = "conflict"
            raise IdempotencyConflict(
                "this idempotency key was used for another request a short while ago; use a fresh key for each request"
            )

    def check_claim(self, claim: Claim) -> None:
        """Return where a key in the store is held or answered for this request.

        Raises:
            IdempotencyConflict: it is another request's.
            IdempotencyUnavailable: it is none of ours.
        """
        if len(claim.fingerprint) != FINGERPRINT_BYTES:
            log.error("idempotency store: not an entry of ours", scope=self.scope, request_id=self.request_id)
            raise self.untrusted()
        self.check(claim.fingerprint)

    def untrusted(self) -> IdempotencyUnavailable:
        """The error for what the store holds under the key and nobody may rely on."""
        self.result = "corrupt"
        return IdempotencyUnavailable(
            "what the idempotency store holds for this key cannot be trusted, and nothing was released; use a fresh "
            "key, and have the store looked into"
        )
