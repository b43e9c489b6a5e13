"""How long and how often is measured: in full, and quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Plan:
    """Seconds of the phases, each with a warm-up before it, and how many alternations of them."""

    alternations: int
    warm_up: float
    throughput: float
    latency: float
    library: float
    """Of the coordinator as a library, and of each other that its CPU time is compared with."""
    aggregate: float
    fault_alternations: int
    healthy: float
    faulty: float
    memory_warm_up: float
    memory: float
    concurrencies: tuple[int, ...]
    concurrency: float
    groups: tuple[tuple[int, int], ...]
    """Thresholds and sizes."""
    group: float


GROUPS: Final = ((2, 3), (3, 5), (5, 7), (10, 15), (20, 30), (34, 50), (67, 100))

FULL: Final = Plan(
    alternations=5,
    warm_up=1.0,
    throughput=3.0,
    latency=1.5,
    library=2.0,
    aggregate=1.0,
    fault_alternations=5,
    healthy=3.0,
    faulty=5.0,
    memory_warm_up=10.0,
    memory=25.0,
    concurrencies=tuple(2**power for power in range(10)),
    concurrency=1.0,
    groups=GROUPS,
    group=1.5,
)
QUICK: Final = Plan(
    alternations=5,
    warm_up=0.4,
    throughput=1.0,
    latency=0.75,
    library=0.75,
    aggregate=0.25,
    fault_alternations=3,
    healthy=1.5,
    faulty=2.5,
    memory_warm_up=2.0,
    memory=6.0,
    concurrencies=(1, 8, 64, 512),
    concurrency=0.5,
    groups=GROUPS[:3],
    group=0.5,
)
