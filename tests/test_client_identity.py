"""The clients over TCP, while their files and the sidecar's change; and what they ask of the sidecar's certificate."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from frost_sidecar import AsyncSidecarClient, SidecarClient, errors
from frost_sidecar.model import TlsFiles
from frost_sidecar.testing.mount import WAYS, Way, put
from frost_sidecar.testing.sidecar import CLIENT_NAME, MemorySidecar

MESSAGE = b"header.payload"
NAMES = ["127.0.0.1", "spiffe://mint.example/coordinator"]


def contents(files: TlsFiles, **more: str) -> dict[str, bytes]:
    named = {"tls.crt": files.cert.read_bytes(), "tls.key": files.key.read_bytes(), "ca.crt": files.ca.read_bytes()}
    return named | {name: text.encode() for name, text in more.items()}


def mounted(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.05)


@pytest.fixture
def remote(short_path: Path) -> MemorySidecar:
    sidecar = MemorySidecar(short_path, tcp=True)
    sidecar.authority.issue("listener", NAMES)
    return sidecar


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
async def test_certificates_of_both_sides_are_renewed_while_clients_sign(remote: MemorySidecar, way: Way) -> None:
    folder = remote.path.parent / "mount"
    put(folder, contents(remote.client), way)
    stop = threading.Event()
    signed = {"asyncio": 0, "blocking": 0}

    def blocking() -> None:
        with SidecarClient(remote.url, tls=mounted(folder), token=remote.token, attempts=1) as client:
            while not stop.is_set():
                client.sign(MESSAGE)
                signed["blocking"] += 1

    async with (
        remote.serving(),
        AsyncSidecarClient(remote.url, tls=mounted(folder), token=remote.token, attempts=1) as client,
        anyio.create_task_group() as tasks,
    ):

        async def call() -> None:
            while not stop.is_set():
                await client.sign(MESSAGE)
                signed["asyncio"] += 1

        tasks.start_soon(call)
        tasks.start_soon(anyio.to_thread.run_sync, blocking)
        await until(lambda: all(signed.values()))
        for turn in range(3):
            remote.authority.issue("listener", NAMES)
            for _ in way(folder, contents(remote.authority.issue(f"next-{turn}", [CLIENT_NAME]))):
                await anyio.sleep(0.2)
            before = dict(signed)
            await until(lambda before=before: all(signed[each] > before[each] + 10 for each in signed))  # type: ignore[misc]
        stop.set()
    assert len(remote.cluster.records) == sum(signed.values())


async def test_a_client_takes_files_whose_rights_were_mended(remote: MemorySidecar) -> None:
    folder = remote.path.parent / "mount"
    put(folder, contents(remote.client), WAYS["by renaming"])
    async with (
        remote.serving(),
        AsyncSidecarClient(remote.url, tls=mounted(folder), token=remote.token, attempts=1) as client,
    ):
        await client.sign(MESSAGE)
        put(folder, contents(remote.authority.issue("next", ["stranger.test"])), WAYS["by renaming"])
        (folder / "tls.key").chmod(0o644)
        await client.sign(MESSAGE)  # with the old certificate
        (folder / "tls.key").chmod(0o600)
        with pytest.raises(errors.Denied):
            await client.sign(MESSAGE)


async def test_a_revoked_sidecar_is_asked_for_nothing(remote: MemorySidecar) -> None:
    folder = remote.path.parent / "mount"
    put(folder, contents(remote.client, crl=remote.authority.revocations()))
    files = replace(mounted(folder), crl=folder / "crl")
    async with remote.serving(), AsyncSidecarClient(remote.url, tls=files, token=remote.token, attempts=1) as client:
        await client.sign(MESSAGE)
        remote.authority.revoke(remote.listener)
        put(folder, contents(remote.client, crl=remote.authority.revocations()))
        with pytest.raises(errors.UnexpectedAnswer, match="certificate revoked"):
            await client.sign(MESSAGE)
    assert len(remote.cluster.records) == 1


@pytest.mark.parametrize("text", ["", "-----BEGIN X509 CRL-----"])
async def test_a_file_without_a_list_stops_the_client(remote: MemorySidecar, text: str) -> None:
    crl = remote.path.parent / "crl"
    crl.write_text(text)
    with pytest.raises(errors.ConfigError, match=r"tls\.crl: "):
        async with AsyncSidecarClient("https://127.0.0.1:1", tls=replace(remote.client, crl=crl)):
            raise AssertionError("opened")


@pytest.mark.parametrize(("domain", "said"), [("mint.example", None), ("other.example", "not of the trust domain")])
async def test_a_client_can_ask_for_a_trust_domain(remote: MemorySidecar, domain: str, said: str | None) -> None:
    files = replace(remote.client, trust_domain=domain)
    async with remote.serving(), AsyncSidecarClient(remote.url, tls=files, token=remote.token, attempts=1) as client:
        if said is None:
            await client.sign(MESSAGE)
            return
        with pytest.raises(errors.UnexpectedAnswer, match=said):
            await client.sign(MESSAGE)
    assert remote.cluster.records == []


async def test_a_client_whose_certificate_ends_is_told_so_on_its_kept_connection(remote: MemorySidecar) -> None:
    short = remote.authority.issue("short", [CLIENT_NAME], lifetime=dt.timedelta(seconds=3))
    async with remote.serving(), AsyncSidecarClient(remote.url, tls=short, token=remote.token) as client:
        await client.sign(MESSAGE)
        with anyio.fail_after(10):
            while True:
                try:
                    await client.sign(MESSAGE)
                except errors.Denied as error:
                    refused = error
                    break
                await anyio.sleep(0.1)
        assert refused.reason == "certificate-expired"
        remote.authority.issue("short", [CLIENT_NAME])
        await client.sign(MESSAGE)
