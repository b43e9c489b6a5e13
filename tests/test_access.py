"""The door: which heads of requests it lets in on the Unix socket and on TCP, before it reads a body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from multidict import CIMultiDict

from frost_sidecar.access import Door
from frost_sidecar.config import ServerConfig
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import Authenticator, Credentials, Identity
from frost_sidecar.metrics import CoordinatorMetrics, new_registry
from frost_sidecar.testing.sidecar import MemorySidecar

BODY = {"msg_b64": "aGVhZGVyLnBheWxvYWQ="}
PROGRAM = ("X-Frost-Sidecar", "1")

Refusal = tuple[int, str | None, str | None]
SIGNED: Refusal = (200, None, None)
MISSING: Refusal = (403, "urn:frost-sidecar:error:denied", "header-missing")
FORWARDED: Refusal = (403, "urn:frost-sidecar:error:denied", "forwarded")

ON_UNIX: dict[str, tuple[list[tuple[str, str]], Refusal]] = {
    "as it should be": ([PROGRAM], SIGNED),
    "in lower case": ([("x-frost-sidecar", "1")], SIGNED),
    "with what programs add": ([PROGRAM, ("User-Agent", "curl/8"), ("Accept", "*/*"), ("Cookie", "a=b")], SIGNED),
    "another host's name": ([PROGRAM, ("Host", "rebound.example")], SIGNED),
    "like one of those, but not it": ([PROGRAM, ("Viable", "1"), ("Original", "1"), ("X-Forward", "1")], SIGNED),
    "nothing": ([], MISSING),
    "empty": ([("X-Frost-Sidecar", "")], MISSING),
    "another value": ([("X-Frost-Sidecar", "2")], MISSING),
    "true": ([("X-Frost-Sidecar", "true")], MISSING),
    "more behind it": ([("X-Frost-Sidecar", "1, 1")], MISSING),
    "twice": ([PROGRAM, PROGRAM], MISSING),
    "another name": ([("X-Frost-Sidecars", "1")], MISSING),
    "a bearer token instead": ([("Authorization", "Bearer a.b.c")], MISSING),
    "a page of the web": ([PROGRAM, ("Origin", "https://evil.example")], FORWARDED),
    "a page without an origin": ([PROGRAM, ("Origin", "null")], FORWARDED),
    "an empty origin": ([PROGRAM, ("Origin", "")], FORWARDED),
    "a form of another site": ([PROGRAM, ("Sec-Fetch-Site", "cross-site")], FORWARDED),
    "a fetch": ([PROGRAM, ("Sec-Fetch-Mode", "no-cors")], FORWARDED),
    "a picture": ([PROGRAM, ("sec-fetch-dest", "image")], FORWARDED),
    "a proxy, RFC 7239": ([PROGRAM, ("Forwarded", "for=192.0.2.1")], FORWARDED),
    "a proxy": ([PROGRAM, ("X-Forwarded-For", "192.0.2.1")], FORWARDED),
    "a proxy's scheme": ([PROGRAM, ("X-Forwarded-Proto", "https")], FORWARDED),
    "a proxy's client": ([PROGRAM, ("X-Real-IP", "192.0.2.1")], FORWARDED),
    "a gateway": ([PROGRAM, ("Via", "1.1 gateway")], FORWARDED),
    "a browser without the header": ([("Origin", "https://evil.example")], FORWARDED),
}


@asynccontextmanager
async def bare(sidecar: MemorySidecar) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the socket that adds nothing by itself."""
    connector = aiohttp.UnixConnector(path=str(sidecar.path))
    async with aiohttp.ClientSession(base_url="http://sidecar", connector=connector) as http:
        yield http


async def answered(http: aiohttp.ClientSession, path: str, headers: list[tuple[str, str]]) -> Refusal:
    body: Any = [BODY] if path.endswith("batch") else BODY
    async with http.post(path, json=body, headers=CIMultiDict(headers)) as response:
        answer = await response.json(content_type=None)
    return (response.status, answer["type"], answer["reason"]) if response.status != 200 else SIGNED


async def refusals(http: aiohttp.ClientSession) -> dict[str, float]:
    async with http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    counted = [line.split('"') for line in lines if line.startswith("frost_coordinator_refusals_total{")]
    return {reason: float(count.removeprefix("} ")) for _, reason, count in counted}


@pytest.mark.parametrize("path", ["/sign", "/sign/batch"])
@pytest.mark.parametrize("name", ON_UNIX)
async def test_on_the_unix_socket_a_program_says_that_it_means_to_ask(short_path: Path, name: str, path: str) -> None:
    headers, expected = ON_UNIX[name]
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving(), bare(sidecar) as http:
        assert await answered(http, path, headers) == expected
        assert await refusals(http) == ({expected[2]: 1.0} if expected[2] else {})
        assert await answered(http, path, [PROGRAM]) == SIGNED
    signed = 2 if expected == SIGNED else 1
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"] * signed  # no message, no record


async def test_the_refusal_says_what_to_add(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving(), bare(sidecar) as http, http.post("/sign", json=BODY) as response:
        problem = await response.json(content_type="application/problem+json")
    assert "add the header X-Frost-Sidecar: 1" in problem["detail"]
    assert problem["outcome"] == "denied"


async def test_what_does_not_sign_needs_no_header(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving(), bare(sidecar) as http:
        for path in ("/healthz", "/readyz", "/metrics", "/keys", "/.well-known/jwks.json", "/openapi.json"):
            async with http.get(path, headers={"Origin": "https://dashboard.example"}) as response:
                assert response.status == 200, path


@pytest.mark.parametrize("headers", [{}, {"X-Frost-Sidecar": "1", "Via": "1.1 gateway"}])
async def test_who_is_refused_is_answered_before_the_body_is_read(short_path: Path, headers: dict[str, str]) -> None:
    async def never_ending() -> Any:
        yield b'{"msg_b64": "'
        await anyio.sleep_forever()

    sidecar = MemorySidecar(short_path)
    async with sidecar.serving(), bare(sidecar) as http:
        with anyio.fail_after(5):
            async with http.post("/sign", data=never_ending(), headers=headers) as response:
                assert response.status == 403


ON_TCP: dict[str, tuple[list[tuple[str, str]], Refusal]] = {
    "the token is enough": ([], SIGNED),
    "the header is ignored": ([("X-Frost-Sidecar", "no")], SIGNED),
    "load balancers may pass it on": (
        [("X-Forwarded-For", "192.0.2.1"), ("Via", "1.1 mesh"), ("Forwarded", "")],
        SIGNED,
    ),
    "a page of the web": ([("Origin", "https://evil.example")], FORWARDED),
    "a form of another site": ([("Sec-Fetch-Site", "cross-site")], FORWARDED),
    "a fetch": ([("Sec-Fetch-Mode", "cors")], FORWARDED),
}


@pytest.mark.parametrize("path", ["/sign", "/sign/batch"])
@pytest.mark.parametrize("name", ON_TCP)
async def test_on_tcp_browsers_are_refused_whatever_their_token(short_path: Path, name: str, path: str) -> None:
    headers, expected = ON_TCP[name]
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving(), sidecar.calling() as http:
        assert await answered(http, path, headers) == expected
        assert await refusals(http) == ({expected[2]: 1.0} if expected[2] else {})


async def test_a_certificate_that_may_not_call_is_counted_wherever_it_asks(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    files = sidecar.authority.issue("other", ["other.frost.test"])
    async with sidecar.serving() as unix, sidecar.calling(files) as http:
        for method, path in (("POST", "/sign"), ("GET", "/readyz"), ("GET", "/metrics")):
            async with http.request(method, path, json=BODY) as response:
                problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["reason"]) == (403, "certificate-name")
        assert await refusals(unix) == {"certificate-name": 3.0}


class Broken(Authenticator):
    async def authenticate(self, credentials: Credentials) -> Identity | None:
        raise RuntimeError("no answer")


class Trusting(Authenticator):
    async def authenticate(self, credentials: Credentials) -> Identity | None:
        return Identity("mint", "trusting", {"sub": "mint"})


async def test_an_authenticator_that_fails_is_a_refusal_whoever_comes_after_it() -> None:
    def door(*authenticators: tuple[str, Authenticator]) -> Door:
        return Door(ServerConfig(), {}, authenticators, 1.0, CoordinatorMetrics(new_registry()))

    good, broken = ("good", Trusting()), ("broken", Broken())
    with pytest.raises(Unauthenticated) as caught:
        await door(broken, good)._identity(Credentials("token", ()))
    assert caught.value.reason == "token-unchecked"
    assert (await door(good, broken)._identity(Credentials("token", ()))).subject == "mint"
