"""One hierarchy, every class of it in use."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import frost_ed25519
import pytest
from frost_ed25519 import FrostError, Identifier, InvalidSignatureShare, exceptions
from frost_ed25519.exceptions import CulpritError
from frost_support import deal

CLASSES: dict[str, type[FrostError]] = {
    name: value
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, FrostError)
}
SOURCE = Path(__file__).parent.parent / "src" / "error.rs"


def test_rust_raises_these_and_only_these() -> None:
    named = set(re.findall(r'"([A-Z]\w+)"', SOURCE.read_text()))
    assert named <= set(CLASSES)
    groups = {base.__name__ for value in CLASSES.values() for base in value.__bases__}
    assert set(CLASSES) - named == groups & set(CLASSES) - named


@pytest.mark.parametrize("name", CLASSES)
def test_hierarchy(name: str) -> None:
    kind = CLASSES[name]
    assert issubclass(kind, FrostError)
    assert kind.__doc__
    assert FrostError.__bases__ == (Exception,)


@pytest.mark.parametrize("name", CLASSES)
def test_pickling(name: str) -> None:
    kind = CLASSES[name]
    if issubclass(kind, CulpritError):
        error: FrostError = kind("Bad.", [Identifier(2), Identifier.derive(b"x")])
    else:
        error = kind("Bad.")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))
        assert type(twin) is kind
        assert twin.args == error.args
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_culprits_in_the_message() -> None:
    session = deal(3, 2).sign([1, 2], b"message")
    one, two = session.shares
    session.shares[one] = session.shares[two]
    with pytest.raises(InvalidSignatureShare) as caught:
        session.aggregate()
    assert caught.value.culprits == [Identifier(1)]
    assert str(caught.value) == "Invalid signature share. Culprits: Identifier(1)."


def test_shortcuts() -> None:
    for name in set(frost_ed25519.__all__) & set(CLASSES):
        assert getattr(frost_ed25519, name) is CLASSES[name]
