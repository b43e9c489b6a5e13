"""The Unix socket's file, and the folders above it: nobody else may put another socket in its place.

Who owns the socket's name is asked for signatures by all who believe in it, and may answer or pass on as it likes.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from frost_sidecar.config import ServerConfig
from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.socket_file")

_LONGEST_PATH: Final = 107
"""Bytes of ``sun_path`` on Linux, less the closing zero (unix(7))."""
_FOLDER_MODE: Final = 0o750
_LARGEST_ID: Final = 2**32 - 2
"""Of users and groups; the one above means "as it is" (chown(2))."""
_ACCESS_LIST: Final = "system.posix_acl_access"
_MOST_LINKS: Final = 40
"""Symbolic links on one path, as in Linux (path_resolution(7))."""


@contextmanager
def unix_socket(path: Path, config: ServerConfig, *, dev: bool = False) -> Iterator[socket.socket]:
    """A bound, listening Unix socket with the configured mode and owner; its file is removed at the end.

    Its folder is checked, and made where it alone is missing: see :func:`check_folder`. A socket file that nobody
    listens on any more (left by a crash) is replaced. The socket gets its mode and owner under another name and is then
    renamed, so that it can never be opened with wider rights than configured.

    Args:
        path: where the socket is to be.
        config: its mode, owner and group.
        dev: a folder that is open to others is warned of, not refused.

    Raises:
        ConfigError: somebody listens there, the path is something else or too long, others could put a socket of their
            own in its place, or the owner cannot be set.
    """
    where = "server.socket"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if len(os.fsencode(draft)) > _LONGEST_PATH:
        raise ConfigError(f"{path} is too long for a Unix socket; use a shorter folder", path=where)
    user, group = _user(config.socket_owner), _group(config.socket_group)
    _make_folder(path.parent, user, group, where)
    try:
        check_folder(path.parent, {os.getegid()} if group < 0 else {os.getegid(), group}, where)
    except ConfigError as error:
        if not dev:
            raise
        log.warning("refused outside of development", reason=str(error))
    _clear(path, where)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        try:
            draft.unlink(missing_ok=True)
            sock.bind(os.fspath(draft))
            draft.chmod(int(config.socket_mode, 8))
            os.chown(draft, user, group)
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


def check_folder(folder: Path, groups: Collection[int], where: str) -> None:
    """Check that nobody but root, this process's user and ``groups`` can put something else in the place of a file.

    The folder itself, every folder above it, and those that symbolic links lead through must belong to root or to us. A
    group may write only where it is one of ``groups``. Others may not; above the folder they may in two cases:

    - with the sticky bit, as ``/tmp`` has it: there only its owner renames an entry;
    - where a volume is mounted, as Kubernetes does for an ``emptyDir`` (mode 0777, of root): it is seen by those
      containers of the pod alone that were given it, which is said in a warning.

    Raises:
        ConfigError: others could; names the folder, its mode, and what to do. ``where`` is the setting.
    """
    try:
        passed = [(each, each.stat()) for each in _folders_to(folder, where)]
    except OSError as error:
        raise ConfigError(f"cannot look at {folder}: {error.strerror}", path=where) from None
    own, _ = passed[-1]
    for each, status in passed:
        said = f"{each} (mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}, gid {status.st_gid})"
        if status.st_uid not in {0, os.geteuid()}:
            raise ConfigError(f"{said} belongs to another user, who could replace the socket; {_MEND}", path=where)
        is_sticky = bool(status.st_mode & stat.S_ISVTX) and each != own
        if status.st_mode & stat.S_IWOTH and not is_sticky:
            if each == own or status.st_uid != 0 or not each.is_mount():
                raise ConfigError(
                    f"every user may write to {said}, and so replace the socket; {_MEND}; in a Kubernetes emptyDir put "
                    "the socket into a folder in the volume, which the sidecar makes",
                    path=where,
                )
            log.warning("whoever is given this volume could replace the socket", volume=said)
        elif status.st_mode & stat.S_IWGRP and not is_sticky and _has_list(each):
            raise ConfigError(
                f"{said} has an access control list, by which others may write to it, and so replace the socket; "
                f"{_MEND} and no list (setfacl -b)",
                path=where,
            )
        elif status.st_mode & stat.S_IWGRP and not is_sticky and status.st_gid not in groups:
            raise ConfigError(
                f"the group of {said} may write to it, and so replace the socket; {_MEND}, or name the group as "
                "server.socket_group",
                path=where,
            )


def _has_list(folder: Path) -> bool:
    """Whether the group's bits of the mode are not the group's, but the mask of an access control list (acl(5))."""
    try:
        return bool(os.getxattr(folder, _ACCESS_LIST))
    except OSError:  # there is none, or the file system knows none
        return False


_MEND: Final = f"use a folder of root or of this process's user with mode {_FOLDER_MODE:04o}"


def _folders_to(folder: Path, where: str) -> Iterator[Path]:
    """Every folder that is passed on the way to ``folder``, without symbolic links, from the root on."""
    here = Path("/")
    yield here
    ahead = list(reversed(folder.absolute().parts[1:]))
    links = 0
    while ahead:
        name = ahead.pop()
        entry = here.parent if name == ".." else here / name
        if not entry.is_symlink():
            here = entry
            yield here
            continue
        links += 1
        owner = entry.lstat().st_uid
        if links > _MOST_LINKS:
            raise ConfigError(f"{folder}: too many symbolic links", path=where)
        if owner not in {0, os.geteuid()}:
            raise ConfigError(
                f"the link {entry} belongs to another user (uid {owner}), who could lead it elsewhere; name the "
                "folder itself",
                path=where,
            )
        target = entry.readlink()
        if target.is_absolute():
            here = Path("/")
        ahead.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))


def _make_folder(folder: Path, user: int, group: int, where: str) -> None:
    """Make the folder where it is missing: for us and the socket's group, or that which the folder above hands down.

    A socket that is given to another user is no use to it in a folder that it cannot pass through; so all may.
    """
    mode = _FOLDER_MODE if user in {-1, os.geteuid()} else _FOLDER_MODE | stat.S_IXOTH
    try:
        folder.mkdir(_FOLDER_MODE)
        inherits = folder.stat().st_mode & stat.S_ISGID
        os.chown(folder, -1, group)
        folder.chmod(mode | inherits)  # whatever the umask
    except FileExistsError:
        return
    except FileNotFoundError:
        raise ConfigError(f"there is no folder {folder.parent}; make it, or use another one", path=where) from None
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}", path=where) from None
    log.info("folder made", path=str(folder))


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
        return _id(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except (KeyError, OverflowError):
        raise ConfigError(f"there is no user {name!r}", path="server.socket_owner") from None


def _group(name: str | None) -> int:
    if name is None:
        return -1
    try:
        return _id(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except (KeyError, OverflowError):
        raise ConfigError(f"there is no group {name!r}", path="server.socket_group") from None


def _id(digits: str) -> int:
    number = int(digits)
    if number > _LARGEST_ID:
        raise OverflowError
    return number
