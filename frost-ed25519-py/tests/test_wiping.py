"""Secrets are gone from memory once they are used, and once their object is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from frost_ed25519 import FrostError, Identifier, SigningKey, SigningPackage, round1, round2
from frost_ed25519.keys import KeyPackage, PublicKeyPackage, SecretShare, dkg, generate_with_dealer
from frost_support import scalar
from memory import SCALAR, Memory, commits_to, trace, trace_object


@dataclass
class Case:
    """A secret object, what is published for its secrets, and how many it has."""

    value: Any
    points: list[bytes]
    good: Callable[[Any], object] | None = None
    bad: Callable[[Any], object] | None = None


def key_package() -> KeyPackage:
    shares, _ = generate_with_dealer(2, 2)
    return KeyPackage.from_secret_share(shares[Identifier(1)])


def nonces() -> Case:
    key = key_package()
    value, own = round1.commit(key)
    _, other = round1.commit(key)
    good, bad = SigningPackage({1: own, 2: other}, b"message"), SigningPackage({}, b"message")
    return Case(
        value,
        [own.hiding, own.binding],
        lambda value: round2.sign(good, value, key),
        lambda value: round2.sign(bad, value, key),
    )


def nonces_of_many() -> Case:
    key = key_package()
    (value, own), (_, other) = round1.commit_many(key, 2)
    good, bad = SigningPackage({1: own, 2: other}, b"message"), SigningPackage({}, b"message")

    def refused(value: round1.SigningNonces) -> None:
        (outcome,) = round2.sign_many([(bad, value, key)])
        assert isinstance(outcome, FrostError)
        raise outcome

    return Case(
        value,
        [own.hiding, own.binding],
        lambda value: round2.sign_many([(good, value, key)]),
        refused,
    )


def dkg_round1() -> Case:
    value, mine = dkg.part1(1, 2, 2)
    _, theirs = dkg.part1(2, 2, 2)
    return Case(
        value,
        mine.commitment.serialize(),
        lambda value: dkg.part2(value, {2: theirs}),
        lambda value: dkg.part2(value, {}),
    )


def dkg_round2() -> Case:
    secret, mine = dkg.part1(1, 2, 2)
    other, theirs = dkg.part1(2, 2, 2)
    value, _ = dkg.part2(secret, {2: theirs})
    _, sent = dkg.part2(other, {1: mine})
    public = PublicKeyPackage.from_commitment([1, 2], mine.commitment)
    received = {2: sent[Identifier(1)]}
    return Case(
        value,
        [public.verifying_shares[Identifier(1)].serialize()],
        lambda value: dkg.part3(value, {2: theirs}, received),
        lambda value: dkg.part3(value, {2: theirs}, {}),
    )


def dkg_package() -> Case:
    secret, mine = dkg.part1(1, 2, 2)
    _, theirs = dkg.part1(2, 2, 2)
    _, sent = dkg.part2(secret, {2: theirs})
    public = PublicKeyPackage.from_commitment([1, 2], mine.commitment)
    return Case(sent[Identifier(2)], [public.verifying_shares[Identifier(2)].serialize()])


def key() -> Case:
    value = key_package()
    return Case(value, [value.verifying_share.serialize()])


def read_key() -> Case:
    value = KeyPackage.deserialize(key_package().serialize())
    return Case(value, [value.verifying_share.serialize()])


def share() -> Case:
    shares, public = generate_with_dealer(2, 2)
    value: SecretShare = shares[Identifier(1)]
    return Case(value, [public.verifying_shares[Identifier(1)].serialize()])


def seed() -> Case:
    value = SigningKey.from_ed25519_seed(bytes(range(32)))
    return Case(value, [value.verifying_key.serialize()])


def private_scalar() -> Case:
    value = SigningKey.deserialize(scalar(2**252 - 12345))
    return Case(value, [value.verifying_key.serialize()])


SINGLE_USE = [nonces, nonces_of_many, dkg_round1, dkg_round2]
ALL = [*SINGLE_USE, dkg_package, key, read_key, share, seed, private_scalar]


@pytest.mark.parametrize("make", SINGLE_USE)
@pytest.mark.parametrize("failing", [False, True], ids=["used", "failed"])
def test_use_wipes(make: Callable[[], Case], failing: bool) -> None:
    case = make()
    before = trace_object(case.value, commits_to(*case.points))
    assert len(before.found) == len(case.points)
    if failing:
        assert case.bad
        with pytest.raises(FrostError):
            case.bad(case.value)
    else:
        assert case.good
        case.good(case.value)
    assert not before.still_there()
    assert not trace_object(case.value, before.match).found
    del case
    assert not before.still_there()


@pytest.mark.parametrize("make", ALL)
def test_the_end_of_the_object_wipes(make: Callable[[], Case]) -> None:
    case = make()
    before = trace_object(case.value, commits_to(*case.points))
    assert len(before.found) == len(case.points)
    del case
    assert not before.still_there()


WORKER = """
from frost_ed25519 import SigningKey, SigningPackage, round1, round2
from frost_ed25519.keys import KeyPackage, PublicKeyPackage, dkg, generate_with_dealer, split

def show(value, *points):
    print(id(value), type(value).__basicsize__, *(bytes(point).hex() for point in points))
    step()

def step():
    print("", flush=True)
    input()

def share_of(commitment):
    shares = PublicKeyPackage.from_commitment([1, 2], commitment).verifying_shares
    return next(iter(shares.values())).serialize()

key = SigningKey.from_ed25519_seed(bytes(range(32)))
show(key, key.verifying_key.serialize())
shares, _ = split(key, 2, 2)
del key
step()
shares, public = generate_with_dealer(3, 2)
(first, share), *_ = shares.items()
show(share, public.verifying_shares[first].serialize())
del share
key = KeyPackage.from_secret_share(shares.pop(first))
step()
nonces, own = round1.commit(key)
show(nonces, own.hiding, own.binding)
package = SigningPackage({1: own, 2: round1.commit(key)[1]}, b"message")
round2.sign(package, nonces, key)
step()
pairs = round1.commit_many(key, 3)
for nonces, own in pairs:
    show(nonces, own.hiding, own.binding)
round2.sign_many([
    (SigningPackage({1: own, 2: pairs[0][1]}, b"message"), nonces, key) for nonces, own in pairs
])
step()
del key
step()
secret1, mine = dkg.part1(1, 2, 2)
show(secret1, *mine.commitment.serialize())
other, theirs = dkg.part1(2, 2, 2)
secret2, _ = dkg.part2(secret1, {2: theirs})
step()
show(secret2, share_of(mine.commitment))
_, sent = dkg.part2(other, {1: mine})
(sent,) = sent.values()
show(sent, share_of(theirs.commitment))
key, _ = dkg.part3(secret2, {2: theirs}, {2: sent})
step()
del sent
step()
show(key, key.verifying_share.serialize())
del key
step()
"""


def test_no_copies_anywhere() -> None:
    """Look at all memory of another process, which knows no secret but those it holds."""
    command = [sys.executable, "-W", "error", "-c", WORKER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        commands, answers = worker.stdin, worker.stdout
        assert commands
        assert answers
        memory = Memory(worker.pid)

        def step() -> None:
            assert answers.readline() == "\n"

        def go_on() -> None:
            commands.write("\n")
            commands.flush()

        def shown() -> list[bytes]:
            address, size, *points = answers.readline().split()
            match = commits_to(*map(bytes.fromhex, points))
            found = trace(int(address), int(size), match, process=worker.pid).found
            secrets = [memory.read(address, SCALAR) for address in found]
            assert len(secrets) == len(points)
            step()
            count(1, secrets)
            go_on()
            return secrets

        def count(expected: int, secrets: list[bytes]) -> None:
            for secret in secrets:
                assert len(memory.copies(secret)) == expected

        def then(gone: list[bytes], left: list[bytes] | None = None) -> None:
            step()
            count(0, gone)
            count(1, left or [])
            go_on()

        whole = shown()
        then(whole)
        share = shown()
        then([], share)
        nonces = shown()
        then(nonces, share)
        many = [secret for _ in range(3) for secret in shown()]
        then(nonces + many, share)
        then(share + nonces + many)
        coefficients = shown()
        then(coefficients)
        own_part = shown()
        others_part = shown()
        then(own_part, others_part)
        then(own_part + others_part)
        made = shown()
        then(made)
    assert worker.returncode == 0
