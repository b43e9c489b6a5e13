"""The sidecar's listeners: today the Unix socket."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frost_sidecar.config import ServerConfig
from frost_sidecar.errors import ConfigError
from frost_sidecar.listener import Limits
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.server")

_LONGEST_PATH = 107
"""Bytes of ``sun_path`` on Linux, less the closing zero (unix(7))."""


def limits(config: ServerConfig, write_seconds: float) -> Limits:
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
