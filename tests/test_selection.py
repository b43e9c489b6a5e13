"""The default selector: what every answer is, and how load spreads."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frost_sidecar.model import Candidate, Choice, Quorum
from frost_sidecar.selection import ZoneSpread

latencies = st.none() | st.floats(min_value=0, max_value=60)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    identifiers = draw(st.lists(st.integers(1, 65535), max_size=9, unique=True))
    candidates = tuple(
        Candidate(each, draw(st.sampled_from("abcd")), draw(st.booleans()), draw(latencies)) for each in identifiers
    )
    return Choice(candidates, draw(st.integers(2, 5)), draw(st.integers(1, 8)), "r")


async def _quorums(choice: Choice, seed: int = 1) -> Sequence[Quorum]:
    return await ZoneSpread(random.Random(seed)).quorums(choice)


def _run(choice: Choice, seed: int = 1) -> Sequence[Quorum]:
    """The answer without an event loop: nothing in the selector waits."""
    coroutine = _quorums(choice, seed)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        answer: Sequence[Quorum] = stop.value
        return answer
    raise AssertionError("the selector waited")


def _choice(*candidates: Candidate, size: int = 2, limit: int = 8) -> Choice:
    return Choice(candidates, size, limit, "r")


@given(choices(), st.integers())
def test_every_answer_is_a_list_of_different_quorums(choice: Choice, seed: int) -> None:
    quorums = _run(choice, seed)
    allowed = {candidate.identifier for candidate in choice.candidates}
    assert len(quorums) <= choice.limit
    assert len(set(quorums)) == len(quorums)
    assert bool(quorums) == (len(allowed) >= choice.size)
    for quorum in quorums:
        assert list(quorum) == sorted(set(quorum))
        assert len(quorum) == choice.size
        assert allowed.issuperset(quorum)


@given(choices(), st.integers())
def test_the_best_quorum_is_as_healthy_and_as_spread_as_any(choice: Choice, seed: int) -> None:
    by_identifier = {candidate.identifier: candidate for candidate in choice.candidates}

    def worth(quorum: Quorum) -> tuple[int, int]:
        members = [by_identifier[each] for each in quorum]
        healthy = [each for each in members if each.healthy]
        return len(healthy), len({each.zone for each in healthy})

    possible = [worth(each) for each in combinations(by_identifier, choice.size)]
    quorums = _run(choice, seed)
    assert not possible or worth(quorums[0]) == max(possible)


@given(choices(), st.integers())
def test_there_is_a_way_around_each_member(choice: Choice, seed: int) -> None:
    quorums = _run(Choice(choice.candidates, choice.size, 64, "r"), seed)
    if len(choice.candidates) > choice.size:
        assert not set.intersection(*(set(quorum) for quorum in quorums))


@given(choices(), st.integers())
def test_zones_give_evenly(choice: Choice, seed: int) -> None:
    """No zone gives two more healthy signers than another that had one left to give."""
    available = Counter(each.zone for each in choice.candidates if each.healthy)
    zones = {each.identifier: each.zone for each in choice.candidates}
    if sum(available.values()) < choice.size:
        return
    taken = Counter(zones[each] for each in _run(choice, seed)[0])
    for zone, many in taken.items():
        assert all(many - taken[other] <= 1 or taken[other] == left for other, left in available.items()), zone


@pytest.mark.parametrize(
    ("candidates", "best"),
    [
        ([(1, "a", True, 0.002), (2, "a", True, 0.5), (3, "b", True, 0.002)], (1, 3)),
        ([(1, "a", True, 0.5), (2, "a", True, None), (3, "b", True, 0.002)], (2, 3)),
        ([(1, "a", True, 0.5), (2, "a", False, 0.002), (3, "a", True, 0.5)], (1, 3)),
        ([(1, "a", True, 0.5), (2, "b", False, 0.002), (3, "a", True, 0.5)], (1, 3)),
        ([(1, "a", False, 0.5), (2, "a", True, 0.5), (3, "a", False, 0.002)], (2, 3)),
        ([(1, "a", True, 0.002), (2, "a", True, 0.002), (3, "b", True, 5.0)], None),
        ([(1, "a", True, 0.5), (2, "b", True, 0.002), (3, "c", True, 0.002)], (2, 3)),
    ],
)
def test_healthy_first_then_spread_then_fast(
    candidates: list[tuple[int, str, bool, float | None]], best: Quorum | None
) -> None:
    answers = {_run(_choice(*(Candidate(*each) for each in candidates)), seed)[0] for seed in range(20)}
    assert answers == {best} if best else all(3 in answer for answer in answers)


@pytest.mark.parametrize(("latency", "as_fast"), [(0.0005, True), (0.0019, True), (0.0021, False), (0.1, False)])
def test_signers_about_as_fast_as_each_other_take_turns(latency: float, as_fast: bool) -> None:  # noqa: FBT001
    pair = Candidate(1, "a", True, 0.001), Candidate(2, "a", True, latency), Candidate(3, "b", True, 0.001)
    chosen = Counter(_run(_choice(*pair), seed)[0] for seed in range(100))
    assert (chosen[2, 3] > 20) is as_fast


@pytest.mark.parametrize(("size", "signers"), [(2, 3), (3, 5), (2, 6)])
async def test_equals_bear_the_same_load(size: int, signers: int) -> None:
    selector = ZoneSpread(random.Random(7), together=0)
    candidates = tuple(Candidate(each, f"ad-{each % 3}", True, 0.001) for each in range(1, signers + 1))
    load: Counter[int] = Counter()
    for _ in range(3000):
        load.update((await selector.quorums(Choice(candidates, size, 1, "r")))[0])
    fair = 3000 * size / signers
    assert set(load) == set(range(1, signers + 1))
    if signers % 3 == 0:
        assert all(0.9 * fair < each < 1.1 * fair for each in load.values()), load


async def test_two_selectors_do_not_choose_in_step() -> None:
    candidates = tuple(Candidate(each, "a", True, None) for each in range(1, 10))
    choice = Choice(candidates, 3, 1, "r")
    one, two = ZoneSpread(together=0), ZoneSpread(together=0)
    assert [await one.quorums(choice) for _ in range(20)] != [await two.quorums(choice) for _ in range(20)]


async def test_sessions_of_one_moment_go_to_the_same_signers_and_those_of_the_next_to_others() -> None:
    now = 100.0
    selector = ZoneSpread(random.Random(7), lambda: now, together=0.01)
    candidates = tuple(Candidate(each, "a", True, None) for each in range(1, 10))
    choice = Choice(candidates, 3, 1, "r")
    moments = []
    for _ in range(20):
        chosen = [(await selector.quorums(choice))[0] for _ in range(5)]
        assert len(set(chosen)) == 1
        moments.append(chosen[0])
        now += 0.009
        assert (await selector.quorums(choice))[0] == chosen[0]
        now += 0.002
    assert len(set(moments)) > 10


async def test_a_signer_that_fails_leaves_the_moment_at_once() -> None:
    selector = ZoneSpread(random.Random(7), lambda: 100.0, together=0.01)
    candidates = [Candidate(each, "a", True, None) for each in range(1, 10)]
    [first] = await selector.quorums(Choice(tuple(candidates), 3, 1, "r"))
    candidates[first[0] - 1] = Candidate(first[0], "a", False, None)
    [second] = await selector.quorums(Choice(tuple(candidates), 3, 1, "r"))
    assert first[0] not in second
    assert set(first[1:]) < set(second)
