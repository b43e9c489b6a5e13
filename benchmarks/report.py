"""The report of the benchmarks, and its table in the pages that show it.

python -m benchmarks.report    # after a change of benchmarks/report.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.curves import CHARTS, charts
from benchmarks.figure import TARGETS

REPORT: Final = Path(__file__).parent / "report.json"
_ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (_ROOT / "docs" / "performance.md", _ROOT / "README.md")
"""Where the table stands, between :data:`BEGIN` and :data:`END`."""
BEGIN: Final = "<!-- figures: python -m benchmarks.report -->"
END: Final = "<!-- /figures -->"
CHARTS_BEGIN: Final = "<!-- charts: python -m benchmarks.report -->"
CHARTS_END: Final = "<!-- /charts -->"
NOTHING: Final = "Not measured yet: `make bench` puts the figures here."


def load(path: Path = REPORT) -> dict[str, Any] | None:
    """The report that was written last; None where there is none."""
    if not path.exists():
        return None
    report: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return report


def table(report: Mapping[str, Any] | None) -> str:
    """The figures of ``report`` as a table in Markdown, with where they were measured."""
    if report is None:
        return NOTHING
    lines = ["| figure | target | measured | spread | met |", "| --- | --- | --- | --- | --- |"]
    for name, target in TARGETS.items():
        each = report[name]
        spread = f"{_number(each['min'])} … {_number(each['max'])}"
        met = "yes" if each["met"] else "**no**"
        lines.append(f"| {target.what} | {each['target']} | {_number(each['value'])} | {spread} | {met} |")
    where = report["environment"]
    commit = (where["commit"] or "unknown")[:12]
    times = sorted({report[name]["alternations"] for name in TARGETS})
    made = (
        f"`make bench` on {where['cores']} cores of {where['cpu']}, {where['kernel']}, Python {where['python']}, "
        f"{where['date']}, commit {commit}; {' or '.join(map(str, times))} alternations, round trips emulated by a "
        f"{where['round_trips']}."
    )
    return "\n".join([*lines, "", made])


def pictures(report: Mapping[str, Any] | None, page: Path) -> str:
    """The charts of ``report``, as ``page`` shows them."""
    if report is None or "curves" not in report:
        return NOTHING
    folder = CHARTS.relative_to(page.parent)
    return "\n\n".join(f"![{chart.title}]({folder}/{name}.svg)" for name, chart in charts(report["curves"]).items())


def rendered(text: str, page: Path, report: Mapping[str, Any] | None) -> str:
    """``text``, which is that of ``page``, with this report's table and, where it has a place for them, charts.

    Raises:
        ValueError: the page has no place for the table.
    """
    text = _between(text, BEGIN, END, table(report))
    return _between(text, CHARTS_BEGIN, CHARTS_END, pictures(report, page)) if CHARTS_BEGIN in text else text


def _between(text: str, begin: str, end: str, new: str) -> str:
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"no place between {begin} and {end}")
    return f"{before}{begin}\n\n{new}\n\n{end}{after}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def main() -> None:
    report = load()
    for page in PAGES:
        text = page.read_text("utf-8")
        page.write_text(rendered(text, page, report), "utf-8")


if __name__ == "__main__":
    main()
