"""A real cluster whose secrets are changed while it signs: signers and sidecar are processes, each with a file."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import re
import secrets
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from frost_sidecar.testing.processes import ClusterError, ProcessCluster

MESSAGE = base64.b64encode(b"header.payload").decode()
PAIRS = ([1, 2], [2, 3], [1, 3])
SIGNERS = ("signer-1", "signer-2", "signer-3")
CHANGED = "the secret was replaced"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("sidecar", timeout=15)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self.path))


@dataclass
class Cluster:
    """2 of 3, each process with a file of its own for the one secret, as in so many pods."""

    processes: ProcessCluster
    previous_seconds: int

    def __post_init__(self) -> None:
        first = (self.processes.folder / "jwt_hs256_b64").read_text()
        for name in ("sidecar", *SIGNERS):
            self.put(name, first)
            toml = self.processes.coordinator_toml if name == "sidecar" else self.processes.folder / f"{name}.toml"
            ours = f"plugins.auth_hs256.secret_file = {json.dumps(str(self.file(name)))}"
            ours += f"\nplugins.auth_hs256.previous_seconds = {self.previous_seconds}"
            text, count = re.subn(
                r"^plugins\.auth_hs256\.secret_file = .*$", ours, toml.read_text(), flags=re.MULTILINE
            )
            assert count == 1
            toml.write_text(text)
        self.processes.start()

    def file(self, name: str) -> Path:
        return self.processes.folder / f"{name}.b64"

    def put(self, name: str, text: str) -> None:
        beside = self.file(name).with_suffix(".new")
        beside.write_text(text)
        beside.chmod(0o600)
        beside.replace(self.file(name))

    def events(self, name: str) -> list[str]:
        lines = self.processes.log(name).read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def sign(self, number: int = 0) -> tuple[int, dict[str, Any]]:
        """Asked of two signers by turns, so that no third one stands in for one that refuses."""
        body = json.dumps({"msg_b64": MESSAGE, "participants": PAIRS[number % 3]})
        connection = UnixConnection(self.processes.socket)
        try:
            connection.request("POST", "/sign", body, {"X-Frost-Sidecar": "1"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def refused_tokens(self) -> float:
        """How many tokens the signers have refused since their start."""
        total = 0.0
        for identifier in self.processes.identifiers:
            connection = http.client.HTTPConnection("127.0.0.1", self.processes.metrics_port(identifier), timeout=5)
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
            connection.close()
            found = re.findall(r'^frost_signer_refusals_total\{reason="token-[a-z-]+"\} (\S+)$', metrics, re.MULTILINE)
            total += sum(map(float, found))
        return total


@contextmanager
def cluster(*, previous_seconds: int) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as processes:
        yield Cluster(processes, previous_seconds)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Load:
    """Signs from several threads without a pause, and counts how it went."""

    cluster: Cluster
    answers: Counter[int] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def go_on(self) -> None:
        """Wait for some more answers, all of them signatures."""
        enough = self.answers[200] + 20
        wait_for(lambda: self.answers[200] >= enough or bool(self.problems))
        assert self.problems == []

    @contextmanager
    def running(self) -> Iterator[None]:
        over = threading.Event()

        def run() -> None:
            for number in itertools.count():
                if over.is_set():
                    return
                status, answer = self.cluster.sign(number)
                self.answers[status] += 1
                if status != 200:
                    self.problems.append(answer)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            over.set()
            for each in threads:
                each.join()


def test_no_signature_fails_while_the_secret_is_changed_signers_first() -> None:
    new = base64.b64encode(secrets.token_bytes(32)).decode()
    with cluster(previous_seconds=60) as running:
        load = Load(running)
        with load.running():
            load.go_on()
            for name in SIGNERS:
                if name == "signer-2":
                    running.file(name).write_text(new)  # in place
                else:
                    running.put(name, new)
                wait_for(lambda name=name: CHANGED in running.events(name))  # type: ignore[misc]
            assert CHANGED not in running.events("sidecar")
            load.go_on()
            running.put("sidecar", new)
            wait_for(lambda: CHANGED in running.events("sidecar"))
            load.go_on()
        assert load.problems == []
        assert set(load.answers) == {200}
        assert running.refused_tokens() == 0
        for name in ("sidecar", *SIGNERS):
            assert running.events(name).count(CHANGED) == 1
            assert new not in running.processes.log(name).read_text()


def test_the_old_secret_is_refused_where_none_before_the_newest_is_accepted() -> None:
    new = base64.b64encode(secrets.token_bytes(32)).decode()
    with cluster(previous_seconds=0) as running:
        assert running.sign()[0] == 200
        for name in SIGNERS:
            running.put(name, new)
        wait_for(lambda: running.sign()[0] == 503)
        assert "refused" in running.sign()[1]["detail"]
        assert running.refused_tokens() > 0
        running.put("sidecar", new)
        wait_for(lambda: running.sign()[0] == 200)


def test_a_broken_file_stops_nothing() -> None:
    with cluster(previous_seconds=0) as running:
        assert running.sign()[0] == 200
        running.put("sidecar", "")
        running.file("signer-1").unlink()
        running.put("signer-2", base64.b64encode(b"a" * 32).decode())
        running.file("signer-3").chmod(0o644)

        def reported() -> bool:
            assert [running.sign(number)[0] for number in range(3)] == [200, 200, 200]
            return all(
                any("cannot be used" in event for event in running.events(name)) for name in ("sidecar", *SIGNERS)
            )

        wait_for(reported)
        assert running.refused_tokens() == 0


def test_a_signer_process_does_not_start_with_undated_tokens() -> None:
    with cluster(previous_seconds=0) as running:
        toml = running.processes.folder / "signer-1.toml"
        toml.write_text(f"plugins.auth_hs256.accept_undated = true\n{toml.read_text()}")
        running.processes.stop_signer(1)
        with pytest.raises(ClusterError, match=r"accept_undated: a signer takes only"):
            running.processes.start_signer(1)
