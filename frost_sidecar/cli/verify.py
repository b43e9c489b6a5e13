"""``frost-sidecar verify``: whether a signature or a token is good, and what a token says."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frost_sidecar.encoding import b64decode, b64encode, decode_base64url, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.jose import ALGORITHMS, thumbprint
from frost_sidecar.keygen.group import Group

_LARGEST_FILE = 1024 * 1024
_TIMES = ("iat", "nbf", "exp")

Key = tuple[str, bytes]
"""A key's ``kid`` and its 32 bytes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of it. ``fault`` is None where the signature is good; ``key`` is the one that it was checked with."""

    fault: str | None
    key: Key | None
    header: dict[str, Any] | None = None
    payload: bytes | None = None
    claims: dict[str, Any] | None = None


def verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="The message, or with --jws the token; standard input where absent.", show_default=False),
    ] = None,
    signature: Annotated[str | None, typer.Option(metavar="BASE64", help="The signature.")] = None,
    signature_file: Annotated[
        Path | None, typer.Option(help="A file with the signature: its 64 bytes, or base64.")
    ] = None,
    as_jws: Annotated[bool, typer.Option("--jws", help="The input is a compact JWS, such as a JWT.")] = False,
    public: Annotated[str | None, typer.Option(metavar="BASE64", help="The public key, 32 bytes.")] = None,
    group: Annotated[Path | None, typer.Option(help="A group.json with the public key.")] = None,
    jwks: Annotated[Path | None, typer.Option(help="A file with a JWK set, as from /.well-known/jwks.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Verify a signature over a message, or a compact JWS. Exit 0: good; 1: not good; 2: nothing could be judged.

    Of a token the signature is judged, not the time: one that has expired is shown as such, and is good.
    """
    keys = _keys(public, group, jwks)
    if as_jws:
        if signature is not None or signature_file is not None:
            raise ConfigError("a token has its signature in it; leave --signature out")
        finding = check_jws(_read(file), keys)
    else:
        finding = check_message(_read(file), _signature(signature, signature_file), keys)
    if as_json:
        typer.echo(json.dumps(_as_dict(finding)))
    else:
        Console().print(_as_table(finding))
    if finding.fault is not None:
        raise typer.Exit(1)


def check_message(message: bytes, signature: bytes, keys: Sequence[Key]) -> Finding:
    """Whether ``signature`` over ``message`` is good under one of ``keys``."""
    for key in keys:
        if _good(key, signature, message):
            return Finding(None, key)
    tried = "the key" if len(keys) == 1 else f"any of the {len(keys)} keys"
    return Finding(f"the signature does not verify under {tried}", None)


def check_jws(token: bytes, keys: Sequence[Key]) -> Finding:
    """Whether a compact JWS (RFC 7515, section 7.1) is good under one of ``keys``; of several, the one it names."""
    signing_input, _, last = token.strip().rpartition(b".")
    try:
        protected, payload64 = signing_input.split(b".")
        header = decode_json(decode_base64url(protected), dict[str, Any])
        payload, signature = decode_base64url(payload64), decode_base64url(last)
    except ValueError as error:
        return Finding(f"not a compact JWS: {error}", None)
    try:
        claims: dict[str, Any] | None = decode_json(payload, dict[str, Any])
    except ValueError:
        claims = None
    fault = None
    if header.get("alg") not in ALGORITHMS:
        fault = f"alg is {json.dumps(header.get('alg'))}, not one of {', '.join(ALGORITHMS)}"
    elif "crit" in header:
        fault = "the header has crit: extensions that have to be understood, and are not"
    else:
        named = [key for key in keys if key[0] == header.get("kid")]
        if not named and len(keys) > 1:
            fault = f"kid is {json.dumps(header.get('kid'))}, and no key has that name"
        else:
            found = check_message(signing_input, signature, named or keys)
            return Finding(found.fault, found.key, header, payload, claims)
    return Finding(fault, None, header, payload, claims)


def _good(key: Key, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key[1]).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _keys(public: str | None, group: Path | None, jwks: Path | None) -> list[Key]:
    if sum(each is not None for each in (public, group, jwks)) != 1:
        raise ConfigError("say by one of --public, --group and --jwks which key it should be")
    if public is not None:
        return [_key(_base64(public, 32, "--public"))]
    if group is not None:
        try:
            return [_key(Group.load("group", group).public)]
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("keys.group: "), path="--group") from None
    try:
        members = decode_json(_read(jwks), dict[str, Any]).get("keys")
    except ValueError as error:
        raise ConfigError(f"{jwks} is not JSON: {error}", path="--jwks") from None
    if not isinstance(members, list):
        raise ConfigError(f"{jwks} is not a JWK set (RFC 7517, section 5)", path="--jwks")
    found = [_from_jwk(each) for each in members if isinstance(each, dict) and each.get("crv") == "Ed25519"]
    if not found:
        raise ConfigError(f"{jwks} has no Ed25519 key", path="--jwks")
    return found


def _key(public: bytes) -> Key:
    return thumbprint(public), public


def _from_jwk(jwk: dict[str, Any]) -> Key:
    kid, key = jwk.get("kid"), _key(_base64(jwk.get("x"), 32, "--jwks: x of a key"))
    return (kid, key[1]) if isinstance(kid, str) else key


def _signature(text: str | None, file: Path | None) -> bytes:
    if (text is None) is (file is None):
        raise ConfigError("a message needs its signature, by --signature or --signature-file")
    if text is not None:
        return _base64(text, 64, "--signature")
    data = _read(file)
    return data if len(data) == 64 else _base64(data.decode("latin-1").strip(), 64, str(file))


def _base64(text: object, length: int, where: str) -> bytes:
    try:
        data = b64decode(text) if isinstance(text, str) else b""
    except ValueError as error:
        raise ConfigError(str(error), path=where) from None
    if len(data) != length:
        raise ConfigError(f"must be {length} bytes, not {len(data)}", path=where)
    return data


def _read(file: Path | None) -> bytes:
    try:
        if file is None:
            data = sys.stdin.buffer.read(_LARGEST_FILE + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", path=str(file or "standard input")) from None
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"is larger than {_LARGEST_FILE} bytes", path=str(file or "standard input"))
    return data


def _as_dict(finding: Finding) -> dict[str, Any]:
    kid, public = finding.key or (None, None)
    return {
        "good": finding.fault is None,
        "fault": finding.fault,
        "kid": kid,
        "public_b64": public and b64encode(public),
        "header": finding.header,
        "claims": finding.claims,
        "payload_b64": None if finding.payload is None else b64encode(finding.payload),
    }


def _as_table(finding: Finding) -> Table:
    good = finding.fault is None
    table = Table(show_header=False, title="good" if good else "NOT GOOD", title_style="green" if good else "red")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows: dict[str, object] = {"fault": finding.fault}
    if finding.key is not None:
        rows |= {"verified by kid": finding.key[0], "public key": b64encode(finding.key[1])}
    rows |= {f"header {name}": value for name, value in (finding.header or {}).items()}
    if finding.claims is not None:
        rows |= {f"claim {name}": _claim(name, value) for name, value in finding.claims.items()}
    elif finding.payload is not None:
        rows["payload"] = f"{len(finding.payload)} bytes, {b64encode(finding.payload)}"
    for name, value in rows.items():
        if value is not None:
            table.add_row(Text(_printable(name)), Text(_printable(value)))  # Text: what looks like markup is none
    return table


def _claim(name: str, value: object) -> object:
    """A claim for people: times readable, and an expiry that has passed said so."""
    if name not in _TIMES or type(value) is not int or not 0 <= value < 253_402_300_800:
        return value
    moment = dt.datetime.fromtimestamp(value, dt.UTC)
    passed = name == "exp" and moment <= dt.datetime.now(dt.UTC)
    return f"{value} ({moment:%Y-%m-%d %H:%M:%S} UTC{', expired' if passed else ''})"


def _printable(value: object) -> str:
    """``value`` in one line, in JSON's escapes where a terminal would obey it."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
