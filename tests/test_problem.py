"""Problem documents (RFC 9457): the form that we send, and what we take from a stranger's."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frost_sidecar import errors
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.problem import TYPE_BASE, Problem, slug_of


def test_the_form() -> None:
    problem = Problem(
        TYPE_BASE + "no-quorum", "Service Unavailable", 503, "signer 2: timeout", request_id="r-1", outcome="failed"
    )
    assert json.loads(problem.encode()) == {
        "type": "urn:frost-sidecar:error:no-quorum",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "signer 2: timeout",
        "request_id": "r-1",
        "outcome": "failed",
    }


def test_what_is_not_known_is_left_out() -> None:
    assert set(json.loads(Problem(TYPE_BASE + "http", "t", 400, "d").encode())) == {"type", "title", "status", "detail"}


@given(st.text(max_size=20), st.integers(100, 599), st.text(max_size=40))
def test_our_own_documents_give_their_slug_back(slug: str, status: int, detail: str) -> None:
    assert slug_of(Problem(TYPE_BASE + slug, "t", status, detail).encode()) == slug


def test_a_newer_document_may_say_more() -> None:
    body = b'{"type": "urn:frost-sidecar:error:stale-epoch", "title": "", "status": 409, "detail": "", "later": [1]}'
    assert slug_of(body) == "stale-epoch"


@given(st.binary(max_size=80))
@example(b"")
@example(b"null")
@example(b"[]")
@example(b'{"type": "about:blank", "title": "", "status": 500, "detail": ""}')
@example(b'{"type": 5, "title": "", "status": 500, "detail": ""}')
@example(b'{"type": "urn:frost-sidecar:error:x"}')
@example(b'{"type": "\xff"}')
@example(b'{"\xff": 1}')
@example(b'{"later": ' + b"[" * 200_000)
@example(b'{"type": "\\ud800", "title": "", "status": 500, "detail": ""}')
def test_anything_else_has_none(body: bytes) -> None:
    assert slug_of(body) is None


def _classes(base: type[FrostSidecarError]) -> set[type[FrostSidecarError]]:
    return {base}.union(*(_classes(each) for each in base.__subclasses__() if each.__module__ == errors.__name__))


@pytest.mark.parametrize("kind", sorted(_classes(FrostSidecarError), key=str))
def test_every_error_has_a_slug_that_fits_a_urn(kind: type[FrostSidecarError]) -> None:
    assert kind.slug == kind.slug.lower()
    assert kind.slug.replace("-", "").isalpha()


def test_a_slug_belongs_to_one_error() -> None:
    bases = {errors.FrostSidecarError, errors.RequestError}  # never raised themselves; their slug is a subclass's
    slugs = sorted(kind.slug for kind in _classes(FrostSidecarError) - bases)
    assert slugs == sorted(set(slugs))
