"""Every error has its place in docs/errors, and its one status."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus
from pathlib import Path
from typing import get_args

import pytest

from frost_sidecar import errors
from frost_sidecar.routes import STATUSES
from frost_sidecar.signer.service import STATUSES as SIGNER_STATUSES

PAGE = (Path(__file__).parent.parent / "docs" / "errors" / "README.md").read_text("utf-8")
CLASSES = [
    each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.FrostSidecarError)
]
ROWS = {
    match[1]: (int(match[2]), match[3])
    for match in re.finditer(r"^\| `([a-z-]+)` \| (\d{3}) \| (?:`(\w+)`|\u2013) \|", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("slug", sorted({each.slug for each in CLASSES} - {"unavailable"}))
def test_every_slug_is_explained(slug: str) -> None:
    assert f"`{slug}`" in PAGE


@pytest.mark.parametrize("kind", get_args(errors.FaultKind))
def test_every_kind_of_fault_is_explained(kind: str) -> None:
    assert f"| `{kind}` |" in PAGE


@pytest.mark.parametrize("slug", ROWS)
def test_the_page_says_the_status_and_the_exception(slug: str) -> None:
    status, name = ROWS[slug]
    if name is None:
        assert slug in {"not-found", "method-not-allowed"}
        return
    kind = getattr(errors, name)
    assert kind.slug == slug
    assert next(STATUSES[base] for base in kind.__mro__ if base in STATUSES) == HTTPStatus(status)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ""),
        ("plain: ü 中 \U0001f600", "plain: ü 中 \U0001f600"),
        ("x" * 240, "x" * 240),
        ("x" * 241, "x" * 240 + "…"),
        ("x" * 10_000_000, "x" * 240 + "…"),
        ("a\nb\r\tc\x1b[31m\0\x7f\u2028\u202e\ud800", "a\ufffdb\ufffd\ufffdc\ufffd[31m" + "\ufffd" * 5),
    ],
    ids=["empty", "plain", "longest", "longer", "huge", "controls"],
)
def test_a_signers_words_are_kept_short_and_printable(said: str, kept: str) -> None:
    error = errors.SignerError(7, "refused", said)
    assert error.detail == kept
    assert str(error) == f"signer 7: refused: {kept}"
    assert kept.isprintable()


def test_no_two_meanings_share_a_slug() -> None:
    slugs: dict[str, list[str]] = {}
    for each in CLASSES:
        slugs.setdefault(each.slug, []).append(each.__name__)
    shared = {slug: names for slug, names in slugs.items() if len(names) > 1}
    assert shared == {
        "internal": ["FrostSidecarError", "InternalError"],
        "malformed-request": ["RequestError", "MalformedRequest"],
    }


@pytest.mark.parametrize("table", [STATUSES, SIGNER_STATUSES], ids=["sidecar", "signer"])
def test_every_error_has_a_status_of_its_family(table: dict[type[errors.FrostSidecarError], HTTPStatus]) -> None:
    for each in CLASSES:
        status = next(table[base] for base in each.__mro__ if base in table)
        if issubclass(each, errors.Unavailable):
            assert status == HTTPStatus.SERVICE_UNAVAILABLE
        if issubclass(each, errors.RequestError) and each not in {errors.RequestError, errors.StaleEpoch}:
            assert status in range(400, 500) or (table is SIGNER_STATUSES and each is errors.ParticipantsError)
