"""The sidecar's listeners: the Unix socket, TCP with mTLS, and the internal one for health and metrics."""

from __future__ import annotations

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from frost_sidecar.channel import bind, spell
from frost_sidecar.config import DEFAULT_BIND, Config, ServerConfig
from frost_sidecar.contract import STATUSES
from frost_sidecar.errors import Refusal
from frost_sidecar.following import Following
from frost_sidecar.identity import ServerIdentity
from frost_sidecar.listener import Limits, Listener
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.routes import Routes
from frost_sidecar.socket_file import unix_socket

log = get_logger("frost_sidecar.server")

LISTENER = "listener"
"""What the files of the TCP listener are called in logs, metrics and ``/readyz``."""
_OTHER_DESCRIPTORS = 256
"""What a sidecar opens beside its callers' connections, roughly: signers, files, libraries."""


@asynccontextmanager
async def listening(
    config: Config, routes: Routes, following: Following, metrics: CoordinatorMetrics
) -> AsyncIterator[dict[str, str]]:
    """Serve on every configured listener while the block runs, then drain; gives their addresses by name.

    The names are ``socket`` (a path), ``bind`` and ``metrics_bind`` (``HOST:PORT``, with the port that a 0 became).

    Raises:
        ConfigError: a listener cannot be made as configured.
    """
    server = config.server
    address = tcp_address(server)
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        identity = ServerIdentity(config.listener_tls, "tls" if server.tls is None else "server.tls")
        if address is not None:
            stack.callback(following.forget, LISTENER)
            identity.follow(following.follow, LISTENER)
        bounds = _limits(server, config.audit.write_seconds)
        if server.metrics_bind is not None:  # first in, last out: health can be seen while the others drain
            internal = stack.enter_context(bind(server.metrics_bind, "server.metrics_bind"))
            await (await stack.enter_async_context(Listener(routes.internal, STATUSES, bounds))).listen(internal)
            addresses["metrics_bind"] = spell(internal)
        sockets: list[socket.socket] = []
        if server.socket is not None:
            path = config.path(server.socket)
            sockets.append(stack.enter_context(unix_socket(path, server, dev=config.dev)))
            addresses["socket"] = str(path)
        if address is not None:
            sockets.append(stack.enter_context(bind(address, "server.bind")))
            addresses["bind"] = spell(sockets[-1])
            if not server.client_names:
                log.warning("any certificate of the authority may call; set server.client_names")
        _check_descriptors(server.max_connections * len(addresses))
        listener = await stack.enter_async_context(Listener(routes.table, STATUSES, bounds, routes.meet))

        def refused(reason: Refusal) -> None:
            metrics.refusals.labels(reason).inc()

        for sock in sockets:
            if sock.family == socket.AF_UNIX:
                await listener.listen(sock)
            else:
                await listener.listen(sock, identity, server.client_names, refused)
        log.info("listening", **addresses)
        yield addresses
        log.info("shutting down", grace_seconds=server.grace_seconds)


def tcp_address(server: ServerConfig) -> str | None:
    """Where the TCP listener is: as configured; where nothing is configured at all, :data:`DEFAULT_BIND`."""
    return DEFAULT_BIND if server.bind is None and server.socket is None else server.bind


def _check_descriptors(connections: int) -> None:
    """Say at the start where the connections that are allowed could use up what the process may open."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and connections + _OTHER_DESCRIPTORS > allowed:
        log.warning(
            "more connections are allowed than the process may open files; raise the limit or lower "
            "server.max_connections",
            connections=connections,
            files=allowed,
        )


def _limits(config: ServerConfig, write_seconds: float) -> Limits:
    """The listener's bounds; at the end a cancelled request may still write its record, for ``write_seconds``."""
    return Limits(
        max_body_bytes=config.max_body_bytes,
        body_seconds=config.body_seconds,
        max_connections=config.max_connections,
        grace_seconds=config.grace_seconds,
        farewell_seconds=write_seconds + 1.0,
    )
