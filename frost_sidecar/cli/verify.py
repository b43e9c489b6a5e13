"""``frost-sidecar verify``: whether a signature or a token is good, and what a token says."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar.cli.files import read
from frost_sidecar.cli.public_keys import LARGEST_FILE, Key, exactly, public_keys
from frost_sidecar.cli.terminal import print_table, printable
from frost_sidecar.encoding import b64encode, decode_base64url, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.jose import ALGORITHMS

_TIMES = ("iat", "nbf", "exp")


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
        typer.Argument(
            help="The message, or with --jws the token; standard input where absent or -.", show_default=False
        ),
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

    A token is also not good where its kid names none of the keys, where its header asks for what is not understood
    here, and where its claims can be read in two ways. Its time is not judged: one that has expired is shown as such.
    """
    keys = public_keys(public, group, jwks)
    if as_jws:
        if signature is not None or signature_file is not None:
            raise ConfigError("a token has its signature in it; leave --signature out")
        token = read(file, LARGEST_FILE)
        if not token.strip():
            raise ConfigError("there is no token in it", path=str(file or "standard input"))
        finding = check_jws(token, keys)
    else:
        finding = check_message(read(file, LARGEST_FILE), _signature(signature, signature_file), keys)
    if as_json:
        typer.echo(json.dumps(_as_dict(finding)))
    else:
        _print_table(finding)
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
    """Whether a compact JWS (RFC 7515, section 7.1) is good under the one of ``keys`` that its ``kid`` names.

    Without a ``kid`` it is good where there is one key alone.
    """
    parts = token.strip().split(b".")
    if len(parts) != 3:
        return Finding(f"not a compact JWS: {len(parts)} parts with dots between them, not 3", None)
    decoded = []
    for name, part in zip(("header", "payload", "signature"), parts, strict=True):
        try:
            decoded.append(decode_base64url(part))
        except ValueError as error:
            return Finding(f"not a compact JWS: the {name} is {error}", None)
    protected, payload, signature = decoded
    try:
        header = decode_json(protected, dict[str, Any])
    except ValueError as error:
        return Finding(f"not a compact JWS: the header is no JSON object with one reading: {error}", None)
    claims, ambiguous = _claims(payload)
    fault = _not_understood(header) or _misnamed(header, keys) or ambiguous
    if fault is not None:
        return Finding(fault, None, header, payload, claims)
    named = [key for key in keys if key[0] == header.get("kid", key[0])]
    found = check_message(parts[0] + b"." + parts[1], signature, named)
    return Finding(found.fault, found.key, header, payload, claims)


def _not_understood(header: dict[str, Any]) -> str | None:
    if header.get("alg") not in ALGORITHMS:
        return f"alg is {json.dumps(header.get('alg'))}, not one of {', '.join(ALGORITHMS)}"
    if "crit" in header:
        return "the header has crit: extensions that have to be understood, and are not"
    if "b64" in header:
        return "the header has b64 (RFC 7797): another reading of the payload, which is not understood"
    return None


def _misnamed(header: dict[str, Any], keys: Sequence[Key]) -> str | None:
    if "kid" not in header:
        return None if len(keys) == 1 else f"the header has no kid, which should say which of the {len(keys)} keys"
    if not isinstance(header["kid"], str):
        return f"kid is {json.dumps(header['kid'])}, not text (RFC 7515, section 4.1.4)"
    if all(header["kid"] != kid for kid, _ in keys):
        return f"kid is {json.dumps(header['kid'])}, and no key has that name"
    return None


def _claims(payload: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """The claims, where the payload is some; or why those that a lenient reader finds there are not to be trusted."""
    try:
        return decode_json(payload, dict[str, Any]), None
    except ValueError as error:
        problem = str(error)
    try:
        read_anyhow = json.loads(payload)
        lenient = isinstance(read_anyhow, dict)
        json.dumps(read_anyhow, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        problem = "half of a surrogate pair is no text"
    except RecursionError:
        lenient = True
    except ValueError:
        lenient = False
    return None, f"the claims can be read in two ways: {problem}" if lenient else None


def _good(key: Key, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key[1]).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _signature(text: str | None, file: Path | None) -> bytes:
    if (text is None) is (file is None):
        raise ConfigError("a message needs its signature, by --signature or --signature-file")
    if text is not None:
        return exactly(text, 64, "--signature")
    data = read(file, LARGEST_FILE)
    return data if len(data) == 64 else exactly(data.decode("latin-1").strip(), 64, str(file))


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


def _print_table(finding: Finding) -> None:
    good = finding.fault is None
    rows: dict[str, object] = {"fault": finding.fault}
    if finding.key is not None:
        rows |= {"verified by kid": finding.key[0], "public key": b64encode(finding.key[1])}
    rows |= {f"header {name}": value for name, value in (finding.header or {}).items()}
    if finding.claims is not None:
        rows |= {f"claim {name}": _claim(name, value) for name, value in finding.claims.items()}
    elif finding.payload is not None:
        rows["payload"] = f"{len(finding.payload)} bytes, {b64encode(finding.payload)}"
    print_table(
        "good" if good else "NOT GOOD",
        [(name, printable(value)) for name, value in rows.items() if value is not None],
        style="italic green" if good else "italic red",
    )


def _claim(name: str, value: object) -> object:
    """A claim for people: times readable, and an expiry that has passed said so."""
    if name not in _TIMES or type(value) is not int or not 0 <= value < 253_402_300_800:
        return value
    moment = dt.datetime.fromtimestamp(value, dt.UTC)
    passed = name == "exp" and moment <= dt.datetime.now(dt.UTC)
    return f"{value} ({moment:%Y-%m-%d %H:%M:%S} UTC{', expired' if passed else ''})"
