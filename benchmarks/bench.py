"""All figures of docs/performance.md, on this machine: ours and a plain Rust coordinator against the same signers.

    python -m benchmarks.bench [--quick] [--only PART] [--charts] [--json] [--output FILE]

Builds what it needs, uses loopback alone, ends by itself: in full within about twelve minutes, and writes
benchmarks/report.json with the tables and charts of the pages; quickly within two, and only prints. Run it where
nothing else runs. Exit status 0: measured, whether or not targets are met; 1: it could not be.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import cost, curves, environment, faults, latency, memory, report, rust_tools, throughput
from benchmarks.figure import TARGETS
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.session import Session
from frost_sidecar.cli.terminal import print_table
from frost_sidecar.testing.processes import ClusterError

PARTS: Final = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "cost": cost.measure,
    "faults": faults.measure,
    "memory": memory.measure,
}
"""``throughput`` measures the audit log's part in it, too."""


def measure(plan: Plan, parts: list[str], *, with_curves: bool, console: Console) -> dict[str, Any]:
    """The report of these parts."""
    figures: dict[str, Any] = {}
    raw: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="fs-") as folder,
        Progress(*columns, TextColumn("{task.fields[now]}"), console=console) as progress,
        Session(plan, Path(folder), progress) as session,
    ):
        for name in parts:
            result = PARTS[name](session)
            figures |= result.figures
            raw[name] = result.raw
        if with_curves:
            try:
                measured["curves"] = curves.measure(session)
            except (rust_tools.ToolError, ClusterError) as error:  # the figures are measured all the same
                console.print(f"[bold red]No charts:[/] {escape(str(error))}")
    ordered = {name: figures[name] for name in TARGETS if name in figures}
    return {**ordered, "environment": environment.describe(), "alternations": raw, **measured}


def show(figures: dict[str, Any]) -> None:
    rows = []
    for name in TARGETS:
        if name in figures:
            each = figures[name]
            numbers = [f"{each[kind]:,.4g}" for kind in ("value", "min", "max")]
            rows.append((name, *numbers, str(each["alternations"]), each["target"], "yes" if each["met"] else "no"))
    columns = ("figure", "value", "min", "max", "alternations", "target", "met")
    print_table("Ratios to what is beside it, on this machine", rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same figures from short phases, less firm")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be repeated")
    parser.add_argument("--charts", action="store_true", help="also measure the curves, and draw them")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument("--output", type=Path, help="write the report to this file instead of benchmarks/report.json")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True)
    started = time.monotonic()
    whole = not arguments.quick and not arguments.only
    try:
        console.print("Building the Rust programs (the first time takes some minutes) ...")
        rust_tools.build()
        figures = measure(
            QUICK if arguments.quick else FULL,
            arguments.only or list(PARTS),
            with_curves=arguments.charts,
            console=console,
        )
    except (rust_tools.ToolError, ClusterError) as error:
        console.print(f"[bold red]Not measured:[/] {escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Ended.")
        sys.exit(130)
    output = arguments.output or (report.REPORT if whole else None)
    if output is not None:
        output.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    if output == report.REPORT:
        if "curves" in figures:
            curves.draw(figures["curves"])
        report.main()
    if arguments.json:
        print(json.dumps(figures))
    else:
        show(figures)
    console.print(f"Measured in {time.monotonic() - started:.0f} s.")
    if arguments.charts and "curves" not in figures:
        sys.exit(1)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
