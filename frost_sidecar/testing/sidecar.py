"""The in-memory cluster behind a real sidecar: for tests of what talks to it, over the Unix socket or TCP with mTLS.

::

    sidecar = MemorySidecar(folder)
    async with sidecar.serving() as http:
        async with http.post("/sign", json={"msg_b64": "aGVsbG8="}) as response:
            assert response.status == 200
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from frost_sidecar.contract import PROGRAM_HEADER, PROGRAM_VALUE
from frost_sidecar.hookspecs import Authenticator, Credentials, Identity, PluginContext
from frost_sidecar.model import TlsFiles
from frost_sidecar.plugins import hookimpl
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.cluster import MemoryCluster

SERVER_NAME = "frost-coordinator.frost.svc"
"""The name in the certificate of the TCP listener."""
CLIENT_NAME = "mint.frost.test"
"""The name in the certificate of :attr:`MemorySidecar.client`, which may call."""

_CALLERS = "callers"
_START_SECONDS = 5.0
_REQUEST_SECONDS = 10.0


class MemorySidecar:
    """A :class:`MemoryCluster` in ``folder``, served on the Unix socket ``folder/s``.

    With ``tcp`` also on a free port of loopback, with certificates of an authority of its own and :meth:`token` as
    tokens. ``settings`` go to the configuration, ``plugins`` join the cluster's.
    """

    def __init__(
        self, folder: Path, *, tcp: bool = False, plugins: Mapping[str, object] | None = None, **settings: Any
    ) -> None:
        self.path = folder / "s"
        self.callers = Callers()
        server = {"socket": str(self.path), "grace_seconds": 2.0}
        if tcp:
            self.authority = Authority(folder / "tls")
            self.listener = self.authority.issue("listener", [SERVER_NAME, "127.0.0.1"])
            self.client = self.authority.issue("client", [CLIENT_NAME])
            server |= {
                "bind": "127.0.0.1:0",
                "tls": {"cert": str(self.listener.cert), "key": str(self.listener.key), "ca": str(self.listener.ca)},
                "client_names": [f"DNS:{CLIENT_NAME}"],
            }
            plugins = {_CALLERS: self.callers, **(plugins or {})}
        names = {"memory": {}, **{name: {} for name in plugins or {}}, **settings.pop("plugins_settings", {})}
        self._plugins = plugins
        self.cluster = MemoryCluster(
            folder / "keys",
            settings={"server": {**server, **settings.pop("server", {})}, "plugins": names, **settings},
        )
        self.stop = anyio.Event()
        """Set it to end the sidecar before the block ends."""
        self.addresses: Mapping[str, str] = {}

    def token(self, subject: str = "mint", **claims: object) -> str:
        """A bearer token that the TCP listener accepts for ``subject``, with these claims."""
        return self.callers.token(subject, **claims)

    @property
    def url(self) -> str:
        """Where the TCP listener is."""
        return f"https://{self.addresses['bind']}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Serve while the block runs; gives a client of the socket."""
        ready = anyio.Event()
        async with self.cluster.coordinator(self._plugins) as coordinator, anyio.create_task_group() as tasks:

            async def serve() -> None:
                await coordinator.serve(stop=self.stop, ready=ready)

            tasks.start_soon(serve)
            with anyio.fail_after(_START_SECONDS):
                await ready.wait()
            self.addresses = coordinator.addresses
            async with aiohttp.ClientSession(
                base_url="http://sidecar",
                connector=aiohttp.UnixConnector(path=str(self.path)),
                timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
                headers={PROGRAM_HEADER: PROGRAM_VALUE},
            ) as http:
                yield http
            self.stop.set()

    @asynccontextmanager
    async def calling(
        self, files: TlsFiles | None = None, token: str | None = None, *, anonymous: bool = False
    ) -> AsyncIterator[aiohttp.ClientSession]:
        """A client of the TCP listener with a certificate and a token; without the latter where ``anonymous``."""
        files = files or self.client
        context = ssl.create_default_context(cafile=str(self.listener.ca))
        context.load_cert_chain(files.cert, files.key)
        async with aiohttp.ClientSession(
            base_url=self.url,
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
            headers={} if anonymous else {"Authorization": f"Bearer {token or self.token()}"},
        ) as http:
            yield http


class Callers(Authenticator):
    """Opaque tokens for callers, as a plugin of its own; hands out and accepts them."""

    def __init__(self) -> None:
        self._identities: dict[str, Identity] = {}

    def token(self, subject: str, **claims: object) -> str:
        """A new token for ``subject``."""
        token = secrets.token_urlsafe(24)
        self._identities[token] = Identity(subject, "opaque", {"sub": subject, **claims})
        return token

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """The identity that the token was made for, None for every other token."""
        return self._identities.get(credentials.token or "")

    @hookimpl
    def make_authenticator(self, context: PluginContext) -> Authenticator:
        """The plugin is its own authenticator."""
        return self
