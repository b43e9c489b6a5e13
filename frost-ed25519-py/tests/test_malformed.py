"""Whatever comes in, only this library's errors come out."""

from __future__ import annotations

import json
import zlib
from collections import UserDict
from collections.abc import Callable, Iterator
from itertools import count
from types import MappingProxyType
from typing import Any

import pytest
from frost_ed25519 import (
    CIPHERSUITE,
    FrostError,
    Identifier,
    Signature,
    SigningKey,
    SigningPackage,
    VerifyingKey,
    round1,
    round2,
)
from frost_ed25519.exceptions import (
    DeserializationError,
    DuplicatedIdentifier,
    IdentifierOutOfRange,
    IncorrectNumberOfCommitments,
    IncorrectNumberOfIdentifiers,
    InvalidCoefficient,
    InvalidIdentityElement,
    InvalidKeyPackage,
    InvalidMaxSigners,
    InvalidMinSigners,
    InvalidNonPrimeOrderElement,
    InvalidSecretShare,
    InvalidZeroScalar,
    MalformedElement,
    MalformedScalar,
    MalformedSignature,
    MalformedSigningKey,
)
from frost_ed25519.keys import (
    KeyPackage,
    PublicKeyPackage,
    SecretShare,
    VerifiableSecretSharingCommitment,
    VerifyingShare,
    dkg,
    generate_with_dealer,
    split,
)
from frost_support import ELEMENT, FIELD_ORDER, GROUP_ORDER, IDENTITY, deal, scalar
from hypothesis import given, settings
from hypothesis import strategies as st

GROUP = deal(3, 2)
SESSION = GROUP.sign([1, 3], b"message")
HEADER = b"\0" + zlib.crc32(CIPHERSUITE.encode()).to_bytes(4, "big")

# The eight points of small order and their other spellings.
SMALL_ORDER = [
    scalar(0),
    scalar(FIELD_ORDER - 1),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]
# The base point plus the point of order two.
MIXED_ORDER = scalar(FIELD_ORDER - int.from_bytes(ELEMENT, "little"))
NOT_ON_THE_CURVE = scalar(2)


def negative(point: bytes) -> bytes:
    """Set the sign bit of an encoded point."""
    return point[:31] + bytes([point[31] | 0x80])


READ_ELEMENT: list[Callable[[bytes], object]] = [
    VerifyingKey.deserialize,
    VerifyingShare.deserialize,
    lambda data: round1.SigningCommitments(data, ELEMENT),
    lambda data: round1.SigningCommitments(ELEMENT, data),
    lambda data: VerifiableSecretSharingCommitment.deserialize([ELEMENT, data]),
    lambda data: VerifiableSecretSharingCommitment.deserialize([data, ELEMENT]),
]


@pytest.mark.parametrize("read", READ_ELEMENT)
def test_elements(read: Callable[[bytes], object]) -> None:
    read(ELEMENT)
    read(negative(ELEMENT))
    for data in (b"", ELEMENT[:31], ELEMENT + b"\0", ELEMENT * 2):
        with pytest.raises(MalformedElement):
            read(data)
    with pytest.raises(MalformedElement):
        read(NOT_ON_THE_CURVE)
    for data in (IDENTITY, negative(IDENTITY)):
        with pytest.raises(InvalidIdentityElement):
            read(data)
    for point in (*SMALL_ORDER, MIXED_ORDER):
        for data in (point, negative(point)):
            with pytest.raises(InvalidNonPrimeOrderElement):
                read(data)
    for excess in range(19):
        for data in (scalar(FIELD_ORDER + excess), negative(scalar(FIELD_ORDER + excess))):
            with pytest.raises(DeserializationError):
                read(data)


READ_SCALAR: list[Callable[[bytes], object]] = [
    Identifier.deserialize,
    SigningKey.deserialize,
    round2.SignatureShare.deserialize,
    dkg.round2.Package,
]


@pytest.mark.parametrize("read", READ_SCALAR)
def test_scalars(read: Callable[[bytes], object]) -> None:
    read(scalar(1))
    read(scalar(GROUP_ORDER - 1))
    for value in (GROUP_ORDER, GROUP_ORDER + 1, 2**255, 2**256 - 1):
        with pytest.raises(MalformedScalar):
            read(scalar(value))
    for data in (b"", scalar(1)[:31], scalar(1) + b"\0"):
        with pytest.raises(MalformedScalar):
            read(data)


def test_zero_scalars() -> None:
    with pytest.raises(InvalidZeroScalar):
        Identifier.deserialize(scalar(0))
    with pytest.raises(MalformedSigningKey):
        SigningKey.deserialize(scalar(0))
    assert round2.SignatureShare.deserialize(scalar(0)).serialize() == scalar(0)


def test_signatures() -> None:
    Signature.deserialize(ELEMENT + scalar(0))
    for data in (b"", ELEMENT + scalar(0)[:31], ELEMENT + scalar(0) + b"\0"):
        with pytest.raises(MalformedSignature):
            Signature.deserialize(data)
    with pytest.raises(MalformedScalar):
        Signature.deserialize(ELEMENT + scalar(GROUP_ORDER))
    with pytest.raises(InvalidIdentityElement):
        Signature.deserialize(IDENTITY + scalar(1))
    with pytest.raises(InvalidNonPrimeOrderElement):
        Signature.deserialize(MIXED_ORDER + scalar(1))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seeds(length: int) -> None:
    with pytest.raises(MalformedSigningKey):
        SigningKey.from_ed25519_seed(bytes(length))


@pytest.mark.parametrize("value", [0, -1, 65536, 2**16 + 1, -(2**64), 2**300])
def test_identifiers(value: int) -> None:
    with pytest.raises(IdentifierOutOfRange):
        Identifier(value)
    uses: list[Callable[[], object]] = [
        lambda: generate_with_dealer(2, 2, [1, value]),
        lambda: dkg.part1(value, 2, 2),
        lambda: SigningPackage({value: SESSION.package.signing_commitments[Identifier(1)]}, b""),
        lambda: SESSION.package.signing_commitment(value),
    ]
    for use in uses:
        with pytest.raises(IdentifierOutOfRange):
            use()


@pytest.mark.parametrize("value", [True, False, None, 1.0, "1", b"1", [1]])
def test_identifiers_of_the_wrong_type(value: Any) -> None:
    uses: list[Callable[[], object]] = [
        lambda: Identifier(value),
        lambda: generate_with_dealer(2, 2, [1, value]),
        lambda: dkg.part1(value, 2, 2),
        lambda: SESSION.package.signing_commitment(value),
    ]
    for use in uses:
        with pytest.raises(TypeError):
            use()


@pytest.mark.parametrize(
    ("max_signers", "min_signers", "error"),
    [
        (0, 0, InvalidMinSigners),
        (1, 1, InvalidMinSigners),
        (1, 2, InvalidMaxSigners),
        (2, 0, InvalidMinSigners),
        (2, 1, InvalidMinSigners),
        (2, 3, InvalidMinSigners),
        (2, 65535, InvalidMinSigners),
        (2, 65536, InvalidMinSigners),
        (2, -1, InvalidMinSigners),
        (2, 2**300, InvalidMinSigners),
        (-1, 2, InvalidMaxSigners),
        (65536, 2, InvalidMaxSigners),
        (65538, 2, InvalidMaxSigners),
        (2**300, 2, InvalidMaxSigners),
    ],
)
def test_numbers_of_signers(max_signers: int, min_signers: int, error: type[FrostError]) -> None:
    key = SigningKey.deserialize(scalar(5))
    uses: list[Callable[[], object]] = [
        lambda: generate_with_dealer(max_signers, min_signers),
        lambda: split(key, max_signers, min_signers),
        lambda: dkg.part1(1, max_signers, min_signers),
    ]
    for use in uses:
        with pytest.raises(error):
            use()


@pytest.mark.parametrize("value", [None, 2.0, "2", True, b""])
def test_numbers_of_signers_of_the_wrong_type(value: Any) -> None:
    for arguments in ((value, 2), (2, value)):
        with pytest.raises(TypeError):
            generate_with_dealer(*arguments)
        with pytest.raises(TypeError):
            dkg.part1(1, *arguments)


def test_lists_of_identifiers() -> None:
    shares, _ = generate_with_dealer(3, 2, (i for i in (7, Identifier(8), 65535)))
    assert [int(who) for who in shares] == [7, 8, 65535]
    assert set(generate_with_dealer(2, 2, {3, 4})[0]) == {Identifier(3), Identifier(4)}
    for wrong in ([], [1, 2], [1, 2, 3, 4], count(1)):
        with pytest.raises(IncorrectNumberOfIdentifiers):
            generate_with_dealer(3, 2, wrong)
    repeated: list[list[Identifier | int]] = [[1, 1, 2], [1, Identifier(1), 2]]
    for twice in repeated:
        with pytest.raises(DuplicatedIdentifier):
            generate_with_dealer(3, 2, twice)

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        generate_with_dealer(3, 2, broken())
    wrong_types: list[Any] = ["123", b"", 3, [None], object()]
    for wrong_type in wrong_types:
        with pytest.raises((TypeError, IncorrectNumberOfIdentifiers)):
            generate_with_dealer(3, 2, wrong_type)


def test_mappings() -> None:
    one = SESSION.package.signing_commitments[Identifier(1)]
    for mapping in ({1: one}, MappingProxyType({1: one}), UserDict({Identifier(1): one})):
        assert SigningPackage(mapping, b"").signing_commitments == {Identifier(1): one}
    twice: dict[Identifier | int, round1.SigningCommitments] = {1: one, Identifier(1): one}
    with pytest.raises(DuplicatedIdentifier):
        SigningPackage(twice, b"")
    wrong: list[Any] = [None, [(1, one)], one, {"1": one}, {1: None}, {1: ELEMENT}, {None: one}]
    for mapping in wrong:
        with pytest.raises(TypeError):
            SigningPackage(mapping, b"")
    messages: list[Any] = [None, "text", 1, [1]]
    for message in messages:
        with pytest.raises(TypeError):
            SigningPackage({1: one}, message)


def test_public_key_packages() -> None:
    shares, key = GROUP.public.verifying_shares, GROUP.public.verifying_key
    assert PublicKeyPackage(shares, key, 2) == GROUP.public
    assert PublicKeyPackage(shares, key, None).min_signers is None
    for min_signers in (0, 1, 4, -1, 65536):
        with pytest.raises(InvalidMinSigners):
            PublicKeyPackage(shares, key, min_signers)
    for few in ({}, {1: shares[Identifier(1)]}):
        for threshold in (2, None):
            with pytest.raises(InvalidMaxSigners):
                PublicKeyPackage(few, key, threshold)
    twice: dict[Identifier | int, VerifyingShare]
    twice = {1: shares[Identifier(1)], Identifier(1): shares[Identifier(1)]}
    with pytest.raises(DuplicatedIdentifier):
        PublicKeyPackage(twice, key, 2)
    commitment = GROUP.shares[Identifier(1)].commitment
    with pytest.raises(DuplicatedIdentifier):
        PublicKeyPackage.from_commitment([1, 1, 2], commitment)
    with pytest.raises(InvalidMaxSigners):
        PublicKeyPackage.from_commitment([], commitment)
    longer = deal(3, 3).shares[Identifier(1)].commitment
    with pytest.raises(IncorrectNumberOfCommitments):
        PublicKeyPackage.from_dkg_commitments({})
    for commitments in ({1: commitment, 2: longer}, {1: longer, 2: commitment}):
        with pytest.raises(IncorrectNumberOfCommitments):
            PublicKeyPackage.from_dkg_commitments(commitments)


def test_commitments_to_a_polynomial() -> None:
    two = VerifiableSecretSharingCommitment.deserialize([ELEMENT, ELEMENT])
    assert two.serialize() == [ELEMENT, ELEMENT]
    assert two.serialize_whole() == ELEMENT * 2
    assert VerifiableSecretSharingCommitment.deserialize_whole(ELEMENT * 2) == two
    for number in (0, 1):
        with pytest.raises(IncorrectNumberOfCommitments):
            VerifiableSecretSharingCommitment.deserialize([ELEMENT] * number)
        with pytest.raises(IncorrectNumberOfCommitments):
            VerifiableSecretSharingCommitment.deserialize_whole(ELEMENT * number)
        with pytest.raises(IncorrectNumberOfCommitments):
            VerifiableSecretSharingCommitment.from_json(json.dumps([ELEMENT.hex()] * number))
    with pytest.raises(InvalidCoefficient):
        VerifiableSecretSharingCommitment.deserialize_whole(ELEMENT * 2 + b"\0")
    with pytest.raises(IncorrectNumberOfCommitments):
        share = json.loads(GROUP.shares[Identifier(1)].to_json())
        SecretShare.from_json(json.dumps(share | {"commitment": share["commitment"][:1]}))


def test_a_key_package_must_fit_together() -> None:
    key, other = GROUP.key(1), deal(3, 2).key(1)
    assert KeyPackage.deserialize(key.serialize()).verifying_share == key.verifying_share
    mine, theirs = json.loads(key.to_json()), json.loads(other.to_json())
    for part in ("signing_share", "verifying_share"):
        with pytest.raises(InvalidKeyPackage):
            KeyPackage.from_json(json.dumps(mine | {part: theirs[part]}))
        with pytest.raises(InvalidKeyPackage):
            KeyPackage.deserialize(
                key.serialize().replace(bytes.fromhex(mine[part]), bytes.fromhex(theirs[part]))
            )
    for min_signers in (0, 1):
        with pytest.raises(InvalidMinSigners):
            KeyPackage.from_json(json.dumps(mine | {"min_signers": min_signers}))
        with pytest.raises(InvalidMinSigners):
            KeyPackage.deserialize(key.serialize()[:-1] + bytes([min_signers]))


def test_a_dealt_share_must_fit_its_commitment() -> None:
    mine = json.loads(GROUP.shares[Identifier(1)].to_json())
    other = json.loads(GROUP.shares[Identifier(2)].to_json())
    for part in ("identifier", "signing_share"):
        share = SecretShare.from_json(json.dumps(mine | {part: other[part]}))
        for check in (share.verify, lambda share=share: KeyPackage.from_secret_share(share)):
            with pytest.raises(InvalidSecretShare) as caught:
                check()
            assert caught.value.culprits == []
            assert "Culprits" not in str(caught.value)


def positional(value: Any, path: tuple[str, ...]) -> Any:
    """Put the values of the object at a path in an array, in their order."""
    if not path:
        return list(value.values())
    return value | {path[0]: positional(value[path[0]], path[1:])}


def objects(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the paths of all objects in a value."""
    if isinstance(value, dict):
        yield path
        for name, part in value.items():
            yield from objects(part, (*path, name))


# Every class with the two encodings, and one of each.

_, BROADCAST = dkg.part1(1, 3, 2)
SAMPLES: list[Any] = [
    Identifier(1),
    Identifier.derive(b"somebody"),
    GROUP.public.verifying_key,
    GROUP.public.verifying_shares[Identifier(1)],
    GROUP.public,
    GROUP.shares[Identifier(1)],
    GROUP.key(1),
    GROUP.shares[Identifier(1)].commitment,
    SESSION.package,
    SESSION.package.signing_commitments[Identifier(1)],
    SESSION.shares[Identifier(1)],
    SESSION.aggregate(),
    BROADCAST,
    dkg.round2.Package(scalar(5)),
]


def encode(sample: Any) -> bytes:
    whole = getattr(sample, "serialize_whole", sample.serialize)
    data: bytes = whole()
    return data


def decode(kind: Any, data: Any) -> Any:
    return getattr(kind, "deserialize_whole", kind.deserialize)(data)


samples = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)


def survives(kind: Any, data: bytes) -> None:
    """Decode; whatever is accepted must be the one encoding of its value."""
    try:
        value = decode(kind, data)
    except FrostError as error:
        assert isinstance(error, ValueError)
    else:
        assert encode(value) == data


def survives_json(kind: Any, text: str) -> None:
    try:
        value = kind.from_json(text)
    except FrostError as error:
        assert isinstance(error, ValueError)
    else:
        assert encode(kind.from_json(value.to_json())) == encode(value)


@samples
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes(sample: Any, data: bytes) -> None:
    survives(type(sample), data)
    survives(type(sample), HEADER + data)


@samples
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_bytes(sample: Any, data: st.DataObject) -> None:
    whole = encode(sample)
    assert encode(decode(type(sample), whole)) == whole
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    survives(type(sample), whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:])


@samples
def test_every_damaged_bit_and_length(sample: Any) -> None:
    whole = encode(sample)
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        survives(type(sample), bytes(damaged))
    for length in range(len(whole)):
        survives(type(sample), whole[:length])
    for more in (b"\0", b"\xff", whole + b"\0"):
        with pytest.raises(FrostError):
            decode(type(sample), whole + more)


@samples
def test_lengths_that_lie(sample: Any) -> None:
    for length in (b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x80\x80\x01", b"\x80\x00"):
        whole = encode(sample)
        for where in range(len(whole)):
            survives(type(sample), whole[:where] + length + whole[where + 1 :])


@samples
def test_the_other_classes_bytes(sample: Any) -> None:
    for other in SAMPLES:
        survives(type(sample), encode(other))
        survives_json(type(sample), other.to_json())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=70)
    | st.binary(max_size=40).map(bytes.hex),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.just("header"), inner, max_size=4)
    ),
    max_leaves=10,
)


@samples
@settings(max_examples=100, deadline=None)
@given(value=JSON, text=st.text(max_size=100))
def test_any_json(sample: Any, value: Any, text: str) -> None:
    survives_json(type(sample), json.dumps(value))
    survives_json(type(sample), text)


@samples
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_json(sample: Any, data: st.DataObject) -> None:
    text = sample.to_json()
    assert encode(type(sample).from_json(text)) == encode(sample)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    survives_json(type(sample), text[:start] + data.draw(st.text(max_size=40)) + text[end:])
    value = json.loads(text)
    if isinstance(value, dict):
        name = data.draw(st.sampled_from(sorted(value)))
        survives_json(type(sample), json.dumps(value | {name: data.draw(JSON)}))
        survives_json(type(sample), json.dumps({k: v for k, v in value.items() if k != name}))
        with pytest.raises(DeserializationError):
            type(sample).from_json(json.dumps(value | {"more": 1}))


@samples
def test_json_objects_have_names(sample: Any) -> None:
    value = json.loads(sample.to_json())
    assert isinstance(value, dict) == sample.to_json().startswith("{")
    for path in objects(value):
        with pytest.raises(DeserializationError):
            type(sample).from_json(json.dumps(positional(value, path)))
    wrong: list[Any] = [[], {}, [value], [list(value)], [[[value]]]]
    for wrapped in wrong:
        with pytest.raises(FrostError):
            type(sample).from_json(json.dumps(wrapped))


@samples
def test_json_out_of_bounds(sample: Any) -> None:
    kind = type(sample)
    for text in (
        "",
        "[" * 100_000,
        "{" * 100_000,
        "1e999",
        '"\\ud800"',
        "nul",
        "\0",
        "\ufeff" + "{}",
    ):
        with pytest.raises(DeserializationError, match="line"):
            kind.from_json(text)
    with pytest.raises(ValueError, match="surrogates"):
        kind.from_json("\ud800")
    with pytest.raises(DeserializationError):
        kind.from_json(sample.to_json() + " 1")
    assert encode(kind.from_json(f" \n{sample.to_json()}\n")) == encode(sample)


@samples
@pytest.mark.parametrize("wrong", [None, 1, 1.5, [1], object(), bytearray(3), memoryview(b"abc")])
def test_wrong_types(sample: Any, wrong: Any) -> None:
    kind, text = type(sample), str(sample)
    for not_bytes in (wrong, text):
        with pytest.raises(TypeError):
            decode(kind, not_bytes)
    for not_text in (wrong, b"{}"):
        with pytest.raises(TypeError):
            kind.from_json(not_text)


@samples
def test_short_hexadecimal(sample: Any) -> None:
    text = sample.to_json()
    encoded = max((part for part in text.split('"')), key=lambda part: len(part) * part.isalnum())
    for bad in (encoded[:-2], encoded[:-1], encoded + "00", "", encoded[:-2] + "zz"):
        if encoded in text and len(encoded) >= 64:
            with pytest.raises(DeserializationError):
                type(sample).from_json(text.replace(encoded, bad))


@pytest.mark.parametrize("sample", [GROUP.public, SESSION.package], ids=lambda s: type(s).__name__)
def test_a_participant_twice(sample: Any) -> None:
    value = json.loads(sample.to_json())
    (name,) = value.keys() & {"verifying_shares", "signing_commitments"}
    key, entry = next(iter(value[name].items()))
    identifier = Identifier.derive(b"with letters in hexadecimal")
    value[name] = {identifier.serialize().hex(): entry} | value[name]
    text = json.dumps(value)
    assert type(sample).from_json(text) != sample
    for spelling in (key, identifier.serialize().hex(), identifier.serialize().hex().upper()):
        start = f'"{name}": {{'
        assert text.count(start) == 1
        twice = text.replace(start, f'{start}"{spelling}": {json.dumps(entry)}, ')
        with pytest.raises(DuplicatedIdentifier):
            type(sample).from_json(twice)
    data = sample.serialize()
    first = len(HEADER) + 1
    assert data[first:].startswith(bytes.fromhex(key))
    length = 64 if sample is GROUP.public else 32 + len(HEADER) + 64
    once = data[first : first + length]
    doubled = data[: first - 1] + bytes([data[first - 1] + 1]) + once + data[first:]
    with pytest.raises(DeserializationError):
        type(sample).deserialize(doubled)


def test_another_ciphersuite_or_version() -> None:
    for sample in SAMPLES:
        value = json.loads(sample.to_json())
        if not isinstance(value, dict):
            continue
        changes = [
            {"version": 1},
            {"version": 256},
            {"ciphersuite": "FROST-RISTRETTO255-SHA512-v1"},
        ]
        for change in changes:
            with pytest.raises(DeserializationError):
                type(sample).from_json(json.dumps(value | {"header": value["header"] | change}))
        data = encode(sample)
        assert data.startswith(HEADER) == (not isinstance(sample, round2.SignatureShare))
        if data.startswith(HEADER):
            with pytest.raises(DeserializationError):
                decode(type(sample), b"\1" + data[1:])
            with pytest.raises(DeserializationError):
                decode(type(sample), data[:1] + b"\0" + data[2:])
