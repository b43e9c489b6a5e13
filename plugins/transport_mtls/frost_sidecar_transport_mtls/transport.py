"""One HTTP exchange with one signer, sent once."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from frost_sidecar.errors import ConfigError, TransportError
from frost_sidecar.hookspecs import Transport
from frost_sidecar.model import Answer, Call, Signer
from frost_sidecar_transport_mtls.connector import Connector, carrier
from frost_sidecar_transport_mtls.contexts import PinnedContexts
from frost_sidecar_transport_mtls.faults import fault
from frost_sidecar_transport_mtls.pinning import PinnedObject
from frost_sidecar_transport_mtls.settings import Settings
from frost_sidecar_transport_mtls.warmth import Warmth

_WHOLE_BYTES: Final = 256 * 1024
"""Bodies up to this are written at once; the event loop gets its turn between the pieces of longer ones."""


class MtlsTransport(Transport):
    """Keeps connections to the signers and carries calls over them.

    Nothing happens behind the caller's back: no redirect, no proxy, no cookie, no decompression, and no second send of
    a POST. (A GET that finds its kept-alive connection closed is sent once more; aiohttp does that, RFC 9110, 9.2.2
    allows it.)
    """

    def __init__(self, contexts: PinnedContexts, settings: Settings, signers: Iterable[Signer] = ()) -> None:
        """``contexts``: where the TLS context for a signer's ``server_name`` comes from, configured or not.

        To each of ``signers`` connections are kept open, also while there are no calls: see ``Warmth``.
        """
        self._contexts = contexts
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector | None = None
        self._warmth = Warmth(
            signers,
            min(settings.warm_connections, settings.connections_per_signer),
            call=self.call,
            connections=self.connections,
            keepalive_seconds=settings.keepalive_seconds,
        )

    async def __aenter__(self) -> Self:
        self._connector = Connector(
            limit=0,
            limit_per_host=self._settings.connections_per_signer,
            keepalive_timeout=self._settings.keepalive_seconds,
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )
        await self._warmth.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._warmth.__aexit__(kind, error, trace)
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def connections(self, signer: Signer) -> list[PinnedObject]:
        """The open connections to ``signer`` that calls could use or are using, all with our present certificate."""
        if self._connector is None:
            return []
        try:
            return self._connector.open_to((_origin(signer.url), self._contexts.get(signer.server_name)))
        except (ConfigError, ValueError):
            return []

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
        carrier.set(None)
        try:
            async with self._session.request(
                call.method,
                _url(signer.url, call.path),
                data=_body(call.body),
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
            used = carrier.get()
            raise fault(error, signer, used.alert if used else None) from None
        finally:
            carrier.set(None)


@lru_cache(maxsize=1024)
def _url(base: str, path: str) -> URL:
    return URL(base + path, encoded=True)


@lru_cache(maxsize=1024)
def _origin(base: str) -> URL:
    return URL(base, encoded=True).origin()


def _body(body: bytes) -> bytes | io.BytesIO | None:
    return io.BytesIO(body) if len(body) > _WHOLE_BYTES else body or None


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytes:
    if "Content-Encoding" in response.headers:
        raise TransportError("malformed", "the answer is compressed, which the signer protocol does not allow")
    announced = response.content_length
    if announced is not None and announced > cap:
        raise TransportError("malformed", f"the answer announces {announced} bytes; at most {cap} are accepted")
    pieces: list[bytes] = []
    size = 0
    while piece := await response.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > cap:
            raise TransportError("malformed", f"the answer is longer than the {cap} bytes that are accepted")
        if response.content.at_eof():
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
