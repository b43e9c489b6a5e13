"""The story of one signature, over a cluster in memory: real coordinator, real signer nodes, faults at will."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import anyio
import frost_ed25519 as frost
import msgspec
import nacl.signing
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar import errors, hookimpl
from frost_sidecar.hookspecs import (
    AuditSink,
    Decision,
    PluginContext,
    Policy,
    PolicyRequest,
    Quorum,
    Selector,
    TokenIssuer,
    Transport,
)
from frost_sidecar.model import Answer, AuditRecord, Call, Choice, Signed, Signer, TokenClaims
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.behaviour import Behaviour, Handle
from frost_sidecar.testing.cluster import MemoryCluster
from tests.background import NO_STOCK, is_background, stocked

MESSAGE = b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9"


@pytest.fixture
def cluster(tmp_path: Path) -> MemoryCluster:
    return make_cluster(tmp_path)


def make_cluster(folder: Path, **settings: Any) -> MemoryCluster:
    signing = {"call_seconds": 0.3, **settings.pop("signing", {})}
    return MemoryCluster(folder / "keys", settings={"signing": signing, **settings})


STOCKS = pytest.mark.parametrize("stock", [NO_STOCK, {}], ids=["no stock", "stock"])


def check(signed: Signed, message: bytes = MESSAGE) -> None:
    Ed25519PublicKey.from_public_bytes(signed.group_public).verify(signed.signature, message)
    nacl.signing.VerifyKey(signed.group_public).verify(message, signed.signature)


def sample(registry: Any, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def test_a_signature_verifies_with_two_other_libraries_and_is_recorded(cluster: MemoryCluster) -> None:
    async with cluster.coordinator() as coordinator:
        signed = await coordinator.sign(MESSAGE, request_id="r-1")
        assert await coordinator.group_public() == signed.group_public == cluster.group_public
        assert sample(coordinator.registry, "frost_coordinator_signs_total") == 1
    check(signed)
    assert len(signed.participants) == 2
    [record] = cluster.records
    assert record.outcome == "signed"
    assert (record.request_id, record.caller, record.key) == ("r-1", "in-process", "default")
    assert record.message_sha256 == hashlib.sha256(MESSAGE).hexdigest()
    assert record.signature_sha256 == hashlib.sha256(signed.signature).hexdigest()
    assert record.participants == signed.participants
    assert [session.participants for session in record.sessions] == [signed.participants]
    assert record.sessions[0].package_sha256 is not None


@STOCKS
async def test_request_id_and_trace_context_reach_every_signer(tmp_path: Path, stock: dict[str, int]) -> None:
    cluster = make_cluster(tmp_path, stock=stock)
    seen: list[Call] = []

    async def listen(handle: Handle, call: Call) -> Answer:
        seen.append(call)
        return await handle(call)

    for identifier in cluster.identifiers:
        cluster.behave(identifier, listen)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with cluster.coordinator() as coordinator:
        if stock != NO_STOCK:
            await stocked(coordinator)
            assert [is_background(each) for each in seen] == [True] * 3
            seen.clear()
        await coordinator.sign(MESSAGE, request_id="r-2", traceparent=trace)
    assert len(seen) == (4 if stock == NO_STOCK else 2)
    assert {(each.headers["X-Request-ID"], each.headers["traceparent"]) for each in seen} == {("r-2", trace)}
    assert cluster.records[0].traceparent == trace


FAULTY: list[tuple[Behaviour, str]] = [
    (behaviour.unreachable, "unreachable"),
    (behaviour.stalled, "timeout"),
    (behaviour.drops_answers, "unreachable"),
    (behaviour.delivered_twice, "refused"),
    (behaviour.wrong_share, "bad-share"),
    (behaviour.wrong_identity, "identity"),
    (behaviour.garbage, "malformed"),
    (behaviour.refusing, "refused"),
]


@STOCKS
@pytest.mark.parametrize(("faulty", "kind"), FAULTY, ids=lambda each: getattr(each, "__name__", str(each)))
@pytest.mark.parametrize("culprit", [1, 2, 3])
async def test_one_faulty_signer_is_named_and_another_quorum_signs(
    tmp_path: Path, faulty: Behaviour, kind: str, culprit: int, stock: dict[str, int]
) -> None:
    cluster = make_cluster(tmp_path, stock=stock)
    background: list[Call] = []

    async def behave(handle: Handle, call: Call) -> Answer:
        if is_background(call):
            background.append(call)
        return await faulty(handle, call)

    cluster.behave(culprit, behave)
    others = [each for each in cluster.identifiers if each != culprit]
    async with cluster.coordinator() as coordinator:
        for _ in range(60):
            check(await coordinator.sign(MESSAGE))
            if any(each.faults for each in cluster.records[-1].sessions):
                break
        faults = {
            (metric.labels["signer"], metric.labels["kind"]): metric.value
            for family in coordinator.registry.collect()
            for metric in family.samples
            if metric.name == "frost_coordinator_signer_faults_total" and metric.value
        }
    assert {record.participants for record in cluster.records} == {tuple(others)}
    struck = cluster.records[-1]
    assert (struck.outcome, struck.sessions[-1].faults) == ("signed", ())
    named = [fault for record in cluster.records for each in record.sessions for fault in each.faults]
    assert named
    assert all(fault.startswith(f"signer {culprit}: {kind}") for fault in named)
    assert set(faults) == {(f"signer-{culprit}", kind)}  # nobody else, and of nothing else
    assert len(named) <= faults[f"signer-{culprit}", kind] <= len(named) + len(background)
    assert cluster.reused == []


@STOCKS
async def test_a_liar_is_quarantined_and_asked_no_more(tmp_path: Path, stock: dict[str, int]) -> None:
    cluster = make_cluster(tmp_path, stock=stock)
    asked: list[str] = []

    async def lie(handle: Handle, call: Call) -> Answer:
        if not is_background(call):
            asked.append(call.path)
        return await behaviour.wrong_share(handle, call)

    cluster.behave(2, lie)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.NoQuorum, match=r"signer 2: bad-share"):
            await coordinator.sign(MESSAGE, participants=[1, 2])
        before = len(asked)
        assert before
        for _ in range(10):
            assert (await coordinator.sign(MESSAGE)).participants == (1, 3)
        with pytest.raises(errors.NoQuorum, match="signer 2: quarantined"):
            await coordinator.sign(MESSAGE, participants=[1, 2])
    assert len(asked) == before


async def test_all_liars_of_a_session_are_named(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path / "keys", min_signers=4, max_signers=5)
    for identifier in (1, 3, 4):
        cluster.behave(identifier, behaviour.wrong_share)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.NoQuorum) as caught:
            await coordinator.sign(MESSAGE, participants=[1, 2, 3, 4])
    for identifier in (1, 3, 4):
        assert f"signer {identifier}: bad-share" in str(caught.value)
    assert "signer 2" not in str(caught.value)


@STOCKS
async def test_a_signer_that_repeats_a_commitment_never_signs_twice_with_it(
    tmp_path: Path, stock: dict[str, int]
) -> None:
    cluster = make_cluster(tmp_path, stock=stock)
    cluster.behave(1, behaviour.RepeatsCommitments())
    async with cluster.coordinator() as coordinator:
        for _ in range(6):
            check(await coordinator.sign(MESSAGE))
    assert cluster.reused == []


@STOCKS
async def test_a_restart_between_the_rounds_is_not_held_against_the_signer(
    tmp_path: Path, stock: dict[str, int]
) -> None:
    cluster = make_cluster(tmp_path, stock=stock)
    restarted: list[bool] = []

    async def restart_once(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        if not restarted:
            restarted.append(True)
            cluster.restart(1)
        return answer

    cluster.behave(1, restart_once)
    async with cluster.coordinator() as coordinator:
        signed = await coordinator.sign(MESSAGE, participants=[1, 2])
        check(signed)
        registry = coordinator.registry
        assert sample(registry, "frost_coordinator_signer_faults_total", signer="signer-1", kind="stale-epoch")
        coordinator_sees = sample(registry, "frost_coordinator_commitments_total", signer="signer-2", event="burnt")
    assert coordinator_sees == 1
    first, second = cluster.records[0].sessions
    assert "stale-epoch" in first.faults[0]
    assert first.package_sha256 != second.package_sha256
    assert cluster.reused == []


async def test_signers_that_feign_restarts_cannot_stop_an_honest_quorum(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path / "keys", min_signers=3, max_signers=5)
    cluster.behave(1, behaviour.always_stale)
    cluster.behave(4, behaviour.always_stale)
    async with cluster.coordinator() as coordinator:
        for _ in range(30):
            assert (await coordinator.sign(MESSAGE)).participants == (2, 3, 5)


async def test_no_quorum_names_every_signer_and_why(cluster: MemoryCluster) -> None:
    cluster.behave(1, behaviour.unreachable)
    cluster.behave(2, behaviour.garbage)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.NoQuorum) as caught:
            await coordinator.sign(MESSAGE)
    assert "signer 1: unreachable" in str(caught.value)
    assert "signer 2: malformed" in str(caught.value)
    [record] = cluster.records
    assert record.outcome == "failed"
    assert record.signature_sha256 is None


@pytest.mark.parametrize(("budget", "asked"), [(5.0, 0.2), (0.2, 60.0)], ids=["the caller's", "the budget"])
async def test_the_shorter_deadline_holds_whatever_the_signers_do(tmp_path: Path, budget: float, asked: float) -> None:
    cluster = make_cluster(tmp_path, signing={"call_seconds": 5.0, "budget_seconds": budget})
    for identifier in cluster.identifiers:
        cluster.behave(identifier, behaviour.stalled)
    async with cluster.coordinator() as coordinator:
        started = anyio.current_time()
        with pytest.raises(errors.DeadlineExceeded):
            await coordinator.sign(MESSAGE, timeout=asked)
        assert anyio.current_time() - started < 1.0
    assert [record.outcome for record in cluster.records] == ["failed"]


async def test_a_cancelled_request_is_recorded_and_releases_its_place(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, signing={"max_in_flight": 1})
    for identifier in cluster.identifiers:
        cluster.behave(identifier, behaviour.stalled)
    async with cluster.coordinator() as coordinator:
        with anyio.move_on_after(0.05):
            await coordinator.sign(MESSAGE)
        for identifier in cluster.identifiers:
            cluster.behave(identifier, behaviour.honest)
        check(await coordinator.sign(MESSAGE))
    assert [(record.outcome, record.reason) for record in cluster.records] == [
        ("failed", "cancelled"),
        ("signed", None),
    ]


async def test_one_request_too_many_is_refused_at_once(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, signing={"max_in_flight": 2})
    for identifier in cluster.identifiers:
        cluster.behave(identifier, behaviour.delayed(0.1))
    results: list[object] = []
    async with cluster.coordinator() as coordinator:

        async def one() -> None:
            try:
                results.append(await coordinator.sign(MESSAGE))
            except errors.FrostSidecarError as error:
                results.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
    assert [type(each).__name__ for each in results] == ["Overloaded", "Signed", "Signed"]


NARROWED: list[tuple[dict[str, Any], type[Exception] | None, str]] = [
    ({"participants": [1, 3]}, None, ""),
    ({"participants": [3, 2, 1]}, None, ""),
    ({"participants": [2]}, errors.ParticipantsError, "2 are needed"),
    ({"participants": [1, 1, 2]}, errors.ParticipantsError, "twice"),
    ({"participants": [1, 4]}, errors.ParticipantsError, "no signer 4"),
    ({"signer_urls": ["https://signer-1.frost.test", "https://signer-3.frost.test/"]}, None, ""),
    ({"signer_urls": ["https://signer-1.frost.test"]}, errors.ParticipantsError, "2 are needed"),
    ({"signer_urls": ["https://evil.test", "https://signer-1.frost.test"]}, errors.ParticipantsError, "configured"),
    ({"signer_urls": ["https://signer-1.frost.test"] * 2}, errors.ParticipantsError, "twice"),
    (
        {
            "participants": [1, 2],
            "signer_urls": ["https://signer-2.frost.test", "https://signer-1.frost.test"],
        },
        errors.ParticipantsError,
        "pair",
    ),
    (
        {
            "participants": [2, 1],
            "signer_urls": ["https://signer-2.frost.test", "https://signer-1.frost.test"],
        },
        None,
        "",
    ),
    ({"key": "default"}, None, ""),
    ({"key": "nope"}, errors.UnknownKey, "no key 'nope'"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), NARROWED)
async def test_a_caller_narrows_the_choice_and_never_widens_it(
    cluster: MemoryCluster, arguments: dict[str, Any], error: type[Exception] | None, text: str
) -> None:
    async with cluster.coordinator() as coordinator:
        if error is None:
            signed = await coordinator.sign(MESSAGE, **arguments)
            check(signed)
            assert set(signed.participants) <= set(arguments.get("participants", [1, 2, 3]))
        else:
            with pytest.raises(error, match=text):
                await coordinator.sign(MESSAGE, **arguments)
            assert [record.outcome for record in cluster.records] == ["failed"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": 0},
        {"timeout": "1"},
        {"participants": []},
        {"participants": [1, 0]},
        {"participants": 5},
        {"participants": ["1", "2"]},
        {"participants": [1.5, 2]},
        {"participants": [True, 2]},
        {"participants": [10**100, 2]},
        {"signer_urls": "https://signer-1.frost.test"},
        {"key": ["default"]},
        {"key": "k" * 65},
        {"request_id": 5},
        {"request_id": "\udcff"},
        {"timeout": -1.0},
        {"timeout": float("nan")},
        {"request_id": ""},
        {"request_id": "a\nb"},
        {"request_id": "x" * 129},
        {"traceparent": "junk"},
        {"traceparent": "00-" + "1" * 32 + "-" + "1" * 16 + "-01\r\nX: y"},
    ],
)
async def test_arguments_out_of_form(cluster: MemoryCluster, arguments: dict[str, Any]) -> None:
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.MalformedRequest):
            await coordinator.sign(MESSAGE, **arguments)
        check(await coordinator.sign(MESSAGE, timeout=float("inf")))


@pytest.mark.parametrize("message", [5, 10**12, "text", None, ["a"]])
async def test_a_message_that_is_not_bytes(cluster: MemoryCluster, message: Any) -> None:
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.MalformedRequest, match="must be bytes"):
            await coordinator.sign(message)
        check(await coordinator.sign(bytearray(MESSAGE)))
        check(await coordinator.sign(memoryview(MESSAGE)))


@pytest.mark.parametrize(
    ("message", "error"), [(b"", errors.MalformedRequest), (b"x" * (16 * 1024 + 1), errors.TooLarge)]
)
async def test_messages_out_of_bounds(cluster: MemoryCluster, message: bytes, error: type[Exception]) -> None:
    async with cluster.coordinator() as coordinator:
        with pytest.raises(error):
            await coordinator.sign(message)
        check(await coordinator.sign(b"x" * 16 * 1024), b"x" * 16 * 1024)


async def test_an_aggregate_that_does_not_verify_never_leaves(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 5: whatever the aggregation says, what leaves has verified under the group key."""
    async with cluster.coordinator() as coordinator:
        other = await coordinator.sign(b"another message")
        wrong = frost.Signature.deserialize(other.signature)
        monkeypatch.setattr(frost, "aggregate_many", lambda requests: [wrong for _ in requests])
        with pytest.raises(errors.InternalError, match="withheld"):
            await coordinator.sign(MESSAGE)
        assert sample(coordinator.registry, "frost_coordinator_signs_total") == 1
    assert [record.outcome for record in cluster.records] == ["signed", "failed"]
    assert cluster.records[1].signature_sha256 is None


class Sink(AuditSink):
    """A second sink, under the test's control."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.fail = False
        self.records: list[AuditRecord] = []

    async def append(self, records: Sequence[AuditRecord]) -> None:
        await self.gate.wait()
        if self.fail:
            raise OSError(28, "No space left on device")
        self.records.extend(records)


def plugin(hook: str, product: object) -> object:
    def build(self: object, context: PluginContext) -> object:
        return product

    build.__name__ = hook
    return type("Plugin", (), {hook: hookimpl(build)})()


def with_plugin(folder: Path, **settings: Any) -> MemoryCluster:
    return make_cluster(folder, plugins={"memory": {}, "extra": {}}, **settings)


async def test_nothing_is_answered_before_the_sink_has_the_record(tmp_path: Path) -> None:
    cluster, sink, answers = with_plugin(tmp_path), Sink(), []
    async with cluster.coordinator({"extra": plugin("make_audit_sink", sink)}) as coordinator:

        async def one() -> None:
            answers.append(await coordinator.sign(MESSAGE))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            with anyio.fail_after(5):
                while not cluster.records:
                    await anyio.sleep(0.005)
            await anyio.sleep(0.05)
            assert answers == []
            sink.gate.set()
    assert len(answers) == len(sink.records) == 1


@pytest.mark.parametrize("hang", [False, True], ids=["fails", "hangs"])
async def test_without_a_required_sink_nothing_is_released(tmp_path: Path, hang: bool) -> None:  # noqa: FBT001 - a case
    cluster, sink = with_plugin(tmp_path, audit={"write_seconds": 0.2}), Sink()
    sink.fail = True
    if not hang:
        sink.gate.set()
    async with cluster.coordinator({"extra": plugin("make_audit_sink", sink)}) as coordinator:
        with anyio.fail_after(3), pytest.raises(errors.AuditUnavailable, match="extra"):
            await coordinator.sign(MESSAGE)
        assert sample(coordinator.registry, "frost_coordinator_signs_total") == 0
        sink.gate.set()
        sink.fail = False
        check(await coordinator.sign(MESSAGE))
    assert [record.outcome for record in cluster.records] == ["signed", "failed", "signed"]
    assert "withheld" in (cluster.records[1].reason or "")
    assert cluster.records[0].request_id == cluster.records[1].request_id


async def test_a_best_effort_sink_may_fail(tmp_path: Path) -> None:
    cluster, sink = with_plugin(tmp_path, audit={"best_effort": ["extra"], "write_seconds": 0.2}), Sink()
    async with cluster.coordinator({"extra": plugin("make_audit_sink", sink)}) as coordinator:
        with anyio.fail_after(1):
            check(await coordinator.sign(MESSAGE))


async def test_records_gather_while_a_write_is_under_way(tmp_path: Path) -> None:
    cluster, sink, batches = with_plugin(tmp_path), Sink(), []
    sink.gate.set()

    class Slow(AuditSink):
        async def append(self, records: Sequence[AuditRecord]) -> None:
            batches.append(len(records))
            await anyio.sleep(0.05)

    async with (
        cluster.coordinator({"extra": plugin("make_audit_sink", Slow())}) as coordinator,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(20):
            tasks.start_soon(coordinator.sign, MESSAGE)
    assert sum(batches) == 20
    assert len(batches) < 10


class Verdict(Policy):
    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[PolicyRequest] = []

    async def decide(self, request: PolicyRequest) -> Decision:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "hang":
            await anyio.sleep_forever()
        return self.answer  # type: ignore[return-value] # wrong answers are the point


@pytest.mark.parametrize(
    ("answer", "error", "outcome"),
    [
        (Decision(allowed=True), None, "signed"),
        (Decision(allowed=False, reason="only on Tuesdays"), errors.Denied, "denied"),
        (Decision(allowed=1), errors.Denied, "denied"),  # type: ignore[arg-type] # a truthy answer is not a clear one
        (None, errors.PolicyUnavailable, "failed"),
        (True, errors.PolicyUnavailable, "failed"),
        (RuntimeError("bug"), errors.PolicyUnavailable, "failed"),
        ("hang", errors.PolicyUnavailable, "failed"),
    ],
)
async def test_a_policy_allows_denies_or_fails_closed(
    tmp_path: Path, answer: object, error: type[Exception] | None, outcome: str
) -> None:
    cluster, verdict = with_plugin(tmp_path, signing={"plugin_seconds": 0.2}), Verdict(answer)
    async with cluster.coordinator({"extra": plugin("make_policy", verdict)}) as coordinator:
        if error is None:
            check(await coordinator.sign(MESSAGE))
        else:
            with pytest.raises(error):
                await coordinator.sign(MESSAGE)
        assert sample(coordinator.registry, "frost_coordinator_request_seconds_count", outcome=outcome) == 1
    assert [record.outcome for record in cluster.records] == [outcome]
    [request] = verdict.asked
    assert request.jws is not None
    assert request.jws.header == {"alg": "EdDSA"}
    assert request.jws.claims == {"sub": "alice"}
    assert request.caller.source == "in-process"


class Fixed(Selector):
    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def quorums(self, choice: Choice) -> Sequence[Quorum]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value] # wrong answers are the point


@pytest.mark.parametrize(
    "answer", [[(1,)], [(1, 1)], [(1, 2, 3)], [(1, 9)], None, [None], RuntimeError("bug"), [("1", "2")]]
)
async def test_a_selector_that_chooses_no_quorum_fails_the_request(tmp_path: Path, answer: object) -> None:
    cluster = with_plugin(tmp_path)
    async with cluster.coordinator({"extra": plugin("make_selector", Fixed(answer))}) as coordinator:
        with pytest.raises(errors.InternalError, match="plugin extra"):
            await coordinator.sign(MESSAGE)


async def test_a_selector_that_finds_nobody_is_no_quorum(tmp_path: Path) -> None:
    cluster = with_plugin(tmp_path)
    async with cluster.coordinator({"extra": plugin("make_selector", Fixed([]))}) as coordinator:
        with pytest.raises(errors.NoQuorum):
            await coordinator.sign(MESSAGE)


async def test_a_broken_transport_plugin_is_not_held_against_the_signers(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: object, _signer: Signer, _call: Call) -> Answer:
        raise RuntimeError("secret detail")

    [kind] = [each for each in Transport.__subclasses__() if each.__module__ == "frost_sidecar.testing.cluster"]
    async with cluster.coordinator() as coordinator:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "call", broken)
            with pytest.raises(errors.NoQuorum) as caught:
                await coordinator.sign(MESSAGE)
        assert "secret detail" not in str(caught.value)
        check(await coordinator.sign(MESSAGE))


HOSTILE_COMMITMENTS: list[tuple[str, Any]] = [
    ("identity", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("non-canonical", "7v///////////////////////////////////////38="),
    ("not on the curve", "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ("order two", "7P///////////////////////////////////////38="),
    ("too short", "AQ=="),
    ("not base64", "!" * 44),
    ("number", 5),
    ("null", None),
]


@pytest.mark.parametrize("member", ["hiding", "binding"])
@pytest.mark.parametrize(("name", "value"), HOSTILE_COMMITMENTS, ids=lambda each: str(each)[:12])
async def test_a_hostile_commitment_is_the_signers_fault_and_another_quorum_signs(
    cluster: MemoryCluster, member: str, name: str, value: Any
) -> None:
    async def poison(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        body = msgspec.json.decode(answer.body)
        for each in body["commitments"]:
            each[member] = value
        return Answer(answer.status, msgspec.json.encode(body))

    cluster.behave(2, poison)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.NoQuorum, match="signer 2: malformed"):
            await coordinator.sign(MESSAGE, participants=[1, 2])
        assert (await coordinator.sign(MESSAGE)).participants == (1, 3)


def _drop(body: dict[str, Any]) -> None:
    body["results"] = []


def _double(body: dict[str, Any]) -> None:
    body["results"] *= 2


def _rename(body: dict[str, Any]) -> None:
    body["results"][0]["session"] = "other"


def _neither(body: dict[str, Any]) -> None:
    del body["results"][0]["share"]


def _epoch(body: dict[str, Any]) -> None:
    body["epoch"] = "other"


def _big_scalar(body: dict[str, Any]) -> None:
    body["results"][0]["share"] = "/" * 43 + "="


@pytest.mark.parametrize("edit", [_drop, _double, _rename, _neither, _epoch, _big_scalar])
async def test_a_malformed_answer_to_round_two_is_the_signers_fault(cluster: MemoryCluster, edit: Any) -> None:
    async def poison(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        body = msgspec.json.decode(answer.body)
        if "results" in body:
            edit(body)
        return Answer(answer.status, msgspec.json.encode(body))

    cluster.behave(2, poison)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.NoQuorum, match="signer 2: malformed"):
            await coordinator.sign(MESSAGE, participants=[1, 2])
        assert (await coordinator.sign(MESSAGE)).participants == (1, 3)
    assert cluster.reused == []


async def test_a_hostile_answer_of_a_signer_neither_blocks_the_loop_nor_reaches_the_caller_whole(
    tmp_path: Path,
) -> None:
    cluster = make_cluster(tmp_path, signing={"call_seconds": 2.0}, stock=NO_STOCK)

    async def pad(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        body = msgspec.json.decode(answer.body)
        body.update({f"x{number}": 1 for number in range(200_000)})
        return Answer(answer.status, msgspec.json.encode(body))

    async def shout(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        body = msgspec.json.decode(answer.body)
        for each in body["commitments"]:
            each["\x1b[31m" + "x" * 2000] = 1
        return Answer(answer.status, msgspec.json.encode(body))

    gaps: list[float] = []

    async def watch() -> None:
        while True:
            before = anyio.current_time()
            await anyio.sleep(0.01)
            gaps.append(anyio.current_time() - before)

    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:
        cluster.behave(2, pad)
        tasks.start_soon(watch)
        with pytest.raises(errors.NoQuorum, match="signer 2: malformed: the answer has more than"):
            await coordinator.sign(MESSAGE, participants=[1, 2])
        cluster.behave(3, shout)
        with pytest.raises(errors.NoQuorum) as caught:
            await coordinator.sign(MESSAGE, participants=[1, 3])
        tasks.cancel_scope.cancel()
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert len(msgspec.json.encode(cluster.records)) < 20_000
    assert max(gaps) < 0.5


CANCELS = asyncio.CancelledError("stray")


class CancelsItself(AuditSink, Policy, Selector):
    async def append(self, records: Sequence[AuditRecord]) -> None:
        raise CANCELS

    async def decide(self, request: PolicyRequest) -> Decision:
        raise CANCELS

    async def quorums(self, choice: Choice) -> Sequence[Quorum]:
        raise CANCELS


@pytest.mark.parametrize(
    ("hook", "error"),
    [
        ("make_audit_sink", errors.AuditUnavailable),
        ("make_policy", errors.PolicyUnavailable),
        ("make_selector", errors.InternalError),
    ],
)
async def test_a_plugin_that_cancels_itself_fails_its_request_and_nothing_else(
    tmp_path: Path, hook: str, error: type[Exception]
) -> None:
    cluster = with_plugin(tmp_path)
    async with cluster.coordinator({"extra": plugin(hook, CancelsItself())}) as coordinator:
        for _ in range(2):
            with pytest.raises(error):
                await coordinator.sign(MESSAGE)


async def test_a_best_effort_sink_may_fail_in_every_way(tmp_path: Path) -> None:
    cluster = with_plugin(tmp_path, audit={"best_effort": ["extra"]})
    for sink in (CancelsItself(), Sink()):
        if isinstance(sink, Sink):
            sink.fail = True
            sink.gate.set()
        async with cluster.coordinator({"extra": plugin("make_audit_sink", sink)}) as coordinator:
            check(await coordinator.sign(MESSAGE))
            check(await coordinator.sign(MESSAGE))


async def test_a_sinks_words_do_not_reach_the_caller(tmp_path: Path) -> None:
    class Talks(AuditSink):
        async def append(self, records: Sequence[AuditRecord]) -> None:
            raise OSError("connect postgres://audit:hunter2@db failed")

    cluster = with_plugin(tmp_path)
    async with cluster.coordinator({"extra": plugin("make_audit_sink", Talks())}) as coordinator:
        with pytest.raises(errors.AuditUnavailable, match="extra") as caught:
            await coordinator.sign(MESSAGE)
    assert "hunter2" not in str(caught.value)
    assert all("hunter2" not in (record.reason or "") for record in cluster.records)


async def test_a_request_cancelled_while_its_record_is_written_gets_a_correcting_record(tmp_path: Path) -> None:
    """asyncio's own cancellation passes through every shield: then the log must say that nothing was released."""
    cluster, sink = with_plugin(tmp_path), Sink()
    async with cluster.coordinator({"extra": plugin("make_audit_sink", sink)}) as coordinator:
        request = asyncio.create_task(coordinator.sign(MESSAGE, request_id="r"))
        with anyio.fail_after(5):
            while not cluster.records:
                await anyio.sleep(0.005)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        sink.gate.set()
    for records in (cluster.records, sink.records):
        assert [(record.request_id, record.outcome) for record in records] == [("r", "signed"), ("r", "failed")]
        assert "withheld" in (records[1].reason or "")


async def test_records_still_queued_at_the_end_are_written_before_the_sink_ends(tmp_path: Path) -> None:
    written: list[str] = []

    class Slow(AuditSink):
        open = False

        async def __aenter__(self) -> Self:
            self.open = True
            return self

        async def __aexit__(self, *_: object) -> None:
            self.open = False

        async def append(self, records: Sequence[AuditRecord]) -> None:
            await anyio.sleep(0.05)
            assert self.open
            written.extend(record.request_id for record in records)

    cluster = with_plugin(tmp_path, audit={"best_effort": ["extra"]})
    async with cluster.coordinator({"extra": plugin("make_audit_sink", Slow())}) as coordinator:
        for number in range(5):
            await coordinator.sign(MESSAGE, request_id=f"r-{number}")
        assert len(written) < 5
    assert written == [f"r-{number}" for number in range(5)]


async def test_a_full_audit_queue_refuses_and_a_late_record_is_withdrawn_or_corrected(tmp_path: Path) -> None:
    cluster, sink = with_plugin(tmp_path, audit={"max_queue": 2, "write_seconds": 0.3}), Sink()
    results: list[BaseException | Signed] = []
    async with cluster.coordinator({"extra": plugin("make_audit_sink", sink)}) as coordinator:

        async def one(number: int) -> None:
            try:
                results.append(await coordinator.sign(MESSAGE, request_id=f"r-{number}"))
            except errors.FrostSidecarError as error:
                results.append(error)

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(one, number)
        assert [type(each) for each in results] == [errors.AuditUnavailable] * 8
        assert sink.records == []
        sink.gate.set()
        check(await coordinator.sign(MESSAGE, request_id="later"))
    last = {record.request_id: record for record in sink.records}
    assert [name for name, record in last.items() if record.outcome == "signed"] == ["later"]
    assert all("withheld" in (record.reason or "") for name, record in last.items() if name != "later")


@STOCKS
async def test_policies_are_all_asked_and_before_any_signer(tmp_path: Path, stock: dict[str, int]) -> None:
    asked: list[Call] = []

    async def count(handle: Handle, call: Call) -> Answer:
        asked.append(call)
        return await handle(call)

    first, second = Verdict(Decision(allowed=True)), Verdict(Decision(allowed=False, reason="no"))
    cluster = make_cluster(tmp_path, plugins={"memory": {}, "a": {}, "b": {}}, stock=stock)
    for identifier in cluster.identifiers:
        cluster.behave(identifier, count)
    plugins = {"a": plugin("make_policy", first), "b": plugin("make_policy", second)}
    async with cluster.coordinator(plugins) as coordinator:
        if stock != NO_STOCK:
            await stocked(coordinator)
            asked.clear()
        with pytest.raises(errors.Denied, match="b: no"):
            await coordinator.sign(MESSAGE)
        leased = [
            sample(coordinator.registry, "frost_coordinator_commitments_total", signer=f"signer-{each}", event="leased")
            for each in cluster.identifiers
        ]
    assert asked == []
    assert leased == [0, 0, 0]
    assert len(first.asked) == len(second.asked) == 1
    assert first.asked[0].key == "default"


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b'{"alg":"EdDSA"}', b'{"role":"user","role":"admin"}'),
        (b'{"alg":"EdDSA","alg":"none"}', b'{"role":"admin"}'),
        (b'{"alg":"EdDSA"}', b'{"role":"admin","x":NaN}'),
        (b'{"alg":"EdDSA","x":Infinity}', b"{}"),
    ],
)
async def test_what_two_readers_could_read_differently_is_not_signed(
    cluster: MemoryCluster, header: bytes, payload: bytes
) -> None:
    message = b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in (header, payload))
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.MalformedRequest):
            await coordinator.sign(message)
        with pytest.raises(errors.MalformedRequest):
            await coordinator.sign(base64.urlsafe_b64encode(b'{"alg":"EdDSA"}  ') + b".e30")
        for opaque in (b"a.b", b"hello. world", b"\xff.\xfe", b"e30.e30.e30", b"."):
            check(await coordinator.sign(opaque), opaque)


@pytest.mark.parametrize("equal", [True, False], ids=["hiding equals binding", "repeats one point"])
async def test_a_commitment_with_a_point_seen_before_is_refused(tmp_path: Path, equal: bool) -> None:  # noqa: FBT001 - a case
    cluster = make_cluster(tmp_path, stock=NO_STOCK)
    first: list[str] = []
    cluster.behave(2, twisting(first, equal=equal))
    async with cluster.coordinator() as coordinator:
        if not equal:
            check(await coordinator.sign(MESSAGE, participants=[1, 2]))
        with pytest.raises(errors.NoQuorum, match="the same commitment twice"):
            await coordinator.sign(MESSAGE, participants=[1, 2])


@pytest.mark.parametrize("equal", [True, False], ids=["hiding equals binding", "repeats one point"])
async def test_a_stock_takes_no_commitment_with_a_point_seen_before(tmp_path: Path, equal: bool) -> None:  # noqa: FBT001 - a case
    cluster = make_cluster(tmp_path)
    first: list[str] = []
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        cluster.behave(2, twisting(first, equal=equal))

        async def exhaust() -> None:
            for _ in range(200):  # the stock from before lasts for a while; what rides on answers does not join it
                check(await coordinator.sign(MESSAGE, participants=[1, 2]))

        with pytest.raises(errors.NoQuorum, match="the same commitment twice"):
            await exhaust()
        assert first
        registry = coordinator.registry
        assert sample(registry, "frost_coordinator_signer_faults_total", signer="signer-2", kind="malformed") > 1
    assert cluster.reused == []


def twisting(first: list[str], *, equal: bool) -> Behaviour:
    """One point stands in every commitment that a signer offers, or each commitment is the same point twice."""

    async def twist(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        body = msgspec.json.decode(answer.body)
        for each in body["commitments"]:
            first.append(each["hiding"])
            if equal:
                each["binding"] = each["hiding"]
            else:
                each["hiding"] = first[0]
        return Answer(answer.status, msgspec.json.encode(body))

    return twist


class Hangs(Selector, TokenIssuer):
    async def quorums(self, choice: Choice) -> Sequence[Quorum]:
        await anyio.sleep_forever()
        return []

    async def issue(self, claims: TokenClaims) -> str:
        await anyio.sleep_forever()
        return ""


async def test_a_selector_that_hangs_has_a_deadline(tmp_path: Path) -> None:
    cluster = with_plugin(tmp_path, signing={"plugin_seconds": 0.1})
    async with cluster.coordinator({"extra": plugin("make_selector", Hangs())}) as coordinator:
        with anyio.fail_after(2), pytest.raises(errors.InternalError, match="plugin extra could not choose"):
            await coordinator.sign(MESSAGE)


async def test_a_token_plugin_that_hangs_has_a_deadline_and_no_signer_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(tmp_path, signing={"plugin_seconds": 0.05})
    monkeypatch.setattr(cluster.tokens, "issue", Hangs().issue)
    async with cluster.coordinator() as coordinator:
        with anyio.fail_after(4), pytest.raises(errors.NoQuorum, match="internal: plugin memory: no answer in time"):
            await coordinator.sign(MESSAGE)


async def test_refusals_are_counted_and_a_closed_coordinator_signs_nothing(cluster: MemoryCluster) -> None:
    async with cluster.coordinator() as coordinator:
        with pytest.raises(errors.TooLarge):
            await coordinator.sign(b"x" * 20_000)
        assert sample(coordinator.registry, "frost_coordinator_request_seconds_count", outcome="failed") == 1
    with pytest.raises(errors.ShuttingDown):
        await coordinator.sign(MESSAGE)


async def test_a_coordinator_may_be_opened_and_closed_in_different_tasks(cluster: MemoryCluster) -> None:
    opened = cluster.coordinator()
    coordinator = await asyncio.create_task(opened.__aenter__())
    check(await coordinator.sign(MESSAGE))
    await asyncio.create_task(opened.__aexit__(None, None, None))
    assert len(cluster.records) == 1


async def test_a_plugin_that_ends_badly_changes_nothing_for_the_program(tmp_path: Path) -> None:
    class EndsBadly(Verdict):
        async def __aexit__(self, *_: object) -> None:
            raise KeyError("internal secret")

    class Swallows(Verdict):
        async def __aexit__(self, *_: object) -> bool:  # type: ignore[override] # the point
            return True

    cluster = with_plugin(tmp_path)
    for kind in (EndsBadly, Swallows):
        with pytest.raises(ZeroDivisionError):
            async with cluster.coordinator({"extra": plugin("make_policy", kind(Decision(allowed=True)))}):
                raise ZeroDivisionError


@pytest.mark.parametrize("token", [None, b"abc", "", 5])
async def test_a_token_plugin_that_issues_no_token_is_not_held_against_the_signers(
    cluster: MemoryCluster, token: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def issue(_claims: object) -> object:
        return token

    async with cluster.coordinator() as coordinator:
        with monkeypatch.context() as patch:
            patch.setattr(cluster.tokens, "issue", issue)
            with pytest.raises(errors.NoQuorum, match="internal: plugin memory: issued no token"):
                await coordinator.sign(MESSAGE)
        assert {each.state for each in (await coordinator.readiness()).signers} == {"healthy"}
        check(await coordinator.sign(MESSAGE))


class Deaf(Policy):
    """Swallows a cancellation, as libraries do by mistake, and allows the message."""

    async def decide(self, request: PolicyRequest) -> Decision:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.5)
        return Decision(True)

    @hookimpl
    def make_policy(self, context: PluginContext) -> Policy:
        return self


async def test_a_plugin_that_swallows_the_deadline_does_not_lift_it(tmp_path: Path) -> None:
    settings = {"plugins": {"memory": {}, "deaf": {}}, "signing": {"plugin_seconds": 5.0}}
    cluster = MemoryCluster(tmp_path / "keys", settings=settings)
    async with cluster.coordinator({"deaf": Deaf()}) as coordinator:
        with pytest.raises((errors.DeadlineExceeded, errors.PolicyUnavailable)):
            await coordinator.sign(b"message", timeout=0.05)
