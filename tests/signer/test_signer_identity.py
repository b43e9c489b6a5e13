"""Whom a real signer lets call, by certificate, while its files change: refused with the reason, and counted."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest

from frost_sidecar.errors import ConfigError
from frost_sidecar.model import TlsFiles
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.mount import put
from frost_sidecar.wire import INFO_PATH

if TYPE_CHECKING:
    from tests.signer.conftest import Rig, Server

REFUSED = (aiohttp.ClientError, ConnectionError, ssl.SSLError)
SPIFFE = "spiffe://mint.example/coordinator"


class Mounted:
    """The signer's TLS files, in a folder that changes as a mounted secret does."""

    def __init__(self, rig: Rig, authority: Authority, **more: Any) -> None:
        self.rig = rig
        self.authority = authority
        self.folder = rig.folder / "mount"
        self.more = more
        self.put()

    def put(self) -> None:
        files = self.authority.issue("node", ["127.0.0.1", "localhost"])
        named = {"tls.crt": files.cert, "tls.key": files.key, "ca.crt": files.ca}
        put(
            self.folder,
            {**{name: path.read_bytes() for name, path in named.items()}, "crl": self.authority.revocations().encode()},
        )

    @property
    def settings(self) -> dict[str, str]:
        files = {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
        return {name: str(self.folder / path) for name, path in files.items()} | self.more

    def client(self, files: TlsFiles) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(files.cert, files.key)
        return context


@asynccontextmanager
async def kept(server: Server, context: ssl.SSLContext) -> AsyncIterator[Callable[[], Any]]:
    """Requests that go over one connection, as long as the signer keeps it."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=1)) as session:

        async def ask() -> SimpleNamespace:
            headers = {"Authorization": "Bearer " + server.rig.token(b"")}
            url = f"https://{server.host}:{server.port}{INFO_PATH}"
            async with session.get(url, headers=headers) as response:
                body = await response.json(content_type=None)
                return SimpleNamespace(status=response.status, headers=response.headers, json=body)

        yield ask


async def refusals(server: Server, context: ssl.SSLContext) -> str:
    return (await server.send("GET", "/metrics", tls=context)).body.decode()


async def becomes(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(10):
        while not await condition():
            await anyio.sleep(0.1)


async def test_a_renewed_certificate_is_served_and_the_old_connection_ends_in_order(rig: Rig, tmp_path: Path) -> None:
    mounted = Mounted(rig, Authority(tmp_path / "tls"))
    context = mounted.client(mounted.authority.issue("coordinator", ["coordinator.test"]))
    async with rig.serving(tls=mounted.settings) as server, kept(server, context) as ask:
        assert (await ask()).status == 200
        mounted.put()

        async def is_announced() -> bool:
            reply = await ask()
            assert reply.status == 200
            return "close" in reply.headers.getall("Connection", [])

        await becomes(is_announced)
        reply = await ask()
        assert (reply.status, reply.headers.get("Connection")) == (200, None)
        text = await refusals(server, context)
    assert 'frost_signer_reloads_total{result="ok",what="listener"} 1.0' in text
    assert 'frost_signer_certificate_expiry_timestamp_seconds{use="listener"}' in text


async def test_a_revoked_coordinator_is_shut_out_on_every_road(rig: Rig, tmp_path: Path) -> None:
    mounted = Mounted(rig, Authority(tmp_path / "tls"))
    mounted.more = {"crl": str(mounted.folder / "crl")}
    captured = mounted.authority.issue("captured", ["coordinator.test"])
    other = mounted.client(mounted.authority.issue("other", ["coordinator.test"]))
    context = mounted.client(captured)
    async with rig.serving(tls=mounted.settings) as server, kept(server, context) as ask:
        assert (await ask()).status == 200
        mounted.authority.revoke(captured)
        mounted.put()

        async def is_refused() -> bool:
            try:
                reply = await ask()
            except REFUSED:  # its connection was closed in order, and a new one was not to be had
                return True
            if reply.status == 403:
                assert reply.json["reason"] == "certificate-revoked"
            return False

        await becomes(is_refused)
        with pytest.raises(REFUSED):
            await server.send("GET", INFO_PATH, tls=context)
        assert (await server.send("GET", INFO_PATH, tls=other)).status == 200
        text = await refusals(server, other)
    assert 'frost_signer_refusals_total{reason="certificate-revoked"}' in text
    assert 'use="listener.crl"' in text


async def test_a_coordinator_whose_certificate_ends_is_refused_on_its_kept_connection(rig: Rig, tmp_path: Path) -> None:
    mounted = Mounted(rig, Authority(tmp_path / "tls"))
    short = mounted.authority.issue("short", ["coordinator.test"], lifetime=dt.timedelta(seconds=3))
    good = mounted.client(mounted.authority.issue("good", ["coordinator.test"]))
    async with rig.serving(tls=mounted.settings) as server, kept(server, mounted.client(short)) as ask:
        assert (await ask()).status == 200

        async def is_refused() -> bool:
            reply = await ask()
            return (reply.status, reply.json.get("reason")) == (403, "certificate-expired")

        await becomes(is_refused)
        assert 'refusals_total{reason="certificate-expired"}' in await refusals(server, good)


@pytest.mark.parametrize(
    ("sans", "name", "reason"),
    [
        ([SPIFFE], f"URI:{SPIFFE}", None),
        ([SPIFFE, "coordinator.test"], "DNS:coordinator.test", None),
        ([SPIFFE], "DNS:coordinator.test", "certificate-name"),
        (["spiffe://mint.example/other"], f"URI:{SPIFFE}", "certificate-name"),
        (["coordinator.test"], "DNS:coordinator.test", "certificate-trust-domain"),
        ([SPIFFE, "spiffe://mint.example/other"], f"URI:{SPIFFE}", "certificate-trust-domain"),
        (["spiffe://other.example/coordinator"], "URI:spiffe://other.example/coordinator", "certificate-trust-domain"),
    ],
)
async def test_a_trust_domain_holds_besides_the_names(
    rig: Rig, tmp_path: Path, sans: list[str], name: str, reason: str | None
) -> None:
    mounted = Mounted(rig, Authority(tmp_path / "tls"), trust_domain="mint.example")
    context = mounted.client(mounted.authority.issue("caller", sans))
    async with rig.serving(tls=mounted.settings, clients={"names": [name]}) as server:
        reply = await server.send("GET", INFO_PATH, tls=context)
        if reason is None:
            assert reply.status == 200
            return
        assert (reply.status, reply.slug, reply.json["reason"]) == (403, "denied", reason)
        assert f'frost_signer_refusals_total{{reason="{reason}"}} 1.0' in await refusals(server, context)


async def test_refused_handshakes_are_counted(rig: Rig, tmp_path: Path) -> None:
    mounted = Mounted(rig, Authority(tmp_path / "tls"))
    good = mounted.authority.issue("good", ["coordinator.test"])
    stranger = Authority(tmp_path / "strangers", name="strangers").issue("stranger", ["coordinator.test"])
    async with rig.serving(tls=mounted.settings) as server:
        with pytest.raises(REFUSED):
            await server.send("GET", INFO_PATH, tls=mounted.client(replace(stranger, ca=good.ca)))
        with pytest.raises(REFUSED):
            await server.send("GET", INFO_PATH, tls=ssl.create_default_context(cafile=str(good.ca)))
        text = await refusals(server, mounted.client(good))
    for reason in ("certificate-untrusted", "certificate-missing"):
        assert f'frost_signer_refusals_total{{reason="{reason}"}}' in text


@pytest.mark.parametrize(
    ("setting", "path", "said"),
    [({"crl": "/nonexistent"}, "tls.crl", "cannot"), ({"cert": "/nonexistent"}, "tls.cert", "cannot use")],
)
async def test_files_that_cannot_be_used_stop_the_start(
    rig: Rig, tmp_path: Path, setting: dict[str, str], path: str, said: str
) -> None:
    mounted = Mounted(rig, Authority(tmp_path / "tls"))
    with pytest.raises(ConfigError, match=said) as caught:
        async with rig.serving(tls={**mounted.settings, **setting}):
            raise AssertionError("it began")
    assert caught.value.path == path
