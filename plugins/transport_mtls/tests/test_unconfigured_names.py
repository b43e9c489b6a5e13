"""Signers whose name was not configured: pinned when they are first called, as strictly as any other."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from aiohttp import web
from frost_sidecar_transport_mtls import MtlsTransport, PinnedContexts, TlsIdentity, make_transport
from frost_sidecar_transport_mtls.contexts import MAX_FURTHER

from frost_sidecar.errors import ConfigError, TransportError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.model import Answer, Call, Signer, TlsFiles
from frost_sidecar.testing.authority import Authority

CALL = Call("POST", "/v1/shares", b"body", {"Authorization": "Bearer token"}, 1000)
URI = "spiffe://frost.test/signer/8"


@dataclass
class Server:
    """Who called, by the port of their end: as many as there were connections."""

    port: int = 0
    peers: list[object] = field(default_factory=list)

    def signer(self, server_name: str) -> Signer:
        return Signer(8, "signer-8", f"https://127.0.0.1:{self.port}", "ad-1", server_name)

    async def answer(self, request: web.Request) -> web.Response:
        certificate = request.get_extra_info("peercert")
        assert ("DNS", "coordinator.test") in certificate["subjectAltName"]
        self.peers.append(request.get_extra_info("peername"))
        return web.Response(body=await request.read())


def server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def serving(files: TlsFiles) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/shares", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(files)).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
def unknown_files(authority: Authority) -> TlsFiles:
    return authority.issue("signer-8", ["signer-8.test", "signer-9.test", "127.0.0.1", URI])


def transport(files: TlsFiles) -> MtlsTransport:
    """As the host builds it, with one configured signer."""
    made = make_transport(
        PluginContext(
            name="transport_mtls",
            role="coordinator",
            dev=False,
            tls=files,
            signers=(Signer(1, "signer-1", "https://signer-1.test", "ad-1", "signer-1.test"),),
            settings=lambda kind: kind(),
            path=files.cert.with_name,
        )
    )
    assert isinstance(made, MtlsTransport)
    return made


@pytest.mark.parametrize("name", ["signer-8.test", "SIGNER-8.test", "127.0.0.1", URI])
async def test_a_name_that_was_not_configured_is_answered_over_one_connection(
    unknown_files: TlsFiles, client_files: TlsFiles, name: str
) -> None:
    async with serving(unknown_files) as server, transport(client_files) as each:
        for _ in range(5):
            assert await each.call(server.signer(name), CALL) == Answer(200, b"body")
    assert len(server.peers) == 5
    assert len(set(server.peers)) == 1


async def test_many_calls_at_once_to_a_new_name(unknown_files: TlsFiles, client_files: TlsFiles) -> None:
    async with (
        serving(unknown_files) as server,
        transport(client_files) as each,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(30):
            tasks.start_soon(each.call, server.signer("signer-8.test"), CALL)
    assert len(server.peers) == 30


async def test_two_names_of_one_host_share_no_connection(unknown_files: TlsFiles, client_files: TlsFiles) -> None:
    """A pooled connection proved one name; it says nothing about another."""
    async with serving(unknown_files) as server, transport(client_files) as each:
        for name in ("signer-8.test", "signer-9.test", URI, "signer-8.test", "signer-9.test", URI):
            assert await each.call(server.signer(name), CALL) == Answer(200, b"body")
        for name in ("signer-7.test", "spiffe://frost.test/signer/7"):
            with pytest.raises(TransportError):
                await each.call(server.signer(name), CALL)
    assert len(server.peers) == 6
    assert len(set(server.peers)) == 3


@pytest.mark.parametrize(
    "name", ["signer-7.test", "signer-1.test", "127.0.0.2", "spiffe://frost.test/signer/7", "a.signer-8.test"]
)
async def test_another_name_gets_no_byte_of_the_request(
    unknown_files: TlsFiles, client_files: TlsFiles, name: str
) -> None:
    received = bytearray()
    context = server_context(unknown_files)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read())
        writer.close()

    listener = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with listener, transport(client_files) as each:
        server = Server(listener.sockets[0].getsockname()[1])
        with pytest.raises(TransportError) as caught:
            await each.call(server.signer(name), CALL)
        await anyio.sleep(0.02)
    assert caught.value.kind == "tls"
    assert "certificate was refused" in str(caught.value)
    assert received == b""


async def test_another_authority_is_refused(tmp_path_factory: pytest.TempPathFactory, client_files: TlsFiles) -> None:
    other = Authority(tmp_path_factory.mktemp("other"), name="another authority").issue("signer-8", ["signer-8.test"])
    async with serving(TlsFiles(other.cert, other.key, client_files.ca)) as server, transport(client_files) as each:
        with pytest.raises(TransportError) as caught:
            await each.call(server.signer("signer-8.test"), CALL)
    assert caught.value.kind == "tls"
    assert server.peers == []


@pytest.mark.parametrize("name", ["", "*.signers.test", "a b", "sígner.test", "x" * 64 + ".test", ".test", "a\0b.test"])
async def test_a_name_that_cannot_be_pinned_is_a_fault_of_the_call(
    unknown_files: TlsFiles, client_files: TlsFiles, name: str
) -> None:
    async with serving(unknown_files) as server, transport(client_files) as each:
        with pytest.raises(TransportError, match="server_name") as caught:
            await each.call(server.signer(name), CALL)
    assert caught.value.kind == "tls"
    assert server.peers == []


async def test_a_new_name_reads_no_file(authority: Authority, unknown_files: TlsFiles) -> None:
    """The certificate, the key and the authority are those of the start, whatever the files hold by now."""
    files = authority.issue("short-lived", ["coordinator.test"])
    own_authority = files.cert.with_name("short-lived-ca.crt")
    own_authority.write_bytes(files.ca.read_bytes())
    async with serving(unknown_files) as server, transport(TlsFiles(files.cert, files.key, own_authority)) as each:
        for path in (files.cert, files.key, own_authority):
            path.unlink()
        assert await each.call(server.signer("signer-8.test"), CALL) == Answer(200, b"body")


def test_no_more_contexts_are_kept_than_that(client_files: TlsFiles) -> None:
    contexts = PinnedContexts(TlsIdentity(client_files), ["signer-1.test"])
    configured = contexts.get("signer-1.test")
    made = [contexts.get(f"n{number}.test") for number in range(MAX_FURTHER)]
    assert [contexts.get(f"n{number}.test") for number in range(MAX_FURTHER)] == made
    assert contexts.get("n0.test") is made[0]  # used last now
    contexts.get("one-more.test")
    assert contexts.get("n0.test") is made[0]
    assert contexts.get("n2.test") is made[2]
    assert contexts.get("n1.test") is not made[1]
    for number in range(2 * MAX_FURTHER):
        contexts.get(f"m{number}.test")
    assert len(contexts._now._further) == MAX_FURTHER
    assert contexts.get("n0.test") is not made[0]
    assert contexts.get("signer-1.test") is configured


def test_a_name_that_cannot_be_pinned_leaves_nothing_behind(client_files: TlsFiles) -> None:
    contexts = PinnedContexts(TlsIdentity(client_files), [])
    with pytest.raises(ConfigError, match="server_name"):
        contexts.get("*.signers.test")
    assert not contexts._now._further
