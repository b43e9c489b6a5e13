"""Every metric, named and described once. The only module that knows prometheus_client.

Each process (or embedding program) brings its own registry; nothing is registered globally. docs/metrics.md and
deploy/dashboard.json speak of exactly these names, and a test holds the three together.
"""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import BreakerState

__all__ = ["BREAKER_STATES", "CollectorRegistry", "CoordinatorMetrics", "SignerMetrics", "new_registry", "render"]

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)

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


class CoordinatorMetrics:
    """Metrics of a coordinator."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register all metrics; raises :class:`ValueError` where the registry has them already."""
        self.registry = registry
        self.signs = Counter(
            "frost_coordinator_signs", "Signatures aggregated, verified, recorded and released.", registry=registry
        )
        self.requests = Histogram(
            "frost_coordinator_request_seconds",
            "Time from a sign request's arrival to its end, by outcome.",
            ["outcome"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.phases = Histogram(
            "frost_coordinator_phase_seconds",
            "Time of each phase of a request: policy, select, commit, shares, aggregate, audit.",
            ["phase"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.in_flight = Gauge("frost_coordinator_requests_in_flight", "Sign requests under way.", registry=registry)
        self.sessions = Counter(
            "frost_coordinator_sessions", "FROST sessions, by result: signed or failed.", ["result"], registry=registry
        )
        self.calls = Histogram(
            "frost_coordinator_signer_call_seconds",
            "Time of one call to one signer that was answered, by signer and path.",
            ["signer", "path"],
            buckets=_LATENCY,
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
            "Commitments, by signer and event: fetched, leased, burnt (leased, but no signature came of it).",
            ["signer", "event"],
            registry=registry,
        )
        self.audit_writes = Histogram(
            "frost_coordinator_audit_write_seconds",
            "Time of one write of records to an audit sink, by sink and result: ok or failed.",
            ["sink", "result"],
            buckets=_LATENCY,
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
            buckets=_LATENCY,
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
