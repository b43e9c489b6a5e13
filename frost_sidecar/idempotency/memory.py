"""The store that every coordinator has: answers by idempotency key in the process's own memory."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from frost_sidecar.errors import Overloaded
from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.model import Claim

_TICKS_PER_SECOND = 10
"""Entries end in groups, at most a tenth of a second late, so that none is searched for."""
_SWEPT_AT_ONCE = 16
"""Ended entries that one call removes. More than the one it may add, few enough that no call is slow."""


@dataclass(slots=True)
class _Entry:
    fingerprint: bytes
    owner: str
    ends: int
    answer: bytes | None = None


class MemoryStore(IdempotencyStore):
    """Keeps up to ``max_entries`` keys. Every step is atomic, as none of them waits.

    A key costs about 800 bytes; a call takes the same few microseconds however many keys there are.
    """

    def __init__(self, max_entries: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds that never go back."""
        self._max_entries = max_entries
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._ending: dict[int, set[str]] = {}
        self._ticks: list[int] = []
        """The keys of ``_ending`` as a heap."""

    def __len__(self) -> int:
        """Keys in memory, those included that have ended and are not removed yet."""
        return len(self._entries)

    def find(self, key: str) -> Claim | None:
        """What is known of ``key``; None where it is free."""
        entry = self._entries.get(key)
        if entry is None or entry.ends <= self._tick():
            return None
        return Claim(mine=False, fingerprint=entry.fingerprint, answer=entry.answer)

    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        """As the contract says.

        Raises:
            Overloaded: ``max_entries`` other keys are held or answered.
        """
        now = self._tick()
        self._sweep(now)
        entry = self._entries.get(key)
        if entry is not None and entry.ends > now:
            mine = entry.owner == owner and entry.answer is None
            return Claim(mine=mine, fingerprint=entry.fingerprint, answer=entry.answer)
        if entry is not None:
            self._remove(key, entry)
        if len(self._entries) >= self._max_entries:
            raise Overloaded(f"{self._max_entries} idempotency keys are remembered already; try again later")
        self._put(key, _Entry(fingerprint, owner, self._end(seconds)))
        return Claim(mine=True, fingerprint=fingerprint)

    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        """As the contract says."""
        entry = self._held(key, owner)
        if entry is not None:
            self._remove(key, entry)
            self._put(key, _Entry(entry.fingerprint, owner, self._end(seconds), answer))

    async def release(self, key: str, owner: str) -> None:
        """As the contract says."""
        entry = self._held(key, owner)
        if entry is not None:
            self._remove(key, entry)

    def _held(self, key: str, owner: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or entry.ends <= self._tick() or entry.owner != owner or entry.answer is not None:
            return None
        return entry

    def _put(self, key: str, entry: _Entry) -> None:
        self._entries[key] = entry
        if entry.ends not in self._ending:
            self._ending[entry.ends] = set()
            heapq.heappush(self._ticks, entry.ends)
        self._ending[entry.ends].add(key)

    def _remove(self, key: str, entry: _Entry) -> None:
        del self._entries[key]
        self._ending[entry.ends].discard(key)

    def _sweep(self, now: int) -> None:
        """Remove some of what has ended, the oldest first."""
        room = _SWEPT_AT_ONCE
        while room and self._ticks and self._ticks[0] <= now:
            keys = self._ending[self._ticks[0]]
            while room and keys:
                del self._entries[keys.pop()]
                room -= 1
            if not keys:
                del self._ending[heapq.heappop(self._ticks)]

    def _tick(self) -> int:
        return math.floor(self._clock() * _TICKS_PER_SECOND)

    def _end(self, seconds: float) -> int:
        """The tick that begins ``seconds`` from now, or the next one."""
        return math.ceil((self._clock() + seconds) * _TICKS_PER_SECOND)
