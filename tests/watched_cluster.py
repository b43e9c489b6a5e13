"""A cluster in memory that also watches when commitments were offered, and when they leave in signing packages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from frost_sidecar.model import Answer, Call, Signer
from frost_sidecar.problem import slug_of
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.wire import SHARES_PATH

_READING = 0.25
"""Seconds that reading an answer may take, in a thread, on a machine that is busy with other things."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One commitment as the coordinator saw it: the clock is :func:`time.monotonic`'s."""

    epoch: str
    asked: float
    """When the call that it came with reached the network; the coordinator began it no later."""
    stays: float
    """Until when it may be leased from stock."""


class WatchedCluster(MemoryCluster):
    """Knows of each request when it began (:attr:`began`, by request id), and finds leases that nobody should have."""

    def __init__(
        self,
        folder: Path,
        *,
        budget_seconds: float,
        settings: Mapping[str, Any],
        signers: Mapping[int, Mapping[str, Any]],
    ) -> None:
        super().__init__(folder, min_signers=3, max_signers=5, settings=settings, signers=signers)
        self.began: dict[str, float] = {}
        self.void: list[str] = []
        """Commitments leased although the signer had said before that their epoch is over."""
        self.old: list[str] = []
        """Commitments leased although they had been in stock too long."""
        self._budget = budget_seconds
        self._offered: dict[tuple[int, str], Offered] = {}
        self._over: dict[tuple[int, str], float] = {}

    async def call(self, signer: Signer, call: Call) -> Answer:
        asked = time.monotonic()
        body = msgspec.json.decode(call.body) if call.body else {}
        if call.path == SHARES_PATH:
            self._leave(signer.identifier, call, body)
        answer = await super().call(signer, call)
        self._arrive(signer.identifier, asked, body, answer)
        return answer

    def _leave(self, identifier: int, call: Call, body: dict[str, Any]) -> None:
        for session in body["sessions"]:
            request = session.get("request") or call.headers["X-Request-ID"]
            began = self.began.get(request.partition(":")[0])
            mine = session["commitments"][str(identifier)]
            offered = self._offered.get((identifier, mine["hiding"]))
            if began is None or offered is None:
                continue
            over = self._over.get((identifier, offered.epoch), 0.0)
            if offered.asked < over < began:
                self.void.append(f"{request}: of signer {identifier}, {mine['id']}")
            if began > offered.stays:
                self.old.append(f"{request}: of signer {identifier}, {mine['id']}")

    def _arrive(self, identifier: int, asked: float, body: dict[str, Any], answer: Answer) -> None:
        """Note what the coordinator learns from this answer. One that it does not understand offers nothing."""
        now = time.monotonic()
        if answer.status != 200:
            if slug_of(answer.body) == "stale-epoch":
                self._over[identifier, body["epoch"]] = now
            return
        try:
            value = msgspec.json.decode(answer.body)
        except msgspec.DecodeError:
            return
        life = min(value.get("expires_in", 0.0), 3600.0)
        # Who waits for a call gets what it brings, however old, once it has been read.
        stays = max(asked + life - min(self._budget, life / 2), now + _READING)
        for each in value.get("commitments", ()):
            self._offered[identifier, each["hiding"]] = Offered(value["epoch"], asked, stays)
