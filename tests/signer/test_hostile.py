"""Whatever arrives, the answer is a typed problem and the signer goes on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from frost_sidecar.encoding import b64encode
from frost_sidecar.wire import COMMITMENTS_PATH, INFO_PATH, MAX_SESSIONS, SHARES_PATH

if TYPE_CHECKING:
    from tests.signer.conftest import Rig, Server

HEAD = f"POST {SHARES_PATH} HTTP/1.1\nHost: x\nContent-Length: 10\n"
POINT = b64encode(bytes(32))
COMMITMENT = {"id": "i", "hiding": POINT, "binding": POINT}
SESSION: dict[str, Any] = {"session": "s", "msg": "", "commitments": {"1": COMMITMENT, "2": COMMITMENT}}
SHARES: dict[str, Any] = {"key": "default", "epoch": "e", "sessions": [SESSION]}


def _shares(**changes: Any) -> bytes:
    return json.dumps({**SHARES, **changes}).encode()


def _session(**changes: Any) -> bytes:
    return _shares(sessions=[{**SESSION, **changes}])


def _commitment(**changes: Any) -> bytes:
    return _session(commitments={"1": {**COMMITMENT, **changes}, "2": COMMITMENT})


ANYWHERE = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"key": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"key":"default","count":1}'.encode("utf-16"),
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e999",
    "NaN": b"NaN",
    "two values": b"{}{}",
    "nested too deeply": b"[" * 100_000,
    "nested too deeply in a member": b'{"key":' * 50_000,
    "NUL": b"\0" * 100,
}
COMMITMENTS = {
    **ANYWHERE,
    "no key": b'{"count":1}',
    "no count": b'{"key":"default"}',
    "key of another type": b'{"key":1,"count":1}',
    "empty key": b'{"key":"","count":1}',
    "key with a path": b'{"key":"../share","count":1}',
    "key with a line end": b'{"key":"default\\n","count":1}',
    "long key": json.dumps({"key": "k" * 65, "count": 1}).encode(),
    "count zero": b'{"key":"default","count":0}',
    "count negative": b'{"key":"default","count":-1}',
    "count too large": b'{"key":"default","count":257}',
    "count huge": b'{"key":"default","count":' + b"9" * 5000 + b"}",
    "count a fraction": b'{"key":"default","count":1.5}',
    "count true": b'{"key":"default","count":true}',
    "count a text": b'{"key":"default","count":"1"}',
    "an unknown member": b'{"key":"default","count":1,"nonces":[]}',
    "a member twice": b'{"key":"default","count":1,"count":2}',
    "a member twice, once escaped": b'{"key":"default","count":1,"c\\u006funt":2}',
}
SHARES_BODIES = {
    **ANYWHERE,
    "no sessions": _shares(sessions=[]),
    "sessions null": _shares(sessions=None),
    "sessions an object": _shares(sessions={}),
    "too many sessions": _shares(sessions=[SESSION] * (MAX_SESSIONS + 1)),
    "epoch with a blank": _shares(epoch="a b"),
    "epoch of another type": _shares(epoch=1),
    "replenish negative": _shares(replenish=-1),
    "replenish too large": _shares(replenish=257),
    "an unknown member": _shares(nonces=[]),
    "an unknown member of a session": _session(nonces={}),
    "an unknown member of a commitment": _commitment(nonce="x"),
    "session name too long": _session(session="s" * 65),
    "session name with a slash": _session(session="a/b"),
    "no message": json.dumps({**SHARES, "sessions": [{"session": "s", "commitments": {"1": COMMITMENT}}]}).encode(),
    "message a list": _session(msg=[]),
    "message far too long": _session(msg="A" * 87_389),
    "no commitments": _session(commitments={}),
    "commitments a list": _session(commitments=[COMMITMENT]),
    "too many commitments": _session(commitments={str(each): COMMITMENT for each in range(1, 257)}),
    "a participant twice": json.dumps(SHARES).encode().replace(b'"2":', b'"1":'),
    "a member of a commitment twice": json.dumps(SHARES).encode().replace(b'"id": "i"', b'"id": "i", "id": "j"'),
    "commitment null": _session(commitments={"1": None}),
    "point too short": _commitment(hiding="A" * 42),
    "point too long": _commitment(binding="A" * 45),
    "point a list of bytes": _commitment(hiding=[0] * 32),
    "id missing": _session(commitments={"1": {"hiding": POINT, "binding": POINT}}),
    "id empty": _commitment(id=""),
}


@pytest.fixture
def cases() -> list[tuple[str, str, bytes]]:
    return [
        *((COMMITMENTS_PATH, name, body) for name, body in COMMITMENTS.items()),
        *((SHARES_PATH, name, body) for name, body in SHARES_BODIES.items()),
    ]


async def test_hostile_bodies_are_malformed_requests(rig: Rig, cases: list[tuple[str, str, bytes]]) -> None:
    async with rig.serving() as server:
        for path, name, body in cases:
            reply = await server.send("POST", path, body)
            assert (reply.status, reply.slug) == (400, "malformed-request"), (path, name, reply.body)
            assert reply.headers["Content-Type"] == "application/problem+json", (path, name)
        await _still_signs(rig, server)


async def test_a_body_where_none_belongs_is_refused(rig: Rig) -> None:
    async with rig.serving() as server:
        reply = await server.send("GET", INFO_PATH, b"{}")
        assert (reply.status, reply.slug) == (400, "malformed-request")
        await _still_signs(rig, server)


async def test_a_body_over_the_cap_is_refused(rig: Rig) -> None:
    async with rig.serving(limits={"max_body_bytes": 4096}) as server:
        for path in (COMMITMENTS_PATH, SHARES_PATH, INFO_PATH):
            reply = await server.send("GET" if path == INFO_PATH else "POST", path, b" " * 5000)
            assert (reply.status, reply.slug) == (413, "too-large")
        await _still_signs(rig, server)


@pytest.mark.parametrize("encoding", ["gzip", "identity", ""])
async def test_compressed_bodies_are_refused(rig: Rig, encoding: str) -> None:
    async with rig.serving() as server:
        headers = {"Content-Encoding": encoding, "Authorization": "Bearer " + rig.token(b"")}
        reply = await server.send("POST", SHARES_PATH, b"\x1f\x8b", headers=headers)
        assert (reply.status, reply.slug) == (400, "malformed-request")


async def test_a_body_that_does_not_come_is_given_up(rig: Rig) -> None:
    async with rig.serving(limits={"body_seconds": 0.05}) as server:
        async with server.begin(HEAD + "Authorization: Bearer x") as reader:
            reply = await server.read(reader)
            assert (reply.status, reply.slug) == (400, "malformed-request")
        await _still_signs(rig, server)


@pytest.mark.parametrize("headers", ["Content-Type: x", "Authorization: Basic x", "Authorization: Bearer"])
async def test_without_a_bearer_token_no_body_is_waited_for(rig: Rig, headers: str) -> None:
    async with rig.serving() as server, server.begin(HEAD + headers) as reader:
        reply = await server.read(reader)
        assert (reply.status, reply.slug) == (401, "unauthenticated")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert reply.json["request_id"] == reply.headers["X-Request-ID"]
        metrics = (await server.send("GET", "/metrics", headers={})).body.decode()
        assert 'frost_signer_refusals_total{reason="token-missing"} 1.0' in metrics


async def test_without_an_allowed_certificate_no_body_is_waited_for(rig: Rig) -> None:
    async with (
        rig.serving() as server,
        server.begin(HEAD + "Authorization: Bearer x", tls=rig.certificate("another.test")) as reader,
    ):
        reply = await server.read(reader)
        assert (reply.status, reply.slug, reply.json["outcome"]) == (403, "denied", "denied")
        metrics = (await server.send("GET", "/metrics", headers={})).body.decode()
        assert 'frost_signer_refusals_total{reason="certificate-name"} 1.0' in metrics


async def test_a_body_that_is_announced_too_large_is_not_waited_for(rig: Rig) -> None:
    async with rig.serving(limits={"max_body_bytes": 1024}) as server:
        for length in (1025, 2**40):
            head = HEAD.replace("10", str(length)) + "Authorization: Bearer x"
            async with server.begin(head) as reader:
                reply = await server.read(reader)
                assert (reply.status, reply.slug) == (413, "too-large")
        await _still_signs(rig, server)


@pytest.mark.parametrize("length", ["Content-Length: 4096", "Transfer-Encoding: chunked"])
async def test_who_announces_a_body_and_sends_none_holds_no_room(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, length: str
) -> None:
    monkeypatch.setattr("frost_sidecar.listener._READING_BYTES", 4096)
    head = HEAD.replace("Content-Length: 10", length) + "Authorization: Bearer x\nExpect: 100-continue"
    async with rig.serving(limits={"max_body_bytes": 4096}) as server, server.begin(head) as reader:
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        assert (await server.send("POST", COMMITMENTS_PATH, {"key": "default", "count": 1})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", COMMITMENTS_PATH, 405),
        ("DELETE", SHARES_PATH, 405),
        ("POST", INFO_PATH, 405),
        ("GET", "/", 404),
        ("GET", "/v2/info", 404),
        ("GET", "/v1/info/", 404),
    ],
)
async def test_other_paths_and_methods_are_problems_too(rig: Rig, method: str, path: str, status: int) -> None:
    async with rig.serving() as server:
        reply = await server.send(method, path)
        assert reply.status == status
        assert reply.headers["Content-Type"] == "application/problem+json"


async def test_an_unknown_path_in_memory_is_a_problem(rig: Rig) -> None:
    reply = await rig.call(rig.service(), "/v1/nonces")
    assert (reply.status, reply.slug) == (404, "not-found")


async def test_an_unknown_key_is_not_found(rig: Rig) -> None:
    reply = await rig.call(rig.service(), COMMITMENTS_PATH, {"key": "nobody", "count": 1})
    assert (reply.status, reply.slug) == (404, "unknown-key")


async def test_one_certificate_has_places_for_eight_subjects(rig: Rig) -> None:
    service = rig.service(clients={"names": ["DNS:coordinator.test", "DNS:other.test"]})
    ask = {"key": "default", "count": 1}
    statuses = [(await rig.call(service, COMMITMENTS_PATH, ask, sub=f"s{number}")).status for number in range(9)]
    assert statuses == [200] * 8 + [503]
    assert (await rig.call(service, COMMITMENTS_PATH, ask, names=("DNS:other.test",))).status == 200


async def test_a_client_without_a_place_is_told_to_come_again(rig: Rig) -> None:
    service = rig.service(limits={"max_clients": 1})
    ask = {"key": "default", "count": 1}
    assert (await rig.call(service, COMMITMENTS_PATH, ask, sub="one")).status == 200
    reply = await rig.call(service, COMMITMENTS_PATH, ask, sub="two")
    assert (reply.status, reply.slug) == (503, "too-many-clients")


async def test_a_defect_is_an_internal_error_without_its_cause(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_client: str) -> None:
        raise RuntimeError("the cause")

    service = rig.service()
    monkeypatch.setattr(service.node, "info", fail)
    reply = await rig.call(service, INFO_PATH)
    assert (reply.status, reply.slug) == (500, "internal")
    assert b"the cause" not in reply.body
    assert "the cause" in caplog.text


async def _still_signs(rig: Rig, server: Server) -> None:
    stock = await server.commitments()
    session, finish = rig.group.session(stock.commitments[0])
    request = {"key": "default", "epoch": stock.epoch, "sessions": [session]}
    reply = await server.send("POST", SHARES_PATH, request)
    assert finish(reply.json["results"][0]["share"])
