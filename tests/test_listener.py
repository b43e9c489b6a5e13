"""The HTTP listener with real sockets: its bounds, its error answers, and its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from frost_sidecar.errors import (
    Denied,
    FrostSidecarError,
    InternalError,
    Overloaded,
    RequestError,
    ShuttingDown,
    UnknownKey,
)
from frost_sidecar.listener import Exchange, Limits, Listener

STATUSES = {
    RequestError: HTTPStatus.BAD_REQUEST,
    UnknownKey: HTTPStatus.UNPROCESSABLE_ENTITY,
    Denied: HTTPStatus.FORBIDDEN,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    ShuttingDown: HTTPStatus.SERVICE_UNAVAILABLE,
    FrostSidecarError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class Handlers:
    """Endpoints that show one behaviour each."""

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.go = anyio.Event()
        self.ended: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.last_words = 0.0
        """Seconds that a cancelled ``hang`` still works, shielded, as one that writes its record does."""

    async def echo(self, exchange: Exchange) -> web.Response:
        return web.Response(body=await exchange.read_body(), headers={"Seen-Id": exchange.request_id})

    async def hang(self, exchange: Exchange) -> web.Response:
        self.started.set()
        try:
            await self.go.wait()
            self.ended.append("finished")
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(self.last_words)
            self.ended.append("cancelled")
            raise
        return web.Response(text="done")

    async def fail(self, exchange: Exchange) -> web.Response:
        raise self.errors[exchange.request.query["as"]]


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(self.body)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        return document

    @property
    def slug(self) -> str:
        kind: str = self.problem["type"]
        return kind.removeprefix("urn:frost-sidecar:error:")


class Client:
    """One connection, bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        return await self.answer()

    async def answer(self) -> Answer:
        with anyio.fail_after(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            return Answer(
                int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))
            )

    async def ended(self) -> bool:
        """Whether the server has closed the connection, or does so soon."""
        try:
            with anyio.fail_after(3):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Server:
    """A listener on a free loopback port, and the clients of the test."""

    def __init__(self, port: int, handlers: Handlers, listener: Listener) -> None:
        self.port = port
        self.handlers = handlers
        self.listener = listener
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client


@asynccontextmanager
async def _server(**limits: float) -> AsyncIterator[Server]:
    bounds: dict[str, Any] = {
        "max_body_bytes": 2048,
        "body_seconds": 0.3,
        "max_connections": 50,
        "grace_seconds": 5.0,
        "idle_seconds": 30.0,
        **limits,
    }
    handlers = Handlers()
    table = {
        ("POST", "/echo"): handlers.echo,
        ("GET", "/hang"): handlers.hang,
        ("POST", "/hang"): handlers.hang,
        ("GET", "/fail"): handlers.fail,
    }
    listener = Listener(table, STATUSES, Limits(**bounds))
    sock = socket.create_server(("127.0.0.1", 0))
    server = Server(sock.getsockname()[1], handlers, listener)
    with sock:
        try:
            async with listener:
                await listener.listen(sock)
                yield server
        finally:
            for client in server.clients:
                await client.close()


async def test_a_request_is_answered_and_the_connection_kept() -> None:
    async with _server() as server:
        client = await server.connect()
        for body in (b"one", b"", b"x" * 2048):
            answer = await client.ask("POST", "/echo", body)
            assert (answer.status, answer.body) == (200, body)


async def test_a_unix_socket_serves_as_well(short_path: Path) -> None:
    handlers = Handlers()
    path = short_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        async with Listener({("POST", "/echo"): handlers.echo}, STATUSES, Limits(2048, 1, 5, 1)) as listener:
            await listener.listen(sock)
            client = Client(*await asyncio.open_unix_connection(path))
            assert (await client.ask("POST", "/echo", b"body")).body == b"body"
            await client.close()


@pytest.mark.parametrize("given", ["a", "req-1", "A.b_c:/+=-9", "x" * 128])
async def test_a_request_id_is_taken_over(given: str) -> None:
    async with _server() as server:
        client = await server.connect()
        answer = await client.ask("POST", "/echo", b"", X_Request_ID=given)
        assert answer.headers["x-request-id"] == answer.headers["seen-id"] == given
        assert (await client.ask("GET", "/nowhere", X_Request_ID=given)).problem["request_id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "a;b", "<a>", '"', "é", "a\tb", "{}"])
async def test_any_other_request_id_is_replaced(given: str | None) -> None:
    async with _server() as server:
        client = await server.connect()
        headers = {} if given is None else {"X_Request_ID": given}
        made = [(await client.ask("POST", "/echo", b"", **headers)).headers["x-request-id"] for _ in range(2)]
        assert all(len(each) == 32 and int(each, 16) >= 0 for each in made)
        assert made[0] != made[1]


@pytest.mark.parametrize("path", ["/echo", "/nowhere"])
async def test_an_expectation_that_nobody_meets_is_a_problem(path: str) -> None:
    async with _server() as server:
        client = await server.connect()
        answer = await client.ask("POST", path, b"x", Expect="a miracle", X_Request_ID="mine")
        assert (answer.status, answer.slug) == (417, "http")
        assert answer.headers["x-request-id"] == "mine"
        assert answer.headers["server"] == "frost-sidecar"


async def test_a_client_that_waits_is_asked_for_its_body_only_where_it_is_read() -> None:
    async with _server() as server:
        client = await server.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"ab")
        assert (await client.answer()).status == 200
        await client.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.answer()).status == 404


async def test_what_answers_get_answers_head() -> None:
    async with _server() as server:
        server.handlers.errors["x"] = Denied("no")
        client = await server.connect()
        await client.send(b"HEAD /fail?as=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "status", "slug", "allow"),
    [
        ("GET", "/", 404, "not-found", None),
        ("GET", "/echo/", 404, "not-found", None),
        ("GET", "/../echo", 404, "not-found", None),
        ("GET", "/%2e", 404, "not-found", None),
        ("GET", "/" + "x" * 4000, 404, "not-found", None),
        ("GET", "/echo", 405, "method-not-allowed", "POST"),
        ("DELETE", "/hang", 405, "method-not-allowed", "GET,HEAD,POST"),
        ("PATCH", "/fail", 405, "method-not-allowed", "GET,HEAD"),
    ],
)
async def test_unknown_paths_and_methods_get_a_problem(
    method: str, path: str, status: int, slug: str, allow: str | None
) -> None:
    async with _server() as server:
        client = await server.connect()
        answer = await client.ask(method, path)
        assert (answer.status, answer.slug) == (status, slug)
        assert answer.headers.get("allow") == allow
        assert "outcome" not in answer.problem
        assert len(answer.body) < 500
        assert (await client.ask("POST", "/echo", b"still")).body == b"still"


@pytest.mark.parametrize(
    ("error", "status", "slug", "more"),
    [
        (UnknownKey("no key"), 422, "unknown-key", {"outcome": "failed"}),
        (RequestError("bad"), 400, "malformed-request", {"outcome": "failed"}),
        (Denied("not you"), 403, "denied", {"outcome": "denied"}),
        (InternalError("ours"), 500, "internal", {"outcome": "failed"}),
        (Overloaded("busy"), 429, "overloaded", {"outcome": "failed"}),
    ],
)
async def test_an_error_of_ours_has_its_status(
    error: FrostSidecarError, status: int, slug: str, more: dict[str, str]
) -> None:
    async with _server() as server:
        server.handlers.errors["x"] = error
        answer = await (await server.connect()).ask("GET", "/fail?as=x")
        assert (answer.status, answer.slug, answer.problem["detail"]) == (status, slug, str(error))
        assert answer.problem | more == answer.problem


@pytest.mark.parametrize(("seconds", "said"), [(0.1, "1"), (1.4, "1"), (7, "7")])
async def test_retry_after_is_whole_seconds(seconds: float, said: str) -> None:
    async with _server() as server:
        server.handlers.errors["x"] = Overloaded("busy", retry_after=seconds)
        assert (await (await server.connect()).ask("GET", "/fail?as=x")).headers["retry-after"] == said


@pytest.mark.parametrize("error", [ValueError("the secret cause"), KeyError("secret"), RecursionError("secret")])
async def test_a_defect_shows_nothing_of_itself(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async with _server() as server:
        server.handlers.errors["x"] = error
        client = await server.connect()
        with caplog.at_level("ERROR", logger="frost_sidecar"):
            answer = await client.ask("GET", "/fail?as=x", X_Request_ID="find-me")
        assert (answer.status, answer.slug, answer.problem["request_id"]) == (500, "internal", "find-me")
        assert b"secret" not in answer.body
        assert b"Traceback" not in answer.body
        assert (await client.ask("POST", "/echo", b"still")).body == b"still"
    [record] = [each for each in caplog.records if each.name == "frost_sidecar.listener"]
    assert record.__dict__["request_id"] == "find-me"
    assert record.exc_info is not None


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_over_the_cap_is_refused(framing: str) -> None:
    async with _server() as server:
        client = await server.connect()
        body = b"x" * 2049
        if framing == "length":
            answer = await client.ask("POST", "/echo", body)
        else:
            chunk = b"801\r\n" + body + b"\r\n0\r\n\r\n"
            await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
            answer = await client.answer()
        assert (answer.status, answer.slug) == (400, "too-large")
        assert "2048" in answer.problem["detail"]


async def test_a_body_that_is_said_to_be_huge_is_not_waited_for() -> None:
    async with _server(body_seconds=30) as server:
        client = await server.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 4096)
        assert (await client.answer()).slug == "too-large"


@pytest.mark.parametrize("announced", [2049, 2**31, 2**62])
async def test_a_body_that_announces_too_much_is_refused_unread(announced: int) -> None:
    async with _server(body_seconds=30) as server:
        client = await server.connect()
        await client.send(f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n\r\n".encode())
        started = anyio.current_time()
        answer = await client.answer()
        assert (answer.status, answer.slug) == (400, "too-large")
        assert anyio.current_time() - started < 2


MIB = 1024 * 1024
HALF = b"Content-Length: 33554432\r\n\r\n"
CHUNK = b"Transfer-Encoding: chunked\r\n\r\n2000000\r\n"


@pytest.mark.parametrize("framing", [(HALF, HALF), (HALF, CHUNK), (CHUNK, CHUNK)])
async def test_the_bodies_being_read_at_once_have_a_bound_together(framing: tuple[bytes, bytes]) -> None:
    async with _server(max_body_bytes=32 * MIB, body_seconds=30, grace_seconds=0.1) as server:
        slow = [await server.connect() for _ in framing]
        for client, line in zip(slow, framing, strict=True):
            await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + line + b"x" * (32 * MIB - 1))
        await anyio.sleep(0.5)
        other = await server.connect()
        answer = await other.ask("POST", "/echo", b"xxx")
        assert (answer.status, answer.slug) == (STATUSES[Overloaded], "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert "67108862" in answer.problem["detail"]
        assert (await (await server.connect()).ask("POST", "/echo", b"xx")).status == 200
        assert (await (await server.connect()).ask("GET", "/nowhere")).status == 404

        await slow[0].close()
        await anyio.sleep(0.1)
        assert (await (await server.connect()).ask("POST", "/echo", b"room again")).body == b"room again"


async def test_who_announces_much_and_sends_nothing_holds_no_room() -> None:
    async with _server(max_body_bytes=64 * MIB, body_seconds=30, grace_seconds=0.1) as server:
        for _ in range(20):
            client = await server.connect()
            await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n")
        await anyio.sleep(0.1)
        assert (await (await server.connect()).ask("POST", "/echo", b"x" * MIB)).status == 200


async def test_a_body_that_is_late_or_refused_gives_its_room_back() -> None:
    async with _server(max_body_bytes=64 * MIB, body_seconds=0.2) as server:
        for line in (HALF, CHUNK, b"Content-Length: 67108865\r\n\r\n") * 2:
            client = await server.connect()
            await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + line + b"x" * (32 * MIB - 1))
            assert (await client.answer()).slug in {"malformed-request", "too-large"}
        assert (await (await server.connect()).ask("POST", "/echo", b"x")).body == b"x"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_many_may_knock_at_once(short_path: Path, family: int) -> None:
    """More than the loop's own default queue of 100 holds, while it is busy; never more than the system allows."""
    many = min(500, int(Path("/proc/sys/net/core/somaxconn").read_text("ascii")))
    address: Any = ("127.0.0.1", 0) if family == socket.AF_INET else str(short_path / "s")
    handlers = Handlers()
    with socket.socket(family) as sock, contextlib.ExitStack() as stack:
        sock.bind(address)
        sock.listen(1)
        async with Listener({("POST", "/echo"): handlers.echo}, STATUSES, Limits(2048, 1, 600, 1)) as listener:
            await listener.listen(sock)
            knocking = [stack.enter_context(socket.socket(family)) for _ in range(many)]
            for each in knocking:  # nothing is accepted in between: the loop does not run
                each.settimeout(0.5)
                each.connect(sock.getsockname())
            each.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nin")
            each.settimeout(5)
            assert (await asyncio.to_thread(_all, each)).endswith(b"\r\n\r\nin")


def _all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(4096), b""))


async def test_a_slow_body_is_refused_in_time() -> None:
    async with _server() as server:
        client = await server.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        started = anyio.current_time()
        answer = await client.answer()
        assert (answer.status, answer.slug) == (400, "malformed-request")
        assert "0.3 s" in answer.problem["detail"]
        assert anyio.current_time() - started < 2


async def test_a_body_that_breaks_off_harms_nobody() -> None:
    async with _server() as server:
        client = await server.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        await client.close()
        assert (await (await server.connect()).ask("POST", "/echo", b"next")).body == b"next"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity", "zstd", "nonsense"])
async def test_an_encoded_body_is_refused(coding: str) -> None:
    async with _server() as server:
        answer = await (await server.connect()).ask("POST", "/echo", b"\x1f\x8b\x08\0", Content_Encoding=coding)
        assert (answer.status, answer.slug) == (400, "malformed-request")
        assert "compressed" in answer.problem["detail"]


@pytest.mark.parametrize(
    "start",
    [b"", b"POST /ec", b"POST /echo HTTP/1.1\r\nHost: x\r\n", b"POST /echo HTTP/1.1\r\nX: " + b"y" * 500],
)
async def test_a_half_sent_header_is_closed_after_the_idle_time(start: bytes) -> None:
    async with _server(idle_seconds=0.2) as server:
        client = await server.connect()
        await client.send(start)
        started = anyio.current_time()
        assert await client.ended()
        assert anyio.current_time() - started < 2


async def test_a_half_sent_header_on_a_kept_connection_is_closed_too() -> None:
    async with _server(idle_seconds=0.3) as server:
        client = await server.connect()
        assert (await client.ask("POST", "/echo", b"first")).body == b"first"
        await client.send(b"POST /echo HTTP/1.1\r\nX: y")
        started = anyio.current_time()
        assert await client.ended()
        assert anyio.current_time() - started < 2


async def test_a_header_that_dribbles_is_closed_all_the_same() -> None:
    async with _server(idle_seconds=0.3) as server:
        client = await server.connect()
        await client.send(b"POST /echo HTTP/1.1\r\nX: ")
        with anyio.move_on_after(5) as scope:
            while not client.reader.at_eof():
                try:
                    await client.send(b"y")
                except ConnectionError:
                    break
                await anyio.sleep(0.03)
        assert not scope.cancelled_caught


async def test_a_kept_connection_may_idle_between_requests_but_not_for_ever() -> None:
    async with _server(idle_seconds=0.4) as server:
        client = await server.connect()
        for _ in range(3):
            assert (await client.ask("POST", "/echo", b"x")).status == 200
            await anyio.sleep(0.15)
        assert await client.ended()


async def test_a_long_request_is_not_idle() -> None:
    async with _server(idle_seconds=0.2) as server:
        client = await server.connect()
        await client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await anyio.sleep(0.6)
        server.handlers.go.set()
        assert (await client.answer()).body == b"done"


async def test_connections_over_the_cap_are_closed_and_room_is_made_again() -> None:
    async with _server(max_connections=3) as server:
        inside = [await server.connect() for _ in range(3)]
        for client in inside:
            assert (await client.ask("POST", "/echo", b"in")).body == b"in"
        assert await (await server.connect()).ended()
        assert (await inside[0].ask("POST", "/echo", b"still in")).body == b"still in"
        await inside[0].close()
        await anyio.sleep(0.1)
        assert (await (await server.connect()).ask("POST", "/echo", b"now in")).body == b"now in"


@pytest.mark.parametrize(
    "noise",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01",  # a TLS hello
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
    ids=range(10),
)
async def test_what_is_no_http_is_turned_away(noise: bytes) -> None:
    async with _server(idle_seconds=0.3) as server:
        client = await server.connect()
        await client.send(noise)
        try:
            answer = await client.answer()
            assert answer.status in {400, 505}
            assert b"Traceback" not in answer.body
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        assert (await (await server.connect()).ask("POST", "/echo", b"next")).body == b"next"


@asynccontextmanager
async def _draining(server: Server) -> AsyncIterator[None]:
    """The listener on its way out, while the block runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.listener.__aexit__, None, None, None)
        await anyio.wait_all_tasks_blocked()
        yield


async def test_a_request_under_way_is_finished_within_the_grace_time() -> None:
    async with _server() as server:
        client, idle = await server.connect(), await server.connect()
        assert (await idle.ask("POST", "/echo", b"x")).status == 200
        await client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.handlers.started.wait()
        async with _draining(server):
            answer = await idle.ask("POST", "/echo", b"x")
            assert (answer.status, answer.slug) == (503, "shutting-down")
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["connection"] == "close"
            with pytest.raises(ConnectionError):
                await server.connect()
            server.handlers.go.set()
            answer = await client.answer()
            assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"done", "close")
        assert server.handlers.ended == ["finished"]


async def test_a_request_that_outlives_the_grace_time_gets_an_answer() -> None:
    async with _server(grace_seconds=0.2) as server:
        client = await server.connect()
        await client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.handlers.started.wait()
        started = anyio.current_time()
        async with _draining(server):
            answer = await client.answer()
            assert (answer.status, answer.slug) == (503, "shutting-down")
            assert "before the request was finished" in answer.problem["detail"]
        assert anyio.current_time() - started < 3
        assert server.handlers.ended == ["cancelled"]


@pytest.mark.parametrize(("farewell", "words", "ended"), [(2.0, 0.5, ["cancelled"]), (0.2, 1.5, [])])
async def test_a_cancelled_request_has_time_for_its_last_words_but_not_for_ever(
    farewell: float, words: float, ended: list[str]
) -> None:
    async with _server(grace_seconds=0.1, farewell_seconds=farewell) as server:
        server.handlers.last_words = words
        client = await server.connect()
        await client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.handlers.started.wait()
        started = anyio.current_time()
        await server.listener.__aexit__(None, None, None)
        assert anyio.current_time() - started < 0.1 + min(words, 2 * farewell) + 0.7
        assert server.handlers.ended == ended
        if ended:
            assert (await client.answer()).slug == "shutting-down"
        else:
            assert await client.ended()


async def test_with_nothing_under_way_the_end_is_quick() -> None:
    started = anyio.current_time()
    async with _server(grace_seconds=30) as server:
        client = await server.connect()
        assert (await client.ask("POST", "/echo", b"x")).status == 200
    assert anyio.current_time() - started < 3


async def test_a_client_that_never_reads_does_not_hold_up_the_end() -> None:
    async with _server(grace_seconds=0.2) as server:
        client = await server.connect()
        await client.send(b"POST /hang HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        await server.handlers.started.wait()
        started = anyio.current_time()
    assert anyio.current_time() - started < 4


async def test_nothing_of_a_request_is_logged_where_all_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with _server() as server:
            await (await server.connect()).ask("POST", "/echo", b"the message")
    assert "the message" not in caplog.text


@pytest.mark.parametrize(
    ("ask", "status", "level"),
    [
        (("POST", "/echo", b"the message"), 200, "DEBUG"),
        (("GET", "/nowhere?secret=1"), 404, "INFO"),
        (("POST", "/echo", b"x" * 2049), 400, "INFO"),
        (("GET", "/fail?as=x"), 503, "WARNING"),
        (("GET", "/" + "x" * 4000), 404, "INFO"),
    ],
)
async def test_each_request_is_one_log_line(
    ask: Any, status: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="frost_sidecar"):
        async with _server() as server:
            server.handlers.errors["x"] = ShuttingDown("soon")
            answer = await (await server.connect()).ask(*ask, X_Request_ID="find-me")
            assert answer.status == status
    [record] = [each for each in caplog.records if each.getMessage() == "request"]
    assert (record.name, record.levelname) == ("frost_sidecar.listener", level)
    fields = record.__dict__
    assert (fields["method"], fields["path"]) == (ask[0], ask[1].partition("?")[0][:128])
    assert (fields["status"], fields["request_id"]) == (status, "find-me")
    assert 0 <= fields["milliseconds"] < 5000
    assert "secret" not in str(fields)
