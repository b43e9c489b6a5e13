"""Places for connections: counted from the first byte not sent, on each listener by itself."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from frost_sidecar.acceptor import Acceptor
from frost_sidecar.testing.sidecar import MemorySidecar

BODY = {"msg_b64": "aGVhZGVyLnBheWxvYWQ="}


def _address(sidecar: MemorySidecar) -> tuple[str, int]:
    host, _, port = sidecar.addresses["bind"].rpartition(":")
    return host, int(port)


async def _is_closed(sock: socket.socket) -> bool:
    """Whether the other side has closed, or does so soon."""
    sock.setblocking(False)
    try:
        with anyio.fail_after(0.5):
            return await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


async def test_silent_strangers_on_tcp_take_nothing_from_the_unix_socket(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True, server={"max_connections": 8})
    async with sidecar.serving() as unix:
        with ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(_address(sidecar))) for _ in range(20)]
            assert [await _is_closed(each) for each in silent] == [False] * 8 + [True] * 12
            async with unix.post("/sign", json=BODY) as response:
                assert response.status == 200
        await anyio.sleep(0.1)
        async with sidecar.calling() as http, http.post("/sign", json=BODY) as response:
            assert response.status == 200  # those that gave up made room


async def test_clients_that_may_not_call_take_an_eighth_of_the_places(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True, server={"max_connections": 16})
    stranger = sidecar.authority.issue("stranger", ["stranger.frost.test"])
    context = ssl.create_default_context(cafile=str(stranger.ca))
    context.load_cert_chain(stranger.cert, stranger.key)
    async with sidecar.serving(), sidecar.calling() as http:
        host, port = _address(sidecar)
        streams = [await asyncio.open_connection(host, port, ssl=context) for _ in range(12)]
        await anyio.sleep(0.3)
        assert [reader.at_eof() for reader, _ in streams] == [False] * 2 + [True] * 10
        for reader, writer in streams[:2]:  # those that have a place are told why they may not call
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 403 Forbidden\r\n"
        async with http.post("/sign", json=BODY) as response:
            assert response.status == 200
        for _, writer in streams:
            writer.close()
        await anyio.sleep(0.3)
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        await anyio.sleep(0.3)
        assert not reader.at_eof()  # there is room again
        writer.close()


async def test_without_descriptors_it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Loop:
        """The running loop, whose first accept finds no descriptor."""

        def __init__(self) -> None:
            self.real = asyncio.get_running_loop()
            self.failed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
            if not self.failed:
                self.failed = True
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return await self.real.sock_accept(sock)

    made: list[asyncio.Protocol] = []

    def connect(_: object) -> asyncio.Protocol:
        made.append(asyncio.Protocol())
        return made[-1]

    loop = Loop()
    monkeypatch.setattr("frost_sidecar.acceptor.asyncio.get_running_loop", lambda: loop)
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level(logging.ERROR):
        task = asyncio.create_task(Acceptor(server, connect, 4).run())
        with socket.create_connection(server.getsockname()):
            with anyio.fail_after(3):
                while not made:
                    await anyio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "cannot accept connections" in caplog.text
