"""The runbooks of docs/rotating-token-keys.md: their commands as they stand there, on real processes under load."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from frost_sidecar_auth_eddsa_jwks.__main__ import main

from frost_sidecar.blocking import SidecarClient
from frost_sidecar.errors import FrostSidecarError, NoQuorum
from frost_sidecar.testing.processes import ProcessCluster

PAGE = Path(__file__).parents[3] / "docs" / "rotating-token-keys.md"
OLD, NEW = "2026-01-01.pem", "2026-11-22.pem"
_BLOCK = re.compile(r"^ *```sh (?P<role>coordinator|signer)\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def steps(title: str) -> dict[int, list[tuple[str, str]]]:
    """The commands of each step of a runbook, with the role of the machine that they are for."""
    [section] = [each for each in PAGE.read_text().split("\n## ") if each.startswith(f"{title}\n")]
    pieces = re.split(r"^(\d)\. ", section, flags=re.MULTILINE)
    return {
        int(number): [(found["role"], found["code"]) for found in _BLOCK.finditer(text)]
        for number, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 45
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Fleet:
    """2 of 3 as processes, started with the given tables of plugins; the runbooks' variables name its files."""

    cluster: ProcessCluster
    coordinator: str | None
    signer: str | None
    signatures: int = 0
    failures: list[str] = field(default_factory=list)
    refused_before_restarts: float = 0

    def __post_init__(self) -> None:
        self.work = self.cluster.folder / "work"
        self.work.mkdir()
        for name, table in (("sidecar", self.coordinator), *((name, self.signer) for name in self.signers)):
            self.replace_plugin(name, table)

    @property
    def signers(self) -> list[str]:
        return [f"signer-{identifier}" for identifier in self.cluster.identifiers]

    def config(self, name: str) -> Path:
        return self.cluster.coordinator_toml if name == "sidecar" else self.cluster.folder / f"{name}.toml"

    def replace_plugin(self, name: str, table: str | None) -> None:
        """From the one line of ``auth_hs256`` to a table, that plugin's own or another's."""
        text, path = self.config(name).read_text(), self.config(name)
        found = re.search(r"^plugins\.auth_hs256\.(secret_file = .*)\n", text, re.MULTILINE)
        assert found
        table = f"[plugins.auth_hs256]\n{found[1]}\n" if table is None else table
        path.write_text(f"{text.replace(found[0], '')}\n{table.format(**self.variables(name))}\n")

    def variables(self, name: str) -> dict[str, str]:
        folder = self.cluster.folder
        own = {"KEYS": folder / "keys.d", "JWKS_OUT": folder / "out.json", "JWKS_FILE": folder / f"{name}.jwks"}
        return {**{each: str(path) for each, path in own.items()}, "CONFIG": str(self.config(name))}

    def path(self, variable: str, name: str = "sidecar") -> Path:
        return Path(self.variables(name)[variable])

    def do(self, blocks: list[tuple[str, str]]) -> None:
        """Run one step's commands: the coordinator's once, the signers' at each of them, one after the other."""
        assert blocks
        for role, code in blocks:
            for name in ["sidecar"] if role == "coordinator" else self.signers:
                for part in re.split(r"^( *systemctl restart \S+\n)", code, flags=re.MULTILINE):
                    if "systemctl" in part:
                        assert part.split()[-1] == ("frost-sidecar" if role == "coordinator" else "frost-signer")
                        self.restart(name)
                    else:
                        self.shell(name, part)

    def shell(self, name: str, code: str) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, **self.variables(name)}
        subprocess.run(["sh", "-euc", code], cwd=self.work, env=environment, check=True, timeout=60)

    def restart(self, name: str) -> None:
        if name == "sidecar":
            assert self.cluster.stop_sidecar() == 0
            self.cluster.start_sidecar()
            return
        identifier = int(name.removeprefix("signer-"))
        self.refused_before_restarts += self.refused(identifier)
        self.cluster.stop_signer(identifier)
        self.cluster.start_signer(identifier)

    def refused(self, identifier: int) -> float:
        """How many tokens a signer has refused since its start."""
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.metrics_port(identifier), timeout=5)
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read().decode()
        connection.close()
        found = re.findall(r'^frost_signer_refusals_total\{reason="token-[a-z-]+"\} (\S+)$', metrics, re.MULTILINE)
        return sum(map(float, found))

    @property
    def all_refused(self) -> float:
        return self.refused_before_restarts + sum(map(self.refused, self.cluster.identifiers))

    def events(self, name: str, event: str) -> list[dict[str, Any]]:
        lines = self.cluster.log(name).read_text().splitlines()
        return [each for line in lines if line.startswith("{") and (each := json.loads(line))["event"] == event]

    @contextmanager
    def signing(self) -> Iterator[None]:
        """Ask for signatures without a pause, as a mint does, and check at the end that all were given."""
        over = threading.Event()

        def run() -> None:
            with SidecarClient(self.cluster.socket, timeout=60, attempts=1000) as client:
                while not over.is_set():
                    try:
                        client.sign(b"header.payload")
                        self.signatures += 1
                    except FrostSidecarError as error:
                        self.failures.append(repr(error))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            self.go_on()
            yield
            self.go_on()
        finally:
            over.set()
            for each in threads:
                each.join()
        assert self.failures == []
        assert self.all_refused == 0

    def go_on(self) -> None:
        enough = self.signatures + 20
        wait_for(lambda: self.signatures >= enough or bool(self.failures))
        assert self.failures == []

    def published(self) -> list[str]:
        return [key["kid"] for key in json.loads(self.path("JWKS_OUT").read_text())["keys"]]


@contextmanager
def fleet(coordinator: str | None, signer: str | None) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as cluster:
        yield Fleet(cluster, coordinator, signer)


def keygen(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    assert main(["keygen", str(path)]) == 0
    return capsys.readouterr().out.strip()


COORDINATOR = """[plugins.auth_eddsa_jwks]
key_dir = "{KEYS}"
jwks_out = "{JWKS_OUT}"
publish_seconds = 8
retired_seconds = 4
"""


def test_a_key_that_signers_do_not_have_is_refused_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """What the runbooks avoid: it would show in their tests."""
    hasty = COORDINATOR.replace("publish_seconds = 8", "publish_seconds = 0")
    with fleet(hasty, '[plugins.auth_eddsa_jwks]\njwks_file = "{JWKS_FILE}"\n') as running:
        keygen(running.path("KEYS") / OLD, capsys)
        assert main(["jwks", str(running.path("KEYS"))]) == 0
        first = capsys.readouterr().out
        for name in running.signers:
            running.path("JWKS_FILE", name).write_text(first)
        running.cluster.start()
        with SidecarClient(running.cluster.socket, attempts=1) as client:
            client.sign(b"header.payload")
            new = keygen(running.path("KEYS") / NEW, capsys)
            wait_for(lambda: new in running.published())
            with pytest.raises(NoQuorum, match="refused"):
                client.sign(b"header.payload")
            assert running.all_refused > 0
            running.do(steps("Rotate the coordinator's key")[2])
            for name in running.signers:
                wait_for(lambda name=name: new in str(running.events(name, "keys taken over")))  # type: ignore[misc]
            client.sign(b"header.payload")


def test_rotate_the_coordinators_key(capsys: pytest.CaptureFixture[str]) -> None:
    step = steps("Rotate the coordinator's key")
    with fleet(COORDINATOR, '[plugins.auth_eddsa_jwks]\njwks_file = "{JWKS_FILE}"\n') as running:
        old = keygen(running.path("KEYS") / OLD, capsys)
        assert main(["jwks", str(running.path("KEYS"))]) == 0
        first = capsys.readouterr().out
        for name in running.signers:
            running.path("JWKS_FILE", name).write_text(first)
        running.cluster.start()
        with running.signing():
            running.do(step[1])
            wait_for(lambda: len(running.published()) == 2)
            new = running.published()[0]
            assert [each["kid"] for each in running.events("sidecar", "another key signs")] == [old]
            running.do(step[2])
            for name in running.signers:
                wait_for(lambda name=name: new in str(running.events(name, "keys taken over")))  # type: ignore[misc]
            assert len(running.events("sidecar", "another key signs")) == 1
            assert step[3] == []
            wait_for(lambda: running.events("sidecar", "another key signs")[-1]["kid"] == new)
            running.go_on()
            running.do(step[4])
            wait_for(lambda: any("exp" in key for key in json.loads(running.path("JWKS_OUT").read_text())["keys"]))
            assert running.published() == [new, old]
            wait_for(lambda: running.published() == [new])
            running.do(step[5])
            for name in running.signers:
                wait_for(lambda name=name: running.events(name, "keys taken over")[-1]["kids"] == [new])  # type: ignore[misc]
        assert sorted(step) == [1, 2, 3, 4, 5]
        for name in ("sidecar", *running.signers):
            assert "PRIVATE KEY" not in running.cluster.log(name).read_text()


@contextmanager
def web_server(running: Fleet) -> Iterator[str]:
    """Any web server with https, in front of the published file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = running.path("JWKS_OUT").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    files = running.cluster.authority.issue("web", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}/jwks.json"
        finally:
            server.shutdown()
            thread.join()


def test_rotate_through_a_jwks_url(capsys: pytest.CaptureFixture[str]) -> None:
    step = steps("Rotate through a JWKS URL")
    with fleet(COORDINATOR, None) as running, web_server(running) as url:
        for name in running.signers:
            text = running.config(name).read_text()
            table = f'[plugins.auth_eddsa_jwks]\njwks_url = "{url}"\nrefresh_seconds = 2\nmin_refresh_seconds = 1\n'
            running.config(name).write_text(text[: text.index("[plugins.auth_hs256]")] + table)
        old = keygen(running.path("KEYS") / OLD, capsys)
        assert main(["jwks", str(running.path("KEYS"))]) == 0
        running.path("JWKS_OUT").write_text(capsys.readouterr().out)
        running.cluster.start()
        with running.signing():
            running.do(step[1])
            wait_for(lambda: len(running.published()) == 2)
            new = running.published()[0]
            assert step[2] == []
            for name in running.signers:
                wait_for(lambda name=name: new in str(running.events(name, "keys taken over")))  # type: ignore[misc]
            assert [each["kid"] for each in running.events("sidecar", "another key signs")] == [old]
            wait_for(lambda: running.events("sidecar", "another key signs")[-1]["kid"] == new)
            running.go_on()
            running.do(step[3])
            for name in running.signers:
                wait_for(lambda name=name: running.events(name, "keys taken over")[-1]["kids"] == [new])  # type: ignore[misc]
        assert sorted(step) == [1, 2, 3]


def test_move_a_fleet_from_hs256_to_eddsa() -> None:
    step = steps("Move a fleet from HS256 to EdDSA")
    with fleet(None, None) as running:
        running.cluster.start()
        with running.signing():
            running.do(step[1])
            running.do(step[2])
            running.go_on()
            assert running.events("sidecar", "another key signs") == []
            running.do(step[3])
            running.go_on()
            [kid] = running.published()
            assert [each["kid"] for each in running.events("sidecar", "another key signs")] == [kid]
            running.do(step[4])
        assert sorted(step) == [1, 2, 3, 4, 5]
        assert step[5] == []
        for name in ("sidecar", *running.signers):
            assert "hs256" not in running.config(name).read_text()


@pytest.mark.parametrize("step", [3, 4])
def test_the_move_takes_one_table_out_of_a_configuration_and_no_other(step: int, tmp_path: Path) -> None:
    """However the file is laid out."""
    [command] = {
        line for _, code in steps("Move a fleet from HS256 to EdDSA")[step] for line in re.findall("sed .*", code)
    }
    kept = "[plugins.transport_mtls]\n", '[plugins.audit_worm]\npath = "audit.log"\n\n[log]\nlevel = "info"\n'
    for table in ('secret_file = "s"\n', '\n# the secret\n\nsecret_file = "s"\n\n'):
        config = tmp_path / "config.toml"
        config.write_text(f"{kept[0]}[plugins.auth_hs256]\n{table}{kept[1]}")
        subprocess.run(["sh", "-euc", command], env={**os.environ, "CONFIG": str(config)}, check=True, timeout=10)
        assert config.read_text() == "".join(kept)
