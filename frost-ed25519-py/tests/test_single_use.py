"""What works once works once."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from frost_ed25519 import FrostError, Identifier, NonceReused, SigningPackage, round1, round2
from frost_ed25519.exceptions import (
    AlreadyConsumed,
    DuplicatedIdentifier,
    IncorrectCommitment,
    IncorrectNumberOfCommitments,
    IncorrectNumberOfPackages,
    IncorrectPackage,
    InvalidProofOfKnowledge,
    InvalidSecretShare,
    MissingCommitment,
    SecretPackageReused,
    UnknownIdentifier,
)
from frost_ed25519.keys import dkg
from frost_support import deal

THREADS = 8


def race(action: Any) -> list[Any]:
    """Call `action` from several threads at once; give results and exceptions."""
    barrier = threading.Barrier(THREADS)

    def attempt(_: int) -> Any:
        barrier.wait()
        try:
            return action()
        except FrostError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(attempt, range(THREADS)))


def test_nonces_work_once() -> None:
    group = deal(3, 2)
    package, nonces = group.open([1, 2], b"message")
    mine = nonces[Identifier(1)]
    states = [mine.consumed]
    assert mine.commitments == package.signing_commitments[Identifier(1)]
    round2.sign(package, mine, group.key(1))
    states.append(mine.consumed)
    assert states == [False, True]
    for _ in range(2):
        with pytest.raises(NonceReused):
            round2.sign(package, mine, group.key(1))
    other, _ = group.open([1, 2], b"another message")
    with pytest.raises(NonceReused):
        round2.sign(other, mine, group.key(1))
    assert mine.commitments == package.signing_commitments[Identifier(1)]


def test_a_failed_signature_uses_the_nonces_up() -> None:
    group = deal(3, 2)
    good, nonces = group.open([1, 2], b"message")
    commitments = good.signing_commitments
    attempts = [
        (
            MissingCommitment,
            SigningPackage({2: commitments[Identifier(2)], 3: commitments[Identifier(2)]}, b""),
        ),
        (
            IncorrectCommitment,
            SigningPackage({1: commitments[Identifier(2)], 2: commitments[Identifier(2)]}, b""),
        ),
        (IncorrectNumberOfCommitments, SigningPackage({1: commitments[Identifier(1)]}, b"")),
        (IncorrectNumberOfCommitments, SigningPackage({}, b"")),
    ]
    for error, package in attempts:
        mine, own = round1.commit(group.key(1))
        with pytest.raises(error):
            round2.sign(package, mine, group.key(1))
        assert mine.consumed
        with pytest.raises(NonceReused):
            round2.sign(SigningPackage({1: own, 2: own}, b""), mine, group.key(1))
    assert not nonces[Identifier(1)].consumed


def test_arguments_of_the_wrong_type_do_not_use_the_nonces_up() -> None:
    group = deal(3, 2)
    package, nonces = group.open([1, 2], b"message")
    mine = nonces[Identifier(1)]
    bad: list[tuple[Any, Any]] = [
        (None, group.key(1)),
        (package, None),
        (package, package),
        (b"", group.key(1)),
    ]
    for first, last in bad:
        with pytest.raises(TypeError):
            round2.sign(first, mine, last)
    assert not mine.consumed
    round2.sign(package, mine, group.key(1))


def test_somebody_elses_nonces_do_not_sign() -> None:
    group = deal(3, 2)
    package, nonces = group.open([1, 2], b"message")
    with pytest.raises(IncorrectCommitment):
        round2.sign(package, nonces[Identifier(2)], group.key(1))
    with pytest.raises(NonceReused):
        round2.sign(package, nonces[Identifier(2)], group.key(2))


def test_one_of_racing_threads_signs() -> None:
    group = deal(3, 2)
    for _ in range(25):
        package, nonces = group.open([1, 2], b"message")
        mine = nonces[Identifier(1)]
        results = race(lambda package=package, mine=mine: round2.sign(package, mine, group.key(1)))
        won = [result for result in results if isinstance(result, round2.SignatureShare)]
        lost = [result for result in results if isinstance(result, NonceReused)]
        assert (len(won), len(lost)) == (1, THREADS - 1)


def test_one_of_racing_threads_fails_and_none_signs() -> None:
    group = deal(3, 2)
    for _ in range(25):
        mine, own = round1.commit(group.key(1))
        package = SigningPackage({1: own}, b"message")
        results = race(lambda package=package, mine=mine: round2.sign(package, mine, group.key(1)))
        first = [r for r in results if isinstance(r, IncorrectNumberOfCommitments)]
        lost = [r for r in results if isinstance(r, NonceReused)]
        assert (len(first), len(lost)) == (1, THREADS - 1)


def test_nonces_differ() -> None:
    group = deal(2, 2)
    seen = {round1.commit(group.key(1))[1] for _ in range(50)}
    points = {point for commitments in seen for point in (commitments.hiding, commitments.binding)}
    assert len(points) == 100


def start(
    count: int = 3,
) -> tuple[dict[int, dkg.round1.SecretPackage], dict[int, dkg.round1.Package]]:
    secrets, packages = {}, {}
    for who in range(1, count + 1):
        secrets[who], packages[who] = dkg.part1(who, count, 2)
    return secrets, packages


def others(who: int, packages: dict[int, Any]) -> dict[int, Any]:
    return {other: package for other, package in packages.items() if other != who}


def test_secret_packages_work_once() -> None:
    secrets, packages = start()
    kept, sent = {}, {}
    for who, secret in secrets.items():
        assert (secret.identifier, secret.consumed) == (Identifier(who), False)
        kept[who], sent[who] = dkg.part2(secret, others(who, packages))
        assert secret.consumed
        with pytest.raises(SecretPackageReused):
            dkg.part2(secret, others(who, packages))
    received = {who: sent[who][Identifier(1)] for who in (2, 3)}
    results = race(lambda: dkg.part3(kept[1], others(1, packages), received))
    assert sum(isinstance(result, tuple) for result in results) == 1
    assert sum(isinstance(result, SecretPackageReused) for result in results) == THREADS - 1
    assert kept[1].consumed
    assert kept[1].identifier == Identifier(1)
    assert issubclass(SecretPackageReused, AlreadyConsumed)
    assert issubclass(NonceReused, AlreadyConsumed)


def test_part2_refuses_and_is_used_up() -> None:
    good = start()[1]
    stranger = dkg.part1(1, 3, 3)[1]
    attempts: list[tuple[type[FrostError], dict[int, dkg.round1.Package]]] = [
        (IncorrectNumberOfPackages, {}),
        (IncorrectNumberOfPackages, {2: good[2]}),
        (IncorrectNumberOfPackages, good),
        (UnknownIdentifier, {1: good[1], 2: good[2]}),
        (IncorrectNumberOfCommitments, {2: stranger, 3: good[3]}),
        (InvalidProofOfKnowledge, {2: good[3], 3: good[2]}),
    ]
    for error, packages in attempts:
        secret, _ = dkg.part1(1, 3, 2)
        with pytest.raises(error):
            dkg.part2(secret, packages)
        with pytest.raises(SecretPackageReused):
            dkg.part2(secret, others(1, good))


def test_part2_names_the_culprit() -> None:
    secrets, packages = start()
    with pytest.raises(InvalidProofOfKnowledge) as caught:
        dkg.part2(secrets[1], {2: packages[2], 3: packages[2]})
    assert caught.value.culprits == [Identifier(3)]


def test_mistyped_packages_do_not_use_anything_up() -> None:
    secrets, packages = start()
    mistyped: list[Any] = [None, {2: None}, {"2": packages[2]}, [packages[2]]]
    for bad in mistyped:
        with pytest.raises(TypeError):
            dkg.part2(secrets[1], bad)
    twice: dict[Identifier | int, dkg.round1.Package]
    twice = {2: packages[2], Identifier(2): packages[2]}
    with pytest.raises(DuplicatedIdentifier):
        dkg.part2(secrets[1], twice)
    assert not secrets[1].consumed
    dkg.part2(secrets[1], others(1, packages))


def test_part3_refuses_and_is_used_up() -> None:
    def fresh() -> tuple[dkg.round2.SecretPackage, dict[int, Any], dict[int, Any]]:
        secrets, packages = start()
        kept, sent = {}, {}
        for who, secret in secrets.items():
            kept[who], sent[who] = dkg.part2(secret, others(who, packages))
        return kept[1], others(1, packages), {who: sent[who][Identifier(1)] for who in (2, 3)}

    kept, round1_packages, received = fresh()
    swapped = {2: received[3], 3: received[2]}
    with pytest.raises(InvalidSecretShare) as caught:
        dkg.part3(kept, round1_packages, swapped)
    assert caught.value.culprits == [Identifier(2)]
    with pytest.raises(SecretPackageReused):
        dkg.part3(kept, round1_packages, received)

    one = received[2]
    attempts: list[tuple[type[FrostError], Any]] = [
        (IncorrectNumberOfPackages, {}),
        (IncorrectNumberOfPackages, {2: one}),
        (IncorrectPackage, {2: one, 7: one}),
        (UnknownIdentifier, {1: one, 2: one}),
    ]
    for error, packages in attempts:
        kept, round1_packages, _ = fresh()
        with pytest.raises(error):
            dkg.part3(kept, round1_packages, packages)
        assert kept.consumed
    _, elsewhere, _ = fresh()
    for wrong in ({}, elsewhere):
        kept, _, received = fresh()
        with pytest.raises(IncorrectPackage):
            dkg.part3(kept, wrong, received)
        assert kept.consumed


FORKS = """
import os, sys, traceback
from frost_ed25519 import SigningPackage, round1, round2
from frost_ed25519.exceptions import AlreadyConsumed, ForkedNonces, ForkedSecretPackage
from frost_ed25519.keys import KeyPackage, dkg, generate_with_dealer

def in_fork(action):
    child = os.fork()
    if not child:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0

def refused(kind, action):
    for _ in range(2):
        try:
            action()
        except kind as error:
            assert isinstance(error, AlreadyConsumed)
            assert "belong" in str(error) and "process" in str(error)
        else:
            raise AssertionError("not refused")

shares, public = generate_with_dealer(2, 2)
one, two = (KeyPackage.from_secret_share(share) for share in shares.values())
nonces1, commitments1 = round1.commit(one)
nonces2, commitments2 = round1.commit(two)
packages = [SigningPackage({1: commitments1, 2: commitments2}, bytes([n])) for n in range(3)]
secret1, broadcast1 = dkg.part1(1, 2, 2)
secret2, broadcast2 = dkg.part1(2, 2, 2)

def child():
    assert nonces1.consumed and secret1.consumed
    refused(ForkedNonces, lambda: round2.sign(package, nonces1, one))
    for outcome in round2.sign_many([(package, nonces1, one)] * 2):
        assert type(outcome) is ForkedNonces
    refused(ForkedSecretPackage, lambda: dkg.part2(secret1, {2: broadcast2}))
    assert nonces1.commitments == commitments1
    # What the child makes is its own.
    mine, own = round1.commit(one)
    round2.sign(SigningPackage({1: own, 2: commitments2}, b""), mine, one)
    fresh, _ = dkg.part1(1, 2, 2)
    dkg.part2(fresh, {2: broadcast2})
    in_fork(lambda: refused(ForkedNonces, lambda: round2.sign(package, nonces1, one)))

for package in packages:
    in_fork(child)
assert not nonces1.consumed and not secret1.consumed
kept, sent = dkg.part2(secret1, {2: broadcast2})
_, received = dkg.part2(secret2, {1: broadcast1})
(received,) = received.values()
in_fork(lambda: refused(
    ForkedSecretPackage, lambda: dkg.part3(kept, {2: broadcast2}, {2: received})
))
dkg.part3(kept, {2: broadcast2}, {2: received})
round2.sign(packages[0], nonces1, one)

def child_of_used():
    refused(ForkedNonces, lambda: round2.sign(packages[1], nonces1, one))

in_fork(child_of_used)
print("done")
"""


def test_forks_cannot_use_them() -> None:
    command = [sys.executable, "-W", "error", "-c", FORKS]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")
