"""Resident memory of processes over their lives, and how it grows with the number of signatures."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.usage import resident_bytes

MILLION: Final = 1_000_000
WARM_UP_SECONDS: Final = 45.0
WARM_UP_SIGNATURES: Final = 100_000
"""What a life's samples do not count until both are over: signers remember tokens for half a minute, and the sidecar as
many commitments of each signer as it meets in 50,000 signatures; until then memory grows as it should."""
LEAST_SPAN: Final = 200_000
"""Signatures, over all lives of a process, from which on its growth is judged."""
MOST_GROWTH: Final = 24_000_000
"""Bytes per 1,000,000 signatures that count as flat: 24 a signature, less than the smallest object in Python takes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment."""

    seconds: float
    """Since the load began."""
    signatures: int
    """Made until then, by all."""
    resident_bytes: int


@dataclass
class Lives:
    """The samples of one process's lives, one list for each."""

    samples: list[list[Sample]] = field(default_factory=list)
    _pid: int = 0

    def look(self, pid: int, seconds: float, signatures: int) -> None:
        """Take a sample; another ``pid`` is another life."""
        resident = 0
        with contextlib.suppress(OSError):
            resident = resident_bytes(pid)
        if not resident:
            return  # it has just ended
        if pid != self._pid:
            self._pid = pid
            self.samples.append([])
        self.samples[-1].append(Sample(seconds, signatures, resident))

    def report(self) -> dict[str, Any]:
        """The growth of each life, and over all of them, each without its warm-up."""
        warm = [_warm(life) for life in self.samples]
        span = sum(life[-1].signatures - life[0].signatures for life in warm if life)
        growth = growth_per_million(warm)
        return {
            "bytes_per_million": growth,
            "signatures": span,
            "judged": growth is not None and span >= LEAST_SPAN,
            "lives": [
                {
                    "bytes_per_million": growth_per_million([later]),
                    "signatures": later[-1].signatures - later[0].signatures if later else 0,
                    "first_bytes": life[0].resident_bytes,
                    "last_bytes": life[-1].resident_bytes,
                    "most_bytes": max(each.resident_bytes for each in life),
                }
                for life, later in zip(self.samples, warm, strict=True)
            ],
        }


def _warm(life: Sequence[Sample]) -> list[Sample]:
    first = life[0]
    seconds, signatures = first.seconds + WARM_UP_SECONDS, first.signatures + WARM_UP_SIGNATURES
    return [each for each in life if each.seconds >= seconds and each.signatures >= signatures]


def growth_per_million(lives: Sequence[Sequence[Sample]]) -> float | None:
    """Bytes per 1,000,000 signatures: one least-squares slope, with a level of its own for each life; None: no telling.

    Lives weigh by how many signatures they saw.
    """
    over, under = 0.0, 0.0
    for life in lives:
        if len(life) < 2:
            continue
        x = statistics.fmean(each.signatures for each in life)
        y = statistics.fmean(each.resident_bytes for each in life)
        over += sum((each.signatures - x) * (each.resident_bytes - y) for each in life)
        under += sum((each.signatures - x) ** 2 for each in life)
    return round(over / under * MILLION) if under else None


def growing(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The processes whose memory is not flat, of those that made enough signatures to tell."""
    return [name for name, each in reports.items() if each["judged"] and each["bytes_per_million"] > MOST_GROWTH]
