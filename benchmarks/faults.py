"""3-of-5 over three zones, while one signer is dead (SIGKILL) and another one stalled (SIGSTOP)."""

from __future__ import annotations

import threading
from typing import Any, Final

from benchmarks.figure import figure, median_of
from benchmarks.rust_tools import ToolError
from benchmarks.session import Raw, Result, Session
from benchmarks.stand import Server, Stand

IN_FLIGHT: Final = 8
"""Few enough that a request waits for signers, and not in a queue for the machine's processors."""
_BEFORE_FAULTS: Final = 0.2
"""Seconds: the faults come while requests are under way."""


def measure(session: Session) -> Result:
    plan = session.plan
    raw: Raw = []
    with Stand(session.folder / "f", 3, 5) as stand, session.part("faults", plan.fault_alternations * 2):
        server = stand.sidecar("faulty")
        for number in range(plan.fault_alternations):
            session.say("all healthy")
            stand.await_health(server)
            healthy = stand.phase(server, IN_FLIGHT, plan.healthy, plan.warm_up)
            session.say("one dead, one stalled")
            dead, stalled = 1 + number % 5, 1 + (number + 1) % 5
            faulty = _with_faults(stand, server, plan.faulty, dead, stalled)
            raw.append({"dead": dead, "stalled": stalled, "healthy": healthy, "faulty": faulty})
    failed = [each["faulty"]["failed"] for each in raw]
    return Result(
        {
            "faulty_p99_ratio": figure(
                "faulty_p99_ratio",
                [each["faulty"]["latency_ms"]["p99"] / each["healthy"]["latency_ms"]["p99"] for each in raw],
                in_flight=IN_FLIGHT,
                p99_ms={kind: median_of(raw, kind, "latency_ms", "p99") for kind in ("healthy", "faulty")},
                p50_ms={kind: median_of(raw, kind, "latency_ms", "p50") for kind in ("healthy", "faulty")},
                max_ms={kind: median_of(raw, kind, "latency_ms", "max") for kind in ("healthy", "faulty")},
            ),
            "faulty_failed_requests": figure(
                "faulty_failed_requests",
                failed,
                sum(failed),
                requests=sum(each["faulty"]["signatures"] + each["faulty"]["failed"] for each in raw),
                failed_while_healthy=sum(each["healthy"]["failed"] for each in raw),
            ),
        },
        raw,
    )


def _with_faults(stand: Stand, server: Server, seconds: float, dead: int, stalled: int) -> dict[str, Any]:
    """A phase into which both faults fall; afterwards both signers are well again."""

    broken = threading.Event()

    def break_them() -> None:
        stand.cluster.kill_signer(dead)
        stand.cluster.pause_signer(stalled)
        broken.set()

    faults = threading.Timer(_BEFORE_FAULTS, break_them)
    faults.start()
    try:
        phase = stand.phase(server, IN_FLIGHT, seconds, 0.0)
    finally:
        faults.cancel()
        faults.join()
    if not broken.is_set():
        raise ToolError("the faults did not come about")
    stand.cluster.resume_signer(stalled)
    stand.cluster.start_signer(dead)
    del phase["cpu_us_per_signature"]  # nothing is known of a dead process
    return phase
