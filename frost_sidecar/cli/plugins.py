"""``frost-sidecar plugins``: what is installed."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from frost_sidecar.plugins import installed


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List installed plugins. One is loaded only where the configuration names it."""
    found = {
        name: [f"{each.dist.name} {each.dist.version}" if each.dist else "?" for each in offers]
        for name, offers in sorted(installed().items())
    }
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    table = Table("plugin", "offered by")
    for name, owners in found.items():
        table.add_row(
            name, ", ".join(owners) + (" [red](several: uninstall all but one)[/]" if len(owners) > 1 else "")
        )
    Console().print(table)
