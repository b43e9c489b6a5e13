"""The transport against real TLS servers on loopback, on asyncio and on uvloop."""

import asyncio
import datetime as dt
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from frost_sidecar_transport_mtls import MtlsTransport, PinnedContexts, Settings, TlsIdentity, make_transport

from frost_sidecar.errors import ConfigError, TransportError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.model import Answer, Call, Signer, TlsFiles
from frost_sidecar.process import convert
from frost_sidecar.testing.authority import Authority

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SECRET = "Bearer very-secret-token"


@dataclass
class Server:
    """What a server saw. ``received`` holds every decrypted byte."""

    port: int
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)

    def signer(self, server_name: str = "signer-1.test", *, scheme: str = "https") -> Signer:
        return Signer(1, "signer-1", f"{scheme}://127.0.0.1:{self.port}", "ad-1", server_name)


def server_context(files: TlsFiles, *, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = highest
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def raw_server(talk: Talk, tls: ssl.SSLContext | None) -> AsyncIterator[Server]:
    """A server that speaks whatever ``talk`` writes, and ends every conversation with the test."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(_Tee(reader, seen.received), writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    seen = Server(server.sockets[0].getsockname()[1])
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def blocking_server(tls: ssl.SSLContext) -> Iterator[Server]:
    """A server that refuses as most do: it sends the TLS alert, which asyncio's servers keep to themselves."""

    def serve() -> None:
        plain, _ = listener.accept()
        plain.settimeout(5)
        secured = tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            secured.do_handshake()
        with socket.socket(fileno=secured.detach()) as left:  # read to the end, so that no reset overtakes the alert
            left.settimeout(5)
            while left.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Server(listener.getsockname()[1])
        thread.join()


class _Tee(asyncio.StreamReader):
    def __init__(self, inner: asyncio.StreamReader, seen: bytearray) -> None:
        self._inner, self._seen = inner, seen

    async def read(self, n: int = -1) -> bytes:
        data = await self._inner.read(n)
        self._seen += data
        return data

    async def request(self) -> bytes:
        """One whole request with a Content-Length."""
        start = len(self._seen)
        while b"\r\n\r\n" not in self._seen[start:]:
            if not await self.read(65536):
                raise ConnectionResetError
        head, _, body = bytes(self._seen[start:]).partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += await self.read(65536)
        return body


async def request(reader: asyncio.StreamReader) -> bytes:
    assert isinstance(reader, _Tee)
    return await reader.request()


def reply(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(reply(await request(reader)))
        await writer.drain()


@asynccontextmanager
async def transport(files: TlsFiles, *pins: str, settings: Settings | None = None) -> AsyncIterator[MtlsTransport]:
    contexts = PinnedContexts(TlsIdentity(files), pins or ("signer-1.test",))
    async with MtlsTransport(contexts, settings or Settings()) as each:
        yield each


def post(body: bytes = b'{"x":1}', *, cap: int = 1000, path: str = "/v1/shares") -> Call:
    return Call("POST", path, body, {"Authorization": SECRET, "Content-Type": "application/json"}, cap)


async def refused(
    server: Server, files: TlsFiles, pin: str = "signer-1.test", call: Call | None = None
) -> TransportError:
    async with transport(files, pin) as each:
        with pytest.raises(TransportError) as caught:
            await each.call(server.signer(pin), post())
    assert SECRET not in str(caught.value)
    assert SECRET.split()[1] not in repr(caught.value)
    assert len(str(caught.value)) < 300
    return caught.value


# --- the happy way ----------------------------------------------------------------------------------------------------


async def test_a_call_and_its_answer_whatever_the_status(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await request(reader)
        writer.write(reply(body[::-1], status="503 Service Unavailable"))

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        assert await each.call(server.signer(), post(b"abc")) == Answer(503, b"cba")
    head = bytes(server.received).partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("POST /v1/shares HTTP/1.1\r\n")
    names = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:]}
    assert names == {"host", "authorization", "content-type", "content-length"}


async def test_an_aiohttp_server_sees_our_certificate_and_one_connection(
    server_files: TlsFiles, client_files: TlsFiles
) -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.Response:
        peers.add(request.get_extra_info("peername"))
        certificate = request.get_extra_info("peercert")
        assert ("DNS", "coordinator.test") in certificate["subjectAltName"]
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_route("*", "/v1/shares", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(server_files))
    await site.start()
    try:
        signer = Server(runner.addresses[0][1]).signer()
        async with transport(client_files) as each:
            for index in range(20):
                body = b"%d" % index
                assert await each.call(signer, post(body)) == Answer(200, body)
            get = Call("GET", "/v1/shares", b"", {}, 10)
            assert await each.call(signer, get) == Answer(200, b"")
    finally:
        await runner.cleanup()
    assert len(peers) == 1


@pytest.mark.parametrize(
    "pin", ["signer-1.test", "SIGNER-1.test", "signer-1.test.", "127.0.0.1", "spiffe://frost.test/signer/1"]
)
async def test_each_kind_of_name_can_be_pinned(server_files: TlsFiles, client_files: TlsFiles, pin: str) -> None:
    async with raw_server(echo, server_context(server_files)) as server, transport(client_files, pin) as each:
        assert await each.call(server.signer(pin), post(b"abc")) == Answer(200, b"abc")


async def test_the_number_of_connections_is_bounded(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async with (
        raw_server(echo, server_context(server_files)) as server,
        transport(client_files, settings=Settings(connections_per_signer=2)) as each,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(each.call, server.signer(), post())
    assert 1 <= server.connections <= 2


# --- who the peer is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pin",
    [
        "signer-2.test",
        "ner-1.test",
        "a.signer-1.test",
        "127.0.0.2",
        "spiffe://frost.test/signer/2",
        "spiffe://frost.test/signer/1/",
        "spiffe://FROST.test/signer/1",
    ],
)
async def test_another_name_gets_no_byte_of_the_request(
    server_files: TlsFiles, client_files: TlsFiles, pin: str
) -> None:
    async with raw_server(echo, server_context(server_files)) as server:
        error = await refused(server, client_files, pin)
        await anyio.sleep(0.02)
    assert error.kind == "tls"
    assert "certificate was refused" in str(error)
    assert server.received == b""


async def test_a_wildcard_certificate_is_not_one_signer(authority: Authority, client_files: TlsFiles) -> None:
    files = authority.issue("wildcard", ["*.signers.test"])
    async with raw_server(echo, server_context(files)) as server:
        error = await refused(server, client_files, "one.signers.test")
    assert error.kind == "tls"
    assert "it is for DNS:*.signers.test, not for one.signers.test" in str(error)
    assert server.received == b""


@pytest.mark.parametrize(
    ("names", "pin"),
    [
        ([b"*.example.org", "\u212a.example.org".encode()], "k.example.org"),
        ([b"*.example.org", "\u212a.example.org".encode()], "K.example.org"),
        ([b"*.example.org", "\u017f.example.org".encode()], "\u017f.example.org".upper()),
        ([b"one.example.org."], "one.example.org"),
        ([b"one.example.org\0.evil.test"], "one.example.org"),
        ([b"*.example.org", b"one.example.org."], "one.example.org"),
    ],
)
async def test_names_that_only_look_alike(
    authority: Authority, client_files: TlsFiles, names: list[bytes], pin: str
) -> None:
    """The lower case of KELVIN SIGN is k; the wildcard passes OpenSSL, so the name is left to our own check."""
    encoded = b"".join(bytes([0x82, len(name)]) + name for name in names)
    san = x509.UnrecognizedExtension(SUBJECT_ALTERNATIVE_NAME, bytes([0x30, len(encoded)]) + encoded)
    files = _certificate(authority, authority.issue("look-alike", ["x.test"]), common_name="x.test", extension=san)
    async with raw_server(echo, server_context(files)) as server:
        error = await refused(server, client_files, pin)
    assert error.kind == "tls"
    assert server.received == b""


def underneath(files: TlsFiles, pin: str) -> ssl.SSLContext:
    """The context that OpenSSL works with."""
    context = TlsIdentity(files).context(pin)
    hostname = None if context.by_uri else pin
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=hostname).context


@pytest.mark.parametrize("pin", ["signer-1.test", "127.0.0.1", "spiffe://frost.test/signer/1"])
def test_openssl_checks_the_name_too(client_files: TlsFiles, pin: str) -> None:
    context = underneath(client_files, pin)
    assert context.check_hostname == ("://" not in pin)
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert not context.hostname_checks_common_name


async def test_two_uris_are_no_spiffe_identity(authority: Authority, client_files: TlsFiles) -> None:
    files = authority.issue("two-uris", ["spiffe://frost.test/a", "spiffe://frost.test/b"])
    async with raw_server(echo, server_context(files)) as server:
        error = await refused(server, client_files, "spiffe://frost.test/a")
    assert error.kind == "tls"
    assert server.received == b""


@pytest.mark.parametrize("pin", ["signer-1.test", "spiffe://frost.test/signer/1"])
async def test_the_common_name_counts_for_nothing(authority: Authority, client_files: TlsFiles, pin: str) -> None:
    plain = authority.issue("common-name", ["x.test"])
    files = _certificate(authority, plain, common_name=pin)
    async with raw_server(echo, server_context(files)) as server:
        error = await refused(server, client_files, pin)
    assert error.kind == "tls"
    assert server.received == b""


async def test_another_authority(tmp_path: Path, server_files: TlsFiles, client_files: TlsFiles) -> None:
    other = Authority(tmp_path, name="another authority").issue("signer-1", ["signer-1.test"])
    context = server_context(other)
    context.load_verify_locations(client_files.ca)
    async with raw_server(echo, context) as server:
        error = await refused(server, client_files)
    assert error.kind == "tls"
    assert "self-signed" in str(error)
    assert server.received == b""


async def test_the_system_roots_are_not_trusted(client_files: TlsFiles) -> None:
    assert len(underneath(client_files, "signer-1.test").get_ca_certs()) == 1


async def test_an_expired_certificate(authority: Authority, client_files: TlsFiles) -> None:
    files = authority.issue("expired", ["signer-1.test"], lifetime=dt.timedelta(minutes=-1))
    async with raw_server(echo, server_context(files)) as server:
        error = await refused(server, client_files)
    assert error.kind == "tls"
    assert "expired" in str(error)
    assert server.received == b""


async def test_a_server_that_stops_at_tls_1_2(server_files: TlsFiles, client_files: TlsFiles) -> None:
    with blocking_server(server_context(server_files, highest=ssl.TLSVersion.TLSv1_2)) as server:
        error = await refused(server, client_files)
    assert error.kind == "tls"
    assert "protocol version" in str(error)


async def test_a_server_without_tls(client_files: TlsFiles) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read(100)

    async with raw_server(talk, None) as server:
        error = await refused(server, client_files)
    assert error.kind == "tls"
    assert "TLS port" in str(error)
    assert b"POST" not in server.received


@pytest.fixture
def strangers_files(tmp_path: Path, authority: Authority) -> TlsFiles:
    """A client certificate of an authority that the servers do not know."""
    stranger = Authority(tmp_path, name="another authority").issue("coordinator", ["coordinator.test"])
    return TlsFiles(stranger.cert, stranger.key, authority.certificate)


async def test_our_certificate_is_refused_with_an_alert(server_files: TlsFiles, strangers_files: TlsFiles) -> None:
    for _ in range(5):  # the alert races with the request
        with blocking_server(server_context(server_files)) as server:
            error = await refused(server, strangers_files)
        assert error.kind == "tls"
        assert "refused our certificate or TLS (unknown ca)" in str(error)


async def test_an_alert_stays_with_its_connection(
    authority: Authority, server_files: TlsFiles, client_files: TlsFiles, strangers_files: TlsFiles
) -> None:
    """Calls to one signer share a context: what one connection was told is no reason for another to end."""
    asked, told = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        asked.set()
        await told.wait()

    lenient = server_context(server_files)
    lenient.verify_mode = ssl.CERT_NONE
    errors: dict[str, TransportError] = {}

    async def run(each: MtlsTransport, name: str, server: Server) -> None:
        with pytest.raises(TransportError) as caught:
            await each.call(server.signer(), post())
        errors[name] = caught.value

    async with (
        raw_server(talk, lenient) as quiet,
        transport(strangers_files) as each,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(run, each, "quiet", quiet)
        await asked.wait()
        for _ in range(3):
            with blocking_server(server_context(server_files)) as strict:
                await run(each, "strict", strict)
            assert errors["strict"].kind == "tls"
            assert "unknown ca" in str(errors["strict"])
        told.set()
    assert errors["quiet"].kind == "unreachable"
    assert "unknown ca" not in str(errors["quiet"])


async def test_our_certificate_is_refused_in_silence(server_files: TlsFiles, strangers_files: TlsFiles) -> None:
    async with raw_server(echo, server_context(server_files)) as server:
        error = await refused(server, strangers_files)
    assert error.kind in ("tls", "unreachable")
    assert "certificate" in str(error)
    assert server.connections == 0


# --- connections that fail --------------------------------------------------------------------------------------------


async def test_nobody_listens(client_files: TlsFiles) -> None:
    async with raw_server(echo, None) as server:
        pass
    error = await refused(server, client_files)
    assert error.kind == "unreachable"
    assert "refused" in str(error)


async def test_a_name_that_does_not_resolve(client_files: TlsFiles) -> None:
    async with transport(client_files) as each:
        with pytest.raises(TransportError) as caught:
            await each.call(Signer(1, "s", "https://no-such-host.invalid:1", "z", "signer-1.test"), post())
    assert caught.value.kind == "unreachable"
    assert "does not resolve" in str(caught.value)


@pytest.mark.parametrize("drain", [False, True], ids=["reset", "end"])
async def test_a_peer_that_ends_the_handshake(client_files: TlsFiles, *, drain: bool) -> None:
    """As servers on asyncio do that refuse our TLS version; a refused connection is another matter."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10 if not drain else 65536)
        if drain:
            writer.write_eof()
            await reader.read(65536)

    async with raw_server(talk, None) as server:
        error = await refused(server, client_files)
    assert error.kind == "tls"
    assert "closed the connection in the TLS handshake; does it speak TLS 1.3" in str(error)


async def test_an_asyncio_server_of_an_older_tls(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async with raw_server(echo, server_context(server_files, highest=ssl.TLSVersion.TLSv1_2)) as server:
        error = await refused(server, client_files)
    assert error.kind == "tls"
    assert "TLS 1.3" in str(error)
    assert server.received == b""


async def test_a_stalled_handshake(client_files: TlsFiles) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await anyio.sleep_forever()

    async with (
        raw_server(talk, None) as server,
        transport(client_files, settings=Settings(connect_seconds=0.05)) as each,
    ):
        with pytest.raises(TransportError) as caught:
            await each.call(server.signer(), post())
    assert caught.value.kind == "timeout"
    assert "connect_seconds" in str(caught.value)


async def test_a_stalled_answer_ends_with_the_deadline_and_its_connection(
    server_files: TlsFiles, client_files: TlsFiles
) -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        assert not await reader.read(1)
        closed.set()

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError), anyio.fail_after(0.1):
            await each.call(server.signer(), post())
        with anyio.fail_after(2):
            await closed.wait()
        connector = each._session.connector if each._session else None
        assert connector is not None
        assert not connector._acquired
        assert not connector._conns
        # only the server's task for the connection may be new
        assert len(asyncio.all_tasks() - before) <= 1


async def test_a_cancelled_call_frees_its_place(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await request(reader) == b"stall":
            await anyio.sleep_forever()
        writer.write(reply(b"ok"))

    async with (
        raw_server(talk, server_context(server_files)) as server,
        transport(client_files, settings=Settings(connections_per_signer=1)) as each,
    ):
        for _ in range(5):
            with anyio.move_on_after(0.05):
                await each.call(server.signer(), post(b"stall"))
        with anyio.fail_after(2):
            assert await each.call(server.signer(), post()) == Answer(200, b"ok")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"], ids=["nothing", "half a header"])
async def test_a_connection_dropped_before_the_answer(
    server_files: TlsFiles, client_files: TlsFiles, sent: bytes
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(sent)
        await writer.drain()
        writer.close()

    async with raw_server(talk, server_context(server_files)) as server:
        error = await refused(server, client_files)
    assert error.kind in ("unreachable", "malformed")
    assert server.connections == 1


async def test_a_connection_dropped_inside_the_answer(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(reply(b"x" * 100)[:-50])
        await writer.drain()
        writer.close()

    async with raw_server(talk, server_context(server_files)) as server:
        error = await refused(server, client_files)
    assert error.kind == "unreachable"
    assert "inside the answer" in str(error)


async def test_a_post_on_a_dead_kept_alive_connection_is_not_sent_again(
    server_files: TlsFiles, client_files: TlsFiles
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(await request(reader)))
        await request(reader)  # the second request on this connection gets no answer

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        assert await each.call(server.signer(), post(b"first")) == Answer(200, b"first")
        with pytest.raises(TransportError) as caught:
            await each.call(server.signer(), post(b"second"))
        assert caught.value.kind == "unreachable"
        assert server.connections == 1
        assert bytes(server.received).count(b"second") == 1
        assert await each.call(server.signer(), post(b"third")) == Answer(200, b"third")
    assert server.connections == 2


# --- answers that are wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (reply(b"x" * 1001)[:-1], "announces 1001 bytes"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 1001, "longer than the 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"100\r\n" + b"x" * 256 + b"\r\nzz", "not HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20000 + b"\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nx", "compressed"),
    ],
    ids=["announced", "without length", "broken chunk", "not http", "two lengths", "long header", "compressed"],
)
async def test_a_malformed_answer(server_files: TlsFiles, client_files: TlsFiles, answer: bytes, text: str) -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)
        try:
            await reader.read(1)
        finally:
            closed.set()

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        with anyio.fail_after(5), pytest.raises(TransportError) as caught:
            await each.call(server.signer(), post())
        assert caught.value.kind == "malformed"
        assert text in str(caught.value)
        with anyio.fail_after(2):
            await closed.wait()


async def test_the_cap_itself_is_accepted(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async with raw_server(echo, server_context(server_files)) as server, transport(client_files) as each:
        assert await each.call(server.signer(), post(b"x" * 1000, cap=1000)) == Answer(200, b"x" * 1000)


async def test_an_endless_answer_is_left_after_the_cap(server_files: TlsFiles, client_files: TlsFiles) -> None:
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        with anyio.fail_after(5), pytest.raises(TransportError) as caught:
            await each.call(server.signer(), post(cap=100_000))
    assert caught.value.kind == "malformed"
    assert sent < 16 * 1024 * 1024


async def test_a_redirect_is_an_answer_and_not_followed(server_files: TlsFiles, client_files: TlsFiles) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(reply(b"", status="307 Temporary Redirect", headers="Location: /elsewhere\r\nSet-Cookie: a=b\r\n"))
        await request(reader)
        writer.write(reply(b"second"))

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        assert await each.call(server.signer(), post()) == Answer(307, b"")
        assert b"elsewhere" not in server.received
        assert await each.call(server.signer(), post()) == Answer(200, b"second")
    assert b"ookie" not in server.received


async def test_a_cookie_is_never_sent_back(server_files: TlsFiles, client_files: TlsFiles) -> None:
    """By a host's name: from an IP address aiohttp takes none anyway."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request(reader)
            writer.write(reply(b"", headers="Set-Cookie: crumb=1; Path=/\r\n"))

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        signer = Signer(1, "s", f"https://localhost:{server.port}", "z", "signer-1.test")
        for _ in range(3):
            assert await each.call(signer, post()) == Answer(200, b"")
    assert bytes(server.received).count(b"POST ") == 3
    assert b"ookie" not in server.received
    assert b"crumb" not in server.received


async def test_the_connection_of_an_oversized_answer_is_not_used_again(
    server_files: TlsFiles, client_files: TlsFiles
) -> None:
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await request(reader)
        writer.write(reply(body)[:1000])
        if not await reader.read(1):
            closed.set()

    async with raw_server(talk, server_context(server_files)) as server, transport(client_files) as each:
        with pytest.raises(TransportError, match="announces 1001 bytes"):
            await each.call(server.signer(), post(b"x" * 1001, cap=1000))
        with anyio.fail_after(2):
            await closed.wait()
        assert await each.call(server.signer(), post(b"y")) == Answer(200, b"y")
        assert server.connections == 2


async def test_proxies_in_the_environment_are_ignored(
    server_files: TlsFiles, client_files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(echo, None) as proxy, raw_server(echo, server_context(server_files)) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with transport(client_files) as each:
            assert await each.call(server.signer(), post(b"abc")) == Answer(200, b"abc")
    assert proxy.connections == 0


async def test_use_outside_of_its_context(client_files: TlsFiles) -> None:
    each = MtlsTransport(PinnedContexts(TlsIdentity(client_files), ()), Settings())
    with pytest.raises(RuntimeError):
        await each.call(Server(1).signer(), post())


# --- the start --------------------------------------------------------------------------------------------------------


def plugin_context(files: TlsFiles, server_name: str = "signer-1.test", settings: object = None) -> PluginContext:
    return PluginContext(
        name="transport_mtls",
        role="coordinator",
        dev=False,
        tls=files,
        signers=(Server(1).signer(server_name),),
        settings=lambda kind: convert(settings or {}, kind, path="plugins.transport_mtls"),
        path=Path,
    )


def test_the_hook_builds(client_files: TlsFiles) -> None:
    assert isinstance(make_transport(plugin_context(client_files, settings={"connect_seconds": 2})), MtlsTransport)


@pytest.mark.parametrize("settings", [{"retries": 3}, {"connections_per_signer": 0}, {"connect_seconds": -1}])
def test_wrong_settings(client_files: TlsFiles, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"plugins\.transport_mtls"):
        make_transport(plugin_context(client_files, settings=settings))


@pytest.mark.parametrize("which", ["cert", "key", "ca"])
@pytest.mark.parametrize("state", ["missing", "garbage", "folder"])
def test_tls_files_that_cannot_be_used(tmp_path: Path, client_files: TlsFiles, which: str, state: str) -> None:
    broken = tmp_path / "broken.pem"
    if state == "garbage":
        broken.write_text("-----BEGIN NONSENSE-----\n")
    elif state == "folder":
        broken.mkdir()
    paths = {"cert": client_files.cert, "key": client_files.key, "ca": client_files.ca, which: broken}
    with pytest.raises(ConfigError, match=r"broken\.pem"):
        make_transport(plugin_context(TlsFiles(paths["cert"], paths["key"], paths["ca"])))


def test_a_key_of_another_certificate(server_files: TlsFiles, client_files: TlsFiles) -> None:
    files = TlsFiles(client_files.cert, server_files.key, client_files.ca)
    with pytest.raises(ConfigError, match="is not the key of the certificate"):
        make_transport(plugin_context(files))


def test_an_encrypted_key_asks_nobody(tmp_path: Path, client_files: TlsFiles) -> None:
    key = serialization.load_pem_private_key(client_files.key.read_bytes(), None)
    sealed = tmp_path / "sealed.key"
    sealed.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(ConfigError, match="encrypted"):
        make_transport(plugin_context(TlsFiles(client_files.cert, sealed, client_files.ca)))


@pytest.mark.parametrize("name", ["", "*.signers.test", "a b", "sígner.test", "x" * 64 + ".test", ".test"])
def test_names_that_cannot_be_pinned(client_files: TlsFiles, name: str) -> None:
    with pytest.raises(ConfigError, match="server_name"):
        make_transport(plugin_context(client_files, name))


SUBJECT_ALTERNATIVE_NAME = x509.ObjectIdentifier("2.5.29.17")


def _certificate(
    authority: Authority, plain: TlsFiles, *, common_name: str, extension: x509.ExtensionType | None = None
) -> TlsFiles:
    """A certificate of ``plain``'s key with a common name and, but for ``extension``, no alternative name."""
    key = serialization.load_pem_private_key(plain.key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(authority._name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(authority._key, hashes.SHA256())
    path = plain.cert.with_name("common-name-only.crt")
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return TlsFiles(path, plain.key, plain.ca)
