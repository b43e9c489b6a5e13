"""The pool of TLS connections: which are open to whom, and which may still carry a call."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

import aiohttp
from yarl import URL

from frost_sidecar_transport_mtls.pinning import PinnedContext, PinnedObject

carrier: Final[ContextVar[PinnedObject | None]] = ContextVar("frost_sidecar_transport_mtls.carrier", default=None)
"""The TLS connection that the current task's call goes over; aiohttp's errors do not say it."""
_EARLY_SECONDS: Final = 5.0
"""Before either side's certificate ends, no call goes over a kept connection: clocks differ, calls take time."""

Peer = tuple[URL, PinnedContext]
"""Whom a connection is to: scheme, host and port, and the context that pins the name with our certificate of then."""


class Connector(aiohttp.TCPConnector):
    """Remembers the connection that it gave to a call, and gives none whose certificates are about to end."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._open: defaultdict[Peer, set[PinnedObject]] = defaultdict(set)

    def open_to(self, peer: Peer) -> list[PinnedObject]:
        """The connections to ``peer`` that can carry a call, or carry one now."""
        soon = time.time() + _EARLY_SECONDS
        return [each for each in self._open.get(peer, ()) if each.ends > soon]

    async def connect(
        self, req: aiohttp.ClientRequest, *arguments: Any, **options: Any
    ) -> aiohttp.connector.Connection:
        """A kept connection or a new one. A kept one that is about to end is closed, and another one looked for."""
        while True:
            connection = await super().connect(req, *arguments, **options)
            found = connection.transport and connection.transport.get_extra_info("ssl_object")
            if not isinstance(found, PinnedObject):
                carrier.set(None)
                return connection
            if found.taken is None:
                self._note(req, connection, found)
                break
            if time.time() < found.ends - _EARLY_SECONDS:
                break
            connection.close()  # it was kept: the next is another one, at last a new one
        found.taken = time.monotonic()
        carrier.set(found)
        return connection

    def _note(self, req: aiohttp.ClientRequest, connection: aiohttp.connector.Connection, new: PinnedObject) -> None:
        closed = connection.protocol.closed if connection.protocol is not None else None
        if closed is None or new.pinned is None:  # it is lost already
            return
        peer = req.url.origin(), new.pinned
        self._open[peer].add(new)
        closed.add_done_callback(partial(self._forget, peer, new))

    def _forget(self, peer: Peer, lost: PinnedObject, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # why it ended is for the call that was on it
        left = self._open[peer]
        left.discard(lost)
        if not left:
            del self._open[peer]
