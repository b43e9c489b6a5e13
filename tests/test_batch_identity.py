"""Which batches are the same under one ``Idempotency-Key``: every field of every item counts, and nothing runs over."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from frost_sidecar.testing.sidecar import MemorySidecar

LONGEST = "k" * 255


def item(message: bytes = b"message", **members: Any) -> dict[str, Any]:
    return {"msg_b64": base64.b64encode(message).decode(), **members}


def urls(*identifiers: int) -> list[str]:
    return [f"https://signer-{identifier}.frost.test" for identifier in identifiers]


async def send(http: aiohttp.ClientSession, items: Sequence[dict[str, Any]], key: str = "k") -> tuple[int, Any]:
    async with http.post("/sign/batch", json=items, headers={"Idempotency-Key": key}) as response:
        return response.status, await response.json(content_type=None)


Batch = list[dict[str, Any]]

DIFFERENT: dict[str, tuple[Batch, Batch]] = {
    "other addresses": ([item(signer_urls=urls(1, 2))], [item(signer_urls=urls(1, 3))]),
    "addresses left out": ([item(signer_urls=urls(1, 2))], [item()]),
    "addresses in another order": ([item(signer_urls=urls(1, 2))], [item(signer_urls=urls(2, 1))]),
    "other addresses of the last": (
        [item(), item(signer_urls=urls(1, 2))],
        [item(), item(signer_urls=urls(2, 3))],
    ),
    "addresses of another item": ([item(signer_urls=urls(1, 2)), item()], [item(), item(signer_urls=urls(1, 2))]),
    "other participants": ([item(participants=[1, 2])], [item(participants=[1, 3])]),
    "more participants": ([item(participants=[1, 2])], [item(participants=[1, 2, 3])]),
    "participants left out": ([item(participants=[1, 2])], [item()]),
    "participants, not addresses": ([item(participants=[1, 2])], [item(signer_urls=urls(1, 2))]),
    "participants that read the same": ([item(), item(participants=[1, 23])], [item(), item(participants=[12, 3])]),
    "the key said": ([item()], [item(key="default")]),
    "split otherwise": ([item(b"ab"), item(b"c")], [item(b"a"), item(b"bc")]),
    "all in one": ([item(b"ab"), item(b"c")], [item(b"abc")]),
    "over the end of a field": ([item(b"m", key="default")], [item(b"mdefault")]),
    "another order": ([item(b"a"), item(b"b")], [item(b"b"), item(b"a")]),
    "one more": ([item()], [item(), item()]),
}


@pytest.mark.parametrize("kind", DIFFERENT)
async def test_a_batch_that_differs_in_anything_is_another(short_path: Path, kind: str) -> None:
    """The whole batch is refused: no item of it is looked at."""
    first, other = DIFFERENT[kind]
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:
        status, outcomes = await send(http, first)
        assert (status, len(outcomes)) == (200, len(first))
        recorded = len(sidecar.cluster.records)
        status, problem = await send(http, other)
        assert (status, problem["type"]) == (409, "urn:frost-sidecar:error:idempotency-conflict")
        status, again = await send(http, first)
        assert status == 200
        assert [each["outcome"] for each in again] == [each["outcome"] for each in outcomes]
        assert all(each["replayed"] for each in again if each["outcome"] == "signed")
    failed = sum(each["outcome"] == "failed" for each in outcomes)
    assert len(sidecar.cluster.records) == recorded + failed, "only what failed is tried again"


async def test_the_longest_key_works_and_replays(short_path: Path) -> None:
    """The items' own keys are made from it, and must not be too long for that."""
    sidecar, batch = MemorySidecar(short_path), [item(b"one"), item(b"two"), item(b"three")]
    async with sidecar.serving() as http:
        status, first = await send(http, batch, LONGEST)
        assert (status, [each["outcome"] for each in first]) == (200, ["signed"] * 3)
        status, again = await send(http, batch, LONGEST)
        assert (status, [each["replayed"] for each in again]) == (200, [True] * 3)
        assert [each["signature_b64"] for each in again] == [each["signature_b64"] for each in first]
        status, other = await send(http, batch, LONGEST[:-1] + "j")
        assert (status, [each["replayed"] for each in other]) == (200, [False] * 3)
        status, problem = await send(http, batch, LONGEST + "k")
        assert (status, problem["type"]) == (400, "urn:frost-sidecar:error:malformed-request")
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"] * 6


@pytest.mark.parametrize("second", ["k-1", "k-2", ""], ids=["the same", "another", "empty"])
@pytest.mark.parametrize("path", ["/sign", "/sign/batch"])
async def test_two_keys_in_one_request_are_refused(short_path: Path, path: str, second: str) -> None:
    """Which of them counts two readers could see differently."""
    sidecar = MemorySidecar(short_path)
    body = item() if path == "/sign" else [item()]
    async with sidecar.serving() as http:
        headers = [("Idempotency-Key", "k-1"), ("Idempotency-Key", second)]
        async with http.post(path, json=body, headers=headers) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (400, "urn:frost-sidecar:error:malformed-request")
        assert "Idempotency-Key" in problem["detail"]
        assert sidecar.cluster.records == []
        async with http.post(path, json=body, headers=headers[:1]) as response:
            assert response.status == 200
            assert "Idempotency-Replayed" not in response.headers
    assert [record.outcome for record in sidecar.cluster.records] == ["signed"]
