"""What public values are: comparable, hashable, immutable, and encoded as the crate says."""

from __future__ import annotations

import copy
import json
import pickle
import random
import zlib
from itertools import pairwise
from typing import Any

import pytest
from frost_ed25519 import CIPHERSUITE, Identifier, Signature, SigningPackage, VerifyingKey
from frost_ed25519.exceptions import DeserializationError, IdentifierOutOfRange
from frost_ed25519.keys import (
    KeyPackage,
    PublicKeyPackage,
    VerifiableSecretSharingCommitment,
    VerifyingShare,
    dkg,
)
from frost_ed25519.round1 import SigningCommitments
from frost_ed25519.round2 import SignatureShare
from frost_support import ELEMENT, GROUP_ORDER, deal, scalar
from hypothesis import given
from hypothesis import strategies as st

HEADER = b"\0" + zlib.crc32(CIPHERSUITE.encode()).to_bytes(4, "big")
JSON_HEADER = {"version": 0, "ciphersuite": CIPHERSUITE}
GROUP = deal(3, 2)
SESSION = GROUP.sign([1, 3], b"message")
COMMITMENTS = SESSION.package.signing_commitments
ONE = Identifier(1)


def publics() -> list[tuple[Any, Any]]:
    """Two different values of each public class."""
    other = deal(3, 2)
    other_session = other.sign([1, 2], b"another message")
    return [
        (ONE, Identifier(2)),
        (Identifier.derive(b"a"), Identifier.derive(b"b")),
        (GROUP.public.verifying_key, other.public.verifying_key),
        (GROUP.public.verifying_shares[ONE], other.public.verifying_shares[ONE]),
        (GROUP.public, other.public),
        (GROUP.shares[ONE].commitment, other.shares[ONE].commitment),
        (SESSION.package, other_session.package),
        (COMMITMENTS[ONE], other_session.package.signing_commitments[ONE]),
        (SESSION.shares[ONE], other_session.shares[ONE]),
        (SESSION.aggregate(), other_session.aggregate()),
        (dkg.part1(1, 2, 2)[1], dkg.part1(1, 2, 2)[1]),
    ]


public = pytest.mark.parametrize(
    ("value", "other"), publics(), ids=[type(value).__name__ for value, _ in publics()]
)


@public
def test_equality(value: Any, other: Any) -> None:
    twin = type(value).from_json(value.to_json())
    assert twin is not value
    assert twin == value
    assert hash(twin) == hash(value)
    assert value != other
    assert len({value, twin, other}) == 2
    for stranger in (None, 0, "", b"", object(), value.serialize()):
        assert value != stranger


@public
def test_copies(value: Any, other: Any) -> None:
    assert copy.copy(value) == value
    assert copy.deepcopy([value, other]) == [value, other]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(value, protocol)) == value


@public
def test_immutability(value: Any, other: Any) -> None:
    for name in [*(name for name in dir(value) if not name.startswith("__")), "anything"]:
        with pytest.raises(AttributeError):
            setattr(value, name, None)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Sub", (type(value),), {})
    with pytest.raises(TypeError):
        bytes(value)


@public
def test_repr(value: Any, other: Any) -> None:
    kind = type(value).__name__
    assert repr(value).startswith((f"<{kind} ", f"{kind}("))
    assert repr(value) == str(value)
    if not isinstance(value, SigningPackage):
        assert repr(value) != repr(other)


def test_repr_in_full() -> None:
    assert repr(Identifier(65535)) == "Identifier(65535)"
    assert repr(VerifyingKey.deserialize(ELEMENT)) == f"<VerifyingKey {ELEMENT.hex()}>"
    assert repr(GROUP.public).startswith("<PublicKeyPackage 2 of 3 ")
    assert repr(SESSION.package) == "<SigningPackage of 2 participants, message of 7 bytes>"


@given(st.integers(1, 65535))
def test_small_identifiers(value: int) -> None:
    identifier = Identifier(value)
    assert int(identifier) == value
    assert identifier.serialize() == scalar(value)
    assert Identifier.deserialize(scalar(value)) == identifier
    assert repr(identifier) == f"Identifier({value})"
    assert identifier != value


@given(st.integers(65536, GROUP_ORDER - 1))
def test_large_identifiers(value: int) -> None:
    identifier = Identifier.deserialize(scalar(value))
    assert identifier.serialize() == scalar(value)
    assert identifier > Identifier(65535)
    assert scalar(value).hex() in repr(identifier)
    with pytest.raises(IdentifierOutOfRange):
        int(identifier)


@given(st.lists(st.integers(1, GROUP_ORDER - 1), unique=True))
def test_identifiers_are_ordered_by_value(values: list[int]) -> None:
    identifiers = [Identifier.deserialize(scalar(value)) for value in values]
    random.shuffle(identifiers)
    expected = [scalar(value) for value in sorted(values)]
    assert [identifier.serialize() for identifier in sorted(identifiers)] == expected
    for one, two in pairwise(identifiers):
        assert (one < two, one <= two) == (not one >= two, not one > two)


def test_identifiers_do_not_order_with_anything_else() -> None:
    for stranger in (1, None, "1"):
        with pytest.raises(TypeError):
            assert stranger > ONE  # type: ignore[operator]


@given(st.binary(max_size=100))
def test_derived_identifiers(data: bytes) -> None:
    assert Identifier.derive(data) == Identifier.derive(data)
    assert Identifier.derive(data) != Identifier.derive(data + b"\0")


def test_byte_forms() -> None:
    own = COMMITMENTS[ONE]
    assert own.serialize() == HEADER + own.hiding + own.binding
    assert SigningCommitments(own.hiding, own.binding) == own
    expected = HEADER + bytes([len(COMMITMENTS)])
    for who, commitments in COMMITMENTS.items():
        expected += who.serialize() + commitments.serialize()
    assert SESSION.package.serialize() == expected + bytes([7]) + b"message"
    key, share = GROUP.key(1), GROUP.public.verifying_shares[ONE]
    secret = bytes.fromhex(json.loads(key.to_json())["signing_share"])
    group_key = GROUP.public.verifying_key.serialize()
    assert key.serialize() == (
        HEADER + scalar(1) + secret + share.serialize() + group_key + bytes([2])
    )
    commitment = GROUP.shares[ONE].commitment
    assert commitment.serialize()[0] == group_key
    assert GROUP.shares[ONE].serialize() == (
        HEADER + scalar(1) + secret + bytes([2]) + commitment.serialize_whole()
    )
    expected = HEADER + bytes([3])
    for who, verifying_share in GROUP.public.verifying_shares.items():
        expected += who.serialize() + verifying_share.serialize()
    assert GROUP.public.serialize() == expected + group_key + bytes([1, 2])
    assert len(SESSION.shares[ONE].serialize()) == 32
    assert dkg.round2.Package(secret).serialize() == HEADER + secret


def test_json_forms() -> None:
    own = COMMITMENTS[ONE]
    assert json.loads(own.to_json()) == {
        "header": JSON_HEADER,
        "hiding": own.hiding.hex(),
        "binding": own.binding.hex(),
    }
    share = SESSION.shares[ONE]
    assert json.loads(share.to_json()) == {
        "header": JSON_HEADER,
        "share": share.serialize().hex(),
    }
    assert json.loads(SESSION.package.to_json()) == {
        "header": JSON_HEADER,
        "signing_commitments": {
            who.serialize().hex(): json.loads(commitments.to_json())
            for who, commitments in COMMITMENTS.items()
        },
        "message": b"message".hex(),
    }
    assert json.loads(GROUP.public.to_json()) == {
        "header": JSON_HEADER,
        "verifying_shares": {
            who.serialize().hex(): verifying_share.serialize().hex()
            for who, verifying_share in GROUP.public.verifying_shares.items()
        },
        "verifying_key": GROUP.public.verifying_key.serialize().hex(),
        "min_signers": 2,
    }
    for value in (ONE, GROUP.public.verifying_key, SESSION.aggregate()):
        assert json.loads(value.to_json()) == value.serialize().hex()


def test_packages_from_before_version_3_of_the_crate() -> None:
    data = GROUP.public.serialize()
    old = PublicKeyPackage.deserialize(data[:-2])
    assert old == PublicKeyPackage(GROUP.public.verifying_shares, GROUP.public.verifying_key, None)
    assert old.serialize() == data[:-2]
    value = json.loads(GROUP.public.to_json())
    del value["min_signers"]
    assert PublicKeyPackage.from_json(json.dumps(value)) == old
    assert "min_signers" not in json.loads(old.to_json())
    # A threshold that is cut off or damaged is no old package.
    for damaged in (
        data[:-1],
        data + b"\0",
        data[:-2] + b"\0",
        data[:-2] + b"\2",
        data[:-1] + b"\x82",
    ):
        with pytest.raises(DeserializationError):
            PublicKeyPackage.deserialize(damaged)


def test_maps_are_copies_in_order() -> None:
    group = deal(3, 2, [300, 5, 40])
    shares = group.public.verifying_shares
    assert [int(who) for who in shares] == [5, 40, 300]
    shares.clear()
    assert len(group.public.verifying_shares) == group.public.max_signers == 3
    package = SigningPackage({300: COMMITMENTS[ONE], 5: COMMITMENTS[ONE]}, b"")
    assert [int(who) for who in package.signing_commitments] == [5, 300]
    package.signing_commitments.clear()
    assert package.signing_commitment(5) == package.signing_commitment(Identifier(300))
    assert package.signing_commitment(6) is None


def test_getters() -> None:
    key = GROUP.key(3)
    assert key.identifier == Identifier(3)
    assert key.verifying_share == GROUP.public.verifying_shares[Identifier(3)]
    assert key.verifying_key == GROUP.public.verifying_key
    assert key.min_signers == 2
    share = GROUP.shares[Identifier(3)]
    assert share.identifier == Identifier(3)
    assert share.verify() == (key.verifying_share, key.verifying_key)
    assert isinstance(KeyPackage.from_secret_share(share), KeyPackage)
    assert SESSION.package.message == b"message"
    _, package = dkg.part1(1, 2, 2)
    assert len(package.commitment.serialize()) == 2
    twin = dkg.round1.Package(package.commitment, package.proof_of_knowledge)
    assert twin == package


def test_names() -> None:
    for kind, name in {
        Identifier: "frost_ed25519.Identifier",
        Signature: "frost_ed25519.Signature",
        VerifyingShare: "frost_ed25519.keys.VerifyingShare",
        VerifiableSecretSharingCommitment: "frost_ed25519.keys.VerifiableSecretSharingCommitment",
        SigningCommitments: "frost_ed25519.round1.SigningCommitments",
        SignatureShare: "frost_ed25519.round2.SignatureShare",
        dkg.round1.Package: "frost_ed25519.keys.dkg.round1.Package",
        dkg.round2.SecretPackage: "frost_ed25519.keys.dkg.round2.SecretPackage",
    }.items():
        assert f"{kind.__module__}.{kind.__qualname__}" == name
