"""One request for a JWK set: https to a pinned authority, within bounds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import Component
from frost_sidecar_auth_eddsa_jwks.file import read_file

_MAX_CA_BYTES: Final = 1024 * 1024
_HEADERS: Final = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class FetchError(Exception):
    """The set could not be fetched; the text says why, and can be logged."""


class PinnedAuthority:
    """The authority that the server's certificate needs: one file, and nothing of the system's."""

    def __init__(self, path: Path, place: str) -> None:
        """Reads nothing yet: :meth:`reload` does. ``place``: the setting that names the file, for messages."""
        self._path = path
        self._place = place
        self._context: ssl.SSLContext | None = None

    def reload(self) -> None:
        """Read the file; raises :class:`~frost_sidecar.errors.ConfigError`."""
        data = read_file(self._path, self._place, max_bytes=_MAX_CA_BYTES, kind="trusted")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host's name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=data.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ConfigError(f"{self._path} has no certificate in PEM", path=self._place) from None
        self._context = context

    def context(self) -> ssl.SSLContext:
        """What a connection is made with now."""
        if self._context is None:
            raise ConfigError("the authority was not read yet", path=self._place)
        return self._context


class Fetcher(Component):
    """Asks one https address. It keeps no connection, follows no redirect, and knows no proxy and no cookie."""

    def __init__(self, url: URL, context: Callable[[], ssl.SSLContext], *, seconds: float, max_bytes: int) -> None:
        """``context`` is asked before each request; ``seconds``: the deadline of one."""
        self._url = url
        self._context = context
        self._seconds = seconds
        self._max_bytes = max_bytes

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=_HEADERS,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def fetch(self) -> bytes:
        """The body of a 200; raises :class:`FetchError`."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._fetch()
        except TimeoutError:
            raise FetchError(f"no whole answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"{type(error).__name__}: {str(error)[:200]}") from None

    async def _fetch(self) -> bytes:
        async with self._session.get(self._url, ssl=self._context(), allow_redirects=False) as response:
            if response.status != 200:
                redirected = "; redirects are not followed" if 300 <= response.status < 400 else ""
                raise FetchError(f"the server answered {response.status}{redirected}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise FetchError("the server compressed its answer, which was not asked for")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > self._max_bytes:
                    raise FetchError(f"the answer is larger than {self._max_bytes} bytes")
            return bytes(body)


def parse_url(text: str, place: str) -> URL:
    """An https address and nothing that a log should not show; raises :class:`~frost_sidecar.errors.ConfigError`."""
    try:
        url = URL(text)
        if urlsplit(text).port != url.explicit_port:  # it raises for hosts and ports that yarl lets pass, too
            raise ConfigError("is no URL", path=place)
    except (ValueError, IndexError):  # yarl's, for brackets around nothing
        raise ConfigError("is no URL", path=place) from None
    if url.scheme != "https" or not url.host:
        raise ConfigError("must be https://HOST/…; nobody can trust keys that came without TLS", path=place)
    if url.user is not None or url.password is not None or url.fragment or url.query_string:
        raise ConfigError("must have no user, password, query or fragment", path=place)
    return url
