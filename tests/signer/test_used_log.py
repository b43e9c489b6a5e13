"""The test switch that writes down every used commitment: complete, across restarts, and never in production."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import secrets
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import jwt
import msgspec
import pytest

from frost_sidecar.errors import ConfigError
from frost_sidecar.signer import NodeConfig
from frost_sidecar.signer.node import Use
from frost_sidecar.signer.used_log import UsedLog
from frost_sidecar.wire import (
    COMMITMENTS_PATH,
    SHARES_PATH,
    CommitmentsAnswer,
    CommitmentsRequest,
    SharesAnswer,
    SharesRequest,
)
from tests.signer.conftest import CLIENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.signer.conftest import Rig, Server


T = TypeVar("T")


async def _sign(rig: Rig, server: Server, count: int) -> list[tuple[str, str, str, str]]:
    """What must stand in the file: epoch, id, key, and the hash, of which the log has the same."""
    stock = await server.commitments(count)
    sessions = [rig.group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(stock.commitments)]
    for _ in range(2):  # the second time nothing is used
        reply = await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, sessions))
        assert reply.status == 200
    return [(stock.epoch, each.id, "default", "") for each in stock.commitments]


def _lines(file: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split(" ")) for line in file.read_text("ascii").splitlines()]


async def test_each_use_stands_in_the_file_across_restarts(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = rig.folder / "used"
    expected = []
    for count in (1, 20):
        async with rig.serving(dev=True, dev_used_log=str(file)) as server:
            expected += await _sign(rig, server, count)
    lines = _lines(file)
    assert [line[:3] for line in lines] == [each[:3] for each in expected]
    told = [each for record in caplog.records for each in record.__dict__.get("shares", ())]
    assert [line[3] for line in lines] == [each["package_sha256"] for each in told]
    assert len({line[:2] for line in lines}) == 21
    assert len({line[0] for line in lines}) == 2
    assert file.stat().st_mode & 0o777 == 0o600
    warnings = [each for each in caplog.records if each.__dict__.get("setting") == "dev_used_log"]
    assert [each.levelname for each in warnings] == ["WARNING"] * 2
    assert {each.__dict__["file"] for each in warnings} == {str(file)}


async def test_lines_reach_the_file_while_the_signer_runs(rig: Rig) -> None:
    file = rig.folder / "used"
    async with rig.serving(dev=True, dev_used_log=str(file)) as server:
        expected = await _sign(rig, server, 1)
        with anyio.fail_after(20):
            while len(_lines(file)) < len(expected):
                await anyio.sleep(0.05)
        assert [line[:3] for line in _lines(file)] == [each[:3] for each in expected]


COMMAND = (sys.executable, "-m", "frost_sidecar", "signer", "--config")


@contextlib.asynccontextmanager
async def _process(rig: Rig, config: Path, secret: bytes) -> AsyncIterator[tuple[asyncio.subprocess.Process, _Asking]]:
    process = await asyncio.create_subprocess_exec(*COMMAND, str(config), stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        with anyio.fail_after(30):
            while (said := json.loads(await process.stderr.readline()))["event"] != "listening":
                pass
            host, _, port = said["address"].rpartition(":")
            yield process, _Asking(rig, host, int(port), secret)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class _Asking:
    """A client of a signer process, with tokens of the HS256 plugin."""

    def __init__(self, rig: Rig, host: str, port: int, secret: bytes) -> None:
        self._rig = rig
        self._client = rig.client(host, port)
        self._secret = secret

    async def sign(self, count: int) -> list[tuple[str, str]]:
        """Epoch and id of each commitment that was used."""
        stock = await self._post(COMMITMENTS_PATH, CommitmentsRequest("default", count), CommitmentsAnswer)
        sessions = [self._rig.group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(stock.commitments)]
        answer = await self._post(SHARES_PATH, SharesRequest("default", stock.epoch, sessions), SharesAnswer)
        assert all(each.share for each in answer.results)
        return [(stock.epoch, each.id) for each in stock.commitments]

    async def _post(self, path: str, message: object, kind: type[T]) -> T:
        body = msgspec.json.encode(message)
        claims = {**self._rig.claims(body), "jti": secrets.token_hex(8)}
        reply = await self._client.send("POST", path, body, token=jwt.encode(claims, self._secret, "HS256"))
        assert reply.status == 200, reply.body
        return msgspec.json.decode(reply.body, type=kind)


async def test_processes_that_end_and_are_killed_write_down_what_they_used(rig: Rig, tmp_path: Path) -> None:
    file, secret = tmp_path / "used", secrets.token_bytes(32)
    secret_file = tmp_path / "secret"
    secret_file.touch(0o600)
    secret_file.write_text(base64.b64encode(secret).decode())
    tls = rig.config().tls
    config = tmp_path / "signer.toml"
    config.write_text(
        'name = "signer-1"\nbind = "127.0.0.1:0"\ndev = true\ndev_used_log = "used"\n'
        f"state = {json.dumps(str(rig.folder))}\nclients.names = [{json.dumps(CLIENT)}]\n"
        f"tls = {{ cert = {json.dumps(tls.cert)}, key = {json.dumps(tls.key)}, ca = {json.dumps(tls.ca)} }}\n"
        f"plugins.auth_hs256.secret_file = {json.dumps(str(secret_file))}\n"
    )
    used: list[tuple[str, str]] = []
    for kill in (False, True, False):
        async with _process(rig, config, secret) as (process, asking):
            used += [*await asking.sign(1), *await asking.sign(24)]
            if kill:
                while len(_lines(file)) < len(used):
                    await anyio.sleep(0.05)
                process.kill()
            else:
                process.terminate()
                assert await process.wait() == 0
    assert [line[:2] for line in _lines(file)] == used
    assert len(set(used)) == 75
    assert len({epoch for epoch, _ in used}) == 3


def test_without_the_development_switch_the_signer_does_not_start() -> None:
    values = {"name": "signer-1", "clients": {"names": ["DNS:c"]}, "dev_used_log": "used"}
    with pytest.raises(ConfigError, match="dev_used_log: is for test runs alone") as caught:
        NodeConfig.build(values)
    assert caught.value.path == "dev_used_log"
    assert NodeConfig.build({**values, "dev": True, "base": "/x"}).used_log_path == Path("/x/used")
    assert NodeConfig.build({**values, "dev_used_log": None}).used_log_path is None


async def test_a_file_that_cannot_be_written_stops_the_start(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="dev_used_log: cannot append to"):
        async with rig.serving(dev=True, dev_used_log=str(rig.folder)):
            pass


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "used"
    barrier = threading.Barrier(8)

    def add(log: UsedLog, number: int) -> None:
        barrier.wait()
        for turn in range(50):
            log.add([Use(f"{number}-{turn}-{each}", "default", bytes(32), "s", None) for each in range(16)])

    with UsedLog(file, "e") as log:
        threads = [threading.Thread(target=add, args=(log, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        log.flush()
        assert len(_lines(file)) == 8 * 50 * 16
    lines = _lines(file)
    assert {len(line) for line in lines} == {4}
    assert len(set(lines)) == 8 * 50 * 16


def test_a_full_disk_is_told() -> None:
    use = Use("i", "default", bytes(32), "s", None)
    log = UsedLog(Path("/dev/full"), "e")
    with pytest.raises(OSError, match="No space"), log:  # noqa: PT012 - the end of `with` may raise as well
        log.add([use])
        log.flush()
