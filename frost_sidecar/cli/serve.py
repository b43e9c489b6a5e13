"""``frost-sidecar serve``: the sidecar."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path
from typing import Annotated

import anyio
import typer

from frost_sidecar import logs
from frost_sidecar.config import Config
from frost_sidecar.coordinator import Coordinator


def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="FROST_SIDECAR_CONFIG", help="The TOML configuration file."),
    ] = None,
) -> None:
    """Serve on a Unix socket, on TCP, or on both, until SIGTERM or SIGINT; the configuration says where."""
    settings = Config.load(config)
    logs.configure(settings.log.level)
    raise_descriptor_limit()
    anyio.run(_serve, settings, backend_options={"use_uvloop": True})


def raise_descriptor_limit() -> None:
    """Use as many file descriptors as the system allows: a connection takes one, and without one we reach nobody."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Config) -> None:
    stop = anyio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Coordinator.open(settings) as coordinator:
        await coordinator.serve(stop=stop)
