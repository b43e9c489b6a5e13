"""What the coordinator knows of its signers: cool-down, quarantine, latency."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frost_sidecar.config import SigningConfig
from frost_sidecar.errors import FaultKind, SignerError
from frost_sidecar.metrics import BREAKER_STATES, CoordinatorMetrics, new_registry
from frost_sidecar.model import Candidate, Signer
from frost_sidecar.signers import BLAMELESS, Signers

SUSPICIOUS: tuple[FaultKind, ...] = ("stale-epoch", "unknown-commitment")
"""Blameless, but not without end."""

KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """Three signers, a clock to turn, and the metrics."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = CoordinatorMetrics(new_registry())
        config = SigningConfig(cool_down_seconds=2.0, quarantine_seconds=100.0)
        nodes = [Signer(i, f"signer-{i}", f"https://{i}.test", f"ad-{i}", f"{i}.test") for i in (1, 2, 3)]
        self.signers = Signers(nodes, config, self.metrics, self.clock)

    def fail(self, kind: FaultKind = "timeout", identifier: int = 1) -> None:
        self.signers.failed(SignerError(identifier, kind, "detail"), self.signers[identifier])

    def candidate(self, identifier: int = 1) -> Candidate | None:
        return next(iter(self.signers.candidates([identifier])), None)

    def healthy(self, identifier: int = 1) -> bool:
        candidate = self.candidate(identifier)
        return candidate is not None and candidate.healthy

    def pause(self) -> float:
        """Seconds until signer 1's cool-down is over."""
        start = self.clock.now
        while self.state() != "healthy":
            self.clock.now += 0.125
        pause, self.clock.now = self.clock.now - start, start
        return pause

    def wait(self) -> float:
        """Let signer 1's cool-down pass, and say how long it was."""
        pause = self.pause()
        self.clock.now += pause
        return pause

    def state(self, identifier: int = 1) -> str:
        self.signers.publish()
        values = {
            each: self.metrics.registry.get_sample_value(
                "frost_coordinator_signer_state", {"signer": f"signer-{identifier}", "state": each}
            )
            for each in BREAKER_STATES
        }
        assert sorted(value or 0 for value in values.values()) == [0, 0, 1]
        return next(state for state, value in values.items() if value)


@pytest.fixture
def world() -> World:
    return World()


def test_all_are_healthy_and_unmeasured_at_first(world: World) -> None:
    assert world.signers.candidates([3, 1, 2]) == tuple(Candidate(i, f"ad-{i}", True, None) for i in (1, 2, 3))
    assert world.signers[2].name == "signer-2"


def test_only_those_asked_for_are_candidates(world: World) -> None:
    assert [each.identifier for each in world.signers.candidates({2, 3})] == [2, 3]
    assert world.signers.candidates([]) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_fault_does(world: World, kind: FaultKind) -> None:
    world.fail(kind)
    expected = "quarantined" if kind == "bad-share" else "healthy" if kind in BLAMELESS else "cooling"
    assert world.state() == expected
    assert world.state(2) == "healthy"
    count = world.metrics.registry.get_sample_value(
        "frost_coordinator_signer_faults_total", {"signer": "signer-1", "kind": kind}
    )
    assert count == 1


def test_a_cool_down_doubles_up_to_its_cap(world: World) -> None:
    for longest in (2, 4, 8, 16, 32, 60, 60, 60):
        world.fail()
        assert longest / 2 <= world.wait() <= longest + 0.125


def test_many_failures_of_one_cause_are_one(world: World) -> None:
    world.fail()
    pause = world.pause()
    kinds: list[FaultKind] = ["unreachable", "timeout", "malformed", *SUSPICIOUS, *SUSPICIOUS, "refused"]
    for kind in kinds:
        world.clock.now += 0.1
        world.fail(kind)
    world.clock.now -= 0.1 * len(kinds)
    assert world.wait() == pause
    world.fail()
    assert 2 <= world.pause() <= 4.125


def test_one_answer_that_fails_many_sessions_is_one_fault(world: World) -> None:
    fault = SignerError(1, "timeout", "detail")
    for _ in range(30):
        world.signers.failed(fault, world.signers[1])
    name, labels = "frost_coordinator_signer_faults_total", {"signer": "signer-1", "kind": "timeout"}
    assert world.metrics.registry.get_sample_value(name, labels) == 1
    stale = SignerError(2, "stale-epoch", "detail")
    for _ in range(30):
        world.signers.failed(stale, world.signers[2])
    assert world.state(2) == "healthy"  # thirty restarts would not be believed


def test_after_a_cool_down_one_request_at_a_time_finds_the_signer_healthy(world: World) -> None:
    world.fail()
    world.wait()
    for _ in range(3):
        assert [world.healthy() for _ in range(5)] == [True, False, False, False, False]
        world.clock.now += 0.11
    world.signers.answered(world.signers[1])
    assert all(world.healthy() for _ in range(5))


def test_a_call_that_takes_too_long_speaks_against_the_signer_before_its_deadline(world: World) -> None:
    for _ in range(20):
        world.signers.measured(world.signers[1], 0.05)
    with world.signers.calling(world.signers[1]), world.signers.calling(world.signers[2]):
        world.clock.now += 0.09
        assert world.healthy(1)
        assert world.healthy(2)
        world.clock.now += 0.05
        assert world.healthy(1)  # less than four times its latency
        assert not world.healthy(2)  # not known to be slow, and 0.1 s is long
        world.clock.now += 0.07
        assert not world.healthy(1)
        assert world.healthy(3)
        with world.signers.calling(world.signers[1]):
            pass
        assert not world.healthy(1)  # a call that was answered does not excuse one that was not
        assert world.state(1) == "healthy"  # it is asked last, no more
    assert world.healthy(1)
    assert world.healthy(2)


def test_a_call_to_an_address_that_a_caller_brought_says_nothing_of_the_signer(world: World) -> None:
    elsewhere = dataclasses.replace(world.signers[1], url="https://elsewhere.test")
    with world.signers.calling(elsewhere):
        world.clock.now += 100
        assert world.healthy(1)


def test_a_signer_that_is_down_for_long_is_still_only_cooling(world: World) -> None:
    for _ in range(3000):
        world.clock.now += 61
        world.fail("unreachable")
    assert world.state() == "cooling"
    assert 30 <= world.pause() <= 60.125


def test_pauses_differ_so_that_coordinators_do_not_come_back_in_step() -> None:
    pauses = set()
    for _ in range(30):
        world = World()
        world.fail()
        pauses.add(world.pause())
    assert len(pauses) > 3


def test_a_cooling_signer_is_a_candidate_of_last_resort(world: World) -> None:
    world.fail()
    assert world.candidate() == Candidate(1, "ad-1", False, None)


def test_a_usable_share_ends_a_cool_down_and_its_doubling(world: World) -> None:
    for _ in range(5):
        world.wait()
        world.fail()
    world.signers.answered(world.signers[1])
    assert world.healthy()
    world.fail()
    assert world.pause() <= 2.125


def test_a_mere_answer_ends_neither(world: World) -> None:
    for _ in range(5):
        world.wait()
        world.fail()
    world.signers.measured(world.signers[1], 0.01)
    world.signers.measured(world.signers[1], 0.01)
    assert not world.healthy()
    world.wait()
    world.fail()
    assert world.pause() >= 30


@pytest.mark.parametrize("kind", sorted(BLAMELESS - set(SUSPICIOUS)))
def test_blameless_faults_do_not_add_up(world: World, kind: FaultKind) -> None:
    for _ in range(50):
        world.fail(kind)
    assert world.healthy()
    world.fail("timeout")
    assert world.pause() <= 2.125


@pytest.mark.parametrize(
    "kinds", [(first, second, third) for first in SUSPICIOUS for second in SUSPICIOUS for third in SUSPICIOUS]
)
def test_the_third_excuse_in_a_row_is_a_failure(world: World, kinds: tuple[FaultKind, FaultKind, FaultKind]) -> None:
    first, second, third = kinds
    for _ in range(2):
        world.fail(first)
        world.fail(second)
        assert world.state() == "healthy"
        world.signers.measured(world.signers[1], 0.01)  # round 1 alone proves too little
        world.fail(third)
        assert world.state() == "cooling"
        world.wait()
    world.fail(first)
    world.fail(second)
    assert world.state() == "healthy"


def test_a_signer_that_only_ever_has_excuses_is_asked_ever_less(world: World) -> None:
    pauses = []
    for _ in range(8):
        for _ in range(3):
            world.fail("stale-epoch")
        pauses.append(world.wait())
    assert pauses[-1] >= 30


@pytest.mark.parametrize("kind", SUSPICIOUS)
def test_a_usable_share_in_between_forgives_all_excuses(world: World, kind: FaultKind) -> None:
    for _ in range(20):
        world.fail(kind)
        world.fail(kind)
        world.signers.answered(world.signers[1])
    assert world.state() == "healthy"
    world.fail("timeout")
    assert world.pause() <= 2.125


def test_a_fault_that_is_the_requests_says_nothing_of_excuses(world: World) -> None:
    kinds: list[FaultKind] = ["stale-epoch", "denied", "internal", "denied", "unknown-commitment", "internal"]
    for kind in kinds:
        world.fail(kind)
    assert world.state() == "healthy"


def test_quarantine_lasts_whatever_the_signer_answers(world: World) -> None:
    world.fail("bad-share")
    assert world.candidate() is None
    world.signers.measured(world.signers[1], 0.001)
    world.signers.answered(world.signers[1])
    world.fail("timeout")
    world.clock.now += 99.9
    assert world.candidate() is None
    assert world.state() == "quarantined"
    world.clock.now += 0.2
    assert world.healthy()
    assert world.state() == "healthy"


def test_every_further_wrong_share_starts_quarantine_anew(world: World) -> None:
    world.fail("bad-share")
    world.clock.now += 90
    world.fail("bad-share")
    world.clock.now += 90
    assert world.candidate() is None


def _latency(world: World) -> float | None:
    candidate = world.candidate()
    assert candidate is not None
    return candidate.latency


def test_latency_is_smoothed_and_leaves_the_first_call_out(world: World) -> None:
    world.signers.measured(world.signers[1], 9.0)  # it paid for the connection
    assert _latency(world) is None
    world.signers.measured(world.signers[1], 0.1)
    assert _latency(world) == 0.1
    world.signers.measured(world.signers[1], 0.6)
    assert _latency(world) == pytest.approx(0.2)
    assert world.candidate(2) == Candidate(2, "ad-2", True, None)


def test_an_old_latency_is_forgotten(world: World) -> None:
    for _ in range(2):
        world.signers.measured(world.signers[1], 5.0)
    world.clock.now += 29
    assert _latency(world) == 5.0
    world.clock.now += 2
    assert _latency(world) is None


def test_a_failure_forgets_the_latency(world: World) -> None:
    for _ in range(3):
        world.signers.measured(world.signers[1], 0.01)
    world.fail()
    assert _latency(world) is None
    world.signers.measured(world.signers[1], 7.0)  # a new connection
    assert _latency(world) is None


@pytest.mark.parametrize("kind", sorted(BLAMELESS))
def test_a_blameless_fault_keeps_the_latency(world: World, kind: FaultKind) -> None:
    for _ in range(3):
        world.signers.measured(world.signers[1], 0.01)
    world.fail(kind)
    assert _latency(world) == 0.01


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([*KINDS, "answered", "measured"]), st.floats(0, 200)),
        max_size=40,
    )
)
def test_gauges_and_candidates_agree(
    events: list[tuple[int, FaultKind | Literal["answered", "measured"], float]],
) -> None:
    world = World()
    for identifier, event, later in events:
        if event == "answered":
            world.signers.answered(world.signers[identifier])
        elif event == "measured":
            world.signers.measured(world.signers[identifier], 0.01)
        else:
            world.fail(event, identifier)
        world.clock.now += later
    for identifier in (1, 2, 3):
        candidate = world.candidate(identifier)
        expected = "quarantined" if candidate is None else "healthy" if candidate.healthy else "cooling"
        assert world.state(identifier) == expected
