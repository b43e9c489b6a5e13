"""Secrets do not get out by accident."""

from __future__ import annotations

import copy
import gc
import json
import logging
import operator
import pickle
import pprint
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from frost_ed25519 import FrostError, Identifier, SigningKey, SigningPackage, round1, round2
from frost_ed25519.keys import KeyPackage, SecretShare, dkg
from frost_support import Group, deal, scalar

SEED = bytes(range(100, 132))


def secret_of(text: str) -> bytes:
    return bytes.fromhex(json.loads(text)["signing_share"])


def secrets() -> list[tuple[Any, list[bytes]]]:
    """One of each secret class, with the secrets in it that can be known."""
    group = deal(3, 2)
    share, key = group.shares[Identifier(1)], group.key(1)
    known = [secret_of(share.to_json())]
    secret1, _ = dkg.part1(1, 2, 2)
    _, package2 = dkg.part1(2, 2, 2)
    secret2, sent = dkg.part2(secret1, {2: package2})
    (to_two,) = sent.values()
    unused1, _ = dkg.part1(1, 2, 2)
    nonces, _ = round1.commit(key)
    return [
        (SigningKey.from_ed25519_seed(SEED), [SEED]),
        (SigningKey.deserialize(scalar(0x1234567890ABCDEF)), [scalar(0x1234567890ABCDEF)]),
        (share, known),
        (key, known),
        (nonces, []),
        (unused1, []),
        (secret2, []),
        (to_two, [secret_of(to_two.to_json())]),
    ]


@pytest.fixture(params=range(len(secrets())), ids=lambda i: f"{type(secrets()[i][0]).__name__}{i}")
def secret(request: pytest.FixtureRequest) -> tuple[Any, list[bytes]]:
    chosen: tuple[Any, list[bytes]] = secrets()[request.param]
    return chosen


def shows(text: str, known: list[bytes]) -> bool:
    """Whether a text has a secret in it, in any of the usual spellings."""
    folded = text.lower()
    return any(
        spelling.lower() in folded
        for value in known
        for spelling in (
            value.hex(),
            value[::-1].hex(),
            repr(value)[2:-1],
            str(list(value))[1:-1],
            str(int.from_bytes(value, "little")),
            str(int.from_bytes(value, "big")),
        )
    )


def test_shows_finds_secrets() -> None:
    value = bytes(range(32))
    for text in (value.hex().upper(), repr(value), str(list(value)), f"{value!r}"):
        assert shows(f"x {text} y", [value])
    assert not shows("<KeyPackage of Identifier(1)>", [value])


@pytest.mark.parametrize(
    "render",
    [
        repr,
        str,
        ascii,
        format,
        pprint.pformat,
        lambda value: f"{value}",
        lambda value: f"{value!r:>80}",
        lambda value: f"{value} {value!r}",
        lambda value: str([value]),
        lambda value: str({"key": value}),
        lambda value: str(dir(value)),
        lambda value: str(type(value).__doc__),
        lambda value: str({name: str(getattr(value, name)) for name in dir(value)}),
        lambda value: logging.makeLogRecord({"msg": "%s", "args": (value,)}).getMessage(),
    ],
)
def test_no_text_shows_it(secret: tuple[Any, list[bytes]], render: Callable[[Any], str]) -> None:
    value, known = secret
    text = render(value)
    assert not shows(text, known)


def test_repr_shows_the_class_and_who(secret: tuple[Any, list[bytes]]) -> None:
    value, _ = secret
    text = repr(value)
    assert text.startswith(f"<{type(value).__name__}")
    assert len(text) < 60
    if hasattr(value, "identifier"):
        assert repr(value.identifier) in text


@pytest.mark.parametrize(
    "convert",
    [
        bytes,
        bytearray,
        memoryview,
        iter,
        len,
        int,
        float,
        list,
        dict,
        hex,
        operator.index,
        json.dumps,
        vars,
        copy.copy,
        copy.deepcopy,
        lambda value: copy.deepcopy([value]),
        lambda value: operator.lt(value, value),
        lambda value: sorted([value, value]),
        lambda value: format(value, ">80"),
        lambda value: value.__class__.__new__(type(value)),
        lambda value: object.__new__(type(value)),
        lambda value: type("Sub", (type(value),), {}),
        lambda value: weakref.ref(value),
        lambda value: object.__reduce_ex__(value, 2),
        *(
            lambda value, protocol=protocol: pickle.dumps(value, protocol)
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ],
)
def test_it_cannot_be_converted(
    secret: tuple[Any, list[bytes]], convert: Callable[[Any], object]
) -> None:
    value, known = secret
    with pytest.raises(TypeError) as caught:
        convert(value)
    assert not shows(str(caught.value), known)


def test_copies_are_refused_in_plain_words(secret: tuple[Any, list[bytes]]) -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="is secret and cannot be copied or pickled"):
            attempt(secret[0])


def test_it_compares_by_identity_only(secret: tuple[Any, list[bytes]]) -> None:
    value, _ = secret
    if hasattr(value, "serialize"):
        twin = type(value).deserialize(value.serialize())
        assert twin.serialize() == value.serialize()
        assert twin != value
        assert len({twin, value}) == 2
    assert value == value  # noqa: PLR0124
    assert not {"__eq__", "__lt__", "__hash__"} & set(vars(type(value)))


def test_it_cannot_be_changed(secret: tuple[Any, list[bytes]]) -> None:
    value, _ = secret
    names = [*(name for name in dir(value) if not name.startswith("__")), "anything"]
    for name in names:
        with pytest.raises(AttributeError):
            setattr(value, name, None)
        with pytest.raises(AttributeError):
            delattr(value, name)
    assert not hasattr(value, "__dict__")
    assert not hasattr(value, "__weakref__")


def test_nothing_keeps_it_alive(secret: tuple[Any, list[bytes]]) -> None:
    value, _ = secret
    assert not gc.get_referents(value) or gc.get_referents(value) == [type(value)]


ONLY_WAYS_OUT = {
    SigningKey: set[str](),
    round1.SigningNonces: set[str](),
    dkg.round1.SecretPackage: set[str](),
    dkg.round2.SecretPackage: set[str](),
    SecretShare: {"serialize", "to_json"},
    KeyPackage: {"serialize", "to_json"},
    dkg.round2.Package: {"serialize", "to_json"},
}


@pytest.mark.parametrize(
    "kind", ONLY_WAYS_OUT, ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
def test_ways_out(kind: type) -> None:
    ways = {
        name
        for name in dir(kind)
        if any(part in name for part in ("serial", "json", "bytes", "hex", "dump", "export"))
    }
    reading = {"deserialize", "from_json", "from_ed25519_seed"}
    assert ways - reading == ONLY_WAYS_OUT[kind]


def failures(group: Group) -> list[Callable[[], object]]:
    """Ways to go wrong with a secret in hand."""
    share, key = group.shares[Identifier(1)], group.key(1)
    other = deal(3, 2)
    parts = json.loads(key.to_json())
    foreign = json.loads(other.key(1).to_json())

    def with_parts(**changes: Any) -> str:
        return json.dumps({**parts, **changes})

    def unused(package: SigningPackage) -> NoReturn:
        nonces, _ = round1.commit(key)
        round2.sign(package, nonces, key)
        raise AssertionError

    damaged = bytearray(share.serialize())
    damaged[40] ^= 1
    secret = parts["signing_share"]
    return [
        lambda: KeyPackage.from_json(with_parts(verifying_share=foreign["verifying_share"])),
        lambda: KeyPackage.from_json(with_parts(min_signers=1)),
        lambda: KeyPackage.from_json(with_parts(signing_share=[secret])),
        lambda: KeyPackage.from_json(with_parts(signing_share=secret + "zz")),
        lambda: KeyPackage.from_json(with_parts(signing_share={secret: secret})),
        lambda: KeyPackage.from_json(with_parts(**{secret: 1})),
        lambda: KeyPackage.from_json(with_parts(header=secret)),
        lambda: KeyPackage.from_json(with_parts(header={"version": 0, "ciphersuite": secret})),
        lambda: KeyPackage.from_json(with_parts(min_signers=secret)),
        lambda: KeyPackage.from_json(key.to_json() + secret),
        lambda: KeyPackage.from_json(key.to_json()[:-20]),
        lambda: KeyPackage.deserialize(key.serialize() + b"\0"),
        lambda: KeyPackage.deserialize(key.serialize()[:-1]),
        lambda: KeyPackage.deserialize(share.serialize()),
        lambda: SecretShare.from_json(key.to_json()),
        lambda: KeyPackage.from_secret_share(SecretShare.deserialize(bytes(damaged))),
        lambda: dkg.round2.Package(bytes.fromhex(secret) + b"\0"),
        lambda: dkg.round2.Package.from_json(json.dumps({"signing_share": secret})),
        lambda: SigningKey.deserialize(bytes.fromhex(secret) * 2),
        lambda: SigningKey.from_ed25519_seed(bytes.fromhex(secret)[:31]),
        lambda: unused(SigningPackage({}, b"")),
    ]


def test_no_failure_shows_it() -> None:
    group = deal(3, 2)
    known = [secret_of(group.key(1).to_json())]
    for number, failure in enumerate(failures(group)):
        with pytest.raises(FrostError) as caught:
            failure()
        error = caught.value
        seen = [str(error), repr(error), repr(error.args), repr(vars(error))]
        seen += traceback.format_exception(error)
        seen.append(repr(pickle.loads(pickle.dumps(error))))
        assert error.__cause__ is None
        assert error.__context__ is None
        for text in seen:
            assert not shows(text, known), number


def test_wrong_types_do_not_show_it() -> None:
    group = deal(3, 2)
    key: Any = group.key(1)
    known = [secret_of(key.to_json())]
    buffer: Any = bytearray(known[0])
    mistakes: list[Callable[[], object]] = [
        lambda: KeyPackage.from_secret_share(key),
        lambda: KeyPackage.deserialize(key.to_json()),
        lambda: KeyPackage.from_json(key.serialize()),
        lambda: SigningKey.deserialize(known[0].hex()),  # type: ignore[arg-type]
        lambda: SigningKey.from_ed25519_seed(buffer),
        lambda: dkg.round2.Package(known[0].hex()),  # type: ignore[arg-type]
        lambda: round2.sign(key, key, key),
    ]
    for mistake in mistakes:
        with pytest.raises(TypeError) as caught:
            mistake()
        assert not shows("".join(traceback.format_exception_only(caught.value)), known)
