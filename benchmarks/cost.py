"""CPU time of the coordinator per signature, beside that of the bare crate's ``aggregate``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import rust_tools
from benchmarks.figure import figure, median_of
from benchmarks.session import Raw, Result, Session

IN_FLIGHT: Final = 64
_SLACK_SECONDS: Final = 30.0


class Library:
    """The process of :mod:`benchmarks.in_process`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        rust_tools.read_line(process, _SLACK_SECONDS)

    def sign(self, seconds: float, warm_up: float) -> dict[str, Any]:
        """Have it sign for ``seconds``; throughput, latency, and CPU per signature."""
        self._ask(warm_up)
        report = self._ask(seconds)
        if not report["signatures"]:
            raise rust_tools.ToolError(f"in process nothing was signed: {report['errors']}")
        return report

    def _ask(self, seconds: float) -> dict[str, Any]:
        if self._process.stdin is None:
            raise rust_tools.ToolError("the library's process takes no input")
        self._process.stdin.write(f"{seconds:g}\n".encode())
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(rust_tools.read_line(self._process, seconds + _SLACK_SECONDS))
        return report


@contextmanager
def library(config: Path, log: Path) -> Iterator[Library]:
    """The library in a process of its own, while the block runs."""
    command = [sys.executable, "-m", "benchmarks.in_process", "--config", str(config), "--in-flight", str(IN_FLIGHT)]
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        try:
            yield Library(process)
        finally:
            rust_tools.end(process)


def measure(session: Session) -> Result:
    plan, stand = session.plan, session.stand
    sidecar, opponent = stand.sidecar("cost"), stand.opponent("cost-rust")
    config = stand.configuration("library", audit=False)
    raw: Raw = []
    with (
        library(config, stand.cluster.log("library")) as coordinator,
        session.part("coordinator CPU", plan.alternations * 4),
    ):
        phases = [
            ("library", partial(coordinator.sign, plan.library, plan.warm_up)),
            ("aggregate", partial(rust_tools.aggregate, 2, 3, plan.aggregate)),
            ("sidecar", partial(stand.phase, sidecar, IN_FLIGHT, plan.library, plan.warm_up)),
            ("rust", partial(stand.phase, opponent, IN_FLIGHT, plan.library, plan.warm_up)),
        ]
        raw.extend(session.alternate(number, phases) for number in range(plan.alternations))
    stand.end(sidecar, opponent)
    cpu_us = {
        "library": median_of(raw, "library", "cpu_us_per_signature"),
        "sidecar": median_of(raw, "sidecar", "cpu_us_per_signature", "coordinator"),
        "rust": median_of(raw, "rust", "cpu_us_per_signature", "coordinator"),
        "aggregate": median_of(raw, "aggregate", "cpu_us"),
    }
    return Result(
        {
            "cpu_ratio_vs_aggregate": figure(
                "cpu_ratio_vs_aggregate",
                [each["library"]["cpu_us_per_signature"] / each["aggregate"]["cpu_us"] for each in raw],
                coordinator="the library in process, with the loop that asks it",
                cpu_us_per_signature=cpu_us,
                failed={
                    "library": sum(sum(each["library"]["errors"].values()) for each in raw),
                    **{name: sum(each[name]["failed"] for each in raw) for name in ("sidecar", "rust")},
                },
                sidecar_ratio=round(cpu_us["sidecar"] / cpu_us["aggregate"], 3),
                rust_ratio=round(cpu_us["rust"] / cpu_us["aggregate"], 3),
            )
        },
        raw,
    )
