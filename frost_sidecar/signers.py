"""What is known of each signer: answering, failing, or caught cheating; and how fast it is."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakSet

from frost_sidecar.config import SigningConfig
from frost_sidecar.errors import FaultKind, SignerError
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import BREAKER_STATES, CoordinatorMetrics
from frost_sidecar.model import BreakerState, Candidate, Signer

log = get_logger("frost_sidecar.signers")

BLAMELESS: frozenset[FaultKind] = frozenset({"stale-epoch", "unknown-commitment", "denied", "internal"})
"""Faults that say nothing against the signer: it restarted, a commitment aged, it refuses this message, or our own
plugin failed."""

_SUSPICIOUS: frozenset[FaultKind] = frozenset({"stale-epoch", "unknown-commitment"})
_FORGIVEN = 3
"""Suspicious faults without a good share in between that count as one failure: nobody restarts that often."""

_SMOOTHING = 0.2
"""Weight of the newest call in the smoothed latency."""
_LONGEST_COOL_DOWN = 30.0
"""Longest cool-down, as a multiple of the first."""


_STALE_SECONDS = 30.0
"""A latency older than this counts as unknown, so that a signer that was slow once gets another chance."""


_OVERDUE = 4.0
_OVERDUE_SECONDS = 0.1
"""A signer is asked last while a call to it takes so many times its latency already, and at least so long."""

_PROBE_SECONDS = 0.1
"""After a cool-down one request at a time finds a signer healthy, so that what still hangs there holds up only that."""


@dataclass(slots=True)
class _Health:
    latency: float | None = None
    measured: float = -math.inf
    connected: bool = False
    failures: int = 0
    excuses: int = 0
    cooling_until: float = 0.0
    probed: float = -math.inf
    calls: dict[object, float] = field(default_factory=dict)
    """When the calls under way began, in their order."""
    quarantined_until: float = 0.0


class Signers:
    """Health of the configured signers. Silence is not malice: it cools a signer down; a wrong share quarantines it."""

    def __init__(
        self,
        nodes: Iterable[Signer],
        config: SigningConfig,
        metrics: CoordinatorMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = {node.identifier: node for node in nodes}
        self._health = {identifier: _Health() for identifier in self._nodes}
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._noted: WeakSet[SignerError] = WeakSet()

    def __getitem__(self, identifier: int) -> Signer:
        """The signer with this identifier."""
        return self._nodes[identifier]

    def is_own(self, asked: Signer) -> bool:
        """Whether a signer was addressed as configured; one that is not listed, whether it proves which one it is.

        What a caller's own addresses lead to says nothing of the signers that everybody uses.
        """
        listed = self._nodes[asked.identifier].url
        return asked.proved and (not listed or asked.url == listed)

    @contextmanager
    def calling(self, asked: Signer) -> Iterator[None]:
        """Around a call for a signature: one that takes far too long speaks against the signer before its deadline."""
        calls = self._health[asked.identifier].calls if self.is_own(asked) else {}
        token = object()
        calls[token] = self._clock()
        try:
            yield
        finally:
            del calls[token]

    def measured(self, asked: Signer, seconds: float) -> None:
        """Take note of how long a call took that was answered."""
        if not self.is_own(asked):
            return
        health = self._health[asked.identifier]
        if not health.connected:
            health.connected = True  # the first call paid for the connection; it says little of the signer
            return
        before = health.latency
        health.latency = seconds if before is None else before + _SMOOTHING * (seconds - before)
        health.measured = self._clock()

    def answered(self, asked: Signer) -> None:
        """Take note of a good share: it ends a cool-down. An answer to round 1 alone proves too little for that."""
        if not self.is_own(asked):
            return
        health = self._health[asked.identifier]
        health.failures = health.excuses = 0
        health.cooling_until = 0.0

    def failed(self, fault: SignerError, asked: Signer) -> None:
        """Take note of a fault: cool the signer down, quarantine it, or neither, by its kind.

        ``asked`` is the signer as it was addressed: at an address of the caller's own only a wrong share counts, and
        only of a signer whose certificate proves which one it is.
        """
        signer, health = self._nodes[fault.identifier], self._health[fault.identifier]
        if fault in self._noted:
            return  # one answer, or its absence, failed many sessions
        self._noted.add(fault)
        self._metrics.faults.labels(signer.name, fault.kind).inc()
        if fault.kind == "bad-share" and asked.proved:
            seconds = self._config.quarantine_seconds
            health.quarantined_until = self._clock() + seconds
            log.error("signer quarantined", signer=signer.name, fault=fault.detail, seconds=seconds)
            return
        if not self.is_own(asked):
            return
        health.excuses += fault.kind in _SUSPICIOUS
        if fault.kind in BLAMELESS and (fault.kind not in _SUSPICIOUS or health.excuses < _FORGIVEN):
            return
        health.excuses = 0
        self._cool_down(fault)

    def outvoted(self, fault: SignerError, asked: Signer) -> None:
        """Take note of a signer that denied what others signed then: it is asked last for a while.

        Its rules are stricter than the others', or it denies whatever it is asked. Neither is proof of anything, and
        it keeps its vote; but each request would pay a session for it.
        """
        if self.is_own(asked):
            log.warning("signers disagree", signer=self._nodes[fault.identifier].name, fault=fault.detail)
            self._cool_down(fault)

    def _cool_down(self, fault: SignerError) -> None:
        signer, health = self._nodes[fault.identifier], self._health[fault.identifier]
        if health.cooling_until > self._clock():
            return  # many calls may fail of one cause: that is one failure
        health.failures += 1
        health.connected = False
        health.latency = None
        doublings = min(health.failures - 1, 10)  # a float overflows after a thousand
        factor = min(2.0**doublings, _LONGEST_COOL_DOWN)
        pause = self._config.cool_down_seconds * factor * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        health.cooling_until = self._clock() + pause
        log.warning("signer failed", signer=signer.name, kind=fault.kind, fault=fault.detail, cool_down_seconds=pause)

    def candidates(self, among: Iterable[int]) -> tuple[Candidate, ...]:
        """Those of ``among`` that are not quarantined, with what a selector may know of them."""
        now = self._clock()
        found = []
        for identifier in sorted(among):
            health = self._health[identifier]
            if health.quarantined_until <= now:
                latency = health.latency if now - health.measured < _STALE_SECONDS else None
                zone = self._nodes[identifier].zone
                found.append(Candidate(identifier, zone, self._is_healthy(health, now), latency))
        return tuple(found)

    def _is_healthy(self, health: _Health, now: float) -> bool:
        """Whether a signer is asked as one of the first. After a cool-down only one request in a while may try."""
        if health.cooling_until > now or (health.calls and self._is_overdue(health, now)):
            return False
        if health.failures:
            if now - health.probed < _PROBE_SECONDS:
                return False
            health.probed = now
        return True

    def _is_overdue(self, health: _Health, now: float) -> bool:
        oldest = next(iter(health.calls.values()))
        return now - oldest > max(_OVERDUE_SECONDS, _OVERDUE * (health.latency or 0.0))

    def state(self, identifier: int) -> BreakerState:
        """The state that the signer is in now."""
        now, health = self._clock(), self._health[identifier]
        quarantined, cooling = health.quarantined_until > now, health.cooling_until > now
        return "quarantined" if quarantined else "cooling" if cooling else "healthy"

    def publish(self) -> None:
        """Bring the state gauges up to date; states end by the clock, not by an event."""
        for identifier in self._health:
            state = self.state(identifier)
            for each in BREAKER_STATES:
                self._metrics.signer_state.labels(self._nodes[identifier].name, each).set(each == state)
