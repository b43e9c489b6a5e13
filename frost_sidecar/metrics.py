"""Every metric, named and described once. The only module that knows prometheus_client.

Each process (or embedding program) brings its own registry; nothing is registered globally. docs/metrics.md and
deploy/dashboard.json speak of exactly these names, and a test holds the three together.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import BreakerState

__all__ = [
    "BREAKER_STATES",
    "LATENCY_BOUNDS",
    "CollectorRegistry",
    "CommitmentEvents",
    "CoordinatorMetrics",
    "SignerMetrics",
    "Timing",
    "Timings",
    "new_registry",
    "render",
]

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
"""Upper bounds of all latency histograms, in seconds."""

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

BREAKER_STATES: tuple[BreakerState, ...] = ("healthy", "cooling", "quarantined")


def new_registry() -> CollectorRegistry:
    """A registry of one's own."""
    return CollectorRegistry(auto_describe=True)


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics and their content type: Prometheus text, or OpenMetrics where ``accept`` prefers it."""
    try:
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
    except (ValueError, TypeError):  # it takes versions for numbers; one that is none is no reason to give no metrics
        encode, content_type = choose_encoder("")
        return encode(registry), content_type


class Timing:
    """One histogram of seconds. What every signature pays for several times over, at a fifth of the library's price.

    Written by one thread, the event loop's; a scrape from another may see one observation half counted.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def time(self) -> _Stopwatch:
        """Around a block: counts how long it took, whatever its end."""
        return _Stopwatch(self)

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative counts by upper bound, and the sum, as Prometheus wants them."""
        total, cumulative = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            cumulative.append((str(bound) if bound != float("inf") else "+Inf", float(total)))
        return cumulative, self._sum


class _Stopwatch:
    __slots__ = ("_started", "_timing")

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timing.observe(time.perf_counter() - self._started)


class Timings(Collector):
    """A family of :class:`Timing`, one for each value of a label; all values are there from the start."""

    def __init__(
        self, name: str, documentation: str, label: str, values: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.label = label
        self._documentation = documentation
        self._timings = {value: Timing(LATENCY_BOUNDS) for value in values}
        registry.register(self)

    def __getitem__(self, value: str) -> Timing:
        """The histogram of one value of the label."""
        return self._timings[value]

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The family without its samples; the registry asks for names already taken."""
        return [HistogramMetricFamily(self.name, self._documentation, labels=[self.label])]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The family with its samples."""
        family = HistogramMetricFamily(self.name, self._documentation, labels=[self.label])
        for value, timing in self._timings.items():
            buckets, total = timing.buckets()
            family.add_metric([value], buckets, total)
        yield family


@dataclass(frozen=True, slots=True)
class CommitmentEvents:
    """What becomes of one signer's commitments: ``fetched`` = in stock + ``leased`` + ``expired`` + ``wasted``."""

    fetched: Counter
    """Arrived, and could be used."""
    leased: Counter
    burnt: Counter
    """Leased, but no signature came of it."""
    expired: Counter
    """Grew too old in stock."""
    wasted: Counter
    """Gone from stock, or never in it: the signer's epoch ended, it evicted them, they were too many, or we ended."""


class CoordinatorMetrics:
    """Metrics of a coordinator."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all metrics; raises :class:`ValueError` where the registry has them already."""
        self.registry = registry
        self.signs = Counter(
            "frost_coordinator_signs", "Signatures aggregated, verified, recorded and released.", registry=registry
        )
        self.requests = Timings(
            "frost_coordinator_request_seconds",
            "Time from a sign request's arrival to its end, by outcome.",
            "outcome",
            ("signed", "denied", "failed"),
            registry,
        )
        self.phases = Timings(
            "frost_coordinator_phase_seconds",
            "Time of each phase of a request: policy, select, commit, shares, aggregate, audit.",
            "phase",
            ("policy", "select", "commit", "shares", "aggregate", "audit"),
            registry,
        )
        self.in_flight = Gauge("frost_coordinator_requests_in_flight", "Sign requests under way.", registry=registry)
        self.sessions = Counter(
            "frost_coordinator_sessions", "FROST sessions, by result: signed or failed.", ["result"], registry=registry
        )
        self.calls = Histogram(
            "frost_coordinator_signer_call_seconds",
            "Time of one call to one signer that was answered, by signer and path.",
            ["signer", "path"],
            buckets=LATENCY_BOUNDS,
            registry=registry,
        )
        self.faults = Counter(
            "frost_coordinator_signer_faults",
            "Failed calls and wrong answers, by signer and kind (frost_sidecar.errors.FaultKind).",
            ["signer", "kind"],
            registry=registry,
        )
        self.signer_state = Gauge(
            "frost_coordinator_signer_state",
            "1 for the state that the signer is in: healthy, cooling or quarantined.",
            ["signer", "state"],
            registry=registry,
        )
        self.commitments = Counter(
            "frost_coordinator_commitments",
            "Commitments, by signer and event: fetched, leased, expired, wasted; and burnt (leased, but no signature "
            "came of it).",
            ["signer", "event"],
            registry=registry,
        )
        self.commitments_in_stock = Gauge(
            "frost_coordinator_commitments_in_stock",
            "Commitments ready to be leased, by signer and key.",
            ["signer", "key"],
            registry=registry,
        )
        self.share_batch_size = Histogram(
            "frost_coordinator_share_batch_size",
            "Sessions in one request to a signer for shares.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.share_queue = Gauge(
            "frost_coordinator_share_queue",
            "Sessions' parts that wait for the requests under way to their signer.",
            registry=registry,
        )
        self.audit_writes = Histogram(
            "frost_coordinator_audit_write_seconds",
            "Time of one write of records to an audit sink, by sink and result: ok or failed.",
            ["sink", "result"],
            buckets=LATENCY_BOUNDS,
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "frost_coordinator_certificate_expiry_timestamp_seconds",
            "End of validity of the process's own certificates and keys, seconds since the epoch, by use.",
            ["use"],
            registry=registry,
        )
        self.ready = Gauge(
            "frost_coordinator_ready", "1 where /readyz last said that a request could be signed.", registry=registry
        )
        self.batch_size = Histogram(
            "frost_coordinator_batch_size",
            "Messages in one request to /sign/batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1024),
            registry=registry,
        )
        self.idempotency = Counter(
            "frost_coordinator_idempotency",
            "Requests with an idempotency key, by result: new, unshared, replayed, joined, conflict, unavailable, "
            "corrupt, overloaded or failed.",
            ["result"],
            registry=registry,
        )
        self.refusals = Counter(
            "frost_coordinator_refusals",
            "Requests, connections and messages refused, by reason (frost_sidecar.errors.Refusal).",
            ["reason"],
            registry=registry,
        )
        self.audit_backlog = Gauge(
            "frost_coordinator_audit_backlog", "Records waiting for an audit sink.", ["sink"], registry=registry
        )

        self.reloads = Counter(
            "frost_coordinator_reloads",
            "Files read again because they changed, by what they are and result: ok or failed.",
            ["what", "result"],
            registry=registry,
        )

    def refused(self, error: FrostSidecarError) -> None:
        """Count a refusal; nothing for an error that is none."""
        if error.reason is not None:
            self.refusals.labels(error.reason).inc()

    def commitment_events(self, signer: str) -> CommitmentEvents:
        """The counters of one signer's commitments, at hand: they are counted for every signature."""
        return CommitmentEvents(*(self.commitments.labels(signer, field.name) for field in fields(CommitmentEvents)))

    def close(self) -> None:
        """Take the metrics out of the registry again, so that a later coordinator can use it."""
        for each in vars(self).values():
            if each is not self.registry:
                self.registry.unregister(each)


class SignerMetrics:
    """Metrics of a signer node."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.shares = Counter(
            "frost_signer_shares",
            "Signature shares asked for, by key and result: ok, or the session error of the signer protocol.",
            ["key", "result"],
            registry=registry,
        )
        self.commitments = Counter(
            "frost_signer_commitments",
            "Commitments, by event: issued, used, expired, evicted.",
            ["event"],
            registry=registry,
        )
        self.outstanding = Gauge(
            "frost_signer_commitments_outstanding", "Commitments whose nonces are in memory.", registry=registry
        )
        self.requests = Histogram(
            "frost_signer_request_seconds",
            "Time of one request, by path and HTTP status.",
            ["path", "status"],
            buckets=LATENCY_BOUNDS,
            registry=registry,
        )
        self.refusals = Counter(
            "frost_signer_refusals",
            "Requests, connections and messages refused, by reason (frost_sidecar.errors.Refusal).",
            ["reason"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "frost_signer_certificate_expiry_timestamp_seconds",
            "End of validity of the process's own certificates and keys, seconds since the epoch, by use.",
            ["use"],
            registry=registry,
        )
        self.reloads = Counter(
            "frost_signer_reloads",
            "Files read again because they changed, by what they are and result: ok or failed.",
            ["what", "result"],
            registry=registry,
        )

    def refused(self, error: FrostSidecarError) -> None:
        """Count a refusal; nothing for an error that is none."""
        if error.reason is not None:
            self.refusals.labels(error.reason).inc()
