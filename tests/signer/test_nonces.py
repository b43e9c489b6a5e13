"""The nonce memory: bounds, expiry, counters, and that nothing leaves it."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from frost_ed25519 import keys, round1

from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import TooManyClients
from frost_sidecar.metrics import SignerMetrics, new_registry, render
from frost_sidecar.signer import NonceStore
from frost_sidecar.signer.nonces import Issued
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
        [found] = self.take_all(client, commitment)
        return found == "taken"

    def take_all(self, client: str, *commitments: Commitment, key: str = "default") -> list[str]:
        """ "taken", or why not."""
        asked = [(each.id, (b64decode(each.hiding), b64decode(each.binding))) for each in commitments]
        found = self.nonces.take(client, key, asked)
        for each, (_, points) in zip(found, asked, strict=True):
            assert not isinstance(each, Issued) or each.points == points
        return ["taken" if isinstance(each, Issued) else each for each in found]

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


def test_one_certificate_has_places_for_eight_subjects(group: Group) -> None:
    store = Store(group, lifetime=10)
    store.issue("DNS:ab s0")
    store.issue("DNS:a.b s0")
    [first, *_] = [store.issue(f"DNS:a s{number}")[0] for number in range(8)]
    store.issue("DNS:b s0")
    with pytest.raises(TooManyClients, match="8 subjects of this certificate"):
        store.issue("DNS:a s8")
    store.issue("DNS:a s0")
    [other] = store.issue("DNS:b s1")
    assert store.take("DNS:b s1", other)
    with pytest.raises(TooManyClients):  # an idle client of another certificate makes no place here
        store.issue("DNS:a s8")
    assert store.take("DNS:a s0", first)
    with pytest.raises(TooManyClients):
        store.issue("DNS:a s8")
    store.now = 10.0
    store.issue("DNS:a s8")


def test_subjects_of_one_certificate_cannot_take_all_places(group: Group) -> None:
    store = Store(group, clients=9)
    for number in range(20):
        with contextlib.suppress(TooManyClients):
            store.issue(f"DNS:a s{number}")
    store.issue("DNS:b s0")
    with pytest.raises(TooManyClients, match="9 clients"):
        store.issue("DNS:c s0")


def test_who_has_no_place_costs_no_nonces(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = round1.commit_many

    def watched(share: keys.KeyPackage, count: int) -> list[tuple[round1.SigningNonces, round1.SigningCommitments]]:
        drawn.append(count)
        return real(share, count)

    monkeypatch.setattr(round1, "commit_many", watched)
    store = Store(group, clients=1)
    store.issue("a", 3)
    with pytest.raises(TooManyClients):
        store.issue("b", 3)
    assert drawn == [3]


def test_holding_is_told_of_the_same_client_and_key_alone_and_removes_nothing(group: Group) -> None:
    store = Store(group)
    [mine] = store.issue("c")
    held = [
        store.nonces.holds(client, key, name)
        for client in ("c", "d")
        for key in ("default", "other")
        for name in (mine.id, "unknown")
    ]
    assert held == [True] + [False] * 7
    assert store.take("c", mine)
    assert not store.nonces.holds("c", "default", mine.id)


class _Lock:
    """A lock that counts how often it is taken."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken = 0

    def __enter__(self) -> None:
        self.lock.acquire()
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _guarded(lock: _Lock, touched: list[str]) -> type[OrderedDict[str, Any]]:
    """A mapping that may be touched only while ``lock`` is held, and so the mappings in it."""

    def checked(name: str) -> Any:
        def method(self: Any, *values: Any, **more: Any) -> Any:
            assert lock.lock.locked(), f"{name} without the lock"
            touched.append(name)
            inner = [Guarded(each) if type(each) is OrderedDict else each for each in values]
            return getattr(OrderedDict, name)(self, *inner, **more)

        return method

    class Guarded(OrderedDict[str, Any]):
        pass

    names = "__getitem__ __setitem__ __delitem__ __iter__ __len__ __contains__ get pop popitem setdefault update"
    for name in f"{names} values keys items move_to_end clear".split():
        setattr(Guarded, name, checked(name))
    return Guarded


def test_the_stock_is_touched_under_one_lock_taken_once(group: Group) -> None:
    store, lock, touched = Store(group, per_client=4, clients=2, lifetime=10), _Lock(), list[str]()
    with lock:
        stock = _guarded(lock, touched)()
    store.nonces._lock, store.nonces._stock = lock, stock  # type: ignore[assignment]

    def calls(action: Callable[[], object]) -> int:
        before = lock.taken
        touched.clear()
        with contextlib.suppress(TooManyClients):
            action()
        assert touched
        return lock.taken - before

    fresh: list[Commitment] = []
    assert calls(lambda: fresh.extend(store.issue("c", 3))) == 2  # once to see whether there is a place, once to store
    assert calls(lambda: store.issue("c", 3)) == 2
    assert calls(lambda: store.take_all("c", *fresh[1:])) == 1
    assert calls(lambda: store.take("c", fresh[2])) == 1
    assert calls(lambda: store.nonces.holds("c", "default", fresh[2].id)) == 1
    store.issue("d")
    assert calls(lambda: store.issue("e")) == 1
    assert calls(store.nonces.expire) == 1
    store.now = 10.0
    assert calls(lambda: store.nonces.outstanding("c")) == 1
    assert calls(lambda: store.issue("e")) == 2


def test_of_threads_that_meet_inside_one_take_one_gets_the_nonces(group: Group) -> None:
    class Slow(OrderedDict[str, Any]):
        """Others run between the look and the removal."""

        def get(self, *values: Any) -> Any:
            found = super().get(*values)
            time.sleep(0.02)
            return found

        def __delitem__(self, name: str) -> None:
            time.sleep(0.02)
            self.pop(name, None)

    store = Store(group)
    mine, *_ = store.issue("c", 2)
    store.nonces._stock["c"] = Slow(store.nonces._stock["c"])
    barrier = threading.Barrier(4)

    def race(_: int) -> bool:
        barrier.wait()
        return store.take("c", mine)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(race, range(4))) == [False, False, False, True]


def test_other_points_under_a_name_are_refused_and_remove_nothing(group: Group) -> None:
    store = Store(group)
    mine, other = store.issue("c", 2)
    mixed = msgspec.structs.replace(mine, binding=other.binding)
    assert store.take_all("c", mixed) == ["malformed"]
    assert store.take("c", mine)


def test_under_another_key_nothing_is_taken(group: Group) -> None:
    store = Store(group)
    [mine] = store.issue("c")
    assert store.take_all("c", mine, key="other") == ["unknown-commitment"]
    assert store.take("c", mine)


def test_of_many_at_once_each_has_its_own_outcome(group: Group) -> None:
    store = Store(group)
    first, second, third, fourth = store.issue("c", 4)
    [foreign] = store.issue("d")
    mixed = msgspec.structs.replace(second, hiding=third.hiding)
    found = store.take_all("c", fourth, mixed, first, fourth, foreign, second)
    assert found == ["taken", "malformed", "taken", "unknown-commitment", "unknown-commitment", "taken"]
    assert [store.take("c", each) for each in (first, second, third, fourth)] == [False, False, True, False]
    assert store.take("d", foreign)
    assert store.events() == {"issued": 5, "used": 5, "outstanding": 0}
    assert store.take_all("nobody", first) == ["unknown-commitment"]
    assert store.take_all("c") == []


def test_no_nonces_are_drawn_while_the_lock_is_held(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(group)
    held: list[bool] = []
    real = round1.commit_many

    def watched(share: keys.KeyPackage, count: int) -> list[tuple[round1.SigningNonces, round1.SigningCommitments]]:
        held.append(store.nonces._lock.locked())
        return real(share, count)

    monkeypatch.setattr(round1, "commit_many", watched)
    store.issue("c", 256)
    assert held == [False]


def test_names_and_points_are_fresh(group: Group) -> None:
    fresh = Store(group).issue("c", 256)
    assert len({each.id for each in fresh}) == 256
    assert len({point for each in fresh for point in (each.hiding, each.binding)}) == 512


def test_nothing_secret_shows_or_can_be_copied(group: Group) -> None:
    store = Store(group)
    [mine] = store.issue("c")
    [issued] = store.nonces.take("c", "default", [(mine.id, (b64decode(mine.hiding), b64decode(mine.binding)))])
    assert isinstance(issued, Issued)
    assert repr(issued.nonces) == "<SigningNonces>"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(issued.nonces)
