"""Taking over a group that other tools made: their files in, ``group.json`` and ``share-I.json`` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.files import write_group
from frost_sidecar.keygen.tool_files import ToolFile, read_tool_file

_MOST_FILES = 512


@dataclass(frozen=True, slots=True)
class Imported:
    """Files that an import wrote, and the group they are of."""

    group_public: bytes
    min_signers: int
    max_signers: int
    group_file: Path
    share_files: dict[int, Path]
    exposed: tuple[Path, ...]
    """Files among the sources that have a share and are open to other users."""


def import_group(sources: Sequence[Path], folder: Path, group: bytes | None = None) -> Imported:
    """Write ``group.json``, and ``share-I.json`` (mode 0600) for each share in the files, into ``folder``.

    ``sources`` together have the public side of one group, that with the public key ``group`` if it is given, and any
    number of its shares; every share is checked against it. Existing files are never overwritten.

    Raises:
        ConfigError: a file cannot be used, the files do not belong together, or nothing can be written.
    """
    if len(sources) > _MOST_FILES:
        raise ConfigError(f"{len(sources)} files; at most {_MOST_FILES} are read at once", path="--from")
    found = [read_tool_file(path, group) for path in sources]
    wanted = found[0].group if group is None else group
    for each in found:
        if each.group != wanted:
            raise ConfigError(f"{each.path}: is of the group {each.group.hex()}, not of {wanted.hex()}")
    package, threshold = _public(found)
    shares = _shares(found, package)
    _check_commitments(found, package)
    group_file, share_files = write_group(folder, package, shares)
    exposed = tuple(each.path for each in found if each.exposed)
    return Imported(wanted, threshold, package.max_signers, group_file, share_files, exposed)


def _public(found: Sequence[ToolFile]) -> tuple[frost.keys.PublicKeyPackage, int]:
    """The public side, on which all files that have it must agree."""
    known = [(each.path, each.public) for each in found if each.public is not None]
    if not known:
        raise ConfigError("no file has the public key package; add public-key-package.json", path="--from")
    for path, public in known:
        if public != known[0][1]:
            raise ConfigError(f"{path}: has other verifying_shares than {known[0][0]}")
    return known[0][1]


def _shares(found: Sequence[ToolFile], package: frost.keys.PublicKeyPackage) -> dict[int, frost.keys.KeyPackage]:
    """The shares by signer, ascending, each of them checked."""
    shares: dict[int, frost.keys.KeyPackage] = {}
    files: dict[int, Path] = {}
    for each in found:
        if each.share is None:
            continue
        _check(each, each.share, package)
        identifier = int(each.share.identifier)
        if identifier in shares:
            raise ConfigError(f"{each.path}: has the share of signer {identifier}, as {files[identifier]} has")
        shares[identifier], files[identifier] = each.share, each.path
    return dict(sorted(shares.items()))


def _check(file: ToolFile, share: frost.keys.KeyPackage, package: frost.keys.PublicKeyPackage) -> None:
    """Check that a share is one of the group's."""
    expected = package.verifying_shares.get(share.identifier)
    if expected is None:
        raise ConfigError(f"{file.path}: identifier: no signer of the group has it")
    if share.verifying_share != expected:
        raise ConfigError(f"{file.path}: signing_share: does not belong to the signer's verifying share in the group")
    if share.verifying_key != package.verifying_key:
        raise ConfigError(f"{file.path}: verifying_key: is not the group's")
    if share.min_signers != package.min_signers:
        raise ConfigError(f"{file.path}: min_signers: says {share.min_signers}; the group's is {package.min_signers}")


def _check_commitments(found: Sequence[ToolFile], package: frost.keys.PublicKeyPackage) -> None:
    """Check that the dealer told everybody the same, and that it makes this group (RFC 9591, appendix C.2)."""
    seen: frost.keys.VerifiableSecretSharingCommitment | None = None
    for each in found:
        if each.commitment is None or each.commitment == seen:
            continue
        dealt = frost.keys.PublicKeyPackage.from_commitment(package.verifying_shares, each.commitment)
        if dealt != package:
            raise ConfigError(f"{each.path}: commitment: does not make the verifying_shares of the group")
        seen = each.commitment
