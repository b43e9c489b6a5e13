"""What the charts show: speed against concurrency, and cost against the size of the group."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks import rust_tools
from benchmarks.session import Raw, Session
from benchmarks.stand import Stand
from frost_sidecar.cli.chart import Chart, Line

CHARTS: Final = Path(__file__).parent.parent / "docs" / "charts"
_GROUP_IN_FLIGHT: Final = 8
_OURS, _RUST, _AGGREGATE = "frost-sidecar", "Rust, two rounds", "bare aggregate"


def measure(session: Session) -> dict[str, Raw]:
    return {"concurrency": _concurrency(session), "group_size": _group_size(session)}


def _concurrency(session: Session) -> Raw:
    plan, stand = session.plan, session.stand
    servers = {"ours": stand.sidecar("audit"), "rust": stand.opponent("rust")}
    raw: Raw = []
    with session.part("against concurrency", len(plan.concurrencies) * 2):
        for in_flight in plan.concurrencies:
            row: dict[str, Any] = {"in_flight": in_flight}
            for name, server in servers.items():
                session.say(f"{in_flight} in flight, {name}")
                row[name] = stand.phase(server, in_flight, plan.concurrency, plan.warm_up)
            raw.append(row)
    stand.end(*servers.values())
    return raw


def _group_size(session: Session) -> Raw:
    plan = session.plan
    raw: Raw = []
    with session.part("against the group's size", len(plan.groups)):
        for least, most in plan.groups:
            session.say(f"{least}-of-{most}")
            folder = session.folder / f"g{most}"
            with Stand(folder, least, most, together=True, budget_seconds=20.0, call_seconds=10.0) as stand:
                server = stand.sidecar("group")
                alone = stand.phase(server, 1, plan.group, plan.warm_up)
                loaded = stand.phase(server, _GROUP_IN_FLIGHT, plan.group, plan.warm_up)
            bare = rust_tools.aggregate(least, most, plan.aggregate)
            raw.append({"group": f"{least}-of-{most}", "alone": alone, "loaded": loaded, "aggregate": bare})
    return raw


def charts(curves: dict[str, Raw]) -> dict[str, Chart]:
    """The charts by the names of their files, without ``.svg``."""
    rows, sizes = curves["concurrency"], curves["group_size"]
    in_flight = [str(row["in_flight"]) for row in rows]
    groups = [row["group"] for row in sizes]

    def lines(*path: str) -> list[Line]:
        return [
            Line(_OURS, [_of(row["ours"], *path) for row in rows]),
            Line(_RUST, [_of(row["rust"], *path) for row in rows]),
        ]

    cost = [_of(row["loaded"], "cpu_us_per_signature", "coordinator") for row in sizes]
    p50 = [_of(row["alone"], "latency_ms", "p50") for row in sizes]
    return {
        "throughput": Chart(
            "Signatures per second, 2-of-3",
            "requests in flight",
            in_flight,
            "signatures per second",
            lines("signatures_per_second"),
        ),
        "p99": Chart(
            "p99 latency, 2-of-3", "requests in flight", in_flight, "ms", lines("latency_ms", "p99"), logarithmic=True
        ),
        "group-cost": Chart(
            f"Coordinator CPU per signature, {_GROUP_IN_FLIGHT} in flight",
            "t-of-n",
            groups,
            "µs of CPU time",
            [Line(_OURS, cost), Line(_AGGREGATE, [_of(row["aggregate"], "cpu_us") for row in sizes])],
            logarithmic=True,
        ),
        "group-p50": Chart(
            "p50 latency, one in flight, all signers in one process",
            "t-of-n",
            groups,
            "ms",
            [Line(_OURS, p50)],
            logarithmic=True,
        ),
    }


def draw(curves: dict[str, Raw], folder: Path = CHARTS) -> None:
    """Write the charts to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in charts(curves).items():
        (folder / f"{name}.svg").write_text(chart.svg(), "utf-8")


def _of(phase: Any, *path: str) -> float:
    for name in path:
        phase = phase[name]
    return float(phase)
