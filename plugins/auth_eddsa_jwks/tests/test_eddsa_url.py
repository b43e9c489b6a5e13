"""Keys from an https address: a real server on loopback, and what a signer makes of its answers."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from frost_sidecar_auth_eddsa_jwks import ClaimRules, JwksAuthenticator, RemoteKeys, parse_jwks
from frost_sidecar_auth_eddsa_jwks.fetching import Fetcher, PinnedAuthority, parse_url

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.following import Following, read_once
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.model import Credentials
from frost_sidecar.plugins import load
from frost_sidecar.signer import NodeConfig
from frost_sidecar.testing.authority import Authority

KEYS = {name: Ed25519PrivateKey.generate() for name in ("first", "second")}


def jwk(kid: str) -> dict[str, Any]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(KEYS[kid].public_key().public_bytes_raw()), "kid": kid}


def token(kid: str = "first", *, key: str | None = None) -> Credentials:
    now = int(time.time())
    claims = {"sub": "frost-coordinator", "iat": now, "exp": now + 30}
    return Credentials(jwt.encode(claims, KEYS[key or kid], algorithm="EdDSA", headers={"kid": kid}))


async def wait_until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Serves a JWK set at ``/jwks.json``, or whatever ``handle`` says, and counts the requests."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.kids = ["first"]
        self.requests: list[str] = []
        self.handle: Handle | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/jwks.json"

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[None]:
        files = self.authority.issue("web", names or ("localhost",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        server = web.Server(self._answer)
        runner = web.ServerRunner(server, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request.path)
        if self.handle is not None:
            return await self.handle(request)  # type: ignore[arg-type]
        return web.json_response({"keys": [jwk(kid) for kid in self.kids]})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path / "web")
    async with made.running():
        yield made


def build(server: Server, *, follow: Any = read_once, **settings: Any) -> Authenticator:
    """The authenticator that a signer gets from its configuration."""
    own = {"jwks_url": server.url, "jwks_ca": str(server.authority.certificate), **settings}
    config = NodeConfig.build(
        {"name": "signer-1", "clients": {"names": ["DNS:c"]}, "plugins": {"auth_eddsa_jwks": own}}
    )
    [(_, authenticator)] = load(config, "signer", follow=follow).all("make_authenticator", Authenticator)
    return authenticator


async def refusal(authenticator: Authenticator, credentials: Credentials) -> str | None:
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(credentials)
    return caught.value.reason


async def test_one_request_serves_all_tokens(server: Server) -> None:
    async with build(server) as authenticator:
        for _ in range(100):
            assert await authenticator.authenticate(token())
        assert server.requests == ["/jwks.json"]


async def test_no_kid_asks_for_nothing(server: Server) -> None:
    server.kids = ["first", "second"]
    async with build(server, min_refresh_seconds=0.1) as authenticator:
        await asyncio.sleep(0.15)
        now = int(time.time())
        claims = {"sub": "x", "iat": now, "exp": now + 30}
        without = Credentials(jwt.encode(claims, KEYS["first"], algorithm="EdDSA"))
        assert await refusal(authenticator, without) == "token-key"
        assert len(server.requests) == 1


async def test_a_kid_that_is_none_asks_for_nothing(server: Server) -> None:
    async with build(server, min_refresh_seconds=0.1) as authenticator:
        await asyncio.sleep(0.15)
        for kid in ("a\nb", "x" * 257):
            assert await refusal(authenticator, token(kid, key="first")) == "token-key"
        assert len(server.requests) == 1


async def test_one_flight_for_200_unknown_kids_at_once(server: Server) -> None:
    async with build(server, min_refresh_seconds=0.1) as authenticator:
        await asyncio.sleep(0.15)  # the time between two requests
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(_request: web.Request) -> web.StreamResponse:
            begun.set()
            await go_on.wait()
            return web.json_response({"keys": [jwk("first"), jwk("second")]})

        server.handle = slowly
        unknown = [
            asyncio.create_task(refusal(authenticator, token(f"unknown-{number}", key="first")))
            for number in range(199)
        ]
        new = asyncio.create_task(authenticator.authenticate(token("second")))
        await begun.wait()
        go_on.set()
        assert set(await asyncio.gather(*unknown)) == {"token-key"}
        assert await new
        assert len(server.requests) == 2


async def test_cool_down_after_an_answer_and_after_a_failure(server: Server) -> None:
    async with build(server, min_refresh_seconds=3600) as authenticator:
        server.kids = ["first", "second"]
        for _ in range(50):
            assert await refusal(authenticator, token("second")) == "token-key"
        assert len(server.requests) == 1
    server.requests.clear()

    async def broken(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    server.handle = broken
    async with build(server, min_refresh_seconds=3600) as authenticator:
        for _ in range(50):
            assert await refusal(authenticator, token()) == "token-unchecked"
        assert len(server.requests) == 1


async def test_a_new_key_is_known_after_one_request(server: Server) -> None:
    async with build(server, min_refresh_seconds=0.1) as authenticator:
        await asyncio.sleep(0.15)
        server.kids = ["second"]
        assert await authenticator.authenticate(token("second"))
        assert await refusal(authenticator, token("first")) == "token-key"
        assert len(server.requests) <= 3


async def test_a_new_key_is_known_before_its_first_token(server: Server) -> None:
    async with build(server, refresh_seconds=1, min_refresh_seconds=0.1) as authenticator:
        server.kids = ["first", "second"]
        await wait_until(lambda: len(server.requests) == 2)
        server.handle = _hang
        async with asyncio.timeout(0.5):
            assert await authenticator.authenticate(token("first"))
            while not await _accepts(authenticator, token("second")):  # the answer is on its way
                await asyncio.sleep(0.01)
        assert len(server.requests) == 2


async def _accepts(authenticator: Authenticator, credentials: Credentials) -> bool:
    try:
        return await authenticator.authenticate(credentials) is not None
    except Unauthenticated:
        return False


async def test_a_token_that_is_given_up_does_not_end_the_request(server: Server) -> None:
    async with build(server, min_refresh_seconds=0.1) as authenticator:
        await asyncio.sleep(0.15)
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(_request: web.Request) -> web.StreamResponse:
            begun.set()
            await go_on.wait()
            return web.json_response({"keys": [jwk("second")]})

        server.handle = slowly
        first = asyncio.create_task(authenticator.authenticate(token("second")))
        await begun.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        assert await authenticator.authenticate(token("second"))
        assert len(server.requests) == 2


# --- stale while error ------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_stale_while_error_and_its_end(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    authority = PinnedAuthority(server.authority.certificate, "jwks_ca")
    authority.reload()
    source = RemoteKeys(
        Fetcher(parse_url(server.url, "jwks_url"), authority.context, seconds=3, max_bytes=65536),
        lambda data: parse_jwks(data, ["EdDSA"]),
        server.url,
        refresh_seconds=300,
        min_refresh_seconds=10,
        stale_seconds=3600,
        clock=clock,
    )
    async with JwksAuthenticator(source, ClaimRules(max_lifetime=60, leeway=2), ["EdDSA"]) as authenticator:

        async def broken(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        server.handle = broken
        for seconds in (299, 301, 1800, 3599):
            clock.now = 1000 + seconds
            assert await authenticator.authenticate(token())
            assert await refusal(authenticator, token("second")) == "token-unchecked"
        assert len(server.requests) == 4  # 299 and 301 are within min_refresh_seconds
        clock.now = 1000 + 3600
        assert await refusal(authenticator, token()) == "token-unchecked"
        server.handle = None
        assert await refusal(authenticator, token()) == "token-unchecked"  # cooling down
        clock.now += 10
        assert await authenticator.authenticate(token())
    said = [each.getMessage() for each in caplog.records if each.name == "frost_sidecar.auth_eddsa_jwks"]
    assert said == [
        "keys taken over",
        "keys cannot be fetched; those before stay for a while",
        "keys can be fetched again",
    ]


async def test_a_server_that_is_down_stops_no_start(server: Server) -> None:
    async def broken(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    server.handle = broken
    async with build(server, min_refresh_seconds=0.1) as authenticator:
        assert await refusal(authenticator, token()) == "token-unchecked"
        server.handle = None
        done = len(server.requests)
        await wait_until(lambda: len(server.requests) > done)  # by itself
        async with asyncio.timeout(5):
            while not await _accepts(authenticator, token()):
                await asyncio.sleep(0.01)


async def test_a_start_that_is_given_up_leaves_nothing_behind(server: Server) -> None:
    server.handle = _hang
    authenticator = build(server, fetch_seconds=10)
    before = asyncio.all_tasks()
    start = asyncio.create_task(authenticator.__aenter__())
    await wait_until(lambda: len(server.requests) == 1)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    ours = {task for task in asyncio.all_tasks() - before if "RemoteKeys" in repr(task.get_coro())}
    assert ours == set()


# --- answers that are none --------------------------------------------------------------------------------------------


async def _hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def _drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def _redirect(request: web.Request) -> web.StreamResponse:
    if request.path == "/other":
        return web.json_response({"keys": [jwk("first")]})
    raise web.HTTPFound("/other")


async def _gzip(_request: web.Request) -> web.StreamResponse:
    body = gzip.compress(json.dumps({"keys": [jwk("first")]}).encode())
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})


def _body(body: bytes, status: int = 200) -> Handle:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status)

    return handle


GOOD = json.dumps({"keys": [jwk("first")]}).encode()
WRONG: dict[str, tuple[Handle, str]] = {
    "hangs": (_hang, "no whole answer within 0.3 s"),
    "drips": (_drip, "no whole answer within 0.3 s"),
    "endless": (_endless, "larger than 65536 bytes"),
    "one byte too large": (_body(GOOD.ljust(65537)), "larger than 65536 bytes"),
    "redirects": (_redirect, "answered 302; redirects are not followed"),
    "compressed": (_gzip, "compressed"),
    "404 with keys": (_body(GOOD, 404), "answered 404"),
    "201 with keys": (_body(GOOD, 201), "answered 201"),
    "empty": (_body(b""), ""),
    "a web page": (_body(b"<html>"), "malformed"),
    "a member twice": (_body(b'{"keys":[],' + GOOD[1:]), "stands twice"),
    "a list": (_body(b"[]"), "object"),
    "no keys": (_body(b"{}"), "no list"),
    "no key": (_body(b'{"keys":[]}'), "no key that can be used"),
    "only symmetric ones": (_body(b'{"keys":[{"kty":"oct","k":"AAAA","kid":"first"}]}'), "private member"),
    "65 keys": (_body(json.dumps({"keys": [jwk("first")] * 65}).encode()), "at most 64"),
    "nested deep": (_body(b'{"keys":[' + b"[" * 5000 + b"]" * 5000 + b"]}"), "nest"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_answers_that_are_refused(name: str, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.handle, why = WRONG[name]
    started = time.monotonic()
    async with build(server, fetch_seconds=0.3 if "within" in why else 3, min_refresh_seconds=3600) as authenticator:
        assert await refusal(authenticator, token()) == "token-unchecked"
    assert time.monotonic() - started < 5
    assert server.requests == ["/jwks.json"]
    [fault] = [vars(each)["why"] for each in caplog.records if each.name == "frost_sidecar.auth_eddsa_jwks"]
    assert why in fault.lower() or why in fault


async def test_the_largest_answer_that_is_read(server: Server) -> None:
    server.handle = _body(GOOD.ljust(65536))
    async with build(server) as authenticator:
        assert await authenticator.authenticate(token())


async def test_a_server_that_hangs_holds_up_no_known_key(server: Server) -> None:
    async with build(server, min_refresh_seconds=0.1, fetch_seconds=10) as authenticator:
        await asyncio.sleep(0.15)
        server.handle = _hang
        waiting = asyncio.create_task(refusal(authenticator, token("second")))
        await wait_until(lambda: len(server.requests) == 2)
        async with asyncio.timeout(0.5):
            for _ in range(20):
                assert await authenticator.authenticate(token())
        async with asyncio.timeout(0.95):  # a host waits for a second
            assert await waiting == "token-unchecked"
        ending = time.monotonic()
    assert time.monotonic() - ending < 2


async def test_keys_that_cannot_be_used_hurt_no_other_and_are_named_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [{**jwk("second"), "crv": "Ed1"}, {**jwk("second"), "use": "enc"}, {"kty": "new"}, 5]
    server.handle = _body(json.dumps({"keys": [*bad, jwk("first")]}).encode())
    async with build(server, min_refresh_seconds=0.1, refresh_seconds=1) as authenticator:
        assert await authenticator.authenticate(token())
        await wait_until(lambda: len(server.requests) >= 3)
    [warning] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(vars(warning)["why"]) == 4


# --- who the server is ------------------------------------------------------------------------------------------------


async def test_another_authority_is_refused(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = Authority(tmp_path / "other")
    async with build(server, jwks_ca=str(other.certificate)) as authenticator:
        assert await refusal(authenticator, token()) == "token-unchecked"
    assert server.requests == []
    assert "CERTIFICATE_VERIFY_FAILED" in vars(caplog.records[0])["why"]


async def test_another_name_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tmp_path / "web")
    async with server.running("other.test"), build(server) as authenticator:
        assert await refusal(authenticator, token()) == "token-unchecked"
    assert server.requests == []
    assert "CERTIFICATE_VERIFY_FAILED" in vars(caplog.records[0])["why"]


async def test_without_a_ca_of_its_own_the_processs_authority_counts(server: Server, tmp_path: Path) -> None:
    for authority, accepted in ((server.authority, True), (Authority(tmp_path / "other"), False)):
        files = authority.issue("signer", ["signer.test"])
        config = NodeConfig.build(
            {
                "name": "signer-1",
                "clients": {"names": ["DNS:c"]},
                "tls": {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)},
                "plugins": {"auth_eddsa_jwks": {"jwks_url": server.url}},
            }
        )
        [(_, authenticator)] = load(config, "signer").all("make_authenticator", Authenticator)
        async with authenticator:
            assert await _accepts(authenticator, token()) is accepted


async def test_the_authoritys_file_is_followed(server: Server, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
    with Following() as following:
        built = build(server, jwks_ca=str(ca), min_refresh_seconds=0.1, follow=following.follow)
        async with built as authenticator:
            assert await refusal(authenticator, token()) == "token-unchecked"
            beside = tmp_path / "new.crt"
            beside.write_bytes(server.authority.certificate.read_bytes())
            beside.replace(ca)
            async with asyncio.timeout(20):
                while not await _accepts(authenticator, token()):
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jwks_url": "http://localhost/jwks.json"}, r"auth_eddsa_jwks\.jwks_url: must be https"),
        ({"jwks_url": "file:///etc/jwks.json"}, r"jwks_url: must be https"),
        ({"jwks_url": "localhost/jwks.json"}, r"jwks_url: must be https"),
        ({"jwks_url": "https://user:word@localhost/"}, r"jwks_url: must have no user"),
        ({"jwks_url": "https://localhost/?token=1"}, r"jwks_url: must have no user"),
        ({"jwks_url": "https://localhost:99999/"}, r"jwks_url: is no URL"),
        ({"jwks_file": "jwks.json"}, r"set either jwks_file or jwks_url"),
        ({"stale_seconds": 10, "refresh_seconds": 20}, r"stale_seconds: must not be less"),
        ({"jwks_ca": "missing.pem"}, r"jwks_ca: cannot read"),
        ({"jwks_ca": __file__}, r"jwks_ca: .* has no certificate"),
        ({"jwks_uri": "https://localhost/"}, r"jwks_uri"),
        ({"algorithms": []}, r"algorithms"),
        ({"algorithms": ["HS256"]}, r"algorithms"),
        ({"algorithms": ["none"]}, r"algorithms"),
        ({"refresh_seconds": 0}, r"refresh_seconds"),
        ({"key_file": "key.pem"}, r"key_file: only coordinators sign"),
        ({"jwks_out": "jwks.json"}, r"jwks_out: only coordinators sign"),
    ],
)
async def test_settings_that_stop_the_start(server: Server, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(server, **settings)
