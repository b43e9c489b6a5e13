"""The one place where nonces live: in this process's memory, from their birth to their single use.

A nonce used in two signing packages gives the key share away. So whoever takes a nonce removes it, under one lock,
before anything is computed with it; nothing puts one back; and nothing writes one down: a restart is a new epoch.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from frost_ed25519 import round1
from frost_ed25519.keys import KeyPackage

from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import TooManyClients
from frost_sidecar.metrics import SignerMetrics
from frost_sidecar.wire import Commitment, SessionError

_SUBJECTS = 8
"""Clients of one certificate name: token subjects are the client's own choice and must not take all places."""

Points = tuple[bytes, bytes]
"""The two encoded points of a commitment: hiding, binding."""


@dataclass(frozen=True, slots=True)
class Issued:
    """One pair of nonces with its published commitments. The nonces' object is opaque and good for one signature."""

    key: str
    nonces: round1.SigningNonces
    commitments: round1.SigningCommitments
    points: Points
    expires: float


class NonceStore:
    """Issues commitments to clients and hands the nonces behind them out once, to the same client and key.

    Bounds: ``per_client`` outstanding commitments of a client (its own oldest make room, so that a coordinator that
    lost its stock can start again, at nobody else's cost), ``clients`` clients, ``lifetime`` seconds a commitment.
    """

    def __init__(
        self,
        metrics: SignerMetrics,
        *,
        per_client: int = 2048,
        clients: int = 64,
        lifetime: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = secrets.token_urlsafe(16)
        self.lifetime = lifetime
        self._metrics = metrics
        self._events = cache(metrics.commitments.labels)
        self._per_client = per_client
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._stock: dict[str, OrderedDict[str, Issued]] = {}

    def issue(self, client: str, key: str, share: KeyPackage, count: int) -> list[Commitment]:
        """Fresh commitments for ``client``: ``count``, or as many as one client may hold.

        Raises:
            TooManyClients: the client has no place, and no place is free.
        """
        with self._lock:
            self._admit(client)
        drawn = [
            (secrets.token_urlsafe(16), nonces, commitments, (commitments.hiding, commitments.binding))
            for nonces, commitments in round1.commit_many(share, min(count, self._per_client))
        ]
        with self._lock:
            self._expire()
            stock = self._admit(client)
            expires = self._clock() + self.lifetime
            for name, nonces, commitments, points in drawn:
                stock[name] = Issued(key, nonces, commitments, points, expires)
            evicted = max(0, len(stock) - self._per_client)
            for _ in range(evicted):
                stock.popitem(last=False)
            self._count("issued", len(drawn))
            self._count("evicted", evicted)
        return [
            Commitment(id=name, hiding=b64encode(hiding), binding=b64encode(binding))
            for name, _, _, (hiding, binding) in drawn
        ]

    def holds(self, client: str, key: str, name: str) -> bool:
        """Whether :meth:`take` could find this commitment now: a cheap look before dear checks. Removes nothing."""
        with self._lock:
            stock = self._stock.get(client)
            issued = stock.get(name) if stock else None
            return issued is not None and issued.key == key

    def take(self, client: str, key: str, asked: Sequence[tuple[str, Points]]) -> list[Issued | SessionError]:
        """Remove and return what was issued to ``client`` for ``key``, by name and with these very points.

        All at one moment, the outcomes in the order of ``asked``: ``unknown-commitment`` where there is no such thing,
        also where an earlier one has just taken it; ``malformed`` where the points are not those that were issued, and
        nothing is removed.
        """
        with self._lock:
            self._expire()
            stock = self._stock.get(client, OrderedDict[str, Issued]())
            found: list[Issued | SessionError] = []
            used = 0
            for name, points in asked:
                issued = stock.get(name)
                if issued is None or issued.key != key:
                    found.append("unknown-commitment")
                elif issued.points != points:
                    found.append("malformed")
                else:
                    del stock[name]
                    used += 1
                    found.append(issued)
            self._count("used", used)
            return found

    def expire(self) -> None:
        """Drop what is past its time, although nobody asks."""
        with self._lock:
            self._expire()

    def outstanding(self, client: str) -> int:
        """How many commitments of ``client`` are outstanding."""
        with self._lock:
            self._expire()
            return len(self._stock.get(client, ()))

    def _admit(self, client: str) -> OrderedDict[str, Issued]:
        stock = self._stock.get(client)
        if stock is not None:
            return stock
        certificate = client.partition(" ")[0]
        kin = [each for each in self._stock if each.partition(" ")[0] == certificate]
        if len(kin) >= _SUBJECTS:
            self._make_place(kin, f"{_SUBJECTS} subjects of this certificate hold commitments already")
        elif len(self._stock) >= self._clients:
            self._make_place(list(self._stock), f"{self._clients} clients hold commitments already")
        return self._stock.setdefault(client, OrderedDict())

    def _make_place(self, among: list[str], refusal: str) -> None:
        self._expire()
        idle = next((each for each in among if not self._stock[each]), None)
        if idle is None:
            raise TooManyClients(refusal)
        del self._stock[idle]

    def _expire(self) -> None:
        """All commitments live equally long, so in each client's order of issue the expired ones stand in front."""
        now = self._clock()
        expired = 0
        for stock in self._stock.values():
            while stock and next(iter(stock.values())).expires <= now:
                stock.popitem(last=False)
                expired += 1
        self._count("expired", expired)

    def _count(self, event: str, number: int) -> None:
        if number:
            self._events(event).inc(number)
            self._metrics.outstanding.inc(number if event == "issued" else -number)
