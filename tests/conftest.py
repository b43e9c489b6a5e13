from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """aiohttp knows asyncio alone, and so do we."""
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Take SIGINT as at a terminal: a shell that starts a command in the background has it ignored, for good."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        yield Path(folder)
