"""From what aiohttp raises to the one error family of transports, with a hint what to do.

The texts carry names and reasons only, never a header or a body.
"""

from __future__ import annotations

import os
import ssl
from typing import Literal

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from frost_sidecar.errors import TransportError
from frost_sidecar.model import Signer
from frost_sidecar_transport_mtls.pinning import alert_in

_ROWS: tuple[tuple[type[Exception], Literal["unreachable", "timeout", "tls", "malformed"], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "tls", "its certificate was refused: {reason}"),
    (aiohttp.ClientConnectorSSLError, "tls", "no TLS 1.3 handshake with it: {reason}; is this a signer's TLS port?"),
    (TimeoutError, "timeout", "no connection within connect_seconds; is the node overloaded or a firewall between?"),
    (aiohttp.ClientConnectorDNSError, "unreachable", "its name does not resolve: {reason}"),
    (aiohttp.ClientConnectorError, "unreachable", "cannot connect: {reason}; is the signer running?"),
    (aiohttp.ClientResponseError, "malformed", "the answer is not HTTP/1.1; is this a signer?"),
    (aiohttp.ClientPayloadError, "unreachable", "the connection broke inside the answer"),
    (aiohttp.ServerDisconnectedError, "unreachable", "it closed the connection before an answer; {hint}"),
    (OSError, "unreachable", "the connection broke before an answer: {reason}; {hint}"),
)
"""The first row that fits counts."""
_BROKEN = (aiohttp.ClientOSError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)
_ENDED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
"""How a connection that was there ends. Under a connector's error, that is in the TLS handshake."""
_HINT = "if it does so every time, does it accept our certificate?"
"""Servers on asyncio close without saying so when they refuse a certificate."""


def fault(error: Exception, signer: Signer, late_alert: str | None) -> TransportError:
    """The :class:`~frost_sidecar.errors.TransportError` for what aiohttp raised.

    In TLS 1.3 the server judges our certificate after our side of the handshake is done, so its refusal arrives as an
    alert on an established connection, when the request may already be written. Where that alert is not in the error,
    it is ``late_alert``.
    """
    alert = _alert(error)
    if alert is None and isinstance(error, _BROKEN) and not isinstance(error, aiohttp.ClientConnectorError):
        alert = late_alert
    if alert is not None:
        return TransportError(
            "tls", f"{signer.url}: it refused our certificate or TLS ({alert}); is tls.cert valid and of its authority?"
        )
    if isinstance(error, aiohttp.ClientPayloadError) and _garbled(error):
        return TransportError("malformed", f"{signer.url}: the answer's body is not HTTP/1.1; is this a signer?")
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _ENDED):
        return TransportError(
            "tls",
            f"{signer.url}: it closed the connection in the TLS handshake; does it speak TLS 1.3, and is it a signer?",
        )
    for kind_of_error, kind, text in _ROWS:
        if isinstance(error, kind_of_error):
            return TransportError(kind, f"{signer.url}: {text.format(reason=_reason(error), hint=_HINT)}")
    return TransportError("malformed", f"{signer.url}: the call cannot be sent: {type(error).__name__}")


def _alert(error: Exception) -> str | None:
    seen: BaseException | None = error
    while seen is not None:
        alert = alert_in(seen)
        if alert is not None:
            return alert
        seen = seen.__cause__
    return None


def _garbled(error: aiohttp.ClientPayloadError) -> bool:
    """Whether a body broke the rules of HTTP, rather than ended too early."""
    return isinstance(error.__cause__, HttpProcessingError) and "not completed" not in str(error)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _reason(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _reason(error.os_error)
    if isinstance(error, ssl.SSLError):
        texts = (getattr(error, name, None) for name in ("verify_message", "reason"))
        return next((text for text in texts if text), None) or str(error.args[-1])
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
