"""Whether the coordinator's memory grows with the number of its signatures."""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from benchmarks import rust_tools
from benchmarks.figure import figure
from benchmarks.session import Result, Session
from benchmarks.usage import resident_bytes

IN_FLIGHT: Final = 32
FOLDS: Final = 5
_MILLION: Final = 1_000_000
_EVERY_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Point:
    """How much memory there was after so many signatures."""

    signatures: int
    resident_bytes: int


class Watch:
    """Notes a process's memory, twice a second and at the end, while the block runs; in :attr:`points`."""

    def __init__(self, pid: int, signatures: Callable[[], int], every_seconds: float = _EVERY_SECONDS) -> None:
        """``signatures``: how many the process has made so far."""
        self.points: list[Point] = []
        self._pid = pid
        self._signatures = signatures
        self._every = every_seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.points.append(Point(self._signatures(), resident_bytes(self._pid)))
            if self._end.is_set():
                return
            self._end.wait(self._every)


def growth_per_million(points: Sequence[Point]) -> float:
    """Bytes of memory per 1,000,000 signatures: the slope of the least-squares line through ``points``."""
    x = [float(each.signatures) for each in points]
    y = [float(each.resident_bytes) for each in points]
    if len(set(x)) < 2:
        raise rust_tools.ToolError("too few signatures to say how memory grows")
    return statistics.linear_regression(x, y).slope * _MILLION


def without_a_fold(points: Sequence[Point], folds: int = FOLDS) -> list[float]:
    """The same slope ``folds`` times, each time without another stretch of ``points``: how firm it stands."""
    size = len(points) / folds
    cuts = [round(number * size) for number in range(folds + 1)]
    return [growth_per_million([*points[:begin], *points[end:]]) for begin, end in itertools.pairwise(cuts)]


def measure(session: Session) -> Result:
    plan, stand = session.plan, session.stand
    server = stand.sidecar("memory")
    with session.part("memory", 2):
        session.say("warm-up")
        rust_tools.load(server.socket, IN_FLIGHT, plan.memory_warm_up, stand.public)
        session.say("signing")
        with Watch(server.pid, lambda: stand.signatures(server)) as watch:
            rust_tools.load(server.socket, IN_FLIGHT, plan.memory, stand.public)
    stand.end(server)
    points = watch.points
    return Result(
        {
            "rss_growth_bytes_per_million": figure(
                "rss_growth_bytes_per_million",
                without_a_fold(points),
                growth_per_million(points),
                spread=f"the slope without each {FOLDS}th of the points in turn",
                signatures_before=points[0].signatures,
                signatures=points[-1].signatures - points[0].signatures,
                resident_bytes={"first": points[0].resident_bytes, "last": points[-1].resident_bytes},
            )
        },
        [{"signatures": each.signatures, "resident_bytes": each.resident_bytes} for each in points],
    )
