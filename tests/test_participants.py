"""``participants`` and ``signer_urls``: they narrow the choice, and never point us at a host of the caller's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from frost_sidecar.addressing import AllowedUrls
from frost_sidecar.errors import ConfigError, FrostSidecarError, NoQuorum, ParticipantsError
from frost_sidecar.model import Answer, Call, Signer
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.cluster import MemoryCluster

URL = "https://frost-signer-{}.frost.svc:7000"


class Addressed(MemoryCluster):
    """Notes under which address each signer was called."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, settings=settings)
        self.called: set[tuple[int, str, str]] = set()

    async def call(self, signer: Signer, call: Call) -> Answer:
        self.called.add((signer.identifier, signer.url, signer.server_name))
        return await super().call(signer, call)


def original(folder: Path, pattern: str = URL.format("{identifier}"), **more: Any) -> Addressed:
    """A cluster configured like the original: no list of signers, callers bring the addresses."""
    return Addressed(folder, signers=[], signer_urls_allow=[pattern], **more)


async def test_callers_bring_addresses_that_a_pattern_allows(tmp_path: Path) -> None:
    cluster = original(tmp_path)
    async with cluster.coordinator() as coordinator:
        signed = await coordinator.sign(b"m", participants=[1, 3], signer_urls=[URL.format(1), URL.format(3) + "/"])
    assert signed.participants == (1, 3)
    assert cluster.called == {(i, URL.format(i), f"frost-signer-{i}.frost.svc") for i in (1, 3)}


async def test_of_more_addresses_than_needed_a_quorum_is_chosen(tmp_path: Path) -> None:
    cluster = original(tmp_path)
    cluster.behave(1, behaviour.unreachable)
    async with cluster.coordinator() as coordinator:
        for _ in range(4):
            signed = await coordinator.sign(
                b"m", participants=[1, 2, 3], signer_urls=[URL.format(i) for i in (1, 2, 3)]
            )
            assert signed.participants == (2, 3)


async def test_a_listed_signer_keeps_its_name_at_another_address(tmp_path: Path) -> None:
    """The operator's ``server_name`` is what the certificate must carry, wherever the caller says the signer is."""
    signers = [
        {"identifier": i, "url": f"https://10.0.0.{i}:7000", "zone": "a", "server_name": f"signer-{i}.test"}
        for i in (1, 2, 3)
    ]
    cluster = Addressed(tmp_path, signers=signers, signer_urls_allow=["https://pod-*.frost.svc:7000"])
    async with cluster.coordinator() as coordinator:
        await coordinator.sign(
            b"m", participants=[1, 2], signer_urls=["https://pod-a1.frost.svc:7000", "https://10.0.0.2:7000"]
        )
    assert cluster.called == {
        (1, "https://pod-a1.frost.svc:7000", "signer-1.test"),
        (2, "https://10.0.0.2:7000", "signer-2.test"),
    }


REFUSED: dict[str, dict[str, Any]] = {
    "addresses alone": {"signer_urls": [URL.format(1), URL.format(2)]},
    "identifiers alone": {"participants": [1, 2]},
    "neither": {},
    "another number of them": {"participants": [1, 2, 3], "signer_urls": [URL.format(1), URL.format(2)]},
    "crossed": {"participants": [2, 1], "signer_urls": [URL.format(1), URL.format(2)]},
    "one twice": {"participants": [1, 1], "signer_urls": [URL.format(1), URL.format(1)]},
    "one twice, spelled otherwise": {"participants": [1, 2], "signer_urls": [URL.format(1), URL.format(1) + "/"]},
    "too few": {"participants": [1], "signer_urls": [URL.format(1)]},
    "no such participant": {"participants": [1, 9], "signer_urls": [URL.format(1), URL.format(9)]},
    "another host": {"participants": [1, 2], "signer_urls": [URL.format(1), "https://evil.example:7000"]},
    "another port": {"participants": [1, 2], "signer_urls": [URL.format(1), "https://frost-signer-2.frost.svc:7001"]},
    "no port": {"participants": [1, 2], "signer_urls": [URL.format(1), "https://frost-signer-2.frost.svc"]},
    "plain http": {"participants": [1, 2], "signer_urls": [URL.format(1), "http://frost-signer-2.frost.svc:7000"]},
    "a path": {"participants": [1, 2], "signer_urls": [URL.format(1), URL.format(2) + "/v1"]},
    "a query": {"participants": [1, 2], "signer_urls": [URL.format(1), URL.format(2) + "?x"]},
    "user information": {
        "participants": [1, 2],
        "signer_urls": [URL.format(1), "https://frost-signer-2.frost.svc:7000@evil.example"],
    },
    "a longer name": {
        "participants": [1, 2],
        "signer_urls": [URL.format(1), "https://frost-signer-2.frost.svc.evil.example:7000"],
    },
    "a name in front": {
        "participants": [1, 2],
        "signer_urls": [URL.format(1), "https://x.frost-signer-2.frost.svc:7000"],
    },
    "a line feed": {"participants": [1, 2], "signer_urls": [URL.format(1), URL.format(2) + "\n"]},
    "a blank": {"participants": [1, 2], "signer_urls": [URL.format(1), " " + URL.format(2)]},
    "other digits": {"participants": [1, 2], "signer_urls": [URL.format(1), URL.format("\u0662")]},
    "a leading zero": {"participants": [1, 2], "signer_urls": [URL.format(1), URL.format("02")]},
}


@pytest.mark.parametrize("name", REFUSED)
async def test_everything_else_is_refused_before_anybody_is_called(tmp_path: Path, name: str) -> None:
    cluster = original(tmp_path)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(ParticipantsError):
            await coordinator.sign(b"m", **REFUSED[name])
        assert cluster.called == set()
        assert await coordinator.sign(b"m", participants=[1, 2], signer_urls=[URL.format(1), URL.format(2)])


ALLOWED: Mapping[str, tuple[str, int, str | None]] = {
    "https://frost-signer-{identifier}.frost.svc:7000": (
        "https://FROST-signer-12.frost.SVC:7000",
        12,
        "frost-signer-12.frost.svc",
    ),
    "https://*.frost.svc:7000": ("https://a.b.frost.svc:7000", 1, None),
    "https://{identifier}.frost.svc": ("https://7.frost.svc:443", 7, "7.frost.svc"),
    "https://a-*-z.frost.svc": ("https://a-b-c-z.frost.svc", 1, "a-b-c-z.frost.svc"),
    "https://a*.frost.svc": ("https://a.frost.svc", 1, None),
    "https://x-{identifier}-*.frost.svc": ("https://x-3-q9.frost.svc", 3, "x-3-q9.frost.svc"),
    "https://y-{identifier}.frost.svc": ("https://y-3.frost.svc", 4, None),
    "https://z.frost.svc": ("https://zxfrost.svc", 1, None),
}


@pytest.mark.parametrize("pattern", ALLOWED)
def test_what_a_pattern_allows(pattern: str) -> None:
    url, identifier, host = ALLOWED[pattern]
    allowed = AllowedUrls([pattern], path="p").host(url, identifier)
    assert (allowed and allowed[0]) == host
    assert allowed is None or allowed[1] == ("{identifier}" in pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *("https://*", "https://*:7000", "https://*.*", "https://frost.*", "https://frost-*", "https://{identifier}"),
        *("https://10.0.0.*", "https://frost.svc:0", "https://frost.svc:70000", "https://frost.svc/x", "*"),
        *("http://frost.svc", "https://fr{ost}.svc", "https://{identifier", "https://[::1]", "https://"),
    ],
)
def test_a_pattern_that_lets_strangers_in_stops_the_start(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"^p\[1\]: "):
        AllowedUrls(["https://frost.svc", pattern], path="p")


async def test_a_callers_address_says_little_against_a_listed_signer(tmp_path: Path) -> None:
    """A caller who names addresses where nobody listens must not make the signer look dead to everybody else."""
    cluster = Addressed(tmp_path, signer_urls_allow=["https://pod-*.frost.svc"])
    nobody: dict[str, Any] = {
        "participants": [1, 2],
        "signer_urls": ["https://pod-a.frost.svc", "https://pod-b.frost.svc"],
    }

    async with cluster.coordinator() as coordinator:
        cluster.behave(1, behaviour.unreachable)
        with pytest.raises(NoQuorum, match="unreachable"):
            await coordinator.sign(b"m", **nobody)
        report = await coordinator.readiness()
        assert [signer.state for signer in report.signers] == ["healthy"] * 3
        cluster.behave(1, behaviour.wrong_share)
        with pytest.raises(NoQuorum, match="bad-share"):
            await coordinator.sign(b"m", **nobody)
        assert coordinator._parts.signers.state(1) == "quarantined"  # a wrong share is proof, wherever it came from


async def test_who_names_a_signer_by_itself_brings_nobody_into_quarantine(tmp_path: Path) -> None:
    """Under ``*`` alone a caller pairs any host with any participant: what that host does is not the participant's."""
    cluster = original(tmp_path, "https://*.frost.test")
    evil = ["https://evil.frost.test", "https://s3.frost.test"]
    good = ["https://s1.frost.test", "https://s3.frost.test"]
    async with cluster.coordinator() as coordinator:
        for kind in (behaviour.wrong_share, behaviour.unreachable):
            cluster.behave(1, kind)
            with pytest.raises(NoQuorum):
                await coordinator.sign(b"m", participants=[1, 3], signer_urls=evil)
            cluster.restart(1)
            assert coordinator._parts.signers.state(1) == "healthy"
            assert await coordinator.sign(b"m", participants=[1, 3], signer_urls=good)


async def test_a_host_that_tells_its_number_answers_for_it(tmp_path: Path) -> None:
    cluster = original(tmp_path)
    urls = [URL.format(1), URL.format(2)]
    cluster.behave(1, behaviour.wrong_share)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(NoQuorum, match="bad-share"):
            await coordinator.sign(b"m", participants=[1, 2], signer_urls=urls)
        assert coordinator._parts.signers.state(1) == "quarantined"


async def test_a_callers_address_does_not_make_a_dead_signer_look_alive_or_slow(tmp_path: Path) -> None:
    cluster = Addressed(tmp_path, signer_urls_allow=["https://pod-*.frost.svc"], signing={"cool_down_seconds": 60})
    alias: dict[str, Any] = {
        "participants": [1, 2],
        "signer_urls": ["https://pod-a.frost.svc", "https://pod-b.frost.svc"],
    }
    async with cluster.coordinator() as coordinator:
        signers = coordinator._parts.signers
        cluster.behave(1, behaviour.unreachable)
        while signers.state(1) != "cooling":
            await coordinator.sign(b"m")
        cluster.behave(1, behaviour.delayed(0.2))
        for _ in range(3):
            assert await coordinator.sign(b"m", **alias)
        assert signers.state(1) == "cooling"
        assert (signers.candidates([2])[0].latency or 0) < 0.1


async def test_what_hangs_at_a_callers_address_keeps_nobody_waiting(tmp_path: Path) -> None:
    class Hanging(Addressed):
        async def call(self, signer: Signer, call: Call) -> Answer:
            if "pod-" in signer.url:
                await anyio.sleep_forever()
            return await super().call(signer, call)

    signing = {"calls_per_signer": 2, "call_seconds": 1.0}
    cluster = Hanging(tmp_path, signer_urls_allow=["https://pod-*.frost.svc"], signing=signing)
    alias: dict[str, Any] = {
        "participants": [1, 2],
        "signer_urls": ["https://pod-a.frost.svc", "https://pod-b.frost.svc"],
    }
    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:

        async def hang() -> None:
            with pytest.raises(FrostSidecarError):
                await coordinator.sign(b"m", **alias, timeout=2)

        for _ in range(10):
            tasks.start_soon(hang)
        await anyio.sleep(0.1)
        started = anyio.current_time()
        for _ in range(5):
            assert await coordinator.sign(b"m")
        assert anyio.current_time() - started < 0.5
