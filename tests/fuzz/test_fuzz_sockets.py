"""Real sockets: requests to a sidecar, answers to a client, and a signer that damages what it answers."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Any, Final, Self

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import Answer, Call, Signed
from frost_sidecar.testing.behaviour import Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target, settle
from tests.fuzz.mutation import damage_json, damage_text
from tests.fuzz.test_fuzz_answers import ITEM, MESSAGE, sign_answer
from tests.fuzz.test_fuzz_bodies import batch_seeds, sign_seeds

NAMES: Final = (
    "sidecar, POST /sign",
    "sidecar, POST /sign/batch",
    "sidecar, whole requests",
    "client, whole answers",
    "coordinator, hostile signer",
)
_SECONDS: Final = 20.0
"""Longest wait for the other side of a socket: far more than it takes, so that a busy machine is no finding."""
_PATIENCE: Final = 0.02
"""How long a request that may be incomplete is left without its end. A whole one is answered in a tenth of that."""
_ANSWERS: Final = {200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 422, 429, 431, 501, 505}
"""What a sidecar that works may answer to anything. 500 is a defect, and 503 would be no bytes' fault."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("sidecar", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


class _Sidecar:
    """A real sidecar over the in-memory cluster, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._sidecar = MemorySidecar(folder, server={"max_body_bytes": 64 * 1024})
        self._ready = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=lambda: anyio.run(self._serve), name="sidecar")
        self._connection = _UnixConnection(self._sidecar.path)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._stop()
        self._thread.join(_SECONDS)
        assert self._sidecar.cluster.reused == []

    async def _serve(self) -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        async with self._sidecar.serving():
            self._stop = lambda: loop.call_soon_threadsafe(end.set)
            self._ready.set()
            await end.wait()

    @property
    def public(self) -> bytes:
        """The group's key."""
        return self._sidecar.cluster.group_public

    def post(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """One request on a connection that is kept; on a new one, where the sidecar has ended it as idle."""
        try:
            return self._post(path, body)
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            return self._post(path, body)

    def _post(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        try:
            self._connection.request("POST", path, body, {"X-Frost-Sidecar": "1"})
            response = self._connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        except BaseException:
            self._connection.close()  # the next request begins anew
            raise

    def send(self, request: bytes) -> bytes:
        """Any bytes on a connection of their own; gives all that comes back."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_SECONDS)
            sock.connect(str(self._sidecar.path))
            try:
                sock.sendall(request)
                return self._answers(sock)
            except (BrokenPipeError, ConnectionResetError):
                return b""

    @staticmethod
    def _answers(sock: socket.socket) -> bytes:
        """What comes while the sidecar may believe in more to come, and what comes once it knows that there is none."""
        answer = b""
        sock.settimeout(_PATIENCE)
        try:
            while piece := sock.recv(65536):
                answer += piece
        except TimeoutError:
            sock.settimeout(_SECONDS)
            sock.shutdown(socket.SHUT_WR)
        else:
            return answer
        return answer + b"".join(iter(lambda: sock.recv(65536), b""))


def _check_answer(status: int, headers: Mapping[str, str], body: bytes) -> None:
    assert status in _ANSWERS, (status, body)
    if status != HTTPStatus.OK:
        problem = json.loads(body)
        assert headers["content-type"].startswith("application/problem+json")
        assert problem["status"] == status
        assert problem["detail"]
        assert problem["type"].startswith("urn:frost-sidecar:error:")


def _sign_target(sidecar: _Sidecar) -> Target:
    def read(data: bytes, reply: tuple[int, Mapping[str, str], bytes]) -> None:
        _check_answer(*reply)
        if reply[0] == HTTPStatus.OK:
            _verify(sidecar.public, json.loads(data), json.loads(reply[2]))

    return Target(NAMES[0], sign_seeds, lambda data: sidecar.post("/sign", data), (), read, took=_is_good)


def _batch_target(sidecar: _Sidecar) -> Target:
    def read(data: bytes, reply: tuple[int, Mapping[str, str], bytes]) -> None:
        _check_answer(*reply)
        if reply[0] == HTTPStatus.OK:
            asked, answered = json.loads(data), json.loads(reply[2])
            assert len(asked) == len(answered)
            for each, answer in zip(asked, answered, strict=True):
                if answer["outcome"] == "signed":
                    _verify(sidecar.public, each, answer)
                else:
                    assert answer["status"] in _ANSWERS - {200}

    return Target(NAMES[1], batch_seeds, lambda data: sidecar.post("/sign/batch", data), (), read, took=_is_good)


def _verify(public: bytes, asked: dict[str, Any], answer: dict[str, Any]) -> None:
    text = asked["msg_b64"].replace("-", "+").replace("_", "/").rstrip("=")
    message = base64.b64decode(text + "=" * (-len(text) % 4))
    assert base64.b64decode(answer["group_public_b64"]) == public
    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(answer["signature_b64"]), message)
    assert set(answer["participants"]) <= set(asked.get("participants") or answer["participants"])


def _is_good(reply: tuple[int, Mapping[str, str], bytes]) -> bool:
    return reply[0] == HTTPStatus.OK


def _request_seeds() -> list[bytes]:
    body = sign_seeds()[0].decode()
    heads = [
        (
            f"POST /sign HTTP/1.1\r\nHost: sidecar\r\nContent-Length: {len(body)}\r\nX-Request-Timeout-Ms: 4000\r\n"
            f"X-Frost-Sidecar: 1\r\nX-Request-ID: r-1\r\nIdempotency-Key: k1\r\nConnection: close\r\n\r\n{body}"
        ),
        (
            "POST /sign HTTP/1.1\r\nHost: sidecar\r\nX-Frost-Sidecar: 1\r\nTransfer-Encoding: chunked\r\n"
            "Connection: close\r\n\r\n"
            f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
        ),
        "GET /healthz HTTP/1.1\r\nHost: sidecar\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        "GET /keys HTTP/1.1\r\nHost: sidecar\r\ntraceparent: 00-" + "1" * 32 + "-" + "2" * 16 + "-01\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: sidecar\r\nAccept: application/openmetrics-text;q=0.5\r\n\r\n",
    ]
    return [each.encode() for each in heads]


def _requests_target(sidecar: _Sidecar) -> Target:
    def read(_data: bytes, answer: bytes) -> None:
        """Nothing, or answers of HTTP: never a traceback, never a 500."""
        for status in re.findall(rb"(?:\A|\n)HTTP/\d\.\d (\d{3})", answer):
            assert int(status) in _ANSWERS, answer[:500]
        assert not answer or answer.startswith(b"HTTP/")
        assert b"Traceback" not in answer

    return Target(
        NAMES[2],
        _request_seeds,
        sidecar.send,
        (),
        read,
        mutate=damage_text,
        took=lambda answer: b" 200 " in answer[:16],
    )


class _Impostor(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Takes a request and answers with the bytes that it was told to."""

    daemon_threads = True
    request_queue_size = 128
    answer = b""


class _Impostors(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        length = 0
        while line := self.rfile.readline(65536).strip().lower():
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self.rfile.read(length)
        server = self.server
        assert isinstance(server, _Impostor)
        try:
            self.wfile.write(server.answer)
        except OSError:  # the client has had enough already
            return


def _answer_seeds() -> list[bytes]:
    body = json.dumps(sign_answer()).encode()
    problem = b'{"type":"urn:frost-sidecar:error:denied","title":"Forbidden","status":403,"detail":"no"}'
    return [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: #\r\nServer: x\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body,
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: #\r\n\r\n" + problem,
        b"HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\nRetry-After: 1\r\nContent-Length: #\r\n\r\n<p>",
    ]


def _damage_answer(random: Random, seeds: Sequence[bytes]) -> bytes:
    head, blank, body = random.choice(seeds).partition(b"\r\n\r\n")
    if random.randrange(2):
        body = damage_json(random, [body]) if body.startswith(b"{") else damage_bytes(random, [body])
    if random.randrange(2):
        head = damage_text(random, [head])
    return head.replace(b"#", str(len(body)).encode()) + blank + body


def _client_target(impostor: _Impostor, client: AsyncSidecarClient) -> Target:
    def decode(data: bytes) -> Signed:
        impostor.answer = data
        return settle(client.sign(MESSAGE, key=ITEM.key, participants=ITEM.participants))

    def read(_data: bytes, signed: Signed) -> None:
        Ed25519PublicKey.from_public_bytes(signed.group_public).verify(signed.signature, MESSAGE)

    return Target(NAMES[3], _answer_seeds, decode, (FrostSidecarError,), read, mutate=_damage_answer)


def _hostile_target(cluster: MemoryCluster) -> Target:
    """The input decides how signer 1 damages each of its answers; two honest signers are left, so all is signed."""

    async def sign(data: bytes) -> Signed:
        random = Random(data)

        async def damaged(handle: Handle, call: Call) -> Answer:
            answer = await handle(call)
            status = random.choice((answer.status, answer.status, answer.status, 200, 409, 500))
            damage = damage_json if random.randrange(5) else damage_bytes
            return Answer(status, damage(random, [answer.body]))

        cluster.behave(1, damaged)
        async with cluster.coordinator() as coordinator:
            return await coordinator.sign(MESSAGE)

    def read(_data: bytes, signed: Signed) -> None:
        Ed25519PublicKey.from_public_bytes(cluster.group_public).verify(signed.signature, MESSAGE)
        assert cluster.reused == []
        cluster.records.clear()

    return Target(
        NAMES[4],
        lambda: [bytes([each]) * 8 for each in range(8)],
        lambda data: settle(sign(data)),
        (),
        read,
        mutate=damage_bytes,
    )


@contextmanager
def serving() -> Iterator[list[Target]]:
    """The targets, with their other sides running."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fz-")))
        for each in ("sidecar", "cluster"):
            (folder / each).mkdir()
        sidecar = stack.enter_context(_Sidecar(folder / "sidecar"))
        impostor = stack.enter_context(_Impostor(str(folder / "i"), _Impostors))
        thread = threading.Thread(target=impostor.serve_forever, kwargs={"poll_interval": 0.05}, name="impostor")
        thread.start()
        stack.callback(thread.join, _SECONDS)
        stack.callback(impostor.shutdown)
        client = AsyncSidecarClient(folder / "i", timeout=_SECONDS, attempts=1)
        settle(client.__aenter__())
        stack.callback(lambda: settle(client.__aexit__(None, None, None)))
        yield [
            _sign_target(sidecar),
            _batch_target(sidecar),
            _requests_target(sidecar),
            _client_target(impostor, client),
            _hostile_target(MemoryCluster(folder / "cluster")),
        ]
        status, _, body = sidecar.post("/sign", sign_seeds()[0])
        assert (status, b"signature_b64" in body) == (HTTPStatus.OK, True)


@pytest.fixture(scope="module")
def served() -> Iterator[Mapping[str, Target]]:
    with serving() as targets:
        yield {target.name: target for target in targets}


@pytest.mark.parametrize("name", NAMES)
def test_fuzz(name: str, served: Mapping[str, Target]) -> None:
    explore(served[name], share=0.5)
