"""Sessions that travel and are worked on together share nothing else: no outcome of one is another's."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import frost_ed25519 as frost
import msgspec
import nacl.signing
import pytest

from frost_sidecar import Coordinator, Signed, errors
from frost_sidecar.encoding import b64decode
from frost_sidecar.model import Answer, Call
from frost_sidecar.testing.behaviour import Behaviour, Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.lying_signer import random_scalar
from frost_sidecar.wire import SHARES_PATH
from tests.background import stocked

SECONDS = 10.0
"""How long anything may take before a test gives up."""
MESSAGES = [b"message %d" % each for each in range(12)]


@pytest.fixture
def pair(tmp_path: Path) -> MemoryCluster:
    """Two signers that both must sign: all sessions that start at once go to both in one request."""
    return make_cluster(tmp_path, max_signers=2)


@pytest.fixture
def three(tmp_path: Path) -> MemoryCluster:
    """Three signers of which any two sign."""
    return make_cluster(tmp_path, max_signers=3)


def make_cluster(folder: Path, max_signers: int) -> MemoryCluster:
    settings = {"signing": {"call_seconds": SECONDS, "budget_seconds": SECONDS}}
    return MemoryCluster(folder / "keys", min_signers=2, max_signers=max_signers, settings=settings)


def sample(coordinator: Coordinator, name: str, **labels: str) -> float:
    return coordinator.registry.get_sample_value(f"frost_coordinator_{name}", labels) or 0.0


async def sign_all(coordinator: Coordinator, **arguments: Any) -> list[Signed | BaseException]:
    """The outcome of each message, all of them asked for at once. Whatever was signed verifies under its message."""
    async with asyncio.timeout(2 * SECONDS):
        outcomes = await asyncio.gather(
            *(coordinator.sign(each, request_id=each.hex(), **arguments) for each in MESSAGES), return_exceptions=True
        )
    for message, outcome in zip(MESSAGES, outcomes, strict=True):
        if isinstance(outcome, Signed):
            nacl.signing.VerifyKey(outcome.group_public).verify(message, outcome.signature)
            assert outcome.request_id == message.hex()
    return outcomes


def of(outcomes: Sequence[Signed | BaseException], kind: type) -> list[bytes]:
    """The messages whose outcome is of this kind."""
    return [message for message, outcome in zip(MESSAGES, outcomes, strict=True) if isinstance(outcome, kind)]


def check_records(cluster: MemoryCluster, outcomes: Sequence[Signed | BaseException]) -> None:
    """Each request has one record, its own, that says what the caller got."""
    records = {record.request_id: record for record in cluster.records}
    assert len(records) == len(cluster.records) == len(MESSAGES)
    for message, outcome in zip(MESSAGES, outcomes, strict=True):
        record = records[message.hex()]
        assert record.message_sha256 == hashlib.sha256(message).hexdigest()
        if isinstance(outcome, Signed):
            assert record.outcome == "signed"
            assert record.signature_sha256 == hashlib.sha256(outcome.signature).hexdigest()
            assert record.participants == outcome.participants == record.sessions[-1].participants
        else:
            assert record.outcome != "signed"
            assert record.signature_sha256 is None
    packages = [each.package_sha256 for record in cluster.records for each in record.sessions if each.package_sha256]
    assert len(set(packages)) == len(packages)
    assert cluster.reused == []


Edit = Callable[[list[dict[str, Any]], list[bytes]], None]
"""Changes the results of an answer in place, given the messages of its sessions."""


def editing(edit: Edit) -> tuple[Behaviour, list[int]]:
    """A signer whose answers are edited where they answer several sessions, and how many each such answer had."""
    sizes: list[int] = []

    async def edited(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        sessions = msgspec.json.decode(call.body)["sessions"] if call.path == SHARES_PATH else []
        if len(sessions) < 2:
            return answer
        sizes.append(len(sessions))
        body = msgspec.json.decode(answer.body)
        edit(body["results"], [b64decode(each["msg"]) for each in sessions])
        return Answer(answer.status, msgspec.json.encode(body))

    return edited, sizes


def exchange_shares(results: list[dict[str, Any]], _messages: list[bytes]) -> None:
    """Each of the first two sessions has the other's share."""
    results[0]["share"], results[1]["share"] = results[1]["share"], results[0]["share"]


def exchange_results(results: list[dict[str, Any]], _messages: list[bytes]) -> None:
    """The first two results stand in each other's place, names and all."""
    results[0], results[1] = results[1], results[0]


def answer_one_twice(results: list[dict[str, Any]], _messages: list[bytes]) -> None:
    """The first session is answered a second time instead of the second one."""
    results[1] = results[0]


async def test_of_what_signs_together_everybody_gets_the_own(pair: MemoryCluster) -> None:
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        outcomes = await sign_all(coordinator)
        calls = sample(coordinator, "share_batch_size_count")
    assert of(outcomes, Signed) == MESSAGES
    assert calls == 2  # one request per signer, and all sessions in it
    check_records(pair, outcomes)


async def test_exchanged_shares_are_bad_shares_of_both_sessions_and_of_no_other(pair: MemoryCluster) -> None:
    behaviour, sizes = editing(exchange_shares)
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        pair.behave(2, behaviour)
        outcomes = await sign_all(coordinator)
        faults = sample(coordinator, "signer_faults_total", signer="signer-2", kind="bad-share")
    assert sizes == [len(MESSAGES)]
    assert faults == 2
    assert of(outcomes, errors.NoQuorum) == MESSAGES[:2]
    assert of(outcomes, Signed) == MESSAGES[2:]
    for outcome in outcomes[:2]:
        assert "signer 2: bad-share" in str(outcome)
        assert "signer 1" not in str(outcome)
    check_records(pair, outcomes)


async def test_what_a_signer_exchanged_the_others_sign(three: MemoryCluster) -> None:
    behaviour, sizes = editing(exchange_shares)
    three.behave(2, behaviour)
    async with three.coordinator() as coordinator:
        await stocked(coordinator, three.identifiers)
        for _ in range(20):  # until it was chosen for two of them
            three.records.clear()
            outcomes = await sign_all(coordinator)
            assert of(outcomes, Signed) == MESSAGES
            check_records(three, outcomes)
            if sizes:
                break
        failed = [session for record in three.records for session in record.sessions if session.faults]
        before = len(sizes)
        outcomes = await sign_all(coordinator)
        assert {each.participants for each in outcomes if isinstance(each, Signed)} == {(1, 3)}
        assert len(sizes) == before == 1
    assert len(failed) == 2
    assert all(2 in session.participants and "signer 2: bad-share" in session.faults[0] for session in failed)


@pytest.mark.parametrize("edit", [exchange_results, answer_one_twice])
async def test_results_out_of_place_are_a_malformed_answer(pair: MemoryCluster, edit: Edit) -> None:
    behaviour, sizes = editing(edit)
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        pair.behave(2, behaviour)
        outcomes = await sign_all(coordinator, timeout=5.0)
        kinds = {
            kind: sample(coordinator, "signer_faults_total", signer="signer-2", kind=kind)
            for kind in ("malformed", "bad-share")
        }
    assert sizes[0] == len(MESSAGES)
    assert kinds == {"malformed": len(sizes), "bad-share": 0}  # one answer is one fault, however many it fails
    assert all("signer 2: malformed" in str(each) for each in outcomes if not isinstance(each, Signed))
    check_records(pair, outcomes)


async def test_one_wrong_share_among_good_ones_costs_one_session(pair: MemoryCluster) -> None:
    def lie(results: list[dict[str, Any]], messages: list[bytes]) -> None:
        results[messages.index(MESSAGES[5])]["share"] = random_scalar()

    behaviour, sizes = editing(lie)
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        pair.behave(1, behaviour)
        outcomes = await sign_all(coordinator)
    assert sizes == [len(MESSAGES)]
    assert of(outcomes, errors.NoQuorum) == [MESSAGES[5]]
    assert "signer 1: bad-share" in str(outcomes[5])
    assert of(outcomes, Signed) == MESSAGES[:5] + MESSAGES[6:]
    check_records(pair, outcomes)


async def test_one_denied_message_among_others_is_denied_alone(pair: MemoryCluster) -> None:
    def deny(results: list[dict[str, Any]], messages: list[bytes]) -> None:
        at = messages.index(MESSAGES[3])
        results[at] = {"session": results[at]["session"], "error": "denied", "detail": "not this one"}

    behaviour, sizes = editing(deny)
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        pair.behave(2, behaviour)
        outcomes = await sign_all(coordinator)
        assert [each.state for each in (await coordinator.readiness()).signers] == ["healthy", "healthy"]
    assert sizes == [len(MESSAGES)]
    assert of(outcomes, errors.Denied) == [MESSAGES[3]]
    assert "not this one" in str(outcomes[3])
    assert of(outcomes, Signed) == MESSAGES[:3] + MESSAGES[4:]
    check_records(pair, outcomes)


async def test_one_caller_that_gives_up_takes_nobody_along(pair: MemoryCluster) -> None:
    arrived, gate = anyio.Event(), anyio.Event()

    async def wait(handle: Handle, call: Call) -> Answer:
        if call.path == SHARES_PATH:
            arrived.set()
            await gate.wait()
        return await handle(call)

    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        pair.behave(1, wait)
        tasks = [asyncio.create_task(coordinator.sign(each, request_id=each.hex())) for each in MESSAGES]
        async with asyncio.timeout(2 * SECONDS):
            await arrived.wait()
            tasks[4].cancel()
            await asyncio.wait([tasks[4]])
            gate.set()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        burnt = sample(coordinator, "commitments_total", signer="signer-1", event="burnt")
    assert of(outcomes, asyncio.CancelledError) == [MESSAGES[4]]
    assert of(outcomes, Signed) == MESSAGES[:4] + MESSAGES[5:]
    assert burnt == 1
    for message, outcome in zip(MESSAGES, outcomes, strict=True):
        if isinstance(outcome, Signed):
            nacl.signing.VerifyKey(outcome.group_public).verify(message, outcome.signature)
    check_records(pair, outcomes)


Requests = Sequence[tuple[frost.SigningPackage, Mapping[int, frost.round2.SignatureShare], frost.keys.PublicKeyPackage]]
Aggregates = list[frost.Signature | frost.FrostError]


@pytest.mark.parametrize("wrong", [1, 2], ids=["one is another's", "two are exchanged"])
async def test_of_a_batch_only_what_verifies_under_its_own_message_leaves(
    pair: MemoryCluster, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """Invariant 5, for each on its own: a valid signature is of no use to anybody whose message it is not over."""
    aggregate_many = frost.aggregate_many
    sizes: list[int] = []

    def mixed_up(requests: Requests) -> Aggregates:
        aggregates = aggregate_many(requests)
        messages = [package.message for package, _, _ in requests]
        if {MESSAGES[7], MESSAGES[8]} <= set(messages):
            one, other = messages.index(MESSAGES[7]), messages.index(MESSAGES[8])
            good = aggregates[one]
            aggregates[one] = aggregates[other]
            if wrong == 2:
                aggregates[other] = good
            sizes.append(len(requests))
        return aggregates

    monkeypatch.setattr(frost, "aggregate_many", mixed_up)
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        outcomes = await sign_all(coordinator)
        assert sample(coordinator, "signs_total") == len(MESSAGES) - wrong
    assert sizes == [len(MESSAGES)]
    assert of(outcomes, errors.InternalError) == MESSAGES[7 : 7 + wrong]
    assert all("withheld" in str(each) for each in outcomes[7 : 7 + wrong])
    assert of(outcomes, Signed) == MESSAGES[:7] + MESSAGES[7 + wrong :]
    check_records(pair, outcomes)


async def test_an_aggregation_that_breaks_down_fails_those_in_it_and_the_next_go_on(
    pair: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_requests: Requests) -> Aggregates:
        raise MemoryError("secret detail")

    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        with monkeypatch.context() as patch:
            patch.setattr(frost, "aggregate_many", breaks)
            outcomes = await sign_all(coordinator)
        assert of(outcomes, errors.InternalError) == MESSAGES
        assert all("secret detail" not in str(each) for each in outcomes)
        check_records(pair, outcomes)
        pair.records.clear()
        outcomes = await sign_all(coordinator)
    assert of(outcomes, Signed) == MESSAGES
    check_records(pair, outcomes)


@pytest.mark.parametrize("member", ["hiding", "binding"])
async def test_hostile_commitments_that_ride_on_an_answer_are_no_sessions_fault_and_never_leased(
    pair: MemoryCluster, member: str
) -> None:
    poisoned = 0

    async def poison(handle: Handle, call: Call) -> Answer:
        nonlocal poisoned
        answer = await handle(call)
        if call.path != SHARES_PATH:
            return answer
        body = msgspec.json.decode(answer.body)
        for each in body["commitments"]:
            each[member] = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="  # the identity
            poisoned += 1
        return Answer(answer.status, msgspec.json.encode(body))

    pair.behave(2, poison)
    async with pair.coordinator() as coordinator:
        await stocked(coordinator, pair.identifiers)
        for _ in range(8):
            pair.records.clear()
            outcomes = await sign_all(coordinator)
            assert of(outcomes, Signed) == MESSAGES
            check_records(pair, outcomes)
            assert all(len(record.sessions) == 1 for record in pair.records)
        faults = sample(coordinator, "signer_faults_total", signer="signer-2", kind="malformed")
    assert poisoned
    assert faults
