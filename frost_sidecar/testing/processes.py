"""A cluster of real processes on loopback: signers behind mTLS, a sidecar on a Unix socket, an authority of its own.

Used by the demo, by tests and by benchmarks. Everything lives in one folder and ends with the object::

    with ProcessCluster(Path(folder)) as cluster:
        cluster.start()
        ...  # requests to cluster.socket
        cluster.kill_signer(2)
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from frost_sidecar.keygen.dealer import Dealt, deal
from frost_sidecar.model import TlsFiles
from frost_sidecar.testing.authority import Authority

HONEST = ("-m", "frost_sidecar", "signer")
"""Python arguments of an honest signer."""
LYING = ("-m", "frost_sidecar.testing.lying_signer")
"""Python arguments of a signer whose shares are wrong."""

TOGETHER = "signers"
"""Name of the process that has all signers in it."""
COORDINATOR_NAME = "coordinator.frost.test"
"""The name in every coordinator's certificate, which the signers let in."""

EVERYTHING = """
[callers.everybody]
in_process = true
unix = {}
tcp = {}

[[grants]]
caller = "everybody"
opaque = true
"""
"""Whoever can call may have any bytes signed."""

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class ClusterError(Exception):
    """A process of the cluster did not start or end as it should; the message has the end of its log."""


@dataclass
class ProcessCluster:
    """``min_signers`` of ``max_signers``, one zone after the other. Every process is a child of this one."""

    folder: Path
    min_signers: int = 2
    max_signers: int = 3
    zones: tuple[str, ...] = ("ad-1", "ad-2", "ad-3")
    signing: Mapping[str, float] = field(default_factory=dict)
    """Settings of the coordinator's section ``[signing]``."""
    grants: str = EVERYTHING
    """Callers, grants and policies of the coordinator, as TOML tables."""
    signer_rules: str = ""
    """What signers sign at all: TOML tables ``[policies.NAME]`` at the end of their configuration."""
    signer_policy: str | None = None
    """The one of them that holds for the key; None: any bytes are signed."""

    def __post_init__(self) -> None:
        """Make keys, certificates, secrets and configuration files; start nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket = self.folder / "sign.sock"
        self.audit_log = self.folder / "audit.log"
        self.coordinator_toml = self.folder / "frost-sidecar.toml"
        self.identifiers = range(1, self.max_signers + 1)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = _free_ports(2 * self.max_signers)
        self.authority = Authority(self.folder / "tls")
        self.dealt: Dealt = deal(self.folder / "keys", min_signers=self.min_signers, max_signers=self.max_signers)
        self.token_secret = self.folder / "jwt_hs256_b64"
        _write(self.token_secret, base64.b64encode(secrets.token_bytes(32)).decode(), 0o600)
        for identifier in self.identifiers:
            _write(self.signer_toml(identifier), self._signer_config(identifier), 0o644)
        self.write_coordinator(self.coordinator_toml, self.audit_log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all signers and the sidecar, and wait until each answers."""
        self.start_signers()
        self.start_sidecar()

    def start_signers(self) -> None:
        """Start all signers, each a process, and wait until each answers."""
        for identifier in self.identifiers:
            self._spawn(f"signer-{identifier}", (*HONEST, "--config", str(self.signer_toml(identifier))))
        for identifier in self.identifiers:
            self._await_signer(identifier)

    def start_signers_together(self) -> None:
        """Start all signers in one process, for groups so large that a process each would be too many; and wait."""
        files = [str(self.signer_toml(identifier)) for identifier in self.identifiers]
        self._spawn(TOGETHER, ("-m", "frost_sidecar.testing.signers_together", *files))
        for identifier in self.identifiers:
            self._await_signer(identifier, TOGETHER)

    def stop(self) -> None:
        """End every process that still runs, the signers last."""
        for name in sorted(self._processes, key=lambda each: each.startswith("signer")):
            self._end(name, signal.SIGTERM)

    def start_signer(self, identifier: int, arguments: tuple[str, ...] = HONEST) -> None:
        """Start one signer, honest unless ``arguments`` say otherwise, and wait until it answers."""
        self._spawn(f"signer-{identifier}", (*arguments, "--config", str(self.signer_toml(identifier))))
        self._await_signer(identifier)

    def stop_signer(self, identifier: int) -> None:
        """Ask one signer to end."""
        self._end(f"signer-{identifier}", signal.SIGTERM)

    def kill_signer(self, identifier: int) -> None:
        """End one signer without warning."""
        self._end(f"signer-{identifier}", signal.SIGKILL)

    def pause_signer(self, identifier: int) -> None:
        """Have one signer stand still (SIGSTOP): its connections stay open, and nothing answers."""
        self._processes[f"signer-{identifier}"].send_signal(signal.SIGSTOP)

    def resume_signer(self, identifier: int) -> None:
        """Have a paused signer go on where it stood."""
        self._processes[f"signer-{identifier}"].send_signal(signal.SIGCONT)

    def start_sidecar(self) -> None:
        """Start the sidecar and wait until it answers."""
        arguments = ("-m", "frost_sidecar", "serve", "--config", str(self.coordinator_toml))
        self.start_process("sidecar", (sys.executable, *arguments), self.socket)

    def stop_sidecar(self) -> int:
        """Ask the sidecar to end; its exit status."""
        return self.stop_process("sidecar")

    def start_process(self, name: str, command: Sequence[str], socket: Path) -> None:
        """Start a further process of the cluster, one that serves HTTP on ``socket``, and wait until it answers."""
        self._run(name, command)
        self._await(name, lambda: UnixConnection(socket))

    def stop_process(self, name: str) -> int:
        """Ask such a process to end; its exit status."""
        return self._end(name, signal.SIGTERM)

    def pid(self, name: str) -> int:
        """Process id of ``sidecar``, ``signer-I``, or what :meth:`start_process` started."""
        return self._processes[name].pid

    def log(self, name: str) -> Path:
        """The file with a process's output."""
        return self.folder / f"{name}.log"

    def signer_port(self, identifier: int) -> int:
        """The signer's mTLS port."""
        return self._ports[identifier - 1]

    def metrics_port(self, identifier: int) -> int:
        """The port of the signer's internal listener for health and metrics."""
        return self._ports[self.max_signers + identifier - 1]

    def write_coordinator(
        self,
        path: Path,
        audit_log: Path | None,
        grants: str | None = None,
        *,
        socket: Path | None = None,
        ports: Sequence[int] | None = None,
        settings: str = "",
    ) -> None:
        """Write a coordinator's configuration; two coordinators at once need an audit log and a socket each.

        Args:
            path: the file, which names its certificate, too.
            audit_log: its audit log; None: it keeps none.
            grants: other ones than the cluster's.
            socket: another one than the cluster's.
            ports: where the signers are reached, in their order; by default at their own ports.
            settings: further lines at the head of the file.
        """
        tls = self.authority.issue(path.stem, [COORDINATOR_NAME])
        ports = self._ports if ports is None else ports
        head = [
            f"state = {_quote(self.dealt.group_file.parent)}",
            f"server.socket = {_quote(socket or self.socket)}",
            *(f"signing.{name} = {value}" for name, value in self.signing.items()),
            "plugins.transport_mtls = {}",
            f"plugins.auth_hs256.secret_file = {_quote(self.token_secret)}",
            *([] if audit_log is None else [f"plugins.audit_worm.path = {_quote(audit_log)}"]),
            settings,
        ]
        signers = "".join(
            f"[[signers]]\nidentifier = {identifier}\n"
            f"url = {_quote(f'https://127.0.0.1:{ports[identifier - 1]}')}\n"
            f"server_name = {_quote(self.server_name(identifier))}\n"
            f"zone = {_quote(self.zones[(identifier - 1) % len(self.zones)])}\n\n"
            for identifier in self.identifiers
        )
        grants = self.grants if grants is None else grants
        _write(path, "\n".join(head) + "\n\n" + _tls_section(tls) + signers + grants, 0o644)

    def server_name(self, identifier: int) -> str:
        """The name in the signer's certificate."""
        return f"signer-{identifier}.frost.test"

    def signer_toml(self, identifier: int) -> Path:
        """The signer's configuration file."""
        return self.folder / f"signer-{identifier}.toml"

    def _signer_config(self, identifier: int) -> str:
        tls = self.authority.issue(f"signer-{identifier}", [self.server_name(identifier)])
        share = self.dealt.share_files[identifier]
        policy = "" if self.signer_policy is None else f"keys.default.policy = {_quote(self.signer_policy)}\n"
        return (
            f"name = {_quote(f'signer-{identifier}')}\n"
            f"bind = {_quote(f'127.0.0.1:{self.signer_port(identifier)}')}\n"
            f"metrics_bind = {_quote(f'127.0.0.1:{self.metrics_port(identifier)}')}\n"
            f"state = {_quote(share.parent)}\n"
            f"keys.default.share = {_quote(share.name)}\n"
            f'clients.names = ["DNS:{COORDINATOR_NAME}"]\n'
            f"{policy}"
            f"plugins.auth_hs256.secret_file = {_quote(self.token_secret)}\n" + _tls_section(tls) + self.signer_rules
        )

    def _spawn(self, name: str, arguments: tuple[str, ...]) -> None:
        self._run(name, (sys.executable, *arguments))

    def _run(self, name: str, command: Sequence[str]) -> None:
        with self.log(name).open("ab") as output:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - the caller's own programs
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment()
            )

    def _await_signer(self, identifier: int, process: str | None = None) -> None:
        port = self.metrics_port(identifier)
        self._await(process or f"signer-{identifier}", lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=1))

    def _await(self, name: str, connect: Callable[[], http.client.HTTPConnection]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._processes[name].poll() is not None:
                break
            connection = connect()
            try:
                connection.request("GET", "/healthz")
                if connection.getresponse().read() == b"ok":
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
            finally:
                connection.close()
        tail = self.log(name).read_text("utf-8", "replace")[-2000:]
        raise ClusterError(f"{name} did not come up; the end of its log:\n{tail}")

    def _end(self, name: str, number: signal.Signals) -> int:
        process = self._processes[name]
        if process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a paused one takes it only then
        try:
            return process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise ClusterError(f"{name} did not end within {_STOP_SECONDS:g} s of signal {number}") from None


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the Unix socket ``path``, blocking; 1 s for each step."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=1)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def _free_ports(count: int) -> list[int]:
    """Ports that are free now. All are held at once, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _environment() -> dict[str, str]:
    """Our environment without what would change a process's configuration."""
    ours = ("FROST_", "TLS_", "JWT_", "LOG_LEVEL", "RUST_LOG", "BIND")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _quote(value: object) -> str:
    """A TOML basic string; JSON's escapes are a subset of its."""
    return json.dumps(str(value))


def _tls_section(files: TlsFiles) -> str:
    return f"[tls]\ncert = {_quote(files.cert)}\nkey = {_quote(files.key)}\nca = {_quote(files.ca)}\n\n"


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
