"""``frost-sidecar keygen``: making key material."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import frost_ed25519 as frost
import msgspec
import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rich.console import Console
from rich.table import Table

from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.dealer import Dealt, deal

keygen = typer.Typer(help="Make key material.", no_args_is_help=True)

_WARNING = (
    "A dealer saw the whole key: this process held it in memory while it dealt the shares. Run it on a machine that "
    "you trust and wipe; hand every share to its signer, over a safe way, and delete it here."
)


@keygen.callback()
def _group() -> None:
    """Make key material."""


@keygen.command()
def dealer(
    threshold: Annotated[int, typer.Option("--threshold", "-t", help="Signers needed for a signature.")],
    signers: Annotated[int, typer.Option("--signers", "-n", help="Signers that get a share.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for group.json and the share files.")],
    split: Annotated[
        Path | None,
        typer.Option("--split", help="Split this Ed25519 private key (PEM, PKCS #8) instead of making a new one."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Deal a key: write group.json and one share file per signer (mode 0600). The dealer sees the key."""
    dealt = deal(out, min_signers=threshold, max_signers=signers, existing=_existing(split))
    Console(stderr=True, soft_wrap=True).print(f"[bold yellow]Warning:[/] {_WARNING}")
    if as_json:
        typer.echo(_as_json(dealt))
        return
    table = Table("for", "file", "mode", title=f"{threshold} of {signers}, public key {b64encode(dealt.group_public)}")
    table.add_row("everyone", str(dealt.group_file), "0644")
    for identifier, path in sorted(dealt.share_files.items()):
        table.add_row(f"signer {identifier}, nobody else", str(path), "0600")
    Console().print(table)


def _existing(path: Path | None) -> frost.SigningKey | None:
    if path is None:
        return None
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", path="--split") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} is not an unencrypted private key in PEM", path="--split") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an Ed25519 key", path="--split")
    return frost.SigningKey.from_ed25519_seed(key.private_bytes_raw())


def _as_json(dealt: Dealt) -> str:
    return msgspec.json.encode(
        {
            "group_public_b64": b64encode(dealt.group_public),
            "group_file": str(dealt.group_file),
            "share_files": {str(identifier): str(path) for identifier, path in sorted(dealt.share_files.items())},
        }
    ).decode()
