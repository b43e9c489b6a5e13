"""The default selector: spread over zones first, then the fastest."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

from frost_sidecar.hookspecs import Selector
from frost_sidecar.model import Candidate, Choice, Quorum


class ZoneSpread(Selector):
    """Takes signers zone by zone, healthy and fast ones first, so that a quorum touches as many zones as it can.

    Signers that are cooling down come last: they are better than no quorum. A signer whose latency is not known yet
    counts as fast, so that it gets known. Among signers about as fast as each other chance decides, so that all bear
    the load and all stay measured.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, keeps no secret

    async def quorums(self, choice: Choice) -> Sequence[Quorum]:
        """The best quorum, then those that do without one of its members."""
        order = list(choice.candidates)
        self._chance.shuffle(order)
        order.sort(key=lambda each: (not each.healthy, _class(each.latency)))
        best = _spread(order, choice.size)
        if best is None:
            return []
        others = (
            _spread([each for each in order if each.identifier != left_out], choice.size) for left_out in reversed(best)
        )
        found = dict.fromkeys([best, *(each for each in others if each is not None)])
        return [tuple(sorted(each)) for each in found][: choice.limit]


def _class(latency: float | None) -> int:
    """Latencies in classes of a factor of two: signers of one class are about as fast as each other."""
    return math.floor(math.log2(max(latency or 0.0, 1e-3) / 1e-3))


def _spread(order: Iterable[Candidate], size: int) -> Quorum | None:
    """``size`` identifiers, best first; each further one from the zone that has given the fewest so far."""
    left = list(order)
    if len(left) < size:
        return None
    taken: dict[str, int] = {}
    quorum: list[int] = []
    while len(quorum) < size:
        best = min(left, key=lambda each: (not each.healthy, taken.get(each.zone, 0)))
        left.remove(best)
        taken[best.zone] = taken.get(best.zone, 0) + 1
        quorum.append(best.identifier)
    return tuple(quorum)
