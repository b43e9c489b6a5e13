"""What the binding's calls cost: commitments, shares, aggregation and verification, one by one and 32 at a time.

Of a 2-of-3 group and messages of 300 bytes. Not among the tests:

    .venv/bin/python -m pytest benchmarks/micro [--benchmark-timer time.thread_time] [--benchmark-json FILE]

On a machine that does something else too, only the minima tell something, or the processor time. A call for many
makes 32 of what a single one makes (`operations` in the `extra_info` of the JSON file).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from frost_ed25519 import (
    FrostError,
    Identifier,
    Signature,
    SigningPackage,
    VerifyingKey,
    aggregate,
    aggregate_many,
    round1,
    round2,
    verify_many,
)
from frost_ed25519.keys import KeyPackage, PublicKeyPackage, generate_with_dealer
from pytest_benchmark.fixture import BenchmarkFixture

MANY: Final = 32
SIGNERS: Final = (1, 2)
ROUNDS: Final = 50
"""Of what uses nonces up, and so needs new ones for each round."""


@dataclass(frozen=True)
class Group:
    keys: dict[int, KeyPackage]
    public: PublicKeyPackage


@cache
def group() -> Group:
    shares, public = generate_with_dealer(3, 2)
    return Group({int(who): KeyPackage.from_secret_share(share) for who, share in shares.items()}, public)


def opened(count: int) -> list[tuple[SigningPackage, dict[int, round1.SigningNonces]]]:
    """Signatures of which everybody has committed."""
    stocks = {who: round1.commit_many(group().keys[who], count) for who in SIGNERS}
    return [
        (
            SigningPackage({who: stocks[who][at][1] for who in SIGNERS}, b"%300d" % at),
            {who: stocks[who][at][0] for who in SIGNERS},
        )
        for at in range(count)
    ]


def requests(count: int) -> list[tuple[SigningPackage, round1.SigningNonces, KeyPackage]]:
    """What the first signer is asked for."""
    return [(package, nonces[1], group().keys[1]) for package, nonces in opened(count)]


@cache
def signed() -> list[tuple[SigningPackage, dict[int, round2.SignatureShare], PublicKeyPackage]]:
    """Signatures of which all shares are there."""
    return [
        (package, {who: round2.sign(package, nonces[who], group().keys[who]) for who in SIGNERS}, group().public)
        for package, nonces in opened(MANY)
    ]


@cache
def finished() -> list[tuple[VerifyingKey, bytes, Signature]]:
    return [
        (public.verifying_key, package.message, aggregate(package, shares, public))
        for package, shares, public in signed()
    ]


def all_good(outcomes: list[Signature | FrostError] | list[FrostError | None]) -> None:
    assert len(outcomes) == MANY
    assert not any(isinstance(outcome, FrostError) for outcome in outcomes)


def test_commit(benchmark: BenchmarkFixture) -> None:
    nonces, _ = benchmark(round1.commit, group().keys[1])
    assert not nonces.consumed


def test_commit_many(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["operations"] = MANY
    assert len(benchmark(round1.commit_many, group().keys[1], MANY)) == MANY


def test_decode(benchmark: BenchmarkFixture) -> None:
    _, commitments = round1.commit(group().keys[1])
    assert benchmark(round1.SigningCommitments, commitments.hiding, commitments.binding) == commitments


def test_decode_many(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["operations"] = MANY
    drawn = [commitments for _, commitments in round1.commit_many(group().keys[1], MANY)]
    assert benchmark(round1.decode_many, [(each.hiding, each.binding) for each in drawn]) == drawn


def test_sign(benchmark: BenchmarkFixture) -> None:
    fresh = iter(requests(ROUNDS))
    share = benchmark.pedantic(round2.sign, setup=lambda: (next(fresh), {}), rounds=ROUNDS)  # type: ignore[no-untyped-call]
    assert isinstance(share, round2.SignatureShare)


def test_sign_many(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["operations"] = MANY
    shares = benchmark.pedantic(round2.sign_many, setup=lambda: ((requests(MANY),), {}), rounds=ROUNDS)  # type: ignore[no-untyped-call]
    assert all(isinstance(share, round2.SignatureShare) for share in shares)


def test_aggregate(benchmark: BenchmarkFixture) -> None:
    assert benchmark(aggregate, *signed()[0]) == finished()[0][2]


def test_aggregate_many(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["operations"] = MANY
    all_good(benchmark(aggregate_many, signed()))


def test_aggregate_many_with_a_cheater(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["operations"] = MANY
    spoiled = list(signed())
    package, shares, public = spoiled[7]
    spoiled[7] = (package, {**shares, 2: shares[1]}, public)
    outcomes = benchmark(aggregate_many, spoiled)
    assert [at for at, outcome in enumerate(outcomes) if isinstance(outcome, FrostError)] == [7]
    assert outcomes[7].culprits == [Identifier(2)]


def test_verify(benchmark: BenchmarkFixture) -> None:
    key, message, signature = finished()[0]
    assert benchmark(key.verify, message, signature) is None


def test_verify_many(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["operations"] = MANY
    all_good(benchmark(verify_many, finished()))


def test_sha256(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(signed()[0][0].sha256)) == 32
