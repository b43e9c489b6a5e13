"""The in-memory cluster behind a real Unix socket: for tests of what talks to the sidecar.

::

    sidecar = MemorySidecar(folder)
    async with sidecar.serving() as http:
        async with http.post("/sign", json={"msg_b64": "aGVsbG8="}) as response:
            assert response.status == 200
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from frost_sidecar.testing.cluster import MemoryCluster

_START_SECONDS = 5.0
_REQUEST_SECONDS = 10.0


class MemorySidecar:
    """A :class:`MemoryCluster` in ``folder``, served on ``folder/s``; ``settings`` go to its configuration."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.path = folder / "s"
        server = {"socket": str(self.path), "grace_seconds": 2.0, **settings.pop("server", {})}
        self.cluster = MemoryCluster(folder / "keys", settings={"server": server, **settings})
        self.stop = anyio.Event()
        """Set it to end the sidecar before the block ends."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Serve while the block runs; gives a client of the socket."""
        ready = anyio.Event()
        async with self.cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:

            async def serve() -> None:
                await coordinator.serve(stop=self.stop, ready=ready)

            tasks.start_soon(serve)
            with anyio.fail_after(_START_SECONDS):
                await ready.wait()
            async with aiohttp.ClientSession(
                base_url="http://sidecar",
                connector=aiohttp.UnixConnector(path=str(self.path)),
                timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
            ) as http:
                yield http
            self.stop.set()
