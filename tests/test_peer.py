"""Callers on the Unix socket, as the kernel says who they are: real processes, other users, other programs.

As root, the tests make processes of other users; as anybody else all processes are of one user, and the same questions
are asked of that one. Both ways of looking at a process run: by pidfd, and as on kernels without SO_PEERPIDFD.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import pytest

from frost_sidecar import peer
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.peer import Peer
from frost_sidecar.testing.processes import ProcessCluster
from frost_sidecar.testing.sidecar import MemorySidecar

IS_ROOT = os.geteuid() == 0
PYTHON = Path(sys.executable).resolve()
ENVIRONMENT = {**os.environ, "PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
"""So that a copy of the interpreter finds its library."""
BODY = b'{"msg_b64": "aGVhZGVyLnBheWxvYWQ="}'
REQUEST = b"POST /sign HTTP/1.1\r\nHost: sidecar\r\nX-Frost-Sidecar: 1\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)
BAD = REQUEST.replace(BODY, b"x" * len(BODY))
"""Its sender is looked at; then its body is refused."""
SECONDS = 15.0

Denial = tuple[int, str | None]
SIGNED: Denial = (200, None)
NOBODY: Denial = (403, "caller-unknown")
UNKNOWN: Denial = (401, "peer-unknown")


class User(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]


ME = User(os.geteuid(), os.getegid(), tuple(os.getgroups()))
OTHER = User(47110, 47111, (47112, 47113)) if IS_ROOT else ME
STRANGE = 47999
"""A user and a group that nobody here has."""


@pytest.fixture(params=["pidfd", "start time"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the kernel gives a pidfd of the peer (Linux 6.5); that of the tests does."""
    if request.param == "start time":
        monkeypatch.setattr(peer, "_SO_PEERPIDFD", 9999)  # no kernel knows this one
    return str(request.param)


def sidecar_for(folder: Path, **callers: dict[str, Any]) -> MemorySidecar:
    """A sidecar with these callers on its Unix socket, each with a grant; other users can get at its socket."""
    folder.chmod(0o711)
    return MemorySidecar(
        folder,
        server={"socket_group": str(OTHER.gid)},
        callers={name: {"unix": unix} for name, unix in callers.items()},
        grants=[{"caller": name, "opaque": True} for name in callers],
    )


def as_user(user: User, act: Callable[[], object]) -> int:
    """Begin ``act`` in a child process of ``user``; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if IS_ROOT:
            os.setgroups(user.groups)
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        act()
    except BaseException as error:  # noqa: BLE001 - nothing of the test's may run on in the child
        os.write(2, repr(error).encode())
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> int:
    """The exit status of a child, which ends by itself."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SECONDS)
    sock.connect(os.fspath(path))
    return sock


def read_answer(sock: socket.socket) -> bytes:
    """One answer with its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    [length] = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while len(body) < length:
        body += _some(sock)
    return head + b"\r\n\r\n" + body


def _some(sock: socket.socket) -> bytes:
    got = sock.recv(65536)
    if not got:
        raise EOFError("the connection ended before the answer was whole")
    return got


def read(answer: bytes) -> tuple[Denial, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    members = json.loads(body)
    return (int(head.split(b" ")[1]), members.get("reason")), members


def ask(sock: socket.socket, request: bytes = REQUEST) -> Denial:
    sock.sendall(request)
    return read(read_answer(sock))[0]


async def aside(function: Callable[..., Any], *arguments: Any) -> Any:
    with anyio.fail_after(SECONDS):
        return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=True)


async def asked_by(user: User, path: Path) -> Denial:
    """What a process of ``user`` is answered."""
    ours, theirs = socket.socketpair()

    def act() -> None:
        with connected(path) as sock:
            sock.sendall(REQUEST)
            theirs.sendall(read_answer(sock))

    with ours, theirs:
        ours.settimeout(SECONDS)
        child = as_user(user, act)
        theirs.close()
        answer = await aside(read_answer, ours)
        assert await aside(ended, child) == 0
    return read(answer)[0]


PROGRAM = """
import os, socket, sys
path = sys.argv[1]
sock = socket.socket(socket.AF_UNIX)
if path.isdecimal():
    sock = socket.socket(fileno=int(path))
else:
    sock.connect(path)
sock.settimeout(15)
control = socket.socket(fileno=int(sys.argv[2]))
control.sendall(b"up")
while command := control.recv(65536):
    if command == b"pass":
        socket.send_fds(control, [b"it"], [sock.fileno()])
    elif command.startswith(b"exec "):
        os.set_inheritable(sock.fileno(), True)
        os.execv(command[5:].decode(), [command[5:].decode(), *sys.orig_argv[1:-2], str(sock.fileno()), sys.argv[2]])
    else:
        sock.sendall(command)
        control.sendall(sock.recv(65536))
"""
"""A client that does what it is told over a socket of ours: send, hand its connection over, execute another program."""


class Program:
    """A running :data:`PROGRAM` that has connected."""

    def __init__(self, executable: Path, path: Path) -> None:
        self.control, theirs = socket.socketpair()
        self.control.settimeout(SECONDS)
        command = [str(executable), "-S", "-s", "-c", PROGRAM, str(path), str(theirs.fileno())]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, pass_fds=[theirs.fileno()], text=True)
        theirs.close()

    async def up(self) -> None:
        assert await aside(self.control.recv, 2) == b"up"

    async def asks(self, request: bytes = REQUEST) -> Denial:
        self.control.sendall(request)
        return read(await aside(self.control.recv, 65536))[0]

    async def becomes(self, executable: Path) -> None:
        self.control.sendall(b"exec " + os.fsencode(executable))
        await self.up()

    async def hands_over(self) -> socket.socket:
        """Its connection, now ours as well."""
        self.control.sendall(b"pass")
        _, [descriptor], _, _ = await aside(socket.recv_fds, self.control, 16, 1)
        sock = socket.socket(fileno=descriptor)
        sock.settimeout(SECONDS)
        return sock

    async def ends(self) -> None:
        self.control.close()
        await aside(self.process.wait)


@asynccontextmanager
async def program(executable: Path, path: Path) -> AsyncIterator[Program]:
    running = Program(executable, path)
    try:
        await running.up()
        yield running
    finally:
        await running.ends()


def copy_of_python(path: Path) -> Path:
    shutil.copy(PYTHON, path)
    return path


async def refusals(sidecar: MemorySidecar) -> dict[str, float]:
    reader, writer = await asyncio.open_unix_connection(sidecar.path)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n")
    lines = (await asyncio.wait_for(reader.read(), SECONDS)).decode().splitlines()
    writer.close()
    counted = [line.split('"') for line in lines if line.startswith("frost_coordinator_refusals_total{")]
    return {reason: float(count.removeprefix("} ")) for _, reason, count in counted}


# --- user and groups --------------------------------------------------------------------------------------------------

USERS: dict[str, tuple[dict[str, Any], bool]] = {
    "anybody": ({}, True),
    "the user": ({"uid": OTHER.uid}, True),
    "the group": ({"gid": OTHER.gid}, True),
    "user and group": ({"uid": OTHER.uid, "gid": OTHER.gid}, True),
    "a supplementary group": ({"gid": (*OTHER.groups, OTHER.gid)[0]}, True),
    "the last of them": ({"uid": OTHER.uid, "gid": (OTHER.gid, *OTHER.groups)[-1]}, True),
    "another user": ({"uid": STRANGE}, False),
    "another group": ({"gid": STRANGE}, False),
    "the user in another group": ({"uid": OTHER.uid, "gid": STRANGE}, False),
    "the group of another user": ({"uid": STRANGE, "gid": OTHER.gid}, False),
    "the user's number as a group": ({"gid": OTHER.uid}, OTHER.uid in {OTHER.gid, *OTHER.groups}),
    "root": ({"uid": 0}, OTHER.uid == 0),
    "root's group": ({"gid": 0}, 0 in {OTHER.gid, *OTHER.groups}),
    "the sidecar's user": ({"uid": ME.uid}, OTHER == ME),
}


@pytest.mark.parametrize("name", USERS)
async def test_a_caller_is_who_its_user_and_groups_say(short_path: Path, name: str) -> None:
    unix, fits = USERS[name]
    sidecar = sidecar_for(short_path, mint=unix)
    async with sidecar.serving():
        assert await asked_by(OTHER, sidecar.path) == (SIGNED if fits else NOBODY)
        assert await refusals(sidecar) == ({} if fits else {"caller-unknown": 1.0})
    [record] = sidecar.cluster.records
    assert record.caller == f"unix:uid={OTHER.uid},gid={OTHER.gid}"
    assert (record.outcome, record.caller_name, record.refusal) == (
        ("signed", "mint", None) if fits else ("denied", None, "caller-unknown")
    )


async def test_the_first_caller_that_fits_counts(short_path: Path) -> None:
    sidecar = sidecar_for(short_path, a={"uid": STRANGE}, b={"gid": OTHER.gid}, c={"uid": OTHER.uid}, d={})
    async with sidecar.serving():
        assert await asked_by(OTHER, sidecar.path) == SIGNED
        assert await asked_by(ME, sidecar.path) == SIGNED
    assert [record.caller_name for record in sidecar.cluster.records] == ["b", "d" if IS_ROOT else "b"]


MANY = User(47140, OTHER.gid, tuple(range(48000, 48300))) if IS_ROOT else ME


@pytest.mark.parametrize("group", [MANY.gid, (MANY.gid, *MANY.groups)[-1]])
async def test_of_more_groups_than_the_kernel_tells_us_the_first_alone_counts(short_path: Path, group: int) -> None:
    sidecar = sidecar_for(short_path, mint={"gid": group})
    async with sidecar.serving():
        assert await asked_by(MANY, sidecar.path) == (NOBODY if IS_ROOT and group != MANY.gid else SIGNED)


async def test_callers_of_other_kinds_are_not_met_on_the_socket(short_path: Path) -> None:
    callers = {"inside": {"in_process": True}, "outside": {"tcp": {}}}
    grants = [{"caller": name, "opaque": True} for name in callers]
    sidecar = MemorySidecar(short_path, callers=callers, grants=grants)
    async with sidecar.serving():
        assert await asked_by(ME, sidecar.path) == NOBODY
    assert [record.refusal for record in sidecar.cluster.records] == ["caller-unknown"]


async def test_a_known_caller_without_a_grant_gets_nothing(short_path: Path) -> None:
    callers = {"mint": {"unix": {"uid": ME.uid}}, "other": {"unix": {}}}
    sidecar = MemorySidecar(short_path, callers=callers, grants=[{"caller": "other", "opaque": True}])
    async with sidecar.serving():
        assert await asked_by(ME, sidecar.path) == (403, "grant-missing")
        assert await refusals(sidecar) == {"grant-missing": 1.0}
    assert [(record.caller_name, record.refusal) for record in sidecar.cluster.records] == [("mint", "grant-missing")]


# --- the program ------------------------------------------------------------------------------------------------------


def by_link(folder: Path) -> Path:
    (folder / "link").symlink_to(PYTHON)
    return folder / "link"


def by_another_name(folder: Path) -> Path:
    os.link(copy_of_python(folder / "program"), folder / "name")
    return folder / "name"


PROGRAMS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Path], Denial]] = {
    "the very file": (lambda _: PYTHON, lambda _: PYTHON, SIGNED),
    "through a link": (by_link, lambda _: PYTHON, SIGNED),
    "under its second name": (by_another_name, lambda folder: folder / "program", SIGNED),
    "a copy of it": (lambda _: PYTHON, lambda folder: copy_of_python(folder / "copy"), NOBODY),
    "one of the same name": (lambda _: PYTHON, lambda folder: copy_of_python(folder / PYTHON.name), NOBODY),
    "another program": (lambda _: Path("/bin/sh"), lambda _: PYTHON, NOBODY),
    "a file that is not there": (lambda folder: folder / "absent", lambda _: PYTHON, NOBODY),
    "a folder": (lambda folder: folder, lambda _: PYTHON, NOBODY),
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_caller_is_the_file_that_it_runs(short_path: Path, tmp_path: Path, kernel: str, name: str) -> None:
    configured, runs, expected = PROGRAMS[name]
    sidecar = sidecar_for(short_path, mint={"uid": ME.uid, "executable": str(configured(tmp_path))})
    async with sidecar.serving(), program(runs(tmp_path), sidecar.path) as caller:
        assert await caller.asks() == expected
        assert await caller.asks() == expected
    assert {(record.caller_name, record.refusal) for record in sidecar.cluster.records} == {
        ("mint", None) if expected == SIGNED else (None, "caller-unknown")
    }


async def test_a_program_that_was_replaced_on_disk_is_another_one(
    short_path: Path, tmp_path: Path, kernel: str
) -> None:
    executable = copy_of_python(tmp_path / "mint")
    sidecar = sidecar_for(short_path, mint={"executable": str(executable)})
    async with sidecar.serving(), program(executable, sidecar.path) as old:
        assert await old.asks() == SIGNED
        copy_of_python(tmp_path / "new").rename(executable)
        assert await old.asks() == NOBODY
        async with program(executable, sidecar.path) as new:
            assert await new.asks() == SIGNED


async def test_what_a_process_runs_is_looked_up_for_each_request(short_path: Path, tmp_path: Path, kernel: str) -> None:
    copy = copy_of_python(tmp_path / "copy")
    sidecar = sidecar_for(short_path, mint={"executable": str(PYTHON)})
    async with sidecar.serving(), program(PYTHON, sidecar.path) as caller:
        assert await caller.asks() == SIGNED
        await caller.becomes(copy)
        assert await caller.asks() == NOBODY
        await caller.becomes(PYTHON)
        assert await caller.asks() == SIGNED


async def test_a_later_caller_counts_where_the_program_is_another_one(short_path: Path, tmp_path: Path) -> None:
    sidecar = sidecar_for(short_path, mint={"executable": str(PYTHON)}, tools={"uid": ME.uid})
    async with sidecar.serving(), program(copy_of_python(tmp_path / "copy"), sidecar.path) as caller:
        assert await caller.asks() == SIGNED
    assert [record.caller_name for record in sidecar.cluster.records] == ["tools"]


async def test_a_connection_that_was_handed_on_speaks_for_who_made_it(
    short_path: Path, tmp_path: Path, kernel: str
) -> None:
    copy = copy_of_python(tmp_path / "copy")
    sidecar = sidecar_for(short_path, mint={"executable": str(copy)})
    async with sidecar.serving(), program(copy, sidecar.path) as caller:
        with await caller.hands_over() as sock:
            assert await aside(ask, sock) == SIGNED
            with connected(sidecar.path) as own:
                assert await aside(ask, own) == NOBODY


async def test_once_who_connected_has_ended_nobody_knows_what_it_ran(
    short_path: Path, tmp_path: Path, kernel: str
) -> None:
    """Nor does a caller that would fit without a program count: an unknown answer is a refusal."""
    sidecar = sidecar_for(short_path, mint={"executable": str(PYTHON)}, anybody={})
    async with sidecar.serving():
        async with program(PYTHON, sidecar.path) as caller:
            sock = await caller.hands_over()
            assert await aside(ask, sock) == SIGNED
        with sock:
            sock.sendall(REQUEST)
            denial, problem = read(await aside(read_answer, sock))
        assert denial == UNKNOWN
        assert "has ended" in problem["detail"]
        assert await refusals(sidecar) == {"peer-unknown": 1.0}
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"]  # at the door: there is no message yet


async def test_a_process_that_has_ended_but_was_not_waited_for_runs_nothing(short_path: Path, kernel: str) -> None:
    sidecar = sidecar_for(short_path, mint={"executable": str(PYTHON)})
    async with sidecar.serving():
        caller = Program(PYTHON, sidecar.path)
        await caller.up()
        with await caller.hands_over() as sock, caller.control:
            caller.process.kill()
            await aside(os.waitid, os.P_PID, caller.process.pid, os.WEXITED | os.WNOWAIT)
            assert await aside(ask, sock) == UNKNOWN
        caller.process.wait()


async def test_where_no_program_is_demanded_the_process_may_end(short_path: Path) -> None:
    sidecar = sidecar_for(short_path, mint={"uid": ME.uid})
    async with sidecar.serving():
        async with program(PYTHON, sidecar.path) as caller:
            sock = await caller.hands_over()
        with sock:
            assert await aside(ask, sock) == SIGNED


async def test_the_program_of_another_user_is_looked_at_only_where_that_user_fits(short_path: Path) -> None:
    sidecar = sidecar_for(short_path, mint={"uid": STRANGE, "executable": str(PYTHON)}, tools={})
    async with sidecar.serving():
        async with program(PYTHON, sidecar.path) as caller:
            sock = await caller.hands_over()
        with sock:
            assert await aside(ask, sock) == SIGNED
    assert [record.caller_name for record in sidecar.cluster.records] == ["tools"]


# --- where it cannot be said ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def accepted(path: Path) -> Iterator[socket.socket]:
    """A connection of this process's own, from the side that accepts it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        server.listen()
        with connected(path), server.accept()[0] as sock:
            yield sock


def test_a_program_that_may_not_be_looked_at_is_unknown(short_path: Path, kernel: str) -> None:
    """The one who looks needs the same user or CAP_SYS_PTRACE, and a process that lets itself be looked at."""
    short_path.chmod(0o711)
    looking = User(47120, 47121, ()) if IS_ROOT else ME
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    with socket.socket(socket.AF_UNIX) as server, ours, theirs:
        server.bind(os.fspath(short_path / "s"))
        (short_path / "s").chmod(0o777)
        server.listen()

        def call() -> None:
            ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
            with connected(short_path / "s"):
                signal.pause()

        def look() -> None:
            sock = server.accept()[0]
            try:
                Peer.of(sock).runs(PYTHON)
            except Unauthenticated as error:
                theirs.sendall(f"{error.reason}: {error}".encode())

        caller = as_user(OTHER, call)
        looker = as_user(looking, look)
        theirs.close()
        try:
            said = ours.recv(4096).decode()
        finally:
            os.kill(caller, signal.SIGKILL)
            os.waitpid(caller, 0)
            assert ended(looker) == 0
    assert said.startswith("peer-unknown: ")
    assert f"(uid {OTHER.uid}) may not be looked at by uid {looking.uid}" in said
    assert "CAP_SYS_PTRACE" in said


class FakeProc:
    """A /proc as far as it is looked at, of which the tests decide what it says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = folder / str(os.getpid())
        self.descriptors = folder / "self" / "fdinfo"
        self.process.mkdir()
        self.descriptors.mkdir(parents=True)
        (self.process / "exe").symlink_to(PYTHON)
        monkeypatch.setattr(peer, "_PROC", folder)

    def starts(self, ticks: int) -> None:
        (self.process / "stat").write_text(f"{os.getpid()} (a) b) 1 (c) S 1 {'7 ' * 17}{ticks} 8 9\n")

    def says_pid(self, line: str) -> None:
        for number in range(256):
            (self.descriptors / str(number)).write_text(f"pos:\t0\nflags:\t02000002\n{line}\n")


def test_a_pid_that_another_process_got_meanwhile_is_noticed(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_SO_PEERPIDFD", 9999)
    proc = FakeProc(tmp_path, monkeypatch)
    proc.starts(100)
    with accepted(short_path / "s") as sock:
        who = Peer.of(sock)
        assert who.runs(PYTHON)
        assert not who.runs(Path("/bin/sh"))
        proc.starts(101)
        with pytest.raises(Unauthenticated, match="has ended") as refused:
            who.runs(PYTHON)
    assert refused.value.reason == "peer-unknown"


class Meanwhile(type(Path())):  # type: ignore[misc]
    """A path at which something happens while it is looked at."""

    happens: Callable[[], object]

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        status: os.stat_result = super().stat(follow_symlinks=follow_symlinks)
        self.happens()
        return status


def test_a_pid_that_changes_hands_during_the_look_is_noticed(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_SO_PEERPIDFD", 9999)
    proc = FakeProc(tmp_path, monkeypatch)
    proc.starts(100)
    executable = Meanwhile(PYTHON)
    executable.happens = lambda: proc.starts(101)
    with accepted(short_path / "s") as sock:
        who = Peer.of(sock)
        with pytest.raises(Unauthenticated, match="has ended"):
            who.runs(executable)


def test_a_process_that_ends_during_the_look_is_noticed(short_path: Path, kernel: str) -> None:
    """Once it was waited for, its pid is free for another process, whose program may be the right one."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(short_path / "s"))
        server.listen()
        caller = Program(PYTHON, short_path / "s")
        with caller.control, server.accept()[0] as sock:
            assert caller.control.recv(2) == b"up"
            who = Peer.of(sock)
            assert who.runs(PYTHON)
            executable = Meanwhile(PYTHON)

            def ends() -> None:
                caller.process.kill()
                caller.process.wait()

            executable.happens = ends
            with pytest.raises(Unauthenticated, match="has ended") as refused:
                who.runs(executable)
    assert refused.value.reason == "peer-unknown"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Pid:\t0", "shareProcessNamespace"),
        ("Pid:\t-1", "has ended"),
        ("Nothing:\t1", "does not show"),
        ("Pid:\tx", "does not show"),
        ("Pid:\t999999999", "has ended"),
    ],
)
def test_a_process_that_proc_does_not_show_is_unknown(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """0 stands for a process of another pid namespace, -1 for one that is gone (pidfd_open(2), fdinfo)."""
    FakeProc(tmp_path, monkeypatch).says_pid(line)
    with accepted(short_path / "s") as sock, pytest.raises(Unauthenticated, match=said) as refused:
        Peer.of(sock).runs(PYTHON)
    assert refused.value.reason == "peer-unknown"


def test_without_a_start_time_nothing_is_taken_for_sure(
    short_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "_SO_PEERPIDFD", 9999)
    proc = FakeProc(tmp_path, monkeypatch)
    for content in ("", "4711 (a", "4711 (a) S 1 2"):
        (proc.process / "stat").write_text(content)
        with accepted(short_path / f"s{len(content)}") as sock, pytest.raises(Unauthenticated):
            Peer.of(sock).runs(PYTHON)


class Credentials:
    """A connected socket that the kernel says this of; the kernel is the edge that it stands in for."""

    def __init__(self, family: int = socket.AF_UNIX, credentials: bytes = b"", error: int | None = None) -> None:
        self.family = family
        self.credentials = credentials
        self.error = error

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        if self.error is not None or optname != socket.SO_PEERCRED:
            raise OSError(self.error or 92, os.strerror(self.error or 92))
        return self.credentials


@pytest.mark.parametrize(
    "sock",
    [
        Credentials(family=socket.AF_INET),
        Credentials(credentials=b""),
        Credentials(credentials=b"\0" * 8),
        Credentials(error=9),
        Credentials(error=22),
    ],
)
def test_without_credentials_nobody_is_calling(sock: Credentials) -> None:
    with pytest.raises(Unauthenticated) as refused:
        Peer.of(sock)
    assert refused.value.reason == "peer-unknown"


async def test_whom_the_kernel_does_not_name_is_not_let_in(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = sidecar_for(short_path, anybody={})
    async with sidecar.serving() as http:
        async with http.get("/healthz") as response:
            assert response.status == 200
        monkeypatch.setattr(peer, "_CREDENTIALS", struct.Struct("iIIII"))  # more than it says
        assert await asked_by(ME, sidecar.path) == UNKNOWN
        async with http.post("/sign", data=BODY) as response:
            assert response.status == 200  # who was met before is still known
        assert await refusals(sidecar) == {"peer-unknown": 1.0}


async def test_a_configured_program_that_is_not_there_is_said_at_the_start(
    short_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar = sidecar_for(short_path, mint={"executable": "/nonexistent/mint"}, tools={"executable": str(PYTHON)})
    async with sidecar.serving():
        [said] = [each for each in caplog.records if "executable is no file" in each.message]
    assert vars(said)["caller"] == "mint"


@pytest.mark.parametrize(("uid", "gid"), [(1000, 2000), (0, 0), (4294967294, 65534)])
def test_the_kernels_numbers_name_the_caller(uid: int, gid: int) -> None:
    numbers = (0).to_bytes(4, sys.byteorder) + uid.to_bytes(4, sys.byteorder) + gid.to_bytes(4, sys.byteorder)
    who = Peer.of(Credentials(credentials=numbers))
    assert who.subject == f"unix:uid={uid},gid={gid}"
    assert who.groups == {gid}
    with pytest.raises(Unauthenticated, match="another pid namespace"):
        who.runs(PYTHON)


# --- descriptors ------------------------------------------------------------------------------------------------------


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_two_thousand_connections_leave_no_descriptor_behind(short_path: Path, kernel: str) -> None:
    sidecar = sidecar_for(short_path, mint={"executable": str(PYTHON)})
    async with sidecar.serving() as http:
        async with http.get("/healthz") as response:
            assert response.status == 200
        before = descriptors()
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(_one_bad_request, sidecar.path)
        with anyio.fail_after(SECONDS):
            while descriptors() > before:
                await anyio.sleep(0.01)


async def _one_bad_request(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(BAD)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), SECONDS)
    writer.close()
    await writer.wait_closed()
    assert b" 400 " in answer


async def test_an_open_connection_takes_no_descriptor_beside_its_own(short_path: Path, kernel: str) -> None:
    sidecar = sidecar_for(short_path, mint={"executable": str(PYTHON)})
    async with sidecar.serving():
        before = descriptors()
        writers = []
        for _ in range(100):
            reader, writer = await asyncio.open_unix_connection(sidecar.path)
            writer.write(BAD)
            assert b" 400 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), SECONDS)
            writers.append(writer)
        assert descriptors() - before == 2 * len(writers)  # both ends are ours
        for writer in writers:
            writer.close()
            await writer.wait_closed()


# --- as it is deployed ------------------------------------------------------------------------------------------------


def test_a_real_sidecar_tells_two_programs_of_one_user_apart(tmp_path: Path, short_path: Path) -> None:
    """The process that ``frost-sidecar serve`` is, with the event loop that it uses."""
    grants = (
        f"[callers.mint.unix]\nuid = {ME.uid}\nexecutable = {json.dumps(str(PYTHON))}\n\n"
        '[[grants]]\ncaller = "mint"\nopaque = true\n'
    )
    with ProcessCluster(short_path / "c", grants=grants) as cluster:
        cluster.start()
        with connected(cluster.socket) as sock:
            assert ask(sock) == SIGNED
        other = Program(copy_of_python(tmp_path / "copy"), cluster.socket)
        assert other.control.recv(2) == b"up"
        other.control.sendall(REQUEST)
        assert read(other.control.recv(65536))[0] == NOBODY
        other.control.close()
        other.process.wait(SECONDS)
        log = cluster.audit_log.read_text()
    assert log.count('"caller_name":"mint"') == log.count('"refusal":"caller-unknown"') == 1
