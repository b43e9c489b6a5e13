"""On what was measured: the machine in general words, and the versions; no names of hosts, users or folders."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import ssl
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

_DISTRIBUTIONS: Final = ("frost-sidecar", "frost-ed25519-py", "aiohttp", "uvloop", "msgspec", "cryptography")
_ROOT: Final = Path(__file__).parent.parent


def describe() -> dict[str, Any]:
    """The part "environment" of the report."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "rustc": _said_by("rustc", "--version"),
        "distributions": {name: version(name) for name in _DISTRIBUTIONS},
        "round_trips": "delaying proxy",
        "commit": _said_by("git", "-C", str(_ROOT), "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_said_by("git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no")),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def _cpu() -> str | None:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else None


def _said_by(*command: str) -> str | None:
    """What a program says; None where there is none, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
