"""A signer for tests: in memory behind its service, or a real server with real TLS on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtensionOID
from frost_ed25519 import SigningPackage, aggregate, keys, round1, round2

from frost_sidecar.encoding import b64decode, b64encode, b64url
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import Authenticator, PluginContext, Policy
from frost_sidecar.metrics import SignerMetrics, new_registry
from frost_sidecar.model import Credentials, Identity, TlsFiles
from frost_sidecar.plugins import hookimpl
from frost_sidecar.policy import Policies
from frost_sidecar.signer import NodeConfig, NonceStore, Permissions, SignerNode, SignerService, serve
from frost_sidecar.signer.access import Gate
from frost_sidecar.testing.authority import Authority
from frost_sidecar.wire import COMMITMENTS_PATH, Commitment, CommitmentsAnswer, Session, body_digest

CLIENT = "DNS:coordinator.test"
SECRET = b"the test's token secret"


class MacAuthenticator(Authenticator):
    """Tokens of the form ``base64url(claims).base64url(mac)``."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        payload, dot, mac = (credentials.token or "").partition(".")
        if not dot or "." in mac:
            return None
        if not hmac.compare_digest(mac, _mac(payload)):
            raise Unauthenticated("the token's mac is wrong")
        claims = json.loads(b64decode(payload))
        return Identity(subject=str(claims.get("sub")), method="mac", claims=claims)


class MacPlugin:
    @hookimpl
    def make_authenticator(self, context: PluginContext) -> Authenticator:
        return MacAuthenticator()


def _mac(payload: str) -> str:
    return b64url(hmac.digest(SECRET, payload.encode(), hashlib.sha256))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Group:
    """A 2-of-3 group, and what participant 2 does while participant 1 is under test."""

    def __init__(self) -> None:
        secrets, self.public = keys.generate_with_dealer(3, 2)
        self.shares = {int(each): keys.KeyPackage.from_secret_share(secret) for each, secret in secrets.items()}

    def session(
        self, mine: Commitment, message: bytes = b"message", name: str = "s1"
    ) -> tuple[Session, Callable[[str], bytes]]:
        """A session of participants 1 and 2, and what makes a verified signature out of 1's share."""
        nonces, other = round1.commit(self.shares[2])
        package = SigningPackage(
            {1: round1.SigningCommitments(b64decode(mine.hiding), b64decode(mine.binding)), 2: other}, message
        )

        def finish(share: str) -> bytes:
            first = round2.SignatureShare.deserialize(b64decode(share))
            second = round2.sign(package, nonces, self.shares[2])
            signature = aggregate(package, {1: first, 2: second}, self.public)
            self.public.verifying_key.verify(message, signature)
            return signature.serialize()

        theirs = Commitment("theirs", b64encode(other.hiding), b64encode(other.binding))
        return Session(name, b64encode(message), {"1": mine, "2": theirs}), finish


@dataclass
class Reply:
    """An HTTP answer, read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        return str(self.json["type"]).removeprefix("urn:frost-sidecar:error:")


class Rig:
    """Everything around one signer, "signer-1", which holds share 1 of ``group`` under the key "default"."""

    def __init__(self, folder: Path, authority: Authority, group: Group) -> None:
        self.folder = folder
        self.authority = authority
        self.group = group
        self.clock = Clock(1_800_000_000.0)
        self.monotonic = Clock(0.0)
        self._tokens = 0
        self.share = folder / "share.json"
        self.share.touch(0o600)
        self.share.write_text(group.shares[1].to_json())

    def config(self, **changes: Any) -> NodeConfig:
        tls = self.authority.issue("signer-1", ["localhost", "127.0.0.1"])
        return NodeConfig.build(
            {
                "name": "signer-1",
                "bind": "127.0.0.1:0",
                "state": str(self.folder),
                "tls": {"cert": str(tls.cert), "key": str(tls.key), "ca": str(tls.ca)},
                "clients": {"names": [CLIENT]},
                "plugins": {"mac": {}},
                **changes,
            }
        )

    def certificate(self, *names: str) -> TlsFiles:
        return self.authority.issue("client-" + "-".join(names).replace("/", "_"), names)

    def odd_certificate(self, name: str, names: x509.ExtensionType) -> TlsFiles:
        """A certificate with subject alternative names that the testing kit's authority issues to nobody."""
        files = self.authority.issue(name, ["never.test"])
        usual = x509.load_pem_x509_certificate(files.cert.read_bytes())
        builder = x509.CertificateBuilder(
            usual.issuer,
            usual.subject,
            usual.public_key(),
            usual.serial_number,
            usual.not_valid_before_utc,
            usual.not_valid_after_utc,
        )
        for each in usual.extensions:
            odd = each.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME
            builder = builder.add_extension(names if odd else each.value, critical=each.critical)
        certificate = builder.sign(self.authority._key, hashes.SHA256())
        files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return files

    def claims(self, body: bytes, **changes: Any) -> dict[str, Any]:
        self._tokens += 1
        now = int(self.clock())
        claims = {
            "iss": "frost-coord",
            "sub": "frost-coordinator",
            "aud": "signer-1",
            "iat": now,
            "nbf": now,
            "exp": now + 30,
            "jti": f"token-{self._tokens}",
            "body_sha256": body_digest(body),
        }
        merged = {**claims, **changes}
        return {name: value for name, value in merged.items() if value is not None}

    def token(self, body: bytes, **changes: Any) -> str:
        payload = b64url(json.dumps(self.claims(body, **changes)).encode())
        return f"{payload}.{_mac(payload)}"

    def service(self, *authenticators: Authenticator, deciding: Policy | None = None, **changes: Any) -> SignerService:
        """The signer in memory, on the rig's clocks; ``deciding``: a policy plugin, with a short deadline."""
        config = self.config(**changes)
        metrics = SignerMetrics(new_registry())
        nonces = NonceStore(
            metrics,
            per_client=config.limits.max_commitments_per_client,
            clients=config.limits.max_clients,
            lifetime=config.limits.commitment_seconds,
            clock=self.monotonic,
        )
        asked = [(f"a{index}", each) for index, each in enumerate(authenticators or (MacAuthenticator(),))]
        policies = None if deciding is None else Policies([("deciding", deciding)], 0.1)
        permissions = Permissions(config, metrics, policies)
        shares = dict.fromkeys(config.keys, self.group.shares[1])
        node = SignerNode(config.name, shares, nonces, permissions=permissions)
        return SignerService(node, Gate(config, asked, metrics, clock=self.clock), metrics)

    async def call(
        self,
        service: SignerService,
        path: str,
        message: object = b"",
        *,
        names: tuple[str, ...] = (CLIENT,),
        token: str | None = None,
        **claims: Any,
    ) -> Reply:
        """One call in memory; with a fresh token, its claims changed by ``claims``, unless one is given."""
        body = encode(message)
        status, answer = await service.handle(path, token or self.token(body, **claims), names, body)
        return Reply(status, {}, answer)

    def client(self, host: str, port: int) -> Client:
        """A client of a signer somewhere else."""
        self.clock.now = time.time()
        return Client(self, host, port)

    @contextlib.asynccontextmanager
    async def serving(
        self, node_factory: Callable[..., SignerNode] = SignerNode, *, plugin: object = None, **changes: Any
    ) -> AsyncIterator[Server]:
        """The signer as a real server, on the real clock."""
        self.clock.now = time.time()
        config = self.config(**changes)
        given = {name: plugin or MacPlugin() for name in config.plugins}
        ready: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(config, ready=ready.set_result, node_factory=node_factory, given=given))
        either: list[asyncio.Future[Any]] = [task, ready]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        try:
            yield Server(self, *ready.result(), task)
        finally:
            task.cancel()
            await asyncio.wait([task])


class Client:
    """A client of a running signer."""

    def __init__(self, rig: Rig, host: str, port: int) -> None:
        self.rig = rig
        self.host = host
        self.port = port

    def client_context(self, files: TlsFiles | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.rig.authority.certificate))
        if files is not None:
            context.load_cert_chain(files.cert, files.key)
        return context

    async def send(
        self,
        method: str,
        path: str,
        message: object = b"",
        *,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        token: str | None = None,
    ) -> Reply:
        """One request on a connection of its own; with a fresh good token unless other ``headers`` are given."""
        body = encode(message)
        given = headers if headers is not None else {"Authorization": "Bearer " + (token or self.rig.token(body))}
        context = tls or self.client_context(self.rig.certificate("coordinator.test"))
        connector = aiohttp.TCPConnector(ssl=context, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, skip_auto_headers=["Content-Type"]) as session,
            session.request(method, f"https://{self.host}:{self.port}{path}", data=body, headers=given) as response,
        ):
            return Reply(response.status, dict(response.headers), await response.read())

    @contextlib.asynccontextmanager
    async def begin(self, head: str, *, tls: TlsFiles | None = None) -> AsyncIterator[asyncio.StreamReader]:
        """Send the head of a request and nothing of its body; the stream has what the signer says meanwhile."""
        context = self.client_context(tls or self.rig.certificate("coordinator.test"))
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=context)
        try:
            writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
            await writer.drain()
            yield reader
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @staticmethod
    async def read(reader: asyncio.StreamReader) -> Reply:
        """An answer from a stream, soon: it must not wait for a body that does not come."""
        async with asyncio.timeout(3):
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if line)
            body = await reader.readexactly(int(headers["Content-Length"]))
        return Reply(int(status.split()[1]), headers, body)

    async def commitments(self, count: int = 1) -> CommitmentsAnswer:
        reply = await self.send("POST", COMMITMENTS_PATH, {"key": "default", "count": count})
        assert reply.status == 200, reply.body
        return msgspec.json.decode(reply.body, type=CommitmentsAnswer)


class Server(Client):
    """A running signer, and a client of it."""

    def __init__(self, rig: Rig, host: str, port: int, task: asyncio.Task[None]) -> None:
        super().__init__(rig, host, port)
        self.task = task


def encode(message: object) -> bytes:
    return message if isinstance(message, bytes) else msgspec.json.encode(message)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def group() -> Group:
    return Group()


@pytest.fixture
def rig(tmp_path: Path, authority: Authority, group: Group) -> Rig:
    return Rig(tmp_path, authority, group)
