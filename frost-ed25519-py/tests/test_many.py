"""Many in one call: the same as one by one, whatever is among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from frost_ed25519 import (
    FrostError,
    Identifier,
    InvalidSignature,
    InvalidSignatureShare,
    NonceReused,
    Signature,
    SigningPackage,
    aggregate,
    aggregate_many,
    round1,
    round2,
    verify_many,
    verify_signature_share,
)
from frost_ed25519.exceptions import (
    DuplicatedIdentifier,
    IdentifierOutOfRange,
    IncorrectNumberOfShares,
    InvalidIdentityElement,
    InvalidValue,
    UnknownIdentifier,
)
from frost_support import ELEMENT, GROUP_ORDER, Session, deal, scalar
from hypothesis import given, settings
from hypothesis import strategies as st
from many_support import (
    BAD,
    KINDS,
    NO_POINTS,
    AggregateRequest,
    VerifyRequest,
    aggregated_alone,
    alone,
    cheating,
    good,
    moved,
    same,
    sign_requests,
    signatures,
    spoiled,
    stock,
    told,
    verified_alone,
)

T = TypeVar("T")

MOST = 70
"""More than two full batches and a rest."""

SESSIONS = st.integers(0, 17)


def lists(items: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """Draw short lists, and such that fill batches."""
    return st.one_of(st.lists(items, max_size=8), st.lists(items, min_size=30, max_size=MOST))


def signed_alone(request: Any) -> Any:
    return alone(round2.sign, *request)


@st.composite
def aggregate_requests(draw: st.DrawFn) -> AggregateRequest:
    session = stock().sessions[draw(SESSIONS)]
    match draw(st.sampled_from(["good", "good", "cheating", "bad"])):
        case "cheating":
            return cheating(session, draw(st.lists(st.integers(0, 6), min_size=1, max_size=6)))
        case "bad":
            return draw(st.sampled_from(BAD))(session)
        case _:
            return good(session)


@st.composite
def verify_requests(draw: st.DrawFn) -> VerifyRequest:
    request = signatures()[draw(SESSIONS)]
    if draw(st.booleans()):
        return request
    return spoiled(request, signatures()[draw(SESSIONS)], draw(st.integers(0, 4)))


@settings(max_examples=60, deadline=None)
@given(requests=lists(aggregate_requests()))
def test_aggregating_many_is_aggregating_each(requests: list[AggregateRequest]) -> None:
    same(aggregate_many(requests), [aggregated_alone(request) for request in requests])


@settings(max_examples=60, deadline=None)
@given(requests=lists(verify_requests()))
def test_verifying_many_is_verifying_each(requests: list[VerifyRequest]) -> None:
    same(verify_many(requests), [verified_alone(request) for request in requests])


@settings(max_examples=60, deadline=None)
@given(
    points=lists(
        st.tuples(
            *2 * [st.one_of(st.just(ELEMENT), st.sampled_from(NO_POINTS), st.binary(max_size=33))]
        )
    )
)
def test_decoding_many_is_decoding_each(points: list[tuple[bytes, bytes]]) -> None:
    singles = [alone(round1.SigningCommitments, *each) for each in points]
    same(round1.decode_many(points), singles)


@settings(max_examples=30, deadline=None)
@given(kinds=lists(st.sampled_from(["good", "good", *KINDS])))
def test_signing_many_is_signing_each(kinds: list[str]) -> None:
    group = stock().small
    many, packages = sign_requests(kinds)
    twins, _ = sign_requests(kinds)
    outcomes = round2.sign_many(many)
    singles = [signed_alone(request) for request in twins]
    for outcome, single, package in zip(outcomes, singles, packages, strict=True):
        if isinstance(outcome, round2.SignatureShare):
            # Their nonces differ, and no other share than the right one verifies.
            assert isinstance(single, round2.SignatureShare)
            verify_signature_share(
                1,
                group.public.verifying_shares[Identifier(1)],
                outcome,
                package,
                group.public.verifying_key,
            )
        else:
            assert told(outcome) == told(single)
    assert all(nonces.consumed for _, nonces, _ in many)
    again = round2.sign_many(many)
    assert [type(outcome) for outcome in again] == [NonceReused] * len(many)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, MOST))
def test_committing_many_is_committing_each(count: int) -> None:
    group = deal(2, 2)
    pairs = round1.commit_many(group.key(1), count)
    others = round1.commit_many(group.key(2), count)
    points = {point for _, own in pairs for point in (own.hiding, own.binding)}
    assert len(pairs) == count
    assert len(points) == 2 * count
    packages = [
        SigningPackage({1: one, 2: two}, b"%d" % at)
        for at, ((_, one), (_, two)) in enumerate(zip(pairs, others, strict=True))
    ]
    for at, (nonces, own) in enumerate(pairs):
        assert nonces.commitments == own
        first = round2.sign(packages[at], nonces, group.key(1))
        second = round2.sign(packages[at], others[at][0], group.key(2))
        signature = aggregate(packages[at], {1: first, 2: second}, group.public)
        group.public.verifying_key.verify(b"%d" % at, signature)
        # One by one: to use one up leaves the others.
        assert [each.consumed for each, _ in pairs] == [place <= at for place in range(count)]


def test_nothing_comes_of_nothing() -> None:
    empty: tuple[()] = ()
    assert aggregate_many([]) == aggregate_many(empty) == []
    assert verify_many([]) == round1.decode_many([]) == round2.sign_many([]) == []
    assert round1.commit_many(stock().small.key(1), 0) == []


def test_the_kinds_of_errors() -> None:
    """What the properties compare is not all the same."""
    session = stock().sessions[0]
    found = {type(outcome) for outcome in aggregate_many([each(session) for each in BAD])}
    assert found == {
        Signature,  # of shares that cancel out
        DuplicatedIdentifier,
        IdentifierOutOfRange,
        IncorrectNumberOfShares,
        InvalidIdentityElement,
        InvalidSignatureShare,
        UnknownIdentifier,
    }
    pairs = [(ELEMENT, each) for each in NO_POINTS] + [(each, ELEMENT) for each in NO_POINTS]
    assert all(isinstance(outcome, InvalidValue) for outcome in round1.decode_many(pairs))
    first, second = signatures()[:2]
    wrong = [spoiled(first, second, how) for how in range(5)]
    # The second is of the same group: its key is the right one.
    assert [type(each) for each in verify_many(wrong)] == [
        InvalidSignature,
        type(None),
        *3 * [InvalidSignature],
    ]


@pytest.mark.parametrize("bad", BAD)
def test_one_kind_of_bad_request_among_good_ones(
    bad: Callable[[Session], AggregateRequest],
) -> None:
    """Where the batch itself is good, too: what is wrong need not show in a signature."""
    for at, session in enumerate(stock().sessions):
        neighbours = [good(each) for each in stock().sessions[:3]]
        neighbours.insert(at % 4, bad(session))
        same(aggregate_many(neighbours), [aggregated_alone(each) for each in neighbours])


@pytest.mark.parametrize("count", [2, 31, 32, 33, 64, 65, 200])
def test_a_wrong_share_in_a_large_batch_is_found(count: int) -> None:
    sessions = [stock().sessions[at % 18] for at in range(count)]
    requests: list[AggregateRequest] = [good(session) for session in sessions]
    culprits = {0: [0], count // 2: [1], count - 1: [0, 1]}
    for place, cheaters in culprits.items():
        requests[place] = cheating(sessions[place], cheaters)
    outcomes = aggregate_many(requests)
    for place, (outcome, session) in enumerate(zip(outcomes, sessions, strict=True)):
        if place in culprits:
            assert isinstance(outcome, InvalidSignatureShare)
            assert outcome.culprits == [list(session.shares)[who] for who in culprits[place]]
        else:
            assert isinstance(outcome, Signature)
            key = Ed25519PublicKey.from_public_bytes(session.group.public.verifying_key.serialize())
            key.verify(outcome.serialize(), session.package.message)


def test_all_of_a_batch_may_be_bad() -> None:
    requests = [cheating(session, [1]) for session in stock().sessions]
    for outcome, session in zip(aggregate_many(requests), stock().sessions, strict=True):
        assert isinstance(outcome, InvalidSignatureShare)
        assert outcome.culprits == [list(session.shares)[1]]


def test_errors_that_add_up_to_nothing_are_found() -> None:
    """Shares that are wrong by opposite amounts: without random weights the batch would pass."""
    sessions = stock().sessions[:2]
    requests = [good(session) for session in sessions]
    for (_, shares, _), by in zip(requests, (5, -5), strict=True):
        who = next(iter(shares))
        shares[who] = moved(shares[who], by)
    for outcome, session in zip(aggregate_many(requests), sessions, strict=True):
        assert isinstance(outcome, InvalidSignatureShare)
        assert outcome.culprits == [next(iter(session.shares))]
    wrong = []
    for (key, message, signature), by in zip(signatures()[:2], (5, -5), strict=True):
        parts = signature.serialize()
        z = (int.from_bytes(parts[32:], "little") + by) % GROUP_ORDER
        wrong.append((key, message, Signature.deserialize(parts[:32] + scalar(z))))
    assert [type(outcome) for outcome in verify_many(wrong)] == [InvalidSignature] * 2


def test_outcomes_can_be_raised() -> None:
    session = stock().sessions[0]
    (outcome,) = aggregate_many([cheating(session, [0])])
    assert isinstance(outcome, FrostError)
    with pytest.raises(InvalidSignatureShare, match="Culprits") as caught:
        raise outcome
    assert caught.value.culprits == [next(iter(session.shares))]


def test_mappings_of_any_kind_and_their_errors() -> None:
    class Odd(dict[int, round2.SignatureShare]):
        def items(self) -> Any:
            raise ZeroDivisionError

    session = stock().sessions[0]
    package, shares, public = good(session)
    by_number = {int(who): share for who, share in session.shares.items()}
    assert aggregate_many([(package, by_number, public)]) == aggregate_many([good(session)])
    with pytest.raises(ZeroDivisionError):
        aggregate_many([(package, shares, public), (package, Odd(), public)])


WRONG: list[Any] = [None, 1, b"", "", "text", {}, iter([])]
"""No sequences of tuples."""


@pytest.mark.parametrize(
    "call", [aggregate_many, verify_many, round1.decode_many, round2.sign_many]
)
def test_wrong_types_are_refused(call: Callable[[Any], Any]) -> None:
    items: list[Any] = [None, 1, b"ab", [], (), (None,), 2 * (None,), 3 * (None,), 4 * (None,)]
    for wrong in WRONG + [[item] for item in items]:
        with pytest.raises(TypeError):
            call(wrong)


def test_wrong_types_in_good_company_are_refused() -> None:
    package, shares, public = good(stock().sessions[0])
    key, message, signature = signatures()[0]
    attempts: list[tuple[Callable[[Any], Any], list[Any]]] = [
        (aggregate_many, [(package, shares, public), (package, {1: None}, public)]),
        (aggregate_many, [(package, shares, public), (package, {"1": None}, public)]),
        (aggregate_many, [(package, {70000: None}, public), (package, None, public)]),
        (verify_many, [(key, message, signature), (key, bytearray(message), signature)]),
        (round1.decode_many, [(ELEMENT, ELEMENT), (ELEMENT, bytearray(ELEMENT))]),
    ]
    for call, items in attempts:
        with pytest.raises(TypeError):
            call(items)


@pytest.mark.parametrize("count", [-1, 65536, 2**64])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(InvalidValue, match="0 to 65535"):
        round1.commit_many(stock().small.key(1), count)


@pytest.mark.parametrize("count", [True, None, 1.0, "1"])
def test_counts_of_the_wrong_type_are_refused(count: Any) -> None:
    with pytest.raises(TypeError):
        round1.commit_many(stock().small.key(1), count)


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("wrong", [None, (), (None, None, None), "nonces"])
def test_a_wrong_type_uses_no_nonces_up(place: int, wrong: Any) -> None:
    requests, _ = sign_requests(["good"] * 6)
    package, nonces, _ = requests[0]
    given: list[Any] = list(requests)
    given.insert(place, (package, nonces, package) if wrong == "nonces" else wrong)
    with pytest.raises(TypeError):
        round2.sign_many(given)
    assert not any(nonces.consumed for _, nonces, _ in requests)
    assert all(isinstance(each, round2.SignatureShare) for each in round2.sign_many(requests))


def test_of_the_same_nonces_the_first_signs() -> None:
    requests, _ = sign_requests(["good"] * 3)
    (package, mine, key), (other, _, _), last = requests
    outcomes = round2.sign_many([(package, mine, key), (other, mine, key), last, last])
    assert [type(outcome) for outcome in outcomes] == [
        round2.SignatureShare,
        NonceReused,
        round2.SignatureShare,
        NonceReused,
    ]


@settings(max_examples=30, deadline=None)
@given(message=st.one_of(st.binary(max_size=100), st.integers(2000, 5000).map(bytes)))
def test_sha256_is_that_of_the_bytes(message: bytes) -> None:
    commitments = stock().sessions[0].package.signing_commitments
    package = SigningPackage(commitments, message)
    assert package.sha256() == hashlib.sha256(package.serialize()).digest()
    assert SigningPackage.deserialize(package.serialize()).sha256() == package.sha256()
