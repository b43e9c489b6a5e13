"""The programs of benchmarks/rust_two_round: the opponent, and what loads, delays and measures."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

PACKAGE: Final = Path(__file__).parent / "rust_two_round"
BUILT: Final = PACKAGE / "target" / "release"
_SLACK_SECONDS: Final = 60.0
"""How much longer than asked a program may take before it counts as hanging."""
_START_SECONDS: Final = 10.0


class ToolError(Exception):
    """A program failed; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop against a coordinator's socket, and what came of it."""

    ok: int
    """Answers with a verified signature within the time, which is what throughput counts."""
    answered: int
    """The same and those that came after its end: what CPU time went to."""
    failed: int
    """Other answers, and requests without one."""
    errors: Mapping[str, int]
    throughput: float
    """Signatures per second."""
    latency_ms: Mapping[str, float]
    cpu_us: float
    """The load's own CPU time per request, in microseconds."""


def build() -> None:
    """Build all programs; raises :class:`ToolError`."""
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(PACKAGE / "Cargo.toml")]
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
        raise ToolError("the Rust programs were not built; see above")


def load(
    socket: Path, in_flight: int, seconds: float, group_public_b64: str, *, participants: Sequence[int] = ()
) -> Load:
    """Keep ``in_flight`` requests under way for ``seconds``, and verify every signature.

    Raises:
        ToolError: a signature was wrong.
    """
    arguments = ["--socket", str(socket), "--in-flight", str(in_flight), "--seconds", f"{seconds:g}"]
    arguments += ["--verify", group_public_b64]
    if participants:
        arguments += ["--participants", ",".join(map(str, participants))]
    report = _run("load", arguments, seconds)
    if report["wrong"]:
        raise ToolError(f"{report['wrong']} signatures were wrong")
    return Load(
        ok=report["ok"],
        answered=report["ok"] + report["late_ok"],
        failed=report["failed"],
        errors=report["errors"],
        throughput=report["throughput"],
        latency_ms=report["latency_ms"],
        cpu_us=report["cpu_us_per_request"],
    )


def aggregate(min_signers: int, max_signers: int, seconds: float) -> dict[str, Any]:
    """What the bare crate's ``aggregate`` costs: ``cpu_us`` and its spread, CPU microseconds."""
    arguments = ["--min", str(min_signers), "--max", str(max_signers), "--seconds", f"{seconds:g}"]
    return _run("aggregate", arguments, seconds)


@contextmanager
def delayed(ports: Sequence[int], rtt_ms: float) -> Iterator[list[int]]:
    """Ports that lead to ``ports`` of loopback, each round trip ``rtt_ms`` longer, while the block runs."""
    command = [str(BUILT / "delay"), "--rtt-ms", f"{rtt_ms:g}"]
    for port in ports:
        command += ["--to", f"127.0.0.1:{port}"]
    with _piped(command) as process:
        proxies = json.loads(read_line(process, _START_SECONDS))["proxies"]
        yield [each["port"] for each in proxies]


@contextmanager
def _piped(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        end(process)


def read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """The next line that ``process`` writes; raises :class:`ToolError` where none comes within ``seconds``."""
    output: IO[bytes] | None = process.stdout
    if output is None or not select.select([output], [], [], seconds)[0]:
        raise ToolError(f"{process.args!r} said nothing for {seconds:g} s")
    line = output.readline()
    if not line:
        raise ToolError(f"{process.args!r} ended with status {process.wait()}")
    return line


def end(process: subprocess.Popen[bytes]) -> None:
    """Close the process's pipes and wait for its end; kill it where it does not come."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(_START_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _run(program: str, arguments: Sequence[str], seconds: float) -> dict[str, Any]:
    done = subprocess.run(
        [str(BUILT / program), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds + _SLACK_SECONDS,
        check=False,
    )
    if not done.stdout:
        raise ToolError(f"{program} ended with status {done.returncode}: {done.stderr.strip()}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
