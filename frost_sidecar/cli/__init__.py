"""The command ``frost-sidecar``; one file per subcommand."""

from __future__ import annotations

import sys

import typer

from frost_sidecar.cli.audit import audit
from frost_sidecar.cli.bench import bench
from frost_sidecar.cli.check import check
from frost_sidecar.cli.demo import demo
from frost_sidecar.cli.keygen import keygen
from frost_sidecar.cli.plugins import plugins
from frost_sidecar.cli.serve import serve
from frost_sidecar.cli.sign import sign
from frost_sidecar.cli.signer import signer
from frost_sidecar.cli.terminal import Commands, tell
from frost_sidecar.cli.verify import verify

app = typer.Typer(
    cls=Commands,
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
app.command()(check)
app.command()(bench)
app.add_typer(keygen, name="keygen")
app.add_typer(audit, name="audit")
app.command()(plugins)


def main() -> None:
    """Run the command line. What goes wrong, whatever it is, is one line on standard error and exit status 2."""
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a full disk can still be told
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # rich ends with 1 itself, which is a verdict of verify's
            raise SystemExit(tell(ended.__context__)) from None
        raise
    except Exception as error:  # noqa: BLE001 - the interpreter would end with 1 as well
        raise SystemExit(tell(error)) from None
