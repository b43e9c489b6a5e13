"""Many signers in one process and one event loop, each with listeners, certificate and share of its own.

For groups so large that a process each would take minutes to start: tests and benchmarks of 67-of-100. Who has this
process's memory has all the shares in it, so it is for nothing else::

    python -m frost_sidecar.testing.signers_together signer-1.toml signer-2.toml ...
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

import anyio

from frost_sidecar import logs
from frost_sidecar.signer import NodeConfig, serve


async def serve_all(configs: Sequence[NodeConfig]) -> None:
    """Serve as every one of ``configs`` until cancelled; the first that fails ends all."""
    async with anyio.create_task_group() as tasks:
        for config in configs:
            tasks.start_soon(serve, config)


async def _until_told(configs: Sequence[NodeConfig]) -> None:
    loop = asyncio.get_running_loop()
    with anyio.CancelScope() as scope:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, scope.cancel)
        await serve_all(configs)


def main() -> None:
    """Serve as the signers whose configuration files the arguments name."""
    configs = [NodeConfig.load(path) for path in sys.argv[1:]]
    logs.configure("info")
    anyio.run(_until_told, configs, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
