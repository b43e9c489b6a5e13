"""The process at the other end of a Unix socket, as the kernel says it (unix(7), socket(7)).

User, groups and process are those that called ``connect``, and stay those: a socket that was handed on, by fork or
``SCM_RIGHTS``, still speaks for who connected it. Which program that process runs is looked up for each question anew,
since it may have executed another one meanwhile.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self, overload

from frost_sidecar.errors import Unauthenticated

_CREDENTIALS: Final = struct.Struct("iII")
"""Linux ``struct ucred``: pid, uid, gid (SO_PEERCRED)."""
_GID: Final = struct.Struct("I")
_SO_PEERGROUPS: Final = 59
_SO_PEERPIDFD: Final = 77
"""Linux 6.5; Python has no names for these two."""
_LONGEST_ANSWER: Final = 1024
"""Bytes that Python lets ``getsockopt`` give: 256 groups."""
_PROC: Final = Path("/proc")
_START_TIME: Final = 19
"""Index of ``starttime`` among the fields of ``/proc/PID/stat`` behind the name (proc_pid_stat(5): field 22)."""


class PeerSocket(Protocol):
    """What is needed of a connected socket; event loops give no whole one."""

    @property
    def family(self) -> int:
        """Address family."""

    @overload
    def getsockopt(self, level: int, optname: int, /) -> int: ...

    @overload
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected. ``pid`` is 0 where it lives in another pid namespace."""

    uid: int
    gid: int
    groups: frozenset[int]
    """``gid`` and the supplementary groups: what counts for a file's permissions too."""
    pid: int
    _socket: PeerSocket = field(repr=False, compare=False)
    _started: str | None = field(repr=False, compare=False)
    """Where the kernel gives no pidfd: when the process started, as seen when the connection was accepted."""

    @classmethod
    def of(cls, sock: PeerSocket, *, program: bool = True) -> Self:
        """The peer of a Unix socket that was accepted just now. ``program``: whether :meth:`runs` will be asked.

        Raises:
            Unauthenticated: the kernel does not say who it is.
        """
        if sock.family != socket.AF_UNIX:
            raise _unknown("the peer's credentials are not known: it did not come over a Unix socket")
        try:
            pid, uid, gid = _CREDENTIALS.unpack(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            )
        except (OSError, struct.error) as error:
            raise _unknown(f"the kernel does not say who is at the socket's other end: {error}") from None
        started = _start_time(pid) if program and not _gives_pidfds(sock) else None
        return cls(uid, gid, _supplementary(sock) | {gid}, pid, sock, started)

    @property
    def subject(self) -> str:
        """The peer as a caller is named: ``unix:uid=UID,gid=GID``."""
        return f"unix:uid={self.uid},gid={self.gid}"

    def runs(self, executable: Path) -> bool:
        """Whether the process runs this very file now; a file of the same name or content is another one.

        Raises:
            Unauthenticated: that cannot be said: the process is gone, is not seen from here, or may not be looked at.
        """
        try:
            pidfd = self._pidfd()
        except OSError as error:
            gone = error.errno in (errno.ESRCH, errno.EINVAL, errno.ENODATA)
            raise self._gone() if gone else _unknown(f"cannot look at the caller: {error.strerror}") from None
        if pidfd is None:
            return self._looked_at_twice(executable)
        try:
            pid = _pid_of(pidfd)
            if pid == 0:
                raise _elsewhere()
            if pid is None:
                raise self._gone()
            same = self._is_program(pid, executable)
            if _has_ended(pidfd):  # else its pid was its own all the time
                raise self._gone()
            return same
        finally:
            os.close(pidfd)

    def _looked_at_twice(self, executable: Path) -> bool:
        """As :meth:`runs`, by pid and start time: a pid that another process got meanwhile has another start."""
        if self.pid == 0:
            raise _elsewhere()
        if self._started is None or _start_time(self.pid) != self._started:
            raise self._gone()
        same = self._is_program(self.pid, executable)
        if _start_time(self.pid) != self._started:
            raise self._gone()
        return same

    def _pidfd(self) -> int | None:
        """A descriptor of the very process that connected; None where the kernel gives none. Raises OSError."""
        if self._started is not None:
            return None
        try:
            return self._socket.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError as error:
            if error.errno == errno.ENOPROTOOPT:
                return None
            raise

    def _is_program(self, pid: int, executable: Path) -> bool:
        try:
            running = (_PROC / str(pid) / "exe").stat()
        except PermissionError:
            raise _unknown(
                f"the program of process {pid} (uid {self.uid}) may not be looked at by uid {os.geteuid()}: "
                "run the sidecar as the same user or with CAP_SYS_PTRACE, or configure the caller without executable"
            ) from None
        except OSError:
            raise self._gone() from None
        try:
            wanted = executable.stat()
        except OSError:
            return False  # nobody runs a file that is not there
        return (running.st_dev, running.st_ino) == (wanted.st_dev, wanted.st_ino)

    def _gone(self) -> Unauthenticated:
        return _unknown(
            f"the process that connected (pid {self.pid}) has ended, so that its program cannot be looked at; the one "
            "that connects must stay until it has its answer (or /proc hides it: mount it without hidepid)"
        )


def _unknown(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason="peer-unknown")


def _elsewhere() -> Unauthenticated:
    return _unknown(
        "the process that connected lives in another pid namespace, so that its program cannot be looked at: "
        "set shareProcessNamespace: true for the pod, or configure the caller without executable"
    )


def _supplementary(sock: PeerSocket) -> frozenset[int]:
    """The supplementary groups; none where there are more than 256, or the kernel (before 4.13) does not say."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LONGEST_ANSWER)
    except OSError:
        return frozenset()
    return frozenset(gid for (gid,) in _GID.iter_unpack(raw))


def _gives_pidfds(sock: PeerSocket) -> bool:
    """Whether the kernel knows the option at all; whatever else it answers, the peer may be gone already."""
    try:
        os.close(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT
    return True


def _pid_of(pidfd: int) -> int | None:
    """The process's pid where /proc is mounted: 0 for one of another pid namespace, None once it is gone."""
    try:
        lines = (_PROC / "self" / "fdinfo" / str(pidfd)).read_text("ascii").splitlines()
        pid = next(int(line.removeprefix("Pid:")) for line in lines if line.startswith("Pid:"))
    except (OSError, ValueError, StopIteration):
        raise _unknown("cannot look at the caller: /proc does not show this process's own descriptors") from None
    return None if pid < 0 else pid


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b") ")[2].split()  # the name before it may hold blanks and parentheses
    return fields[_START_TIME].decode("ascii") if len(fields) > _START_TIME else None
