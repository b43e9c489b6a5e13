"""The stand-alone listener: TLS with a client certificate, a bearer token, and the original's request as it stands."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
import socket
import ssl
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import anyio
import frost_sidecar_auth_hs256
import jwt
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar.errors import ConfigError
from frost_sidecar.plugins import hookimpl
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import CLIENT_NAME, SERVER_NAME, MemorySidecar

MESSAGE = b"header.payload"
BODY = {"msg_b64": base64.b64encode(MESSAGE).decode()}


class Loopback(AbstractResolver):
    """Finds every name on this machine, as a cluster's DNS finds the coordinator's."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        entry: ResolveResult = {
            "hostname": host, "host": "127.0.0.1", "port": self.port, "family": family, "proto": 0, "flags": 0,
        }  # fmt: skip
        return [entry]

    async def close(self) -> None:
        """Nothing is held."""


def hs256_callers() -> ModuleType:
    """The real authenticator alone: the cluster has a token issuer of its own."""
    plugin = ModuleType("hs256_callers")
    setattr(plugin, "make_authenticator", hookimpl(frost_sidecar_auth_hs256.make_authenticator))  # noqa: B010
    return plugin


async def test_the_originals_request_works_as_it_stands(short_path: Path) -> None:
    """What the original page's curl line sends, name by name, with a JWT of the shared secret."""
    secret = secrets.token_bytes(32)
    sidecar = MemorySidecar(
        short_path,
        tcp=True,
        plugins={"hs256_callers": hs256_callers()},
        plugins_settings={"hs256_callers": {"secret_b64": base64.b64encode(secret).decode()}},
        signers=[
            {"identifier": i, "url": f"https://frost-signer-{i}.frost.svc:7000", "zone": f"ad-{i}"} for i in (1, 2, 3)
        ],
    )
    token = jwt.encode({"iss": "frost-coord", "sub": "mint", "exp": int(time.time()) + 60}, secret, algorithm="HS256")
    context = ssl.create_default_context(cafile=str(sidecar.listener.ca))
    context.load_cert_chain(sidecar.client.cert, sidecar.client.key)
    async with sidecar.serving():
        port = int(sidecar.addresses["bind"].rpartition(":")[2])
        connector = aiohttp.TCPConnector(ssl=context, resolver=Loopback(port))
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.post(
                f"https://{SERVER_NAME}:7100/sign",
                headers={"Authorization": f"Bearer {token}", "content-type": "application/json"},
                data=b'{"msg_b64":"' + BODY["msg_b64"].encode() + b'","participants":[1,2],"signer_urls":'
                b'["https://frost-signer-1.frost.svc:7000","https://frost-signer-2.frost.svc:7000"]}',
            ) as response,
        ):
            assert response.status == 200
            answer = await response.json()
    assert answer["participants"] == [1, 2]
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(answer["group_public_b64"]))
    public.verify(base64.b64decode(answer["signature_b64"]), MESSAGE)
    [record] = sidecar.cluster.records
    assert record.caller == f"tcp:DNS:{CLIENT_NAME} mint"


async def test_without_a_client_certificate_there_is_no_connection(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    context = ssl.create_default_context(cafile=str(sidecar.listener.ca))
    async with sidecar.serving(), aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"{sidecar.url}/healthz")


@pytest.mark.parametrize("kind", ["another authority", "expired"])
async def test_a_wrong_certificate_gets_no_answer(short_path: Path, kind: str) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    authority = Authority(short_path / "other") if kind == "another authority" else sidecar.authority
    files = authority.issue("wrong", [CLIENT_NAME], lifetime=dt.timedelta(seconds=60 if "other" in kind else -60))
    async with sidecar.serving(), sidecar.calling(files) as http:
        with pytest.raises(aiohttp.ClientError):
            await http.post("/sign", json=BODY)
    assert sidecar.cluster.records == []


@pytest.mark.parametrize(
    "names", [["other.frost.test"], ["127.0.0.1"], [f"x{CLIENT_NAME}"], [f"spiffe://{CLIENT_NAME}"]]
)
async def test_a_certificate_of_another_name_may_not_call(short_path: Path, names: list[str]) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    files = sidecar.authority.issue("other", names)
    async with sidecar.serving(), sidecar.calling(files) as http:
        for method, path in (("POST", "/sign"), ("POST", "/sign/batch"), ("GET", "/readyz"), ("GET", "/metrics")):
            async with http.request(method, path, json=BODY) as response:
                problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["type"]) == (403, "urn:frost-sidecar:error:denied")
        async with http.get("/healthz") as response:
            assert await response.read() == b"ok"
    assert sidecar.cluster.records == []


AUTHORIZATIONS: dict[str, list[str]] = {
    "none": [],
    "empty": [""],
    "no token": ["Bearer"],
    "another scheme": ["Basic bWludDptaW50"],
    "unknown": ["Bearer unknown"],
    "two tokens": ["Bearer a", "Bearer b"],
    "a blank in it": ["Bearer a b"],
    "not ASCII": ["Bearer t\u00f6ken"],
}


@pytest.mark.parametrize("kind", AUTHORIZATIONS)
async def test_a_request_to_sign_needs_a_token(short_path: Path, kind: str) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving(), sidecar.calling(anonymous=True) as http:
        for path, body in (("/sign", BODY), ("/sign/batch", [BODY])):
            headers = [("Authorization", value) for value in AUTHORIZATIONS[kind]]
            async with http.post(path, json=body, headers=headers) as response:
                problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["type"]) == (401, "urn:frost-sidecar:error:unauthenticated")
            assert response.headers["WWW-Authenticate"] == "Bearer"
        async with http.post("/sign", json=BODY, headers={"Authorization": f"bearer {sidecar.token()}"}) as response:
            assert response.status == 200  # the scheme has no case (RFC 9110, section 11.1)
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"]


NOW = time.time()

CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "for a signer": ({"aud": "signer-1"}, "aud"),
    "for several others": ({"aud": ["signer-1", "signer-2"]}, "aud"),
    "aud null": ({"aud": None}, "aud"),
    "aud number": ({"aud": 5}, "aud"),
    "bound to a signer's body": ({"body_sha256": "x"}, "signer's call"),
    "another issuer": ({"iss": "somebody"}, "iss"),
    "no issuer": ({"iss": None}, "iss"),
    "expired": ({"exp": NOW - 60}, "expired"),
    "exp text": ({"exp": "tomorrow"}, "exp"),
    "exp true": ({"exp": True}, "exp"),
    "exp NaN": ({"exp": float("nan")}, "expired"),
    "not yet": ({"nbf": NOW + 3600}, "nbf"),
    "from the future": ({"iat": NOW + 3600}, "iat"),
    "iat NaN": ({"iat": float("nan")}, "iat"),
}


@pytest.mark.parametrize("kind", CLAIMS)
async def test_the_host_checks_the_claims(short_path: Path, kind: str) -> None:
    claims, said = CLAIMS[kind]
    sidecar = MemorySidecar(short_path, tcp=True, server={"token": {"issuers": ["mint-auth"]}})
    times = {"exp": NOW + 3600, "iat": NOW, "nbf": NOW}
    good: dict[str, Any] = {"iss": "mint-auth", "aud": ["frost-coordinator", "other"], **times}
    async with sidecar.serving():
        async with sidecar.calling(token=sidecar.token(**{**good, **claims})) as http:
            async with http.post("/sign", json=BODY) as response:
                problem = await response.json(content_type="application/problem+json")
            assert response.status == 401
            assert said in problem["detail"]
        async with sidecar.calling(token=sidecar.token(**good)) as http, http.post("/sign", json=BODY) as response:
            assert response.status == 200


async def test_refusals_are_counted(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    stranger = sidecar.authority.issue("stranger", ["stranger.frost.test"])
    async with sidecar.serving() as unix:
        async with sidecar.calling(stranger) as http:
            await http.post("/sign", json=BODY)
        async with sidecar.calling(token="unknown") as http:
            await http.post("/sign", json=BODY)
            await http.post("/sign", json=BODY)
        async with unix.get("/metrics") as response:
            text = await response.text()
    assert 'frost_coordinator_refusals_total{reason="certificate-name"} 1.0' in text
    assert 'frost_coordinator_refusals_total{reason="token-unknown"} 2.0' in text


async def test_a_refused_caller_is_answered_before_its_body_is_read(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving(), sidecar.calling(token="unknown") as http:

        async def never_ending() -> Any:
            yield b'{"msg_b64": "'
            await anyio.sleep_forever()

        async with http.post("/sign", data=never_ending()) as response:
            assert response.status == 401


async def test_one_caller_cannot_take_all_the_room(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True, signing={"max_in_flight_per_caller": 2, "budget_seconds": 3})
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, behaviour.delayed(0.3))
    statuses: list[int] = []
    async with sidecar.serving(), sidecar.calling() as greedy, sidecar.calling(token=sidecar.token("other")) as other:

        async def one() -> None:
            async with greedy.post("/sign", json=BODY) as response:
                statuses.append(response.status)
                if response.status != 200:
                    problem = await response.json(content_type="application/problem+json")
                    assert problem["type"] == "urn:frost-sidecar:error:too-many-requests"
                    assert response.headers["Retry-After"] == "1"

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)
            await anyio.sleep(0.2)
            async with other.post("/sign", json=BODY) as response:
                assert response.status == 200
        async with greedy.post("/sign", json=BODY) as response:
            assert response.status == 200  # what was refused took no room
    assert sorted(statuses) == [200, 200, 429, 429, 429]


async def test_the_internal_listener_has_health_and_metrics_alone(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True, server={"metrics_bind": "127.0.0.1:0"})
    async with sidecar.serving():
        address = sidecar.addresses["metrics_bind"]
        async with aiohttp.ClientSession(base_url=f"http://{address}") as http:
            async with http.get("/healthz") as response:
                assert (response.status, await response.read()) == (200, b"ok")
            async with http.get("/readyz") as response:
                assert (response.status, (await response.json())["ready"]) == (200, True)
            async with http.get("/metrics") as response:
                assert "frost_coordinator_ready 1.0" in await response.text()
            for method, path in (
                ("POST", "/sign"),
                ("POST", "/sign/batch"),
                ("GET", "/keys"),
                ("GET", "/openapi.json"),
            ):
                async with http.request(method, path, json=BODY) as response:
                    assert response.status == 404


@pytest.mark.parametrize(
    ("server", "path", "said"),
    [
        ({"client_names": []}, "server.client_names", "certificates may call"),
        ({"bind": "127.0.0.1:1", "tls": {"cert": "/nonexistent"}}, "server.tls.cert", "cannot use"),
        ({"bind": "192.0.2.1:7100"}, "server.bind", "cannot listen on"),
        ({"metrics_bind": "192.0.2.1:9100"}, "server.metrics_bind", "cannot listen on"),
    ],
)
async def test_an_impossible_listener_stops_the_start(
    short_path: Path, server: dict[str, Any], path: str, said: str
) -> None:
    sidecar = MemorySidecar(short_path, tcp=True, server=server)
    with pytest.raises(ExceptionGroup) as caught:
        async with sidecar.serving():
            pass
    [error] = caught.value.exceptions
    assert isinstance(error, ConfigError)
    assert error.path == path
    assert said in str(error)


async def test_without_an_authenticator_nobody_listens_on_tcp(short_path: Path) -> None:
    cluster = MemoryCluster(short_path, settings={"server": {"bind": "127.0.0.1:0"}})
    async with cluster.coordinator() as coordinator:
        with pytest.raises(ConfigError, match="a TCP listener needs a plugin that checks bearer tokens"):
            await coordinator.serve(stop=anyio.Event())


async def test_what_a_signer_is_sent_opens_no_door_here(short_path: Path) -> None:
    """With one shared secret every signer sees tokens of ours; presented to the coordinator they are refused."""
    secret = secrets.token_bytes(32)
    sidecar = MemorySidecar(
        short_path,
        tcp=True,
        plugins={"hs256_callers": hs256_callers()},
        plugins_settings={"hs256_callers": {"secret_b64": base64.b64encode(secret).decode()}},
    )
    now = int(time.time())
    claims = {
        "iss": "frost-coord",
        "sub": "frost-coordinator",
        "aud": "signer-1",
        "iat": now,
        "nbf": now,
        "exp": now + 30,
    }
    token = jwt.encode({**claims, "jti": "a", "body_sha256": "b"}, secret, algorithm="HS256")
    async with sidecar.serving(), sidecar.calling(token=token) as http, http.post("/sign", json=BODY) as response:
        assert response.status == 401
