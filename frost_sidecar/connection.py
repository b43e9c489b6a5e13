"""One HTTP exchange with a sidecar, over its Unix socket or over TCP with mTLS: sent once, answered whole or not.

Nothing happens behind the caller's back: no proxy from the environment, no redirect, no cookie, no decompression.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import io
import os
import re
import ssl
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp
import anyio
import anyio.to_thread
from yarl import URL

from frost_sidecar.addressing import parse_url
from frost_sidecar.containment import cancelled_from_outside
from frost_sidecar.contract import printable
from frost_sidecar.errors import (
    ConfigError,
    FrostSidecarError,
    ShuttingDown,
    SidecarUnreachable,
    Unauthenticated,
    UnexpectedAnswer,
)
from frost_sidecar.identity import client_context
from frost_sidecar.logs import get_logger
from frost_sidecar.model import TlsFiles

log = get_logger("frost_sidecar.connection")

TokenSource = str | os.PathLike[str] | Callable[[], str | Awaitable[str]]
"""Where a request's bearer token comes from: the token, a file that is read anew for each request, or a function."""

_CONNECT_SECONDS: Final = 2.0
"""How long connect and TLS handshake together may take, so that a further attempt fits into the deadline."""
_KEEPALIVE_SECONDS: Final = 30.0
"""How long an idle connection is kept; below the sidecar's own limit (75 s), so that it is never the one to close."""
_LONGEST_PATH: Final = 107
"""Bytes of ``sun_path`` on Linux, less the closing zero (unix(7))."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
"""A bearer token (RFC 6750, section 2.1)."""
_SHOWN: Final = 200
"""Characters of a reason that go into an error."""
_TOKEN_FILE_BYTES: Final = 64 * 1024
_CLOSED: Final = "the client was closed"
_HINT: Final = "; if it stays so, the sidecar may not accept our certificate"
"""In TLS 1.3 a server judges our certificate after our side of the handshake is done, and most only hang up."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. ``retry_after`` is its ``Retry-After`` in seconds, None where there is none."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]
    retry_after: float | None


class Connection:
    """The connections to one sidecar. An asynchronous context manager, for one event loop."""

    def __init__(
        self, target: str | os.PathLike[str], *, tls: TlsFiles | None, token: TokenSource | None, limit: int
    ) -> None:
        """``target``: the path of a Unix socket, also as ``unix:PATH``, or ``https://HOST:PORT``.

        ``tls`` are our certificate and key, and the authority that the sidecar's certificate needs; its name is the
        target's host. ``limit`` is the most connections at once; further exchanges wait for one.

        Raises:
            ConfigError: the target is none, or ``tls`` and ``token`` do not fit it.
        """
        self.target = text = target_text(target)
        self._path = None if text.startswith(("https:", "http:")) else _socket_path(text.removeprefix("unix:"))
        self._token = BearerToken.of(token)
        self._limit = limit
        self._certificates: _Certificates | None = None
        self._session: aiohttp.ClientSession | None = None
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        if self._path is not None:
            if tls is not None or token is not None:
                raise ConfigError("a Unix socket takes neither tls nor token; they are for https://", path=text)
            self._base = "http://sidecar"
            return
        if parse_url(text) is None:
            raise ConfigError("use the path of a Unix socket, or https://HOST:PORT and nothing more", path=text)
        if not isinstance(tls, TlsFiles):
            raise ConfigError("a target over TCP needs tls: a certificate, its key, and the authority", path=text)
        self._base = text.rstrip("/")
        self._certificates = _Certificates(tls)

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise RuntimeError("the client is open already")
        if self._certificates is not None:
            self._certificates.context()
        connector: aiohttp.BaseConnector = (
            aiohttp.TCPConnector(limit=self._limit, keepalive_timeout=_KEEPALIVE_SECONDS)
            if self._path is None
            else aiohttp.UnixConnector(path=self._path, limit=self._limit, keepalive_timeout=_KEEPALIVE_SECONDS)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        self._closing.set()
        if session is not None:
            await session.close()

    async def exchange(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None, most_bytes: int
    ) -> Reply:
        """Send one request and return its whole answer, whatever the status. The caller ends it by cancelling.

        Raises:
            SidecarUnreachable: no connection, or it broke before the answer was whole.
            ShuttingDown: the client was closed meanwhile.
            Unauthenticated: there is no token to send.
            UnexpectedAnswer: the answer is no HTTP, too large or compressed, or the certificate is not the target's.
            RuntimeError: used outside ``async with``, or in another event loop.
        """
        session = self._opened()
        context = self._certificates.context() if self._certificates else None
        authorization: dict[str, str] = {}
        try:
            authorization |= await self._token.header() if self._token else {}
            if session.closed:
                raise ShuttingDown(_CLOSED)
            async with session.request(
                method,
                URL(self._base + path, encoded=True),
                data=None if body is None else io.BytesIO(body),  # in pieces: aiohttp sends bytes in one, and warns
                headers={**headers, **authorization},
                ssl=context or True,
                allow_redirects=False,
            ) as response:
                try:
                    whole = await self._read(response, most_bytes)
                except BaseException:
                    response.close()  # at once: neither the rest of the answer nor of the request is waited for
                    raise
                return Reply(response.status, response.content_type, whole, response.headers, _retry_after(response))
        except asyncio.CancelledError:  # aiohttp ends so what waits for a connection, when it is closed
            if cancelled_from_outside():
                raise
            fault: FrostSidecarError = SidecarUnreachable(f"no connection to the sidecar at {self.target}: cancelled")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            fault = self._fault(error)
        finally:
            authorization.clear()  # the frame goes with the traceback
        # Out here, so that it has no context: aiohttp's errors hold the request's headers, the token among them.
        raise ShuttingDown(_CLOSED) if session.closed else fault

    async def pause(self, seconds: float) -> None:
        """Wait before a further attempt; raises :class:`ShuttingDown` as soon as the client is closed."""
        with anyio.move_on_after(seconds):
            await self._closing.wait()
            raise ShuttingDown(_CLOSED)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the client is not open: use it inside `async with AsyncSidecarClient(...) as client:`")
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError("the client was opened in another event loop: open one in each, or use SidecarClient")
        return self._session

    async def _read(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        if "Content-Encoding" in response.headers:
            raise self._unexpected("the answer is compressed, which was not asked for")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > most_bytes:
                raise self._unexpected(f"the answer is longer than the {most_bytes} bytes that are accepted")
        return bytes(body)

    def _unexpected(self, what: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"{self.target}: {what}")

    def _fault(self, error: Exception) -> FrostSidecarError:
        cause = _cause(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = getattr(cause, "verify_message", None) or cause.args[-1]  # our own errors have an argument alone
            return self._unexpected(f"its certificate is not accepted: {why}")
        if isinstance(error, aiohttp.ClientResponseError | ValueError):
            return self._unexpected("what answered does not speak HTTP/1.1")
        broke = self._certificates is not None and not isinstance(error, aiohttp.ClientConnectorError)
        return SidecarUnreachable(
            f"no answer from the sidecar at {self.target}: {_reason(error)}{_HINT if broke else ''}"
        )


class BearerToken:
    """A source of bearer tokens that shows nothing of them; callable as a source, so that it passes for one."""

    __slots__ = ("_source",)

    def __init__(self, source: TokenSource) -> None:
        """Raises :class:`ConfigError` for what can be no source."""
        if not isinstance(source, str | os.PathLike) and not callable(source):
            raise ConfigError(f"a token is a text, a Path or a function, not {type(source).__name__}", path="token")
        self._source = source

    def __repr__(self) -> str:
        return "<bearer token>"

    async def __call__(self) -> str:
        """A token; raises whatever the source raises."""
        source = self._source
        if isinstance(source, str):
            return source
        if isinstance(source, os.PathLike):
            return await anyio.to_thread.run_sync(_read_token, source, abandon_on_cancel=True)
        made = source()
        return await made if inspect.isawaitable(made) else made

    @classmethod
    def of(cls, source: TokenSource | None) -> BearerToken | None:
        """``source``, wrapped once."""
        return source if source is None or isinstance(source, cls) else cls(source)

    async def header(self) -> dict[str, str]:
        """The header of one request. Its errors have no cause and no context: those may hold the token.

        Raises:
            Unauthenticated: the source fails, or gives no token.
        """
        token: object = None
        failed = None
        try:
            token = await self()
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
            failed = "it cancelled itself"
        except Exception as error:  # noqa: BLE001 - whatever a source raises; its class may be told, its words not
            failed = type(error).__name__
        if failed is not None:
            raise Unauthenticated(f"the source of the bearer token failed: {failed}")
        if isinstance(token, str) and _TOKEN.match(token):
            return {"Authorization": f"Bearer {token}"}
        del token
        raise Unauthenticated("the source of the bearer token gave no token (RFC 6750, section 2.1)")


class _Certificates:
    """The TLS context of a client, made anew when one of its files changes."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamps: object = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context for a new connection. Files that cannot be used leave the old one; without one it raises."""
        files = (self._files.cert, self._files.key, self._files.ca, self._files.crl)
        stamps = [_stamp(file) for file in files if file is not None]
        if self._context is None or stamps != self._stamps:
            try:
                self._context = client_context(self._files)
            except ConfigError as error:
                if self._context is None:
                    raise
                log.warning("changed TLS files cannot be used; going on with the old ones", reason=str(error))
            self._stamps = stamps
        return self._context


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size  # ctime: rights that were mended


def target_text(target: object) -> str:
    """A target as text, its scheme in lower case (RFC 3986, section 3.1); raises :class:`ConfigError`."""
    text = os.fspath(target) if isinstance(target, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ConfigError(f"use a text or a Path, not {type(target).__name__}", path="target")
    return re.sub(r"\A(https?|unix):", lambda scheme: scheme[0].lower(), text, flags=re.IGNORECASE)


def _socket_path(text: str) -> str:
    path = re.sub(r"\A//(?=/)", "", text)  # unix:///run/… says the same as unix:/run/…
    if not path or "\0" in path or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path) or path.startswith("//"):
        raise ConfigError("use the path of a Unix socket, or https://HOST:PORT", path=text or "target")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError("the path is too long for a Unix socket; use a shorter folder", path=path)
    return path


def _read_token(path: os.PathLike[str]) -> str:
    """A file's text, ASCII; in a thread. Not to be stopped by a pipe that nobody writes to, nor filled by a device."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = file.read(_TOKEN_FILE_BYTES + 1)
    if len(data) > _TOKEN_FILE_BYTES:
        raise ValueError("too large")
    return data.decode("ascii").strip()


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds of ``Retry-After`` (RFC 9110, section 10.2.3); the form as a date counts as absent."""
    value = response.headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"[0-9]{1,6}", value) else None


def _reason(error: Exception) -> str:
    """Why there was no answer, in a few words."""
    cause = _cause(error)
    # A Unix socket whose queue is full (unix(7)): uvloop says so, asyncio takes it for connected until it is used.
    if isinstance(cause, OSError) and cause.errno in {errno.EAGAIN, errno.ENOTCONN}:
        return "it does not accept connections now"
    if isinstance(error.__cause__, aiohttp.ClientConnectionResetError):
        return "it does not accept connections now, or hung up"
    if isinstance(cause, OSError) and cause.strerror:
        return printable(cause.strerror, _SHOWN)
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it hung up during the TLS handshake; it needs TLS 1.3"
    return printable(str(error), _SHOWN) or type(error).__name__


def _cause(error: Exception) -> BaseException:
    """What aiohttp wrapped."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return error.certificate_error
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error
    return error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
