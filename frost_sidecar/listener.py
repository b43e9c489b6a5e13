"""What the sidecar and a signer node share as HTTP servers: bounds, problem answers, request ids, and an orderly end.

Bounds: connections, body size, time to send a body, time a connection may idle or dribble a header. The end: stop to
accept, let requests under way finish inside the grace time, then cancel them, so that each gets a clear answer.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import anyio
from aiohttp import HttpVersion11, web

from frost_sidecar.acceptor import Acceptor, Refused
from frost_sidecar.channel import is_outdated
from frost_sidecar.errors import (
    Denied,
    FrostSidecarError,
    MalformedRequest,
    Overloaded,
    ShuttingDown,
    TooLarge,
    Unavailable,
)
from frost_sidecar.identity import ServerIdentity
from frost_sidecar.logs import get_logger
from frost_sidecar.model import REQUEST_ID, Outcome
from frost_sidecar.problem import CONTENT_TYPE, TYPE_BASE, Problem

log = get_logger("frost_sidecar.listener")

Handler = Callable[["Exchange"], Awaitable[web.Response]]
"""Answers one request; raises :class:`FrostSidecarError` for an error answer."""
Meet = Callable[[asyncio.BaseTransport], object]
"""Looks at a connection when it is accepted; what it gives is the :attr:`Exchange.peer` of the requests on it."""

REQUEST_ID_HEADER: Final = "X-Request-ID"
_REQUEST_ID: Final = web.RequestKey("request_id", str)
_SERVER: Final = "frost-sidecar"
_CONTINUE: Final = "100-continue"
_READING_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of bodies that are being read at once, on Unix sockets and on TCP each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a listener: bytes, seconds, connections."""

    max_body_bytes: int
    body_seconds: float
    max_connections: int
    grace_seconds: float
    farewell_seconds: float = 1.0
    """After the grace time: how long cancelled requests get to write their last record and answer."""
    idle_seconds: float = 75.0


class _Reading:
    """Bytes of the bodies that are being read, so that many clients with large bodies cannot fill the memory."""

    def __init__(self, limits: Limits) -> None:
        self._limit = max(_READING_BYTES, limits.max_body_bytes)
        self._bytes = 0

    @contextmanager
    def room(self) -> Iterator[Callable[[int], None]]:
        """Gives what takes room for further bytes, which raises :class:`Overloaded`; all of it is free at the end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if self._bytes + size > self._limit:
                raise Overloaded(f"bodies of {self._bytes} bytes are being read already")
            self._bytes += size
            taken += size

        try:
            yield take
        finally:
            self._bytes -= taken


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request under way, its id (taken over from ``X-Request-ID`` or made), and the bounds for its body."""

    request: web.Request
    request_id: str
    limits: Limits
    _reading: _Reading
    peer: object = None
    """What the listener's ``meet`` gave for this connection; None once the connection is lost."""

    async def read_body(self) -> bytes:
        """The whole body; raises :class:`TooLarge` or :class:`MalformedRequest`."""
        if "Content-Encoding" in self.request.headers:
            raise MalformedRequest("compressed bodies are not accepted; send the JSON as it is")
        largest = self.limits.max_body_bytes
        if (self.request.content_length or 0) > largest:
            raise TooLarge(f"the body is larger than {largest} bytes")
        await self._continue()
        body = bytearray()
        try:
            # Room is taken by what has arrived, not by what was announced: whoever sends nothing holds nothing.
            with self._reading.room() as take:
                if self.request.content.is_eof():  # all of it came along with the header: no deadline to pay for
                    body += self.request.content.read_nowait()
                    take(len(body))
                else:
                    with anyio.fail_after(self.limits.body_seconds):
                        async for chunk in self.request.content.iter_any():
                            take(len(chunk))
                            body += chunk
                            if len(body) > largest:
                                break
                if len(body) > largest:
                    raise TooLarge(f"the body is larger than {largest} bytes")
                return bytes(body)
        except TimeoutError:
            raise MalformedRequest(f"the body did not arrive within {self.limits.body_seconds:g} s") from None
        except (ConnectionError, web.RequestPayloadError):
            raise MalformedRequest("the connection ended before the body was whole") from None

    async def _continue(self) -> None:
        """Ask a client that waits for it to send the body: not before it is clear that the body will be read."""
        if self.request.headers.get("Expect", "").lower() == _CONTINUE and self.request.version >= HttpVersion11:
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0  # the answer has not begun


class Listener:
    """Serves ``routes``, keyed by ``(method, path)``.

    ``statuses`` says which HTTP status an error class has; a class without an entry has its nearest base's.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        statuses: Mapping[type[FrostSidecarError], HTTPStatus],
        limits: Limits,
        meet: Meet | None = None,
    ) -> None:
        self._limits = limits
        self._meet = meet
        self._statuses = statuses
        self._draining = False
        self._scopes: set[anyio.CancelScope] = set()
        self._empty = asyncio.Event()
        self._accepting: list[tuple[asyncio.Task[None], socket.socket]] = []
        reading = {is_unix: _Reading(limits) for is_unix in (True, False)}
        app = web.Application(client_max_size=limits.max_body_bytes, middlewares=[self._exchange])
        for (method, path), handler in routes.items():
            for each in ("GET", "HEAD") if method == "GET" else (method,):
                endpoint = _endpoint(handler, limits, reading)
                app.router.add_route(each, path, endpoint, expect_handler=self._expectation)
        app.router.add_route("*", "/{path:.*}", _elsewhere(routes), expect_handler=self._expectation)
        self._runner = web.AppRunner(app, shutdown_timeout=limits.farewell_seconds)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._drain()
            await self._runner.cleanup()

    async def listen(
        self,
        sock: socket.socket,
        identity: ServerIdentity | None = None,
        known: Iterable[str] = (),
        refused: Refused = lambda _: None,
    ) -> None:
        """Accept connections on a listening socket, from now until the end; each socket has a limit of its own.

        With ``identity`` they are TLS; one that was begun before the identity's files changed ends with its next
        answer, or, as every connection, after ``idle_seconds`` without a request. Clients whose certificate carries
        none of the names ``known`` get only few of the places; empty: all are known. ``refused`` is told of every
        handshake that was refused.
        """
        limit = self._limits.max_connections
        acceptor = Acceptor(sock, self._connect, limit, identity, frozenset(known), refused)
        task = asyncio.create_task(acceptor.run(), name="acceptor")
        self._accepting.append((task, sock))

    def _refuse(self, error: FrostSidecarError, request_id: str) -> web.Response:
        status = next(self._statuses[base] for base in type(error).__mro__ if base in self._statuses)
        headers = {REQUEST_ID_HEADER: request_id}
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, Unavailable):
            headers["Retry-After"] = str(max(1, round(error.retry_after)))
        outcome: Outcome = "denied" if isinstance(error, Denied) else "failed"
        return _problem(error.slug, status, str(error), headers, outcome, error.reason)

    @web.middleware
    async def _exchange(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request_id = _request_id(request)
        started = time.perf_counter()
        response = await self._answer(request, handler, request_id)
        log.log(
            _level(response.status),
            "request",
            method=request.method,
            path=request.path[:128],
            status=response.status,
            request_id=request_id,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )
        response.headers.setdefault(REQUEST_ID_HEADER, request_id)
        response.headers["Server"] = _SERVER
        if self._draining or is_outdated(request):
            response.force_close()
        return response

    async def _expectation(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse what nobody can expect of us. ``100-continue`` is answered when the body is wanted."""
        if request.headers.get("Expect", _CONTINUE).lower() == _CONTINUE:
            return None
        headers = {REQUEST_ID_HEADER: _request_id(request), "Server": _SERVER}
        return _problem("http", HTTPStatus.EXPECTATION_FAILED, "Expect: only 100-continue is understood", headers)

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], request_id: str
    ) -> web.StreamResponse:
        if self._draining:
            return self._refuse(ShuttingDown("the process is shutting down"), request_id)
        request[_REQUEST_ID] = request_id
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                return await handler(request)
            return self._refuse(ShuttingDown("the process shut down before the request was finished"), request_id)
        except FrostSidecarError as error:
            return self._refuse(error, request_id)
        except web.HTTPException as error:
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            headers = {REQUEST_ID_HEADER: request_id, **allow}
            slug = "not-found" if error.status == HTTPStatus.NOT_FOUND else "method-not-allowed" if allow else "http"
            detail = f"{request.method} {request.path[:128]}: {error.reason.lower()}"
            return _problem(slug, HTTPStatus(error.status), detail, headers)
        except Exception:
            log.exception("request failed by a defect", request_id=request_id, path=request.path)
            detail, headers = "internal error; see the log for this request id", {REQUEST_ID_HEADER: request_id}
            return _problem("internal", HTTPStatus.INTERNAL_SERVER_ERROR, detail, headers)
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._empty.set()

    def _connect(self, on_lost: Callable[[], None]) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the listener is used outside of its `async with`")
        return _Connection(
            server,
            on_lost,
            self._meet,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._limits.idle_seconds,
            access_log=None,  # None is how aiohttp is told to keep none
            auto_decompress=False,
        )

    async def _drain(self) -> None:
        self._draining = True
        for task, sock in self._accepting:
            task.cancel()
            sock.close()  # who comes now is refused, and does not wait in vain
        await asyncio.gather(*(task for task, _ in self._accepting), return_exceptions=True)
        if await self._finished(self._limits.grace_seconds):
            return
        log.warning("grace time over; refusing requests still under way", requests=len(self._scopes))
        for scope in list(self._scopes):
            scope.cancel()
        await self._finished(self._limits.farewell_seconds)

    async def _finished(self, seconds: float) -> bool:
        self._empty = asyncio.Event()
        if self._scopes:
            with anyio.move_on_after(seconds):
                await self._empty.wait()
        return not self._scopes


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if REQUEST_ID.match(given) else secrets.token_hex(16)


def _level(status: int) -> int:
    """Answers as they should be are for debugging; the audit log has the requests themselves."""
    return logging.DEBUG if status < 400 else logging.INFO if status < 500 else logging.WARNING


def _endpoint(
    handler: Handler, limits: Limits, reading: Mapping[bool, _Reading]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler as aiohttp wants it: a coroutine function."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        sock = request.get_extra_info("socket")
        room = reading[sock is not None and sock.family == socket.AF_UNIX]
        peer = request.protocol.peer if isinstance(request.protocol, _Connection) else None
        return await handler(Exchange(request, request[_REQUEST_ID], limits, room, peer))

    return endpoint


def _elsewhere(
    routes: Mapping[tuple[str, str], Handler],
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """What answers at every path and method that is not in ``routes``."""
    methods: dict[str, set[str]] = {}
    for method, path in routes:
        methods.setdefault(path, set()).update(("GET", "HEAD") if method == "GET" else (method,))

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        if (allowed := methods.get(request.path)) is not None:
            raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))
        raise web.HTTPNotFound

    return elsewhere


class _Connection(web.RequestHandler):
    """A connection whose unreadable requests are refused like all others, as a problem and without a traceback."""

    __slots__ = ("_meet", "_on_lost", "peer")

    def __init__(
        self, server: web.Server, on_lost: Callable[[], None], meet: Meet | None = None, **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._on_lost = on_lost
        self._meet = meet
        self.peer: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See who it is, before anything is read."""
        super().connection_made(transport)
        if self._meet is not None:
            self.peer = self._meet(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another connection."""
        self.peer = None  # the number of its descriptor is another connection's from now on
        super().connection_lost(exc)
        self._on_lost()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The last answer on this connection."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        log.info("unreadable request refused", reason=type(exc).__name__)
        headers = {"Server": _SERVER}
        detail = "not a request of HTTP/1.1 within its bounds"
        response = _problem("malformed-request", HTTPStatus(status), detail, headers)
        response.force_close()
        return response


def _problem(
    slug: str,
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str],
    outcome: Outcome | None = None,
    reason: str | None = None,
) -> web.Response:
    problem = Problem(
        type=TYPE_BASE + slug,
        title=status.phrase,
        status=status,
        detail=detail,
        request_id=headers.get(REQUEST_ID_HEADER),
        outcome=outcome,
        reason=reason,
    )
    return web.Response(status=status, body=problem.encode(), content_type=CONTENT_TYPE, headers=headers)
