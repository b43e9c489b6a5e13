"""Whatever happens, in whatever order: no commitment in two signing packages, and no wrong signature.

Hypothesis drives a cluster in memory through requests, crashes, restarts, delays, duplicates and lies, many at once,
and looks for an order of events that breaks an invariant.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import nacl.signing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from frost_sidecar import FrostSidecarError
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.behaviour import Behaviour
from frost_sidecar.testing.cluster import MemoryCluster

BEHAVIOURS: dict[str, Callable[[], Behaviour]] = {
    "honest": lambda: behaviour.honest,
    "unreachable": lambda: behaviour.unreachable,
    "stalled": lambda: behaviour.stalled,
    "slow": lambda: behaviour.delayed(0.02),
    "drops answers": lambda: behaviour.drops_answers,
    "delivered twice": lambda: behaviour.delivered_twice,
    "wrong share": lambda: behaviour.wrong_share,
    "wrong identity": lambda: behaviour.wrong_identity,
    "garbage": lambda: behaviour.garbage,
    "refusing": lambda: behaviour.refusing,
    "always stale": lambda: behaviour.always_stale,
    "repeats commitments": behaviour.RepeatsCommitments,
}

SIGNERS = st.integers(1, 5)


class Cluster(RuleBasedStateMachine):
    """Three of five over three zones. Requests run in the background of the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.requests: list[asyncio.Task[None]] = []
        self.answers: list[tuple[bytes, bytes]] = []
        self.refused = 0

    @initialize(quarantine=st.sampled_from([1.0, 3600.0]), in_flight=st.sampled_from([3, 256]))
    def open(self, quarantine: float, in_flight: int) -> None:
        self.cluster = MemoryCluster(
            Path(self.folder.name) / "keys",
            min_signers=3,
            max_signers=5,
            settings={
                "signing": {
                    "call_seconds": 0.05,
                    "budget_seconds": 0.4,
                    "cool_down_seconds": 0.02,
                    "quarantine_seconds": quarantine,
                    "max_in_flight": in_flight,
                }
            },
        )
        self.ready, self.stop = asyncio.Event(), asyncio.Event()
        self.main = self.loop.create_task(self._main())
        self.run(self.ready.wait())

    async def _main(self) -> None:
        async with self.cluster.coordinator() as self.coordinator:
            self.ready.set()
            await self.stop.wait()

    def run(self, step: Coroutine[Any, Any, object]) -> None:
        """Let the loop go on until ``step`` is done; requests in the background go on with it."""
        self.loop.run_until_complete(asyncio.wait_for(step, 10))

    @rule(count=st.integers(1, 8), narrow=st.one_of(st.none(), st.sets(SIGNERS, min_size=3)))
    def ask(self, count: int, narrow: set[int] | None) -> None:
        """Start requests and do not wait for them."""
        for _ in range(count):
            message = b"message %d" % len(self.requests)
            self.requests.append(self.loop.create_task(self._ask(message, narrow)))
        self.run(asyncio.sleep(0))

    async def _ask(self, message: bytes, narrow: set[int] | None) -> None:
        try:
            signed = await self.coordinator.sign(message, participants=sorted(narrow) if narrow else None)
        except FrostSidecarError:
            self.refused += 1
        else:
            self.answers.append((message, signed.signature))

    @rule(identifier=SIGNERS, name=st.sampled_from(sorted(BEHAVIOURS)))
    def turn(self, identifier: int, name: str) -> None:
        """Let a signer behave otherwise from now on, also for requests under way."""
        self.cluster.behave(identifier, BEHAVIOURS[name]())

    @rule(identifier=SIGNERS)
    def crash(self, identifier: int) -> None:
        self.cluster.crash(identifier)

    @rule(identifier=SIGNERS)
    def restart(self, identifier: int) -> None:
        self.cluster.restart(identifier)

    @rule(milliseconds=st.integers(0, 30))
    def wait(self, milliseconds: int) -> None:
        self.run(asyncio.sleep(milliseconds / 1000))

    @invariant()
    def no_commitment_is_in_two_signing_packages(self) -> None:
        if hasattr(self, "cluster"):
            assert self.cluster.reused == []

    @invariant()
    def no_wrong_signature_left(self) -> None:
        while self.answers:
            message, signature = self.answers.pop()
            nacl.signing.VerifyKey(self.cluster.group_public).verify(message, signature)

    def teardown(self) -> None:
        """Every request ends by its deadline, with a signature or a typed error; the audit agrees with the answers."""
        try:
            if hasattr(self, "main"):
                if self.requests:
                    self.run(asyncio.wait(self.requests, timeout=5))
                assert all(task.done() and task.exception() is None for task in self.requests)
                self.stop.set()
                self.run(asyncio.wait([self.main]))
                self.main.result()
                signed = sum(record.outcome == "signed" for record in self.cluster.records)
                assert signed + self.refused == len(self.requests)
                assert len({record.request_id for record in self.cluster.records}) == len(self.cluster.records)
                self.no_commitment_is_in_two_signing_packages()
                self.no_wrong_signature_left()
        finally:
            self.loop.close()
            self.folder.cleanup()


Cluster.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestCluster = Cluster.TestCase
