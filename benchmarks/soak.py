"""Signatures by the million, with signers and sidecar killed and restarted all the while; and then everything checked.

A 2-of-3 cluster of real processes on loopback, its audit log on, 64 requests in flight. Every signature is verified.
At the end: no commitment was used twice (each signer writes down what it used), the audit log verifies and holds
exactly the signatures that were answered, each of them has the shares of its two signers behind it, and no process's
memory grew with their number. Exits 1 if any of that fails.

    python -m benchmarks.soak [--requests N] [--in-flight N] [--seconds S] [--json]

A million take about a quarter of an hour and up to 1.8 GB in the temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import anyio
import anyio.to_thread
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.soak_check import Findings, Life, Uses, read_audit, read_uses
from benchmarks.soak_load import PREFIX, Load
from benchmarks.soak_memory import Lives, growing
from frost_sidecar.testing.processes import ClusterError, ProcessCluster

_REQUEST_BYTES: Final = 1_600
"""On disk for each signature: its audit record, and its two signers' lines."""
_SPARE_BYTES: Final = 256 * 1024 * 1024
_LOOK_SECONDS: Final = 0.5
_DOWN: Final = 0.1
"""How long a signer stays down, as a part of the time from one restart to the next."""


@dataclass
class Soak:
    """One run: the cluster, its load, and what happened."""

    cluster: ProcessCluster
    load: Load
    lives: dict[int, list[Life]] = field(default_factory=dict)
    memory: dict[str, Lives] = field(default_factory=dict)
    killed: int = 0
    restarted: int = 0
    sidecar_restarts: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.lives = {identifier: [] for identifier in self.cluster.identifiers}
        for identifier in self.cluster.identifiers:
            toml = self.cluster.signer_toml(identifier)
            log = json.dumps(str(self._used(identifier)))
            toml.write_text(f"dev = true\ndev_used_log = {log}\n{toml.read_text('utf-8')}", "utf-8")

    def _used(self, identifier: int) -> Path:
        return self.cluster.folder / f"used-{identifier}.log"

    def _end_of_life(self, identifier: int, killed: float | None) -> None:
        """Keep the file of a signer that ended apart from that of its next life; nothing for one that has none."""
        if not self._used(identifier).exists():
            return
        mine = self.lives[identifier]
        kept = self.cluster.folder / f"used-{identifier}-life-{len(mine)}.log"
        self._used(identifier).rename(kept)
        mine.append(Life(kept, killed))

    def end_signer(self, identifier: int, *, kill: bool) -> None:
        """End a signer, without warning or as asked."""
        (self.cluster.kill_signer if kill else self.cluster.stop_signer)(identifier)
        self._end_of_life(identifier, time.time() if kill else None)
        self.killed += kill
        self.restarted += not kill

    def restart_sidecar(self, *, kill: bool) -> None:
        """End the sidecar, without warning or as asked, and start it again: its stock and its leases are gone."""
        self.load.down = True
        if kill:
            os.kill(self.cluster.pid("sidecar"), signal.SIGKILL)
        status = self.cluster.stop_sidecar()
        if not kill and status:
            self.load.findings.add("the sidecar did not end cleanly", f"status {status}")
        self.cluster.start_sidecar()
        self.load.down = False
        self.sidecar_restarts += 1

    def finish(self) -> None:
        """End all processes, so that everything is on disk."""
        status = self.cluster.stop_sidecar()
        if status:
            self.load.findings.add("the sidecar did not end cleanly", f"status {status}")
        for identifier in self.cluster.identifiers:
            self.cluster.stop_signer(identifier)
            self._end_of_life(identifier, None)

    def events(self, signer_restarts: int, sidecar_restarts: int) -> list[tuple[int, Callable[[], None]]]:
        """What is to happen, and after how many signatures: one signer after the other, every other one killed."""
        requests = self.load.requests
        found: list[tuple[int, Callable[[], None]]] = []
        slot = requests / (signer_restarts + 1)
        for turn in range(signer_restarts):
            identifier = self.cluster.identifiers[turn % len(self.cluster.identifiers)]
            at = (turn + 1) * slot
            found.append((int(at), partial(self.end_signer, identifier, kill=turn % 2 == 0)))
            found.append((int(at + _DOWN * slot), partial(self.cluster.start_signer, identifier)))
        for turn in range(sidecar_restarts):
            at = (turn + 1) * requests / (sidecar_restarts + 1) + slot / 2
            found.append((min(int(at), requests - 1), partial(self.restart_sidecar, kill=turn % 2 == 0)))
        return sorted(found, key=lambda each: each[0])

    async def run(self, events: list[tuple[int, Callable[[], None]]], seconds: float, bar: Callable[[], None]) -> None:
        """Load the sidecar until all is signed or ``seconds`` are over, while ``events`` happen."""
        self.began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._disturb, events)
            tasks.start_soon(self._look, bar)
            with anyio.move_on_after(seconds) as limit:
                await self.load.run()
            self.seconds = time.monotonic() - self.began
            if limit.cancelled_caught:
                self.load.findings.add("not all was signed in time", f"{self.load.signed} in {seconds:g} s")
            tasks.cancel_scope.cancel()
        bar()

    async def _disturb(self, events: list[tuple[int, Callable[[], None]]]) -> None:
        for at, act in events:
            while self.load.signed < at:
                await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(act)

    async def _look(self, bar: Callable[[], None]) -> None:
        names = ["sidecar", *(f"signer-{identifier}" for identifier in self.cluster.identifiers)]
        while True:
            for name in names:
                lives = self.memory.setdefault(name, Lives())
                lives.look(self.cluster.pid(name), time.monotonic() - self.began, self.load.signed)
            bar()
            await anyio.sleep(_LOOK_SECONDS)

    def check(self) -> tuple[Uses, dict[str, Any]]:
        """Everything that the processes left on disk."""
        findings = self.load.findings
        uses = read_uses(self.lives, findings)
        log = read_audit(
            self.cluster.audit_log, PREFIX, self.cluster.min_signers, self.load.answers, uses, self.lives, findings
        )
        return uses, {"records": log.records, "signed": log.signed, "shares_untold_by_killed_signers": log.untold}

    def report(self) -> dict[str, Any]:
        """All figures; checks the files and the memory first."""
        findings = self.load.findings
        uses, audit = self.check()
        memory = {name: lives.report() for name, lives in self.memory.items()}
        for name in growing(memory):
            findings.add("memory grows", f"{name}: {memory[name]['bytes_per_million']} bytes per million")
        return {
            "signed": self.load.signed,
            "requests": len(self.load.answers),
            "in_flight": self.load.in_flight,
            "seconds": round(self.seconds, 1),
            "signatures_per_second": round(self.load.signed / max(self.seconds, 1e-9), 1),
            "errors": dict(self.load.errors),
            "signers_killed": self.killed,
            "signers_restarted": self.restarted,
            "sidecar_restarts": self.sidecar_restarts,
            "commitments_used": uses.number,
            "unfinished_lines_of_killed_signers": uses.torn,
            "audit": audit,
            "memory": memory,
            "findings": dict(findings.counts),
            "examples": findings.examples,
            "good": not findings.counts,
        }


def soak(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run and check it all in a temporary folder; the report."""
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        _check_room(Path(folder), arguments.requests)
        with ProcessCluster(Path(folder)) as cluster:
            load = Load(cluster.socket, cluster.dealt.group_public, arguments.requests, arguments.in_flight, Findings())
            run = Soak(cluster, load)
            cluster.start()
            with _progress(console, load) as bar:
                events = run.events(arguments.signer_restarts, arguments.sidecar_restarts)
                uvloop.run(run.run(events, arguments.seconds, bar))
            run.finish()
            console.print("Checking ...")
            return run.report()


def _check_room(folder: Path, requests: int) -> None:
    needed, free = requests * _REQUEST_BYTES + _SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise ClusterError(f"{folder.parent} has {free >> 20} MiB free, {needed >> 20} are needed; set TMPDIR")


@contextmanager
def _progress(console: Console, load: Load) -> Iterator[Callable[[], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[now]}"), console=console) as progress:
        task: TaskID = progress.add_task("signatures", total=load.requests, now="")

        def show() -> None:
            now = "sidecar restarts" if load.down else f"{sum(load.errors.values())} errors"
            progress.update(task, completed=load.signed, now=now)

        yield show


def show(report: dict[str, Any]) -> None:
    table = Table("figure", "value")
    for name, value in report.items():
        if name == "memory":
            for process, each in value.items():
                grown = each["bytes_per_million"]
                text = "too few signatures to say" if grown is None else f"{grown:,} bytes per million signatures"
                judged = "" if each["judged"] else " (not judged: too few)"
                table.add_row(f"memory of {process}", f"{text}{judged}, {len(each['lives'])} lives")
        else:
            table.add_row(name, escape(str(value) if isinstance(value, bool | dict | list) else f"{value:,}"))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="signatures to make")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3600.0, help="most time for them")
    parser.add_argument("--signer-restarts", type=int, default=12)
    parser.add_argument("--sidecar-restarts", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=True)
    try:
        report = soak(arguments, console)
    except* ClusterError as group:
        for error in group.exceptions:
            console.print(f"[bold red]Not finished:[/] {escape(str(error))}")
        sys.exit(1)
    except* KeyboardInterrupt:
        console.print("Ended.")
        sys.exit(130)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(report)
    sys.exit(0 if report["good"] else 1)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
