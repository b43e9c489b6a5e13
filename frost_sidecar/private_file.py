"""Reads files with secrets, after a look at who else can read them.

Two cases are right. A file of this process's user, or of root, that nobody else can read: what people and agents write.
And a file of root that a group of this process may read, and nobody else: what Kubernetes mounts for a pod with an
``fsGroup`` (``root:fsGroup``, mode 0440). A file of our own has no need of a group, so there it is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from frost_sidecar.errors import ConfigError


def read_private(
    path: Path, *, what: str, most: int, setting: str | None = None, administrator: bool = False
) -> bytearray:
    """The content of ``path``; :func:`wipe` it after use. A symbolic link is followed, and its target is checked.

    Args:
        path: the file.
        what: what it holds, for errors: ``a key share``.
        most: bytes that it may have.
        setting: the setting that names it, for errors.
        administrator: whose file it is does not matter, only that nobody beyond its owner, and the group of a file of
            root, can read it: for commands that prepare the files of other users.

    Raises:
        ConfigError: it cannot be read, is open to others, no regular file, or too large; without any of its content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", path=setting) from None
    try:
        # The opened file is looked at, so that nobody can exchange it between the look and the reading.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a file", path=setting)
        user = status.st_uid if administrator else os.geteuid()
        groups = {status.st_gid} if administrator else {os.getegid(), *os.getgroups()}
        if (fault := exposure(status, user, groups)) is not None:
            mend = f"; run: chmod 600 {path}" if status.st_mode & 0o077 else ""
            raise ConfigError(f"{path} holds {what} and {fault}{mend}", path=setting)
        if status.st_mode & 0o070 and _has_list(descriptor):
            raise ConfigError(
                f"{path} holds {what} and has an access control list, by which others may read it; "
                f"run: setfacl -b {path}",
                path=setting,
            )
        if status.st_size > most:
            raise ConfigError(f"{path} is too large for {what}", path=setting)
        content = _read(descriptor, status.st_size)
    except OSError as error:  # of a disk or a mount that fails
        raise ConfigError(f"cannot read {path}: {error.strerror}", path=setting) from None
    finally:
        os.close(descriptor)
    if content is None:
        raise ConfigError(f"{path} was changed while it was read", path=setting)
    return content


def _has_list(descriptor: int) -> bool:
    """Whether the group's bits of the mode are not the group's, but the mask of an access control list (acl(5))."""
    try:
        return bool(os.getxattr(descriptor, "system.posix_acl_access"))
    except OSError:  # there is none, or the file system knows none
        return False


def exposure(status: os.stat_result, user: int, groups: Collection[int]) -> str | None:
    """What is wrong with owner and mode of a secret's file, as the end of a sentence; None where nothing is.

    ``user`` and ``groups`` are those of the process that reads it.
    """
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o007:
        return f"is open to other users (mode {mode:04o})"
    if status.st_uid not in (user, 0):
        return f"belongs to user {status.st_uid}; it must belong to root or to this process's user, {user}"
    if mode & 0o030:
        return f"is open to other users: its group may do more than read it (mode {mode:04o})"
    if mode & 0o040 and (status.st_uid != 0 or status.st_gid not in groups):
        return (
            f"is open to other users: group {status.st_gid} may read it (mode {mode:04o}), which is right for a file "
            "of root and a group of this process alone"
        )
    return None


def check_readable(file: Path, setting: str) -> None:
    """Raises :class:`~frost_sidecar.errors.ConfigError` for what is no file that can be read; waits for no writer."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"cannot use {file}: {error.strerror}", path=setting) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"cannot use {file}: it is not a regular file", path=setting)
    finally:
        os.close(descriptor)


def check_not_public(path: Path, *, what: str, setting: str) -> None:
    """Raises :class:`~frost_sidecar.errors.ConfigError` where every user may read or change a file that others open.

    One that is not there is left to whoever opens it.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & 0o007:
        raise ConfigError(
            f"{path} holds {what} and is open to every user (mode {mode:04o}); run: chmod o-rwx {path}, or mount it "
            "with defaultMode: 0440",
            path=setting,
        )


def wipe(content: bytearray) -> None:
    """Overwrite ``content`` with zeros, in place."""
    content[:] = bytes(len(content))


def _read(descriptor: int, size: int) -> bytearray | None:
    """Exactly ``size`` bytes, into one piece of memory that can be wiped; None where there are more or fewer."""
    content = bytearray(size)
    view, done = memoryview(content), 0
    while done < size and (count := os.readv(descriptor, [view[done:]])):
        done += count
    view.release()
    if done < size or os.read(descriptor, 1):
        wipe(content)
        return None
    return content
