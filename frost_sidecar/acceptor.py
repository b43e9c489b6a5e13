"""Accepts connections on one socket, counted from their first moment: a handshake takes a place as a request does.

An event loop's own server counts a connection when its handshake is over, and says nothing when the process is out of
file descriptors; whoever connects and stays silent then takes every listener of the process down.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

from frost_sidecar.channel import names_of
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.acceptor")

_BACKLOG: Final = 512
_HANDSHAKE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.2
"""Before the next try, where the process has no file descriptor or memory left."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_STRANGERS: Final = 8
"""Clients whose certificate has none of the names that may call get one place in this many, to be told so."""

Connect = Callable[[Callable[[], None]], asyncio.BaseProtocol]
"""Makes the protocol of a connection; it calls its argument when the connection is lost."""


class Acceptor:
    """At most ``limit`` connections on ``sock``, those in their handshake included; one more is closed at once."""

    def __init__(
        self,
        sock: socket.socket,
        connect: Connect,
        limit: int,
        tls: ssl.SSLContext | None = None,
        known: frozenset[str] = frozenset(),
    ) -> None:
        """``known``: names of which a client's certificate must carry one to count as known; empty: all are."""
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        self._sock = sock
        self._connect = connect
        self._limit = limit
        self._tls = tls
        self._known = known
        self._open = 0
        self._strangers = 0
        self._full = False
        self._handshakes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept until cancelled; then end what is still in its handshake."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    peer, _ = await loop.sock_accept(self._sock)
                except OSError as error:
                    if error.errno in _NO_ROOM:
                        log.error("cannot accept connections", why=error.strerror)  # noqa: TRY400 - no traceback
                    await asyncio.sleep(_PAUSE_SECONDS if error.errno in _NO_ROOM else 0)
                    continue
                if self._open >= self._limit:
                    self._say_full()
                    peer.close()
                    continue
                self._full = False
                self._open += 1
                task = asyncio.create_task(self._begin(peer), name="handshake")
                self._handshakes.add(task)
                task.add_done_callback(self._handshakes.discard)
        finally:
            for task in list(self._handshakes):
                task.cancel()

    async def _begin(self, peer: socket.socket) -> None:
        place = _Place(self)
        seconds = _HANDSHAKE_SECONDS if self._tls else None
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connect(place.leave), peer, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        except (OSError, asyncio.CancelledError):  # a failed handshake, or the end: nobody is there to be told
            place.leave()
            peer.close()
            return
        if self._known and self._tls and not self._known & set(names_of(transport.get_extra_info("ssl_object"))):
            place.is_strangers()
            if self._strangers > max(1, self._limit // _STRANGERS):
                log.warning("connection refused", reason="too many clients that may not call", limit=self._limit)
                transport.abort()

    def _say_full(self) -> None:
        """Say so once, until there is room again."""
        if not self._full:
            log.warning("connection refused", reason="too many connections", limit=self._limit)
        self._full = True


class _Place:
    """One connection's place among the limit."""

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor: Acceptor | None = acceptor
        self._is_strangers = False

    def is_strangers(self) -> None:
        """Count it among those that may not call."""
        if self._acceptor is not None:
            self._is_strangers = True
            self._acceptor._strangers += 1  # noqa: SLF001 - its own module

    def leave(self) -> None:
        """Make room; nothing where it was made before."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor._open -= 1  # noqa: SLF001 - its own module
            acceptor._strangers -= self._is_strangers  # noqa: SLF001 - its own module
