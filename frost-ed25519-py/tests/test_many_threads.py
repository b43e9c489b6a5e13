"""Many in one call, and many threads that call."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from frost_ed25519 import NonceReused, aggregate_many, round1, round2, verify_many
from frost_support import ELEMENT
from many_support import (
    aggregated_alone,
    cheating,
    good,
    same,
    sign_requests,
    signatures,
    spoiled,
    stock,
    verified_alone,
)

THREADS = 8


def at_once(action: Callable[[], Any]) -> list[Any]:
    """Call from several threads at the same time."""
    barrier = threading.Barrier(THREADS)

    def attempt(_: int) -> Any:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(attempt, range(THREADS)))


def test_of_racing_threads_one_signs_with_each_nonces() -> None:
    for _ in range(10):
        requests, _ = sign_requests(["good"] * 16)
        results = at_once(lambda requests=requests: round2.sign_many(requests))  # type: ignore[misc]
        for outcomes in zip(*results, strict=True):
            signed = [each for each in outcomes if isinstance(each, round2.SignatureShare)]
            refused = [each for each in outcomes if isinstance(each, NonceReused)]
            assert (len(signed), len(refused)) == (1, THREADS - 1)


def test_threads_share_nothing() -> None:
    sessions = stock().sessions
    requests = [good(session) for session in sessions] + [cheating(sessions[3], [0, 1])]
    expected = [aggregated_alone(request) for request in requests]
    for outcomes in at_once(lambda: aggregate_many(requests)):
        same(outcomes, expected)
    first, second = signatures()[:2]
    checks = [*signatures(), spoiled(first, second, 0)]
    for outcomes in at_once(lambda: verify_many(checks)):
        same(outcomes, [verified_alone(check) for check in checks])
    key = stock().small.key(1)
    drawn = [own for pairs in at_once(lambda: round1.commit_many(key, 20)) for _, own in pairs]
    assert len(set(drawn)) == 20 * THREADS


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Have a thread count; it runs only while another one gives the interpreter up by itself."""
    progress = 0
    done = threading.Event()
    begun = threading.Event()

    def work() -> None:
        nonlocal progress
        while not done.is_set():
            progress += 1
            begun.set()
            time.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(30)
        yield lambda: progress
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()


def _signing() -> Callable[[], Any]:
    requests, _ = sign_requests(["good"] * 50)
    return lambda: round2.sign_many(requests)


BIG: dict[str, Callable[[], Callable[[], Any]]] = {
    "commit_many": lambda: lambda: round1.commit_many(stock().small.key(1), 200),
    "decode_many": lambda: lambda: round1.decode_many([(ELEMENT, ELEMENT)] * 200),
    "sign_many": _signing,
    "aggregate_many": lambda: (
        lambda: aggregate_many([good(session) for session in stock().sessions])
    ),
    "verify_many": lambda: lambda: verify_many(signatures() * 10),
}


@pytest.mark.parametrize("name", BIG)
def test_other_threads_run_meanwhile(name: str) -> None:
    for _ in range(100):
        call = BIG[name]()
        with counting() as progress:
            before = progress()
            call()
            if progress() > before:
                return
    pytest.fail("the interpreter was kept")
