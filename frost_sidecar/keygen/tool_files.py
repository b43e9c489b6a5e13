"""Key files of the Zcash Foundation's tools (``frost-tools``, once ``frost-zcash-demo``) for FROST(Ed25519).

The trusted dealer and the key generation write JSON: a ``PublicKeyPackage``, and a ``SecretShare`` or ``KeyPackage``
for each participant. ``frost-client`` has one TOML file for each user, with the user's groups: in each, both packages
in the crate's byte form, in hexadecimal. No error of this module has a byte of a secret in it, nor as its context.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import frost_ed25519 as frost

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen import group_file
from frost_sidecar.keygen.content import (
    WrongContent,
    check_suite,
    from_hex,
    in_a_sentence,
    json_object,
    members,
    read,
    shown,
    suite_shown,
)

T = TypeVar("T")

_MOST_GROUPS = 1024
_OPEN_TO_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class ToolFile:
    """What one file says about one group."""

    path: Path
    group: bytes
    """The group's public key, 32 bytes."""
    public: tuple[frost.keys.PublicKeyPackage, int] | None
    """The public side, checked, and the threshold."""
    share: frost.keys.KeyPackage | None
    commitment: frost.keys.VerifiableSecretSharingCommitment | None
    """The dealer's, where the share came with it and fits it."""
    mode: int
    """Permission bits of the file."""

    @property
    def exposed(self) -> bool:
        """Whether the file has a share that other users can get at."""
        return self.share is not None and bool(self.mode & _OPEN_TO_OTHERS)


def read_tool_file(path: Path, group: bytes | None = None) -> ToolFile:
    """Read one file of any of the kinds; of the groups of a user, the one with that public key.

    Raises:
        ConfigError: it cannot be read, is none of these files, or is of another ciphersuite; or a user has several
            groups and ``group`` is not given. Names the file and the field.
    """
    try:
        content, mode = read(path)
        found = _kind(content)(path, content, mode, group)
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror}"
    except WrongContent as error:
        reason = f"{path}: {error}"
    else:
        return found
    raise ConfigError(reason)


def _kind(content: bytes) -> Callable[[Path, bytes, int, bytes | None], ToolFile]:
    return _from_json if content.lstrip()[:1] == b"{" else _from_toml


def _from_json(path: Path, content: bytes, mode: int, _group: bytes | None) -> ToolFile:
    found = json_object(content)
    header = found.get("header")
    if isinstance(header, dict) and header.keys() == {"version", "ciphersuite"}:
        check_suite(header, "header", frost.CIPHERSUITE)
    if "signing_share" not in found:
        public = group_file.decode(content)
        return ToolFile(path, public[0].verifying_key.serialize(), public, None, None, mode)
    text = content.decode("utf-8")
    if "commitment" in found:
        _check_members(found, {"identifier", "signing_share"}, {"commitment"})
        dealt = _secret(lambda: frost.keys.SecretShare.from_json(text), "")
        share = _secret(lambda: frost.keys.KeyPackage.from_secret_share(dealt), "signing_share: ")
        return ToolFile(path, share.verifying_key.serialize(), None, share, dealt.commitment, mode)
    _check_members(found, {"identifier", "signing_share", "verifying_share", "verifying_key"}, {"min_signers"})
    share = _secret(lambda: frost.keys.KeyPackage.from_json(text), "")
    return ToolFile(path, share.verifying_key.serialize(), None, share, None, mode)


def _check_members(found: dict[str, Any], elements: set[str], others: set[str]) -> None:
    """Check the shape, since the binding does not say where it stumbles."""
    members(found, "", elements | others | {"header"})
    for name in sorted(elements):
        from_hex(found[name], name, 32)


def _from_toml(path: Path, content: bytes, mode: int, group: bytes | None) -> ToolFile:
    name, entry = _choose(_groups(content), group)
    field = f"group.{shown(name)}"
    if entry.get("ciphersuite") != frost.CIPHERSUITE:
        raise WrongContent(f"{field}.ciphersuite: {suite_shown(entry.get('ciphersuite'))} is not {frost.CIPHERSUITE}")
    data = from_hex(entry.get("public_key_package"), f"{field}.public_key_package")
    package = _secret(lambda: frost.keys.PublicKeyPackage.deserialize(data), f"{field}.public_key_package: ")
    public = group_file.checked(package, f"{field}.public_key_package: ")
    secret = from_hex(entry.get("key_package"), f"{field}.key_package")
    share = _secret(lambda: frost.keys.KeyPackage.deserialize(secret), f"{field}.key_package: ")
    if package.verifying_key.serialize().hex() != name.lower():
        raise WrongContent(f"{field}.public_key_package: is of another group")
    return ToolFile(path, package.verifying_key.serialize(), public, share, None, mode)


def _groups(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] | None = None
    with suppress(ValueError, RecursionError):
        found = tomllib.loads(content.decode("utf-8"))
    if found is None:
        raise WrongContent("is neither a JSON object nor a configuration file of frost-client")
    groups = found.get("group")
    if not isinstance(groups, dict) or not groups:
        raise WrongContent("group: missing; a configuration file of frost-client has a table for each group")
    if len(groups) > _MOST_GROUPS:
        raise WrongContent(f"group: more than {_MOST_GROUPS} groups")
    return groups


def _choose(groups: dict[str, Any], group: bytes | None) -> tuple[str, dict[str, Any]]:
    known = ", ".join(shown(name) for name in sorted(groups)[:8])
    names = [name for name in groups if group is None or name.lower() == group.hex()]
    if not names:
        raise WrongContent(f"group: none has the public key that --group says; there are {known}")
    if len(names) > 1:
        raise WrongContent(f"group: choose one of {len(names)} with --group; there are {known}")
    entry = groups[names[0]]
    if not isinstance(entry, dict):
        raise WrongContent(f"group.{shown(names[0])}: not a table")
    return names[0], entry


def _secret(decode: Callable[[], T], place: str) -> T:
    """What ``decode`` gives, or the binding's error, which quotes nothing, without its context."""
    try:
        return decode()
    except frost.FrostError as error:
        reason = in_a_sentence(error)
    raise WrongContent(place + reason)
