"""``frost-sidecar plugins``: what is installed."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from frost_sidecar.cli.terminal import print_table
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
    several = " (several: uninstall all but one)"
    rows = [(name, ", ".join(owners) + (several if len(owners) > 1 else "")) for name, owners in found.items()]
    print_table("", rows, columns=("plugin", "offered by"))
