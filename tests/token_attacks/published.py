"""Which of our cases stand for which published ones: the JOSE files of Wycheproof, read at their 401, 26, 139 and 83.

Its tokens cannot be taken as they are: they speak of published keys and carry no claims, so that every one would be
refused whatever is wrong with it. Each of ours is of the same kind, made with a fresh key, and good but for the fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from tests.token_attacks import claims, confusions, curves, headers, rsa, shapes
from tests.token_attacks.case import Case, Reason, span
from tests.token_attacks.keysets import KEYS

CASES: Final[tuple[Case, ...]] = (
    *shapes.CASES,
    *headers.CASES,
    *confusions.CASES,
    *claims.CASES,
    *curves.CASES,
    *rsa.CASES,
)

COUNTS: Final = {"signature": 401, "key": 26, "encryption": 139, "crypto": 83}
"""Cases in json_web_signature_test, json_web_key_test, json_web_encryption_test and json_web_crypto_test."""

PADDING: Final = {
    "PKCS #1, DigestInfo: *": span((46, 97)),
    "PKCS #1, AlgorithmIdentifier: *": span((98, 147)),
    "PKCS #1, OID: *": span((148, 193)),
    "PKCS #1, NULL: *": span((194, 221)),
    "PKCS #1, OCTET STRING: *": span((222, 258)),
}
"""Misspelt DigestInfos, by the value that is misspelt: ours are made by rule, a few more than the published ones."""

ELSEWHERE: Final = {
    "nothing is wrong": span(2, 5),
    "signature changed": span(3),
    "test_no_process_starts_with_a_weak_secret": span(10, 13, 16),
    "a good signature under the name 'HS384'": span(11, 14, 17),
    "a good signature under the name 'HS512'": span(12, 15, 18),
}
"""Cases of json_web_key_test that are about secrets, not about JWK sets, or about nothing wrong."""


def signature_numbers() -> dict[str, tuple[int, ...]]:
    """The published cases of json_web_signature_test that each case stands for, by name or pattern."""
    ours = {case.name: case.wycheproof for case in CASES} | PADDING
    return {
        **{name: each for name, each in ours.items() if each},
        **{each.name: each.signatures for each in KEYS if each.signatures},
    }


def key_numbers() -> dict[str, tuple[int, ...]]:
    """The same for json_web_key_test."""
    return {**{each.name: each.wycheproof for each in KEYS if each.wycheproof}, **ELSEWHERE}


def rows(numbers: dict[str, tuple[int, ...]]) -> list[str]:
    """A table's rows, in the order of the published numbers."""
    reasons = {case.name: case.reason for case in CASES} | {case.name: case.reason for case in KEYS}
    ordered = sorted(numbers.items(), key=lambda each: each[1])
    return [
        f"| {_spell(published)} | {len(published)} | `{name}` | {_spell_reason(name, reasons)} |"
        for name, published in ordered
    ]


def matching(pattern: str, names: Iterable[str]) -> set[str]:
    """The names that a pattern with stars means; brackets and question marks stand for themselves."""
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return {name for name in names if fnmatchcase(name, literal)}


def _spell(numbers: tuple[int, ...]) -> str:
    """``1, 3-5``."""
    pieces: list[list[int]] = []
    for number in sorted(numbers):
        if pieces and pieces[-1][-1] == number - 1:
            pieces[-1][1:] = [number]
        else:
            pieces.append([number])
    return ", ".join("-".join(map(str, piece)) for piece in pieces)


def _spell_reason(name: str, reasons: dict[str, Reason]) -> str:
    if name.startswith("test_"):
        return "no start"
    [reason] = {reasons[each] for each in matching(name, reasons)}
    if reason is None:
        return "let in"
    return " or ".join(f"`{each}`" for each in ([reason] if isinstance(reason, str) else reason))
