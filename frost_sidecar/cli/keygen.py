"""``frost-sidecar keygen``: making key material."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import frost_ed25519 as frost
import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from rich.console import Console

from frost_sidecar.cli.terminal import one_line, print_table
from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.dealer import Dealt, deal
from frost_sidecar.keygen.importer import Imported, import_group

keygen = typer.Typer(help="Make key material, or take it over.", no_args_is_help=True)

_WARNING = (
    "A dealer saw the whole key: this process held it in memory while it dealt the shares. Run it on a machine that "
    "you trust and wipe; hand every share to its signer, over a safe way, and delete it here."
)


_IMPORTED = (
    "The files that were imported still hold the shares, and whoever had them before may have copies. Hand every share "
    "to its signer, over a safe way, and delete it here and there."
)


@keygen.callback()
def _group() -> None:
    """Make key material, or take it over."""


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
    _print_table(dealt, threshold, signers)


@keygen.command("import")
def import_(
    first: Annotated[
        list[Path],
        typer.Option("--from", "-f", metavar="FILE", help="A file of the tools, and more of them."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for group.json and the share files.")],
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Further files, so that a shell pattern works after --from."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="HEX", help="Public key of the group to import, where there are several."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Take over a group of the Zcash Foundation's FROST tools: write group.json and a share file for each share found.

    The files are the trusted dealer's public-key-package.json and key-package-*.json, or frost-client's credentials.
    """
    imported = import_group([*first, *(more or ())], out, _public_key(group))
    warn = Console(stderr=True, soft_wrap=True)
    for path in imported.exposed:
        warn.print("[bold yellow]Warning:[/]", end=" ")
        warn.print(
            f"{one_line(str(path))} has a share and is open to other users of this machine.",
            markup=False,
            highlight=False,
        )
    if imported.share_files:
        warn.print(f"[bold yellow]Warning:[/] {_IMPORTED}")
    if as_json:
        typer.echo(_as_json(imported))
        return
    _print_table(imported, imported.min_signers, imported.max_signers)


def _public_key(group: str | None) -> bytes | None:
    if group is None:
        return None
    try:
        key = bytes.fromhex(group)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError("a group's name is its public key, 64 hexadecimal digits", path="--group")
    return key


def _print_table(made: Dealt | Imported, threshold: int, signers: int) -> None:
    print_table(
        f"{threshold} of {signers}, public key {b64encode(made.group_public)}",
        [
            ("everyone", str(made.group_file), "0644"),
            *(
                (f"signer {identifier}, nobody else", str(path), "0600")
                for identifier, path in sorted(made.share_files.items())
            ),
        ],
        columns=("for", "file", "mode"),
    )


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


def _as_json(made: Dealt | Imported) -> str:
    return json.dumps(
        {
            "group_public_b64": b64encode(made.group_public),
            "group_file": str(made.group_file),
            "share_files": {str(identifier): str(path) for identifier, path in sorted(made.share_files.items())},
        }
    )
