"""The public keys that ``frost-sidecar verify`` checks with, by one of three options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import frost_ed25519 as frost

from frost_sidecar.cli.files import read
from frost_sidecar.encoding import b64decode, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.jose import ALGORITHMS, thumbprint
from frost_sidecar.keygen.group import Group

LARGEST_FILE = 1024 * 1024

Key = tuple[str, bytes]
"""A key's ``kid`` and its 32 bytes."""


def public_keys(public: str | None, group: Path | None, jwks: Path | None) -> list[Key]:
    """The keys of the one option that is given.

    Raises:
        ConfigError: none or several are given, or what is given has no key that may verify; the message names it.
    """
    if sum(each is not None for each in (public, group, jwks)) != 1:
        raise ConfigError("say by one of --public, --group and --jwks which key it should be")
    if public is not None:
        return [_key(exactly(public, 32, "--public"), "--public")]
    if group is not None:
        try:
            return [_key(Group.load("group", group).public, "--group")]
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("keys.group: "), path="--group") from None
    return _from_jwks(jwks)


def exactly(text: object, length: int, where: str) -> bytes:
    """Base64 of so many bytes; raises :class:`ConfigError` with ``where`` for anything else."""
    try:
        data = b64decode(text) if isinstance(text, str) else b""
    except ValueError as error:
        raise ConfigError(str(error), path=where) from None
    if len(data) != length:
        raise ConfigError(f"must be {length} bytes, not {len(data)}", path=where)
    return data


def _from_jwks(jwks: Path | None) -> list[Key]:
    try:
        members = decode_json(read(jwks, LARGEST_FILE), dict[str, Any]).get("keys")
    except ValueError as error:
        raise ConfigError(f"{jwks} is not JSON: {error}", path="--jwks") from None
    if not isinstance(members, list) or not all(isinstance(each, dict) for each in members):
        raise ConfigError(f"{jwks} is not a JWK set (RFC 7517, section 5)", path="--jwks")
    if any("d" in each for each in members):
        raise ConfigError(
            f"{jwks} has a private key in it (the member d): whoever reads the file can sign. Take it out of "
            "circulation, and the key out of use; verify with a set of public keys",
            path="--jwks",
        )
    found = [_from_jwk(each) for each in members if _verifies(each)]
    if not found:
        raise ConfigError(f"{jwks} has no Ed25519 key that may verify signatures", path="--jwks")
    return found


def _verifies(jwk: dict[str, Any]) -> bool:
    """Whether it says of itself that it verifies Ed25519 signatures (RFC 7517, sections 4.1 to 4.4; RFC 8037)."""
    operations = jwk.get("key_ops", ["verify"])
    return (
        (jwk.get("kty"), jwk.get("crv"), jwk.get("use", "sig")) == ("OKP", "Ed25519", "sig")
        and isinstance(operations, list)
        and "verify" in operations
        and jwk.get("alg", "EdDSA") in ALGORITHMS
    )


def _from_jwk(jwk: dict[str, Any]) -> Key:
    own, public = _key(exactly(jwk.get("x"), 32, "--jwks: x of a key"), "--jwks")
    kid = jwk.get("kid", own)
    if not isinstance(kid, str):
        raise ConfigError(f"the kid of a key is {json.dumps(kid)[:64]}, not text", path="--jwks")
    return kid, public


def _key(public: bytes, where: str) -> Key:
    """Refuses points under which a signature proves nothing: those of small order verify what nobody signed."""
    try:
        frost.VerifyingKey.deserialize(public)
    except frost.FrostError as error:
        raise ConfigError(f"is no public key that can be trusted: {error}", path=where) from None
    return thumbprint(public), public
