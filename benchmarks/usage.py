"""What a process has used, from /proc: CPU time of all its threads, and resident memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes so far, user and system, in seconds; 0 for one that has ended."""
    return sum(map(_ticks, pids)) / _TICKS


def _ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks
    return int(fields[11]) + int(fields[12])


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
