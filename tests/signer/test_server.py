"""The real server: TLS, tokens in headers, health and metrics, restart, and the end."""

from __future__ import annotations

import asyncio
import hashlib
import io
import ipaddress
import json
import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import anyio
import anyio.lowlevel
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID
from frost_ed25519 import SigningPackage, round1

from frost_sidecar import channel, logs
from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import Authenticator, PluginContext
from frost_sidecar.model import Credentials
from frost_sidecar.plugins import hookimpl
from frost_sidecar.signer import SignerNode, serve
from frost_sidecar.testing.authority import Authority
from frost_sidecar.wire import (
    COMMITMENTS_PATH,
    INFO_PATH,
    SHARES_PATH,
    CommitmentsAnswer,
    CommitmentsRequest,
    SharesAnswer,
    SharesRequest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frost_sidecar.signer.reading import Reading
    from tests.signer.conftest import Rig, Server

REFUSED = (aiohttp.ClientError, ConnectionError, ssl.SSLError)
"""How a client sees that TLS was refused; with TLS 1.3 that may come as late as with the answer."""


async def test_a_signature_over_real_tls(rig: Rig) -> None:
    async with rig.serving() as server:
        stock = await server.commitments()
        session, finish = rig.group.session(stock.commitments[0], b"over TLS")
        reply = await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, [session], replenish=2))
        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
        answer = msgspec.json.decode(reply.body, type=SharesAnswer)
        assert (answer.identifier, answer.epoch, len(answer.commitments)) == (1, stock.epoch, 2)
        assert finish(answer.results[0].share or "")


async def test_many_sessions_in_one_request(rig: Rig) -> None:
    async with rig.serving() as server:
        stock = await server.commitments(64)
        pairs = [rig.group.session(each, b"m", f"s{index}") for index, each in enumerate(stock.commitments)]
        request = SharesRequest("default", stock.epoch, [session for session, _ in pairs], replenish=64)
        reply = await server.send("POST", SHARES_PATH, request)
        answer = msgspec.json.decode(reply.body, type=SharesAnswer)
        assert [result.session for result in answer.results] == [f"s{index}" for index in range(64)]
        for (_, finish), result in zip(pairs, answer.results, strict=True):
            assert finish(result.share or "")


async def test_info_health_and_metrics(rig: Rig) -> None:
    async with rig.serving() as server:
        info = (await server.send("GET", INFO_PATH)).json
        assert (info["name"], info["protocols"], list(info["keys"])) == ("signer-1", [1], ["default"])
        health = await server.send("GET", "/healthz", headers={})
        assert (health.status, health.body) == (200, b"ok")
        await server.commitments(3)
        metrics = (await server.send("GET", "/metrics", headers={})).body.decode()
        assert "frost_signer_commitments_outstanding 3.0" in metrics
        assert 'frost_signer_request_seconds_count{path="/v1/info",status="200"} 1.0' in metrics


async def test_shares_are_counted_by_result(rig: Rig) -> None:
    async with rig.serving() as server:
        stock = await server.commitments()
        session, _ = rig.group.session(stock.commitments[0])
        for _ in range(2):
            await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, [session]))
        metrics = (await server.send("GET", "/metrics", headers={})).body.decode()
        assert 'frost_signer_shares_total{key="default",result="ok"} 1.0' in metrics
        assert 'frost_signer_shares_total{key="default",result="unknown-commitment"} 1.0' in metrics


async def test_the_internal_listener_serves_health_and_metrics_alone(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with rig.serving(metrics_bind="127.0.0.1:0"), aiohttp.ClientSession() as session:
        [record] = [each for each in caplog.records if each.getMessage() == "listening"]
        base = f"http://{record.__dict__['metrics_address']}"
        async with session.get(f"{base}/healthz") as response:
            assert (response.status, await response.text()) == (200, "ok")
        async with session.get(f"{base}/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
            assert response.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await response.text()).endswith("# EOF\n")
        async with session.get(f"{base}{INFO_PATH}") as response:
            assert response.status == 404


async def test_a_client_without_a_certificate_is_refused(rig: Rig) -> None:
    async with rig.serving() as server:
        with pytest.raises(REFUSED):
            await server.send("GET", "/healthz", tls=server.client_context(None))
        await _still_serves(server)


async def test_a_certificate_of_another_authority_is_refused(rig: Rig, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign").issue("client", ["coordinator.test"])
    async with rig.serving() as server:
        with pytest.raises(REFUSED):
            await server.send("GET", "/healthz", tls=server.client_context(foreign))
        await _still_serves(server)


async def test_tls_1_2_is_refused(rig: Rig) -> None:
    async with rig.serving() as server:
        context = server.client_context(rig.certificate("coordinator.test"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(REFUSED):
            await server.send("GET", "/healthz", tls=context)
        await _still_serves(server)


async def test_plain_http_is_refused(rig: Rig) -> None:
    async with rig.serving() as server, aiohttp.ClientSession() as session:
        with pytest.raises(REFUSED):
            await session.get(f"http://{server.host}:{server.port}/healthz")
        await _still_serves(server)


async def test_a_certificate_of_another_name_is_denied(rig: Rig) -> None:
    async with rig.serving() as server:
        reply = await server.send(
            "GET", INFO_PATH, tls=server.client_context(rig.certificate("another.test", "10.0.0.1"))
        )
        assert (reply.status, reply.slug) == (403, "denied")


async def test_a_certificate_with_a_name_that_is_no_text_names_nobody(rig: Rig) -> None:
    good, bad = b"coordinator.test", b"\xff\xfe.test"
    names = b"".join(b"\x82" + bytes([len(each)]) + each for each in (good, bad))
    odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30" + bytes([len(names)]) + names)
    loop, failures = asyncio.get_running_loop(), list[object]()
    async with rig.serving() as server:
        loop.set_exception_handler(lambda _, context: failures.append(context.get("exception")))
        with pytest.raises(REFUSED):  # asyncio ends the connection, as it reads the names too
            await server.send("GET", INFO_PATH, tls=server.client_context(rig.odd_certificate("no-text", odd)))
        await _still_serves(server)
    assert all(isinstance(each, UnicodeDecodeError) for each in failures)


def test_names_that_cannot_be_read_are_none() -> None:
    def unreadable() -> None:
        b"\xff".decode()

    request: Any = SimpleNamespace(get_extra_info=lambda _: SimpleNamespace(getpeercert=unreadable))
    assert channel.certificate_names(request) == ()


async def test_names_of_other_kinds_are_no_identity(rig: Rig) -> None:
    mail, address = x509.RFC822Name("a@coordinator.test"), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))
    plain = x509.DNSName("coordinator.test")
    async with rig.serving(clients={}, dev=True, limits={"max_clients": 1}) as server:
        for name, kinds, status in (("mail", [mail, address], 403), ("more", [mail, plain, address], 200)):
            files = rig.odd_certificate(name, x509.SubjectAlternativeName(kinds))
            reply = await server.send(
                "POST", COMMITMENTS_PATH, {"key": "default", "count": 1}, tls=server.client_context(files)
            )
            assert reply.status == status
        await server.commitments()  # the same client, as there is a place for one only


async def test_sessions_of_tls_cannot_be_resumed(rig: Rig) -> None:
    async with rig.serving() as server, server.begin("GET /healthz HTTP/1.1\nHost: x") as reader:
        assert b" 200 " in await reader.readline()  # by now tickets would have come
        tls: ssl.SSLObject = reader._transport.get_extra_info("ssl_object")  # type: ignore[attr-defined]
        assert tls.version() == "TLSv1.3"
        assert not (tls.session and tls.session.has_ticket)


async def test_each_use_is_logged_with_the_hash_that_the_audit_log_has(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with rig.serving() as server:
        stock = await server.commitments()
        session, _ = rig.group.session(stock.commitments[0], b"a message")
        session = msgspec.structs.replace(session, request="the-request")
        for _ in range(2):
            await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, [session]))
    points = {
        int(name): round1.SigningCommitments(b64decode(each.hiding), b64decode(each.binding))
        for name, each in session.commitments.items()
    }
    package = SigningPackage(points, b"a message").serialize()
    [said] = [each.__dict__ for each in caplog.records if each.getMessage() == "shares"]
    assert said["shares"] == [
        {
            "commitment": stock.commitments[0].id,
            "key": "default",
            "package_sha256": hashlib.sha256(package).hexdigest(),
            "session": "s1",
            "request": "the-request",
        }
    ]
    assert said["levelname"] == "INFO"


async def test_the_uses_of_a_request_are_logged_together_in_lines_that_collectors_do_not_cut(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    logs.configure("info")
    async with rig.serving() as server:
        stock = await server.commitments(64)
        sessions = [
            msgspec.structs.replace(rig.group.session(each, b"m", f"{n:02}" + 62 * "s")[0], request="r" * 128)
            for n, each in enumerate(stock.commitments)
        ]
        await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, sessions))
    lines = [line for line in stream.getvalue().splitlines() if json.loads(line)["event"] == "shares"]
    assert [len(json.loads(line)["shares"]) for line in lines] == [32, 32]
    assert max(map(len, lines)) < 16 * 1024
    said = [each for line in lines for each in json.loads(line)["shares"]]
    assert [each["commitment"] for each in said] == [each.id for each in stock.commitments]
    assert [each["session"] for each in said] == [each.session for each in sessions]


async def test_refused_requests_are_logged_with_their_id(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with rig.serving() as server:
        await server.send("GET", INFO_PATH)
        await server.send("GET", INFO_PATH, headers={"X-Request-ID": "one"})
        headers = {"X-Request-ID": "two", "Authorization": "Bearer x.y"}
        await server.send("POST", COMMITMENTS_PATH, b"{}", headers=headers)
    said = [each.__dict__ for each in caplog.records if each.getMessage() == "request"]
    assert [(each["request_id"], each["path"], each["status"], each["levelname"]) for each in said] == [
        ("one", INFO_PATH, 401, "INFO"),
        ("two", COMMITMENTS_PATH, 401, "INFO"),
    ]


async def test_a_query_is_ignored_and_so_is_the_content_type(rig: Rig) -> None:
    async with rig.serving() as server:
        body = b'{"key":"default","count":1}'
        headers = {"Authorization": f"Bearer {rig.token(body)}", "Content-Type": "text/html"}
        assert (await server.send("POST", f"{COMMITMENTS_PATH}?key=other", body, headers=headers)).status == 200


async def test_a_spiffe_name_is_an_identity(rig: Rig) -> None:
    name = "spiffe://mint.test/coordinator"
    async with rig.serving(clients={"names": [f"URI:{name}"]}) as server:
        reply = await server.send("GET", INFO_PATH, tls=server.client_context(rig.certificate(name)))
        assert reply.status == 200


async def test_a_certificate_that_expires_on_an_open_connection_counts_no_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig.serving() as server:
        monkeypatch.setattr("ssl.cert_time_to_seconds", lambda _: time.time() - 1)
        assert (await server.send("GET", INFO_PATH)).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Basic TOKEN")],
        [("Authorization", "Bearer\tTOKEN")],
        [("Authorization", "Bearer TOKEN TOKEN")],
        [("Authorization", "Bearer TOKEN,Bearer TOKEN")],
        [("Authorization", "Bearer TOKEN"), ("Authorization", "Bearer TOKEN")],
        [("X-Authorization", "Bearer TOKEN")],
    ],
)
async def test_the_token_stands_in_one_authorization_header(rig: Rig, headers: list[tuple[str, str]]) -> None:
    async with rig.serving() as server:
        token = rig.token(b"")
        sent = [(name, value.replace("TOKEN", token)) for name, value in headers]
        reply = await server.send("GET", INFO_PATH, headers=sent)
        assert (reply.status, reply.slug) == (401, "unauthenticated")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert (await server.send("GET", INFO_PATH, token=token)).status == 200


@pytest.mark.parametrize("value", ["bearer TOKEN", "BEARER TOKEN", "Bearer  TOKEN"])
async def test_the_scheme_has_no_case_and_blanks_behind_it(rig: Rig, value: str) -> None:
    """RFC 9110, section 11.4."""
    async with rig.serving() as server:
        headers = [("Authorization", value.replace("TOKEN", rig.token(b"")))]
        assert (await server.send("GET", INFO_PATH, headers=headers)).status == 200


async def test_the_request_id_comes_back(rig: Rig) -> None:
    async with rig.serving() as server:
        reply = await server.send("GET", INFO_PATH, headers={"X-Request-ID": "abc"})
        assert reply.status == 401
        assert (reply.headers["X-Request-ID"], reply.json["request_id"]) == ("abc", "abc")


async def test_a_restart_is_a_new_epoch(rig: Rig) -> None:
    async with rig.serving() as server:
        stock = await server.commitments()
    session, _ = rig.group.session(stock.commitments[0])
    async with rig.serving() as server:
        reply = await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, [session]))
        assert (reply.status, reply.slug) == (409, "stale-epoch")
        fresh = await server.commitments()
        assert fresh.epoch != stock.epoch
        reply = await server.send("POST", SHARES_PATH, SharesRequest("default", fresh.epoch, [session]))
        assert reply.json["results"] == [{"session": "s1", "error": "unknown-commitment"}]


async def test_requests_under_way_are_finished_at_the_end(rig: Rig) -> None:
    asked, go_on = threading.Event(), threading.Event()

    class SlowNode(SignerNode):
        def commitments(self, client: str, request: CommitmentsRequest) -> CommitmentsAnswer:
            asked.set()
            go_on.wait(10)
            return super().commitments(client, request)

    async with rig.serving(SlowNode) as server:
        call = asyncio.create_task(server.send("POST", COMMITMENTS_PATH, {"key": "default", "count": 20}))
        while not asked.is_set():
            await asyncio.sleep(0.01)
        server.task.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        assert (await call).status == 200
        await asyncio.wait([server.task])
        with pytest.raises(REFUSED):
            await server.send("GET", "/healthz", headers={})


async def test_requests_past_the_grace_time_are_refused_with_a_clear_answer(rig: Rig) -> None:
    async with rig.serving(limits={"grace_seconds": 0.05, "body_seconds": 30}) as server:
        head = (
            "POST /v1/commitments HTTP/1.1\nHost: x\nContent-Length: 10\nExpect: 100-continue\nAuthorization: Bearer x"
        )
        async with server.begin(head) as reader:
            assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
            server.task.cancel()
            assert b" 503 " in await reader.readline()
        await asyncio.wait([server.task])


@pytest.mark.parametrize(("count", "inline"), [(1, True), (64, False)])
async def test_much_work_is_done_beside_the_event_loop(rig: Rig, count: int, *, inline: bool) -> None:
    threads: list[threading.Thread] = []

    class WatchedNode(SignerNode):
        def shares(
            self, client: str, request: SharesRequest, judged: Mapping[str, Reading] | None = None
        ) -> SharesAnswer:
            threads.append(threading.current_thread())
            return super().shares(client, request, judged)

    async with rig.serving(WatchedNode) as server:
        stock = await server.commitments(count)
        sessions = [rig.group.session(each, b"m", f"s{index}")[0] for index, each in enumerate(stock.commitments)]
        await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, sessions))
    assert [thread is threading.current_thread() for thread in threads] == [inline]


async def test_the_start_says_where_and_what_and_warns_of_open_doors(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with rig.serving(clients={}, dev=True) as server:
        [record] = [each for each in caplog.records if each.getMessage() == "listening"]
        said = record.__dict__
        assert said["address"] == f"127.0.0.1:{server.port}"
        assert said["keys"] == ["default"]
        assert said["epoch"] == (await server.commitments()).epoch
        assert any("clients.names" in each.getMessage() and each.levelname == "WARNING" for each in caplog.records)


async def test_no_secret_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="asyncio")
    token = rig.token(b"")
    async with rig.serving() as server:
        stock = await server.commitments()
        session, _ = rig.group.session(stock.commitments[0], b"a message nobody else may read")
        await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, [session]))
        await server.send("GET", INFO_PATH, token=token)
        await server.send("GET", INFO_PATH, token=token)
    logged = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    share = rig.group.shares[1].to_json().partition('"signing_share":"')[2][:64]
    for secret in (share, token, session.msg, "a message nobody else may read"):
        assert secret not in logged


@pytest.mark.parametrize("part", ["cert", "key", "ca"])
async def test_tls_files_that_cannot_be_used_stop_the_start(rig: Rig, tmp_path: Path, part: str) -> None:
    good = rig.config().tls
    for content in (None, "no PEM"):
        path = tmp_path / f"{part}.{content}"
        if content:
            path.write_text(content)
        tls = {"cert": good.cert, "key": good.key, "ca": good.ca, part: str(path)}
        with pytest.raises(ConfigError, match=str(path)):
            async with rig.serving(tls=tls):
                pass


async def test_an_encrypted_key_stops_the_start_instead_of_asking_for_its_password(
    rig: Rig, encrypted_key: Path
) -> None:
    good = rig.config().tls
    with pytest.raises(ConfigError, match=str(encrypted_key)):
        async with rig.serving(tls={"cert": good.cert, "key": str(encrypted_key), "ca": good.ca}):
            pass


@pytest.fixture
def encrypted_key(rig: Rig, tmp_path: Path) -> Path:
    key = serialization.load_pem_private_key(rig.config().tls_files.key.read_bytes(), None)
    path = tmp_path / "encrypted.key"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    return path


async def test_an_address_in_use_stops_the_start(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="bind: cannot listen"):
            async with rig.serving(bind=f"127.0.0.1:{port}"):
                pass


async def test_a_share_open_to_others_stops_the_start(rig: Rig) -> None:
    rig.share.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        async with rig.serving():
            pass


async def test_a_signer_without_an_authenticator_does_not_start(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="make_authenticator"):
        async with rig.serving(plugins={}):
            pass


async def _still_serves(server: Server) -> None:
    assert (await server.send("GET", INFO_PATH)).status == 200


async def test_authenticators_are_entered_before_the_first_call_and_left_in_peace_after_the_last(rig: Rig) -> None:
    steps: list[str] = []

    class Watched(Authenticator):
        async def __aenter__(self) -> Self:
            steps.append("entered")
            return self

        async def __aexit__(self, *_: object) -> None:
            await anyio.lowlevel.checkpoint()
            steps.append("left")

        async def authenticate(self, credentials: Credentials) -> None:
            steps.append("asked")

    class Plugin:
        @hookimpl
        def make_authenticator(self, context: PluginContext) -> Authenticator:
            assert context.role == "signer"
            return Watched()

    with anyio.CancelScope() as scope:

        def ready(address: tuple[str, int]) -> None:
            steps.append(address[0])
            scope.cancel()

        await serve(rig.config(), ready=ready, given={"mac": Plugin()})
    assert steps == ["entered", "127.0.0.1", "left"]
    async with rig.serving(plugin=Plugin()) as server:
        assert (await server.send("GET", INFO_PATH)).status == 401
    assert steps[3:] == ["entered", "asked", "left"]
