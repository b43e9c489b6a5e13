"""What `make bench` makes of its measurements, and that the pages say what its report says."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.curves import CHARTS, charts
from benchmarks.environment import describe
from benchmarks.figure import TARGETS, figure, median_of
from benchmarks.memory import Point, Watch, growth_per_million, without_a_fold
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.rust_tools import ToolError
from benchmarks.stand import Stand
from benchmarks.usage import cpu_seconds, resident_bytes
from frost_sidecar.blocking import SidecarClient

KEYS = [
    "throughput_ratio_vs_rust",
    "p50_ratio_rtt1ms_vs_rust",
    "cpu_ratio_vs_aggregate",
    "audit_throughput_ratio",
    "faulty_p99_ratio",
    "faulty_failed_requests",
    "rss_growth_bytes_per_million",
]


def _phase(rate: float) -> dict[str, Any]:
    return {
        "signatures_per_second": rate,
        "latency_ms": {"p50": 2.0, "p99": 9.5},
        "cpu_us_per_signature": {"coordinator": 400.0},
    }


REPORT: dict[str, Any] = {
    **{name: figure(name, [1.0, 3.0, 2.0, 2.5, 1.5]) for name in KEYS},
    "environment": {
        "cores": 2,
        "cpu": "A processor",
        "kernel": "Linux 6.1",
        "python": "3.11.0",
        "date": "2026-11-01",
        "commit": "0123456789abcdef",
        "round_trips": "delaying proxy",
    },
    "curves": {
        "concurrency": [{"in_flight": n, "ours": _phase(n), "rust": _phase(n / 2)} for n in (1, 2, 4)],
        "group_size": [
            {"group": name, "alone": _phase(1), "loaded": _phase(2), "aggregate": {"cpu_us": 200.0}}
            for name in ("2-of-3", "67-of-100")
        ],
    },
}


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_the_pages_say_what_the_report_says(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == report.rendered(text, page, report.load()), "run python -m benchmarks.report"


def test_the_report_has_the_agreed_keys_and_says_where_and_how_often() -> None:
    last = report.load() or REPORT
    assert list(TARGETS) == KEYS
    for name in KEYS:
        entry = last[name]
        assert {"value", "min", "max", "alternations", "target", "met"} <= entry.keys()
        assert entry["min"] <= entry["max"]
        assert entry["alternations"] >= 5
        assert entry["met"] == TARGETS[name].met(entry["value"])
    assert "delaying proxy" in report.table(last)


def test_a_drawn_chart_is_that_of_the_report() -> None:
    last = report.load() or {}
    drawn = charts(last["curves"]) if "curves" in last else {}
    assert {path.stem: path.read_text("utf-8") for path in CHARTS.glob("*.svg")} == {
        name: chart.svg() for name, chart in drawn.items()
    }


def test_a_table_and_charts_take_the_place_between_their_marks() -> None:
    page = report.PAGES[0]
    text = f"before\n\n{report.BEGIN}\nold\n{report.END}\n\n{report.CHARTS_BEGIN}\nold\n{report.CHARTS_END}\n\nafter\n"
    new = report.rendered(text, page, REPORT)
    assert (new.startswith("before\n\n"), new.endswith("\n\nafter\n"), "old" in new) == (True, True, False)
    assert report.rendered(new, page, REPORT) == new
    rows = [line for line in new.splitlines() if line.startswith("| ")]
    assert rows[2] == ("| signatures per second at 64 in flight, ours / Rust two-round | ≥ 2 | 2 | 1 … 3 | yes |")
    assert rows[3].endswith("| ≤ 0.75 | 2 | 1 … 3 | **no** |")
    assert len(rows) == 2 + len(KEYS)
    assert "commit 0123456789ab; 5 alternations, round trips emulated by a delaying proxy" in new
    for name in ("throughput", "p99", "group-cost", "group-p50"):
        assert f"](charts/{name}.svg)" in new
    assert report.NOTHING in report.rendered(text, page, None)
    with pytest.raises(ValueError, match="no place between"):
        report.rendered("before", page, REPORT)


def test_charts_show_both_coordinators() -> None:
    made = charts(copy.deepcopy(REPORT["curves"]))
    assert [list(line.values) for line in made["throughput"].lines] == [[1, 2, 4], [0.5, 1, 2]]
    assert [line.name for line in made["group-cost"].lines] == ["frost-sidecar", "bare aggregate"]
    assert [list(line.values) for line in made["p99"].lines] == [[9.5] * 3] * 2


def test_a_figure_is_a_median_with_its_spread_and_a_verdict() -> None:
    made = figure("audit_throughput_ratio", [0.7, 0.9, 0.8], beside=1)
    assert made == {
        "value": 0.8,
        "min": 0.7,
        "max": 0.9,
        "alternations": 3,
        "target": "≥ 0.8",
        "met": True,
        "beside": 1,
    }
    assert not figure("faulty_failed_requests", [0, 1, 0], 1)["met"]
    assert figure("faulty_failed_requests", [0, 0], 0)["met"]
    assert median_of([{"a": {"b": 1}}, {"a": {"b": 4}}, {"a": {"b": 2}}], "a", "b") == 2


def test_growth_is_the_slope_and_its_spread_stands_for_its_firmness() -> None:
    flat = [Point(number * 1000, 80_000_000 + (number % 2) * 4096) for number in range(50)]
    assert abs(growth_per_million(flat)) < 50_000
    leaking = [Point(each.signatures, each.resident_bytes + each.signatures * 100) for each in flat]
    assert growth_per_million(leaking) == pytest.approx(100_000_000, rel=0.01)
    spread = without_a_fold(leaking)
    assert len(spread) == 5
    assert min(spread) == pytest.approx(max(spread), rel=0.01)
    with pytest.raises(ToolError, match="too few signatures"):
        growth_per_million([Point(5, 1), Point(5, 2)])


def test_a_process_s_use_is_read_from_the_kernel() -> None:
    with subprocess.Popen([sys.executable, "-c", "data = bytearray(50_000_000); input()"], stdin=subprocess.PIPE) as it:
        deadline = time.monotonic() + 30
        while resident_bytes(it.pid) < 50_000_000:
            assert time.monotonic() < deadline
        it.communicate(b"\n")
    assert cpu_seconds([it.pid]) == 0
    own = cpu_seconds([os.getpid()])
    while cpu_seconds([os.getpid()]) < own + 0.05:
        sum(range(10_000))
    assert cpu_seconds([os.getpid()]) - own < 10


def test_the_environment_names_no_place() -> None:
    said = json.dumps(describe())
    assert os.uname().nodename not in said
    assert str(Path.cwd()) not in said
    assert '"round_trips": "delaying proxy"' in said


def _seconds(plan: Plan, *, curves: bool) -> float:
    """How long the phases of a plan take, without the start of processes."""
    total = plan.alternations * (3 * (plan.throughput + plan.warm_up) + 2 * (plan.latency + plan.warm_up))
    total += plan.alternations * (3 * (plan.library + plan.warm_up) + plan.aggregate)
    total += plan.fault_alternations * (plan.healthy + plan.warm_up + plan.faulty)
    total += plan.memory_warm_up + plan.memory
    if curves:
        total += 2 * len(plan.concurrencies) * (plan.concurrency + plan.warm_up)
        total += len(plan.groups) * (2 * (plan.group + plan.warm_up) + plan.aggregate)
    return total


def test_the_plans_keep_their_time() -> None:
    assert _seconds(QUICK, curves=False) < 90
    assert _seconds(FULL, curves=True) < 600
    assert min(FULL.alternations, FULL.fault_alternations, QUICK.alternations) >= 5


def test_a_stand_has_ours_with_all_signers_in_one_process(short_path: Path) -> None:
    """Of a group so large that a process for each signer would take long; and memory is watched meanwhile."""
    with Stand(short_path, 7, 12, together=True) as stand:
        server = stand.sidecar("ours", audit=False)
        with SidecarClient(server.socket) as client, Watch(server.pid, lambda: stand.signatures(server), 0.05) as watch:
            signed = [client.sign(f"{number}".encode()) for number in range(5)]
        assert {len(each.participants) for each in signed} == {7}
        assert watch.points[-1].signatures == stand.signatures(server) == 5
        assert watch.points[-1].resident_bytes > 10_000_000
        assert len(stand.signer_pids) == 1
        assert not list(short_path.glob("*audit.log"))
        stand.end(server)
    assert cpu_seconds(stand.signer_pids) == 0


def test_a_paused_signer_stands_still_and_goes_on(short_path: Path) -> None:
    with Stand(short_path, 2, 3) as stand:
        server = stand.sidecar("ours")
        stand.cluster.pause_signer(2)
        with SidecarClient(server.socket) as client:
            assert client.sign(b"while it stands still").participants == (1, 3)
            stand.cluster.resume_signer(2)
            assert client.sign(b"while it goes on", participants=[2, 3]).participants == (2, 3)
        stand.cluster.pause_signer(1)  # it ends all the same
    assert cpu_seconds(stand.signer_pids) == 0
