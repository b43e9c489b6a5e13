"""The secret's file is written in place while it is looked at: half of a secret is base64, too, and must not count."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from frost_sidecar_auth_hs256 import Hs256Authenticator, Hs256Issuer, Keyring, Secret
from frost_sidecar_auth_hs256.file import Reading, SecretFile, Stamp
from frost_sidecar_auth_hs256.watch import WatchedKeyring

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Credentials, TokenClaims

OLD, NEW, NEWER = (secrets.token_bytes(64) for _ in range(3))
TEXT = b64encode(NEW)
HALF = b64decode(TEXT[:60])
MIXED = b64decode(TEXT[:60] + b64encode(OLD)[60:])
AGAIN, REPLACED = "the secret's file can be used again", "the secret was replaced"


def claims() -> TokenClaims:
    now = int(time.time())
    return TokenClaims("frost-coord", "coordinator", "signer-1", now, now, now + 30, "one", "digest")


async def passes(authenticator: Hs256Authenticator, token: str) -> bool:
    try:
        return await authenticator.authenticate(Credentials(token)) is not None
    except Unauthenticated as error:
        if "signature is wrong" not in str(error):
            raise
        return False


@dataclass
class Process:
    """Issuer and authenticator on one secret's file, in time that the test moves on."""

    path: Path
    moved: float = 0.0
    stopped_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        file = SecretFile(self.path, "plugins.auth_hs256.secret_file", dev=False)
        self.keyring = WatchedKeyring(
            file,
            file.read(),
            previous_seconds=120,
            log=get_logger("frost_sidecar.auth_hs256"),
            clock=lambda: self.moved,
            wall=lambda: self.stopped_at + self.moved,
        )
        self.issuer = Hs256Issuer(self.keyring)
        self.authenticator = Hs256Authenticator(self.keyring)

    async def accepted(self) -> list[bytes]:
        """Those among the secrets of this file that are accepted."""
        return [
            key
            for key in (OLD, NEW, NEWER, HALF, MIXED)
            if await passes(self.authenticator, await Hs256Issuer(Keyring(Secret(key))).issue(claims()))
        ]

    async def signs_with(self, key: bytes) -> bool:
        return await passes(Hs256Authenticator(Keyring(Secret(key))), await self.issuer.issue(claims()))

    def now_is_now(self) -> None:
        """Set the clock on the wall to the one that files go by."""
        self.stopped_at = time.time() - self.moved

    async def look(self, seconds: float = 1.0) -> None:
        self.moved += seconds
        await self.keyring.refresh()


def put(path: Path, key: bytes) -> None:
    """Replace a file as one should: write another beside it, and rename."""
    beside = path.with_suffix(".new")
    beside.write_text(b64encode(key))
    beside.chmod(0o600)
    beside.replace(path)


def write(path: Path, text: str, *, truncate: bool = False) -> None:
    """Write over the beginning of a file, until the clock of its file system has moved on."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        with path.open("w" if truncate else "r+") as file:
            file.write(text)
    assert path.stat().st_ino == before.st_ino


@pytest.fixture
def path(tmp_path: Path) -> Path:
    put(tmp_path / "secret.b64", OLD)
    return tmp_path / "secret.b64"


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def said(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == level and each.name.startswith("frost")]


@pytest.mark.parametrize("truncate", [True, False])
async def test_half_of_a_secret_never_counts(path: Path, truncate: bool, logged: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    process = Process(path)
    for end in range(60, len(TEXT), 4):
        write(path, TEXT[:end], truncate=truncate)
        await process.look()
        assert await process.signs_with(OLD)
        assert await process.accepted() == [OLD]
    write(path, TEXT, truncate=truncate)
    written = process.moved
    process.now_is_now()
    await process.look()
    assert await process.accepted() == [OLD]
    await process.look()
    assert await process.signs_with(NEW)
    assert await process.accepted() == [OLD, NEW]
    assert said(logged) == [REPLACED]
    await process.look(written + 119 - process.moved)
    assert await process.accepted() == [OLD, NEW]
    await process.look(2)
    assert await process.accepted() == [NEW]


async def test_an_empty_file_on_the_way(path: Path, logged: pytest.LogCaptureFixture) -> None:
    process = Process(path)
    for text in ("", TEXT[:60], TEXT):
        write(path, text, truncate=True)
        await process.look()
        assert await process.accepted() == [OLD]
    await process.look()
    assert await process.accepted() == [OLD, NEW]
    assert len(said(logged, logging.ERROR)) == 1
    assert said(logged) == [AGAIN, REPLACED]


async def test_a_file_that_was_removed_and_is_written_anew(path: Path, logged: pytest.LogCaptureFixture) -> None:
    process = Process(path)
    path.unlink()
    await process.look()
    path.touch(0o600)
    write(path, TEXT[:60])
    await process.look()
    assert await process.accepted() == [OLD]
    write(path, TEXT)
    await process.look()
    assert await process.accepted() == [OLD]
    await process.look()
    assert await process.accepted() == [OLD, NEW]
    assert said(logged) == [AGAIN, REPLACED]


async def test_the_same_secret_written_anew_is_read_once_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    real, reads = SecretFile.read, 0

    def read(self: SecretFile) -> Reading:
        nonlocal reads
        reads += 1
        return real(self)

    monkeypatch.setattr(SecretFile, "read", read)
    write(path, f"{b64encode(OLD)}\n")
    for _ in range(3):
        await process.look()
        assert await process.accepted() == [OLD]
    assert reads == 1
    assert said(logged) == []


def test_files_of_two_file_systems_are_two_also_with_one_number() -> None:
    stamp = Stamp(device=1, inode=2, size=88, modified_ns=3, changed_ns=4)
    assert stamp.same_file(replace(stamp, size=60, modified_ns=5, changed_ns=5))
    assert not stamp.same_file(replace(stamp, inode=3))
    assert not stamp.same_file(replace(stamp, device=2))


async def test_another_file_is_taken_over_at_once_also_in_the_midst_of_writing(path: Path) -> None:
    process = Process(path)
    write(path, TEXT[:60], truncate=True)
    await process.look()
    put(path, NEWER)
    await process.look()
    assert await process.accepted() == [OLD, NEWER]
    write(path, TEXT[:60], truncate=True)
    await process.look()
    assert await process.accepted() == [OLD, NEWER]
    put(path, NEW)
    await process.look()
    assert await process.accepted() == [OLD, NEW, NEWER]


async def test_a_change_in_the_midst_of_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that comes between ``stat`` and ``read``, when the file had been the same for a second."""
    process = Process(path)
    write(path, b64encode(NEWER))
    await process.look()
    real, calls = os.fstat, 0

    def fstat(descriptor: int) -> os.stat_result:
        nonlocal calls
        status = real(descriptor)
        calls += 1
        if calls == 1:
            write(path, TEXT[:60], truncate=True)
        return status

    with monkeypatch.context() as edge:
        edge.setattr(os, "fstat", fstat)
        await process.look()
    assert calls == 2
    assert await process.accepted() == [OLD]
    write(path, TEXT)
    await process.look()
    assert await process.accepted() == [OLD]
    await process.look()
    assert await process.accepted() == [OLD, NEW]


# --- how long ago it was written --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "at_once"), [(9, False), (11, True), (3600, True)])
async def test_what_was_written_while_the_process_was_idle(path: Path, seconds: float, at_once: bool) -> None:  # noqa: FBT001
    process = Process(path)
    write(path, TEXT)
    await process.look(seconds)
    assert await process.signs_with(NEW) is at_once
    await process.look()
    assert await process.signs_with(NEW)
    assert await process.accepted() == ([NEW] if seconds > 120 else [OLD, NEW])
    if seconds < 120:
        await process.look(119 - process.moved)
        assert await process.accepted() == [OLD, NEW]
        await process.look(2)
    assert await process.accepted() == [NEW]


@pytest.mark.parametrize(("wrong", "idle"), [(-10_000, 3600), (10_000, 9)])
async def test_a_file_system_whose_clock_is_wrong(path: Path, wrong: float, idle: float) -> None:
    process = Process(path)
    process.stopped_at += wrong
    write(path, TEXT[:60], truncate=True)
    await process.look(idle)
    assert await process.accepted() == [OLD]
    write(path, TEXT)
    await process.look()
    assert await process.accepted() == [OLD]
    await process.look()
    assert await process.accepted() == [OLD, NEW]


# --- a look that takes long -------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[threading.Event]:
    """While the event is not set, looks have seen the file, but nobody gets to know."""
    answer = threading.Event()
    real = SecretFile.look

    def look(self: SecretFile, *arguments: Any) -> Any:
        seen = real(self, *arguments)
        assert answer.wait(20)
        return seen

    monkeypatch.setattr(SecretFile, "look", look)
    yield answer
    answer.set()


async def end(slow: threading.Event, logged: pytest.LogCaptureFixture) -> None:
    slow.set()
    with anyio.fail_after(5):
        while said(logged) != [AGAIN]:
            await anyio.sleep(0.005)


async def test_a_second_passes_between_two_looks_however_long_the_first_takes(
    path: Path, slow: threading.Event, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    write(path, TEXT[:60], truncate=True)
    await process.look()
    process.moved += 20
    await end(slow, logged)
    assert await process.accepted() == [OLD]
    await process.look(0.5)
    assert await process.accepted() == [OLD]
    process.now_is_now()
    write(path, TEXT)
    for _ in range(2):
        assert await process.accepted() == [OLD]
        await process.look()
    assert await process.accepted() == [OLD, NEW]


async def test_the_age_of_a_change_counts_from_the_start_of_the_look_before(
    path: Path, slow: threading.Event, logged: pytest.LogCaptureFixture
) -> None:
    """The file was changed when a look had seen it, but had not ended."""
    process = Process(path)
    await process.look()
    started = process.moved
    put(path, NEW)
    process.moved += 60
    await end(slow, logged)
    await process.look()
    assert await process.accepted() == [OLD, NEW]
    await process.look(started + 119 - process.moved)
    assert await process.accepted() == [OLD, NEW]
    await process.look(2)
    assert await process.accepted() == [NEW]
