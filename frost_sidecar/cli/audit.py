"""``frost-sidecar audit``: check and show the log of the plugin audit_worm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from frost_sidecar.cli.terminal import one_line, print_table

if TYPE_CHECKING:
    from frost_sidecar_audit_worm import Report

audit = typer.Typer(help="Check and show an audit log.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The log; its head is read from FILE.head.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
ExpectHead = Annotated[
    str | None,
    typer.Option(metavar="COUNT:HEX", help="A head that was kept elsewhere and that the log must still contain."),
]

UNREADABLE = 2
"""Exit code where there is nothing to judge: no such file, no plugin, a malformed --expect-head."""


@audit.command()
def verify(file: File, expect_head: ExpectHead = None, as_json: AsJson = False) -> None:
    """Check every byte of a log. Exit 0: intact; 1: not, with the first fault; 2: cannot be read."""
    _need_plugin()
    from frost_sidecar_audit_worm import verify as check  # noqa: PLC0415 - a plugin, not a dependency of the host

    try:
        report = check(file, expected_head=expect_head)
    except OSError as error:
        raise _unreadable(f"cannot read {error.filename or file}: {error.strerror}") from None
    except ValueError as error:
        raise _unreadable(f"--expect-head: {error}") from None
    if as_json:
        typer.echo(json.dumps(_as_dict(report)))
    else:
        _print_table(report)
    if report.fault is not None:
        raise typer.Exit(1)


@audit.command()
def show(file: File, as_json: AsJson = False) -> None:
    """Print the records of a log, each checked against the chain; --json prints one object a line, as stored."""
    _need_plugin()
    from frost_sidecar_audit_worm import CorruptLogError, read  # noqa: PLC0415 - a plugin, not a dependency of the host

    try:
        for record in read(file):
            typer.echo(record.body if as_json else f"{record.sequence:>8}  {_line(record.body)}")
    except OSError as error:
        raise _unreadable(f"cannot read {error.filename or file}: {error.strerror}") from None
    except CorruptLogError as error:
        typer.echo(one_line(str(error)), err=True)
        raise typer.Exit(1) from None


def _need_plugin() -> None:
    try:
        import frost_sidecar_audit_worm  # noqa: F401, PLC0415 - only whether it is there
    except ModuleNotFoundError:
        raise _unreadable("the plugin that writes audit logs is missing: install frost-sidecar-audit-worm") from None


def _unreadable(message: str) -> typer.Exit:
    typer.echo(one_line(message), err=True)
    return typer.Exit(UNREADABLE)


def _as_dict(report: Report) -> dict[str, object]:
    fault = report.fault
    return {
        "intact": fault is None,
        "file": str(report.path),
        "log_id": report.log_id,
        "created": report.created,
        "records": report.records,
        "recovered": report.recovered,
        "head": report.head,
        "fault": None if fault is None else {"line": fault.line, "record": fault.record, "problem": fault.problem},
    }


def _print_table(report: Report) -> None:
    intact = report.fault is None
    rows = {
        "file": report.path,
        "log id": report.log_id,
        "created": report.created,
        "records" if intact else "good records": report.records,
        "recovered writes": report.recovered,
        "head" if intact else "last good head": report.head,
        "fault": report.fault,
    }
    print_table(
        "intact" if intact else "NOT INTACT",
        [(name, str(value)) for name, value in rows.items() if value is not None],
        style="italic green" if intact else "italic red",
    )


def _line(body: bytes) -> str:
    """A record in one line for people: all members by name, without the empty ones."""
    values = msgspec.json.decode(body, type=dict[str, object])
    inner = values.pop("record", None)
    if isinstance(inner, dict):
        values |= inner
    return "  ".join(f"{_plain(name)}={_plain(value)}" for name, value in values.items() if value not in (None, [], ""))


def _plain(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() and " " not in value else json.dumps(value)
