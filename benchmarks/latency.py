"""p50 with one request in flight, where a round trip to a signer takes longer than on loopback."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from benchmarks import rust_tools
from benchmarks.figure import figure, median_of
from benchmarks.session import Raw, Result, Session

RTT_MS: Final = 1.0
FARTHER_MS: Final = 5.0
"""As between regions; beside the figure."""


def measure(session: Session) -> Result:
    near, far = (_alternations(session, rtt) for rtt in (RTT_MS, FARTHER_MS))
    return Result(
        {
            "p50_ratio_rtt1ms_vs_rust": figure(
                "p50_ratio_rtt1ms_vs_rust",
                [_ratio(each, "far") for each in near],
                rtt_ms=RTT_MS,
                audit="off, as the Rust coordinator has none",
                p50_ms=_medians(near),
                ratio_with_audit=_median_ratio(near, "far-audited"),
                at_5ms={
                    "ratio": _median_ratio(far, "far"),
                    "ratio_with_audit": _median_ratio(far, "far-audited"),
                    "p50_ms": _medians(far),
                },
            )
        },
        near + far,
    )


def _alternations(session: Session, rtt: float) -> Raw:
    plan, stand = session.plan, session.stand
    raw: Raw = []
    with rust_tools.delayed(stand.ports, rtt) as ports:
        servers = (
            stand.sidecar("far", audit=False, ports=ports),
            stand.opponent("far-rust", ports=ports),
            stand.sidecar("far-audited", ports=ports),
        )
        with session.part(f"latency at {rtt:g} ms", plan.alternations * len(servers)):
            for number in range(plan.alternations):
                phases = [
                    (server.name, partial(stand.phase, server, 1, plan.latency, plan.warm_up)) for server in servers
                ]
                raw.append(session.alternate(number, phases))
        stand.end(*servers)
    return raw


def _ratio(phases: dict[str, Any], ours: str) -> float:
    return float(phases[ours]["latency_ms"]["p50"] / phases["far-rust"]["latency_ms"]["p50"])


def _median_ratio(raw: Raw, ours: str) -> float:
    return median_of([{"ratio": _ratio(each, ours)} for each in raw], "ratio")


def _medians(raw: Raw) -> dict[str, float]:
    names = {"ours": "far", "rust": "far-rust", "ours_with_audit": "far-audited"}
    return {word: median_of(raw, name, "latency_ms", "p50") for word, name in names.items()}
