"""Accepts connections on one socket, counted from their first moment: a handshake takes a place as a request does.

An event loop's own server counts a connection when its handshake is over, and says nothing when the process is out of
file descriptors; whoever connects and stays silent then takes every listener of the process down.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from typing import Final

from frost_sidecar.channel import names_of, refusal
from frost_sidecar.errors import Denied, Refusal
from frost_sidecar.identity import ServerIdentity
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.acceptor")

_BACKLOG: Final = 512
_HANDSHAKE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.2
"""Before the next try, where the process has no file descriptor or memory left."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_QUIET_SECONDS: Final = 10.0
"""After a refused handshake was logged: how long further ones of its reason are only counted."""
_STRANGERS: Final = 8
"""Clients whose certificate has none of the names that may call get one place in this many, to be told so."""

Refused = Callable[[Refusal], None]
"""Is told why a handshake was refused."""
Connect = Callable[[Callable[[], None]], asyncio.BaseProtocol]
"""Makes the protocol of a connection; it calls its argument when the connection is lost."""


class Acceptor:
    """At most ``limit`` connections on ``sock``, those in their handshake included; one more is closed at once."""

    def __init__(
        self,
        sock: socket.socket,
        connect: Connect,
        limit: int,
        identity: ServerIdentity | None = None,
        known: frozenset[str] = frozenset(),
        refused: Refused = lambda _: None,
    ) -> None:
        """Serve TLS with ``identity`` as it is at each connection's begin; plain text without.

        ``known``: names of which a client's certificate must carry one to count as known; empty: all are. ``refused``
        is told of every handshake that was refused.
        """
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        self._sock = sock
        self._connect = connect
        self._limit = limit
        self._identity = identity
        self._known = known
        self._refused = refused
        self._said: dict[Refusal, float] = {}
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
        tls = self._identity.context if self._identity else None
        seconds = _HANDSHAKE_SECONDS if tls else None
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._connect(place.leave), peer, ssl=tls, ssl_handshake_timeout=seconds
            )
        except (OSError, asyncio.CancelledError) as error:  # a failed handshake, or the end: the peer cannot be told
            place.leave()
            peer.close()
            self._say_refused(refusal(error), error)
            return
        if tls and not self._is_known(transport.get_extra_info("ssl_object")):
            place.is_strangers()
            if self._strangers > max(1, self._limit // _STRANGERS):
                log.warning("connection refused", reason="too many clients that may not call", limit=self._limit)
                transport.abort()

    def _is_known(self, tls: object) -> bool:
        """Whether the client may call, as far as its certificate says; each of its requests is asked again."""
        try:
            names = names_of(tls)
        except Denied:
            return False
        return not self._known or bool(self._known & set(names))

    def _say_refused(self, reason: Refusal | None, error: BaseException) -> None:
        """Count a refused handshake; into the log comes one in a while of each reason: anybody can cause them."""
        if reason is None:
            return
        self._refused(reason)
        now = time.monotonic()
        if now >= self._said.get(reason, 0.0):
            self._said[reason] = now + _QUIET_SECONDS
            why = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
            log.warning("handshake refused", reason=reason, why=why, quiet_seconds=_QUIET_SECONDS)

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
