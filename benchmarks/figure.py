"""One figure of the report: its value, its spread over the alternations, and whether it meets its target."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be, and what it is."""

    what: str
    bound: float
    at_least: bool = False
    """Whether ``bound`` is the least good value; otherwise it is the greatest."""
    unit: str = ""

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def text(self) -> str:
        bound = f"{self.bound:,.0f}" if self.bound >= 1000 else f"{self.bound:g}"
        return f"{'≥' if self.at_least else '≤'} {bound}{self.unit}"


FLAT_BYTES: Final = 5_000_000
"""Growth over 1,000,000 signatures that counts as none: 5 bytes a signature, less than anything kept for one takes."""

TARGETS: Final = {
    "throughput_ratio_vs_rust": Target("signatures per second at 64 in flight, ours / Rust two-round", 2.0, True),
    "p50_ratio_rtt1ms_vs_rust": Target(
        "p50, one in flight, 1 ms emulated round trip, ours (audit off) / Rust two-round", 0.75
    ),
    "cpu_ratio_vs_aggregate": Target(
        "coordinator CPU per signature at 64 in flight (library, audit off) / bare `aggregate`", 2.0
    ),
    "audit_throughput_ratio": Target("signatures per second, audit on / audit off", 0.8, True),
    "faulty_p99_ratio": Target("3-of-5, one signer dead and one stalled: p99 / healthy p99", 1.5),
    "faulty_failed_requests": Target("requests that failed in those phases", 0),
    "rss_growth_bytes_per_million": Target(
        "growth of the coordinator's memory per 1,000,000 signatures", FLAT_BYTES, unit=" B"
    ),
}
"""The keys of the report, in their order."""


def figure(name: str, values: Sequence[float], value: float | None = None, **details: Any) -> dict[str, Any]:
    """The entry of the report for ``values``, one for each alternation; ``value`` where it is not their median."""
    target = TARGETS[name]
    value = statistics.median(values) if value is None else value
    return {
        "value": _rounded(value),
        "min": _rounded(min(values)),
        "max": _rounded(max(values)),
        "alternations": len(values),
        "target": target.text(),
        "met": target.met(value),
        **details,
    }


def median_of(phases: Sequence[dict[str, Any]], *path: str) -> float:
    """The median over phases of one of their members."""

    def member(phase: Any) -> float:
        for name in path:
            phase = phase[name]
        return float(phase)

    return _rounded(statistics.median(member(each) for each in phases))


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
