"""The sidecar's listeners: the Unix socket, TCP with mTLS, and the internal one for health and metrics."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import resource
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from frost_sidecar.channel import bind, server_context, spell
from frost_sidecar.config import DEFAULT_BIND, Config, ServerConfig
from frost_sidecar.contract import STATUSES
from frost_sidecar.errors import ConfigError
from frost_sidecar.listener import Limits, Listener
from frost_sidecar.logs import get_logger
from frost_sidecar.routes import Routes

log = get_logger("frost_sidecar.server")

_OTHER_DESCRIPTORS = 256
"""What a sidecar opens beside its callers' connections, roughly: signers, files, libraries."""
_LONGEST_PATH = 107
"""Bytes of ``sun_path`` on Linux, less the closing zero (unix(7))."""


@asynccontextmanager
async def listening(config: Config, routes: Routes) -> AsyncIterator[dict[str, str]]:
    """Serve on every configured listener while the block runs, then drain; gives their addresses by name.

    The names are ``socket`` (a path), ``bind`` and ``metrics_bind`` (``HOST:PORT``, with the port that a 0 became).

    Raises:
        ConfigError: a listener cannot be made as configured.
    """
    server = config.server
    address = tcp_address(server)
    tls = None
    if address is not None:
        section = "tls" if server.tls is None else "server.tls"
        tls = server_context(config.listener_tls, section)
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        bounds = _limits(server, config.audit.write_seconds)
        if server.metrics_bind is not None:  # first in, last out: health can be seen while the others drain
            internal = stack.enter_context(bind(server.metrics_bind, "server.metrics_bind"))
            await (await stack.enter_async_context(Listener(routes.internal, STATUSES, bounds))).listen(internal)
            addresses["metrics_bind"] = spell(internal)
        sockets: list[socket.socket] = []
        if server.socket is not None:
            path = config.path(server.socket)
            sockets.append(stack.enter_context(unix_socket(path, server)))
            addresses["socket"] = str(path)
        if address is not None:
            sockets.append(stack.enter_context(bind(address, "server.bind")))
            addresses["bind"] = spell(sockets[-1])
            if not server.client_names:
                log.warning("any certificate of the authority may call; set server.client_names")
        _check_descriptors(server.max_connections * len(addresses))
        listener = await stack.enter_async_context(Listener(routes.table, STATUSES, bounds))
        for sock in sockets:
            if sock.family == socket.AF_UNIX:
                await listener.listen(sock)
            else:
                await listener.listen(sock, tls, server.client_names)
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


@contextmanager
def unix_socket(path: Path, config: ServerConfig) -> Iterator[socket.socket]:
    """A bound, listening Unix socket with the configured mode and owner; its file is removed at the end.

    A socket file that nobody listens on any more (left by a crash) is replaced. The socket gets its mode and owner
    under another name and is then renamed, so that it can never be opened with wider rights than configured.

    Raises:
        ConfigError: somebody listens there, the path is something else or too long, or the owner cannot be set.
    """
    where = "server.socket"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if len(os.fsencode(draft)) > _LONGEST_PATH:
        raise ConfigError(f"{path} is too long for a Unix socket; use a shorter folder", path=where)
    _clear(path, where)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        try:
            draft.unlink(missing_ok=True)
            sock.bind(os.fspath(draft))
            draft.chmod(int(config.socket_mode, 8))
            os.chown(draft, _user(config.socket_owner), _group(config.socket_group))
            sock.listen()
            identity = _identity(draft)
            draft.rename(path)
        except OSError as error:
            raise ConfigError(f"cannot make the socket {path}: {error.strerror}", path=where) from None
        finally:
            draft.unlink(missing_ok=True)
        try:
            yield sock
        finally:
            if _identity(path) == identity:
                path.unlink(missing_ok=True)
    finally:
        sock.close()


def _clear(path: Path, where: str) -> None:
    """Remove a socket file that nobody listens on; refuse anything else that stands there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot look at {path}: {error.strerror}", path=where) from None
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} exists and is not a socket; remove it or choose another path", path=where)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise ConfigError(f"cannot tell whether {path} is in use: {error}", path=where) from None
        else:
            raise ConfigError(f"another process listens on {path}", path=where)
    log.warning("stale socket file replaced", path=str(path))
    path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _user(name: str | None) -> int:
    if name is None:
        return -1
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"there is no user {name!r}", path="server.socket_owner") from None


def _group(name: str | None) -> int:
    if name is None:
        return -1
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"there is no group {name!r}", path="server.socket_group") from None
