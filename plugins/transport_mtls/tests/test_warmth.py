"""Connections that are there before a call: real listeners as signers have them, that stop, stall and come back."""

import asyncio
import datetime as dt
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from cryptography import x509
from frost_sidecar_transport_mtls import MtlsTransport, make_transport

from frost_sidecar.channel import certificate_names
from frost_sidecar.errors import TransportError
from frost_sidecar.following import Follow, Following, read_once
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.identity import ServerIdentity
from frost_sidecar.listener import Exchange, Limits, Listener
from frost_sidecar.model import Answer, Call, Signer, TlsFiles
from frost_sidecar.process import convert
from frost_sidecar.signer.service import STATUSES
from frost_sidecar.testing.authority import Authority

CALL = Call("POST", "/v1/shares", b'{"x":1}', {"Authorization": "Bearer x"}, 1000)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frost_sidecar_transport_mtls.warmth.LOOK_SECONDS", 0.2)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


@dataclass
class Node:
    """A listener as a signer has it. Connections are told apart by the port at our end."""

    port: int
    greetings: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    serials: dict[int, int] = field(default_factory=dict)
    digests: list[bytes] = field(default_factory=list)
    stalls: bool = False
    closes: bool = False

    @property
    def connections(self) -> set[int]:
        return {*self.greetings, *self.calls}

    def warm(self, count: int) -> Callable[[], bool]:
        return lambda: len(set(self.greetings)) == count

    async def greet(self, exchange: Exchange) -> web.Response:
        self.greetings.append(self._note(exchange))
        if self.stalls:
            await anyio.sleep_forever()
        response = web.Response(text="ok")
        if self.closes:
            response.force_close()
        return response

    async def handle(self, exchange: Exchange) -> web.Response:
        certificate_names(exchange.request)
        self.digests.append(hashlib.sha256(await exchange.read_body()).digest())
        self.calls.append(self._note(exchange))
        await anyio.sleep(0.05)  # so that calls at once need a connection each
        return web.Response(body=b"{}")

    def _note(self, exchange: Exchange) -> int:
        port: int = exchange.request.get_extra_info("peername")[1]
        shown = exchange.request.get_extra_info("ssl_object").getpeercert(True)
        self.serials[port] = x509.load_der_x509_certificate(shown).serial_number
        return port


@asynccontextmanager
async def node(files: TlsFiles, port: int = 0) -> AsyncIterator[Node]:
    with socket.create_server(("127.0.0.1", port)) as sock:
        identity = ServerIdentity(files)
        identity.follow(read_once, "listener")
        served = Node(sock.getsockname()[1])
        routes = {("POST", "/v1/shares"): served.handle, ("GET", "/healthz"): served.greet}
        async with Listener(routes, STATUSES, Limits(16 * 1024 * 1024, 5.0, 64, 0.1, 0.1)) as listener:
            await listener.listen(sock, identity)
            yield served


def idle(each: MtlsTransport) -> int:
    """How many connections wait for a call."""
    connector = each._connector
    assert connector is not None
    return sum(len(kept) for kept in connector._conns.values())


def signer(port: int, server_name: str = "signer-1.test") -> Signer:
    return Signer(1, server_name, f"https://127.0.0.1:{port}", "ad-1", server_name)


@asynccontextmanager
async def transport(
    files: TlsFiles, *signers: Signer, follow: Follow = read_once, **settings: Any
) -> AsyncIterator[MtlsTransport]:
    made = make_transport(
        PluginContext(
            "transport_mtls", "coordinator", False, files, signers, lambda kind: convert(settings, kind), Path, follow
        )
    )
    assert isinstance(made, MtlsTransport)
    async with made:
        yield made


@dataclass
class Mute:
    """A server that accepts connections and says nothing: who is there, how many at most, and when they came."""

    port: int = 0
    here: set[asyncio.StreamWriter] = field(default_factory=set)
    most: int = 0
    times: list[float] = field(default_factory=list)


@asynccontextmanager
async def silence(*, closes: bool = False) -> AsyncIterator[Mute]:
    mute = Mute()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mute.times.append(time.monotonic())
        mute.here.add(writer)
        mute.most = max(mute.most, len(mute.here))
        try:
            while not closes and await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            mute.here.discard(writer)
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=512)
    async with server:
        mute.port = server.sockets[0].getsockname()[1]
        yield mute
        await until(lambda: not mute.here)


async def test_the_first_calls_find_open_connections(
    authority: Authority, server_files: TlsFiles, client_files: TlsFiles
) -> None:
    others = authority.issue("signer-2", ["signer-2.test"])
    async with (
        node(server_files) as one,
        node(others) as two,
        transport(client_files, signer(one.port), signer(two.port, "signer-2.test")) as each,
    ):
        await until(lambda: idle(each) == 4)
        assert one.warm(2)()
        assert two.warm(2)()
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(each.call, signer(one.port), CALL)
                tasks.start_soon(each.call, signer(two.port, "signer-2.test"), CALL)
        for served in (one, two):
            assert len(served.calls) == 2
            assert set(served.calls) == set(served.greetings)


@pytest.mark.parametrize(("settings", "count"), [({"warm_connections": 5}, 5), ({"connections_per_signer": 1}, 1)])
async def test_as_many_as_the_settings_say(
    server_files: TlsFiles, client_files: TlsFiles, settings: dict[str, Any], count: int
) -> None:
    async with node(server_files) as served, transport(client_files, signer(served.port), **settings) as each:
        await until(lambda: len(each.connections(signer(served.port))) == count)
        await anyio.sleep(0.5)  # another look changes nothing
        assert len(each.connections(signer(served.port))) == count
        assert len(served.greetings) == len(served.connections) == count


@pytest.mark.parametrize("settings", [{"warm_connections": 0}, {"keepalive_seconds": 0}])
async def test_none_where_none_are_wanted(
    server_files: TlsFiles, client_files: TlsFiles, settings: dict[str, Any]
) -> None:
    before = asyncio.all_tasks()
    async with node(server_files) as served, transport(client_files, signer(served.port), **settings) as each:
        assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("connections of")]
        assert await each.call(signer(served.port), CALL) == Answer(200, b"{}")
    assert served.greetings == []


async def test_idle_connections_are_used_before_they_would_be_closed(
    server_files: TlsFiles, client_files: TlsFiles
) -> None:
    async with (
        node(server_files) as served,
        transport(client_files, signer(served.port), keepalive_seconds=1.6) as each,
    ):
        await until(lambda: len(served.greetings) >= 10)  # two at the start, then each about every 0.8 s
        await until(lambda: idle(each) == 2)
        assert served.warm(2)()
        await each.call(signer(served.port), CALL)
        assert served.warm(2)()
        assert set(served.calls) < set(served.greetings)


async def test_busy_connections_are_not_greeted(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async with (
        node(server_files) as served,
        transport(client_files, signer(served.port), keepalive_seconds=1.5) as each,
    ):
        await until(lambda: idle(each) == 2)
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            await each.call(signer(served.port), CALL)
        assert len(served.greetings) == 2
        assert set(served.calls) == set(served.greetings)


async def test_connections_come_back_with_their_signer(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(server_files))
        port = first.port
        async with transport(client_files, signer(port)) as each:
            await until(first.warm(2))
            await stack.aclose()
            await until(lambda: each.connections(signer(port)) == [])
            with pytest.raises(TransportError):
                await each.call(signer(port), CALL)
            async with node(server_files, port) as second:
                await until(lambda: idle(each) == 2)
                assert second.warm(2)()
                await each.call(signer(port), CALL)
                assert set(second.calls) < set(second.greetings)


async def test_a_signer_that_is_away_delays_the_end_by_little(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async with silence() as mute:
        before = asyncio.all_tasks()
        with anyio.fail_after(5):
            async with transport(client_files, signer(mute.port), signer(1, "nobody.test")):
                await until(lambda: len(mute.here) == 2)
        await until(lambda: not mute.here)
        assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("connections of")]


async def test_a_signer_that_comes_late_is_found(server_files: TlsFiles, client_files: TlsFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with transport(client_files, signer(port)):
        await anyio.sleep(0.5)
        async with node(server_files, port) as served:
            await until(served.warm(2))


async def test_attempts_become_rare_while_a_signer_is_away(
    client_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frost_sidecar_transport_mtls.warmth.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("frost_sidecar_transport_mtls.warmth.MOST_PAUSE_SECONDS", 0.8)
    async with silence(closes=True) as closing, transport(client_files, signer(closing.port), warm_connections=1):
        await until(lambda: len(closing.times) >= 8)
    gaps = [after - before for before, after in pairwise(closing.times)]
    assert all(gap >= least for gap, least in zip(gaps, (0.05, 0.1, 0.2, 0.4, 0.4, 0.4, 0.4), strict=False))
    assert all(gap < 0.8 + 0.1 + 0.5 for gap in gaps)  # the pause, a look, and a slow machine
    assert len({round(gap, 3) for gap in gaps[3:]}) > 1  # no two coordinators keep step


async def test_a_signer_that_closes_after_each_answer_is_not_stormed(
    server_files: TlsFiles, client_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attempt succeeds, and nothing stays: the pauses grow all the same."""
    monkeypatch.setattr("frost_sidecar_transport_mtls.warmth.LOOK_SECONDS", 0.1)
    async with node(server_files) as served, transport(client_files, signer(served.port), warm_connections=1):
        served.closes = True
        await anyio.sleep(3.5)
    assert 2 <= len(served.greetings) <= 7  # 0.05 to 0.1 s, then twice that, and so on: 3.5 s hold no more


async def test_a_new_certificate_gets_new_connections(
    tmp_path: Path, server_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frost_sidecar.following.LOOK_SECONDS", 0.1)
    authority = Authority(tmp_path / "tls")
    files = authority.issue("own", ["coordinator.test"])
    with Following() as following:
        async with (
            node(authority.issue("node", ["signer-1.test"])) as served,
            transport(files, signer(served.port), follow=following.follow, keepalive_seconds=3) as each,
        ):
            await until(served.warm(2))
            old = {port: served.serials[port] for port in served.connections}
            authority.issue("own", ["coordinator.test"])
            new = x509.load_pem_x509_certificate(files.cert.read_bytes()).serial_number
            await until(lambda: list(served.serials.values()).count(new) == 2)
            assert new not in old.values()
            await each.call(signer(served.port), CALL)
            assert set(served.calls).isdisjoint(old)


async def test_a_connection_is_replaced_before_its_certificate_ends(
    authority: Authority, client_files: TlsFiles
) -> None:
    short = authority.issue("short", ["signer-1.test"], lifetime=dt.timedelta(seconds=7))
    async with node(short) as served, transport(client_files, signer(served.port)) as each:
        await until(served.warm(2))
        first = served.connections
        await until(lambda: len(served.connections) > 2)
        await until(lambda: not first & {served.greetings[-1]})
        assert each.connections(signer(served.port)) == []  # those that are there end too soon to be counted on


async def test_a_stalled_signer_cannot_pile_up_connections(client_files: TlsFiles) -> None:
    async with (
        silence() as mute,
        transport(client_files, signer(mute.port), connections_per_signer=8, connect_seconds=30) as each,
    ):

        async def call() -> None:
            with anyio.move_on_after(0.2):
                await each.call(signer(mute.port), CALL)

        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(call)
            await until(lambda: len(mute.here) <= 2)  # those that are to become warm
        assert 8 <= mute.most <= 8 + 8  # an ended one may be seen beside its successor
    await until(lambda: not mute.here)


async def test_a_signer_that_answers_no_greeting_is_let_go(
    server_files: TlsFiles, client_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frost_sidecar_transport_mtls.warmth._GREETING_SECONDS", 0.2)
    async with node(server_files) as served, transport(client_files, signer(served.port)) as each:
        served.stalls = True
        await until(lambda: len(served.greetings) >= 4)
        await until(lambda: each.connections(signer(served.port)) == [])
        served.stalls = False
        await until(lambda: len(each.connections(signer(served.port))) == 2)


async def test_a_long_body_arrives_whole(server_files: TlsFiles, client_files: TlsFiles) -> None:
    """Warnings are errors here: aiohttp has one for long bodies that are handed over as bytes."""
    body = os.urandom(8 * 1024 * 1024)
    async with node(server_files) as served, transport(client_files, signer(served.port)) as each:
        await until(lambda: idle(each) == 2)
        assert await each.call(signer(served.port), replace(CALL, body=body)) == Answer(200, b"{}")
        assert await each.call(signer(served.port), CALL) == Answer(200, b"{}")
    assert served.digests == [hashlib.sha256(body).digest(), hashlib.sha256(CALL.body).digest()]
    assert set(served.calls) == set(served.greetings)


async def test_an_end_at_any_moment_of_the_start_is_quiet(server_files: TlsFiles, client_files: TlsFiles) -> None:
    loop = asyncio.get_running_loop()
    before, faults = loop.get_exception_handler(), []
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    try:
        async with node(server_files) as served:
            for turn in range(40):
                async with transport(client_files, signer(served.port)):
                    await anyio.sleep(turn * 0.0005)
    finally:
        loop.set_exception_handler(before)
    assert faults == []
