"""Hostile input to every endpoint of the sidecar: a typed answer, and the next good request is served."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from frost_sidecar.testing.sidecar import MemorySidecar

GOOD = b'{"msg_b64": "aGVhZGVyLnBheWxvYWQ="}'


def body(**members: Any) -> bytes:
    return json.dumps({"msg_b64": "aGVhZGVyLnBheWxvYWQ=", **members}).encode()


MALFORMED = 400, "malformed-request"
PARTICIPANTS = 422, "participants"

BODIES: dict[str, tuple[bytes, tuple[int, str]]] = {
    "empty": (b"", MALFORMED),
    "not JSON": (b"msg_b64=aGVsbG8=", MALFORMED),
    "truncated": (GOOD[:-1], MALFORMED),
    "trailing bytes": (GOOD + b"x", MALFORMED),
    "two documents": (GOOD + GOOD, MALFORMED),
    "null": (b"null", MALFORMED),
    "array": (b"[]", MALFORMED),
    "string": (b'"aGVsbG8="', MALFORMED),
    "number": (b"1e999", MALFORMED),
    "empty object": (b"{}", MALFORMED),
    "UTF-16": (GOOD.decode().encode("utf-16"), MALFORMED),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, MALFORMED),
    "invalid UTF-8": (b'{"msg_b64": "\xff\xfe"}', MALFORMED),
    "NUL bytes": (b"\x00" * 100, MALFORMED),
    "NaN": (b'{"msg_b64": NaN}', MALFORMED),
    "deep array": (b"[" * 100_000, MALFORMED),
    "deep object in a member": (b'{"msg_b64": ' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}", MALFORMED),
    "deep unknown member": (b'{"msg_b64": "aGk=", "x": ' + b"[" * 60_000 + b"]" * 60_000 + b"}", MALFORMED),
    "unknown member": (body(message="x"), MALFORMED),
    "a nonce": (body(nonces="AAAA"), MALFORMED),
    "member twice": (b'{"msg_b64": "aGk=", "msg_b64": "aG8="}', MALFORMED),
    "member twice by escape": (b'{"msg_b64": "aGk=", "msg\\u005fb64": "aG8="}', MALFORMED),
    "message null": (body(msg_b64=None), MALFORMED),
    "message number": (body(msg_b64=5), MALFORMED),
    "message array": (body(msg_b64=["aGk="]), MALFORMED),
    "message empty": (body(msg_b64=""), MALFORMED),
    "base64 alphabet": (body(msg_b64="a*k="), MALFORMED),
    "base64 white space": (body(msg_b64="aGk=\n"), MALFORMED),
    "base64 mixed alphabets": (body(msg_b64="-_+/"), MALFORMED),
    "base64 too much padding": (body(msg_b64="aGk=="), MALFORMED),
    "base64 padding inside": (body(msg_b64="aG=k"), MALFORMED),
    "base64 length": (body(msg_b64="aGkaa"), MALFORMED),
    "base64 trailing bits": (body(msg_b64="aGl="), MALFORMED),
    "base64 only padding": (body(msg_b64="===="), MALFORMED),
    "base64 not ASCII": (body(msg_b64="aGk\u0660"), MALFORMED),
    "base64 lone surrogate": (b'{"msg_b64": "\\ud800"}', MALFORMED),
    "message too long": (body(msg_b64="A" * 24_000), (413, "too-large")),
    "body too long": (b" " * 300_000 + GOOD, (413, "too-large")),
    "participants string": (body(participants="1,2"), MALFORMED),
    "participants of strings": (body(participants=["1", "2"]), MALFORMED),
    "participants of floats": (body(participants=[1.5, 2]), MALFORMED),
    "participants of booleans": (body(participants=[True, 2]), MALFORMED),
    "participants object": (body(participants={"1": 2}), MALFORMED),
    "participants empty": (body(participants=[]), MALFORMED),
    "participants negative": (body(participants=[-1, 2]), MALFORMED),
    "participants zero": (body(participants=[0, 1]), MALFORMED),
    "participants huge": (b'{"msg_b64": "aGk=", "participants": [1, ' + b"9" * 5000 + b"]}", MALFORMED),
    "participants too many": (body(participants=list(range(1, 257))), MALFORMED),
    "participants twice": (body(participants=[1, 1, 2]), PARTICIPANTS),
    "participants too few": (body(participants=[1]), PARTICIPANTS),
    "participants unknown": (body(participants=[1, 2, 77]), PARTICIPANTS),
    "URLs elsewhere": (body(signer_urls=["https://evil.example", "https://signer-1.frost.test"]), PARTICIPANTS),
    "URLs of files": (body(signer_urls=["file:///etc/passwd", "https://signer-1.frost.test"]), PARTICIPANTS),
    "URLs with a prefix": (
        body(signer_urls=["https://signer-1.frost.test@evil.example", "https://signer-2.frost.test"]),
        PARTICIPANTS,
    ),
    "URLs too long": (body(signer_urls=["https://" + "a" * 600]), MALFORMED),
    "URLs number": (body(signer_urls=[1, 2]), MALFORMED),
    "URLs and participants crossed": (
        body(participants=[1, 2], signer_urls=["https://signer-2.frost.test", "https://signer-1.frost.test"]),
        PARTICIPANTS,
    ),
    "key unknown": (body(key="other"), (422, "unknown-key")),
    "key empty": (body(key=""), MALFORMED),
    "key path": (body(key="../../etc/passwd"), MALFORMED),
    "key with line feed": (body(key="default\n"), MALFORMED),
    "key number": (body(key=1), MALFORMED),
    "key too long": (body(key="k" * 65), MALFORMED),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_gets_its_typed_refusal_and_the_next_request_is_served(
    short_path: Path, name: str
) -> None:
    data, (status, slug) = BODIES[name]
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:
        async with http.post("/sign", data=data) as response:
            assert response.content_type == "application/problem+json"
            problem = await response.json(content_type=None)
        assert (response.status, problem["status"], problem["type"]) == (
            status,
            status,
            f"urn:frost-sidecar:error:{slug}",
        )
        assert problem["request_id"] == response.headers["X-Request-ID"]
        assert problem["outcome"] == "failed"
        assert problem["detail"]
        assert "Traceback" not in problem["detail"]
        async with http.post("/sign", data=GOOD) as response:
            assert response.status == 200
    assert [record.outcome for record in sidecar.cluster.records][-1] == "signed"
    assert [record.outcome for record in sidecar.cluster.records].count("signed") == 1


HEADERS: dict[str, tuple[dict[str, str], tuple[int, str]]] = {
    "timeout of zero": ({"X-Request-Timeout-Ms": "0"}, MALFORMED),
    "timeout negative": ({"X-Request-Timeout-Ms": "-5"}, MALFORMED),
    "timeout a word": ({"X-Request-Timeout-Ms": "soon"}, MALFORMED),
    "timeout a fraction": ({"X-Request-Timeout-Ms": "1.5"}, MALFORMED),
    "timeout infinite": ({"X-Request-Timeout-Ms": "inf"}, MALFORMED),
    "timeout huge": ({"X-Request-Timeout-Ms": "9" * 400}, MALFORMED),
    "timeout other digits": ({"X-Request-Timeout-Ms": "١٢"}, MALFORMED),
    "idempotency key empty": ({"Idempotency-Key": ""}, MALFORMED),
    "idempotency key with a blank": ({"Idempotency-Key": "a b"}, MALFORMED),
    "idempotency key too long": ({"Idempotency-Key": "k" * 256}, MALFORMED),
    "idempotency key not ASCII": ({"Idempotency-Key": "k\u00e9y"}, MALFORMED),
    "replay seconds of zero": ({"Idempotency-Replay-Seconds": "0"}, MALFORMED),
    "replay seconds a fraction": ({"Idempotency-Replay-Seconds": "1.5"}, MALFORMED),
    "replay seconds huge": ({"Idempotency-Replay-Seconds": "100000"}, MALFORMED),
    "idempotency key with a tab": ({"Idempotency-Key": "a\tb"}, MALFORMED),
    "an expectation that nobody meets": ({"Expect": "x"}, (417, "http")),
    "compressed": ({"Content-Encoding": "gzip"}, MALFORMED),
    "compressed in a row": ({"Content-Encoding": "gzip, gzip"}, MALFORMED),
}


@pytest.mark.parametrize("name", HEADERS)
async def test_a_hostile_header_gets_its_typed_refusal(short_path: Path, name: str) -> None:
    headers, (status, slug) = HEADERS[name]
    async with MemorySidecar(short_path).serving() as http:
        async with http.post("/sign", data=GOOD, headers=headers) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (status, f"urn:frost-sidecar:error:{slug}")
        async with http.post("/sign", data=GOOD) as response:
            assert response.status == 200


BATCHES: dict[str, tuple[bytes, tuple[int, str]]] = {
    "empty": (b"", MALFORMED),
    "empty list": (b"[]", MALFORMED),
    "one body, no list": (GOOD, MALFORMED),
    "list in a list": (b"[[" + GOOD + b"]]", MALFORMED),
    "a list of strings": (b'["aGk="]', MALFORMED),
    "a null in it": (b"[" + GOOD + b", null]", MALFORMED),
    "an unknown member in it": (b"[" + GOOD + b"," + body(message="x") + b"]", MALFORMED),
    "a member twice in it": (b'[{"msg_b64": "aGk=", "msg_b64": "aG8="}]', MALFORMED),
    "base64 wrong in it": (b"[" + GOOD + b"," + body(msg_b64="a*k=") + b"]", MALFORMED),
    "truncated": (b"[" + GOOD + b",", MALFORMED),
    "trailing bytes": (b"[" + GOOD + b"]]", MALFORMED),
    "deep": (b"[" * 100_000, MALFORMED),
    "too many": (b"[" + b",".join([GOOD] * 65) + b"]", (413, "too-large")),
    "far too many": (b"[" + b",".join([GOOD] * 1025) + b"]", MALFORMED),
    "body too long": (b" " * 300_000 + b"[" + GOOD + b"]", (413, "too-large")),
}


@pytest.mark.parametrize("name", BATCHES)
async def test_a_hostile_batch_gets_its_typed_refusal(short_path: Path, name: str) -> None:
    data, (status, slug) = BATCHES[name]
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:
        async with http.post("/sign/batch", data=data) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (status, f"urn:frost-sidecar:error:{slug}")
        async with http.post("/sign/batch", data=b"[" + GOOD + b"]") as response:
            assert [item["outcome"] for item in await response.json()] == ["signed"]
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"]


@pytest.mark.parametrize("traceparent", ["00-" + "0" * 32 + "-" + "1" * 16 + "-01", "junk", "ff-" + "1" * 52])
async def test_a_trace_context_that_is_none_is_not_passed_on(short_path: Path, traceparent: str) -> None:
    sidecar = MemorySidecar(short_path)
    async with (
        sidecar.serving() as http,
        http.post("/sign", data=GOOD, headers={"traceparent": traceparent}) as response,
    ):
        assert response.status == 200
    assert sidecar.cluster.records[0].traceparent is None


PATHS = [
    ("GET", "/sign", 405, "method-not-allowed"),
    ("PUT", "/sign", 405, "method-not-allowed"),
    ("POST", "/healthz", 405, "method-not-allowed"),
    ("DELETE", "/metrics", 405, "method-not-allowed"),
    ("GET", "/", 404, "not-found"),
    ("POST", "/sign/", 404, "not-found"),
    ("GET", "/../etc/passwd", 404, "not-found"),
    ("GET", "/%00", 404, "not-found"),
    ("GET", "/" + "a" * 4000, 404, "not-found"),
    ("GET", "/sign/batch", 405, "method-not-allowed"),
    ("POST", "/keys", 405, "method-not-allowed"),
    ("PUT", "/.well-known/jwks.json", 405, "method-not-allowed"),
    ("POST", "/readyz", 405, "method-not-allowed"),
    ("PATCH", "/openapi.json", 405, "method-not-allowed"),
    ("OPTIONS", "/sign", 405, "method-not-allowed"),
    ("TRACE", "/sign", 405, "method-not-allowed"),
    ("GET", "/v1/info", 404, "not-found"),
    ("POST", "//sign", 404, "not-found"),
]


@pytest.mark.parametrize(("method", "path", "status", "slug"), PATHS)
async def test_other_paths_and_methods(short_path: Path, method: str, path: str, status: int, slug: str) -> None:
    async with MemorySidecar(short_path).serving() as http:
        async with http.request(method, path) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (status, f"urn:frost-sidecar:error:{slug}")
        async with http.get("/healthz") as response:
            assert await response.read() == b"ok"


RAW: dict[str, bytes] = {
    "not HTTP": b"\x16\x03\x01\x02\x00hello\r\n\r\n",
    "no such version": b"POST /sign HTTP/9.9\r\n\r\n",
    "header without a name": b"GET /healthz HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "length not a number": b"POST /sign HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n",
    "length negative": b"POST /sign HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /sign HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": (
        b"POST /sign HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunk size junk": b"POST /sign HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "huge header": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 5_000 + b"\r\n",
    "huge target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_what_is_no_request_is_refused_and_the_connection_closed(short_path: Path, name: str) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:
        reader, writer = await asyncio.open_unix_connection(sidecar.path)
        writer.write(RAW[name])
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.split(b" ")[1] == b"400"
        assert b"application/problem+json" in answer
        assert b"urn:frost-sidecar:error:malformed-request" in answer
        assert b"Traceback" not in answer
        async with http.post("/sign", data=GOOD) as response:
            assert response.status == 200


def test_there_are_more_than_a_hundred_kinds() -> None:
    assert len(BODIES) + len(HEADERS) + len(BATCHES) + len(PATHS) + len(RAW) > 120


BEGUN = b"POST /sign HTTP/1.1\r\nHost: a\r\nX-Frost-Sidecar: 1\r\nContent-Length: 1000\r\n\r\n{"


async def test_a_body_longer_than_announced_or_cut_short_harms_nobody(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, server={"body_seconds": 0.3})
    async with sidecar.serving() as http:
        for _ in range(20):
            _, writer = await asyncio.open_unix_connection(sidecar.path)
            writer.write(BEGUN)
            await writer.drain()
            writer.close()
        reader, writer = await asyncio.open_unix_connection(sidecar.path)
        writer.write(BEGUN)
        answer = await asyncio.wait_for(reader.read(4096), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"did not arrive within" in answer
        async with http.post("/sign", data=GOOD) as response:
            assert response.status == 200
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"]


async def test_hundreds_of_bad_requests_at_once_leave_room_for_good_ones(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:

        async def bad(number: int) -> int:
            data = list(BODIES.values())[number % len(BODIES)][0]
            async with http.post("/sign", data=data) as response:
                return response.status

        async def good() -> int:
            async with http.post("/sign", data=GOOD) as response:
                return response.status

        statuses = await asyncio.gather(*(bad(number) for number in range(300)), *(good() for _ in range(20)))
    assert all(400 <= status < 500 for status in statuses[:300])
    assert statuses[300:] == [200] * 20
