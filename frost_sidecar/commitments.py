"""Where a session's commitments come from: a stock per signer and key, leased once, never returned.

A stock is filled at start, refilled by what rides on the signers' answers, and by a call of its own where that is not
enough. One without a commitment costs a session one more round trip, never an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import anyio

from frost_sidecar.config import SigningConfig, StockConfig
from frost_sidecar.keygen.group import Group
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Signer
from frost_sidecar.offers import Offers
from frost_sidecar.signers import Signers
from frost_sidecar.source import Lane, Source
from frost_sidecar.stock import Lease
from frost_sidecar.transport import SignerCalls, Trace
from frost_sidecar.wire import Commitment

__all__ = ["Commitments", "Lease"]


class Commitments:
    """Leases commitments of all signers. Enter it before use; leaving ends its calls, and wastes what is in stock.

    What it says of one signer holds for the signer at its configured address. Of an address that a caller brings there
    is no stock, and it can change nothing in any.
    """

    def __init__(
        self,
        calls: SignerCalls,
        signers: Signers,
        groups: Mapping[str, Group],
        config: StockConfig,
        metrics: CoordinatorMetrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        budget_seconds: float = SigningConfig().budget_seconds,
    ) -> None:
        """``budget_seconds``: how long after its lease a commitment may reach its signer."""
        self._calls = calls
        self._signers = signers
        self._clock = clock
        self._budget = budget_seconds
        self._metrics = metrics
        self._remembered = 2 * config.most * len(groups)
        self._sources: dict[int, Source] = {}
        self._brought: dict[int, Offers] = {}
        for key, group in groups.items():
            for signer in _configured(signers, group):
                source = self._sources.get(signer.identifier)
                if source is None:
                    source = Source(signer, self._offers(signer), calls, metrics, clock)
                    self._sources[signer.identifier] = source
                source.open(key, config)

    async def __aenter__(self) -> Self:
        for lane in self._lanes():
            lane.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*(lane.stop() for lane in self._lanes()))

    def take(self, signer: Signer, key: str, caller: Caller) -> Lease | None:
        """A commitment from stock, at once; None where there is none for this caller now."""
        lane = self._lane(signer, key)
        return None if lane is None else lane.take(caller)

    async def fetch(self, signer: Signer, key: str, trace: Trace, caller: Caller | None = None) -> Lease:
        """A commitment from the signer itself; those who want one while a call is under way share the next.

        Raises:
            SignerError: the call failed; the same error for all who waited for it.
        """
        lane = self._lane(signer, key)
        if lane is not None:
            return await lane.fetch(trace, caller)
        sent = self._clock()
        answer = await self._calls.commitments(signer, key, 1, trace)
        offers = self._brought.setdefault(signer.identifier, self._offers(signer))
        [offer] = await offers.read(answer.commitments, answer.epoch, answer.expires_in, 1, sent)
        events = self._metrics.commitment_events(signer.name)
        events.fetched.inc()
        events.leased.inc()
        return Lease.of(signer, key, offer, caller)

    def replenishment(self, signer: Signer, key: str, sessions: int) -> int:
        """How many commitments shall ride on the answer to a request for shares in so many sessions.

        They count as coming until exactly one of :meth:`arrived` and :meth:`missed` is called with the same number.
        """
        lane = self._lane(signer, key)
        return 0 if lane is None else lane.stock.replenishment(sessions)

    async def arrived(
        self,
        signer: Signer,
        key: str,
        epoch: str,
        commitments: Sequence[Commitment],
        expires_in: float,
        asked: int,
        sent: float,
    ) -> None:
        """Take into stock what rode on an answer to a request that left at ``sent``: all of it, or nothing."""
        lane = self._lane(signer, key)
        if lane is not None:
            await lane.arrived(commitments, epoch, expires_in, asked, sent)

    def missed(self, signer: Signer, key: str, asked: int) -> None:
        """The request failed on whose answer so many should ride."""
        lane = self._lane(signer, key)
        if lane is not None:
            lane.settle(asked)

    def void(self, signer: Signer, epoch: str) -> None:
        """The signer says that this epoch is over: whatever it offered in it is gone."""
        source = self._source(signer)
        if source is not None:
            source.void(epoch)

    def unknown(self, lease: Lease) -> None:
        """The signer does not know this commitment: what is as old or older is gone too, of whatever key."""
        source = self._source(lease.signer)
        if source is not None:
            source.unknown(lease)

    def released(self, lease: Lease, *, signed: bool) -> None:
        """The session of this lease ended; ``signed``: with a signature."""
        if not signed:
            self._metrics.commitment_events(lease.signer.name).burnt.inc()
        lane = self._lane(lease.signer, lease.key)
        if lane is not None:
            lane.stock.released(lease)

    def in_stock(self, identifier: int) -> int:
        """How many commitments of a signer are ready, of all keys."""
        source = self._sources.get(identifier)
        return 0 if source is None else sum(len(lane.stock) for lane in source.lanes.values())

    def _offers(self, signer: Signer) -> Offers:
        return Offers(signer.identifier, self._remembered, self._budget)

    def _lanes(self) -> list[Lane]:
        return [lane for source in self._sources.values() for lane in source.lanes.values()]

    def _source(self, signer: Signer) -> Source | None:
        source = self._sources.get(signer.identifier)
        return source if source is not None and signer.url == source.signer.url and signer.proved else None

    def _lane(self, signer: Signer, key: str) -> Lane | None:
        source = self._source(signer)
        return None if source is None else source.lanes.get(key)


def _configured(signers: Signers, group: Group) -> list[Signer]:
    """The group's signers that have an address of the operator's."""
    found = []
    for identifier in sorted(group.identifiers):
        try:
            signer = signers[identifier]
        except KeyError:
            continue
        if signer.url:
            found.append(signer)
    return found
