"""The nonce memory: bounds, expiry, counters, and that nothing leaves it."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import TooManyClients
from frost_sidecar.metrics import SignerMetrics, new_registry, render
from frost_sidecar.signer import NonceStore
from frost_sidecar.signer.nonces import NotAsIssued
from frost_sidecar.wire import Commitment

if TYPE_CHECKING:
    from tests.signer.conftest import Group


class Store:
    """A store on its own clock, for one group."""

    def __init__(self, group: Group, *, per_client: int = 2048, clients: int = 64, lifetime: float = 600.0) -> None:
        self.now = 0.0
        self.metrics = SignerMetrics(new_registry())
        self.nonces = NonceStore(
            self.metrics, per_client=per_client, clients=clients, lifetime=lifetime, clock=lambda: self.now
        )
        self.share = group.shares[1]

    def issue(self, client: str, count: int = 1) -> list[Commitment]:
        return self.nonces.issue(client, "default", self.share, count)

    def take(self, client: str, commitment: Commitment) -> bool:
        points = b64decode(commitment.hiding), b64decode(commitment.binding)
        return self.nonces.take(client, "default", commitment.id, points) is not None

    def events(self) -> dict[str, float]:
        lines = render(self.metrics.registry, "")[0].decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("frost_signer_commitments")]
        return {name.partition('event="')[2].rstrip('"}') or "outstanding": float(value) for name, value in pairs}


def test_epochs_differ(group: Group) -> None:
    assert Store(group).nonces.epoch != Store(group).nonces.epoch


def test_commitments_expire(group: Group) -> None:
    store = Store(group, lifetime=10)
    [early] = store.issue("c")
    store.now = 9.0
    [late] = store.issue("c")
    store.now = 10.0
    assert not store.take("c", early)
    assert store.take("c", late)
    assert store.events() == {"issued": 2, "expired": 1, "used": 1, "outstanding": 0}


def test_expired_commitments_go_without_being_asked_for(group: Group) -> None:
    store = Store(group, lifetime=10)
    store.issue("a", 3)
    store.now = 10.0
    store.nonces.expire()
    assert store.events() == {"issued": 3, "expired": 3, "outstanding": 0}


def test_a_full_client_loses_its_own_oldest(group: Group) -> None:
    store = Store(group, per_client=4)
    [other] = store.issue("other")
    first = store.issue("c", 4)
    second = store.issue("c", 3)
    assert [store.take("c", each) for each in [*first, *second]] == [False] * 3 + [True] * 4
    assert store.take("other", other)
    assert store.events() == {"issued": 8, "evicted": 3, "used": 5, "outstanding": 0}


def test_no_more_are_made_than_one_client_may_hold(group: Group) -> None:
    store = Store(group, per_client=3)
    fresh = store.issue("c", 100)
    assert len(fresh) == 3
    assert all(store.take("c", each) for each in fresh)


def test_a_client_more_than_places_is_refused_until_one_is_idle(group: Group) -> None:
    store = Store(group, clients=2, lifetime=10)
    [a] = store.issue("a")
    [b] = store.issue("b")
    with pytest.raises(TooManyClients):
        store.issue("c")
    store.issue("a")
    assert store.take("b", b)
    store.issue("c")
    assert store.take("a", a)
    with pytest.raises(TooManyClients):
        store.issue("b")
    store.now = 10.0
    store.issue("b")


def test_other_points_under_a_name_are_refused_and_remove_nothing(group: Group) -> None:
    store = Store(group)
    mine, other = store.issue("c", 2)
    points = b64decode(mine.hiding), b64decode(other.binding)
    with pytest.raises(NotAsIssued):
        store.nonces.take("c", "default", mine.id, points)
    assert store.take("c", mine)


def test_names_and_points_are_fresh(group: Group) -> None:
    fresh = Store(group).issue("c", 256)
    assert len({each.id for each in fresh}) == 256
    assert len({point for each in fresh for point in (each.hiding, each.binding)}) == 512


def test_nothing_secret_shows_or_can_be_copied(group: Group) -> None:
    store = Store(group)
    [mine] = store.issue("c")
    issued = store.nonces.take("c", "default", mine.id, (b64decode(mine.hiding), b64decode(mine.binding)))
    assert issued is not None
    assert repr(issued.nonces) == "<SigningNonces>"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(issued.nonces)
