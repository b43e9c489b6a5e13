"""Whatever happens, in whatever order: no commitment in two signing packages, and no wrong signature.

Hypothesis drives a cluster in memory through requests of several callers, crashes, restarts, expiry, delays,
duplicates, cancellations and lies, many at once, with stocks and batches of random sizes, and looks for an order of
events that breaks an invariant.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import msgspec
import nacl.signing
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from frost_sidecar import FrostSidecarError
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.errors import TransportError
from frost_sidecar.model import Call, Signed, TokenClaims
from frost_sidecar.service import SigningService
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.behaviour import Behaviour
from frost_sidecar.wire import COMMITMENTS_PATH, MAX_COMMITMENTS, CommitmentsRequest, body_digest
from tests import lies
from tests.watched_cluster import WatchedCluster

BEHAVIOURS: dict[str, Callable[[], Behaviour]] = {
    "honest": lambda: behaviour.honest,
    "unreachable": lambda: behaviour.unreachable,
    "stalled": lambda: behaviour.stalled,
    "slow": lambda: behaviour.delayed(0.02),
    "overtaking": lambda: lies.overtaking(0.03),
    "drops answers": lambda: behaviour.drops_answers,
    "delivered twice": lambda: behaviour.delivered_twice,
    "wrong share": lambda: behaviour.wrong_share,
    "wrong identity": lambda: behaviour.wrong_identity,
    "garbage": lambda: behaviour.garbage,
    "refusing": lambda: behaviour.refusing,
    "denying": behaviour.denying,
    "always stale": lambda: behaviour.always_stale,
    "repeats commitments": behaviour.RepeatsCommitments,
    "replenishes the same": lies.replenishes_the_same,
    "one too few": lies.one_too_few,
    "one too many": lies.one_too_many,
    "another epoch each time": lies.another_epoch_each_time,
    "two epochs": lies.two_epochs,
    "former epoch": lies.former_epoch,
    "results exchanged": lies.results_exchanged,
    "results in another order": lies.results_in_another_order,
    "lives long": lies.lives_long,
    "lives not at all": lies.lives_not_at_all,
}

WRONG_SHARES = {"wrong share", "results exchanged"}

IDENTIFIERS = range(1, 6)
SIGNERS = st.integers(1, 5)
BUDGET, CALL = 0.4, 0.05
LATE = 3.0
"""Seconds beyond its deadline that a request may take on a machine that is busy with other things."""
STOCKS = st.one_of(
    st.fixed_dictionaries({"least": st.integers(0, 4), "most": st.integers(0, 4)}),
    st.fixed_dictionaries({"least": st.integers(0, 40), "most": st.integers(8, 600)}),
)
UNRECORDED = {"overloaded", "too-many-requests"}
"""Errors of requests that may leave no record."""
GAVE_UP = {"deadline-exceeded", "sidecar-unreachable"}
"""Errors of a client that waits no longer, whatever the sidecar made of its request, or whether it got it at all."""


@dataclass(frozen=True)
class Asked:
    """One request, or one batch, under way or done."""

    identifier: str
    messages: list[bytes]
    seconds: float
    task: asyncio.Task[None]


class Cluster(RuleBasedStateMachine):
    """Three of five over three zones, and two callers. Requests run in the background of the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="fs-")
        self.loop = asyncio.new_event_loop()
        self.broken: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))
        self.asked: list[Asked] = []
        self.answers: list[tuple[bytes, bytes]] = []
        self.unbalanced: list[str] = []
        self.liars: set[str] = set()
        """Signers that may have sent a wrong share."""
        self.by_socket: set[str] = set()
        self.outcomes: dict[str, str] = {}
        """By request id: the SHA-256 of the signature, or the slug of the error. None of those cancelled."""

    @initialize(
        quarantine=st.sampled_from([1.0, 3600.0]),
        in_flight=st.sampled_from([3, 256]),
        batches=st.integers(1, 3),
        stock=STOCKS,
        share=st.sampled_from([0.1, 0.5, 1.0]),
        lives=st.lists(st.sampled_from([0.1, 0.4, 600.0]), min_size=5, max_size=5),
        kept=st.lists(st.sampled_from([MAX_COMMITMENTS, 2048]), min_size=5, max_size=5),
    )
    def open(
        self,
        quarantine: float,
        in_flight: int,
        batches: int,
        stock: dict[str, int],
        share: float,
        lives: list[float],
        kept: list[int],
    ) -> None:
        self.socket = Path(self.folder.name) / "sign.sock"
        limits = [
            {"commitment_seconds": life, "max_commitments_per_client": most}
            for life, most in zip(lives, kept, strict=True)
        ]
        callers = {"library": {"in_process": True}, "socket": {"unix": {}}}
        self.cluster = WatchedCluster(
            Path(self.folder.name) / "keys",
            budget_seconds=BUDGET,
            signers={each: {"limits": limits[each - 1]} for each in IDENTIFIERS},
            settings={
                "server": {"socket": str(self.socket)},
                "callers": callers,
                "grants": [{"caller": name, "opaque": True} for name in callers],
                "stock": {**stock, "caller_share": share},
                "signing": {
                    "call_seconds": CALL,
                    "budget_seconds": BUDGET,
                    "cool_down_seconds": 0.02,
                    "quarantine_seconds": quarantine,
                    "max_in_flight": in_flight,
                    "batches_per_signer": batches,
                },
            },
        )
        self.ready, self.stop = anyio.Event(), anyio.Event()
        self.main = self.loop.create_task(self._main())
        self.run(self.ready.wait())

    async def _main(self) -> None:
        listening = anyio.Event()
        async with self.cluster.coordinator() as self.coordinator:
            serving = asyncio.create_task(self.coordinator.serve(stop=self.stop, ready=listening))
            await listening.wait()
            async with AsyncSidecarClient(self.socket, attempts=1) as self.client:
                self.ready.set()
                await self.stop.wait()
            await serving

    def run(self, step: Coroutine[Any, Any, object]) -> None:
        """Let the loop go on until ``step`` is done; requests in the background go on with it."""
        self.loop.run_until_complete(asyncio.wait_for(step, 10))

    @rule(
        count=st.integers(1, 12),
        size=st.sampled_from([0, 0, 0, 3, 20]),
        narrow=st.one_of(st.none(), st.none(), st.sets(SIGNERS, min_size=3)),
        seconds=st.sampled_from([None, None, 0.03, 0.15]),
        caller=st.sampled_from(["library", "socket"]),
    )
    def ask(self, count: int, size: int, narrow: set[int] | None, seconds: float | None, caller: str) -> None:
        """Start requests, of one message or batches of ``size``, and do not wait for them."""
        service: SigningService = self.client if caller == "socket" else self.coordinator
        for _ in range(1 if size else count):
            name = f"request-{len(self.asked)}"
            messages = [f"{name}:{index}".encode() for index in range(size or 1)]
            if size:
                step = self._batch(service, name, messages, seconds)
            else:
                step = self._single(service, name, messages[0], sorted(narrow) if narrow else None, seconds)
            if caller == "socket":
                self.by_socket.add(name)
            self.cluster.began[name] = time.monotonic()
            self.asked.append(Asked(name, messages, seconds or BUDGET, self.loop.create_task(step)))
        self.run(asyncio.sleep(0))

    async def _single(
        self, service: SigningService, name: str, message: bytes, narrow: list[int] | None, seconds: float | None
    ) -> None:
        try:
            signed = await service.sign(message, participants=narrow, timeout=seconds, request_id=name)
        except FrostSidecarError as error:
            self._note(name, message, error)
        else:
            self._note(name, message, signed)

    async def _batch(self, service: SigningService, name: str, messages: list[bytes], seconds: float | None) -> None:
        outcomes: list[Signed | FrostSidecarError]
        try:
            outcomes = await service.sign_batch(messages, timeout=seconds, request_id=name)
        except FrostSidecarError as error:
            outcomes = [error] * len(messages)
        for index, (message, outcome) in enumerate(zip(messages, outcomes, strict=True)):
            self._note(f"{name}:{index}", message, outcome)

    def _note(self, name: str, message: bytes, outcome: Signed | FrostSidecarError) -> None:
        request = self.cluster.began[name.partition(":")[0]]
        limit = next(each.seconds for each in reversed(self.asked) if each.identifier == name.partition(":")[0])
        assert time.monotonic() < request + limit + LATE
        if isinstance(outcome, Signed):
            self.answers.append((message, outcome.signature))
            self.outcomes[name] = hashlib.sha256(outcome.signature).hexdigest()
        else:
            self.outcomes[name] = outcome.slug

    @rule(which=st.integers(0, 7))
    def cancel(self, which: int) -> None:
        """Whoever asked does not want it any more, where it is still under way."""
        under_way = [each.task for each in self.asked if not each.task.done()]
        if under_way:
            under_way[which % len(under_way)].cancel()
        self.run(asyncio.sleep(0))

    @rule(identifier=SIGNERS, name=st.sampled_from(sorted(BEHAVIOURS)))
    def turn(self, identifier: int, name: str) -> None:
        """Let a signer behave otherwise from now on, also for requests under way."""
        self.cluster.behave(identifier, BEHAVIOURS[name]())
        if name in WRONG_SHARES:
            self.liars.add(f"signer-{identifier}")

    @rule(identifier=SIGNERS)
    def crash(self, identifier: int) -> None:
        self.cluster.crash(identifier)

    @rule(identifier=SIGNERS)
    def restart(self, identifier: int) -> None:
        self.cluster.restart(identifier)

    @rule(identifier=SIGNERS)
    def another_coordinator_of_the_same_name(self, identifier: int) -> None:
        """It asks the signer for so many commitments that some of ours, or all, have to go."""
        self.run(self._crowd(identifier))

    async def _crowd(self, identifier: int) -> None:
        signer = next(each for each in self.cluster.config.signer_nodes if each.identifier == identifier)
        body = msgspec.json.encode(CommitmentsRequest(key="default", count=MAX_COMMITMENTS))
        now = int(time.time())
        token = self.cluster.config.token
        claims = TokenClaims(
            iss=token.issuer,
            sub=token.subject,
            aud=signer.name,
            iat=now,
            nbf=now,
            exp=now + 30,
            jti=f"crowd-{time.monotonic_ns()}",
            body_sha256=body_digest(body),
        )
        headers = {"Authorization": f"Bearer {await self.cluster.tokens.issue(claims)}"}
        call = Call(method="POST", path=COMMITMENTS_PATH, body=body, headers=headers, max_answer_bytes=1 << 20)
        with anyio.move_on_after(CALL):
            try:
                await self.cluster.call(signer, call)
            except TransportError:
                return

    @rule(milliseconds=st.integers(0, 30))
    def wait(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @rule(milliseconds=st.sampled_from([60, 150, 250]))
    def wait_until_commitments_are_old(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @rule()
    def balance(self) -> None:
        """What was fetched is in stock, leased, expired or wasted."""
        kept = ("in stock", "leased", "expired", "wasted")
        for _ in range(5):  # a look at the stock may find that something expired, after the counters were read
            samples = self._samples()
            fetched = {signer: samples["fetched", signer] for signer in map("signer-{}".format, IDENTIFIERS)}
            there = {signer: sum(samples[kind, signer] for kind in kept) for signer in fetched}
            if fetched == there:
                return
        self.unbalanced.append(f"fetched {fetched}, accounted for {there}")

    def _samples(self) -> Counter[tuple[str, str]]:
        """Numbers of commitments by event and of faults by kind, of each signer; other metrics by name and result."""
        found: Counter[tuple[str, str]] = Counter()
        for family in self.coordinator.registry.collect():
            for sample in family.samples:
                labels = sample.labels
                if sample.name == "frost_coordinator_commitments_total":
                    found[labels["event"], labels["signer"]] += int(sample.value)
                elif sample.name == "frost_coordinator_commitments_in_stock":
                    found["in stock", labels["signer"]] += int(sample.value)
                elif sample.name == "frost_coordinator_signer_faults_total":
                    found[labels["kind"], labels["signer"]] += int(sample.value)
                elif not sample.name.endswith("_bucket"):
                    found[sample.name, labels.get("result", "")] += int(sample.value)
        return found

    def _no_commitment_was_used_twice_or_after_its_time(self) -> None:
        assert self.cluster.reused == []
        assert self.cluster.void == []
        assert self.cluster.old == []

    def _no_signature_is_wrong(self) -> None:
        key = nacl.signing.VerifyKey(self.cluster.group_public)
        for message, signature in self.answers:
            key.verify(message, signature)

    def teardown(self) -> None:
        """Every request ends by its deadline, with a signature or a typed error; nothing is left; the audit agrees."""
        try:
            if hasattr(self, "main"):
                self._no_commitment_was_used_twice_or_after_its_time()
                if self.asked:
                    self.run(asyncio.wait([each.task for each in self.asked], timeout=5))
                assert all(each.task.done() for each in self.asked)
                assert all(each.task.cancelled() or each.task.exception() is None for each in self.asked)
                assert "internal" not in self.outcomes.values()
                self.run(self._heal())
                self.run(self._calm())
                self.stop.set()
                self.run(asyncio.wait([self.main]))
                self.main.result()
                assert asyncio.all_tasks(self.loop) == set()
                gc.collect()
                assert self.broken == []
                self._no_commitment_was_used_twice_or_after_its_time()
                self._no_signature_is_wrong()
                self._check_records()
                assert self.unbalanced == []
        finally:
            self._abandon()
            self.folder.cleanup()

    def _abandon(self) -> None:
        """End what a failed run left, so that no thread of it keeps the program."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=10))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _heal(self) -> None:
        """With honest signers again, of which enough are not quarantined, signatures come again."""
        for identifier in IDENTIFIERS:
            self.cluster.restart(identifier)
        usable = [each for each in (await self.coordinator.readiness()).signers if each.state != "quarantined"]
        if len(usable) < 3:
            return
        for attempt in range(6):
            name = f"healed-{attempt}"
            self.cluster.began[name] = time.monotonic()
            try:
                signed = await self.coordinator.sign(b"healed", request_id=name)
            except FrostSidecarError as error:
                self.outcomes[name] = error.slug
                await asyncio.sleep(0.1)
            else:
                self.answers.append((b"healed", signed.signature))
                self.outcomes[name] = hashlib.sha256(signed.signature).hexdigest()
                return
        raise AssertionError(f"no signature of healthy signers: {self.cluster.records[-1]}")

    async def _calm(self) -> None:
        """When all requests have ended, nothing is in flight, and the books balance."""
        gauges = ("requests_in_flight", "share_queue", "audit_backlog")
        with anyio.fail_after(LATE):
            while any(self._samples()[f"frost_coordinator_{name}", ""] for name in gauges):
                await asyncio.sleep(0.01)
        self.balance()
        samples = self._samples()
        used = sum(number for (event, _), number in samples.items() if event == "leased")
        used -= sum(number for (event, _), number in samples.items() if event == "burnt")
        assert used == 3 * samples["frost_coordinator_sessions_total", "signed"]
        assert not any(number for (event, _), number in samples.items() if event == "internal")
        blamed = {signer for (event, signer), number in samples.items() if event == "bad-share" and number}
        assert blamed <= self.liars

    def _check_records(self) -> None:
        """The audit log has each answered signature, once; and no other but of those who left before they got it."""
        records: dict[str, list[Any]] = {}
        for record in self.cluster.records:
            records.setdefault(record.request_id, []).append(record)
        for name, outcome in self.outcomes.items():
            mine = records.pop(name, [])
            signed = [each.signature_sha256 for each in mine if each.outcome == "signed"]
            gave_up = name.partition(":")[0] in self.by_socket and outcome in GAVE_UP
            if len(outcome) == 64:
                assert (name, signed, len(mine)) == (name, [outcome], 1)
            elif not gave_up:
                assert (name, outcome, signed) == (name, outcome, [])
                assert len(mine) == 1 or (not mine and outcome in UNRECORDED), (name, outcome, mine)
        left = {each.identifier for each in self.asked if each.task.cancelled()}
        for name, mine in records.items():
            assert name.partition(":")[0] in left
            assert [each.outcome for each in mine] in (["signed"], ["failed"], ["denied"], ["signed", "failed"])


# What happens depends on time as well, so that no shorter example is looked for: it would take minutes, and find none.
Cluster.TestCase.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
TestCluster = Cluster.TestCase
