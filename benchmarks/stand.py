"""Where everything is measured: signer processes on loopback, and coordinators of both kinds in front of them."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from benchmarks import rust_tools
from benchmarks.usage import cpu_seconds
from frost_sidecar.encoding import b64encode
from frost_sidecar.testing.processes import COORDINATOR_NAME, ProcessCluster, UnixConnection

MOST_IN_FLIGHT: Final = 1024
_SIGNING: Final = {"max_in_flight": MOST_IN_FLIGHT}
_HEALTHY_SECONDS: Final = 60.0
_SIGNED: Final = re.compile(rb"^frost_coordinator_signs_total ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Server:
    """A coordinator that serves ``POST /sign`` on its socket."""

    name: str
    socket: Path
    pid: int


class Stand:
    """``min_signers`` of ``max_signers`` over three zones. A context manager, which ends all processes."""

    def __init__(
        self, folder: Path, min_signers: int = 2, max_signers: int = 3, *, together: bool = False, **signing: float
    ) -> None:
        """``together``: all signers in one process. ``signing``: further settings of that section."""
        self.cluster = ProcessCluster(folder, min_signers, max_signers, signing={**_SIGNING, **signing})
        self.public = b64encode(self.cluster.dealt.group_public)
        self._together = together

    def __enter__(self) -> Self:
        try:
            if self._together:
                self.cluster.start_signers_together()
            else:
                self.cluster.start_signers()
        except BaseException:
            self.cluster.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.stop()

    @property
    def ports(self) -> list[int]:
        """Where the signers listen."""
        return [self.cluster.signer_port(identifier) for identifier in self.cluster.identifiers]

    def configuration(self, name: str, *, audit: bool = True, ports: Sequence[int] | None = None) -> Path:
        """A coordinator's configuration: a client of its own to the signers, with a socket and perhaps an audit log."""
        path = self.cluster.folder / f"{name}.toml"
        log = self.cluster.folder / f"{name}-audit.log" if audit else None
        subject = f'token.subject = "bench-{name}"'
        self.cluster.write_coordinator(path, log, socket=self._socket(name), ports=ports, settings=subject)
        return path

    def sidecar(self, name: str, *, audit: bool = True, ports: Sequence[int] | None = None) -> Server:
        """Start ours."""
        path = self.configuration(name, audit=audit, ports=ports)
        return self._start(name, [sys.executable, "-m", "frost_sidecar", "serve", "--config", str(path)])

    def opponent(self, name: str, *, ports: Sequence[int] | None = None) -> Server:
        """Start the Rust coordinator with two rounds."""
        cluster = self.cluster
        tls = cluster.authority.issue(name, [COORDINATOR_NAME])
        command: list[object] = [rust_tools.BUILT / "two-round", "--socket", self._socket(name)]
        command += ["--group", cluster.dealt.group_file, "--cert", tls.cert, "--key", tls.key, "--ca", tls.ca]
        command += ["--hs256-b64-file", cluster.token_secret, "--subject", f"bench-{name}"]
        command += ["--min-signers", cluster.min_signers]
        for identifier, port in zip(cluster.identifiers, ports or self.ports, strict=True):
            url = f"https://127.0.0.1:{port}"
            command += ["--signer", f"{identifier}={url}={cluster.server_name(identifier)}=signer-{identifier}"]
        return self._start(name, [str(each) for each in command])

    def _socket(self, name: str) -> Path:
        return self.cluster.folder / f"{name}.sock"

    def _start(self, name: str, command: Sequence[str]) -> Server:
        self.cluster.start_process(name, command, self._socket(name))
        return Server(name, self._socket(name), self.cluster.pid(name))

    def end(self, *servers: Server) -> None:
        """End coordinators that are not needed any more."""
        for server in servers:
            self.cluster.stop_process(server.name)

    @property
    def signer_pids(self) -> list[int]:
        names = ["signers"] if self._together else [f"signer-{each}" for each in self.cluster.identifiers]
        return [self.cluster.pid(name) for name in names]

    def phase(self, server: Server, in_flight: int, seconds: float, warm_up: float) -> dict[str, Any]:
        """Load ``server`` for ``seconds``, after ``warm_up``; throughput, latency, failures, and CPU per signature."""
        if warm_up:
            rust_tools.load(server.socket, in_flight, warm_up, self.public)
        before = cpu_seconds([server.pid]), cpu_seconds(self.signer_pids)
        load = rust_tools.load(server.socket, in_flight, seconds, self.public)
        after = cpu_seconds([server.pid]), cpu_seconds(self.signer_pids)
        if not load.ok:
            raise rust_tools.ToolError(f"{server.name} signed nothing within {seconds:g} s: {dict(load.errors)}")
        own, signers = (round((end - begin) * 1e6 / load.answered, 1) for begin, end in zip(before, after, strict=True))
        return {
            "server": server.name,
            "in_flight": in_flight,
            "signatures": load.ok,
            "signatures_per_second": load.throughput,
            "latency_ms": dict(load.latency_ms),
            "failed": load.failed,
            "errors": dict(load.errors),
            "cpu_us_per_signature": {"coordinator": own, "all_signers": signers, "load": load.cpu_us},
        }

    def signatures(self, server: Server) -> int:
        """How many signatures one of ours has made so far, by its own count."""
        found = _SIGNED.search(_get(server.socket, "/metrics"))
        return int(float(found[1])) if found else 0

    def await_health(self, server: Server) -> None:
        """Load one of ours lightly until it takes every signer for healthy; raises ``ToolError`` if it never does."""
        deadline = time.monotonic() + _HEALTHY_SECONDS
        while time.monotonic() < deadline:
            rust_tools.load(server.socket, 8, 0.5, self.public)
            states = [each["state"] for each in json.loads(_get(server.socket, "/readyz"))["signers"]]
            if all(state == "healthy" for state in states):
                return
        raise rust_tools.ToolError(f"not all signers are healthy after {_HEALTHY_SECONDS:g} s: {states}")


def _get(socket: Path, path: str) -> bytes:
    connection = UnixConnection(socket)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except http.client.HTTPException as error:
        raise rust_tools.ToolError(f"no answer from {socket.name}: {error}") from None
    finally:
        connection.close()
