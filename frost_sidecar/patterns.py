"""Patterns for texts in claims: what a ``*`` stands for is so narrow that no part of a URL can hide in it.

``*`` stands for one or more ASCII letters, digits, ``-``, ``.``, ``_`` and ``~`` (the unreserved characters of RFC
3986, section 2.3): never for ``/``, ``:``, ``@``, ``?``, ``#``, ``%``, a blank or a letter of another script. ``**``,
which only the end of a pattern may be, stands for one or more printable characters of any kind. Everything else stands
for itself: texts are compared by code points, without normalisation and with regard to case (RFC 7519, section 2,
StringOrURI).

A match takes time in proportion to the text: there is no backtracking.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Final

from msgspec import Meta

from frost_sidecar.errors import ConfigError

Pattern = Annotated[str, Meta(min_length=1, max_length=512)]
Patterns = Annotated[tuple[Pattern, ...], Meta(max_length=256)]

LONGEST_TEXT: Final = 2048
"""A longer text matches no pattern with stars."""

_RUN: Final = re.compile(r"[A-Za-z0-9._~-]+")
_DOT_SEGMENT: Final = re.compile(r"(?:\A|[/\\])\.{1,2}(?:[/\\?#]|\Z)")
"""What a reader of URLs would resolve (RFC 3986, section 5.2.4), out of the place that the pattern gave it."""


_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and symbols that leave no trace: fillers, joiners and variation selectors (Unicode's
Default_Ignorable_Code_Point), and the empty Braille cell."""


def is_seen(text: str) -> bool:
    """Whether every character of ``text`` can be seen: no blank at an end, and none that looks like nothing."""
    return text.isprintable() and text == text.strip() and not _UNSEEN.search(text)


def check_pattern(pattern: str, path: str) -> None:
    """Raises :class:`~frost_sidecar.errors.ConfigError`, with ``path``, for a pattern that cannot be meant."""
    if not is_seen(pattern):
        raise ConfigError(f"{pattern!a} has characters that cannot be seen", path=path)
    if "**" in pattern.removesuffix("**") or pattern.endswith("***"):
        raise ConfigError(f"{pattern!r}: ** may only be the end of a pattern", path=path)


def matches(text: str, patterns: Patterns) -> bool:
    """Whether ``text`` matches one of ``patterns``."""
    literal, starred = _sorted(patterns)
    if text in literal:
        return True
    if not starred or len(text) > LONGEST_TEXT or _DOT_SEGMENT.search(text):
        return False
    return any(_fits(text, parts, open_end=open_end) for parts, open_end in starred)


@lru_cache(maxsize=1024)
def _sorted(patterns: Patterns) -> tuple[frozenset[str], tuple[tuple[tuple[str, ...], bool], ...]]:
    """The patterns without stars; of the others what stands between the stars, and whether they end with ``**``."""
    starred = [each for each in patterns if "*" in each]
    return frozenset(patterns) - frozenset(starred), tuple(
        (tuple(each.removesuffix("**").split("*")), each.endswith("**")) for each in starred
    )


def _fits(text: str, parts: tuple[str, ...], *, open_end: bool) -> bool:
    """Between two parts stands a ``*``. The first place where a part is found leaves most to those behind it.

    No later place could serve them better: what lies between the two places has only characters of a ``*``.
    """
    first, *others = parts
    if not text.startswith(first):
        return False
    at = len(first)
    last = None if open_end else others.pop() if others else ""
    for part in others:
        found = text.find(part, at + 1)
        if found < 0 or not _RUN.fullmatch(text, at, found):
            return False
        at = found + len(part)
    if last is None:
        return len(text) > at and text[at:].isprintable()
    end = len(text) - len(last)
    return text.endswith(last) and _RUN.fullmatch(text, at, end) is not None
