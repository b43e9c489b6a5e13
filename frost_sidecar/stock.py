"""The commitments of one signer under one key that are kept ready, and how many those should be.

Nothing here waits: between two turns of the event loop a commitment is in stock, leased, or gone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

import frost_ed25519 as frost

from frost_sidecar.config import StockConfig
from frost_sidecar.metrics import CommitmentEvents
from frost_sidecar.model import Caller, Signer
from frost_sidecar.wire import MAX_COMMITMENTS, Commitment

_FADING = 30.0
"""Seconds in which an estimate of demand falls to 1/e of what it was."""
_AHEAD = 0.1
"""Seconds of leases, at the present rate, that the high mark has beyond what is leased at once."""
_SPARE = 1.0
"""As a part of the most that were leased at once: what the high mark has beyond what their callers may need."""
_RIDING = 8
_RIDING_EACH = 2
"""Most commitments on one answer: so many, and so many for each of its sessions. Making one takes a signer longer than
half a share, and all the sessions of the answer wait for it."""

Holder = Caller | str
"""Who holds leases: a configured caller by its name, whatever its tokens say; another as the channel proved it."""


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """One commitment as a signer gave it, checked, in our own spelling."""

    epoch: str
    commitment: Commitment
    points: frost.round1.SigningCommitments
    sent: float
    """When the request left that it came with; it is younger than that."""
    fades: float
    """When a successor should be on its way."""
    expires: float
    """When it is too old to be leased: the signer will know it for as long again as a session may take."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """One commitment, for one signing package and no other. Nothing ever takes it back."""

    signer: Signer
    key: str
    epoch: str
    commitment: Commitment
    """As it goes into a signing package: in our own spelling, whatever the signer's was."""
    points: frost.round1.SigningCommitments
    sent: float
    """When the request left that it came with."""
    caller: Caller | None = None

    @classmethod
    def of(cls, signer: Signer, key: str, offer: Offer, caller: Caller | None) -> Lease:
        """The lease of ``offer``, which nobody else may have."""
        return cls(signer, key, offer.epoch, offer.commitment, offer.points, offer.sent, caller)


class Stock:
    """Ready commitments of one signer and key, the oldest first; all of one epoch, which the owner sees to.

    One caller cannot drain it: it gets nothing from here while what it took and still holds is ``caller_share`` of
    that and of what is left together. With a half: while it holds as many as are left. So somebody who holds nothing
    finds something, whoever floods, and the more callers hold, the smaller is the part of each.
    """

    def __init__(
        self,
        signer: Signer,
        key: str,
        config: StockConfig,
        events: CommitmentEvents,
        clock: Callable[[], float],
    ) -> None:
        self.signer = signer
        self.key = key
        self.coming = 0
        """Commitments asked for, and neither arrived nor missed."""
        self._least, self._most, self._share = config.least, config.most, config.caller_share
        self._events = events
        self._clock = clock
        self._offers: deque[Offer] = deque()
        self._leases: dict[Lease, Holder | None] = {}
        """Those out; with a holder those that came from stock."""
        self._holds: dict[Holder, int] = {}
        self._peak = 0.0
        self._count = 0.0
        self._faded = clock()

    def __len__(self) -> int:
        """How many can be leased now."""
        self._expire()
        return len(self._offers)

    def ready(self) -> int:
        """How many are held, those included that nobody has found too old yet.

        It changes nothing: a scrape may ask in a thread of its own.
        """
        return len(self._offers)

    @property
    def high(self) -> int:
        """How many there should be, those that are coming included."""
        self._fade()
        wanted = self._peak * (1 / self._share + _SPARE) + self._count / _FADING * _AHEAD
        return min(self._most, max(self._least, math.ceil(wanted)))

    @property
    def is_low(self) -> bool:
        """Whether it fell below the low mark, half the high one, with nothing on its way."""
        return not self.coming and 2 * self._lasting() < self.high

    @property
    def lasts(self) -> float:
        """Seconds until the oldest should have a successor; infinite where that is seen to or there is none."""
        now = self._clock()
        return next((offer.fades - now for offer in self._offers if offer.fades > now), math.inf)

    def lacks(self) -> int:
        """How many more should be on their way."""
        return max(0, self.high - self._lasting() - self.coming)

    def replenishment(self, sessions: int) -> int:
        """How many shall ride on the answer to a request of so many sessions. They count as coming.

        None where little is missing: most answers to single sessions then carry nothing, and are the faster for it.
        """
        lacking = self.lacks()
        if lacking < _RIDING and 4 * lacking < self.high:
            return 0
        asked = min(lacking, MAX_COMMITMENTS, _RIDING + _RIDING_EACH * sessions)
        self.coming += asked
        return asked

    def settle(self, asked: int) -> None:
        """So many are no longer coming: they are here, or will not be."""
        self.coming = max(0, self.coming - asked)

    def take(self, caller: Caller) -> Lease | None:
        """Lease the oldest; None where there is none, or the caller has its part."""
        self._expire()
        holder = caller.name or caller
        hold, left = self._holds.get(holder, 0), len(self._offers)
        if not left or hold >= self._share * (hold + left):
            return None
        self._holds[holder] = hold + 1
        return self._lease(self._offers.popleft(), caller, holder)

    def lease_at_once(self, offer: Offer, caller: Caller | None) -> Lease:
        """Lease what was never in stock to somebody who waited for it. It is no part of what a caller may hold."""
        return self._lease(offer, caller, None)

    def wanted(self, waiting: int) -> None:
        """Take note that so many wait for a commitment."""
        self._fade()
        self._peak = max(self._peak, len(self._leases) + waiting)

    def released(self, lease: Lease) -> None:
        """A lease's session ended, and with it the caller's hold. A second time means nothing."""
        holder = self._leases.pop(lease, None)
        if holder is None:
            return
        self._holds[holder] -= 1
        if not self._holds[holder]:
            del self._holds[holder]

    def add(self, offers: Collection[Offer]) -> None:
        """Put in what arrived. Above the upper bound the oldest go: the signer will forget them first."""
        overtaken = bool(self._offers and offers) and min(map(_expiry, offers)) < self._offers[-1].expires
        self._offers.extend(offers)
        if overtaken:
            self._offers = deque(sorted(self._offers, key=_expiry))
        self._expire()
        surplus = max(0, len(self._offers) - self._most)
        for _ in range(surplus):
            self._offers.popleft()
        self._waste(surplus)

    def clear(self) -> None:
        """All that is in stock is void."""
        self._waste(len(self._offers))
        self._offers.clear()

    def drop(self, sent: float) -> None:
        """What came with a request that left at ``sent`` or before is void."""
        kept = deque(offer for offer in self._offers if offer.sent > sent)
        self._waste(len(self._offers) - len(kept))
        self._offers = kept

    def close(self) -> None:
        """No stock from now on: what is there and what still comes is wasted."""
        self._least = self._most = 0
        self.clear()

    def _lease(self, offer: Offer, caller: Caller | None, holder: Holder | None) -> Lease:
        lease = Lease.of(self.signer, self.key, offer, caller)
        self._leases[lease] = holder
        self._events.leased.inc()
        self._fade()
        self._count += 1
        self._peak = max(self._peak, len(self._leases))
        return lease

    def _lasting(self) -> int:
        """How many there are that need no successor yet."""
        self._expire()
        now, fading = self._clock(), 0
        for offer in self._offers:
            if offer.fades > now:
                break
            fading += 1
        return len(self._offers) - fading

    def _expire(self) -> None:
        now, expired = self._clock(), 0
        while self._offers and self._offers[0].expires <= now:
            self._offers.popleft()
            expired += 1
        if expired:
            self._events.expired.inc(expired)

    def _waste(self, number: int) -> None:
        if number:
            self._events.wasted.inc(number)

    def _fade(self) -> None:
        """Let the estimates of demand fall with the time that passed."""
        now = self._clock()
        left = math.exp((self._faded - now) / _FADING)
        self._peak *= left
        self._count *= left
        self._faded = now


def _expiry(offer: Offer) -> float:
    return offer.expires
