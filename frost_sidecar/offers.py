"""What a signer offers: whether its commitments can be used, and whether they are of its present life.

Answers may overtake each other, and a signer may restart between two of them. So an answer is judged by when its
request left, never by when it came.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Literal

import anyio
import anyio.to_thread
import frost_ed25519 as frost

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import SignerError
from frost_sidecar.stock import Offer
from frost_sidecar.wire import Commitment

_REMEMBERED = 32_768
"""Least number of commitments remembered per signer, to notice one that is offered again; about 8 MiB."""
_INLINE = 2
"""Most commitments that are decoded in the event loop; more would keep it longer than a worker thread costs."""
_THREADS = 2
"""Worker threads that decode at once."""
_ENDED = 16
"""Ended epochs remembered per signer."""
_LONGEST_LIFE = 3600.0
"""Longest time, in seconds, that a signer is believed to keep a commitment."""
_FADING = 0.9
"""Part of a commitment's time in stock after which its successor is asked for."""


class Seen:
    """The points of commitments that a signer offered lately: ``remembered`` commitments, the oldest forgotten."""

    def __init__(self, remembered: int) -> None:
        self._most = 2 * max(remembered, _REMEMBERED)
        self._points: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def take(self, points: Sequence[bytes]) -> bool:
        """Remember these; False, and nothing changed, where one was seen before or stands twice."""
        fresh = set(points)
        if len(fresh) != len(points) or not self._points.isdisjoint(fresh):
            return False
        self._points |= fresh
        self._order.extend(points)
        while len(self._order) > self._most:
            self._points.remove(self._order.popleft())
        return True


class Epochs:
    """Which epoch of a signer counts.

    Of two answers with different epochs the one whose request left later is taken for the newer. That can be wrong
    where both were under way at once; then the next answer puts it right, or the signer's ``stale-epoch``.
    """

    def __init__(self) -> None:
        self.current: str | None = None
        self._sent = -math.inf
        self._ended: OrderedDict[str, float] = OrderedDict()

    def judge(self, epoch: str, sent: float) -> Literal["current", "new", "old"]:
        """What an answer with ``epoch`` to a request that left at ``sent`` means. A new epoch ends the current one."""
        if sent <= self._ended.get(epoch, -math.inf):
            return "old"
        if epoch == self.current:
            self._sent = max(self._sent, sent)
            return "current"
        if self.current is not None:
            if sent <= self._sent:
                return "old"
            self._end(self.current, sent)
        self.current, self._sent = epoch, sent
        return "new"

    def void(self, epoch: str, now: float) -> bool:
        """The signer says that ``epoch`` is over; whether that was the current one.

        An answer counts with it only if its request left after ``now``: two processes may stand behind one address.
        """
        self._end(epoch, now)
        if epoch != self.current:
            return False
        self.current = None
        return True

    def _end(self, epoch: str, when: float) -> None:
        self._ended[epoch] = max(when, self._ended.pop(epoch, when))
        while len(self._ended) > _ENDED:
            self._ended.popitem(last=False)


class Offers:
    """Reads one signer's commitments: all that an answer brings, or none of it."""

    def __init__(self, identifier: int, remembered: int, budget: float) -> None:
        """``budget``: seconds that may pass between a lease and the signer's look at it."""
        self._identifier = identifier
        self._budget = budget
        self._seen = Seen(remembered)
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def read(
        self, commitments: Sequence[Commitment], epoch: str, expires_in: float, asked: int, sent: float
    ) -> list[Offer]:
        """The commitments of one answer, checked as RFC 9591, section 5.3, wants.

        Raises:
            SignerError: one cannot be used, was offered before, or there are more than ``asked``.
        """
        if len(commitments) > asked:
            raise self._malformed(f"{len(commitments)} commitments, asked for {asked}")
        try:
            if len(commitments) <= _INLINE:
                read = _decode(commitments)
            else:
                read = await anyio.to_thread.run_sync(_decode, commitments, limiter=self._threads)
        except (ValueError, frost.FrostError) as error:
            raise self._malformed(f"unusable commitment: {error}") from None
        if not self._seen.take([point for pair, _ in read for point in pair]):
            raise self._malformed("offered the same commitment twice")
        life = min(expires_in, _LONGEST_LIFE)
        stay = life - min(self._budget, life / 2)
        return [
            Offer(
                epoch,
                Commitment(id=commitment.id, hiding=b64encode(hiding), binding=b64encode(binding)),
                points,
                sent,
                sent + _FADING * stay,
                sent + stay,
            )
            for commitment, ((hiding, binding), points) in zip(commitments, read, strict=True)
        ]

    def _malformed(self, detail: str) -> SignerError:
        return SignerError(self._identifier, "malformed", detail)


def _decode(commitments: Sequence[Commitment]) -> list[tuple[tuple[bytes, bytes], frost.round1.SigningCommitments]]:
    """Bytes and points of each; raises what is wrong with the first that cannot be used.

    The bytes are the points' only encoding: no other one decodes to a point of prime order.
    """
    encoded = [(b64decode(each.hiding), b64decode(each.binding)) for each in commitments]
    read = []
    for pair, points in zip(encoded, frost.round1.decode_many(encoded), strict=True):
        if isinstance(points, frost.FrostError):
            raise points
        read.append((pair, points))
    return read
