"""Real processes under load: signing all the while, waiting for what they do, and doing something again and again."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nacl.exceptions
import nacl.signing

from frost_sidecar.testing.processes import ProcessCluster

MESSAGE = b"header.payload"


@dataclass
class Load:
    """Requests to sign, one after the other in each of a few threads."""

    socket: Path
    group_public: bytes
    signed: int = 0
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def made(self, count: int) -> bool:
        """Whether there are ``count`` signatures; fails with the first failure."""
        assert self.failures == []
        return self.signed >= count

    def run(self, pause: float) -> None:
        key = nacl.signing.VerifyKey(self.group_public)
        while not self.stop.wait(pause):
            try:
                status, answer = post(self.socket)
                if status != 200:
                    self.failures.append(f"{status} {answer}")
                    continue
                key.verify(MESSAGE, b64decode(answer["signature_b64"]))
                self.signed += 1
            except (OSError, http.client.HTTPException, nacl.exceptions.BadSignatureError) as error:
                self.failures.append(repr(error))


@contextlib.contextmanager
def load(cluster: ProcessCluster, *, threads: int = 2, pause: float = 0.02) -> Iterator[Load]:
    """Signing all the time while the block runs; every failure is kept."""
    load = Load(cluster.socket, cluster.dealt.group_public)
    workers = [threading.Thread(target=load.run, args=(pause,), daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield load
    finally:
        load.stop.set()
        for worker in workers:
            worker.join(30)


@contextlib.contextmanager
def every(seconds: float, action: Callable[[], object]) -> Iterator[None]:
    """Do ``action`` again and again in a thread while the block runs; its failure is raised at the end."""
    stop, failures = threading.Event(), []

    def run() -> None:
        while not stop.wait(seconds):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - raised below, in the test's own thread
                failures.append(error)
                return

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join(30)
    if failures:
        raise failures[0]


def post(path: Path, *participants: int) -> tuple[int, dict[str, Any]]:
    """Ask the sidecar for one signature, of ``participants`` alone where there are any."""
    connection = unix_connection(path)
    try:
        body = json.dumps({"msg_b64": b64encode(MESSAGE).decode(), "participants": participants or None})
        connection.request("POST", "/sign", body, {"X-Frost-Sidecar": "1"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def unix_connection(path: Path) -> http.client.HTTPConnection:
    """HTTP over a Unix socket."""
    connection = http.client.HTTPConnection("sidecar", timeout=15)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(15)
    try:
        connection.sock.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection


def metric(connection: http.client.HTTPConnection, name: str) -> float | None:
    """The value of a metric, named with its labels and the blank behind; closes the connection."""
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    values = [float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)]
    return values[0] if values else None


def until(condition: Callable[[], bool], what: str, *, seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)
