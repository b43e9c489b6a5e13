"""What a listener proves and asks for over TLS, while its files change: with real handshakes and running requests."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp import web
from cryptography import x509

from frost_sidecar.channel import certificate_names
from frost_sidecar.contract import STATUSES
from frost_sidecar.errors import ConfigError, Refusal
from frost_sidecar.following import Following, read_once
from frost_sidecar.identity import ServerIdentity, client_context
from frost_sidecar.listener import Exchange, Limits, Listener
from frost_sidecar.model import TlsFiles
from frost_sidecar.revocation import Revocations
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.mount import WAYS, Way, put
from frost_sidecar.testing.sidecar import CLIENT_NAME, SERVER_NAME, MemorySidecar

BODY = {"msg_b64": "aGVhZGVyLnBheWxvYWQ="}
SECONDS = 10.0
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So often that files are also read while they do not fit."""
    monkeypatch.setattr("frost_sidecar.following.LOOK_SECONDS", 0.1)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = SECONDS) -> None:
    with anyio.fail_after(seconds):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await anyio.sleep(0.05)


@dataclass
class Served:
    """A listener with one path, which says whom it sees."""

    address: tuple[str, int]
    identity: ServerIdentity
    following: Following
    refused: list[Refusal] = field(default_factory=list)
    holds: anyio.Event | None = None

    async def handle(self, exchange: Exchange) -> web.Response:
        if self.holds is not None:
            await self.holds.wait()
        return web.Response(text=",".join(certificate_names(exchange.request)))


@asynccontextmanager
async def serving(files: TlsFiles, *, idle_seconds: float = 75.0) -> AsyncIterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as sock, Following() as following:
        identity = ServerIdentity(files)
        identity.follow(following.follow, "listener")
        served = Served(sock.getsockname(), identity, following)
        limits = Limits(1000, 5.0, 64, 2.0, idle_seconds=idle_seconds)
        async with Listener({("GET", "/names"): served.handle}, STATUSES, limits) as listener:
            await listener.listen(sock, identity, (), served.refused.append)
            yield served


class Wire:
    """One TLS connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def serial(self) -> int:
        """Of the server's certificate."""
        der = self.writer.get_extra_info("ssl_object").getpeercert(True)
        return x509.load_der_x509_certificate(der).serial_number

    async def ask(self) -> tuple[int, str, bool]:
        """Status, body (of a problem its reason) and whether the connection stays."""
        self.writer.write(b"GET /names HTTP/1.1\r\nHost: x\r\n\r\n")
        with anyio.fail_after(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = (await self.reader.readexactly(int(headers["content-length"]))).decode()
        status = int(lines[0].split()[1])
        said = json.loads(body)["reason"] if status == HTTPStatus.FORBIDDEN else body
        return status, said, headers.get("connection") != "close"


def client(files: TlsFiles | None, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca)
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


@asynccontextmanager
async def connected(address: tuple[str, int], context: ssl.SSLContext) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError), anyio.move_on_after(1):
            await writer.wait_closed()


async def is_refused(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    """In TLS 1.3 a client learns that its certificate was refused when it reads."""
    try:
        async with connected(address, context) as wire:
            await wire.ask()
    except (OSError, asyncio.IncompleteReadError):
        return True
    return False


async def serial_at(address: tuple[str, int], context: ssl.SSLContext) -> int:
    async with connected(address, context) as wire:
        return wire.serial


def serial_of(files: TlsFiles) -> int:
    return x509.load_pem_x509_certificates(files.cert.read_bytes())[0].serial_number


def contents(files: TlsFiles, ca: bytes | None = None) -> dict[str, bytes]:
    """The certificate first: for a while it has the old one's key."""
    return {
        "tls.crt": files.cert.read_bytes(),
        "tls.key": files.key.read_bytes(),
        "ca.crt": ca or files.ca.read_bytes(),
    }


def mounted(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")


# --- new certificates while requests run ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
async def test_a_certificate_is_renewed_while_callers_sign_and_none_notices(short_path: Path, way: Way) -> None:
    folder = short_path / "mount"
    files = mounted(folder)
    tls = {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)}
    sidecar = MemorySidecar(short_path, tcp=True, server={"tls": tls})
    put(folder, contents(sidecar.listener), way)
    answers: list[int] = []
    stop = False
    async with sidecar.serving() as unix:
        host, _, port = sidecar.addresses["bind"].rpartition(":")
        trusting = client(sidecar.client, sidecar.client.ca)

        async def call() -> None:
            async with sidecar.calling() as http:
                while not stop:
                    async with http.post("/sign", json=BODY) as response:
                        answers.append(response.status)
                        await response.read()

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(call)
            for round_ in range(3):
                new = sidecar.authority.issue(f"new-{round_}", [SERVER_NAME, "127.0.0.1"])
                for _ in way(folder, contents(new)):
                    await anyio.sleep(0.25)
                serial = serial_of(new)

                async def is_served(serial: int = serial) -> bool:
                    return await serial_at((host, int(port)), trusting) == serial

                await until(is_served)
            stop = True
        async with unix.get("/metrics") as response:
            text = await response.text()
    assert len(answers) > 50
    assert set(answers) == {200}
    assert 'frost_coordinator_reloads_total{result="ok",what="listener"}' in text
    [expiry] = re.findall(r'expiry_timestamp_seconds{use="listener"} (\S+)', text)
    assert float(expiry) == _end(new)


async def test_a_listener_can_be_opened_a_second_time(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.cluster.coordinator({"callers": sidecar.callers}) as coordinator:
        for _ in range(2):
            stop, ready = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(coordinator.serve, stop=stop, ready=ready))
                await ready.wait()
                sidecar.addresses = coordinator.addresses
                async with sidecar.calling() as http, http.post("/sign", json=BODY) as response:
                    assert response.status == 200
                assert "listener" in (await coordinator.readiness()).certificates
                stop.set()


async def test_an_old_connection_ends_with_its_next_answer(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files, mint = authority.issue("listener", ["127.0.0.1"]), authority.issue("mint", ["mint.test"])
    context = client(mint, files.ca)
    async with serving(files) as served, connected(served.address, context) as old:
        assert await old.ask() == (200, "DNS:mint.test", True)
        before = served.identity.context
        authority.issue("listener", ["127.0.0.1"])
        await until(lambda: served.identity.context is not before)
        assert await old.ask() == (200, "DNS:mint.test", False)
        assert await old.reader.read() == b""
        async with connected(served.address, context) as new:
            assert await new.ask() == (200, "DNS:mint.test", True)
            assert new.serial == serial_of(files) != old.serial


async def test_what_is_under_way_ends_as_it_would_have(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files, mint = authority.issue("listener", ["127.0.0.1"]), authority.issue("mint", ["mint.test"])
    async with serving(files) as served, connected(served.address, client(mint, files.ca)) as old:
        served.holds = anyio.Event()
        before = served.identity.context
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                assert await old.ask() == (200, "DNS:mint.test", False)

            tasks.start_soon(ask)
            authority.issue("listener", ["127.0.0.1"])
            await until(lambda: served.identity.context is not before)
            served.holds.set()


async def test_an_old_connection_that_asks_nothing_is_ended_by_the_idle_limit(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files, mint = authority.issue("listener", ["127.0.0.1"]), authority.issue("mint", ["mint.test"])
    async with serving(files, idle_seconds=2.0) as served, connected(served.address, client(mint, files.ca)) as old:
        before = served.identity.context
        authority.issue("listener", ["127.0.0.1"])
        await until(lambda: served.identity.context is not before)
        with anyio.fail_after(4):
            assert await old.reader.read() == b""


# --- authorities ------------------------------------------------------------------------------------------------------


async def test_an_authority_is_replaced_and_the_old_one_is_shut_out(tmp_path: Path) -> None:
    """Both authorities have one name, as those of a renewal have: the key tells them apart."""
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    both = old.certificate.read_bytes() + new.certificate.read_bytes()
    issued = old.issue("listener", ["127.0.0.1"])
    folder = tmp_path / "mount"
    put(folder, contents(issued))
    callers = {"old": old.issue("mint", ["mint.test"]), "new": new.issue("mint", ["mint.test"])}
    trusted = tmp_path / "both.crt"
    trusted.write_bytes(both)
    contexts = {name: client(files, trusted) for name, files in callers.items()}
    async with serving(mounted(folder)) as served:
        assert await is_refused(served.address, contexts["new"])
        put(folder, contents(issued, both))
        await until(lambda: _admits(served, contexts["new"]))
        put(folder, contents(new.issue("listener", ["127.0.0.1"]), both))
        for name in callers:
            assert not await is_refused(served.address, contexts[name])
        async with connected(served.address, contexts["old"]) as kept:
            assert await kept.ask() == (200, "DNS:mint.test", True)
            put(folder, contents(new.issue("listener", ["127.0.0.1"]), new.certificate.read_bytes()))
            await until(lambda: is_refused(served.address, contexts["old"]))
            assert (await kept.ask())[2] is False  # its last
            assert await kept.reader.read() == b""
        assert not await is_refused(served.address, contexts["new"])
    assert set(served.refused) == {"certificate-untrusted"}


async def _admits(served: Served, context: ssl.SSLContext) -> bool:
    return not await is_refused(served.address, context)


# --- files that cannot be used ----------------------------------------------------------------------------------------


BROKEN: Mapping[str, Callable[[Path, Authority], None]] = {
    "half a certificate": lambda folder, _: _cut(folder / "tls.crt"),
    "half a key": lambda folder, _: _cut(folder / "tls.key"),
    "another key": lambda folder, authority: _copy(authority.issue("other", ["x"]).key, folder / "tls.key"),
    "no certificate": lambda folder, _: (folder / "tls.crt").unlink(),
    "no authority": lambda folder, _: put(folder, {"ca.crt": b""}, WAYS["in place"]),
    "an expired certificate": lambda folder, authority: put(
        folder, contents(authority.issue("late", ["127.0.0.1"], lifetime=-HOUR)), WAYS["in place"]
    ),
    "a certificate of later": lambda folder, authority: put(
        folder, contents(authority.issue("early", ["127.0.0.1"], start=HOUR)), WAYS["in place"]
    ),
}


def _cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_files_leave_the_old_identity_and_mended_ones_are_taken(tmp_path: Path, kind: str) -> None:
    authority = Authority(tmp_path / "tls")
    folder = tmp_path / "mount"
    first = authority.issue("first", ["127.0.0.1"])
    put(folder, contents(first), WAYS["in place"])
    context = client(authority.issue("mint", ["mint.test"]), first.ca)
    async with serving(mounted(folder)) as served:
        BROKEN[kind](folder, authority)
        await until(lambda: "listener" in served.following.faults)
        assert served.following.faults["listener"].startswith("tls.")
        assert await serial_at(served.address, context) == serial_of(first)
        async with connected(served.address, context) as kept:
            assert await kept.ask() == (200, "DNS:mint.test", True)
        second = authority.issue("second", ["127.0.0.1"])
        put(folder, contents(second), WAYS["in place"])
        await until(lambda: not served.following.faults)
        assert await serial_at(served.address, context) == serial_of(second)


@pytest.mark.parametrize(
    ("file", "place"), [("tls.crt", "tls.cert"), ("tls.key", "tls.cert"), ("ca.crt", "tls.ca"), ("crl", "tls.crl")]
)
def test_broken_files_stop_the_start(tmp_path: Path, file: str, place: str) -> None:
    authority = Authority(tmp_path / "tls")
    put(tmp_path, {**contents(authority.issue("first", ["x"])), "crl": authority.revocations().encode()})
    (tmp_path / file).unlink()
    (tmp_path / file).touch(0o600)
    (tmp_path / file).write_text("-----BEGIN")
    with pytest.raises(ConfigError) as caught:
        ServerIdentity(replace(mounted(tmp_path), crl=tmp_path / "crl")).follow(read_once, "listener")
    assert caught.value.path == place


def test_an_identity_that_was_not_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before it was read"):
        _ = ServerIdentity(mounted(tmp_path)).context


# --- refused handshakes -----------------------------------------------------------------------------------------------


async def test_every_refused_handshake_is_counted_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    strangers = Authority(tmp_path / "strangers", name="strangers")
    files, good = authority.issue("listener", ["127.0.0.1"]), authority.issue("mint", ["mint.test"])
    late = authority.issue("late", ["mint.test"], lifetime=-HOUR)
    old = client(good, files.ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(files) as served:
        for context, reason in (
            (client(None, files.ca), "certificate-missing"),
            (client(strangers.issue("mint", ["mint.test"]), files.ca), "certificate-untrusted"),
            (client(late, files.ca), "certificate-expired"),
            (old, "handshake"),
        ):
            served.refused.clear()
            for _ in range(3):
                assert await is_refused(served.address, context)
            assert served.refused == [reason] * 3
        served.refused.clear()
        reader, writer = await asyncio.open_connection(*served.address)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert served.refused == ["handshake"]
        reader, writer = await asyncio.open_connection(*served.address)
        writer.close()  # a probe of a load balancer: nobody is refused
        await writer.wait_closed()
        assert not await is_refused(served.address, client(good, files.ca))
        assert served.refused == ["handshake"]
    assert caplog.text.count("handshake refused") == 4  # one of each reason


async def test_a_silent_client_is_a_handshake_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frost_sidecar.acceptor._HANDSHAKE_SECONDS", 0.3)
    async with serving(Authority(tmp_path).issue("listener", ["127.0.0.1"])) as served:
        reader, writer = await asyncio.open_connection(*served.address)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert served.refused == ["handshake"]
        writer.close()


async def test_refusals_are_said_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("frost_sidecar.acceptor._QUIET_SECONDS", 0.2)
    files = Authority(tmp_path).issue("listener", ["127.0.0.1"])
    with caplog.at_level(logging.WARNING):
        async with serving(files) as served:
            for _ in range(2):
                assert await is_refused(served.address, client(None, files.ca))
                await anyio.sleep(0.3)
    assert caplog.text.count("handshake refused") == 2


async def test_the_sidecar_counts_refused_handshakes(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    stranger = Authority(short_path / "other").issue("client", [CLIENT_NAME])
    async with sidecar.serving() as unix:
        async with sidecar.calling(stranger) as http:
            with pytest.raises(aiohttp.ClientError):
                await http.post("/sign", json=BODY)
        async with unix.get("/metrics") as response:
            assert 'frost_coordinator_refusals_total{reason="certificate-untrusted"} 1.0' in await response.text()


# --- certificates that end, are revoked, or are of another domain -----------------------------------------------------


async def test_a_certificate_that_ends_ends_its_kept_connection_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("listener", ["127.0.0.1"])
    short = authority.issue("mint", ["mint.test"], lifetime=dt.timedelta(seconds=3))
    async with serving(files) as served, connected(served.address, client(short, files.ca)) as kept:
        assert await kept.ask() == (200, "DNS:mint.test", True)
        await until(lambda: time.time() > _end(short))
        assert await kept.ask() == (403, "certificate-expired", True)


def _end(files: TlsFiles) -> float:
    return x509.load_pem_x509_certificates(files.cert.read_bytes())[0].not_valid_after_utc.timestamp()


def _with_lists(folder: Path, issued: TlsFiles, *lists: str) -> TlsFiles:
    put(folder, {**contents(issued), "crl": "".join(lists).encode()})
    return replace(mounted(folder), crl=folder / "crl")


async def test_a_revoked_certificate_is_refused_everywhere(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    issued = authority.issue("listener", ["127.0.0.1"])
    good, bad = authority.issue("good", ["good.test"]), authority.issue("bad", ["bad.test"])
    files = _with_lists(tmp_path / "mount", issued, authority.revocations())
    async with (
        serving(files) as served,
        connected(served.address, client(good, issued.ca)) as kept_good,
        connected(served.address, client(bad, issued.ca)) as kept_bad,
    ):
        assert await kept_good.ask() == (200, "DNS:good.test", True)
        assert await kept_bad.ask() == (200, "DNS:bad.test", True)
        authority.revoke(bad)
        put(tmp_path / "mount", {**contents(issued), "crl": authority.revocations().encode()})
        await until(lambda: is_refused(served.address, client(bad, issued.ca)))
        assert set(served.refused) == {"certificate-revoked"}
        assert await kept_bad.ask() == (403, "certificate-revoked", False)
        assert await kept_good.ask() == (200, "DNS:good.test", False)
        assert not await is_refused(served.address, client(good, issued.ca))
        assert set(served.following.expiries) == {"listener", "listener.crl"}
        assert abs(served.following.expiries["listener.crl"] - time.time() - 86400) < 60


async def test_a_new_list_holds_for_kept_connections_although_the_certificate_is_broken(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    issued, bad = authority.issue("listener", ["127.0.0.1"]), authority.issue("bad", ["bad.test"])
    files = _with_lists(tmp_path / "mount", issued, authority.revocations())
    async with serving(files) as served:
        files.cert.resolve().write_text("-----BEGIN")
        await until(lambda: "listener" in served.following.faults)
        authority.revoke(bad)
        assert files.crl is not None
        files.crl.resolve().write_text(authority.revocations())
        await until(lambda: "listener.crl" in served.following.faults)
        async with connected(served.address, client(bad, issued.ca)) as wire:  # the handshake knows the old list alone
            assert (await wire.ask())[:2] == (403, "certificate-revoked")


async def test_a_list_that_is_out_of_date_lets_nobody_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    issued, good = authority.issue("listener", ["127.0.0.1"]), authority.issue("good", ["good.test"])
    short = authority.revocations(lifetime=dt.timedelta(seconds=4))
    files = _with_lists(tmp_path / "mount", issued, short)
    context = client(good, issued.ca)
    async with serving(files) as served, connected(served.address, context) as kept:
        assert await kept.ask() == (200, "DNS:good.test", True)
        await until(lambda: time.time() > served.following.expiries["listener.crl"])
        assert await kept.ask() == (403, "certificate-untrusted", True)
        assert await is_refused(served.address, context)
        assert served.refused == ["certificate-untrusted"]
        put(tmp_path / "mount", {**contents(issued), "crl": authority.revocations().encode()})
        await until(lambda: _admits(served, context))


async def test_a_list_that_nobody_can_use_is_not_taken_with_a_new_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    issued, good = authority.issue("listener", ["127.0.0.1"]), authority.issue("good", ["good.test"])
    files = _with_lists(tmp_path / "mount", issued, authority.revocations())
    async with serving(files) as served:
        old = authority.revocations(start=-2 * dt.timedelta(days=1))
        renewed = authority.issue("renewed", ["127.0.0.1"])
        put(tmp_path / "mount", {**contents(renewed), "crl": old.encode()})
        await until(lambda: {"listener", "listener.crl"} <= set(served.following.faults))
        assert not await is_refused(served.address, client(good, issued.ca))
        put(tmp_path / "mount", {**contents(renewed), "crl": authority.revocations().encode()})
        await until(lambda: not served.following.faults)
        assert await serial_at(served.address, client(good, issued.ca)) == serial_of(renewed)


async def test_every_authority_of_a_chain_needs_a_list(tmp_path: Path) -> None:
    root = Authority(tmp_path / "root", name="root")
    below = Authority(tmp_path / "below", name="below", above=root)
    issued = root.issue("listener", ["127.0.0.1"])
    near, far = root.issue("near", ["near.test"]), below.issue("far", ["far.test"])
    for lists, admits in (
        ([root.revocations()], {"near": True, "far": False}),
        ([root.revocations(), below.revocations()], {"near": True, "far": True}),
    ):
        files = _with_lists(tmp_path / "mount", issued, *lists)
        async with serving(files) as served:
            for name, caller in {"near": near, "far": far}.items():
                assert await is_refused(served.address, client(caller, root.certificate)) is not admits[name]
            assert set(served.refused) <= {"certificate-untrusted"}
    root.revoke_authority(below)
    async with serving(_with_lists(tmp_path / "mount", issued, root.revocations(), below.revocations())) as served:
        assert await is_refused(served.address, client(far, root.certificate))
        assert served.refused == ["certificate-revoked"]


def _lists(tmp_path: Path) -> dict[str, tuple[str, str]]:
    authority = Authority(tmp_path / "tls")
    impostor = Authority(tmp_path / "impostor")  # of the same name
    good = authority.revocations()
    return {
        "empty": ("", "no revocation list"),
        "a certificate": (authority.certificate.read_text(), "no revocation list"),
        "a list and a certificate": (good + impostor.certificate.read_text(), "nothing else"),
        "half": (good[: len(good) // 2], "not whole"),
        "one and a half": (good + good[: len(good) // 2], "not whole"),
        "garbage": (good.replace("M", "A"), "cannot use"),
        "expired": (authority.revocations(start=-HOUR, lifetime=HOUR / 2), "expired at"),
        "not yet": (authority.revocations(start=HOUR), "check the clock"),
        "of an impostor": (impostor.revocations(), "not signed by it"),
        "a delta": (authority.revocations(extension=x509.DeltaCRLIndicator(1)), "delta"),
        "indirect": (authority.revocations(extension=_INDIRECT), "indirect"),
    }


_INDIRECT = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=False,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=True,
    only_contains_attribute_certs=False,
)


def test_files_that_hold_no_usable_list_are_refused(tmp_path: Path) -> None:
    issued = Authority(tmp_path / "own").issue("listener", ["127.0.0.1"])
    for kind, (text, said) in _lists(tmp_path).items():
        files = _with_lists(tmp_path / "mount", replace(issued, ca=tmp_path / "tls" / "ca.crt"), text)
        with pytest.raises(ConfigError, match=said) as caught:
            ServerIdentity(files).follow(read_once, "listener")
        assert caught.value.path == "tls.crl", kind


def test_of_two_lists_the_newer_counts(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    issued = authority.issue("listener", ["127.0.0.1"])
    old = authority.revocations(start=-HOUR, lifetime=HOUR / 2)
    for lists in ((old, authority.revocations()), (authority.revocations(), old)):
        expiries: dict[str, float] = {}
        with Following(expires=expiries.__setitem__) as following:
            ServerIdentity(_with_lists(tmp_path / "mount", issued, *lists)).follow(following.follow, "x")
        assert expiries["x.crl"] > time.time()


def test_authorities_of_one_name_have_a_list_each(tmp_path: Path) -> None:
    """As those of a renewal have: the newer list is the other key's."""
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    bad, good = old.issue("bad", ["bad.test"]), new.issue("good", ["good.test"])
    old.revoke(bad)
    put(
        tmp_path / "mount",
        {
            "ca.crt": old.certificate.read_bytes() + new.certificate.read_bytes(),
            "crl": (old.revocations(start=-HOUR, lifetime=2 * HOUR) + new.revocations()).encode(),
        },
    )
    revocations = Revocations.read(tmp_path / "mount" / "crl", tmp_path / "mount" / "ca.crt", "tls")
    certificates = [x509.load_pem_x509_certificate(each.cert.read_bytes()) for each in (bad, good)]
    assert [revocations.has(each) for each in certificates] == [True, False]
    assert abs(revocations.expires - time.time() - 3600) < 60


def test_an_authority_without_a_list_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_list, without = Authority(tmp_path / "a", name="with"), Authority(tmp_path / "b", name="without")
    issued = with_list.issue("listener", ["127.0.0.1"])
    put(tmp_path, {"both.crt": with_list.certificate.read_bytes() + without.certificate.read_bytes()})
    files = _with_lists(tmp_path / "mount", replace(issued, ca=tmp_path / "both.crt"), with_list.revocations())
    ServerIdentity(files).follow(read_once, "listener")
    assert [vars(each)["authority"] for each in caplog.records] == ["CN=without"]


@pytest.mark.parametrize(
    ("sans", "said"),
    [
        (["spiffe://mint.example/mint"], "URI:spiffe://mint.example/mint"),
        (["spiffe://mint.example/mint", "mint.test"], "URI:spiffe://mint.example/mint,DNS:mint.test"),
        (["mint.test"], None),
        (["spiffe://other.example/mint"], None),
        (["spiffe://mint.example/a", "spiffe://mint.example/b"], None),
        (["spiffe://mint.example"], None),
    ],
)
async def test_a_trust_domain_can_be_asked_for(tmp_path: Path, sans: list[str], said: str | None) -> None:
    authority = Authority(tmp_path)
    files = replace(authority.issue("listener", ["127.0.0.1"]), trust_domain="mint.example")
    context = client(authority.issue("mint", sans), files.ca)
    async with serving(files) as served, connected(served.address, context) as wire:
        assert await wire.ask() == ((200, said, True) if said else (403, "certificate-trust-domain", True))


async def test_what_holds_for_names_holds_for_places(short_path: Path) -> None:
    """Who is of another trust domain takes the few places of those that may not call, whatever its name."""
    name = "spiffe://mint.example/mint"
    folder = short_path / "tls"  # where it puts its certificates
    files = {"cert": f"{folder}/listener.crt", "key": f"{folder}/listener.key", "ca": f"{folder}/ca.crt"}
    server = {"tls": {**files, "trust_domain": "mint.example"}, "client_names": [f"URI:{name}"]}
    sidecar = MemorySidecar(short_path, tcp=True, server={"max_connections": 16, **server})
    good = sidecar.authority.issue("good", [name])
    wrong = sidecar.authority.issue("wrong", [name, "spiffe://mint.example/other"])
    async with sidecar.serving() as unix:
        host, _, port = sidecar.addresses["bind"].rpartition(":")
        context = client(wrong, wrong.ca)
        streams = [await asyncio.open_connection(host, int(port), ssl=context) for _ in range(6)]

        async def few_are_left() -> bool:
            return [reader.at_eof() for reader, _ in streams] == [False] * 2 + [True] * 4

        await until(few_are_left)
        async with sidecar.calling(good) as http, http.post("/sign", json=BODY) as response:
            assert response.status == 200
        for _, writer in streams:
            writer.close()
        async with sidecar.calling(wrong) as http, http.post("/sign", json=BODY) as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["reason"]) == (403, "certificate-trust-domain")
        async with unix.get("/metrics") as response:
            assert 'refusals_total{reason="certificate-trust-domain"} 1.0' in await response.text()
    assert [each.caller for each in sidecar.cluster.records] == [f"tcp:URI:{name} mint"]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o646])
def test_a_private_key_that_every_user_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    files = Authority(tmp_path).issue("listener", ["localhost"])
    ServerIdentity(files).follow(read_once, "listener")
    files.key.chmod(mode)
    with pytest.raises(ConfigError, match=rf"^tls\.key: .* is open to every user \(mode {mode:04o}\)"):
        ServerIdentity(files).follow(read_once, "listener")
    with pytest.raises(ConfigError, match=r"^tls\.key: "):
        client_context(files)
    files.key.chmod(0o440)
    ServerIdentity(files).follow(read_once, "listener")


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt", "crl"])
def test_what_is_no_file_stops_the_start_and_nobody_waits_for_it(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path / "tls")
    put(tmp_path, {**contents(authority.issue("first", ["x"])), "crl": authority.revocations().encode()})
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name, 0o600)
    with pytest.raises(ConfigError, match=r"is not a regular file|cannot use"):
        ServerIdentity(replace(mounted(tmp_path), crl=tmp_path / "crl")).follow(read_once, "listener")


async def test_no_session_is_handed_out_that_would_skip_the_look_at_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    files, mint = authority.issue("listener", ["127.0.0.1"]), authority.issue("mint", ["mint.test"])
    async with serving(files) as served, connected(served.address, client(mint, files.ca)) as wire:
        assert (await wire.ask())[0] == HTTPStatus.OK
        session = wire.writer.get_extra_info("ssl_object").session
        assert session is None or not session.has_ticket
