"""``frost-sidecar signer``: one signer node."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path
from typing import Annotated

import anyio
import typer

from frost_sidecar import logs
from frost_sidecar.signer import NodeConfig, serve


def signer(
    config: Annotated[Path, typer.Option("--config", "-c", help="The node's TOML configuration file.")],
) -> None:
    """Hold a key share and sign with it for the coordinator, over mTLS, until SIGTERM or SIGINT."""
    settings = NodeConfig.load(config)
    logs.configure(settings.log.level)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the share and all nonces
    anyio.run(_serve, settings, backend_options={"use_uvloop": True})


async def _serve(settings: NodeConfig) -> None:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, scope.cancel)
        await serve(settings)
