"""``frost-sidecar bench``: how fast a running sidecar or cluster signs, at one concurrency after the other."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from frost_sidecar.cli.chart import Chart, Line, check_drawing
from frost_sidecar.cli.closed_loop import ISSUER, TYP, ClosedLoop, Level, Messages
from frost_sidecar.cli.files import read
from frost_sidecar.cli.target import target_of
from frost_sidecar.cli.terminal import print_table
from frost_sidecar.encoding import b64encode, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.jose import thumbprint
from frost_sidecar.model import MAX_MESSAGE_BYTES, TlsFiles
from frost_sidecar.process import TlsConfig
from frost_sidecar.target import Options, connect

_TLS = TlsConfig()
_MOST_IN_FLIGHT = 1024
_MOST_LEVELS = 16
_LONGEST_SECONDS = 600.0
_SIGN_SECONDS = 10.0
_TICK_SECONDS = 0.1
_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    target: str
    levels: tuple[int, ...]
    seconds: float
    warm_up: float
    message_bytes: int
    key: str | None
    typ: str
    claims: dict[str, Any] | None

    @property
    def total_seconds(self) -> float:
        """How long it takes."""
        return len(self.levels) * (self.seconds + self.warm_up)


def bench(
    context: typer.Context,
    socket: Annotated[
        str | None, typer.Option(metavar="PATH", envvar="FROST_SIDECAR_SOCKET", help="The sidecar's Unix socket.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="unix:PATH, https://HOST:PORT, or a coordinator's TOML file.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="PATH", help="Sign in this process, with a coordinator's TOML file."),
    ] = None,
    in_flight: Annotated[
        str, typer.Option(metavar="N,N,…", help="Requests in flight; each number is measured for itself.")
    ] = "1,8,64",
    seconds: Annotated[float, typer.Option(help="How long each of them is measured.")] = 5.0,
    warm_up: Annotated[float, typer.Option(metavar="SECONDS", help="Before each, not counted.")] = 1.0,
    message_bytes: Annotated[int, typer.Option(help="Bytes of a message.")] = 300,
    key: Annotated[str | None, typer.Option(help="Name of the key; by default the sidecar's default key.")] = None,
    typ: Annotated[str, typer.Option(help="The messages' typ, where a policy wants another.")] = TYP,
    claims: Annotated[
        Path | None,
        typer.Option(help=f"A JSON file with the messages' claims, where a policy wants others than iss={ISSUER}."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before real messages are signed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Also write a picture of the figures to this file.")] = None,
    tls_cert: Annotated[Path, typer.Option(envvar="TLS_CERT_PEM", help="For https: the certificate to show.")] = Path(
        _TLS.cert
    ),
    tls_key: Annotated[Path, typer.Option(envvar="TLS_KEY_PEM", help="For https: its key.")] = Path(_TLS.key),
    tls_ca: Annotated[
        Path, typer.Option(envvar="TLS_SERVER_CA", help="For https: the authority of the sidecar's certificate.")
    ] = Path(_TLS.ca),
    token_file: Annotated[Path | None, typer.Option(help="For https: a file with the bearer token.")] = None,
) -> None:
    """Measure throughput and latency of a running sidecar. Exit 0: all was signed; 1: requests failed.

    Real messages are signed with the real key: JWTs that expired in 1970, good for nothing, and recorded in the audit
    log as all others.
    """
    plan = Plan(
        target_of(context, socket, target, config),
        _levels(in_flight),
        _in_bounds("--seconds", seconds, 0.1),
        _in_bounds("--warm-up", warm_up, 0.0),
        message_bytes,
        key,
        typ,
        None if claims is None else _claims(claims),
    )
    if svg is not None:
        check_drawing(svg)
    _consent(plan, yes=yes)
    options: Options = {
        "timeout": _SIGN_SECONDS,
        "attempts": 1,  # what fails is to be seen
        "connections": max(plan.levels),
        "tls": TlsFiles(tls_cert, tls_key, tls_ca),
        "token": token_file,
    }
    measured = Measured(plan)
    interrupted = False
    try:
        anyio.run(measured.run, options, backend_options={"use_uvloop": True})
    except KeyboardInterrupt:
        interrupted = True
    _print(measured, as_json=as_json)
    if svg is not None and measured.levels:
        _draw(measured, svg)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)
    if any(level.errors for level in measured.levels):
        raise typer.Exit(1)


class Measured:
    """The levels so far, and what they were measured with."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.public: bytes | None = None
        self.levels: list[Level] = []

    async def run(self, options: Options) -> None:
        """Measure all levels of the plan, with progress on standard error.

        Raises:
            FrostSidecarError: not even one message is signed.
        """
        plan = self.plan
        async with connect(plan.target, **options) as service:
            self.public = await service.group_public(plan.key)
            messages = Messages(thumbprint(self.public), plan.message_bytes, typ=plan.typ, claims=plan.claims)
            await service.sign(next(messages), key=plan.key, timeout=_SIGN_SECONDS)
            loop = ClosedLoop(service, plan.key, self.public, messages)
            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            with Progress(*columns, console=Console(stderr=True)) as progress:
                for in_flight in plan.levels:
                    await loop.run(Level(in_flight), plan.warm_up)
                    level = Level(in_flight)
                    self.levels.append(level)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(_show, level, plan.seconds, progress)
                        await loop.run(level, plan.seconds)
                        tasks.cancel_scope.cancel()

    def report(self) -> dict[str, Any]:
        """All of it, for machines."""
        return {
            "key": self.plan.key,
            "group_public_b64": None if self.public is None else b64encode(self.public),
            "message_bytes": self.plan.message_bytes,
            "levels": [level.report() for level in self.levels],
        }


async def _show(level: Level, seconds: float, progress: Progress) -> None:
    bar = progress.add_task("", total=seconds)
    started = anyio.current_time()
    try:
        while True:
            passed = anyio.current_time() - started
            failed = sum(level.errors.values())
            said = f"{level.in_flight} in flight: {level.signatures / max(passed, _TICK_SECONDS):,.0f} per second"
            said += f", {failed} failed" if failed else ""
            progress.update(bar, completed=min(passed, seconds), description=said)
            await anyio.sleep(_TICK_SECONDS)
    finally:
        progress.update(bar, completed=seconds)


def _levels(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        raise ConfigError("takes numbers with commas between them: 1,8,64", path="--in-flight")
    levels = tuple(int(part) for part in parts)
    for each in levels:
        if not 1 <= each <= _MOST_IN_FLIGHT:
            raise ConfigError(f"{each} is not between 1 and {_MOST_IN_FLIGHT}", path="--in-flight")
    if len(levels) > _MOST_LEVELS or len(set(levels)) < len(levels):
        raise ConfigError(f"takes up to {_MOST_LEVELS} numbers, each once", path="--in-flight")
    return levels


def _in_bounds(option: str, value: float, least: float) -> float:
    if not (math.isfinite(value) and least <= value <= _LONGEST_SECONDS):
        raise ConfigError(f"{value:g} is not between {least:g} and {_LONGEST_SECONDS:g}", path=option)
    return value


def _claims(file: Path) -> dict[str, Any]:
    try:
        return decode_json(read(file, MAX_MESSAGE_BYTES), dict[str, Any])
    except ValueError as error:
        raise ConfigError(f"{file} is no JSON object: {error}", path="--claims") from None


def _consent(plan: Plan, *, yes: bool) -> None:
    """Ask at a terminal, and demand ``--yes`` elsewhere: signing is not undone, and loads everybody's signers."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("this signs real messages with the real key, as many as it can; say --yes to do it")
    name = "the default key" if plan.key is None else f"the key {plan.key}"
    typer.echo(
        f"For about {plan.total_seconds:.0f} s this signs real messages with {name}, as many as it can, and each goes "
        "into the audit log. They are tokens that expired in 1970. Go on? [y/N]: ",
        err=True,
        nl=False,
    )
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfigError("nothing was signed, as you said")


def _print(measured: Measured, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(measured.report()))
        return
    columns = ("in flight", "signatures/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "signed", "failed")
    print_table("Every signature verified", [_row(level.report()) for level in measured.levels], columns=columns)


def _row(report: dict[str, Any]) -> Sequence[str]:
    times = [report[f"{each}_ms"] for each in ("p50", "p90", "p99", "max")]
    failed = ", ".join(f"{count} {slug}" for slug, count in report["errors"].items())
    return (
        str(report["in_flight"]),
        f"{report['signatures_per_second']:.1f}",
        *("-" if each is None else f"{each:.2f}" for each in times),
        str(report["signatures"]),
        failed or "none",
    )


def _draw(measured: Measured, file: Path) -> None:
    reports = sorted((level.report() for level in measured.levels), key=lambda each: int(each["in_flight"]))
    chart = Chart(
        title="Signatures per second, and latency",
        x_title="requests in flight",
        places=[str(each["in_flight"]) for each in reports],
        y_title="signatures per second",
        lines=[
            Line("signatures per second", [each["signatures_per_second"] for each in reports]),
            Line("p50, ms (right)", [each["p50_ms"] for each in reports], right=True),
            Line("p99, ms (right)", [each["p99_ms"] for each in reports], right=True),
        ],
    )
    try:
        file.write_text(chart.svg(), "utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot write it: {error.strerror}", path="--svg") from None
