"""Signers that deny a message: n - t + 1 of them keep it from being signed, fewer do not (decision 13)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client import CollectorRegistry

from frost_sidecar.coordinator import Coordinator
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import Denied, NoQuorum
from frost_sidecar.jose import thumbprint
from frost_sidecar.model import Answer, Call, Signed
from frost_sidecar.testing.behaviour import Handle, delayed, denying, honest, stalled, unreachable
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.wire import SHARES_PATH

TABLES = {"policies": {"access": {"iss": ["https://mint.example"]}}, "keys": {"default": {"policy": "access"}}}
MESSAGE = b"any bytes"


def cluster_with(folder: Path, strict: tuple[int, ...], **more: Any) -> MemoryCluster:
    """A cluster of which the signers ``strict`` sign JWTs of one issuer alone."""
    return MemoryCluster(folder, signers=dict.fromkeys(strict, TABLES), **more)


def jwt(cluster: MemoryCluster) -> bytes:
    header = {"alg": "EdDSA", "kid": thumbprint(cluster.group_public), "typ": "JWT"}
    return ".".join(b64url(json.dumps(each).encode()) for each in (header, {"iss": "https://mint.example"})).encode()


def check(signed: Signed, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(signed.group_public).verify(signed.signature, message)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


def states(coordinator: Coordinator, cluster: MemoryCluster) -> list[str]:
    signers = coordinator._parts.readiness._signers
    return [signers.state(each) for each in cluster.identifiers]


async def test_what_all_signers_deny_is_denied_and_nobodys_fault(tmp_path: Path) -> None:
    cluster = cluster_with(tmp_path, (1, 2, 3))
    async with cluster.coordinator() as coordinator:
        with pytest.raises(Denied) as caught:
            await coordinator.sign(MESSAGE, request_id="r")
        assert caught.value.reason == "signer-policy"
        assert str(caught.value).count("denied, policy access: the message is no JWS signing input") == 2
        registry = coordinator.registry
        assert sample(registry, "frost_coordinator_refusals_total", reason="signer-policy") == 1
        assert sample(registry, "frost_coordinator_request_seconds_count", outcome="denied") == 1
        assert states(coordinator, cluster) == ["healthy"] * 3
        check(await coordinator.sign(jwt(cluster)), jwt(cluster))
    record, signed = cluster.records
    assert (record.outcome, record.refusal, signed.outcome) == ("denied", "signer-policy", "signed")
    assert len(record.sessions) == 1  # both deny it in the first one, and the third alone is no quorum
    assert "no JWS signing input" in (record.reason or "")
    assert cluster.reused == []


@pytest.mark.parametrize("loner", [1, 2, 3])
async def test_one_signer_that_denies_everything_stops_nothing(tmp_path: Path, loner: int) -> None:
    cluster = MemoryCluster(tmp_path)
    cluster.behave(loner, denying("because"))
    async with cluster.coordinator() as coordinator:
        for _ in range(12):
            signed = await coordinator.sign(MESSAGE)
            check(signed, MESSAGE)
            assert loner not in signed.participants
        asked = [session for record in cluster.records for session in record.sessions if loner in session.participants]
        assert len(asked) <= 1  # then it is asked last
        assert sample(coordinator.registry, "frost_coordinator_refusals_total", reason="signer-policy") == 0
        if asked:
            assert states(coordinator, cluster)[loner - 1] == "cooling"
            assert asked[0].faults == (f"signer {loner}: denied: no share: denied, because",)


@pytest.mark.parametrize(("strict", "signs"), [((1,), True), ((2, 4), True), ((1, 3, 5), False), ((2, 3, 4, 5), False)])
async def test_of_three_of_five_three_must_deny(tmp_path: Path, strict: tuple[int, ...], signs: bool) -> None:  # noqa: FBT001
    cluster = cluster_with(tmp_path, strict, min_signers=3, max_signers=5)
    async with cluster.coordinator() as coordinator:
        if signs:
            signed = await coordinator.sign(MESSAGE)
            check(signed, MESSAGE)
            assert not set(strict) & set(signed.participants)
        else:
            with pytest.raises(Denied, match="signer"):
                await coordinator.sign(MESSAGE)
        check(await coordinator.sign(jwt(cluster)), jwt(cluster))


async def test_a_denial_and_a_signer_that_is_down_are_no_quorum(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    cluster.behave(1, denying())
    cluster.behave(2, unreachable)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(NoQuorum, match=r"signer 1: denied: no share: denied; signer 2: unreachable"):
            await coordinator.sign(MESSAGE)


async def test_with_one_signer_down_both_others_say_no_at_once(tmp_path: Path) -> None:
    cluster = cluster_with(tmp_path, (1, 2, 3))
    cluster.crash(3)
    cluster.behave(2, delayed(0.03))
    async with cluster.coordinator() as coordinator:
        with pytest.raises(Denied):
            await coordinator.sign(MESSAGE)


async def test_of_the_participants_that_a_caller_chose_one_is_enough(tmp_path: Path) -> None:
    cluster = cluster_with(tmp_path, (1,))
    async with cluster.coordinator() as coordinator:
        with pytest.raises(Denied, match="signer 1"):
            await coordinator.sign(MESSAGE, participants=[1, 2])
        check(await coordinator.sign(MESSAGE, participants=[2, 3]), MESSAGE)


async def test_after_a_denial_nobody_waits_long_for_the_rest(tmp_path: Path) -> None:
    cluster = cluster_with(tmp_path, (1,), settings={"signing": {"call_seconds": 20.0}})

    async def stalls_in_round_two(handle: Handle, call: Call) -> Answer:
        return await (stalled if call.path == SHARES_PATH else honest)(handle, call)

    cluster.behave(2, stalls_in_round_two)
    async with cluster.coordinator() as coordinator:
        with anyio.fail_after(5), pytest.raises(Denied):
            await coordinator.sign(MESSAGE, participants=[1, 2])


async def test_what_a_signer_says_is_cut_and_printable(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    for each in cluster.identifiers:
        cluster.behave(each, denying("\x1b[2J\n" + "x" * 1000))
    async with cluster.coordinator() as coordinator:
        with pytest.raises(Denied) as caught:
            await coordinator.sign(MESSAGE)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 700
        for each in cluster.identifiers:
            cluster.behave(each, denying("x" * 1025))
        with pytest.raises(NoQuorum, match="malformed"):
            await coordinator.sign(MESSAGE)


async def test_signers_whose_key_is_for_other_coordinators_deny_and_are_not_blamed(tmp_path: Path) -> None:
    theirs = {
        "clients": {"names": ["DNS:coordinator.frost.test", "DNS:other.test"]},
        "keys": {"default": {"clients": ["DNS:other.test"]}},
    }
    cluster = MemoryCluster(tmp_path, signers={2: theirs, 3: theirs})
    async with cluster.coordinator() as coordinator:
        with pytest.raises(Denied, match="signer 2: denied") as caught:
            await coordinator.sign(MESSAGE)
        assert caught.value.reason == "signer-policy"
        assert states(coordinator, cluster) == ["healthy"] * 3
