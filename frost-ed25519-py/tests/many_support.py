"""Requests of all kinds for the calls that take many, good and bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from frost_ed25519 import (
    FrostError,
    Identifier,
    Signature,
    SigningPackage,
    VerifyingKey,
    aggregate,
    round1,
    round2,
)
from frost_ed25519.exceptions import CulpritError
from frost_ed25519.keys import KeyPackage, PublicKeyPackage
from frost_support import FIELD_ORDER, GROUP_ORDER, IDENTITY, Group, Session, deal, scalar

Shares: TypeAlias = dict[Identifier | int, round2.SignatureShare]
AggregateRequest: TypeAlias = tuple[SigningPackage, Shares, PublicKeyPackage]
VerifyRequest: TypeAlias = tuple[VerifyingKey, bytes, Signature]
SignRequest: TypeAlias = tuple[SigningPackage, round1.SigningNonces, KeyPackage]


def alone(call: Callable[..., Any], *arguments: Any) -> Any:
    """Give what a call returns, or the library's exception that it raises."""
    try:
        return call(*arguments)
    except FrostError as error:
        return error


def aggregated_alone(request: AggregateRequest) -> Any:
    """Give what `aggregate` makes of a request."""
    return alone(aggregate, *request)


def verified_alone(request: VerifyRequest) -> Any:
    """Give what `VerifyingKey.verify` makes of a request."""
    key, message, signature = request
    return alone(key.verify, message, signature)


def told(outcome: Any) -> Any:
    """Make outcomes comparable: exceptions are equal by what they say."""
    if not isinstance(outcome, FrostError):
        return outcome
    culprits = outcome.culprits if isinstance(outcome, CulpritError) else None
    return type(outcome), str(outcome), outcome.args, culprits


def same(many: Sequence[Any], singles: Sequence[Any]) -> None:
    """Assert equal outcomes, item by item."""
    assert [told(outcome) for outcome in many] == [told(outcome) for outcome in singles]


def moved(share: round2.SignatureShare, by: int) -> round2.SignatureShare:
    """Add to a share."""
    value = int.from_bytes(share.serialize(), "little")
    return round2.SignatureShare.deserialize(scalar((value + by) % GROUP_ORDER))


@dataclass(frozen=True)
class Stock:
    """Finished sessions of two groups, to make requests of."""

    small: Group
    large: Group
    sessions: list[Session]


@cache
def stock() -> Stock:
    """Make the stock once: 2-of-3 and 3-of-7, with quorums of all sizes."""
    small, large = deal(3, 2), deal(7, 3)
    quorums = [(small, who) for who in ([1, 2], [1, 3], [2, 3], [1, 2, 3])]
    quorums += [(large, list(range(first, 8))) for first in range(1, 6)]
    sessions = [
        group.sign(who, b"message %d of %d" % (number, at))
        for number in range(2)
        for at, (group, who) in enumerate(quorums)
    ]
    return Stock(small, large, sessions)


def good(session: Session) -> AggregateRequest:
    """Ask for the signature."""
    shares: Shares = {}
    shares.update(session.shares.items())
    return session.package, shares, session.group.public


def cheating(session: Session, cheaters: Sequence[int]) -> AggregateRequest:
    """Have those at the given places (modulo the number of signers) send bad shares."""
    package, shares, public = good(session)
    signers = list(session.shares)
    for place in cheaters:
        who = signers[place % len(signers)]
        shares[who] = moved(session.shares[who], place + 1)
    return package, shares, public


def _zero(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    shares[next(iter(shares))] = round2.SignatureShare.deserialize(bytes(32))
    return package, shares, public


def _cancelling(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    first, second, *_ = shares
    shares[first], shares[second] = moved(shares[first], 7), moved(shares[second], -7)
    return package, shares, public


def _missing(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    del shares[next(iter(shares))]
    return package, shares, public


def _stranger(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    shares[9] = shares.pop(next(iter(shares)))
    return package, shares, public


def _one_too_many(session: Session) -> AggregateRequest:
    # It changes nothing in the sum.
    package, shares, public = good(session)
    shares[9] = round2.SignatureShare.deserialize(bytes(32))
    return package, shares, public


def _higher_threshold(session: Session) -> AggregateRequest:
    # Nothing is wrong with the signature that would come of it.
    package, shares, public = good(session)
    threshold = min(len(shares) + 1, public.max_signers)
    raised = PublicKeyPackage(public.verifying_shares, public.verifying_key, threshold)
    return package, shares, raised


def _other_key(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    other = stock().large if session.group is stock().small else stock().small
    return (
        package,
        shares,
        PublicKeyPackage(public.verifying_shares, other.public.verifying_key, None),
    )


def _other_group(session: Session) -> AggregateRequest:
    package, shares, _ = good(session)
    other = stock().large if session.group is stock().small else stock().small
    return package, shares, other.public


def _without_a_verifying_share(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    kept = dict(public.verifying_shares)
    del kept[next(iter(session.shares))]
    kept[Identifier(50)] = next(iter(kept.values()))
    return package, shares, PublicKeyPackage(kept, public.verifying_key, None)


def _too_few(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    who = next(iter(session.shares))
    fewer = SigningPackage({who: package.signing_commitments[who]}, package.message)
    return fewer, {who: shares[who]}, public


def _too_few_and_no_threshold(session: Session) -> AggregateRequest:
    package, shares, public = _too_few(session)
    return (
        package,
        shares,
        PublicKeyPackage(public.verifying_shares, public.verifying_key, None),
    )


def _other_message(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    return SigningPackage(package.signing_commitments, package.message + b"!"), shares, public


def _empty(session: Session) -> AggregateRequest:
    return SigningPackage({}, b""), {}, session.group.public


def _identity(session: Session) -> AggregateRequest:
    public = session.group.public
    bare = PublicKeyPackage(public.verifying_shares, public.verifying_key, None)
    return SigningPackage({}, b""), {}, bare


def _twice(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    who = next(iter(session.shares))
    shares[int(who)] = shares[who]
    return package, shares, public


def _out_of_range(session: Session) -> AggregateRequest:
    package, shares, public = good(session)
    shares[65536] = next(iter(shares.values()))
    return package, shares, public


BAD: list[Callable[[Session], AggregateRequest]] = [
    _zero,
    _cancelling,
    _missing,
    _stranger,
    _one_too_many,
    _higher_threshold,
    _other_key,
    _other_group,
    _without_a_verifying_share,
    _too_few,
    _too_few_and_no_threshold,
    _other_message,
    _empty,
    _identity,
    _twice,
    _out_of_range,
]


@cache
def signatures() -> list[VerifyRequest]:
    """Give good requests to `verify_many`."""
    return [
        (session.group.public.verifying_key, session.package.message, aggregate(*good(session)))
        for session in stock().sessions
    ]


def spoiled(request: VerifyRequest, other: VerifyRequest, how: int) -> VerifyRequest:
    """Make a bad request of a good one: of some kind out of five."""
    key, message, signature = request
    parts = signature.serialize()
    match how % 5:
        case 0:
            return key, message + b"!", signature
        case 1:
            return other[0], message, signature
        case 2:
            return key, message, Signature.deserialize(parts[:32] + bytes(32))
        case 3:
            z = (int.from_bytes(parts[32:], "little") + 1) % GROUP_ORDER
            return key, message, Signature.deserialize(parts[:32] + scalar(z))
        case _:
            mixed = other[2].serialize()[:32] + parts[32:]
            return key, message, Signature.deserialize(mixed)


_SMALL_ORDER = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"

NO_POINTS = [
    b"",
    bytes(31),
    bytes(33),
    bytes(32),
    b"\xff" * 32,
    IDENTITY,
    bytes.fromhex(_SMALL_ORDER),
    scalar(FIELD_ORDER + 1),
    scalar(2),
]
"""No group elements: of another length, off the curve, of small order, not canonical."""


def sign_requests(kinds: Sequence[str]) -> tuple[list[SignRequest], list[SigningPackage]]:
    """Make one request of each kind, with fresh nonces except where the kind is "again".

    The second list has the packages for which a good share verifies.
    """
    group = stock().small
    key, other = group.key(1), group.key(2)
    requests: list[SignRequest] = []
    packages = []
    for at, kind in enumerate(kinds):
        package, nonces = group.open([1, 2], b"message %d" % at)
        mine, theirs = nonces[Identifier(1)], nonces[Identifier(2)]
        commitments = package.signing_commitments
        match kind:
            case "again" if requests:
                mine = requests[at // 2][1]
            case "used":
                round2.sign(package, mine, key)
            case "somebody else's":
                mine = theirs
            case "missing":
                package = SigningPackage({2: theirs.commitments, 3: theirs.commitments}, b"")
            case "too few":
                package = SigningPackage({1: commitments[Identifier(1)]}, b"")
            case "other commitments":
                package = SigningPackage({1: theirs.commitments, 2: theirs.commitments}, b"")
            case _:
                pass
        requests.append((package, mine, other if kind == "other key" else key))
        packages.append(package)
    return requests, packages


KINDS = [
    "good",
    "again",
    "used",
    "somebody else's",
    "missing",
    "too few",
    "other commitments",
    "other key",
]
