from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """aiohttp knows asyncio alone, and so do we."""
    return "asyncio"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        yield Path(folder)
