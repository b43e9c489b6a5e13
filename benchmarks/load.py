"""10,000 signatures through the Unix socket, 32 in flight, while one signer is killed and restarted twice.

Every answer must be a valid signature or a typed error; nothing may hang; and the audit log must verify and hold
exactly the signatures that were answered. Exits 1 if any of that fails. Loopback only; ends by itself.

    python benchmarks/load.py [--requests N] [--in-flight N] [--json]
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import anyio
import anyio.to_thread
import frost_sidecar_audit_worm as audit_worm
import uvloop
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from frost_sidecar.contract import PROGRAM_HEADER, PROGRAM_VALUE
from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.problem import CONTENT_TYPE, TYPE_BASE
from frost_sidecar.testing.processes import ProcessCluster

VICTIM = 2
REQUEST_SECONDS = 10.0
"""Twice the coordinator's budget: a request without an answer by then hangs."""


@dataclass
class Result:
    requests: int
    in_flight: int
    signed: dict[str, str] = field(default_factory=dict)
    """Request id → SHA-256 of the signature that was answered."""
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: int = 0
    untyped: int = 0
    hanging: int = 0
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    kills: int = 0
    audit_records: int = 0
    audit_fault: str | None = None
    audit_agrees: bool = False

    @property
    def done(self) -> int:
        return len(self.signed) + sum(self.errors.values()) + self.wrong + self.untyped + self.hanging

    @property
    def good(self) -> bool:
        return (
            self.done == self.requests
            and not (self.wrong or self.untyped or self.hanging or self.audit_fault)
            and self.audit_agrees
        )

    def report(self) -> dict[str, object]:
        cuts = statistics.quantiles(self.latencies, n=100)
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "kills_and_restarts": self.kills,
            "signed": len(self.signed),
            "typed_errors": dict(self.errors),
            "wrong_signatures": self.wrong,
            "untyped_answers": self.untyped,
            "hanging": self.hanging,
            "audit_records": self.audit_records,
            "audit_fault": self.audit_fault,
            "audit_agrees": self.audit_agrees,
            "seconds": round(self.seconds, 2),
            "answers_per_second": round(self.requests / self.seconds, 1),
            "p50_ms": round(cuts[49] * 1000, 2),
            "p99_ms": round(cuts[98] * 1000, 2),
            "max_ms": round(max(self.latencies) * 1000, 2),
        }


async def ask(http: aiohttp.ClientSession, number: int, key: Ed25519PublicKey, result: Result) -> None:
    message = f"header.{number}".encode()
    request_id = f"load-{number}"
    started = time.perf_counter()
    try:
        with anyio.fail_after(REQUEST_SECONDS):
            async with http.post(
                "http://sidecar/sign", json={"msg_b64": b64encode(message)}, headers={"X-Request-ID": request_id}
            ) as response:
                body = await response.json(content_type=None)
                typed = response.content_type == CONTENT_TYPE and body["type"].startswith(TYPE_BASE)
    except TimeoutError:
        result.hanging += 1
        return
    result.latencies.append(time.perf_counter() - started)
    if response.status == 200:
        signature = b64decode(body["signature_b64"])
        try:
            key.verify(signature, message)
            result.signed[request_id] = hashlib.sha256(signature).hexdigest()
        except InvalidSignature:
            result.wrong += 1
    elif typed:
        result.errors[body["type"].removeprefix(TYPE_BASE)] += 1
    else:
        result.untyped += 1


async def disturb(cluster: ProcessCluster, result: Result) -> None:
    """Kill the victim after 20 and 60 % of the requests, restart it after 40 and 80 %."""
    for share, act in (
        (0.2, cluster.kill_signer),
        (0.4, cluster.start_signer),
        (0.6, cluster.kill_signer),
        (0.8, cluster.start_signer),
    ):
        while result.done < share * result.requests:
            await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(act, VICTIM)
        result.kills += act == cluster.kill_signer


async def load(cluster: ProcessCluster, result: Result, progress: Progress) -> None:
    key = Ed25519PublicKey.from_public_bytes(cluster.dealt.group_public)
    bar = progress.add_task("signatures", total=result.requests)
    numbers = iter(range(result.requests))
    connector = aiohttp.UnixConnector(path=str(cluster.socket), limit=result.in_flight)
    timeout = aiohttp.ClientTimeout(total=None)
    started = time.perf_counter()
    headers = {PROGRAM_HEADER: PROGRAM_VALUE}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as http:

        async def worker() -> None:
            for number in numbers:
                await ask(http, number, key, result)
                progress.update(bar, completed=result.done)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disturb, cluster, result)
            for _ in range(result.in_flight):
                tasks.start_soon(worker)
    result.seconds = time.perf_counter() - started


def audit(cluster: ProcessCluster, result: Result) -> None:
    """The log must verify, and its signed records must be the answers, no more and no less."""
    report = audit_worm.verify(cluster.audit_log)
    result.audit_records = report.records
    result.audit_fault = str(report.fault) if report.fault else None
    records = [json.loads(each.body)["record"] for each in audit_worm.read(cluster.audit_log)]
    signed = [(each["request_id"], each["signature_sha256"]) for each in records if each["outcome"] == "signed"]
    result.audit_agrees = sorted(signed) == sorted(result.signed.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    result = Result(arguments.requests, arguments.in_flight)
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="frost-") as folder, ProcessCluster(Path(folder)) as cluster:
        cluster.start()
        with Progress(console=console) as progress:
            uvloop.run(load(cluster, result, progress))
        status = cluster.stop_sidecar()
        audit(cluster, result)
    report = result.report()
    if arguments.json:
        print(json.dumps(report))
    else:
        table = Table("figure", "value")
        for name, value in report.items():
            table.add_row(name, str(value))
        Console().print(table)
    sys.exit(0 if result.good and status == 0 else 1)


if __name__ == "__main__":
    main()
