"""The asynchronous client against a real sidecar, and against what only a broken or hostile peer would send."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from frost_sidecar import errors
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.jose import jwk_set, thumbprint
from frost_sidecar.model import BatchItem, Signed
from frost_sidecar.service import SigningService
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.sidecar import CLIENT_NAME, MemorySidecar

MESSAGE = b"\xfb\xff\xfe header.payload!"
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.fixture
def sidecar(short_path: Path) -> MemorySidecar:
    return MemorySidecar(short_path)


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _answer(message: bytes = MESSAGE, **changes: Any) -> dict[str, Any]:
    """What a sidecar answers to ``message``."""
    good = {
        "signature_b64": _b64(KEY.sign(message)),
        "group_public_b64": _b64(PUBLIC),
        "participants": [1, 3],
        "key": "default",
        "request_id": "r-1",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def _http(status: int, body: object, content_type: str = "application/json", **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def _problem(status: int, slug: str, detail: str = "said so", **headers: str) -> bytes:
    body = {"type": f"urn:frost-sidecar:error:{slug}", "title": "Said", "status": status, "detail": detail}
    return _http(status, body, "application/problem+json", **headers)


GOOD = _http(200, _answer())


@dataclass
class Scripted:
    """A peer on a Unix socket that plays ``answers`` in their order, the last one for ever; b"" closes unanswered."""

    path: Path
    answers: list[bytes]
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """A client closed its connection."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Scripted]:
        server = await asyncio.start_unix_server(self._play, self.path)
        async with server:
            yield self

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"Content-Length: (\d+)", head)
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(int(length[1]) if length else 0))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer == b"never":
                    await reader.read()
                    break
                writer.write(answer)
                await writer.drain()
                if not answer or b"Content-Length" not in answer or b"Broken" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()

    def header(self, name: str) -> list[str]:
        """That header of each request."""
        found = [re.search(rf"^{name}: (.*)\r$", head, re.MULTILINE) for head in self.heads]
        return [each[1] if each else "" for each in found]


@asynccontextmanager
async def scripted(folder: Path, *answers: bytes, **options: Any) -> AsyncIterator[tuple[AsyncSidecarClient, Scripted]]:
    async with (
        Scripted(folder / "p", list(answers)).serving() as peer,
        AsyncSidecarClient(peer.path, **{"timeout": 5.0, **options}) as client,
    ):
        yield client, peer


async def test_every_method_against_a_real_sidecar(sidecar: MemorySidecar) -> None:
    async with sidecar.serving(), AsyncSidecarClient(sidecar.path) as client:
        service: SigningService = client
        for message in (MESSAGE, bytearray(MESSAGE), memoryview(MESSAGE)):
            signed = await service.sign(message, participants=[1, 2], key="default", request_id="mint-7")
            Ed25519PublicKey.from_public_bytes(sidecar.cluster.group_public).verify(signed.signature, MESSAGE)
            assert (signed.participants, signed.key, signed.request_id) == ((1, 2), "default", "mint-7")
        outcomes = await service.sign_batch([b"a", BatchItem(b"b", participants=(2, 3)), BatchItem(b"c", key="other")])
        assert [type(each) for each in outcomes] == [Signed, Signed, errors.UnknownKey]
        for outcome, message in zip(outcomes[:2], (b"a", b"b"), strict=True):
            assert isinstance(outcome, Signed)
            Ed25519PublicKey.from_public_bytes(outcome.group_public).verify(outcome.signature, message)
        assert await service.group_public() == await service.group_public("default") == sidecar.cluster.group_public
        assert await service.jwks() == jwk_set([sidecar.cluster.group_public])
        assert (await service.readiness()).ready
    assert {record.request_id for record in sidecar.cluster.records[:3]} == {"mint-7"}


async def test_not_ready_is_an_answer_and_no_error(sidecar: MemorySidecar) -> None:
    for identifier in (1, 2):
        sidecar.cluster.crash(identifier)
    async with sidecar.serving(), AsyncSidecarClient(sidecar.path) as client:
        readiness = await client.readiness()
    assert not readiness.ready
    assert not readiness.keys["default"].quorum
    assert readiness.keys["default"].usable == (3,)


@pytest.mark.parametrize("spelling", ["{}", "unix:{}", "unix://{}"])
async def test_every_spelling_of_a_socket(sidecar: MemorySidecar, spelling: str) -> None:
    async with sidecar.serving(), AsyncSidecarClient(spelling.format(sidecar.path)) as client:
        assert await client.group_public() == sidecar.cluster.group_public


async def test_what_a_request_carries(short_path: Path) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    async with scripted(short_path, GOOD) as (client, peer):
        await client.sign(MESSAGE, timeout=2, request_id="r-1", traceparent=trace, idempotency_key="order-1")
        await client.sign(MESSAGE)
        await client.sign(MESSAGE, timeout=3600)
    assert [head.split("\r\n")[0] for head in peer.heads] == ["POST /sign HTTP/1.1"] * 3
    assert peer.bodies == [json.dumps({"msg_b64": _b64(MESSAGE)}, separators=(",", ":")).encode()] * 3
    first, *others = peer.header("Idempotency-Key")
    assert first == "order-1"
    assert len({*others}) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in others)
    assert peer.header("traceparent") == [trace, "", ""]
    first, *others = peer.header("X-Request-ID")
    assert first == "r-1"
    assert len({*others}) == 2
    short, default, longer = (int(each) for each in peer.header("X-Request-Timeout-Ms"))
    assert 1500 < short < 2000
    assert 4500 < default < 5000
    assert 4500 < longer < 5000
    assert not any(name in head for head in peer.heads for name in ("Cookie", "Authorization", "Accept-Encoding"))


@pytest.mark.parametrize(
    "failure",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 Broken\r\nContent-Length: 999\r\n\r\n{",
        _problem(503, "no-quorum", Retry_After="0"),
        _problem(503, "shutting-down", Retry_After="0"),
        _problem(429, "too-many-requests", Retry_After="0"),
        _http(503, b"no healthy upstream", "text/plain", Retry_After="0"),
        _http(502, b"bad gateway", "text/html", Retry_After="0"),
        _http(429, b"slow down", "text/plain", Retry_After="0"),
    ],
)
async def test_what_may_pass_is_tried_again_as_the_same_request(short_path: Path, failure: bytes) -> None:
    async with scripted(short_path, failure, failure, GOOD) as (client, peer):
        signed = await client.sign(MESSAGE)
        assert signed.signature == KEY.sign(MESSAGE)
    for header in ("Idempotency-Key", "X-Request-ID"):
        assert len(peer.header(header)) == 3
        assert len({*peer.header(header)}) == 1
    left = [int(each) for each in peer.header("X-Request-Timeout-Ms")]
    assert left == sorted(left, reverse=True)
    assert len({*peer.bodies}) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_problem(400, "malformed-request"), errors.MalformedRequest),
        (_problem(401, "unauthenticated"), errors.Unauthenticated),
        (_problem(403, "denied"), errors.Denied),
        (_problem(409, "idempotency-conflict"), errors.IdempotencyConflict),
        (_problem(413, "too-large"), errors.TooLarge),
        (_problem(422, "participants"), errors.ParticipantsError),
        (_problem(422, "unknown-key"), errors.UnknownKey),
        (_problem(500, "internal"), errors.InternalError),
        (_problem(504, "deadline-exceeded"), errors.DeadlineExceeded),
        (_problem(404, "not-found"), errors.UnexpectedAnswer),
        (_problem(503, "invented"), errors.UnexpectedAnswer),
        (_http(500, b"oops", "text/plain"), errors.UnexpectedAnswer),
        (_http(504, b"upstream", "text/plain"), errors.UnexpectedAnswer),
        (_http(307, b"", "text/plain", Location="/elsewhere"), errors.UnexpectedAnswer),
    ],
)
async def test_what_does_not_pass_is_never_tried_again(
    short_path: Path, answer: bytes, kind: type[errors.FrostSidecarError]
) -> None:
    async with scripted(short_path, answer) as (client, peer):
        with pytest.raises(kind) as caught:
            await client.sign(MESSAGE)
    assert type(caught.value) is kind
    if b"said so" in answer and kind is not errors.UnexpectedAnswer:
        assert str(caught.value) == "said so"
    assert len(peer.heads) == 1


async def test_one_attempt_is_one_attempt(short_path: Path) -> None:
    async with scripted(short_path, _problem(503, "overloaded", Retry_After="7"), attempts=1) as (client, peer):
        with pytest.raises(errors.Overloaded) as caught:
            await client.sign(MESSAGE)
    assert caught.value.retry_after == 7
    assert peer.header("Idempotency-Key") == [""]


async def test_one_attempt_has_an_idempotency_key_only_where_one_is_given(short_path: Path) -> None:
    async with scripted(short_path, GOOD, attempts=1) as (client, peer):
        await client.sign(MESSAGE)
        await client.sign(MESSAGE, idempotency_key="order-1")
    assert peer.header("Idempotency-Key") == ["", "order-1"]


async def test_attempts_run_out_with_the_last_error(short_path: Path) -> None:
    async with scripted(short_path, b"", attempts=4) as (client, peer):
        with pytest.raises(errors.SidecarUnreachable, match="no answer from the sidecar"):
            await client.sign(MESSAGE)
    assert len(peer.heads) == 4


async def test_retry_after_is_waited_for(short_path: Path) -> None:
    async with scripted(short_path, _problem(503, "overloaded", Retry_After="1"), GOOD) as (client, _):
        started = anyio.current_time()
        await client.sign(MESSAGE)
        assert 1 <= anyio.current_time() - started < 3


async def test_a_wait_beyond_the_deadline_is_not_begun(short_path: Path) -> None:
    async with scripted(short_path, _problem(503, "overloaded", Retry_After="60")) as (client, peer):
        started = anyio.current_time()
        with pytest.raises(errors.Overloaded):
            await client.sign(MESSAGE)
        assert anyio.current_time() - started < 2
    assert len(peer.heads) == 1


async def test_a_peer_that_never_answers_costs_the_timeout_and_its_connection(short_path: Path) -> None:
    async with scripted(short_path, b"", b"never") as (client, peer):
        started = anyio.current_time()
        with pytest.raises(errors.DeadlineExceeded, match=r"within 0\.3 s; the attempt before: no answer from"):
            await client.sign(MESSAGE, timeout=0.3)
        assert anyio.current_time() - started < 2
        peer.gone.clear()
        with anyio.fail_after(5):
            await peer.gone.wait()


async def test_a_sidecar_that_starts_late_is_reached(sidecar: MemorySidecar) -> None:
    async with AsyncSidecarClient(sidecar.path, attempts=50, timeout=20) as client, anyio.create_task_group() as tasks:
        signed: list[Signed] = []

        async def early() -> None:
            signed.append(await client.sign(MESSAGE))

        tasks.start_soon(early)
        await anyio.wait_all_tasks_blocked()
        assert signed == []
        async with sidecar.serving():
            with anyio.fail_after(15):
                while not signed:
                    await anyio.sleep(0.01)
    assert len(signed) == 1


async def test_a_sidecar_that_was_restarted_is_reached_on_new_connections(short_path: Path) -> None:
    first = MemorySidecar(short_path)
    async with AsyncSidecarClient(first.path) as client:
        async with first.serving():
            await client.sign(MESSAGE)
        shutil.rmtree(short_path / "keys")
        second = MemorySidecar(short_path)
        async with second.serving():
            signed = await client.sign(MESSAGE)
    assert signed.group_public == second.cluster.group_public != first.cluster.group_public


STRANGE_ANSWERS = {
    "no JSON": _http(200, b"hello"),
    "a list": _http(200, [1]),
    "a member twice": _http(200, json.dumps(_answer()).encode()[:-1] + b', "key": "other"}'),
    "another type": _http(200, _answer(), "text/html"),
    "no signature": _http(200, _answer(signature_b64=None)),
    "a short signature": _http(200, _answer(signature_b64=_b64(bytes(63)))),
    "no base64": _http(200, _answer(signature_b64="~" * 88)),
    "a short key": _http(200, _answer(group_public_b64=_b64(PUBLIC[:31]))),
    "a wrong signature": _http(200, _answer(b"another message")),
    "a key that is no point": _http(200, _answer(group_public_b64=_b64(b"\xff" * 32))),
    "nobody took part": _http(200, _answer(participants=[])),
    "one took part twice": _http(200, _answer(participants=[1, 1])),
    "a stranger took part": _http(200, _answer(participants=[1, 4])),
    "another key": _http(200, _answer(key="other")),
    "a request id with a line break": _http(200, _answer(request_id="r\nr")),
    "compressed": _http(200, _answer(), Content_Encoding="gzip"),
    "another status in the problem": _problem(503, "denied").replace(b"HTTP/1.1 503", b"HTTP/1.1 403"),
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "too long": _http(200, json.dumps(_answer()).encode() + b" " * 1_100_000),
    "no problem in it": _http(403, [], "application/problem+json"),
}


@pytest.mark.parametrize("answer", STRANGE_ANSWERS.values(), ids=STRANGE_ANSWERS)
async def test_an_answer_outside_the_contract_never_becomes_a_signature(short_path: Path, answer: bytes) -> None:
    async with scripted(short_path, answer) as (client, peer):
        with pytest.raises(errors.UnexpectedAnswer):
            await client.sign(MESSAGE, key="default", participants=[1, 2, 3])
    assert len(peer.heads) == 1


@pytest.mark.parametrize(
    "items",
    [
        [_answer(b"a") | {"outcome": "signed"}],
        [_answer(b"a") | {"outcome": "signed"}] * 2,
        [_answer(b"a") | {"outcome": "signed"}, {"outcome": "signed"}],
        [_answer(b"a") | {"outcome": "signed"}, {"outcome": "failed"}],
        [_answer(b"a") | {"outcome": "signed"}, 7],
    ],
)
async def test_a_batch_outside_the_contract_is_refused_whole(short_path: Path, items: list[Any]) -> None:
    async with scripted(short_path, _http(200, items)) as (client, _):
        with pytest.raises(errors.UnexpectedAnswer):
            await client.sign_batch([b"a", b"b"])


async def test_a_replayed_answer_says_so(short_path: Path) -> None:
    async with scripted(short_path, _http(200, _answer(), Idempotency_Replayed="true"), GOOD) as (client, _):
        assert (await client.sign(MESSAGE, idempotency_key="k")).replayed
        assert not (await client.sign(MESSAGE, idempotency_key="k")).replayed


KEYS = {"default_key": "a", "keys": {"a": {"group_public_b64": _b64(PUBLIC), "kid": thumbprint(PUBLIC)}}}
KEYS["keys"]["a"] |= {"min_signers": 2, "max_signers": 3}  # type: ignore[index]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("group_public", {**KEYS, "default_key": "b"}),
        ("group_public", {"default_key": "a", "keys": {}}),
        ("group_public", json.loads(json.dumps(KEYS).replace(thumbprint(PUBLIC), "kid"))),
        ("group_public", json.loads(json.dumps(KEYS).replace(_b64(PUBLIC), _b64(PUBLIC[1:])))),
        ("jwks", {"keys": {}}),
        ("jwks", {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}),
        ("jwks", []),
        ("readiness", {"ready": True}),
        ("readiness", {"ready": False, "reasons": [], "keys": {}, "signers": [], "audit": {}, "certificates": {}}),
    ],
)
async def test_other_answers_are_read_as_strictly(short_path: Path, method: str, answer: object) -> None:
    async with scripted(short_path, _http(200, answer)) as (client, _):
        with pytest.raises(errors.UnexpectedAnswer):
            await getattr(client, method)()


async def test_group_public_reads_the_keys_by_name(short_path: Path) -> None:
    async with scripted(short_path, _http(200, KEYS)) as (client, _):
        assert await client.group_public() == await client.group_public("a") == PUBLIC
        with pytest.raises(errors.UnknownKey, match="'b'"):
            await client.group_public("b")


async def test_a_sidecar_that_ends_gives_no_readiness_but_an_error(short_path: Path) -> None:
    async with scripted(short_path, _problem(503, "shutting-down", Retry_After="0")) as (client, peer):
        with pytest.raises(errors.ShuttingDown):
            await client.readiness()
    assert len(peer.heads) == 3


async def test_nothing_a_peer_says_is_obeyed(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    moved = _http(302, b"", "text/plain", Location="http://sidecar/keys", Set_Cookie="a=b")
    cookie = _http(200, _answer(), Set_Cookie="a=b; Path=/")
    async with scripted(short_path, cookie, moved, GOOD) as (client, peer):
        await client.sign(MESSAGE)
        with pytest.raises(errors.UnexpectedAnswer, match="302"):
            await client.sign(MESSAGE)
        await client.sign(MESSAGE)
    assert len(peer.heads) == 3
    assert not any("Cookie" in head for head in peer.heads)


ARGUMENTS: list[tuple[object, dict[str, Any]]] = [
    ("text", {}),
    (None, {}),
    ([1], {}),
    (b"m", {"key": "not a name"}),
    (b"m", {"key": 7}),
    (b"m", {"participants": [0]}),
    (b"m", {"participants": "12"}),
    (b"m", {"participants": []}),
    (b"m", {"signer_urls": ["x" * 513]}),
    (b"m", {"timeout": 0}),
    (b"m", {"timeout": "1"}),
    (b"m", {"idempotency_key": "a b"}),
    (b"m", {"request_id": "a\r\nX-Evil: 1"}),
    (b"m", {"traceparent": "no"}),
    (bytes(64 * 1024 + 1), {}),
    (b"", {}),
]


@pytest.mark.parametrize(("message", "options"), ARGUMENTS)
async def test_arguments_fail_as_in_process(sidecar: MemorySidecar, message: Any, options: dict[str, Any]) -> None:
    raised: list[Exception] = []
    async with (
        sidecar.serving(),
        sidecar.cluster.coordinator() as coordinator,
        AsyncSidecarClient(sidecar.path) as client,
    ):
        for service in (coordinator, client):
            with pytest.raises(errors.RequestError) as caught:
                await service.sign(message, **options)
            raised.append(caught.value)
    assert type(raised[0]) is type(raised[1])
    assert sidecar.cluster.records == []


@pytest.mark.parametrize("items", ["ab", b"ab", [], [b"a", "b"], [b"a"] * 1025, {b"a": 1}, [BatchItem(b"a", key="?")]])
async def test_batches_fail_as_in_process(sidecar: MemorySidecar, items: Any) -> None:
    raised: list[Exception] = []
    async with (
        sidecar.serving(),
        sidecar.cluster.coordinator() as coordinator,
        AsyncSidecarClient(sidecar.path) as client,
    ):
        for service in (coordinator, client):
            with pytest.raises(errors.RequestError) as caught:
                await service.sign_batch(items)
            raised.append(caught.value)
    assert [type(raised[1]), str(raised[1])] == [type(raised[0]), str(raised[0])]
    assert sidecar.cluster.records == []


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("", {}, "path of a Unix socket"),
        ("http://127.0.0.1:1", {}, "https://HOST:PORT"),
        ("https://host:7100/sign", {}, "https://HOST:PORT"),
        ("https://user@host:7100", {}, "https://HOST:PORT"),
        ("https://host:7100", {}, "needs tls"),
        ("ftp://host", {}, "path of a Unix socket"),
        ("unix:", {}, "path of a Unix socket"),
        ("unix://host/path", {}, "path of a Unix socket"),
        ("/" + "x" * 107, {}, "too long"),
        ("/s", {"token": "t"}, "neither tls nor token"),
        ("/s", {"attempts": 0}, "attempts: 0"),
        ("/s", {"timeout": 0}, "timeout: 0"),
        ("/s", {"timeout": float("nan")}, "timeout: nan"),
        ("/s", {"connections": 0}, "connections: 0"),
    ],
)
async def test_what_cannot_work_is_said_at_once(target: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.ConfigError, match=said):
        AsyncSidecarClient(target, **options)


async def test_a_client_is_for_its_block_and_its_event_loop(sidecar: MemorySidecar) -> None:
    client = AsyncSidecarClient(sidecar.path)
    with pytest.raises(RuntimeError, match="async with AsyncSidecarClient"):
        await client.sign(MESSAGE)
    async with sidecar.serving(), client:
        with pytest.raises(RuntimeError, match="open already"):
            await client.__aenter__()
        with pytest.raises(RuntimeError, match="another event loop"):
            await anyio.to_thread.run_sync(lambda: asyncio.run(client.sign(MESSAGE)))
        await client.sign(MESSAGE)
    with pytest.raises(RuntimeError, match="async with AsyncSidecarClient"):
        await client.sign(MESSAGE)


async def test_many_calls_share_few_connections(sidecar: MemorySidecar) -> None:
    signed: list[Signed] = []
    async with sidecar.serving(), AsyncSidecarClient(sidecar.path, connections=4, timeout=30) as client:

        async def one(number: int) -> None:
            signed.append(await client.sign(b"%d" % number))

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(one, number)
    assert len({each.signature for each in signed}) == 100
    assert sidecar.cluster.reused == []


async def test_a_cancelled_call_ends_at_the_peer_too(short_path: Path) -> None:
    async with scripted(short_path, b"never") as (client, peer):
        with anyio.move_on_after(0.2) as scope:
            await client.sign(MESSAGE)
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            await peer.gone.wait()
    assert len(peer.heads) == 1


async def test_a_lost_answer_is_asked_for_again_and_logged_without_what_was_signed(
    short_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with scripted(short_path, b"", GOOD) as (client, peer):
        await client.sign(MESSAGE)
    assert "trying again" in caplog.text
    [key, _] = peer.header("Idempotency-Key")
    assert not any(secret in caplog.text for secret in (_b64(MESSAGE), key, repr(MESSAGE)))
    assert capfd.readouterr().out == ""


# TCP


@pytest.fixture
def remote(short_path: Path) -> MemorySidecar:
    return MemorySidecar(short_path, tcp=True)


async def test_over_tcp_with_certificate_and_token(remote: MemorySidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with (
        remote.serving(),
        AsyncSidecarClient(remote.url, tls=remote.client, token=remote.token("mint-a")) as client,
    ):
        signed = await client.sign(MESSAGE)
        assert await client.group_public() == signed.group_public == remote.cluster.group_public
        assert (await client.readiness()).ready
    assert remote.cluster.records[0].caller == f"tcp:DNS:{CLIENT_NAME} mint-a"


async def test_tokens_rotate_from_every_source(remote: MemorySidecar, short_path: Path) -> None:
    file = short_path / "token"
    subjects: list[str] = []

    def fresh() -> str:
        subjects.append(f"s{len(subjects)}")
        return remote.token(subjects[-1])

    async def later() -> str:
        await anyio.lowlevel.checkpoint()
        return fresh()

    sources: list[Path | Callable[[], str | Awaitable[str]]] = [file, fresh, later]
    async with remote.serving():
        for source in sources:
            async with AsyncSidecarClient(remote.url, tls=remote.client, token=source) as client:
                for _ in range(2):
                    file.write_text(fresh() + "\n" if source is file else "stale")
                    await client.sign(MESSAGE)
    callers = [record.caller.split()[1] for record in remote.cluster.records]
    assert callers == subjects == [f"s{index}" for index in range(6)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (lambda: 1 / 0, "failed: ZeroDivisionError"),
        (lambda: "to ken", "no token"),
        (lambda: "secret\r\nX-Evil: 1", "no token"),
        (lambda: None, "no token"),
        (Path("/nonexistent/token"), "failed: FileNotFoundError"),
        ("", "no token"),
    ],
)
async def test_a_source_without_a_token_is_a_clear_error(remote: MemorySidecar, source: Any, said: str) -> None:
    async with remote.serving(), AsyncSidecarClient(remote.url, tls=remote.client, token=source) as client:
        with pytest.raises(errors.Unauthenticated, match=said) as caught:
            await client.sign(MESSAGE)
    assert "secret" not in str(caught.value)


async def test_a_refused_token_is_not_tried_again(remote: MemorySidecar) -> None:
    asked: list[None] = []

    def token() -> str:
        asked.append(None)
        return "unknown"

    async with remote.serving(), AsyncSidecarClient(remote.url, tls=remote.client, token=token) as client:
        with pytest.raises(errors.Unauthenticated, match="no authenticator knows"):
            await client.sign(MESSAGE)
    assert len(asked) == 1


async def test_a_server_of_another_name_or_authority_gets_no_request(remote: MemorySidecar, short_path: Path) -> None:
    asked: list[None] = []
    stranger = Authority(short_path / "strangers").issue("client", [CLIENT_NAME])
    async with remote.serving():
        port = remote.url.rpartition(":")[2]

        def token() -> str:
            asked.append(None)
            return remote.token()

        async with AsyncSidecarClient(f"https://localhost:{port}", tls=remote.client, token=token) as client:
            with pytest.raises(errors.UnexpectedAnswer, match=r"certificate is not accepted.*localhost"):
                await client.sign(MESSAGE)
        async with AsyncSidecarClient(remote.url, tls=stranger, token=token) as client:
            with pytest.raises(errors.UnexpectedAnswer, match="certificate is not accepted"):
                await client.sign(MESSAGE)
    assert len(asked) == 2
    assert remote.cluster.records == []


async def test_a_certificate_that_the_sidecar_refuses_is_an_error_that_says_so(
    remote: MemorySidecar, short_path: Path
) -> None:
    other = Authority(short_path / "strangers").issue("client", [CLIENT_NAME])
    mixed = type(other)(cert=other.cert, key=other.key, ca=remote.client.ca)
    async with (
        remote.serving(),
        AsyncSidecarClient(remote.url, tls=mixed, token=remote.token, attempts=1) as client,
    ):
        with pytest.raises(errors.SidecarUnreachable, match="may not accept our certificate"):
            await client.sign(MESSAGE)
    assert remote.cluster.records == []


async def test_renewed_certificates_are_used_and_broken_ones_are_not(remote: MemorySidecar) -> None:
    async with remote.serving():
        files = remote.authority.issue("renewed", ["nobody.frost.test"])
        async with AsyncSidecarClient(remote.url, tls=files, token=remote.token) as client:
            with pytest.raises(errors.Denied, match="no name that may call"):
                await client.sign(MESSAGE)
            remote.authority.issue("renewed", [CLIENT_NAME])
            await client.sign(MESSAGE)
            files.cert.write_text("half writ")
            await client.sign(MESSAGE)
        with pytest.raises(errors.ConfigError, match=r"tls\.cert: cannot use"):
            async with AsyncSidecarClient(remote.url, tls=files, token=remote.token):
                raise AssertionError("opened")


async def test_nobody_at_the_port(remote: MemorySidecar) -> None:
    async with remote.serving():
        url = remote.url
    async with AsyncSidecarClient(url, tls=remote.client, token=remote.token) as client:
        with pytest.raises(errors.SidecarUnreachable, match=f"no answer from the sidecar at {url}"):
            await client.sign(MESSAGE)


async def test_a_slow_cluster_is_the_sidecars_own_deadline(sidecar: MemorySidecar) -> None:
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, behaviour.stalled)
    async with sidecar.serving(), AsyncSidecarClient(sidecar.path) as client:
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await client.sign(MESSAGE, timeout=0.5)
    assert "no answer from the sidecar" not in str(caught.value)
