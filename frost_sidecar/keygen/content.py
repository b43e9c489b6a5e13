"""What a key file holds, read with suspicion: so much of it, one meaning, and no byte of it in an error."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import frost_ed25519 as frost

MAX_BYTES = 1024 * 1024
"""Several times what 255 signers need in the most wasteful of the forms."""

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})*", re.ASCII)
_LONGEST_NAME = 72


class WrongContent(ValueError):
    """A file does not hold what it should. The message begins with the field, where there is one."""


def read(path: Path) -> tuple[bytes, int]:
    """The content of a file, and its permission bits. A symbolic link is followed.

    Raises:
        OSError: it cannot be read.
        WrongContent: it is no plain file, or longer than ``MAX_BYTES``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise WrongContent("is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise WrongContent(f"is larger than {MAX_BYTES} bytes")
    return content, stat.S_IMODE(status.st_mode)


def json_object(content: bytes) -> dict[str, Any]:
    """The members of a JSON object (RFC 8259) in UTF-8, in which no object names a member twice.

    Raises:
        WrongContent: it is none.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)
    except _Repeated as error:
        reason = f"{shown(error.name)} is there twice"
    except json.JSONDecodeError as error:
        reason = f"is not JSON (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):
        reason = "is not JSON"
    else:
        if isinstance(value, dict):
            return value
        reason = "is not a JSON object"
    raise WrongContent(reason)  # here, so that the parser's error, which has the text in it, is not its context


def shown(name: object) -> str:
    """A name from a file as errors show it."""
    text = repr(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"


_SUITE = re.compile(r"FROST[-(][A-Za-z0-9, ()-]{1,48}\Z")
_LIKE_A_SECRET = re.compile(r"[0-9A-Fa-f]{12}")


def suite_shown(name: object) -> str:
    """The name of another ciphersuite; not what else may stand there by mistake, such as a share."""
    is_one = isinstance(name, str) and _SUITE.match(name) and not _LIKE_A_SECRET.search(name)
    return shown(name) if is_one else "what it says"


def members(value: object, field: str, required: set[str], optional: set[str] | frozenset[str] = frozenset()) -> Any:
    """``value`` as an object that has these members and no others.

    Raises:
        WrongContent: it has not.
    """
    if not isinstance(value, dict):
        raise WrongContent(f"{field}: not an object")
    place = f"{field}." if field else ""
    for name in sorted(required - value.keys()):
        raise WrongContent(f"{place}{name}: missing")
    for name in sorted(value.keys() - required - optional):
        raise WrongContent(f"{place}{shown(name)}: unknown")
    return value


def from_hex(value: object, field: str, length: int | None = None) -> bytes:
    """Bytes from hexadecimal digits, ``length`` bytes if that is given.

    Raises:
        WrongContent: ``value`` is no such string.
    """
    if isinstance(value, str) and _HEX.fullmatch(value) and length in (None, len(value) // 2):
        return bytes.fromhex(value)
    digits = "hexadecimal digits, two for a byte" if length is None else f"{2 * length} hexadecimal digits"
    raise WrongContent(f"{field}: not {digits}")


def check_suite(header: Mapping[str, Any], field: str, suite: str) -> None:
    """Check the crate's header as its JSON has it.

    Raises:
        WrongContent: it is of another version or of another ciphersuite.
    """
    if type(header["version"]) is not int or header["version"] != 0:
        raise WrongContent(f"{field}.version: not a version of the encoding that is known")
    if header["ciphersuite"] != suite:
        raise WrongContent(f"{field}.ciphersuite: {suite_shown(header['ciphersuite'])} is not {suite}")


def in_a_sentence(error: frost.FrostError) -> str:
    """What the binding says, which quotes no input, as the end of a sentence."""
    said = str(error).removesuffix(".")
    return said[:1].lower() + said[1:]


class _Repeated(Exception):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise _Repeated(name)
        made[name] = value
    return made


def _no_number(_name: str) -> None:
    raise ValueError
