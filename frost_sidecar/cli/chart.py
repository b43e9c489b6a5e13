"""Line charts as SVG: small, the same bytes for the same figures, and readable on light and on dark pages."""

from __future__ import annotations

import importlib.util
import math
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from frost_sidecar.errors import ConfigError

COLOURS: Final = ("#3b82c4", "#d9822b", "#3f9b5f", "#a05fc0")
"""One for each line; each stands out from white and from black."""
_GREY: Final = "#808080"
_STYLE: Final = """
.series .line { fill: none; stroke-width: 2.5 }
.guide.line { stroke-opacity: .35; stroke-width: 1 }
"""
"""Beyond the library's, whose guides are as strong as the lines."""
_UNUSED: Final = {"text-overlay", "tooltip", "tooltip-overlay"}
"""Classes of groups that only scripts use."""


def check_drawing(file: Path) -> None:
    """Raises :class:`ConfigError` where no picture could be written to ``file``, before the work for it is done."""
    if importlib.util.find_spec("pygal") is None:
        raise ConfigError("a picture needs pygal; install frost-sidecar[bench]")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"{file}: there is no such folder")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its name, and a value for each place on the x axis; None where there is none."""

    name: str
    values: Sequence[float | None]
    right: bool = False
    """Whether its values are read on the right-hand axis."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over common places on the x axis, which stand at equal distances. Titles say the unit."""

    title: str
    x_title: str
    places: Sequence[str]
    y_title: str
    lines: Sequence[Line]
    logarithmic: bool = False
    """Whether the y axis is: for values over several powers of ten, all above zero."""

    def svg(self) -> str:
        """The chart as an SVG document, without script, reference to elsewhere, or date."""
        import pygal  # type: ignore[import-untyped]  # noqa: PLC0415 - of the extra "bench"; see check_drawing
        from pygal.style import Style  # type: ignore[import-untyped]  # noqa: PLC0415

        # Its finder of maps, which we do not draw, is of a kind that Python 3.11 warns of at every later import.
        sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != "pygal"]
        style = Style(
            background="transparent",
            plot_background="transparent",
            foreground=_GREY,
            foreground_strong=_GREY,
            foreground_subtle=_GREY,
            colors=COLOURS,
            font_family="sans-serif",
            label_font_size=12,
            major_label_font_size=12,
            legend_font_size=13,
            title_font_size=16,
            guide_stroke_color=_GREY,
            major_guide_stroke_color=_GREY,
        )
        drawn = pygal.Line(
            title=self.title,
            x_title=self.x_title,
            y_title=self.y_title,
            logarithmic=self.logarithmic,
            range=None if self.logarithmic else (0, self._highest(right=False)),
            secondary_range=(0, self._highest(right=True)),
            style=style,
            js=[],
            width=760,
            height=420,
            dots_size=3,
            legend_at_bottom=True,
            legend_at_bottom_columns=len(self.lines),
            value_formatter=lambda value: f"{value:,.0f}" if value >= 1000 else f"{value:.4g}",
        )
        drawn.uuid = "figure"  # random otherwise
        drawn.x_labels = list(self.places)
        if self.logarithmic:
            drawn.y_labels = self._rungs()
        for line in self.lines:
            drawn.add(line.name, list(line.values), secondary=line.right)
        return _plain(drawn.render_tree())

    def _rungs(self) -> list[float]:
        """1, 2 and 5 times the powers of ten, from just below the least value to just above the greatest."""
        values = [value for line in self.lines for value in line.values if value is not None and value > 0] or [1.0]
        powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
        rungs = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
        below = max(each for each in rungs if each <= min(values))
        above = min(each for each in rungs if each >= max(values))
        return [each for each in rungs if below <= each <= above]

    def _highest(self, *, right: bool) -> float:
        values = [value for line in self.lines if line.right == right for value in line.values if value is not None]
        return max(values, default=1.0) * 1.05 or 1.0


def _plain(root: ET.Element) -> str:
    """The drawing without what changes from day to day (comments) or waits for a script."""
    for parent in list(root.iter()):
        for child in list(parent):
            classes = set(child.get("class", "").split()) if isinstance(child.tag, str) else _UNUSED
            if classes & _UNUSED or child.tag in {"script", "desc"}:
                parent.remove(child)
    style = next(root.iter("style"))
    style.text = (style.text or "") + "".join(f"#chart-figure {rule}\n" for rule in _STYLE.strip().splitlines())
    return ET.tostring(root, encoding="unicode") + "\n"
