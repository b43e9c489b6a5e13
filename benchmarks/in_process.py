"""The coordinator as a library, 64 requests in flight in its own process: what a mint that embeds it spends.

Started by the benchmarks with a coordinator's configuration. For each line on standard input, a number of seconds, it
signs for so long and writes one JSON object; it ends with its input.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread

from frost_sidecar import Config, Coordinator
from frost_sidecar.cli.closed_loop import ClosedLoop, Level, Messages
from frost_sidecar.jose import thumbprint

MESSAGE_BYTES = 300


async def run(config: Path, in_flight: int) -> None:
    async with Coordinator.open(Config.load(config, environ={})) as coordinator:
        public = await coordinator.group_public()
        loop = ClosedLoop(coordinator, None, public, Messages(thumbprint(public), MESSAGE_BYTES))
        say({"ready": True})
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            level = Level(in_flight)
            spent = time.process_time()
            await loop.run(level, float(line))
            spent = time.process_time() - spent
            say({**level.report(), "cpu_us_per_signature": round(spent * 1e6 / max(1, level.signatures), 1)})


def say(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    arguments = parser.parse_args()
    anyio.run(run, arguments.config, arguments.in_flight, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
