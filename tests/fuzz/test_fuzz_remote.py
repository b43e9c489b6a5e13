"""A JWK set from an https address: what the other side may answer there, on a real socket."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

import pytest
from frost_sidecar_auth_eddsa_jwks import RemoteKeys
from frost_sidecar_auth_eddsa_jwks.fetching import Fetcher, PinnedAuthority
from frost_sidecar_auth_eddsa_jwks.jwk import ALGORITHMS, PublicKey
from frost_sidecar_auth_eddsa_jwks.jwks import parse_jwks
from yarl import URL

from frost_sidecar.errors import Unauthenticated
from frost_sidecar.testing.authority import Authority
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target, settle
from tests.fuzz.mutation import damage_json, damage_text
from tests.fuzz.test_fuzz_jwks import public_jwks

NAMES: Final = ("JWK set, whole answers",)
_SECONDS: Final = 20.0
"""Longest wait for the other side: far more than it takes, so that a busy machine is no finding."""
_MAX_BYTES: Final = 65536


class _Impostor:
    """Takes a request in the event loop of the targets, and answers with the bytes that it was told to."""

    def __init__(self) -> None:
        self.answer = b""
        self.now = 0.0

    def say(self, answer: bytes) -> None:
        """From now on this, and so much later that it is asked for again."""
        self.answer = answer
        self.now += 3600

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _answer_seeds() -> list[bytes]:
    body = json.dumps({"keys": public_jwks()}).encode()
    kind = b"Content-Type: application/jwk-set+json\r\n"
    return [
        b"HTTP/1.1 200 OK\r\n" + kind + b"Content-Length: #\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\n" + kind + b"Connection: close\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\n" + kind + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: #\r\n\r\n" + body,
        b"HTTP/1.1 302 Found\r\nLocation: https://localhost:1/\r\nContent-Length: #\r\n\r\n" + body,
        b"HTTP/1.1 503 Busy\r\nSet-Cookie: a=b\r\nContent-Length: #\r\n\r\n<p>",
    ]


def _damage(random: Random, seeds: Sequence[bytes]) -> bytes:
    head, blank, body = random.choice(seeds).partition(b"\r\n\r\n")
    if random.randrange(2):
        body = damage_json(random, [body]) if body.startswith(b"{") else damage_bytes(random, [body])
    if random.randrange(2):
        head = damage_text(random, [head])
    return head.replace(b"#", str(len(body)).encode()) + blank + body


class _Answer(io.BytesIO):
    """What ``http.client`` reads instead of a socket."""

    def makefile(self, *_: object) -> io.BytesIO:
        return self


def _read(data: bytes, key: PublicKey) -> None:
    """A 200 as it stands, in which another reader of HTTP, where it finds a whole body, finds this key."""
    response = http.client.HTTPResponse(_Answer(data))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
        listed = json.loads(body)["keys"]
    except (http.client.HTTPException, ValueError):
        return
    assert response.status == 200
    assert response.getheader("Content-Encoding", "identity").lower() == "identity"
    assert len(body) <= _MAX_BYTES
    assert any(key.members["x"] == each.get("x") for each in listed if isinstance(each, dict))


def _target(remote: RemoteKeys, impostor: _Impostor, good: bytes) -> Target:
    """Each input is asked for anew, when what was fetched before is too old to be used, and mended by a good answer."""

    async def find() -> PublicKey:
        async with asyncio.timeout(_SECONDS):
            return await remote.find("first")

    def decode(data: bytes) -> PublicKey:
        impostor.say(data)
        return settle(find())

    def refused(_data: bytes) -> None:
        impostor.say(good)
        assert settle(find()).is_same(parse_jwks(good.partition(b"\r\n\r\n")[2], ALGORITHMS).keys["first"])

    return Target(NAMES[0], _answer_seeds, decode, (Unauthenticated,), _read, refused, mutate=_damage)


@contextmanager
def serving() -> Iterator[list[Target]]:
    """The target, with its other side running."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fz-")))
        authority = Authority(folder)
        files = authority.issue("web", ["localhost"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        impostor = _Impostor()
        server = settle(_listen(impostor, context))
        stack.callback(lambda: settle(server.wait_closed()))
        stack.callback(server.close)
        pinned = PinnedAuthority(authority.certificate, "jwks_ca")
        pinned.reload()
        body = json.dumps({"keys": public_jwks()[:1]}).encode()
        good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        url = URL(f"https://localhost:{server.sockets[0].getsockname()[1]}/jwks.json")
        impostor.say(good)
        remote = RemoteKeys(
            Fetcher(url, pinned.context, seconds=3.0, max_bytes=_MAX_BYTES),
            lambda data: parse_jwks(data, ALGORITHMS),
            str(url),
            refresh_seconds=10**9,
            min_refresh_seconds=1,
            stale_seconds=60,
            clock=lambda: impostor.now,
        )
        settle(remote.__aenter__())
        stack.callback(lambda: settle(remote.__aexit__(None, None, None)))
        yield [_target(remote, impostor, good)]


async def _listen(impostor: _Impostor, context: ssl.SSLContext) -> asyncio.Server:
    return await asyncio.start_server(impostor.handle, "localhost", 0, ssl=context)


@pytest.fixture(scope="module")
def served() -> Iterator[Mapping[str, Target]]:
    with serving() as targets:
        yield {target.name: target for target in targets}


@pytest.mark.parametrize("name", NAMES)
def test_fuzz(name: str, served: Mapping[str, Target]) -> None:
    explore(served[name], share=0.5)
