"""The secret's file is replaced while issuer and authenticator run: real files, in all the ways that they change."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from frost_sidecar_auth_hs256 import Hs256Authenticator, Hs256Issuer, Keyring, Secret, make_authenticator
from frost_sidecar_auth_hs256.file import SecretFile
from frost_sidecar_auth_hs256.watch import WatchedKeyring

from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Credentials, TlsFiles, TokenClaims
from frost_sidecar.process import convert

OLD, NEW, NEWER = (secrets.token_bytes(32) for _ in range(3))


def claims() -> TokenClaims:
    now = int(time.time())
    return TokenClaims("frost-coord", "coordinator", "signer-1", now, now, now + 30, "one", "digest")


async def token(key: bytes) -> Credentials:
    return Credentials(await Hs256Issuer(Keyring(Secret(key))).issue(claims()))


async def passes(authenticator: Hs256Authenticator, credentials: Credentials) -> bool:
    try:
        return await authenticator.authenticate(credentials) is not None
    except Unauthenticated as error:
        if "signature is wrong" not in str(error):
            raise
        return False


def put(path: Path, key: bytes | str, mode: int = 0o600) -> None:
    """Replace a file as one should: write another beside it, and rename."""
    beside = path.with_suffix(".new")
    beside.write_text(key if isinstance(key, str) else b64encode(key))
    beside.chmod(mode)
    beside.replace(path)


@dataclass
class Clocks:
    """Both clocks, moved by hand; the one on the wall starts at the real time, as files have that."""

    moved: float = 0.0

    def __post_init__(self) -> None:
        self.stopped_at = time.time()

    def monotonic(self) -> float:
        return 1000.0 + self.moved

    def wall(self) -> float:
        return self.stopped_at + self.moved


class Process:
    """Issuer and authenticator on one secret's file, in time that the test moves on."""

    def __init__(self, path: Path, *, previous_seconds: float = 120.0, dev: bool = False) -> None:
        self.clocks = Clocks()
        file = SecretFile(path, "plugins.auth_hs256.secret_file", dev=dev)
        self.keyring = WatchedKeyring(
            file,
            file.read(),
            previous_seconds=previous_seconds,
            log=get_logger("frost_sidecar.auth_hs256"),
            clock=self.clocks.monotonic,
            wall=self.clocks.wall,
        )
        self.issuer = Hs256Issuer(self.keyring)
        self.authenticator = Hs256Authenticator(self.keyring)

    async def accepts(self, key: bytes) -> bool:
        return await passes(self.authenticator, await token(key))

    async def signs_with(self, key: bytes) -> bool:
        issued = Credentials(await self.issuer.issue(claims()))
        return await passes(Hs256Authenticator(Keyring(Secret(key))), issued)

    def wait(self, seconds: float = 1.0) -> None:
        self.clocks.moved += seconds


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


# --- a new secret -----------------------------------------------------------------------------------------------------


async def test_the_newest_signs_and_the_one_before_is_accepted_for_a_while(
    path: Path, logged: pytest.LogCaptureFixture
) -> None:
    process = Process(path)
    assert await process.signs_with(OLD)
    put(path, NEW)
    process.wait()
    assert await process.accepts(NEW)
    assert await process.accepts(OLD)
    assert await process.signs_with(NEW)
    assert not await process.signs_with(OLD)
    assert said(logged, logging.INFO) == ["the secret was replaced"]
    process.wait(118)
    assert await process.accepts(OLD)
    process.wait(2)
    assert not await process.accepts(OLD)
    assert await process.accepts(NEW)


async def test_each_secret_before_the_newest_has_its_own_end(path: Path) -> None:
    process = Process(path)
    put(path, NEW)
    process.wait()
    assert await process.signs_with(NEW)
    process.wait(60)
    process.clocks.stopped_at = time.time() - process.clocks.moved  # the next change is 60 s later for the file, too
    put(path, NEWER)
    process.wait()
    for key in (NEWER, NEW, OLD):
        assert await process.accepts(key)
    process.wait(57)
    assert await process.accepts(OLD)
    process.wait(2)
    assert not await process.accepts(OLD)
    assert await process.accepts(NEW)
    process.wait(58)
    assert await process.accepts(NEW)
    process.wait(3)
    assert not await process.accepts(NEW)
    assert await process.accepts(NEWER)


def test_a_secret_ends_on_the_second() -> None:
    now = 0.0
    keyring = Keyring(Secret(OLD), clock=lambda: now)
    keyring.replace(Secret(NEW), until=5.0)
    now = 4.9
    assert [each.reveal() for each in keyring.accepted()] == [NEW, OLD]
    now = 5.0
    assert [each.reveal() for each in keyring.accepted()] == [NEW]


async def test_four_before_the_newest_are_accepted_and_the_oldest_goes_first(path: Path) -> None:
    process = Process(path)
    keys = [OLD, *(secrets.token_bytes(32) for _ in range(6))]
    for number, key in enumerate(keys):
        put(path, key)
        process.wait()
        assert await process.signs_with(key)
        assert [await process.accepts(each) for each in keys] == [
            number - 4 <= each <= number for each in range(len(keys))
        ]


async def test_a_secret_that_comes_and_goes_takes_one_place(path: Path) -> None:
    process = Process(path)
    for key in (NEW, NEWER, *(OLD, NEWER) * 4):
        put(path, key)
        process.wait()
        assert await process.signs_with(key)
    for key in (OLD, NEW, NEWER):
        assert await process.accepts(key)


async def test_none_before_the_newest_is_accepted_where_that_is_off(path: Path) -> None:
    process = Process(path, previous_seconds=0)
    put(path, NEW)
    process.wait()
    assert await process.accepts(NEW)
    assert not await process.accepts(OLD)


async def test_a_process_that_was_idle_since_the_change_gives_the_old_secret_no_second_life(path: Path) -> None:
    idle, late = Process(path), Process(path)
    put(path, NEW)
    idle.wait(3600)
    assert not await idle.accepts(OLD)
    assert await idle.accepts(NEW)
    late.wait(60)
    assert await late.accepts(OLD)
    late.wait(61)
    assert not await late.accepts(OLD)


async def test_a_file_system_whose_clock_is_wrong_moves_the_end_by_no_more_than_the_last_look(path: Path) -> None:
    ahead, behind = Process(path), Process(path)
    ahead.clocks.stopped_at -= 10_000
    behind.clocks.stopped_at += 10_000
    put(path, NEW)
    for process in (ahead, behind):
        process.wait(1)
        assert await process.accepts(OLD)
        process.wait(118.5)
        assert await process.accepts(OLD)
        process.wait(1)
        assert await process.accepts(OLD) is (process is ahead)
        process.wait(1)
        assert not await process.accepts(OLD)


async def test_the_same_secret_in_another_file_changes_nothing(path: Path, logged: pytest.LogCaptureFixture) -> None:
    process = Process(path)
    put(path, NEW)
    process.wait()
    assert await process.accepts(OLD)
    put(path, f"\n{b64encode(NEW)}\n")
    process.wait()
    assert await process.accepts(NEW)
    assert await process.accepts(OLD)
    assert said(logged, logging.INFO) == ["the secret was replaced"]


async def test_back_to_the_old_secret(path: Path) -> None:
    process = Process(path)
    for key in (NEW, OLD):
        put(path, key)
        process.wait()
        assert await process.signs_with(key)
    process.wait(120)
    assert await process.accepts(OLD)
    assert not await process.accepts(NEW)


def kubelet(volume: Path, key: bytes, mode: int = 0o440) -> None:
    """A secret volume's next content: a new folder, ``..data`` pointed at it by a rename, the old folder removed."""
    before = (volume / "..data").resolve() if (volume / "..data").exists() else None
    folder = volume / f"..{secrets.token_hex(8)}"
    folder.mkdir()
    (folder / "jwt").write_text(b64encode(key))
    (folder / "jwt").chmod(mode)
    (volume / "..data_tmp").symlink_to(folder.name)
    (volume / "..data_tmp").replace(volume / "..data")
    if before is None:
        (volume / "jwt").symlink_to("..data/jwt")
    else:
        (before / "jwt").unlink()
        before.rmdir()


async def test_the_kubelets_swap_of_a_symbolic_link(tmp_path: Path) -> None:
    kubelet(tmp_path, OLD)
    process = Process(tmp_path / "jwt")
    for key, before in ((NEW, OLD), (NEWER, NEW)):
        assert await process.signs_with(before)
        kubelet(tmp_path, key)
        process.wait()
        assert await process.signs_with(key)
        assert await process.accepts(before)


# --- how often it looks -----------------------------------------------------------------------------------------------


async def test_it_looks_once_a_second_however_often_it_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(path)
    looks: list[int] = []
    real = SecretFile.look

    def look(self: SecretFile, *arguments: Any) -> Any:
        looks.append(threading.get_ident())
        return real(self, *arguments)

    monkeypatch.setattr(SecretFile, "look", look)
    credentials = await token(OLD)

    async def use() -> None:
        await process.issuer.issue(claims())
        await process.authenticator.authenticate(credentials)

    for second in range(1, 4):
        for part in (0.5, 0.49, 0.01):
            assert len(looks) == second - 1
            process.wait(part)
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(use)
        assert len(looks) == second
    assert threading.get_ident() not in looks


async def test_all_uses_at_the_time_of_a_look_see_what_it_finds(path: Path) -> None:
    process = Process(path, previous_seconds=0)
    put(path, NEW)
    process.wait()
    tokens: list[Credentials] = []

    async def use() -> None:
        tokens.append(Credentials(await process.issuer.issue(claims())))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(use)
    checker = Hs256Authenticator(Keyring(Secret(NEW)))
    assert all([await checker.authenticate(each) for each in tokens])
    assert len(tokens) == 50


async def test_a_secret_in_the_configuration_stays_for_the_life_of_the_process(tmp_path: Path) -> None:
    settings = {"secret_b64": b64encode(OLD)}
    authenticator = make_authenticator(
        PluginContext(
            name="auth_hs256",
            role="signer",
            dev=False,
            tls=TlsFiles(tmp_path, tmp_path, tmp_path),
            signers=(),
            settings=lambda kind: convert(settings, kind),
            path=tmp_path.joinpath,
        )
    )
    settings["secret_b64"] = b64encode(NEW)
    assert await authenticator.authenticate(await token(OLD))
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(await token(NEW))


@pytest.mark.parametrize("seconds", [-1, 86401, "2"])
def test_settings_out_of_range(path: Path, seconds: object) -> None:
    settings = {"secret_file": str(path), "previous_seconds": seconds}
    with pytest.raises(ConfigError, match=r"plugins\.auth_hs256\.previous_seconds"):
        make_authenticator(
            PluginContext(
                name="auth_hs256",
                role="signer",
                dev=False,
                tls=TlsFiles(path, path, path),
                signers=(),
                settings=lambda kind: convert(settings, kind, path="plugins.auth_hs256"),
                path=Path,
            )
        )
