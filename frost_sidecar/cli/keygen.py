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
from frost_sidecar.keygen.sealing import SealedFile, reseal_files, seal_files, unseal_files
from frost_sidecar.sealing import SealingKeys

keygen = typer.Typer(help="Make key material, or take it over.", no_args_is_help=True)

_WARNING = (
    "A dealer saw the whole key: this process held it in memory while it dealt the shares. Run it on a machine that "
    "you trust and wipe; hand every share to its signer, over a safe way, and delete it here."
)


_IMPORTED = (
    "The files that were imported still hold the shares, and whoever had them before may have copies. Hand every share "
    "to its signer, over a safe way, and delete it here and there."
)

_SEALED = (
    "What the files held before may still be on the disk: replacing a file does not wipe it, and a snapshot or a "
    "backup may have it. Seal on a memory file system what no disk may see."
)

KeyFile = Annotated[
    Path,
    typer.Option(
        "--key-file", "-k", metavar="FILE", help="File with the sealing key; further lines: older keys, newest first."
    ),
]
ShareFiles = Annotated[list[Path], typer.Argument(metavar="SHARE...", help="Share files; replaced where they lie.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


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


@keygen.command()
def seal(key_file: KeyFile, shares: ShareFiles, as_json: AsJson = False) -> None:
    """Seal share files with the key in FILE (a JWE, A256GCM); the signer opens them with seal_key_file."""
    done = seal_files(shares, SealingKeys.load(key_file, setting="--key-file", administrator=True))
    Console(stderr=True, soft_wrap=True).print(f"[bold yellow]Warning:[/] {_SEALED}")
    _print_sealed(done, as_json=as_json)


@keygen.command()
def reseal(key_file: KeyFile, shares: ShareFiles, as_json: AsJson = False) -> None:
    """Seal share files anew with the first key in FILE, whichever of its keys they were sealed with."""
    keys = SealingKeys.load(key_file, setting="--key-file", administrator=True)
    _print_sealed(reseal_files(shares, keys), as_json=as_json)


@keygen.command()
def unseal(key_file: KeyFile, shares: ShareFiles, as_json: AsJson = False) -> None:
    """Open sealed share files and leave them unsealed."""
    keys = SealingKeys.load(key_file, setting="--key-file", administrator=True)
    _print_sealed(unseal_files(shares, keys), as_json=as_json)


def _print_sealed(files: list[SealedFile], *, as_json: bool) -> None:
    if as_json:
        rows = [{"file": str(each.path), "kid": each.kid, "changed": each.changed} for each in files]
        typer.echo(json.dumps({"files": rows}))
        return
    print_table(
        "sealed" if files[0].kid is not None else "not sealed",
        [(str(each.path), each.kid or "none", "yes" if each.changed else "no, it was so already") for each in files],
        columns=("file", "key", "changed"),
    )


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
