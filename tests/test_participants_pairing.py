"""Whose address is whose, over HTTP: no URL serves for two signers, and no signer answers in another one's name."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from frost_sidecar.model import Answer, Call
from frost_sidecar.testing.behaviour import Behaviour, Handle
from frost_sidecar.testing.sidecar import MemorySidecar
from frost_sidecar.wire import INFO_PATH
from tests.background import NO_STOCK

BODY = {"msg_b64": base64.b64encode(b"message").decode()}
LISTED = "https://signer-{}.frost.test"
POD = "https://pod-{}.frost.test"
PATTERN = "https://*.frost.test"
"""Matches the URLs of all listed signers, too."""


class Watched(MemorySidecar):
    """Notes which signers were called at all."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, signer_urls_allow=[PATTERN], stock=NO_STOCK, **settings)
        self.called: set[int] = set()
        for identifier in self.cluster.identifiers:
            self.cluster.behave(identifier, self._watch(identifier))

    def _watch(self, identifier: int) -> Behaviour:
        async def watch(handle: Handle, call: Call) -> Answer:
            self.called.add(identifier)
            return await handle(call)

        return watch


async def refused(sidecar: Watched, paired: dict[int, str], said: str) -> None:
    """These participants at these addresses are 422 before anybody is called, alone and in a batch."""
    body = {**BODY, "participants": list(paired), "signer_urls": list(paired.values())}
    async with sidecar.serving() as http:
        async with http.post("/sign", json=body) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (422, "urn:frost-sidecar:error:participants")
        assert said in problem["detail"]
        async with http.post("/sign/batch", json=[body]) as response:
            [item] = await response.json()
        assert (item["outcome"], item["status"], item["type"]) == (
            "failed",
            422,
            "urn:frost-sidecar:error:participants",
        )
    assert sidecar.called == set()
    assert [record.outcome for record in sidecar.cluster.records] == ["failed"] * 2


PAIRS: dict[str, tuple[dict[int, str], str]] = {
    "another's URL": ({1: LISTED.format(2), 3: LISTED.format(3)}, "do not pair"),
    "another's URL with a slash": ({1: LISTED.format(2) + "/", 3: LISTED.format(3)}, "do not pair"),
    "the last one another's": ({1: POD.format("a"), 2: LISTED.format(3)}, "do not pair"),
    "crossed": ({1: LISTED.format(2), 2: LISTED.format(1)}, "do not pair"),
    "one for two": ({1: POD.format("a"), 2: POD.format("a")}, "stands twice"),
    "one for two with a slash": ({1: POD.format("a"), 2: POD.format("a") + "/"}, "stands twice"),
    "one for two of three": ({1: POD.format("a"), 2: POD.format("b"), 3: POD.format("a")}, "stands twice"),
    "another's URL with its port": ({1: LISTED.format(2) + ":443", 3: LISTED.format(3)}, "do not pair"),
    "another's URL in capitals": (
        {1: LISTED.format(2).replace("signer", "SIGNER"), 3: LISTED.format(3)},
        "do not pair",
    ),
    "one for two, spelled otherwise": ({1: POD.format("a"), 2: POD.format("A") + ":443"}, "stands twice"),
    "a listed one for two": ({1: LISTED.format(1), 2: LISTED.format(1)}, "stands twice"),
}


@pytest.mark.parametrize("kind", PAIRS)
async def test_a_pattern_that_matches_both_does_not_make_one_signers_address_anothers(
    short_path: Path, kind: str
) -> None:
    paired, said = PAIRS[kind]
    await refused(Watched(short_path), paired, said)


async def test_where_no_signer_is_listed_one_url_serves_for_one_alone(short_path: Path) -> None:
    await refused(Watched(short_path, signers=[]), {1: POD.format("a"), 2: POD.format("a")}, "stands twice")


@pytest.mark.parametrize(
    "paired", [{1: LISTED.format(1), 3: LISTED.format(3)}, {1: POD.format("a"), 3: POD.format("b")}]
)
async def test_what_pairs_is_signed(short_path: Path, paired: dict[int, str]) -> None:
    sidecar = Watched(short_path)
    body = {**BODY, "participants": list(paired), "signer_urls": list(paired.values())}
    async with sidecar.serving() as http, http.post("/sign", json=body) as response:
        assert (response.status, (await response.json())["participants"]) == (200, [1, 3])
    assert sidecar.called == {1, 3}


async def test_a_signer_that_claims_anothers_share_does_not_count(short_path: Path) -> None:
    """It has the group's key and its own name, and would answer for signer 2: with it no quorum is there."""

    async def claims_the_next(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        if call.path != INFO_PATH:
            return answer
        body = msgspec.json.decode(answer.body)
        body["keys"]["default"]["identifier"] += 1
        return Answer(answer.status, msgspec.json.encode(body))

    sidecar = MemorySidecar(short_path)
    sidecar.cluster.behave(1, claims_the_next)
    sidecar.cluster.crash(3)
    async with sidecar.serving() as http, http.get("/readyz") as response:
        report = await response.json()
    assert (response.status, report["ready"]) == (503, False)
    assert report["keys"]["default"]["usable"] == [2]
    claiming = report["signers"][0]
    assert (claiming["reachable"], claiming["keys"]) == (True, [])
    assert "default" in claiming["detail"]
    assert "key default: no quorum of signers can sign now" in report["reasons"]
