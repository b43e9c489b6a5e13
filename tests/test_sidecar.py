"""The sidecar on a real Unix socket: its contract, its socket file, its end."""

from __future__ import annotations

import base64
import os
import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar import errors
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.sidecar import MemorySidecar

MESSAGE = b"\xfb\xff\xfe header.payload!"
STANDARD = base64.b64encode(MESSAGE).decode()


@pytest.fixture
def sidecar(short_path: Path) -> MemorySidecar:
    return MemorySidecar(short_path)


async def test_sign_answers_the_contract_and_the_signature_verifies(sidecar: MemorySidecar) -> None:
    async with sidecar.serving() as http, http.post("/sign", json={"msg_b64": STANDARD}) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        answer = await response.json()
    assert set(answer) == {"signature_b64", "group_public_b64", "participants", "key", "request_id"}
    assert answer["key"] == "default"
    assert answer["request_id"] == response.headers["X-Request-ID"]
    assert len(answer["participants"]) == 2
    public = base64.b64decode(answer["group_public_b64"], validate=True)
    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(answer["signature_b64"], validate=True), MESSAGE)
    [record] = sidecar.cluster.records
    assert record.caller == f"unix:uid={os.getuid()},gid={os.getgid()}"
    assert record.request_id == answer["request_id"]


async def test_every_spelling_of_base64_is_the_same_message(sidecar: MemorySidecar) -> None:
    urlsafe = base64.urlsafe_b64encode(MESSAGE).decode()
    spellings = {STANDARD, STANDARD.rstrip("="), urlsafe, urlsafe.rstrip("=")}
    assert len(spellings) == 4
    async with sidecar.serving() as http:
        for spelling in spellings:
            async with http.post("/sign", json={"msg_b64": spelling}) as response:
                assert response.status == 200
    assert len({record.message_sha256 for record in sidecar.cluster.records}) == 1


async def test_healthz_is_exactly_ok(sidecar: MemorySidecar) -> None:
    async with sidecar.serving() as http, http.get("/healthz") as response:
        assert (response.status, await response.read()) == (200, b"ok")


async def test_metrics_count_signatures_in_both_formats(sidecar: MemorySidecar) -> None:
    async with sidecar.serving() as http:
        for _ in range(3):
            async with http.post("/sign", json={"msg_b64": STANDARD}) as response:
                assert response.status == 200
        async with http.get("/metrics") as response:
            assert response.content_type == "text/plain"
            text = await response.text()
        async with http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as response:
            assert response.content_type == "application/openmetrics-text"
            assert (await response.text()).endswith("# EOF\n")
    assert "\nfrost_coordinator_signs_total 3.0\n" in text
    assert 'frost_coordinator_request_seconds_count{outcome="signed"} 3.0' in text
    assert 'frost_coordinator_signer_state{signer="signer-1",state="healthy"} 1.0' in text


async def test_request_id_is_taken_over_or_made(sidecar: MemorySidecar) -> None:
    async with sidecar.serving() as http:
        for given, taken in (("mint-42", True), ("x" * 129, False), ("a b", False), ("", False)):
            async with http.post("/sign", json={"msg_b64": STANDARD}, headers={"X-Request-ID": given}) as response:
                assert (response.headers["X-Request-ID"] == given) is taken


async def test_the_callers_deadline_counts(sidecar: MemorySidecar) -> None:
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, behaviour.stalled)
    async with sidecar.serving() as http:
        started = anyio.current_time()
        headers = {"X-Request-Timeout-Ms": "150"}
        async with http.post("/sign", json={"msg_b64": STANDARD}, headers=headers) as response:
            assert response.status == 504
            problem = await response.json(content_type="application/problem+json")
        assert anyio.current_time() - started < 1.4
    assert problem["type"] == "urn:frost-sidecar:error:deadline-exceeded"
    assert problem["outcome"] == "failed"


async def test_the_same_idempotency_key_gives_the_same_answer_once(sidecar: MemorySidecar) -> None:
    headers = {"Idempotency-Key": "order-4711"}
    async with sidecar.serving() as http:

        async def sign(**body: object) -> tuple[int, dict[str, Any], str | None]:
            async with http.post("/sign", json={"msg_b64": STANDARD, **body}, headers=headers) as response:
                answer = await response.json(content_type=None)
                return response.status, answer, response.headers.get("Idempotency-Replayed")

        answers: list[tuple[int, dict[str, Any], str | None]] = []

        async def one() -> None:
            answers.append(await sign())

        async with anyio.create_task_group() as tasks:  # at once: one flight
            for _ in range(20):
                tasks.start_soon(one)
        answers.append(await sign())  # and later: replayed
        assert [status for status, _, _ in answers] == [200] * 21
        assert len({answer["signature_b64"] for _, answer, _ in answers}) == 1
        assert len({answer["request_id"] for _, answer, _ in answers}) == 1
        assert sorted(replayed or "" for _, _, replayed in answers) == ["", *["true"] * 20]
        for other in ({"msg_b64": "aGVsbG8="}, {"participants": [1, 2]}, {"key": "default"}):
            status, problem, _ = await sign(**other)
            assert (status, problem["type"]) == (409, "urn:frost-sidecar:error:idempotency-conflict")
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"]


async def test_a_failure_is_not_kept_for_an_idempotency_key(sidecar: MemorySidecar) -> None:
    headers = {"Idempotency-Key": "a"}
    async with sidecar.serving() as http:
        for identifier in (1, 2):
            sidecar.cluster.crash(identifier)
        async with http.post("/sign", json={"msg_b64": STANDARD}, headers=headers) as response:
            assert response.status == 503
        for identifier in (1, 2):
            sidecar.cluster.restart(identifier)
        async with http.post("/sign", json={"msg_b64": STANDARD}, headers=headers) as response:
            assert response.status == 200
            assert "Idempotency-Replayed" not in response.headers


async def test_a_caller_says_how_long_it_may_ask_again(sidecar: MemorySidecar) -> None:
    """A client that retries for a second needs its answer kept no longer: the memory is there for others."""
    async with sidecar.serving() as http:

        async def sign(key: str, **more: str) -> str | None:
            headers = {"Idempotency-Key": key, **more}
            async with http.post("/sign", json={"msg_b64": STANDARD}, headers=headers) as response:
                assert response.status == 200
                return response.headers.get("Idempotency-Replayed")

        short = {"Idempotency-Replay-Seconds": "1"}
        assert [await sign("a"), await sign("b", **short), await sign("b", **short)] == [None, None, "true"]
        await anyio.sleep(1.3)
        assert [await sign("a", **short), await sign("b", **short)] == ["true", None]


async def test_keys_of_different_callers_never_meet(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    body = {"msg_b64": STANDARD}
    headers = {"Idempotency-Key": "a"}
    signatures = set()
    second = sidecar.token("other")
    async with sidecar.serving() as unix, sidecar.calling() as one, sidecar.calling(token=second) as other:
        for http in (unix, one, other, one):
            async with http.post("/sign", json=body, headers=headers) as response:
                signatures.add((await response.json())["signature_b64"])
    assert len(signatures) == 3
    assert len(sidecar.cluster.records) == 3


@pytest.mark.parametrize("mode", ["0600", "0660", "620"])
async def test_the_socket_has_the_configured_mode_from_its_first_moment(short_path: Path, mode: str) -> None:
    before = os.umask(0)
    try:
        sidecar = MemorySidecar(short_path, server={"socket_mode": mode, "socket_owner": str(os.getuid())})
        async with sidecar.serving():
            status = sidecar.path.lstat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == int(mode, 8)
            assert status.st_uid == os.getuid()
    finally:
        os.umask(before)
    assert not sidecar.path.exists()


async def test_a_stale_socket_file_is_replaced(sidecar: MemorySidecar) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(os.fspath(sidecar.path))
    assert sidecar.path.exists()
    async with sidecar.serving() as http, http.get("/healthz") as response:
        assert response.status == 200


async def test_a_socket_in_use_is_not_taken_away(sidecar: MemorySidecar) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(sidecar.path))
        other.listen()
        async with sidecar.cluster.coordinator() as coordinator:
            with pytest.raises(errors.ConfigError, match=r"server\.socket: another process listens"):
                await coordinator.serve(stop=anyio.Event())
    assert sidecar.path.exists()


async def test_a_file_in_the_sockets_place_is_not_removed(sidecar: MemorySidecar) -> None:
    sidecar.path.write_text("precious")
    async with sidecar.cluster.coordinator() as coordinator:
        with pytest.raises(errors.ConfigError, match="not a socket"):
            await coordinator.serve(stop=anyio.Event())
    assert sidecar.path.read_text() == "precious"


@pytest.mark.parametrize(
    ("server", "text"),
    [
        ({"socket_owner": "nobody-of-this-name"}, "no user"),
        ({"socket_group": "nobody-of-this-name"}, "no group"),
        ({"socket_owner": "4294967295"}, "no user"),
        ({"socket_group": "99999999999"}, "no group"),
        ({"socket": "/nonexistent-folder/of-it/s"}, "there is no folder /nonexistent-folder"),
        ({"socket": "/tmp/" + "x" * 120}, "too long"),
        ({"socket": None}, "FROST_SIDECAR_SOCKET"),
    ],
)
async def test_an_impossible_socket_stops_the_start(short_path: Path, server: dict[str, Any], text: str) -> None:
    sidecar = MemorySidecar(short_path, server=server)
    async with sidecar.cluster.coordinator() as coordinator:
        with pytest.raises(errors.ConfigError, match=text):
            await coordinator.serve(stop=anyio.Event())
    assert [each.name for each in short_path.iterdir()] == ["keys"]


async def test_requests_under_way_finish_while_the_sidecar_ends(sidecar: MemorySidecar) -> None:
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, behaviour.delayed(0.15))
    statuses: list[int] = []
    async with sidecar.serving() as http:

        async def one() -> None:
            async with http.post("/sign", json={"msg_b64": STANDARD}) as response:
                statuses.append(response.status)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)
            await anyio.sleep(0.1)
            sidecar.stop.set()
            await anyio.sleep(0.05)
            with pytest.raises(aiohttp.ClientConnectorError):
                async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=str(sidecar.path))) as late:
                    await late.get("http://sidecar/healthz")
    assert statuses == [200] * 5
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"] * 5


async def test_after_the_grace_time_requests_end_with_a_clear_error_and_nothing_half_signed(short_path: Path) -> None:
    sidecar = MemorySidecar(
        short_path, server={"grace_seconds": 0.2}, signing={"call_seconds": 30, "budget_seconds": 60}
    )
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, behaviour.stalled)
    async with sidecar.serving() as http:

        async def stop() -> None:
            await anyio.sleep(0.1)
            sidecar.stop.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            started = anyio.current_time()
            async with http.post("/sign", json={"msg_b64": STANDARD}) as response:
                problem = await response.json(content_type="application/problem+json")
    assert anyio.current_time() - started < 3
    assert (response.status, problem["type"]) == (503, "urn:frost-sidecar:error:shutting-down")
    assert response.headers["Retry-After"] == "1"
    [record] = sidecar.cluster.records
    assert (record.outcome, record.reason) == ("failed", "cancelled")


async def test_a_socket_that_took_our_place_is_not_removed_at_the_end(sidecar: MemorySidecar) -> None:
    async with sidecar.serving():
        sidecar.path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(os.fspath(sidecar.path))
    assert sidecar.path.exists()


async def test_the_socket_file_goes_even_if_serving_fails(sidecar: MemorySidecar) -> None:
    with pytest.raises(ExceptionGroup):
        async with sidecar.serving():
            raise ZeroDivisionError
    assert not sidecar.path.exists()
