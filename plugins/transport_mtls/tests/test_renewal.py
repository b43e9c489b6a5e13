"""The transport's files change while calls run: real listeners as signers have them, real handshakes."""

import datetime as dt
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from cryptography import x509
from frost_sidecar_transport_mtls import MtlsTransport, PinnedContexts, TlsIdentity, make_transport

from frost_sidecar.channel import certificate_names
from frost_sidecar.errors import ConfigError, TransportError
from frost_sidecar.following import Follow, Following, read_once
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.identity import ServerIdentity
from frost_sidecar.listener import Exchange, Limits, Listener
from frost_sidecar.model import Answer, Call, Signer, TlsFiles
from frost_sidecar.process import convert
from frost_sidecar.signer.service import STATUSES
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.mount import WAYS, Way, put

HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So often that files are also read while they do not fit."""
    monkeypatch.setattr("frost_sidecar.following.LOOK_SECONDS", 0.1)


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = 10.0) -> None:
    with anyio.fail_after(seconds):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await anyio.sleep(0.05)


@dataclass
class Node:
    """A listener as a signer has it; notes which certificate each request came with."""

    port: int
    serials: list[int] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    holds: anyio.Event | None = None

    async def handle(self, exchange: Exchange) -> web.Response:
        certificate_names(exchange.request)
        await exchange.read_body()
        tls = exchange.request.get_extra_info("ssl_object")
        self.serials.append(x509.load_der_x509_certificate(tls.getpeercert(True)).serial_number)
        self.connections.add(exchange.request.get_extra_info("peername")[1])
        if self.holds is not None:
            await self.holds.wait()
        return web.Response(body=b"{}")

    def has(self, serial: int) -> bool:
        return serial in self.serials

    def has_answered(self, count: int) -> bool:
        return len(self.serials) >= count

    def signer(self, server_name: str = "signer-1.test") -> Signer:
        return Signer(1, "signer-1", f"https://127.0.0.1:{self.port}", "ad-1", server_name)


@asynccontextmanager
async def node(files: TlsFiles, following: Following | None = None) -> AsyncIterator[Node]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        identity = ServerIdentity(files)
        identity.follow(following.follow if following else read_once, "listener")
        served = Node(sock.getsockname()[1])
        limits = Limits(10_000, 5.0, 64, 2.0)
        async with Listener({("POST", "/v1/shares"): served.handle}, STATUSES, limits) as listener:
            await listener.listen(sock, identity)
            yield served


def context(files: TlsFiles, follow: Follow, *names: str) -> PluginContext:
    signers = tuple(Signer(i, name, "https://x", "ad-1", name) for i, name in enumerate(names or ("signer-1.test",), 1))
    return PluginContext(
        "transport_mtls", "coordinator", False, files, signers, lambda kind: convert({}, kind), Path, follow
    )


@asynccontextmanager
async def transport(files: TlsFiles, follow: Follow, *names: str) -> AsyncIterator[MtlsTransport]:
    made = make_transport(context(files, follow, *names))
    assert isinstance(made, MtlsTransport)
    async with made:
        yield made


CALL = Call("POST", "/v1/shares", b'{"x":1}', {"Authorization": "Bearer x"}, 1000)


def contents(files: TlsFiles, **more: str) -> dict[str, bytes]:
    named = {"tls.crt": files.cert.read_bytes(), "tls.key": files.key.read_bytes(), "ca.crt": files.ca.read_bytes()}
    return named | {name: text.encode() for name, text in more.items()}


def mounted(folder: Path, crl: str | None = None) -> TlsFiles:
    return TlsFiles(folder / "tls.crt", folder / "tls.key", folder / "ca.crt", folder / crl if crl else None)


async def outcome(each: MtlsTransport, signer: Signer) -> str:
    try:
        return str((await each.call(signer, CALL)).status)
    except TransportError as error:
        return f"{error.kind}: {error.detail}"


def certificate(files: TlsFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificates(files.cert.read_bytes())[0]


async def becomes(each: MtlsTransport, signer: Signer, said: str) -> None:
    async def is_so() -> bool:
        return said in await outcome(each, signer)

    await until(is_so)


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
async def test_both_sides_are_renewed_while_calls_run_and_none_fails(
    tmp_path: Path, authority: Authority, way: Way
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    put(ours, contents(authority.issue("first", ["coordinator.test"])), way)
    put(theirs, contents(authority.issue("node", ["signer-1.test"])), way)
    answers: list[Answer] = []
    stop = False
    with Following() as following, Following() as other:
        async with (
            node(mounted(theirs), other) as served,
            transport(mounted(ours), following.follow) as each,
            anyio.create_task_group() as tasks,
        ):

            async def call() -> None:
                while not stop:
                    answers.append(await each.call(served.signer(), CALL))

            for _ in range(4):
                tasks.start_soon(call)
            for turn in range(2):
                new = authority.issue(f"next-{turn}", ["coordinator.test"])
                files = contents(new), contents(authority.issue("node", ["signer-1.test"]))
                for _ in zip(way(ours, files[0]), way(theirs, files[1]), strict=True):
                    await anyio.sleep(0.25)
                serial = certificate(new).serial_number
                await until(partial(served.has, serial))
                count = len(served.serials)
                await until(partial(served.has_answered, count + 50))
                assert set(served.serials[count + 10 :]) == {serial}  # and nothing comes with the old one any more
            stop = True
    assert len(answers) > 100
    assert {answer.status for answer in answers} == {200}


async def test_what_is_under_way_ends_on_its_old_connection(tmp_path: Path, authority: Authority) -> None:
    files = authority.issue("own", ["coordinator.test"])
    first = certificate(files).serial_number
    with Following() as following:
        async with (
            node(authority.issue("node", ["signer-1.test"])) as served,
            transport(files, following.follow) as each,
            anyio.create_task_group() as tasks,
        ):
            served.holds = anyio.Event()
            answers: list[Answer] = []

            async def call() -> None:
                answers.append(await each.call(served.signer(), CALL))

            tasks.start_soon(call)
            await until(lambda: served.serials == [first])
            before = each._contexts.get("signer-1.test")
            authority.issue("own", ["coordinator.test"])
            await until(lambda: each._contexts.get("signer-1.test") is not before)
            tasks.start_soon(call)
            await until(lambda: len(served.serials) == 2)
            served.holds.set()
    assert [answer.status for answer in answers] == [200, 200]
    assert served.serials == [first, certificate(files).serial_number]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_no_call_goes_over_a_connection_whose_certificate_is_about_to_end(
    tmp_path: Path, authority: Authority, whose: str
) -> None:
    short, long = dt.timedelta(seconds=8), HOUR
    files = authority.issue("own", ["coordinator.test"], lifetime=short if whose == "ours" else long)
    node_files = authority.issue("node", ["signer-1.test"], lifetime=short if whose == "theirs" else long)
    ends = certificate(files if whose == "ours" else node_files).not_valid_after_utc.timestamp()
    async with node(node_files) as served, transport(files, read_once) as each:
        for _ in range(3):
            await each.call(served.signer(), CALL)
        assert len(served.connections) == 1
        await until(lambda: time.time() > ends - 5.0)
        await each.call(served.signer(), CALL)
        assert (len(served.serials), len(served.connections)) == (4, 2)
        await until(lambda: time.time() > ends)
        with pytest.raises(TransportError) as caught:
            await each.call(served.signer(), CALL)
        assert caught.value.kind in {"tls", "unreachable"}


async def test_an_authority_is_replaced_through_a_bundle_of_both(tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    both = (old.certificate.read_text() + new.certificate.read_text()).encode()
    folder = tmp_path / "mount"
    ours = old.issue("own", ["coordinator.test"])
    put(folder, contents(ours))
    trusting = tmp_path / "both.crt"
    trusting.write_bytes(both)
    signer_files = {name: each.issue("node", ["signer-1.test"]) for name, each in {"old": old, "new": new}.items()}
    with Following() as following:
        async with (
            node(replace(signer_files["old"], ca=trusting)) as before,
            node(replace(signer_files["new"], ca=trusting)) as after,
            transport(mounted(folder), following.follow) as each,
        ):
            assert await outcome(each, before.signer()) == "200"
            assert "tls: " in await outcome(each, after.signer())
            put(folder, {**contents(ours), "ca.crt": both})
            await becomes(each, after.signer(), "200")
            assert await outcome(each, before.signer()) == "200"
            put(folder, {**contents(new.issue("own", ["coordinator.test"])), "ca.crt": new.certificate.read_bytes()})
            await becomes(each, before.signer(), "its certificate was refused")
            assert await outcome(each, after.signer()) == "200"


async def test_broken_files_leave_the_old_identity_and_mended_ones_are_taken(
    tmp_path: Path, authority: Authority
) -> None:
    first = authority.issue("first", ["coordinator.test"])
    folder = tmp_path / "mount"
    put(folder, contents(first), WAYS["in place"])
    with Following() as following:
        async with (
            node(authority.issue("node", ["signer-1.test"])) as served,
            transport(mounted(folder), following.follow) as each,
        ):
            for break_it in (
                lambda: (folder / "tls.crt").write_text("-----BEGIN"),
                (folder / "tls.key").unlink,
                lambda: put(folder, contents(authority.issue("late", ["x"], lifetime=-HOUR)), WAYS["in place"]),
                lambda: put(folder, contents(authority.issue("early", ["x"], start=HOUR)), WAYS["in place"]),
            ):
                put(folder, contents(first), WAYS["in place"])
                await until(lambda: not following.faults)
                break_it()
                await until(lambda: "tls" in following.faults)
                assert (await each.call(served.signer(), CALL)).status == 200
            second = authority.issue("second", ["coordinator.test"])
            put(folder, contents(second), WAYS["in place"])
            await until(lambda: not following.faults)
            await each.call(served.signer(), CALL)
    assert set(served.serials[:-1]) == {certificate(first).serial_number}
    assert served.serials[-1] == certificate(second).serial_number
    assert following.expiries["tls"] == certificate(second).not_valid_after_utc.timestamp()


async def test_a_revoked_signer_is_called_no_more(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    good, bad = (authority.issue(name, [f"{name}.test"]) for name in ("good", "bad"))
    folder = tmp_path / "mount"
    ours = contents(authority.issue("own", ["coordinator.test"]))
    put(folder, {**ours, "crl": authority.revocations().encode()})
    with Following() as following:
        async with (
            node(good) as honest,
            node(bad) as captured,
            transport(mounted(folder, crl="crl"), following.follow, "good.test", "bad.test") as each,
        ):
            assert await outcome(each, honest.signer("good.test")) == "200"
            assert await outcome(each, captured.signer("bad.test")) == "200"
            authority.revoke(bad)
            put(folder, {**ours, "crl": authority.revocations().encode()})
            await becomes(each, captured.signer("bad.test"), "tls: ")
            assert "certificate revoked" in await outcome(each, captured.signer("bad.test"))
            assert await outcome(each, honest.signer("good.test")) == "200"
            assert set(following.expiries) == {"tls", "crl"}


async def test_a_list_that_nobody_can_use_is_not_taken_with_a_new_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    folder = tmp_path / "mount"
    put(folder, {**contents(authority.issue("own", ["coordinator.test"])), "crl": authority.revocations().encode()})
    with Following() as following:
        async with (
            node(authority.issue("node", ["signer-1.test"])) as served,
            transport(mounted(folder, crl="crl"), following.follow) as each,
        ):
            old = authority.revocations(start=-2 * dt.timedelta(days=1)).encode()
            put(folder, {**contents(authority.issue("new", ["coordinator.test"])), "crl": old})
            await until(lambda: {"tls", "crl"} <= set(following.faults))
            assert await outcome(each, served.signer()) == "200"


async def test_a_list_that_is_out_of_date_trusts_nobody(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    folder = tmp_path / "mount"
    short = authority.revocations(lifetime=dt.timedelta(seconds=5))
    put(folder, {**contents(authority.issue("own", ["coordinator.test"])), "crl": short.encode()})
    async with (
        node(authority.issue("node", ["signer-1.test"])) as served,
        transport(mounted(folder, crl="crl"), read_once) as each,
    ):
        assert (await each.call(served.signer(), CALL)).status == 200
        await becomes(each, served.signer(), "CRL has expired")


@pytest.mark.parametrize("text", ["", "-----BEGIN X509 CRL-----"])
def test_a_file_without_a_list_stops_the_start(tmp_path: Path, authority: Authority, text: str) -> None:
    put(tmp_path, contents(authority.issue("own", ["x"]), crl=text))
    with pytest.raises(ConfigError) as caught:
        make_transport(context(mounted(tmp_path, crl="crl"), read_once))
    assert caught.value.path == "tls.crl"


@pytest.mark.parametrize(
    ("sans", "pin", "said"),
    [
        (["spiffe://frost.test/signer/1"], "spiffe://frost.test/signer/1", None),
        (["spiffe://frost.test/signer/1", "signer-1.test"], "signer-1.test", None),
        (["signer-1.test"], "signer-1.test", "0 URIs"),
        (["spiffe://other.test/signer/1", "signer-1.test"], "signer-1.test", "not of the trust domain"),
        (["spiffe://other.test/signer/1"], "spiffe://other.test/signer/1", "not of the trust domain"),
        (["spiffe://frost.test/a", "spiffe://frost.test/b", "signer-1.test"], "signer-1.test", "2 URIs"),
    ],
)
async def test_signers_must_be_of_the_trust_domain_besides_their_name(
    authority: Authority, sans: list[str], pin: str, said: str | None
) -> None:
    ours = replace(authority.issue("own", ["spiffe://frost.test/coordinator"]), trust_domain="frost.test")
    async with node(authority.issue("node", sans)) as served, transport(ours, read_once, pin) as each:
        if said is None:
            assert (await each.call(served.signer(pin), CALL)).status == 200
            return
        with pytest.raises(TransportError, match=said) as caught:
            await each.call(served.signer(pin), CALL)
        assert caught.value.kind == "tls"
    assert served.serials == []


def test_names_that_come_later_have_the_new_identity_too(tmp_path: Path, authority: Authority) -> None:
    files = authority.issue("own", ["x"])
    with Following() as following:
        contexts = PinnedContexts.following(context(files, following.follow))
        before = contexts.get("later.test")
        assert contexts.get("later.test") is before
        authority.issue("own", ["x"], lifetime=HOUR)
        ends = certificate(files).not_valid_after_utc.timestamp()
        deadline = time.monotonic() + 10
        while contexts.get("later.test") is before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert contexts.get("later.test").ends == contexts.get("signer-1.test").ends == ends


def test_a_host_that_reads_nothing_is_found(authority: Authority) -> None:
    with pytest.raises(RuntimeError, match="has not called"):
        make_transport(context(authority.issue("own", ["x"]), lambda *_: None))


def test_a_private_key_that_every_user_can_read_is_refused(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("coordinator", ["coordinator.test"])
    TlsIdentity(files)
    files.key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"^tls\.key: .* is open to every user \(mode 0644\)"):
        TlsIdentity(files)
