"""The client against a peer, a token source or an owner that does its worst: errors stay typed, bounded and silent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from frost_sidecar import connection as connection_module
from frost_sidecar import errors
from frost_sidecar.blocking import SidecarClient
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.jose import thumbprint
from frost_sidecar.model import BatchItem, Signed, TlsFiles
from frost_sidecar.problem import LONGEST_DETAIL
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.sidecar import MemorySidecar

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
MESSAGE = b"header.payload"
LARGEST = 64 * 1024
SECRET = "s3cr3t-bearer-t0ken"

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _answer(message: bytes = MESSAGE, **changes: Any) -> dict[str, Any]:
    return {
        "signature_b64": _b64(KEY.sign(message)),
        "group_public_b64": _b64(PUBLIC),
        "participants": [1, 3],
        "key": "default",
        "request_id": "r-1",
        **changes,
    }


def _http(status: int, body: object, content_type: str = "application/json", *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


def _problem(status: int, slug: str, detail: str = "said so", *headers: str) -> bytes:
    body = {"type": f"urn:frost-sidecar:error:{slug}", "title": "Said", "status": status, "detail": detail}
    return _http(status, body, "application/problem+json", *headers)


class Peer:
    """Reads whole requests on the Unix socket ``path`` and answers each with the next of ``answers``, then the last."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.path = path
        self.answers = list(answers)
        self.heads: list[str] = []
        self.bodies: list[Any] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.connections = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        async with await asyncio.start_unix_server(self._play, self.path):
            yield self

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = self._header(head, "Content-Length")
                self.bodies.append(json.loads(await reader.readexactly(int(length)) if length else b"null"))
                self.heads.append(head)
                self.asked.set()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()

    @staticmethod
    def _header(head: str, name: str) -> str:
        return next((line.partition(": ")[2] for line in head.split("\r\n") if line.startswith(f"{name}: ")), "")

    def header(self, name: str) -> list[str]:
        """That header of each request."""
        return [self._header(head, name) for head in self.heads]


@asynccontextmanager
async def peer(folder: Path, *answers: bytes, **options: Any) -> AsyncIterator[tuple[AsyncSidecarClient, Peer]]:
    async with (
        Peer(folder / "p", *answers).serving() as serving,
        AsyncSidecarClient(serving.path, **{"timeout": 5.0, **options}) as client,
    ):
        yield client, serving


@pytest.fixture
def sidecar(short_path: Path) -> MemorySidecar:
    return MemorySidecar(short_path)


@pytest.fixture
def remote(short_path: Path) -> MemorySidecar:
    return MemorySidecar(short_path, tcp=True)


# Closing


async def _closed_under(client: AsyncSidecarClient, ready: asyncio.Event, calls: int = 1) -> list[BaseException]:
    """What calls under way get when the client is closed."""

    async def call() -> BaseException:
        with pytest.raises(BaseException) as caught:
            await client.sign(MESSAGE)
        return caught.value

    await client.__aenter__()
    tasks = [asyncio.create_task(call()) for _ in range(calls)]
    with anyio.fail_after(5):
        await ready.wait()
        await anyio.wait_all_tasks_blocked()
        await client.__aexit__(None, None, None)
        return await asyncio.gather(*tasks)


async def test_closing_ends_calls_that_run_or_wait_for_a_connection(short_path: Path) -> None:
    async with Peer(short_path / "p", b"").serving() as silent:
        client = AsyncSidecarClient(silent.path, timeout=60, connections=1)
        raised = await _closed_under(client, silent.asked, calls=3)
    assert [(type(each), str(each)) for each in raised] == [(errors.ShuttingDown, "the client was closed")] * 3


async def test_closing_ends_the_pause_before_a_further_attempt(short_path: Path) -> None:
    answered = asyncio.Event()
    async with Peer(short_path / "p", _problem(503, "overloaded", "no", "Retry-After: 50")).serving() as busy:
        client = AsyncSidecarClient(busy.path, timeout=60)
        task = asyncio.create_task(_closed_under(client, answered))
        with anyio.fail_after(5):
            await busy.asked.wait()
            await anyio.sleep(0.2)
            answered.set()
            [raised] = await task
    assert (type(raised), str(raised)) == (errors.ShuttingDown, "the client was closed")
    assert len(busy.heads) == 1


async def test_closing_while_the_token_is_fetched(remote: MemorySidecar) -> None:
    fetching, fetched = asyncio.Event(), asyncio.Event()

    async def token() -> str:
        fetching.set()
        await fetched.wait()
        return remote.token()

    async with remote.serving():
        client = AsyncSidecarClient(remote.url, tls=remote.client, token=token, timeout=20)
        await client.__aenter__()
        task = asyncio.create_task(client.sign(MESSAGE))
        with anyio.fail_after(5):
            await fetching.wait()
            await client.__aexit__(None, None, None)
            fetched.set()
            with pytest.raises(errors.ShuttingDown, match="the client was closed"):
                await task
    assert remote.cluster.records == []


async def test_a_cancellation_from_outside_stays_one(short_path: Path) -> None:
    async with peer(short_path, b"", timeout=60) as (client, silent):
        task = asyncio.create_task(client.sign(MESSAGE))
        await silent.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# What a peer says


@pytest.mark.parametrize("status", [503, 403, 404])
async def test_what_a_peer_says_is_bounded_and_printable(short_path: Path, status: int) -> None:
    slug = {503: "overloaded", 403: "denied", 404: "x" * 5000 + "\n"}[status]
    said = "one\r\ntwo \x1b[31m \u202e \0" + "y" * 10000
    async with peer(short_path, _problem(status, slug, said), attempts=1) as (client, _):
        with pytest.raises(errors.FrostSidecarError) as caught:
            await client.sign(MESSAGE)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) == LONGEST_DETAIL + 1
    if status != 404:
        assert str(caught.value).startswith("one\ufffd\ufffdtwo \ufffd[31m \ufffd \ufffd" + "y" * 100)


async def test_an_items_error_is_bounded_and_printable(short_path: Path) -> None:
    item = json.loads(_problem(403, "denied", "a\n" * 9999).partition(b"\r\n\r\n")[2])
    async with peer(short_path, _http(200, [item])) as (client, _):
        [outcome] = await client.sign_batch([MESSAGE])
    assert isinstance(outcome, errors.Denied)
    assert str(outcome).isprintable()
    assert len(str(outcome)) == LONGEST_DETAIL + 1


@pytest.mark.parametrize(
    "answer",
    [
        _http(200, {"\n" * 50 + "z" * 9999: 1, "participants": "1"}),
        _http(200, _answer(), "text/" + "h" * 5000),
        _http(200, {**_answer(), "participants": [1, "\n" * 9999]}),
        _http(200, b"{" + b'"a\\nb":1,"' + b"q" * 9999 + b'":1,"' + b"q" * 9999 + b'":1}'),
        _http(500, b"", "text/" + "h" * 5000),
    ],
)
async def test_an_answer_that_is_none_is_shown_in_part(short_path: Path, answer: bytes) -> None:
    async with peer(short_path, answer) as (client, _):
        with pytest.raises(errors.UnexpectedAnswer) as caught:
            await client.sign(MESSAGE)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


async def test_the_error_text_of_a_strange_member_is_bounded(short_path: Path) -> None:
    keys = {"default_key": "a", "keys": {"q" * 9999: {"group_public_b64": 7}}}
    one = {"group_public_b64": _b64(PUBLIC), "kid": thumbprint(PUBLIC), "min_signers": 2, "max_signers": 3}
    many = {"default_key": "a", "keys": {**{f"k\n{number}": one for number in range(2000)}, "a": one}}
    async with peer(short_path, _http(200, keys), _http(200, many)) as (client, _):
        with pytest.raises(errors.UnexpectedAnswer) as caught:
            await client.group_public()
        assert len(str(caught.value)) < 400
        with pytest.raises(errors.UnknownKey) as unknown:
            await client.group_public("b")
    assert len(str(unknown.value)) == LONGEST_DETAIL + 1
    assert str(unknown.value).isprintable()


@pytest.mark.parametrize(
    "changes",
    [
        {"participants": [0, 1]},
        {"participants": [-1]},
        {"participants": [1, 65536]},
        {"participants": [3, 1]},
        {"key": "not a name"},
        {"key": "k" * 65},
    ],
)
async def test_an_answer_of_the_wrong_form(short_path: Path, changes: dict[str, Any]) -> None:
    item = {"outcome": "signed", **_answer(**changes)}
    async with peer(short_path, _http(200, _answer(**changes)), _http(200, [item])) as (client, _):
        with pytest.raises(errors.UnexpectedAnswer, match="not of"):
            await client.sign(MESSAGE)
        with pytest.raises(errors.UnexpectedAnswer, match="not of"):
            await client.sign_batch([MESSAGE])


@pytest.mark.parametrize(
    ("status", "slug"), [(503, "denied"), (403, "overloaded"), (200, "denied"), (500, "too-large")]
)
async def test_a_problem_whose_status_is_another_types(short_path: Path, status: int, slug: str) -> None:
    problem = _problem(status, slug)
    item = json.loads(problem.partition(b"\r\n\r\n")[2])
    async with peer(short_path, problem, _http(200, [item])) as (client, asked):
        with pytest.raises(errors.UnexpectedAnswer):
            await client.sign(MESSAGE)
        assert len(asked.heads) == 1
        [outcome] = await client.sign_batch([MESSAGE])
    assert type(outcome) is errors.UnexpectedAnswer
    assert str(outcome) == f"a problem of type {slug} came with status {status}"


@pytest.mark.parametrize("value", ["9" * 400, "9" * 7, "\u0661", "-1", "1.5", "soon"])
async def test_a_retry_after_that_is_none_counts_as_absent(short_path: Path, value: str) -> None:
    async with peer(short_path, _problem(503, "overloaded", "no", f"Retry-After: {value}"), attempts=1) as (client, _):
        with pytest.raises(errors.Overloaded) as caught:
            await client.sign(MESSAGE)
    assert caught.value.retry_after == 1.0


async def test_the_rest_of_an_answer_that_is_too_long_is_no_answer(short_path: Path) -> None:
    """Whatever follows on that connection was written by the peer for a request that nobody has sent yet."""
    whole = _http(200, json.dumps(_answer()).encode() + b" " * 1_500_000)
    async with peer(short_path, whole, _http(200, _answer())) as (client, asked):
        with pytest.raises(errors.UnexpectedAnswer, match="longer than"):
            await client.sign(MESSAGE)
        await client.sign(MESSAGE)
        assert asked.connections == 2
        with anyio.fail_after(5):
            await asked.gone.wait()


async def test_an_answer_that_is_too_long_is_refused_before_the_request_is_all_sent(short_path: Path) -> None:
    """A peer that answers at once and never reads on: its answer decides, not the request's own end."""
    judged, ended = asyncio.Event(), asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_http(200, b" " * 3_000_000))
        await judged.wait()
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    async with (
        await asyncio.start_unix_server(play, short_path / "p"),
        AsyncSidecarClient(short_path / "p", timeout=30) as client,
    ):
        with anyio.fail_after(10):
            with pytest.raises(errors.UnexpectedAnswer, match="longer than"):
                await client.sign_batch([bytes(LARGEST)] * 128)
            judged.set()
            await ended.wait()


# Arguments


SAME: list[Callable[[Any], Awaitable[object]]] = [
    lambda service: service.sign(MESSAGE, signer_urls=["https://\ud800"]),
    lambda service: service.sign(MESSAGE, key="\ud800"),
    lambda service: service.sign_batch([BatchItem(MESSAGE, signer_urls=("https://\udfff",))]),
    lambda service: service.group_public(""),
    lambda service: service.group_public(5),
    lambda service: service.group_public("\ud800"),
    lambda service: service.group_public("other"),
]


@pytest.mark.parametrize("act", SAME)
async def test_the_same_error_in_process_and_over_the_socket(
    sidecar: MemorySidecar, act: Callable[[Any], Awaitable[object]]
) -> None:
    raised: list[tuple[type, str]] = []
    async with (
        sidecar.serving(),
        sidecar.cluster.coordinator() as coordinator,
        AsyncSidecarClient(sidecar.path) as client,
    ):
        for service in (coordinator, client):
            with pytest.raises(errors.RequestError) as caught:
                await act(service)
            raised.append((type(caught.value), str(caught.value)))
    assert raised[0] == raised[1]
    assert sidecar.cluster.records == []


@pytest.mark.parametrize("sizes", [[1, LARGEST + 1, 2], [LARGEST + 1], [LARGEST + 1, 3]])
async def test_an_item_that_is_too_large_fails_alone(short_path: Path, sizes: list[int]) -> None:
    sidecar = MemorySidecar(short_path, signing={"max_message_bytes": LARGEST})
    seen: list[list[object]] = []
    async with (
        sidecar.serving(),
        sidecar.cluster.coordinator() as coordinator,
        AsyncSidecarClient(sidecar.path, timeout=20) as client,
    ):
        for service in (coordinator, client):
            outcomes = await service.sign_batch([bytes([65]) * size for size in sizes])
            seen.append([str(each) if isinstance(each, errors.TooLarge) else type(each) for each in outcomes])
    assert seen[0] == seen[1]
    too_large = f"the message has {LARGEST + 1} bytes, {LARGEST} are allowed"
    assert seen[0] == [too_large if size > LARGEST else Signed for size in sizes]


async def test_what_is_too_large_is_not_sent(short_path: Path) -> None:
    item = {"outcome": "signed", **_answer()}
    async with peer(short_path, _http(200, [item])) as (client, asked):
        outcomes = await client.sign_batch([bytes(LARGEST + 1), MESSAGE])
        with pytest.raises(errors.TooLarge):
            await client.sign(bytes(LARGEST + 1))
    assert [type(each) for each in outcomes] == [errors.TooLarge, Signed]
    assert asked.bodies == [[{"msg_b64": _b64(MESSAGE)}]]


async def test_the_answer_to_a_batch_may_be_as_long_as_its_items_allow(short_path: Path) -> None:
    item = {"outcome": "signed", **_answer()}
    body = json.dumps([item] * 100).encode() + b" " * (1024 * 1024)
    async with peer(short_path, _http(200, body)) as (client, _):
        assert len(await client.sign_batch([MESSAGE] * 100)) == 100


async def test_how_long_a_made_key_is_kept_is_rounded_up(short_path: Path) -> None:
    async with peer(short_path, _http(200, _answer())) as (client, asked):
        await client.sign(MESSAGE, timeout=2.5)
        await client.sign(MESSAGE, timeout=60)
        await client.sign(MESSAGE, idempotency_key="k")
    assert asked.header("Idempotency-Replay-Seconds") == ["3", "5", ""]


async def test_a_timeout_beyond_what_the_header_holds(short_path: Path) -> None:
    async with peer(short_path, _http(200, _answer()), timeout=86400) as (client, asked):
        await client.sign(MESSAGE)
    assert asked.header("X-Request-Timeout-Ms") == ["9999999"]


async def test_the_bounds_between_attempts_double_up_to_two_seconds(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[tuple[float, float]] = []

    def lowest(low: float, high: float) -> float:
        bounds.append((low, high))
        return low

    monkeypatch.setattr(random, "uniform", lowest)
    async with AsyncSidecarClient(short_path / "nobody", attempts=1200, timeout=60) as client:
        with pytest.raises(errors.SidecarUnreachable):
            await client.group_public()
    assert bounds[:8] == [(0, 0.05), (0, 0.1), (0, 0.2), (0, 0.4), (0, 0.8), (0, 1.6), (0, 2.0), (0, 2.0)]
    assert {*bounds[6:]} == {(0, 2.0)}
    assert len(bounds) == 1200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "5"}, "timeout: must be a number, not str"),
        ({"timeout": True}, "timeout: must be a number, not bool"),
        ({"timeout": None}, "timeout: must be a number, not NoneType"),
        ({"timeout": 86401}, "timeout: 86401 is out of range"),
        ({"attempts": 1.5}, "attempts: must be a number, not float"),
        ({"connections": "x"}, "connections: must be a number, not str"),
        ({"target": 5}, "target: use a text or a Path, not int"),
        ({"target": b"/s"}, "target: use a text or a Path, not bytes"),
        ({"target": "HTTP://host:1"}, "https://HOST:PORT"),
        ({"target": "FTP://host"}, "path of a Unix socket"),
        ({"target": "HTTPS://host:1"}, "needs tls"),
        ({"target": "https://host:1", "tls": object(), "token": 5}, "token: a token is a text"),
    ],
)
def test_arguments_of_the_wrong_type_are_said_at_once(options: dict[str, Any], said: str) -> None:
    options = {"target": "/s", **options}
    for kind in (AsyncSidecarClient, SidecarClient):
        with pytest.raises(errors.ConfigError, match=said):
            kind(**options)


async def test_a_scheme_is_read_in_any_case(remote: MemorySidecar) -> None:
    async with remote.serving():
        url = remote.url.replace("https", "HTTPS")
        async with AsyncSidecarClient(url, tls=remote.client, token=remote.token) as client:
            assert await client.group_public() == remote.cluster.group_public


# Connections


async def test_a_full_queue_of_connections_is_said(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waiting:
        full.bind(os.fspath(short_path / "s"))
        full.listen(0)
        waiting.connect(os.fspath(short_path / "s"))
        async with AsyncSidecarClient(short_path / "s", timeout=5, attempts=2) as client:
            for act in (client.group_public, lambda: client.sign(MESSAGE)):
                with pytest.raises(errors.SidecarUnreachable, match="does not accept connections now"):
                    await act()


async def test_a_connection_that_does_not_come_about_leaves_time_for_another(
    remote: MemorySidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_CONNECT_SECONDS", 0.2)
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())
        url = f"https://127.0.0.1:{full.getsockname()[1]}"
        async with AsyncSidecarClient(url, tls=remote.client, token="t", timeout=30, attempts=2) as client:
            with anyio.fail_after(10):
                with pytest.raises(errors.SidecarUnreachable, match="no answer from the sidecar"):
                    await client.sign(MESSAGE)


@asynccontextmanager
async def _tls_server(context: ssl.SSLContext, host: str = "127.0.0.1") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that hangs up on every request; what it read of them is in the list."""
    read: list[bytes] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://{host}:{server.sockets[0].getsockname()[1]}", read


async def test_a_server_without_tls_1_3_gets_no_request(remote: MemorySidecar) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(remote.listener.cert, remote.listener.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with (
        _tls_server(context) as (url, read),
        AsyncSidecarClient(url, tls=remote.client, token=SECRET, attempts=1) as client,
    ):
        with pytest.raises(errors.SidecarUnreachable, match=r"it needs TLS 1\.3") as caught:
            await client.sign(MESSAGE)
    assert read == []
    assert caught.value.__context__ is None


def _named_in_common_name_alone(authority: Authority, name: str) -> TlsFiles:
    """A certificate of ``authority`` that says ``name`` as its common name and has no subject alternative name."""
    files = authority.issue(name, ["other.test"])
    whole = x509.load_pem_x509_certificate(files.cert.read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(whole.subject)
        .issuer_name(whole.issuer)
        .public_key(whole.public_key())
        .serial_number(whole.serial_number)
        .not_valid_before(whole.not_valid_before_utc)
        .not_valid_after(whole.not_valid_after_utc)
    )
    for extension in whole.extensions:
        if extension.oid != x509.SubjectAlternativeName.oid:
            builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(authority._key, hashes.SHA256())
    files.cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return files


async def test_a_name_in_the_common_name_alone_is_no_name(remote: MemorySidecar) -> None:
    named = _named_in_common_name_alone(remote.authority, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(named.cert, named.key)
    async with (
        _tls_server(context, "localhost") as (url, read),
        AsyncSidecarClient(url, tls=remote.client, token=SECRET, attempts=1) as client,
    ):
        with pytest.raises(errors.UnexpectedAnswer, match="certificate is not accepted"):
            await client.sign(MESSAGE)
    assert read == []


async def test_an_encrypted_key_is_an_error_and_no_question(
    remote: MemorySidecar, capfd: pytest.CaptureFixture[str]
) -> None:
    key = serialization.load_pem_private_key(remote.client.key.read_bytes(), None)
    remote.client.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass phrase"),
        )
    )
    with pytest.raises(errors.ConfigError, match=r"tls\.cert: cannot use"):
        async with AsyncSidecarClient("https://127.0.0.1:1", tls=remote.client, token="t"):
            raise AssertionError("opened")
    assert capfd.readouterr() == ("", "")


# Tokens


def _everything(error: BaseException) -> str:
    """All that a crash reporter could collect: the chain of errors and every frame's variables of ours."""
    said = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in said.stack if f"{os.sep}frost_sidecar{os.sep}" in frame.filename]
    return "".join([str(error), repr(error), *(repr(frame.locals) for frame in frames)])


def _raises() -> str:
    raise ValueError(f"cannot parse {SECRET}")


async def _raises_later() -> str:
    await anyio.lowlevel.checkpoint()
    raise KeyError(SECRET)


async def _cancels_itself() -> str:
    raise asyncio.CancelledError(SECRET)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (_raises, "failed: ValueError"),
        (_raises_later, "failed: KeyError"),
        (_cancels_itself, "failed: it cancelled itself"),
        (lambda: f"{SECRET}\n", "gave no token"),
    ],
)
async def test_a_source_that_fails_gives_its_class_away_and_no_more(
    remote: MemorySidecar, source: Callable[[], str], said: str
) -> None:
    async with remote.serving(), AsyncSidecarClient(remote.url, tls=remote.client, token=source) as client:
        with pytest.raises(errors.Unauthenticated, match=said) as caught:
            await client.sign(MESSAGE)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert SECRET not in _everything(caught.value)


async def test_a_token_is_in_no_error_of_the_connection(remote: MemorySidecar) -> None:
    async with remote.serving():
        url = remote.url
    async with AsyncSidecarClient(url, tls=remote.client, token=SECRET, attempts=1) as client:
        with pytest.raises(errors.SidecarUnreachable) as caught:
            await client.sign(MESSAGE)
    assert caught.value.__context__ is None
    assert SECRET not in _everything(caught.value)


def test_a_token_is_in_no_representation(remote: MemorySidecar) -> None:
    blocking = SidecarClient("https://127.0.0.1:1", tls=remote.client, token=SECRET)
    client = AsyncSidecarClient("https://127.0.0.1:1", tls=remote.client, token=SECRET)
    for each in (blocking, client, blocking._opener, client._connection):
        assert SECRET not in repr(each)
        assert SECRET not in repr(getattr(each, "__dict__", {}))


async def test_a_token_file_that_is_none_is_an_error_and_no_wait(remote: MemorySidecar, short_path: Path) -> None:
    pipe, large, folder = short_path / "pipe", short_path / "large", short_path / "folder"
    os.mkfifo(pipe)
    large.write_text("a" * (64 * 1024 + 1))
    folder.mkdir()
    async with remote.serving():
        for file, said in ((pipe, "OSError"), (large, "ValueError"), (folder, "Error"), (Path("/dev/zero"), "OSError")):
            async with AsyncSidecarClient(remote.url, tls=remote.client, token=file, timeout=10) as client:
                with anyio.fail_after(5):
                    with pytest.raises(errors.Unauthenticated, match=f"failed: .*{said}") as caught:
                        await client.sign(MESSAGE)
                assert caught.value.__context__ is None


async def test_a_token_file_that_hangs_costs_the_calls_timeout_and_no_event_loop(
    remote: MemorySidecar, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system that is away: reading blocks its thread, which no signal wakes."""
    import threading

    release = threading.Event()
    monkeypatch.setattr(connection_module, "_read_token", lambda _: release.wait(20))
    try:
        async with AsyncSidecarClient(
            "https://127.0.0.1:1", tls=remote.client, token=short_path / "token", timeout=0.3
        ) as client:
            with anyio.fail_after(5):
                with pytest.raises(errors.DeadlineExceeded):
                    await client.sign(MESSAGE)
    finally:
        release.set()
