"""One HTTP exchange with one signer, sent once."""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from frost_sidecar.errors import ConfigError, TransportError
from frost_sidecar.hookspecs import Transport
from frost_sidecar.model import Answer, Call, Signer
from frost_sidecar_transport_mtls.contexts import PinnedContexts
from frost_sidecar_transport_mtls.faults import fault
from frost_sidecar_transport_mtls.pinning import PinnedObject
from frost_sidecar_transport_mtls.settings import Settings

_carrier: Final[ContextVar[PinnedObject | None]] = ContextVar("frost_sidecar_transport_mtls.carrier", default=None)
"""The TLS connection that the current task's call goes over; aiohttp's errors do not say it."""
_EARLY_SECONDS: Final = 5.0
"""Before either side's certificate ends, no call goes over a kept connection: clocks differ, calls take time."""


class _Connector(aiohttp.TCPConnector):
    """Remembers the connection that it gave to a call, and gives none whose certificates are about to end."""

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*arguments, **options)
            carrier = connection.transport and connection.transport.get_extra_info("ssl_object")
            if not isinstance(carrier, PinnedObject):
                _carrier.set(None)
                return connection
            if not carrier.used or time.time() < carrier.ends - _EARLY_SECONDS:
                break
            connection.close()  # it was kept: the next is another one, at last a new one
        carrier.used = True
        _carrier.set(carrier)
        return connection


class MtlsTransport(Transport):
    """Keeps connections to the signers and carries calls over them.

    Nothing happens behind the caller's back: no redirect, no proxy, no cookie, no decompression, and no second send of
    a POST. (A GET that finds its kept-alive connection closed is sent once more; aiohttp does that, RFC 9110, 9.2.2
    allows it.)
    """

    def __init__(self, contexts: PinnedContexts, settings: Settings) -> None:
        """``contexts``: where the TLS context for a signer's ``server_name`` comes from, configured or not."""
        self._contexts = contexts
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = _Connector(
            limit=0,
            limit_per_host=self._settings.connections_per_signer,
            keepalive_timeout=self._settings.keepalive_seconds,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, signer: Signer, call: Call) -> Answer:
        """Send ``call`` once and return the whole answer, whatever its status.

        The caller sets the deadline by cancelling; a cancelled call closes its connection. Raises
        :class:`~frost_sidecar.errors.TransportError`.
        """
        if self._session is None:
            raise RuntimeError("the transport is used outside of its `async with`")
        try:
            context = self._contexts.get(signer.server_name)
        except ConfigError as error:
            raise TransportError("tls", f"{signer.url}: nobody can prove to be it: {error}") from None
        _carrier.set(None)
        try:
            async with self._session.request(
                call.method,
                URL(signer.url + call.path, encoded=True),
                data=call.body or None,
                headers=call.headers,
                ssl=context,
                server_hostname=None if context.by_uri else signer.server_name,
                allow_redirects=False,
            ) as response:
                try:
                    return Answer(response.status, await _read(response, call.max_answer_bytes))
                except BaseException:
                    response.close()
                    raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            carrier = _carrier.get()
            raise fault(error, signer, carrier.alert if carrier else None) from None
        finally:
            _carrier.set(None)


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytes:
    if "Content-Encoding" in response.headers:
        raise TransportError("malformed", "the answer is compressed, which the signer protocol does not allow")
    announced = response.content_length
    if announced is not None and announced > cap:
        raise TransportError("malformed", f"the answer announces {announced} bytes; at most {cap} are accepted")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > cap:
            raise TransportError("malformed", f"the answer is longer than the {cap} bytes that are accepted")
    return bytes(body)
