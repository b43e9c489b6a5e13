"""A signer and a coordinator's TCP listener, both real servers with real TLS, each with the plugins under attack."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import aiohttp
import anyio
import frost_sidecar_auth_eddsa_jwks
import frost_sidecar_auth_hs256

from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.keygen.dealer import deal
from frost_sidecar.model import Credentials, Identity
from frost_sidecar.plugins import hookimpl, load
from frost_sidecar.signer import NodeConfig, serve
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.sidecar import MemorySidecar
from frost_sidecar.wire import INFO_PATH, body_digest
from tests.token_attacks.case import Host
from tests.token_attacks.forge import Keys

_METRIC: Final = re.compile(r'^frost_(?:signer|coordinator)_refusals_total\{reason="([a-z-]+)"\} (\S+)$', re.MULTILINE)
_CARRIED: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
_LONGEST: Final = 8190 - len("Bearer ")
"""Longest token that fits into a header that the hosts' HTTP reads."""


@dataclass(frozen=True)
class Answer:
    """What a host said to a token."""

    let_in: bool
    reason: str | None
    status: int


@dataclass
class Attacked:
    """A host, a connection to it with the right certificate, and what it has counted."""

    kind: Host
    http: aiohttp.ClientSession
    metrics: aiohttp.ClientSession
    authenticators: Sequence[tuple[str, Authenticator]]
    """The same plugins built once more from the same configuration, for tokens that no HTTP header can carry."""
    expected: Counter[str] = field(default_factory=Counter)
    """Refusals that the host should have counted by now, by reason."""

    async def show(self, token: str) -> Answer:
        """Present a token as a bearer token."""
        # What a signer says of itself, or a request to sign with a key that is not there: cheap, and behind the door.
        method, path = ("GET", INFO_PATH) if self.kind == "signer" else ("POST", "/sign")
        data = None if self.kind == "signer" else b'{"msg_b64":"aGVsbG8","key":"another"}'
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.request(method, path, data=data, headers=headers) as response:
            body = await response.read()
        problem = {} if response.status == 200 else json.loads(body)
        let_in = response.status == 200 or problem.get("type") == "urn:frost-sidecar:error:unknown-key"
        return Answer(let_in, problem.get("reason"), response.status)

    async def counted(self) -> Counter[str]:
        """Refusals that the host's metrics tell of, by reason."""
        async with self.metrics.get("/metrics") as response:
            text = await response.text()
        return Counter({reason: int(float(count)) for reason, count in _METRIC.findall(text)})

    async def ask_plugins(self, token: str) -> Identity | str:
        """What the plugins alone say, asked in their order: whose the token is, or the reason of the refusal."""
        for _, each in self.authenticators:
            try:
                identity = await each.authenticate(Credentials(token))
            except Unauthenticated as error:
                return str(error.reason)
            if identity is not None:
                return identity
        return "token-unknown"

    def claims(self) -> dict[str, Any]:
        """Claims that are good here, once."""
        now = int(time.time())
        claims = {"iss": "frost-coord", "sub": "frost-coordinator", "iat": now, "nbf": now, "exp": now + 30}
        if self.kind == "signer":
            return {**claims, "aud": "signer-1", "jti": secrets.token_hex(8), "body_sha256": body_digest(b"")}
        return {**claims, "sub": "mint", "aud": "frost-coordinator", "jti": secrets.token_hex(8)}


def is_sent(token: str) -> bool:
    """Whether a client sends it at all: none puts a line break or a NUL into a header."""
    return not set(token) & set("\r\n\0")


def is_carried(token: str) -> bool:
    """Whether a host takes it for a bearer token (RFC 6750, section 2.1)."""
    return _CARRIED.match(token) is not None


def is_too_long(token: str) -> bool:
    """Whether no header is long enough for it."""
    return len(token) > _LONGEST


def settings(keys: Keys, jwk_set: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The sections of both plugins; the JWK set goes to a file."""
    jwks = folder / f"jwks-{secrets.token_hex(4)}.json"
    jwks.write_text(json.dumps(jwk_set))
    return {
        "auth_hs256": {"secret_b64": b64encode(keys.secret)},
        "auth_eddsa_jwks": {"jwks_file": str(jwks), "algorithms": ["EdDSA", "Ed25519", "RS256"]},
    }


@asynccontextmanager
async def attacked_signer(folder: Path, plugins: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Attacked]:
    """A signer node as ``frost-sidecar signer`` runs it, in this process."""
    authority = Authority(folder / "tls")
    server = authority.issue("signer-1", ["127.0.0.1"])
    dealt = deal(folder / "keys", min_signers=2, max_signers=2)
    config = NodeConfig.build(
        {
            "name": "signer-1",
            "bind": "127.0.0.1:0",
            "state": str(folder),
            "keys": {"default": {"share": str(dealt.share_files[1])}},
            "tls": {"cert": str(server.cert), "key": str(server.key), "ca": str(server.ca)},
            "clients": {"names": ["DNS:coordinator.test"]},
            "plugins": plugins,
        }
    )
    ready: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(config, ready=ready.set_result))
    either: list[asyncio.Future[Any]] = [task, ready]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    if task.done():
        task.result()
    host, port = await ready
    client = authority.issue("coordinator", ["coordinator.test"])
    context = ssl.create_default_context(cafile=str(client.ca))
    context.load_cert_chain(client.cert, client.key)
    try:
        async with aiohttp.ClientSession(
            f"https://{host}:{port}",
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=10),
        ) as http:
            yield Attacked("signer", http, http, load(config, "signer").all("make_authenticator", Authenticator))
    finally:
        task.cancel()
        with anyio.move_on_after(10, shield=True):
            await asyncio.wait([task])


@asynccontextmanager
async def attacked_coordinator(folder: Path, plugins: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Attacked]:
    """A coordinator's TCP listener; its signers are in memory, with tokens of their own kind."""
    modules: dict[str, ModuleType] = {
        "auth_hs256": frost_sidecar_auth_hs256,
        "auth_eddsa_jwks": frost_sidecar_auth_eddsa_jwks,
    }
    given = {f"{name}_callers": _authenticator_alone(modules[name]) for name in plugins}
    sidecar = MemorySidecar(
        folder,
        tcp=True,
        plugins=given,
        plugins_settings={f"{name}_callers": each for name, each in plugins.items()},
        server={"token": {"issuers": ["frost-coord"]}},
    )
    async with sidecar.serving() as unix, sidecar.calling(anonymous=True) as http:
        everything = {**given, "memory": sidecar.cluster.plugin, "callers": sidecar.callers}
        built = load(sidecar.cluster.config, "coordinator", given=everything, hooks=["make_authenticator"])
        asked = [each for each in built.all("make_authenticator", Authenticator) if each[0] in given]
        yield Attacked("coordinator", http, unix, asked)


def _authenticator_alone(module: ModuleType) -> ModuleType:
    """The plugin without its token issuer: the cluster has one of its own."""
    plugin = ModuleType(module.__name__)
    setattr(plugin, "make_authenticator", hookimpl(module.make_authenticator))  # noqa: B010
    return plugin
