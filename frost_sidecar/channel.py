"""TCP and TLS as the sidecar and a signer node both serve them: the socket, the context, and what a peer proves."""

from __future__ import annotations

import re
import socket
import ssl
import time
from typing import Any

from aiohttp import hdrs, web

from frost_sidecar.addressing import parse_address
from frost_sidecar.errors import ConfigError
from frost_sidecar.model import TlsFiles

_BACKLOG = 1024
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)\Z", re.IGNORECASE | re.ASCII)


def bind(address: str, setting: str) -> socket.socket:
    """A listening TCP socket on ``HOST:PORT``; raises :class:`ConfigError` that names ``setting``."""
    host, port = parse_address(address, path=setting)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}", path=setting) from None


def spell(sock: socket.socket) -> str:
    """The address of a TCP socket, ``HOST:PORT``."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_context(files: TlsFiles, section: str = "tls") -> ssl.SSLContext:
    """TLS 1.3 with a client certificate of the authority required, on every connection anew.

    Raises:
        ConfigError: a file cannot be read or does not fit the others; names its place in the table ``section``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    try:
        context.load_cert_chain(files.cert, files.key, password=str)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {files.cert} with {files.key}: {error}", path=f"{section}.cert") from None
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {files.ca}: {error}", path=f"{section}.ca") from None
    return context


def certificate_names(request: web.Request) -> tuple[str, ...]:
    """The names in the peer's certificate; none once it is expired, which a kept-alive connection outlives."""
    return names_of(request.get_extra_info("ssl_object"))


def names_of(tls: Any) -> tuple[str, ...]:
    """The names in the certificate of the peer of an SSL object; none of one that is expired, and none without it."""
    try:
        certificate = tls.getpeercert() if tls else None  # None: the client is gone already
    except UnicodeDecodeError:  # a name that is no text names nobody
        return ()
    if not certificate or ssl.cert_time_to_seconds(certificate["notAfter"]) <= time.time():
        return ()
    return tuple(f"{kind}:{name}" for kind, name in certificate.get("subjectAltName", ()) if kind in {"DNS", "URI"})


def bearer(request: web.Request) -> str | None:
    """The bearer token (RFC 6750, 2.1; RFC 9110, 11.4), None where there is no such header, or more than one."""
    headers = request.headers.getall(hdrs.AUTHORIZATION, [])
    match = _BEARER.match(headers[0]) if len(headers) == 1 else None
    return match[1] if match else None


def usable_names(names: tuple[str, ...]) -> list[str]:
    """Those names that can stand for a client in configuration and logs: printable ASCII, no blank, no comma."""
    return sorted(name for name in names if name.isascii() and name.isprintable() and not set(name) & {" ", ","})
