"""The command ``frost-sidecar``; one file per subcommand."""

from __future__ import annotations

import sys

import typer

from frost_sidecar.cli.audit import audit
from frost_sidecar.cli.demo import demo
from frost_sidecar.cli.keygen import keygen
from frost_sidecar.cli.plugins import plugins
from frost_sidecar.cli.serve import serve
from frost_sidecar.cli.sign import sign
from frost_sidecar.cli.signer import signer
from frost_sidecar.cli.verify import verify
from frost_sidecar.errors import FrostSidecarError

app = typer.Typer(
    help="Coordinator for FROST(Ed25519) threshold signatures: one signature from t of n signers, and no key anywhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(serve)
app.command()(signer)
app.command()(sign)
app.command()(verify)
app.add_typer(keygen, name="keygen")
app.add_typer(audit, name="audit")
app.command()(plugins)


def main() -> None:
    """Run the command line; an error of ours is one line on standard error and exit status 2."""
    try:
        app()
    except FrostSidecarError as error:
        print(f"frost-sidecar: {error}", file=sys.stderr)  # noqa: T201 - the command line speaks
        raise SystemExit(2) from None
