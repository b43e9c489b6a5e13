"""The default selector: spread over zones first, then the fastest."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from frost_sidecar.hookspecs import Selector
from frost_sidecar.model import Candidate, Choice, Quorum

_FASTEST: Final = 1e-3
"""Seconds; what is faster is as good."""


class ZoneSpread(Selector):
    """Takes signers zone by zone, healthy and fast ones first, so that a quorum touches as many zones as it can.

    Signers that are cooling down come last: they are better than no quorum. A signer whose latency is not known yet
    counts as fast, so that it gets known. Among signers about as fast as each other chance decides, so that all bear
    the load and all stay measured.
    """

    def __init__(
        self, chance: random.Random | None = None, clock: Callable[[], float] = time.monotonic, together: float = 0.01
    ) -> None:
        """``together``: seconds for which chance decides alike, so that sessions of one moment share their requests."""
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, keeps no secret
        self._clock = clock
        self._together = together
        self._turns: dict[int, float] = {}
        self._over = -math.inf

    async def quorums(self, choice: Choice) -> Sequence[Quorum]:
        """The best quorum, then those that do without one of its members."""
        turn = self._turn
        order = sorted(
            choice.candidates, key=lambda each: (not each.healthy, _class(each.latency), turn(each.identifier))
        )
        best = _spread(order, choice.size)
        if best is None:
            return []
        found = {best: None}
        for left_out in reversed(best):
            if len(found) >= choice.limit:
                break
            other = _spread([each for each in order if each.identifier != left_out], choice.size)
            if other is not None:
                found[other] = None
        return [tuple(sorted(each)) for each in found]

    def _turn(self, identifier: int) -> float:
        """By chance, and the same for a moment."""
        now = self._clock()
        if now >= self._over:
            self._turns.clear()
            self._over = now + self._together
        found = self._turns.get(identifier)
        if found is None:
            found = self._turns[identifier] = self._chance.random()
        return found


def _class(latency: float | None) -> int:
    """Latencies in classes of a factor of two: signers of one class are about as fast as each other."""
    return math.frexp(max(latency or 0.0, _FASTEST) / _FASTEST)[1]


def _spread(order: Iterable[Candidate], size: int) -> Quorum | None:
    """``size`` identifiers, best first; each further one from the zone that has given the fewest so far."""
    left = list(order)
    if len(left) < size:
        return None
    taken: dict[str, int] = {}
    quorum: list[int] = []
    while len(quorum) < size:
        best, least = left[0], (True, size)
        for each in left:
            cost = not each.healthy, taken.get(each.zone, 0)
            if cost < least:
                best, least = each, cost
                if cost == (False, 0):
                    break
        left.remove(best)
        taken[best.zone] = taken.get(best.zone, 0) + 1
        quorum.append(best.identifier)
    return tuple(quorum)
