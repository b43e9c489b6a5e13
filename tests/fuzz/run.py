"""The long run: every target in turn, a second each, round after round until the time is over.

``python -m tests.fuzz.run [--seconds S] [--seed X] [NAME ...]`` prints a table and exits with 1 on a
finding. Nothing is written but to temporary folders.
"""

from __future__ import annotations

import argparse
import resource
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Final

from frost_sidecar import logs
from tests.fuzz.engine import Campaign, Target

_SLICE_SECONDS: Final = 1.0
_MAX_GROWTH: Final = 512 * 1024
"""KiB by which the process may grow while a target has its turn."""


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit code."""
    options = _options(arguments)
    _say(f"seed {options.seed}")
    with ExitStack() as stack:
        campaigns = [Campaign(each, options.seed + index) for index, each in enumerate(_targets(stack, options.names))]
        _run(campaigns, options.seconds)
        _table(campaigns)
        _say("")
        for campaign in campaigns:
            _show(campaign, set())
    return 1 if any(campaign.findings for campaign in campaigns) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all together (default %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="makes the same choices again")
    parser.add_argument("names", nargs="*", help="targets whose names contain one of these; default: all")
    return parser.parse_args(arguments)


def _targets(stack: ExitStack, names: Sequence[str]) -> Iterator[Target]:
    for file in sorted(Path(__file__).parent.glob("test_fuzz_*.py")):
        module = import_module(f"tests.fuzz.{file.stem}")
        for target in _of(module, stack, names):
            if not names or any(name in target.name for name in names):
                yield target


def _of(module: ModuleType, stack: ExitStack, names: Sequence[str]) -> Sequence[Target]:
    """A module's targets; those that need servers come out of its ``serving``."""
    if not hasattr(module, "serving"):
        targets: Sequence[Target] = module.TARGETS
        return targets
    if names and not any(name in each for name in names for each in module.NAMES):
        return []
    served: Sequence[Target] = stack.enter_context(module.serving())
    return served


def _run(campaigns: Sequence[Campaign], seconds: float) -> None:
    end, shown = time.monotonic() + seconds, set[str]()
    while time.monotonic() < end:
        for campaign in campaigns:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            campaign.run(max(0.0, min(_SLICE_SECONDS, end - time.monotonic())))
            _show(campaign, shown)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            if grown > _MAX_GROWTH:
                campaign.findings[f"{campaign.target.name}: the process grew by {grown} KiB"] = b""
        found, left = sum(len(each.findings) for each in campaigns), max(0.0, end - time.monotonic())
        fed = sum(each.inputs for each in campaigns)
        _say(f"{fed:>12,} inputs, {found} findings, {left:.0f} s left")


def _show(campaign: Campaign, shown: set[str]) -> None:
    """Findings that were not shown yet."""
    for what in campaign.findings.keys() - shown:
        shown.add(what)
        data = campaign.findings[what]
        _say(f"FINDING {what}\n  {len(data)} bytes, shortened: {data[:2000]!r}")


def _table(campaigns: Sequence[Campaign]) -> None:
    row = "{:<30} {:>11} {:>10} {:>10} {:>9} {:>9} {:>11} {:>8}"
    _say(
        "\n"
        + row.format(*("decoder", "inputs", "accepted", "refused", "outcomes", "inputs/s", "slowest ms", "findings"))
    )
    for each in campaigns:
        _say(
            row.format(
                *(each.target.name, f"{each.inputs:,}", f"{each.accepted:,}", f"{each.refused:,}", each.outcomes),
                *(_rate(each.inputs, each.seconds), f"{each.slowest * 1000:.0f}", len(each.findings)),
            )
        )
    inputs, seconds = sum(each.inputs for each in campaigns), sum(each.seconds for each in campaigns)
    accepted, refused = sum(each.accepted for each in campaigns), sum(each.refused for each in campaigns)
    findings = sum(len(each.findings) for each in campaigns)
    numbers = (f"{inputs:,}", f"{accepted:,}", f"{refused:,}", "", _rate(inputs, seconds), "", findings)
    _say(row.format("total", *numbers))


def _rate(inputs: int, seconds: float) -> str:
    return f"{inputs / seconds:,.0f}" if seconds else "-"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logs.configure("critical")
    sys.exit(main(sys.argv[1:]))
