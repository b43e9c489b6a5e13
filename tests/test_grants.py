"""Grants: nothing without one, and with one that caller, that key, those messages, and no more of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from frost_sidecar import errors
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.encoding import b64encode, b64url
from frost_sidecar.jose import thumbprint
from frost_sidecar.model import AuditRecord, Signed
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.cluster import MemoryCluster, _Sink
from frost_sidecar.testing.sidecar import CLIENT_NAME, MemorySidecar

POLICIES = {"access": {"typ": ["at+jwt"], "iss": ["https://mint.test"], "max_lifetime_seconds": 600}}
LOCAL = {"local": {"in_process": True}}


def cluster_of(folder: Path, **settings: Any) -> MemoryCluster:
    return MemoryCluster(folder, settings={"callers": LOCAL, "grants": [], "policies": POLICIES, **settings})


def token(cluster: MemoryCluster, *, typ: str = "at+jwt", **claims: object) -> bytes:
    """Signing input that the policy ``access`` allows, but for what is given."""
    now = int(time.time())
    header = {"alg": "EdDSA", "typ": typ, "kid": thumbprint(cluster.group_public)}
    payload = {"iss": "https://mint.test", "iat": now, "exp": now + 300, **claims}
    return b".".join(b64url(json.dumps(each).encode()).encode() for each in (header, payload))


def refusals(coordinator: Coordinator, reason: str) -> float:
    value = coordinator.registry.get_sample_value("frost_coordinator_refusals_total", {"reason": reason})
    return value or 0


async def test_without_a_grant_nothing_is_signed(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.Denied, match="caller local has no grant for the key 'default'") as caught:
            await coordinator.sign(b"message")
        assert caught.value.reason == "grant-missing"
        assert refusals(coordinator, "grant-missing") == 1
    [record] = cluster.records
    assert (record.outcome, record.refusal, record.caller_name) == ("denied", "grant-missing", "local")
    assert record.sessions == ()


async def test_who_is_not_configured_gets_nothing(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, callers={"remote": {"tcp": {}}}, grants=[{"caller": "remote", "opaque": True}])
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.Denied, match="none of the configured callers") as caught:
            await coordinator.sign(b"message")
        assert caught.value.reason == "caller-unknown"
    [record] = cluster.records
    assert (record.outcome, record.refusal, record.caller_name) == ("denied", "caller-unknown", None)


async def test_only_the_development_switch_lets_everybody_sign(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster_of(tmp_path, callers={}, dev=True).coordinator() as coordinator:
        assert (await coordinator.sign(b"message")).signature
    assert any("everybody may have everything signed" in each.message for each in caplog.records)


async def test_a_grant_under_the_development_switch_is_the_only_one(tmp_path: Path) -> None:
    grants = [{"caller": "local", "policy": "access"}]
    async with cluster_of(tmp_path, dev=True, grants=grants).coordinator() as coordinator:
        with pytest.raises(errors.Denied):
            await coordinator.sign(b"message")


async def test_a_grant_is_for_one_key(tmp_path: Path) -> None:
    keys = {"a": {"group": "group.json"}, "b": {"group": "group.json"}}
    grants = [{"caller": "local", "key": "b", "opaque": True}]
    cluster = cluster_of(tmp_path, keys=keys, default_key="a", grants=grants)
    async with cluster.coordinator() as coordinator:
        for key in ("a", None):
            with pytest.raises(errors.Denied) as caught:
                await coordinator.sign(b"message", key=key)
            assert caught.value.reason == "grant-missing"
        with pytest.raises(errors.NoQuorum, match="unknown-key"):  # past the grant: the signers have one key
            await coordinator.sign(b"message", key="b")


async def test_a_grant_with_a_policy_is_for_what_keeps_it(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, grants=[{"caller": "local", "policy": "access"}])
    async with cluster.coordinator() as coordinator:
        assert (await coordinator.sign(token(cluster))).signature
        for message, reason in (
            (b"opaque", "not-a-jws"),
            (token(cluster, typ="JWT"), "jws-type"),
            (token(cluster, iss="https://other.test"), "jws-issuer"),
            (token(cluster, exp=int(time.time()) + 3600), "jws-lifetime"),
        ):
            with pytest.raises(errors.Denied, match=r"^policy access: ") as caught:
                await coordinator.sign(message)
            assert caught.value.reason == reason
            assert refusals(coordinator, reason) == 1
    assert [record.refusal for record in cluster.records] == [
        None,
        "not-a-jws",
        "jws-type",
        "jws-issuer",
        "jws-lifetime",
    ]
    assert all(record.sessions == () for record in cluster.records[1:]), "no signer was asked"


async def test_the_rate_is_the_callers_own(tmp_path: Path) -> None:
    callers = {"mint": {"tcp": {"subject": "mint"}}, "other": {"tcp": {"subject": "other"}}}
    grants = [{"caller": "mint", "opaque": True, "per_second": 4, "burst": 3}, {"caller": "other", "opaque": True}]
    sidecar = MemorySidecar(tmp_path, tcp=True, callers=callers, grants=grants)
    body = {"msg_b64": "aGVsbG8="}
    async with (
        sidecar.serving() as unix,
        sidecar.calling(token=sidecar.token("mint")) as mint,
        sidecar.calling(token=sidecar.token("other")) as other,
    ):
        answers = []
        for _ in range(5):
            async with mint.post("/sign", json=body) as response:
                answers.append((response.status, response.headers.get("Retry-After"), await response.json()))
        assert [status for status, _, _ in answers].count(200) >= 3
        status, retry_after, problem = answers[-1]
        assert (status, retry_after, problem["reason"]) == (429, "1", "rate")
        for _ in range(5):
            async with other.post("/sign", json=body) as response:
                assert response.status == 200
        await anyio.sleep(0.3)
        async with mint.post("/sign", json=body) as response:
            assert response.status == 200, "the bucket fills"
        async with unix.get("/metrics") as response:
            assert 'frost_coordinator_refusals_total{reason="rate"}' in await response.text()
    assert {record.outcome for record in sidecar.cluster.records} == {"signed"}, "a flood does not fill the audit log"


async def test_every_message_of_a_batch_counts(tmp_path: Path) -> None:
    grants = [{"caller": "local", "opaque": True, "per_second": 0.01, "burst": 3}]
    async with cluster_of(tmp_path, grants=grants).coordinator() as coordinator:
        outcomes = await coordinator.sign_batch([b"%d" % number for number in range(5)])
    refused = [each for each in outcomes if isinstance(each, errors.TooManyRequests)]
    assert len(refused) == 2
    assert 90 < refused[0].retry_after <= 100


async def test_requests_under_way_are_limited(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, grants=[{"caller": "local", "opaque": True, "max_in_flight": 2}])
    for identifier in cluster.identifiers:
        cluster.behave(identifier, behaviour.delayed(0.2))
    async with cluster.coordinator() as coordinator:
        answers = await asyncio.gather(*(coordinator.sign(b"%d" % n) for n in range(4)), return_exceptions=True)
        refused = [each for each in answers if isinstance(each, errors.TooManyRequests)]
        assert [each.reason for each in refused] == ["concurrency"] * 2
        assert (await coordinator.sign(b"again")).signature, "what has ended makes room"


async def test_who_has_no_grant_takes_no_place_of_those_who_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While refusals wait for their records, who may sign finds a place; and few such records are made at once."""
    recorded = anyio.Event()
    append = _Sink.append

    async def slow(sink: _Sink, records: Sequence[AuditRecord]) -> None:
        await recorded.wait()
        await append(sink, records)

    monkeypatch.setattr(_Sink, "append", slow)
    outcomes: list[object] = []

    async def ask(key: str) -> None:
        try:
            outcomes.append(await coordinator.sign(b"message", key=key))
        except errors.FrostSidecarError as error:
            outcomes.append(type(error))

    cluster = cluster_of(tmp_path, grants=[{"caller": "local", "opaque": True}], signing={"max_in_flight": 16})
    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask, "not-granted")
        await anyio.wait_all_tasks_blocked()
        assert outcomes == [errors.TooManyRequests] * 18
        tasks.start_soon(ask, "default")
        await anyio.wait_all_tasks_blocked()
        assert len(outcomes) == 18, "it was not refused, but waits for its record"
        recorded.set()
    assert isinstance(outcomes[-1], Signed)
    assert outcomes[18:-1] == [errors.UnknownKey] * 2


async def test_an_answer_that_comes_again_spends_nothing(tmp_path: Path) -> None:
    grants = [{"caller": "local", "opaque": True, "per_second": 0.01}]
    async with cluster_of(tmp_path, grants=grants).coordinator() as coordinator:
        first = await coordinator.sign(b"message", idempotency_key="order-1")
        again = await coordinator.sign(b"message", idempotency_key="order-1")
        assert (again.signature, again.replayed) == (first.signature, True)
        with pytest.raises(errors.TooManyRequests):
            await coordinator.sign(b"message", idempotency_key="order-2")


CALLERS = {
    "by-both": {"tcp": {"certificate": f"DNS:{CLIENT_NAME}", "subject": "mint", "issuer": "idp"}},
    "by-subject": {"tcp": {"subject": "mint"}},
    "by-certificate": {"tcp": {"certificate": f"DNS:{CLIENT_NAME}", "subject": "known"}},
    "never": {"tcp": {"certificate": "DNS:other.test"}},
    "sidecar": {"unix": {}},
}


@pytest.mark.parametrize(
    ("subject", "claims", "name"),
    [
        ("mint", {"iss": "idp"}, "by-both"),
        ("mint", {"iss": "another"}, "by-subject"),
        ("mint", {}, "by-subject"),
        ("known", {}, "by-certificate"),
        ("somebody", {}, None),
        ("Mint", {}, None),
        ("mint ", {}, None),
        ("sidecar", {}, None),
    ],
)
async def test_a_caller_on_tcp_is_its_certificate_and_its_tokens_subject(
    subject: str, claims: dict[str, str], name: str | None, tmp_path: Path
) -> None:
    grants = [{"caller": each, "opaque": True} for each in CALLERS]
    sidecar = MemorySidecar(tmp_path, tcp=True, callers=CALLERS, grants=grants)
    body = {"msg_b64": b64encode(b"hello")}
    async with (
        sidecar.serving(),
        sidecar.calling(token=sidecar.token(subject, **claims)) as http,
        http.post("/sign", json=body) as response,
    ):
        problem = await response.json()
        assert response.status == (403 if name is None else 200)
        assert problem.get("reason") == ("caller-unknown" if name is None else None)
    [record] = sidecar.cluster.records
    assert (record.caller_name, record.outcome) == (name, "denied" if name is None else "signed")
