"""The blocking facade as its users meet it: threads, forks, interrupts, and a program that ends without a word."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar import portal as portal_module
from frost_sidecar.blocking import BlockingCoordinator, SidecarClient
from frost_sidecar.config import Config
from frost_sidecar.errors import ConfigError, DeadlineExceeded, ShuttingDown, UnknownKey
from frost_sidecar.jose import jwk_set
from frost_sidecar.model import Signed
from frost_sidecar.portal import Portal
from frost_sidecar.service import BlockingSigningService
from frost_sidecar.testing.processes import ProcessCluster

MESSAGE = b"header.payload"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ProcessCluster]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as running:
        running.write_coordinator(running.folder / "mint.toml", running.folder / "mint-audit.log")
        running.start()
        yield running


@pytest.fixture(params=["coordinator", "client"])
def service(request: pytest.FixtureRequest, cluster: ProcessCluster) -> Iterator[BlockingSigningService]:
    with _open(request.param, cluster) as opened:
        yield opened


def _open(kind: str, cluster: ProcessCluster) -> BlockingCoordinator | SidecarClient:
    if kind == "coordinator":
        return BlockingCoordinator.open(Config.load(cluster.folder / "mint.toml", environ={}))
    return SidecarClient(cluster.socket)


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "frost-sidecar"]


def test_every_method(service: BlockingSigningService, cluster: ProcessCluster) -> None:
    public = cluster.dealt.group_public
    signed = service.sign(MESSAGE, participants=[1, 3], request_id="r-1", timeout=5)
    Ed25519PublicKey.from_public_bytes(public).verify(signed.signature, MESSAGE)
    assert (signed.participants, signed.request_id) == ((1, 3), "r-1")
    first, second = service.sign_batch([b"a", b"b"])
    assert isinstance(first, Signed)
    assert isinstance(second, Signed)
    assert service.group_public() == public
    assert service.jwks() == jwk_set([public])
    assert service.readiness().ready
    with pytest.raises(UnknownKey):
        service.group_public("other")


def test_many_threads_at_once(service: BlockingSigningService, cluster: ProcessCluster) -> None:
    key = Ed25519PublicKey.from_public_bytes(cluster.dealt.group_public)
    messages = [b"%d" % number for number in range(120)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for message, signed in zip(messages, pool.map(service.sign, messages), strict=True):
            key.verify(signed.signature, message)
    assert len(_threads()) == 1


async def test_in_an_event_loops_thread_it_says_what_to_use(cluster: ProcessCluster) -> None:
    client = SidecarClient(cluster.socket)
    with pytest.raises(RuntimeError, match="await Coordinator or AsyncSidecarClient"):
        client.sign(MESSAGE)
    with pytest.raises(RuntimeError, match="await Coordinator or AsyncSidecarClient"):
        BlockingCoordinator.open(Config.load(cluster.folder / "mint.toml", environ={}))
    assert (await anyio.to_thread.run_sync(client.sign, MESSAGE)).key == "default"
    with pytest.raises(RuntimeError, match="await Coordinator or AsyncSidecarClient"):
        client.sign(MESSAGE)
    await anyio.to_thread.run_sync(client.close)
    assert _threads() == []


@pytest.mark.parametrize("kind", ["coordinator", "client"])
def test_closed_is_closed(kind: str, cluster: ProcessCluster) -> None:
    service = _open(kind, cluster)
    service.sign(MESSAGE)
    for _ in range(2):
        service.close()
        with pytest.raises(RuntimeError, match="the service is closed"):
            service.sign(MESSAGE)
    with pytest.raises(RuntimeError, match="the service is closed"), service:
        raise AssertionError("opened")
    assert _threads() == []


def test_what_stops_the_start_is_raised_where_it_was_started(tmp_path: Path, cluster: ProcessCluster) -> None:
    config = tmp_path / "mint.toml"
    text = (cluster.folder / "mint.toml").read_text()
    config.write_text(text.replace(str(cluster.dealt.group_file.parent), str(tmp_path)))
    with pytest.raises(ConfigError, match="cannot read the group file"):
        BlockingCoordinator.open(Config.load(config, environ={}))
    with pytest.raises(ConfigError, match="https://HOST:PORT"):
        SidecarClient("http://localhost:1")
    assert _threads() == []


def test_an_interrupt_ends_the_work_behind_the_call(short_path: Path) -> None:
    """Ctrl-C in the calling thread: the request's connection is closed, and the client goes on."""
    gone = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def silent(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            signal.pthread_kill(main, signal.SIGINT)
            while connection.recv(65536):
                pass
            gone.set()

    with socket.socket(socket.AF_UNIX) as server, SidecarClient(short_path / "s", timeout=60) as client:
        server.bind(os.fspath(short_path / "s"))
        server.listen()
        thread = threading.Thread(target=silent, args=[server])
        thread.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.sign(MESSAGE)
        assert gone.wait(10)
        thread.join(10)
        assert time.monotonic() - started < 20


class Slow:
    """A service whose one method waits until it is told to go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.ended: str | None = None
        self.open = True

    async def wait(self) -> str:
        self.entered.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = f"finished while open: {self.open}"
        return self.ended

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self.go_on.set)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], tuple[Portal[Slow], Slow]]]:
    monkeypatch.setattr(portal_module, "_SPARE_SECONDS", 0.3)
    opened: list[Portal[Slow]] = []

    @asynccontextmanager
    async def opener() -> AsyncIterator[Slow]:
        service = Slow()
        services.append(service)
        try:
            yield service
        finally:
            service.open = False

    services: list[Slow] = []

    def start(seconds: float) -> tuple[Portal[Slow], Slow]:
        opened.append(Portal(opener, seconds))
        opened[-1].open()
        return opened[-1], services[-1]

    yield start
    for each in opened:
        each.close()
    assert _threads() == []


def test_closing_lets_calls_under_way_finish(slow: Callable[[float], tuple[Portal[Slow], Slow]]) -> None:
    portal, service = slow(30)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        calling = pool.submit(portal.call, Slow.wait)
        assert service.entered.wait(10)
        closing = pool.submit(portal.close)
        while portal._accepting:
            assert not closing.done()
        with pytest.raises(RuntimeError, match="the service is closed"):
            portal.call(Slow.wait)
        assert not closing.done()
        service.release()
        assert calling.result(10) == "finished while open: True"
        closing.result(10)
    assert not service.open


def test_a_loop_that_dies_ends_the_calls_in_it(slow: Callable[[float], tuple[Portal[Slow], Slow]]) -> None:
    portal, service = slow(30)

    async def ends(_: Slow) -> None:
        raise SystemExit

    with concurrent.futures.ThreadPoolExecutor() as pool:
        calling = pool.submit(portal.call, Slow.wait)
        assert service.entered.wait(10)
        with pytest.raises(SystemExit):
            pool.submit(portal.call, ends).result(10)
        with pytest.raises(ShuttingDown):
            calling.result(10)
    assert service.ended == "cancelled"
    portal._thread.join(10)
    with pytest.raises(RuntimeError, match="the service is closed"):
        portal.call(Slow.wait)


def test_a_service_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portal_module, "_SPARE_SECONDS", 0.3)
    ended: list[str] = []

    @asynccontextmanager
    async def opener() -> AsyncIterator[None]:
        yield
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    portal = Portal(opener, 0.1)
    portal.open()
    portal.close()
    assert ended == ["cancelled"]
    portal._thread.join(10)
    assert _threads() == []


def test_a_call_that_outstays_its_time_is_cancelled(slow: Callable[[float], tuple[Portal[Slow], Slow]]) -> None:
    portal, service = slow(0.1)
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.4 s"):
        portal.call(Slow.wait)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        calling = pool.submit(portal.call, Slow.wait)
        service.release()
        assert calling.result(10) == "finished while open: True"


def test_a_blocked_event_loop_does_not_block_its_callers(slow: Callable[[float], tuple[Portal[Slow], Slow]]) -> None:
    portal, _ = slow(0.1)
    release = threading.Event()

    async def blocks(_: Slow) -> None:
        release.wait(30)  # what no plugin may do

    try:
        started = time.monotonic()
        for _ in range(2):
            with pytest.raises(DeadlineExceeded, match="does a plugin block the event loop"):
                portal.call(blocks)
        assert time.monotonic() - started < 10
    finally:
        release.set()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _until_no_thread_is_left() -> None:
    deadline = time.monotonic() + 10
    while _threads():
        assert time.monotonic() < deadline, "a background thread was left"
        time.sleep(0.01)


@pytest.mark.parametrize("moment", ["before the loop", "while it opens", "when it is open"])
def test_an_interrupt_while_it_opens_leaves_nothing(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    interrupted, entered = threading.Event(), threading.Event()

    @asynccontextmanager
    async def opener() -> AsyncIterator[None]:
        told.append("opened")
        entered.set()
        try:
            if moment == "while it opens":
                await anyio.sleep_forever()
            yield
        finally:
            told.append("closed")

    portal = Portal(opener, 1)
    result = portal._ready.result

    def interrupt(_: float | None = None) -> None:
        if moment != "before the loop":
            assert entered.wait(10)
        if moment == "when it is open":
            result(10)
        raise KeyboardInterrupt

    def late() -> None:
        assert moment != "before the loop" or interrupted.wait(10)
        portal._run()

    monkeypatch.setattr(portal._ready, "result", interrupt)
    portal._thread = threading.Thread(target=late, name="frost-sidecar", daemon=True)
    with pytest.raises(KeyboardInterrupt):
        portal.open()
    interrupted.set()
    portal._thread.join(10)
    assert portal.ended
    assert told == ([] if moment == "before the loop" else ["opened", "closed"])
    with pytest.raises(RuntimeError, match="the service is closed"):
        portal.call(lambda _: anyio.sleep_forever())


class _Interrupted(BaseException):
    pass


def test_interrupts_at_any_moment_leave_no_threads_and_no_descriptors(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise _Interrupted

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if not isinstance(args.exc_value, _Interrupted):  # one inside a weak reference's callback goes nowhere
            report(args)

    report = sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", unraisable)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(short_path / "s"))
            server.listen(200)  # takes connections and never answers
            open_files = _open_files()
            for number in range(60):
                client = SidecarClient(short_path / "s", timeout=2, attempts=1)
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + number * 0.0001)
                    client.sign(MESSAGE)
                except (_Interrupted, DeadlineExceeded):
                    pass
                except RuntimeError as error:
                    # Inside threading.Condition the interpreter's own lock fails over the interrupt, and hides it.
                    if not isinstance(error.__context__, _Interrupted):
                        raise
                client.close()
            _until_no_thread_is_left()
            assert _open_files() == open_files
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_client_that_is_dropped_ends_its_thread(cluster: ProcessCluster) -> None:
    client = SidecarClient(cluster.socket)
    client.sign(MESSAGE)
    assert len(_threads()) == 1
    del client
    gc.collect()
    _until_no_thread_is_left()


def _run(cluster: ProcessCluster, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in which every forgotten connection and coroutine is an error on its output."""
    setup = f"""
import multiprocessing, os, sys, threading, time, warnings
from pathlib import Path
warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)  # Python 3.12: it is the point
from frost_sidecar.blocking import BlockingCoordinator, SidecarClient
from frost_sidecar.config import Config
SOCKET = {str(cluster.socket)!r}
TOML = {str(cluster.folder / "mint.toml")!r}
CONFIG = Config.load(TOML, environ={{}})
PUBLIC = {cluster.dealt.group_public!r}

def good(signed):
    assert signed.group_public == PUBLIC

def child(function):
    pid = os.fork()
    if pid == 0:
        function()
        sys.exit(7)  # the whole way out, with atexit and finalizers
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", setup + script],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _clean(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize("opened", ["BlockingCoordinator.open(CONFIG)", "SidecarClient(SOCKET)"])
def test_a_program_may_end_without_closing(cluster: ProcessCluster, opened: str) -> None:
    script = f"service = {opened}\ngood(service.sign(b'm'))\nprint('end')"
    started = time.monotonic()
    done = _run(cluster, script)
    _clean(done)
    assert done.stdout == "end\n"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("drop", ["", "del coordinator"])
def test_what_is_not_closed_is_closed_at_the_programs_end(cluster: ProcessCluster, drop: str) -> None:
    done = _run(
        cluster,
        """
from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import Decision, Policy

class Witness(Policy):
    async def decide(self, request):
        return Decision(True)

    async def __aexit__(self, *_):
        print("plugin closed")

    @hookimpl
    def make_policy(self, context):
        return self

import tomllib
values = tomllib.loads(Path(TOML).read_text())
values["plugins"]["witness"] = {}
coordinator = BlockingCoordinator.open(Config.build(values), plugins={"witness": Witness()})
good(coordinator.sign(b"m"))
"""
        + drop
        + """
print("end", flush=True)
""",
    )
    _clean(done)
    assert sorted(done.stdout.split("\n")) == ["", "end", "plugin closed"]
    assert drop or done.stdout == "end\nplugin closed\n"


def test_a_client_opens_anew_in_each_forked_child(cluster: ProcessCluster) -> None:
    """As gunicorn's preload does: the client is used before the fork, in several children, and in the parent after."""
    _clean(
        _run(
            cluster,
            """
client = SidecarClient(SOCKET)
good(client.sign(b"parent"))

def work():
    threads = [threading.Thread(target=lambda: good(client.sign(b"child"))) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    grandchild = child(lambda: good(client.sign(b"grandchild")))
    assert ended(grandchild) == 7

children = [child(work) for _ in range(3)]
good(client.sign(b"parent meanwhile"))
assert [ended(each) for each in children] == [7, 7, 7]
for _ in range(20):
    good(client.sign(b"parent again"))
""",
        )
    )


def test_a_client_that_a_child_drops_is_still_the_parents(cluster: ProcessCluster) -> None:
    _clean(
        _run(
            cluster,
            """
import gc
client = SidecarClient(SOCKET)
good(client.sign(b"parent"))

def work():
    global client
    del client
    gc.collect()

assert ended(child(work)) == 7
good(client.sign(b"parent again"))
assert [each.name for each in threading.enumerate()].count("frost-sidecar") == 1
del client
gc.collect()
assert ended(child(lambda: good(SidecarClient(SOCKET).sign(b"child")))) == 7
""",
        )
    )


def test_a_client_forked_in_the_middle_of_other_threads_calls(cluster: ProcessCluster) -> None:
    _clean(
        _run(
            cluster,
            """
client = SidecarClient(SOCKET)
stop = threading.Event()

def busy():
    while not stop.is_set():
        good(client.sign(b"busy"))

threads = [threading.Thread(target=busy) for _ in range(4)]
for each in threads: each.start()
for _ in range(10):
    assert ended(child(lambda: good(client.sign(b"child")))) == 7
stop.set()
for each in threads: each.join()
client.close()
""",
        )
    )


def test_a_client_in_a_pool_of_forked_workers(cluster: ProcessCluster) -> None:
    _clean(
        _run(
            cluster,
            """
client = SidecarClient(SOCKET)
good(client.sign(b"parent"))

def work(number):
    return client.sign(b"%d" % number).group_public

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(work, range(10)) == [PUBLIC] * 10
    pool.close()
    pool.join()
""",
        )
    )


def test_a_coordinator_says_in_a_forked_child_that_it_must_be_opened_there(cluster: ProcessCluster) -> None:
    _clean(
        _run(
            cluster,
            """
coordinator = BlockingCoordinator.open(CONFIG)
good(coordinator.sign(b"parent"))

def work():
    for _ in range(2):
        try:
            coordinator.sign(b"child")
        except RuntimeError as error:
            assert "open it in each process, after the fork" in str(error), error
        else:
            raise AssertionError("signed")
        coordinator.close()

assert [ended(child(work)) for _ in range(2)] == [7, 7]
good(coordinator.sign(b"parent again"))
""",
        )
    )


def test_a_closed_client_stays_closed_in_a_child(cluster: ProcessCluster) -> None:
    _clean(
        _run(
            cluster,
            """
client = SidecarClient(SOCKET)
client.close()

def work():
    try:
        client.sign(b"child")
    except RuntimeError as error:
        assert str(error) == "the service is closed"
    else:
        raise AssertionError("signed")

assert ended(child(work)) == 7
""",
        )
    )


_LATE: Final = """
import sys, threading
from pathlib import Path
from frost_sidecar.blocking import BlockingCoordinator
from frost_sidecar.testing.cluster import PLUGIN, MemoryCluster

cluster = MemoryCluster(Path(sys.argv[1]) / "keys", settings={"signing": {"budget_seconds": 60.0}})
service = BlockingCoordinator.open(cluster.config, plugins={PLUGIN: cluster.plugin})
main, together = threading.main_thread(), threading.Barrier(16)

def sign(number):
    main.join()
    for turn in range(4):
        together.wait(30)
        service.sign(b"%d of %d" % (number, turn), timeout=5)
    print("signed", flush=True)

for number in range(16):
    threading.Thread(target=sign, args=(number,)).start()
"""


def test_threads_sign_together_when_the_main_thread_has_ended(tmp_path: Path) -> None:
    program = [sys.executable, "-c", _LATE, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.count("signed") == 16, done.stderr[-2000:]
