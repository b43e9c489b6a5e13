"""Where a signature's time goes in the coordinator: CPU time by what it is spent on, beside the physical floor.

The library in process, as a mint has it, over real signer processes. A timer interrupts the process each millisecond of
its CPU time and notes which code was running; the native batch functions are timed by themselves, thread by thread.

    python benchmarks/cpu_profile.py [--in-flight N] [--seconds S] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import frost_ed25519 as frost
import uvloop
from rich.console import Console
from rich.table import Table

from frost_sidecar import Config, Coordinator
from frost_sidecar.testing.processes import ProcessCluster

MESSAGE: Final = b"eyJhbGciOiJFZERTQSJ9." + b"eyJzdWIiOiJhbGljZSJ9" * 14
TICK: Final = 0.001

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "policy and grants": ("frost_sidecar/grants", "frost_sidecar/policy", "frost_sidecar/jws", "frost_sidecar/rules"),
    "choice of signers": (
        "frost_sidecar/selection",
        "frost_sidecar/signers",
        "frost_sidecar/participants",
        "random.py",
    ),
    "commitments": ("frost_sidecar/commitments", "frost_sidecar/stock", "frost_sidecar/source", "frost_sidecar/offers"),
    "sessions and batches": ("frost_sidecar/sessions", "frost_sidecar/batching", "frost_sidecar/aggregation"),
    "tokens": ("frost_sidecar_auth_hs256", "jwt/"),
    "messages to and from JSON": ("frost_sidecar/wire", "frost_sidecar/encoding", "json/", "msgspec"),
    "HTTP and TLS to signers": (
        "aiohttp",
        "frost_sidecar_transport_mtls",
        "frost_sidecar/transport",
        "yarl",
        "multidict",
    ),
    "audit": ("frost_sidecar/audit", "frost_sidecar_audit_worm", "datetime.py"),
    "metrics and logs": ("frost_sidecar/metrics", "prometheus_client", "structlog", "logging/"),
    "the request itself": ("frost_sidecar/",),
    "waiting, waking, deadlines": (
        "anyio",
        "asyncio",
        "contextlib",
        "concurrent/",
        "threading.py",
        "weakref",
        "queue.py",
    ),
    "the loop that asks": ("benchmarks/cpu_profile.py",),
}
"""What code is for, by where it stands; the first that fits."""
OTHER: Final = "event loop, sockets, kernel"
"""Nothing of Python was running: uvloop, OpenSSL, system calls."""

NATIVE: Final = {
    "aggregate_many": (frost, "crypto: aggregate, verified"),
    "verify_many": (frost, "crypto: verify once more"),
    "decode_many": (frost.round1, "crypto: decode commitments"),
}


class Sampler:
    """Counts what runs in the main thread, a tick of the process's CPU time after the other."""

    def __init__(self) -> None:
        self.ticks: collections.Counter[str] = collections.Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        before = signal.signal(signal.SIGPROF, self._tick)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)

    def _tick(self, _number: int, frame: FrameType | None) -> None:
        self.ticks[_part(frame)] += 1


def _part(frame: FrameType | None) -> str:
    if frame is None or frame.f_back is None or "uvloop" in frame.f_code.co_filename:
        return OTHER
    file = frame.f_code.co_filename
    if file.endswith(("asyncio/runners.py", "uvloop/__init__.py")):
        return OTHER
    return next((part for part, places in PARTS.items() if any(each in file for each in places)), "the rest")


class Native:
    """CPU seconds of the native functions, whichever thread they run in, and how many items they had."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.items: collections.Counter[str] = collections.Counter()
        self.in_main = 0.0
        for name, (module, part) in NATIVE.items():
            setattr(module, name, self._timed(getattr(module, name), part))

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(items: list[Any]) -> Any:
            started = time.thread_time()
            try:
                return function(items)
            finally:
                spent = time.thread_time() - started
                self.seconds[part] += spent
                self.items[part] += len(items)
                if threading.current_thread() is threading.main_thread():
                    self.in_main += spent

        return timed

    def clear(self) -> None:
        self.seconds.clear()
        self.items.clear()
        self.in_main = 0.0


async def profile(config: Path, in_flight: int, seconds: float, native: Native) -> dict[str, Any]:
    """Microseconds of CPU per signature, by part."""
    sampler = Sampler()
    signed, cpu, main = 0, 0.0, 0.0
    going = True
    async with Coordinator.open(Config.load(config, environ={})) as coordinator:

        async def ask(number: int) -> None:
            nonlocal signed
            count = 0
            while going:
                await coordinator.sign(MESSAGE + b"%d.%d" % (number, count))
                count += 1
                signed += 1

        async with asyncio.timeout(seconds + 30), asyncio.TaskGroup() as tasks:
            for number in range(in_flight):
                tasks.create_task(ask(number))
            await asyncio.sleep(2)  # stock, connections and demand settle
            native.clear()
            signed, started = 0, time.perf_counter()
            cpu, main = time.process_time(), time.thread_time()
            with sampler.running():
                await asyncio.sleep(seconds)
            cpu, main = time.process_time() - cpu, time.thread_time() - main
            elapsed, done = time.perf_counter() - started, signed
            spent, in_main = dict(native.seconds), native.in_main
            going = False
    total = sum(sampler.ticks.values())
    main_python = main - in_main
    parts = {part: ticks / total * main_python / done * 1e6 for part, ticks in sampler.ticks.items()}
    parts |= {part: each / done * 1e6 for part, each in spent.items()}
    rest = cpu / done * 1e6 - sum(parts.values())
    parts["other threads: audit's writes, interpreter"] = max(0.0, rest)
    return {
        "in_flight": in_flight,
        "signatures": done,
        "per_second": round(done / elapsed, 1),
        "cpu_us": round(cpu / done * 1e6, 1),
        "parts_us": {part: round(each, 1) for part, each in sorted(parts.items(), key=lambda pair: -pair[1])},
    }


def floor() -> dict[str, float]:
    """CPU microseconds of the crypto that a 2-of-3 signature needs at the coordinator, one at a time."""
    shares, public = frost.keys.generate_with_dealer(3, 2)
    packages = {each: frost.keys.KeyPackage.from_secret_share(shares[each]) for each in list(shares)[:2]}
    rounds = {each: frost.round1.commit(package) for each, package in packages.items()}
    package = frost.SigningPackage({each: points for each, (_, points) in rounds.items()}, MESSAGE)
    signed = {each: frost.round2.sign(package, rounds[each][0], packages[each]) for each in packages}
    points = [(each.hiding, each.binding) for _, each in rounds.values()]
    return {
        "aggregate": _median(lambda: frost.aggregate(package, signed, public)),
        "decode commitments": _median(lambda: frost.round1.decode_many(points)),
    }


def _median(function: Callable[[], object], repetitions: int = 1000) -> float:
    times = []
    for _ in range(repetitions):
        started = time.thread_time_ns()
        function()
        times.append(time.thread_time_ns() - started)
    return round(sorted(times)[repetitions // 2] / 1000, 1)


def show(result: dict[str, Any], lowest: dict[str, float]) -> None:
    table = Table(title=f"{result['in_flight']} in flight, {result['per_second']:g} signatures per second")
    table.add_column("where the coordinator's CPU time goes")
    table.add_column("us a signature", justify="right")
    table.add_column("%", justify="right")
    for part, each in result["parts_us"].items():
        table.add_row(part, f"{each:.1f}", f"{each / result['cpu_us'] * 100:.0f}")
    table.add_section()
    table.add_row("all", f"{result['cpu_us']:.1f}", "100")
    for part, each in lowest.items():
        table.add_row(f"floor: the crate alone, {part}", f"{each:.1f}", f"{each / result['cpu_us'] * 100:.0f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    lowest = floor()
    native = Native()
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder) / "cluster") as cluster:
        for identifier in cluster.identifiers:
            cluster.start_signer(identifier)
        result = uvloop.run(profile(cluster.coordinator_toml, arguments.in_flight, arguments.seconds, native))
    if arguments.json:
        json.dump({**result, "floor_us": lowest}, sys.stdout, indent=2)
    else:
        show(result, lowest)


if __name__ == "__main__":
    main()
