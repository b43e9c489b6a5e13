"""The form that bincode 1 gives a `PublicKeyPackage`, and the threshold that its points have."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from frost_ed25519 import FrostError, Identifier, VerifyingKey
from frost_ed25519.exceptions import (
    DeserializationError,
    DuplicatedIdentifier,
    InvalidIdentityElement,
    InvalidMaxSigners,
    InvalidMinSigners,
    InvalidNonPrimeOrderElement,
    InvalidPublicKeyPackage,
    InvalidZeroScalar,
    MalformedElement,
    MalformedScalar,
)
from frost_ed25519.keys import PublicKeyPackage, VerifyingShare
from frost_support import FIELD_ORDER, GROUP_ORDER, IDENTITY, deal, generate, scalar
from hypothesis import given, settings
from hypothesis import strategies as st

RECORDED: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "vectors" / "crate_bincode.json").read_text()
)["packages"]
GROUP = deal(3, 2).public
DATA = GROUP.to_bincode()
"""Header (version 1, ciphersuite 4), count (8), identifier and share (32 each) three times, key
(32), and the threshold (1 and 2)."""

SHARES, KEY, THRESHOLD = 13, 13 + 3 * 64, 13 + 3 * 64 + 32


@pytest.mark.parametrize("version", RECORDED)
@pytest.mark.parametrize(("name", "threshold"), [("2-of-3", 2), ("2-of-3-gaps", 2), ("3-of-5", 3)])
def test_what_bincode_made(version: str, name: str, threshold: int) -> None:
    data = bytes.fromhex(RECORDED[version][name])
    package = PublicKeyPackage.from_bincode(data)
    assert package.to_bincode() == data
    assert package.min_signers == (threshold if version.startswith("3.") else None)
    assert package.derive_min_signers() == threshold
    assert PublicKeyPackage.deserialize(package.serialize()) == package


@pytest.mark.parametrize("version", RECORDED)
def test_derived_identifiers(version: str) -> None:
    package = PublicKeyPackage.from_bincode(bytes.fromhex(RECORDED[version]["2-of-2-names"]))
    assert set(package.verifying_shares) == {Identifier.derive(name) for name in (b"alice", b"bob")}
    assert package.derive_min_signers() == 2


def put(offset: int, data: bytes) -> bytes:
    return DATA[:offset] + data + DATA[offset + len(data) :]


SMALL_ORDER = scalar(FIELD_ORDER - 1)
NOT_CANONICAL = scalar(FIELD_ORDER + 1)
WRONG: dict[str, tuple[bytes, type[FrostError], str]] = {
    "nothing": (b"", DeserializationError, "header.version: the bytes end too early."),
    "version": (put(0, b"\1"), DeserializationError, "header.version: not a version"),
    "suite": (put(1, b"\0"), DeserializationError, "header.ciphersuite: another ciphersuite"),
    "no shares": (put(5, b"\0"), InvalidMaxSigners, "verifying_shares: max_signers must be 2 to"),
    "one share": (put(5, b"\1"), InvalidMaxSigners, "verifying_shares: max_signers must be 2 to"),
    "2^16": (put(5, b"\0\0\1"), InvalidMaxSigners, "verifying_shares: max_signers must be 2 to"),
    "2^64": (put(5, b"\xff" * 8), InvalidMaxSigners, "verifying_shares: max_signers must be"),
    "65535": (
        put(5, b"\xff\xff"),
        DeserializationError,
        "verifying_shares, identifier 4 of 65535: not a scalar in its canonical encoding.",
    ),
    "identifier 0": (
        put(SHARES, scalar(0)),
        InvalidZeroScalar,
        "verifying_shares, identifier 1 of 3: zero, which is not allowed here.",
    ),
    "large identifier": (
        put(SHARES + 64, scalar(GROUP_ORDER)),
        MalformedScalar,
        "verifying_shares, identifier 2 of 3: not a scalar in its canonical encoding.",
    ),
    "same identifier": (
        put(SHARES + 64, scalar(1)),
        DuplicatedIdentifier,
        "verifying_shares, identifier 2 of 3: duplicated identifier.",
    ),
    "identifiers that fall": (
        put(SHARES, scalar(9)),
        DeserializationError,
        "verifying_shares, identifier 2 of 3: the identifiers must ascend.",
    ),
    "no point": (
        put(SHARES + 160, scalar(2)),
        MalformedElement,
        "verifying_shares[3]: not a point of the curve.",
    ),
    "identity": (
        put(SHARES + 32, IDENTITY),
        InvalidIdentityElement,
        "verifying_shares[1]: the identity, which is not allowed here.",
    ),
    "identity, not canonical": (
        put(SHARES + 32, NOT_CANONICAL),
        InvalidIdentityElement,
        "verifying_shares[1]: the identity, which is not allowed here.",
    ),
    "small order": (
        put(KEY, SMALL_ORDER),
        InvalidNonPrimeOrderElement,
        "verifying_key: a point outside the group of prime order.",
    ),
    "tag 0": (put(THRESHOLD, b"\0"), DeserializationError, "There are more bytes than"),
    "tag 2": (put(THRESHOLD, b"\2"), DeserializationError, "There are more bytes than"),
    "behind": (DATA + b"\0", DeserializationError, "There are more bytes than the value has."),
    "threshold 1": (put(THRESHOLD + 1, b"\1"), InvalidMinSigners, "min_signers: min_signers must"),
    "threshold 4": (put(THRESHOLD + 1, b"\4"), InvalidMinSigners, "min_signers: min_signers must"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    data, kind, message = WRONG[name]
    with pytest.raises(kind) as caught:
        PublicKeyPackage.from_bincode(data)
    assert type(caught.value) is kind or name == "65535"
    assert str(caught.value).startswith(message)


def test_cut_off_anywhere() -> None:
    for end in range(len(DATA)):
        if end == THRESHOLD:  # versions 1 and 2 of the crate
            assert PublicKeyPackage.from_bincode(DATA[:end]).min_signers is None
            continue
        with pytest.raises(DeserializationError, match="the bytes end too early"):
            PublicKeyPackage.from_bincode(DATA[:end])


def survives(data: bytes) -> None:
    try:
        package = PublicKeyPackage.from_bincode(data)
    except FrostError as error:
        assert isinstance(error, ValueError)
    else:
        assert package.to_bincode() == data


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    survives(data)
    survives(DATA[:SHARES] + data)


@settings(max_examples=500)
@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=8), st.integers(0, 4))
def test_mutations(offset: int, data: bytes, cut: int) -> None:
    survives(DATA[:offset] + data + DATA[offset + cut :])


def test_the_threshold_of_every_small_group() -> None:
    for most in range(2, 8):
        for least in range(2, most + 1):
            assert deal(most, least).public.derive_min_signers() == least
    assert generate([3, 500, 65535], 2).public.derive_min_signers() == 2


@settings(max_examples=30)
@given(st.lists(st.integers(1, GROUP_ORDER - 1), min_size=2, max_size=9, unique=True), st.data())
def test_the_threshold_for_any_identifiers(values: list[int], data: st.DataObject) -> None:
    least = data.draw(st.integers(2, len(values)))
    who = [Identifier.deserialize(scalar(value)) for value in values]
    assert deal(len(who), least, who).public.derive_min_signers() == least


def test_what_min_signers_says_does_not_matter() -> None:
    shares, key = GROUP.verifying_shares, GROUP.verifying_key
    for said in (None, 2, 3):
        assert PublicKeyPackage(shares, key, said).derive_min_signers() == 2


def test_fewer_participants_have_the_same_threshold_or_none() -> None:
    group = deal(5, 3).public
    for size in (2, 3, 4):
        for chosen in combinations(group.verifying_shares.items(), size):
            part = PublicKeyPackage(dict(chosen), group.verifying_key, None)
            if size >= 3:
                assert part.derive_min_signers() == 3
            else:
                with pytest.raises(InvalidPublicKeyPackage):
                    part.derive_min_signers()


def test_parts_that_do_not_belong_together() -> None:
    other = deal(3, 2).public
    with pytest.raises(InvalidPublicKeyPackage, match="verifying key does not fit the verifying"):
        PublicKeyPackage(GROUP.verifying_shares, other.verifying_key, 2).derive_min_signers()
    for who, stranger in other.verifying_shares.items():
        mixed = PublicKeyPackage(GROUP.verifying_shares | {who: stranger}, GROUP.verifying_key, 2)
        with pytest.raises(InvalidPublicKeyPackage):
            mixed.derive_min_signers()
    one, two, three = GROUP.verifying_shares
    swapped = {
        one: GROUP.verifying_shares[two],
        two: GROUP.verifying_shares[one],
        three: GROUP.verifying_shares[three],
    }
    with pytest.raises(InvalidPublicKeyPackage):
        PublicKeyPackage(swapped, GROUP.verifying_key, None).derive_min_signers()


def test_everybody_has_the_key() -> None:
    """A polynomial of degree 0: the threshold is 1."""
    key = GROUP.verifying_key.serialize()
    for most in (2, 3, 10):
        shares = {who: VerifyingShare.deserialize(key) for who in range(1, most + 1)}
        package = PublicKeyPackage(shares, VerifyingKey.deserialize(key), None)
        with pytest.raises(InvalidMinSigners):
            package.derive_min_signers()
