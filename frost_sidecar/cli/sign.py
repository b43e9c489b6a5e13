"""``frost-sidecar sign``: a signature or a token from the command line, through any of the three ways of calling."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import anyio
import msgspec
import typer

from frost_sidecar.cli.files import read
from frost_sidecar.cli.target import target_of
from frost_sidecar.encoding import b64encode, decode_json
from frost_sidecar.errors import ConfigError, MalformedRequest
from frost_sidecar.mint import JwtOptions, Mint
from frost_sidecar.model import MAX_MESSAGE_BYTES, Signed, TlsFiles
from frost_sidecar.process import TlsConfig
from frost_sidecar.target import Options, connect

_TLS = TlsConfig()


class Form(Enum):
    """What the input is, and so what comes out."""

    MESSAGE = "message"
    PAYLOAD = "payload"
    CLAIMS = "claims"


def sign(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="What to sign, byte for byte; standard input where absent or -.", show_default=False),
    ] = None,
    socket: Annotated[
        str | None, typer.Option(metavar="PATH", envvar="FROST_SIDECAR_SOCKET", help="The sidecar's Unix socket.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="unix:PATH, https://HOST:PORT, or a coordinator's TOML file.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", metavar="PATH", help="Sign in this process, with a coordinator's TOML file."),
    ] = None,
    as_jws: Annotated[
        bool, typer.Option("--jws", help="The input is a payload: print a compact JWS (RFC 7515) over it.")
    ] = False,
    as_jwt: Annotated[
        bool, typer.Option("--jwt", help="The input is claims in JSON: print a signed JWT (RFC 7519).")
    ] = False,
    typ: Annotated[str | None, typer.Option(help="With --jws or --jwt: the header's typ, as in at+jwt.")] = None,
    lifetime: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="With --jwt: set iat to now, and exp that much later.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Name of the key; by default the sidecar's default key.")] = None,
    participants: Annotated[
        str | None, typer.Option(metavar="N,N,…", help="Identifiers of the signers that may take part.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="For all attempts.")] = 10.0,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and input give the same answer, for some minutes.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print the signature's 64 bytes, not base64.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer in JSON.")] = False,
    tls_cert: Annotated[Path, typer.Option(envvar="TLS_CERT_PEM", help="For https: the certificate to show.")] = Path(
        _TLS.cert
    ),
    tls_key: Annotated[Path, typer.Option(envvar="TLS_KEY_PEM", help="For https: its key.")] = Path(_TLS.key),
    tls_ca: Annotated[
        Path, typer.Option(envvar="TLS_SERVER_CA", help="For https: the authority of the sidecar's certificate.")
    ] = Path(_TLS.ca),
    token_file: Annotated[Path | None, typer.Option(help="For https: a file with the bearer token.")] = None,
) -> None:
    """Sign a message through a sidecar, or in this process, and print the signature in base64."""
    form = _form(as_jws=as_jws, as_jwt=as_jwt, typ=typ, lifetime=lifetime, answer=raw or as_json)
    if raw and as_json:
        raise ConfigError("--raw and --json are two ways to print; choose one")
    where = target_of(context, socket, target, config)
    asked: JwtOptions = {
        "participants": _identifiers(participants),
        "timeout": timeout,
        "idempotency_key": idempotency_key,
    }
    if typ is not None:
        asked["typ"] = typ
    if lifetime is not None:
        asked["lifetime"] = lifetime
    options: Options = {"timeout": timeout, "tls": TlsFiles(tls_cert, tls_key, tls_ca), "token": token_file}
    data = read(file, MAX_MESSAGE_BYTES)
    made = anyio.run(_sign, where, options, form, data, key, asked)
    if isinstance(made, str):
        typer.echo(made)
    elif as_json:
        typer.echo(_as_json(made))
    elif raw:
        sys.stdout.buffer.write(made.signature)
    else:
        typer.echo(b64encode(made.signature))


async def _sign(
    where: str, options: Options, form: Form, data: bytes, key: str | None, asked: JwtOptions
) -> Signed | str:
    async with connect(where, **options) as service:
        match form:
            case Form.MESSAGE:
                return await service.sign(data, key=key, **_common(asked))
            case Form.PAYLOAD:
                return await Mint(service, key).jws(data, **_common(asked))
            case Form.CLAIMS:
                return await Mint(service, key).jwt(_claims(data), **asked)


def _common(asked: JwtOptions) -> dict[str, Any]:
    """The options that are there for a signature too; :func:`_form` has refused those that the form has no use for."""
    return {name: value for name, value in asked.items() if name != "lifetime"}


def _form(*, as_jws: bool, as_jwt: bool, typ: str | None, lifetime: int | None, answer: bool) -> Form:
    if as_jws and as_jwt:
        raise ConfigError("the input is a payload (--jws) or claims (--jwt), not both")
    token = as_jws or as_jwt
    if token and answer:
        raise ConfigError("--raw and --json print a signature; --jws and --jwt print a token, which holds it")
    if typ is not None and not token:
        raise ConfigError("--typ goes into a token's header; it needs --jws or --jwt")
    if lifetime is not None and not as_jwt:
        raise ConfigError("--lifetime sets the claims iat and exp; it needs --jwt")
    return Form.CLAIMS if as_jwt else Form.PAYLOAD if as_jws else Form.MESSAGE


def _identifiers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) <= 5 for part in parts):
        raise ConfigError("--participants takes identifiers with commas between them: 1,3")
    return tuple(int(part) for part in parts)


def _claims(data: bytes) -> dict[str, Any]:
    try:
        return decode_json(data, dict[str, Any])
    except ValueError as error:
        raise MalformedRequest(f"the claims are not a JSON object: {error}") from None


def _as_json(signed: Signed) -> str:
    return msgspec.json.encode(
        {
            "signature_b64": b64encode(signed.signature),
            "group_public_b64": b64encode(signed.group_public),
            "participants": signed.participants,
            "key": signed.key,
            "request_id": signed.request_id,
            "replayed": signed.replayed,
        }
    ).decode()
