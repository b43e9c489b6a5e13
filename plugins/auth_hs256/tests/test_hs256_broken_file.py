"""The secret's file is broken or its file system hangs while issuer and authenticator run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from frost_sidecar_auth_hs256 import Hs256Authenticator, Hs256Issuer, Keyring, Secret
from frost_sidecar_auth_hs256.file import SecretFile
from frost_sidecar_auth_hs256.watch import WatchedKeyring

from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Credentials, TokenClaims

OLD, NEW, NEWER = (secrets.token_bytes(32) for _ in range(3))


def put(path: Path, key: bytes | str, mode: int = 0o600) -> None:
    """Replace a file as one should: write another beside it, and rename."""
    beside = path.with_suffix(".new")
    beside.write_text(key if isinstance(key, str) else b64encode(key))
    beside.chmod(mode)
    beside.replace(path)


class Process:
    """Issuer and authenticator on one secret's file, in time that the test moves on."""

    def __init__(self, path: Path, *, previous_seconds: float = 3600.0, dev: bool = False) -> None:
        self.now = 0.0
        file = SecretFile(path, "plugins.auth_hs256.secret_file", dev=dev)
        log = get_logger("frost_sidecar.auth_hs256")
        reading = file.read()
        self.keyring = WatchedKeyring(file, reading, previous_seconds=previous_seconds, log=log, clock=lambda: self.now)
        self.issuer = Hs256Issuer(self.keyring)
        self.authenticator = Hs256Authenticator(self.keyring)

    async def accepts(self, key: bytes) -> bool:
        token = await Hs256Issuer(Keyring(Secret(key))).issue(claims())
        return await passes(self.authenticator, Credentials(token))

    async def signs_with(self, key: bytes) -> bool:
        token = await self.issuer.issue(claims())
        return await passes(Hs256Authenticator(Keyring(Secret(key))), Credentials(token))

    def wait(self, seconds: float = 1.0) -> None:
        self.now += seconds


def claims() -> TokenClaims:
    now = int(time.time())
    return TokenClaims("frost-coord", "coordinator", "signer-1", now, now, now + 30, "one", "digest")


async def passes(authenticator: Hs256Authenticator, credentials: Credentials) -> bool:
    try:
        return await authenticator.authenticate(credentials) is not None
    except Unauthenticated as error:
        if "signature is wrong" not in str(error):
            raise
        return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    put(tmp_path / "secret.b64", OLD)
    return tmp_path / "secret.b64"


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """No test leaves a secret in the log."""
    caplog.set_level(logging.DEBUG)
    yield caplog
    records = json.dumps([vars(record) for record in caplog.records], default=repr)
    for key in (OLD, NEW, NEWER):
        assert b64encode(key) not in records
        assert repr(key)[2:-1] not in records


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == level and each.name.startswith("frost")]


# --- a file that cannot be used ---------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def undo_folder(path: Path) -> None:
    if path.is_dir():
        path.rmdir()


BROKEN: dict[str, Callable[[Path], None]] = {
    "missing": remove,
    "a folder": make_folder,
    "empty": lambda path: put(path, ""),
    "not base64": lambda path: put(path, "~" * 44),
    "weak": lambda path: put(path, b"a" * 32),
    "short": lambda path: put(path, NEWER[:31]),
    "open to all": lambda path: put(path, NEWER, 0o644),
    "binary": lambda path: (path.write_bytes(b"\xff" * 44), None)[1],
    "a public key": lambda path: put(path, b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----\n"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_broken_file_changes_nothing_and_is_reported_once(
    path: Path, fault: str, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    BROKEN[fault](path)
    for _ in range(300):
        process.wait()
        assert await process.signs_with(OLD)
        assert await process.accepts(OLD)
        assert not await process.accepts(NEW)
    assert said(logged, logging.ERROR) == ["the secret's file cannot be used; the secret read before stays"]
    [error] = [record for record in logged.records if record.levelno == logging.ERROR]
    assert "plugins.auth_hs256.secret_file: " in error.why  # type: ignore[attr-defined]
    assert said(logged, logging.INFO) == []
    undo_folder(path)
    put(path, NEW)
    for _ in range(2):  # where there was no file, one that is there has to be the same for a second
        process.wait()
        assert await process.accepts(OLD)
    assert await process.signs_with(NEW)
    assert sorted(said(logged, logging.INFO)) == ["the secret was replaced", "the secret's file can be used again"]


async def test_the_old_file_comes_back(path: Path, logged: pytest.LogCaptureFixture) -> None:
    process = Process(path)
    away = path.replace(path.with_suffix(".away"))
    process.wait()
    assert await process.accepts(OLD)
    away.replace(path)
    process.wait()
    assert await process.accepts(OLD)
    assert said(logged, logging.INFO) == ["the secret's file can be used again"]


async def test_a_folder_that_is_gone_for_a_while(path: Path, logged: pytest.LogCaptureFixture) -> None:
    """What was wrong is mended without any change of the file itself."""
    process = Process(path)
    before = path.stat()
    away = path.parent.with_name("away")
    path.parent.rename(away)
    for _ in range(3):
        process.wait()
        assert await process.accepts(OLD)
    assert len(said(logged, logging.ERROR)) == 1
    assert said(logged, logging.INFO) == []
    away.rename(path.parent)
    assert (path.stat().st_ino, path.stat().st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    process.wait()
    assert await process.accepts(OLD)
    assert said(logged, logging.INFO) == ["the secret's file can be used again"]


async def test_after_a_fault_the_file_is_good_when_it_was_read_not_when_it_is_there(
    path: Path, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    away = path.parent.with_name("away")
    path.parent.rename(away)
    process.wait()
    assert await process.accepts(OLD)
    away.rename(path.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # stat() still works, open() does not
    try:
        for _ in range(3):
            process.wait()
            assert await process.accepts(OLD)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    [missing, unreadable] = [each for each in logged.records if each.levelno == logging.ERROR]
    assert "No such file" in missing.why  # type: ignore[attr-defined]
    assert "Too many open files" in unreadable.why  # type: ignore[attr-defined]
    assert said(logged, logging.INFO) == []
    process.wait()
    assert await process.accepts(OLD)
    assert said(logged, logging.INFO) == ["the secret's file can be used again"]


async def test_each_further_change_to_something_broken_is_reported(
    path: Path, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    for key in (b"a" * 32, b"b" * 32, NEWER[:31]):
        put(path, key)
        for _ in range(3):
            process.wait()
            assert await process.accepts(OLD)
    assert len(said(logged, logging.ERROR)) == 3


async def test_permissions_that_change(path: Path, logged: pytest.LogCaptureFixture) -> None:
    process = Process(path)
    path.chmod(0o644)
    process.wait()
    assert await process.accepts(OLD)
    assert len(said(logged, logging.ERROR)) == 1
    path.chmod(0o600)
    process.wait()
    assert await process.accepts(OLD)
    assert said(logged, logging.INFO) == ["the secret's file can be used again"]


async def test_the_development_switch_forgives_a_new_secret_too(path: Path, logged: pytest.LogCaptureFixture) -> None:
    process = Process(path, dev=True)
    put(path, b"devsecret", 0o644)
    process.wait()
    assert await process.signs_with(b"devsecret")
    warnings = " ".join(said(logged, logging.WARNING))
    assert "weak secret" in warnings
    assert "every user" in warnings


# --- a file system that hangs -----------------------------------------------------------------------------------------


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[threading.Event]:
    """While the event is not set, nobody gets an answer about the secret's file."""
    answer = threading.Event()
    real = Path.stat

    def stat(self: Path, **options: Any) -> os.stat_result:
        if self == path:
            assert answer.wait(20)
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    yield answer
    answer.set()


async def test_a_hanging_file_system_costs_one_short_wait_and_one_thread(
    path: Path, hang: threading.Event, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    put(path, NEW)
    process.wait()
    threads = threading.active_count()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        with anyio.fail_after(0.9):
            assert await process.signs_with(OLD)
        tasks.cancel_scope.cancel()
    assert ticks > 3
    process.wait(0.2)
    with anyio.fail_after(0.9):
        for _ in range(1000):
            assert await process.signs_with(OLD)
            process.wait()
    assert threading.active_count() == threads + 1
    assert said(logged, logging.ERROR) == ["the secret's file cannot be used; the secret read before stays"]
    hang.set()
    with anyio.fail_after(5):
        while not await process.signs_with(NEW):
            process.wait()
            await anyio.sleep(0.005)
    assert said(logged, logging.INFO) == ["the secret was replaced", "the secret's file can be used again"]


async def test_a_use_that_is_cancelled_leaves_the_look_to_the_others(path: Path, hang: threading.Event) -> None:
    process = Process(path, previous_seconds=0)
    put(path, NEW)
    process.wait()
    with anyio.move_on_after(0.02) as impatient:
        await process.issuer.issue(claims())
    assert impatient.cancelled_caught
    asyncio.get_running_loop().call_later(0.02, hang.set)
    assert await process.signs_with(NEW)


def test_a_hanging_file_system_does_not_keep_a_process_from_ending(tmp_path: Path) -> None:
    program = f"""
import asyncio, threading
from pathlib import Path
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_hs256.file import SecretFile
from frost_sidecar_auth_hs256.watch import WatchedKeyring

async def main():
    file = SecretFile(Path({str(tmp_path / "secret")!r}), "secret_file", dev=False)
    now = [0.0]
    keyring = WatchedKeyring(file, file.read(), previous_seconds=1, log=get_logger("x"), clock=lambda: now[0])
    Path.stat = lambda self: threading.Event().wait()
    now[0] += 1
    await keyring.refresh()
    print("went on")

asyncio.run(main())
"""
    put(tmp_path / "secret", OLD)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr


async def test_a_system_without_a_thread_to_spare(
    path: Path, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    put(path, NEW)
    with monkeypatch.context() as edge:

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        edge.setattr(threading.Thread, "start", start)
        for _ in range(3):
            process.wait()
            assert await process.signs_with(OLD)
    assert len(said(logged, logging.ERROR)) == 1
    for _ in range(2):
        process.wait()
        await process.keyring.refresh()
    assert await process.signs_with(NEW)
