"""TCP and TLS as the sidecar and a signer node both serve them: the socket, the context, and what a peer proves."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import hdrs, web

from frost_sidecar.addressing import parse_address
from frost_sidecar.errors import ConfigError, Denied, Refusal
from frost_sidecar.identity import Peer, PeerContext

_BACKLOG = 1024
_NO_CERTIFICATE: Final = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
_VERIFY_CODES: Final[Mapping[int, Refusal]] = {10: "certificate-expired", 23: "certificate-revoked"}
"""``X509_V_ERR_CERT_HAS_EXPIRED`` and ``X509_V_ERR_CERT_REVOKED`` of OpenSSL; all others speak of trust."""
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


def certificate_names(request: web.Request) -> tuple[str, ...]:
    """The names in the peer's certificate: see :func:`names_of`."""
    return names_of(request.get_extra_info("ssl_object"))


def names_of(tls: Any) -> tuple[str, ...]:
    """The names in the certificate of the peer of an SSL object, ``DNS:…`` and ``URI:…``; none without a certificate.

    What the handshake proved may have ended since, on a connection that was kept.

    Raises:
        Denied: the certificate is expired or revoked, or not of the trust domain that its listener asks for.
    """
    peer = Peer.of(tls)
    if peer is None:
        return ()
    if peer.expires <= time.time():
        raise Denied("the client certificate has expired", reason="certificate-expired")
    context = getattr(tls, "context", None)
    if isinstance(context, PeerContext) and context.identity is not None:
        context.identity.check(peer)
    return peer.names


def is_outdated(request: web.Request) -> bool:
    """Whether the request came over a connection that was begun before its listener's TLS files last changed."""
    context = request.get_extra_info("sslcontext")
    return isinstance(context, PeerContext) and context.identity is not None and context is not context.identity.context


def refusal(error: BaseException) -> Refusal | None:
    """Why a handshake failed on the server's side; None where nobody was refused: the client went away.

    asyncio and uvloop raise alike: OpenSSL's own error, with a ``verify_code`` where a certificate was not accepted,
    :class:`ConnectionAbortedError` where the time was over, :class:`ConnectionResetError` for a client that hung up.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(error.verify_code, "certificate-untrusted")
    if isinstance(error, ssl.SSLError):
        return "certificate-missing" if error.reason == _NO_CERTIFICATE else "handshake"
    return "handshake" if isinstance(error, ConnectionAbortedError | TimeoutError | UnicodeDecodeError) else None


def bearer(request: web.Request) -> str | None:
    """The bearer token (RFC 6750, 2.1; RFC 9110, 11.4), None where there is no such header, or more than one."""
    headers = request.headers.getall(hdrs.AUTHORIZATION, [])
    match = _BEARER.match(headers[0]) if len(headers) == 1 else None
    return match[1] if match else None


def usable_names(names: tuple[str, ...]) -> list[str]:
    """Those names that can stand for a client in configuration and logs: printable ASCII, no blank, no comma."""
    return sorted(name for name in names if name.isascii() and name.isprintable() and not set(name) & {" ", ","})
