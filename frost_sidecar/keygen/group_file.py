"""The two forms of ``group.json``: the original coordinator's, and the JSON of the crate ``frost-ed25519``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import frost_ed25519 as frost
import msgspec
from frost_ed25519.exceptions import IdentifierOutOfRange

from frost_sidecar.keygen.content import WrongContent, check_suite, from_hex, in_a_sentence, json_object, members

MAX_SIGNERS = 255

T = TypeVar("T")

_MEMBER = "public_key_package"
_PARTS = {"header", "verifying_shares", "verifying_key"}


def encode(package: frost.keys.PublicKeyPackage) -> str:
    """The original's form: one member, with the bytes that bincode 1 makes of ``package`` as a list of numbers."""
    return msgspec.json.encode({_MEMBER: list(package.to_bincode())}).decode()


def decode(content: bytes) -> tuple[frost.keys.PublicKeyPackage, int]:
    """The public key package in a file of either form, checked, and the threshold, which it then says too.

    Raises:
        WrongContent: there is none. The message begins with the field.
    """
    found = json_object(content)
    if _MEMBER in found:
        return checked(_from_numbers(found[_MEMBER]), f"{_MEMBER}: ")
    if "signing_share" in found:
        raise WrongContent("signing_share: this is the secret share of one signer, not the file of a group")
    if not _PARTS & found.keys():
        raise WrongContent(f"{_MEMBER}: missing")
    return checked(_from_members(found), "")


def checked(package: frost.keys.PublicKeyPackage, place: str) -> tuple[frost.keys.PublicKeyPackage, int]:
    """``package`` and its threshold, which is derived from its points (docs/key-files.md). ``place`` leads every error.

    Raises:
        WrongContent: it says another threshold, its parts do not belong together, or its signers are none of ours.
    """
    if package.max_signers > MAX_SIGNERS:
        raise WrongContent(
            f"{place}verifying_shares: {package.max_signers} signers; at most {MAX_SIGNERS} are possible"
        )
    for position, identifier in enumerate(package.verifying_shares, start=1):
        try:
            int(identifier)
        except IdentifierOutOfRange:
            raise WrongContent(
                f"{place}verifying_shares, identifier {position} of {package.max_signers}: "
                "not a number from 1 to 65535; other identifiers cannot be used here"
            ) from None
    try:
        threshold = package.derive_min_signers()
    except frost.exceptions.InvalidMinSigners:
        raise WrongContent(f"{place}verifying_shares: every signer has the whole key") from None
    except frost.exceptions.InvalidPublicKeyPackage:
        raise WrongContent(f"{place}verifying_key: does not fit the verifying_shares") from None
    if package.min_signers not in (None, threshold):
        raise WrongContent(
            f"{place}min_signers: says {package.min_signers}, but {threshold} of the verifying_shares make the key"
        )
    return frost.keys.PublicKeyPackage(package.verifying_shares, package.verifying_key, threshold), threshold


def _from_numbers(value: object) -> frost.keys.PublicKeyPackage:
    if not isinstance(value, list):
        raise WrongContent(f"{_MEMBER}: not a list of numbers")
    for position, each in enumerate(value):
        if type(each) is not int or not 0 <= each <= 255:
            raise WrongContent(f"{_MEMBER}[{position}]: not a number from 0 to 255")
    return _decoded(frost.keys.PublicKeyPackage.from_bincode, bytes(value), _MEMBER)


def _from_members(found: Mapping[str, Any]) -> frost.keys.PublicKeyPackage:
    members(found, "", _PARTS, {"min_signers"})
    check_suite(members(found["header"], "header", {"version", "ciphersuite"}), "header", frost.CIPHERSUITE)
    if not isinstance(found["verifying_shares"], dict):
        raise WrongContent("verifying_shares: not an object")
    shares: dict[frost.Identifier, frost.keys.VerifyingShare] = {}
    for position, (name, value) in enumerate(found["verifying_shares"].items(), start=1):
        field = f"verifying_shares, identifier {position} of {len(found['verifying_shares'])}"
        identifier = _decoded(frost.Identifier.deserialize, from_hex(name, field, 32), field)
        if identifier in shares:
            raise WrongContent(f"{field}: is there twice")
        field = _share_field(identifier, position)
        shares[identifier] = _decoded(frost.keys.VerifyingShare.deserialize, from_hex(value, field, 32), field)
    data = from_hex(found["verifying_key"], "verifying_key", 32)
    key = _decoded(frost.VerifyingKey.deserialize, data, "verifying_key")
    threshold = found.get("min_signers")
    if threshold is not None and type(threshold) is not int:
        raise WrongContent("min_signers: not a number")
    try:
        return frost.keys.PublicKeyPackage(shares, key, threshold)
    except frost.exceptions.InvalidMaxSigners as error:
        raise WrongContent(f"verifying_shares: {in_a_sentence(error)}") from None
    except frost.exceptions.InvalidMinSigners as error:
        raise WrongContent(f"min_signers: {in_a_sentence(error)}") from None


def _share_field(identifier: frost.Identifier, position: int) -> str:
    try:
        return f"verifying_shares[{int(identifier)}]"
    except IdentifierOutOfRange:
        return f"verifying_shares, share {position}"


def _decoded(decode: Callable[[bytes], T], data: bytes, field: str) -> T:
    """What ``decode`` makes of ``data``, or the binding's error with its place in front."""
    try:
        return decode(data)
    except frost.FrostError as error:
        raise WrongContent(f"{field}: {in_a_sentence(error)}") from None
