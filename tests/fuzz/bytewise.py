"""Damage to bytes of which nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

MAX_BYTES: Final = 64 * 1024
"""No input is longer. The time bound of the engine holds for inputs up to this."""

Mutation = Callable[[Random, Sequence[bytes]], bytes]
"""Makes an input out of valid ones."""

_TOKENS: Final = (
    *(
        b"\0",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\x00\x00\x00\x00",
        b"\xff" * 8,
        b"\r\n",
    ),
    *(
        b"\n",
        b"\t",
        b" ",
        b".",
        b"..",
        b"=",
        b"==",
        b"+",
        b"/",
        b"-",
        b"_",
        b'"',
        b"'",
        b"\\",
        b"\\u0000",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b",",
        b":",
        b"null",
        b"true",
        b"NaN",
        b"1e999",
        b"-1",
        b"0",
        b"00",
        b"18446744073709551616",
        b"\xe2\x80\xa8",
        b"%",
    ),
    *(b"\x01" + b"\x00" * 31, b"\x00" * 32, b"\xec" + b"\xff" * 30 + b"\x7f", b"\xed" + b"\xff" * 30 + b"\x7f"),
    bytes.fromhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"),  # the group's order
)


def damage_bytes(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with a few changes, sometimes none, seldom noise alone."""
    if random.randrange(40) == 0:
        return random.randbytes(random.choice((0, 1, 2, 5, 31, 32, 33, 64, 300)))
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((0, 1, 1, 1, 1, 2, 2, 3, 6))):
        _BYTE_DAMAGE[random.randrange(len(_BYTE_DAMAGE))](random, data, seeds)
    return bytes(data[:MAX_BYTES])


def _flip(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _replace(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 2, 3, 127, 128, 254, 255, 10, 32, 34, 46, 48, 61, 92))


def _cut(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        del data[random.randrange(len(data)) :]


def _remove(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        at = random.randrange(len(data))
        del data[at : at + random.choice((1, 1, 1, 2, 4, 8, 32, 64))]


def _repeat(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    if data:
        at = random.randrange(len(data))
        data[at:at] = data[at : at + random.choice((1, 1, 4, 8, 32, 64, 1000))] * random.choice((1, 1, 1, 2, 20))


def _insert(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(_TOKENS)


def _overwrite(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    token = random.choice(_TOKENS)
    at = random.randrange(len(data) + 1)
    data[at : at + len(token)] = token


def _splice(random: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    data[random.randrange(len(data) + 1) :] = other[random.randrange(len(other) + 1) :]


def _number(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    """A whole number in the width that binary forms use."""
    width = random.choice((1, 2, 4, 8))
    at = random.randrange(len(data) + 1)
    value = random.choice((0, 1, 2, 3, 255, 256, 65535, 65536, 2**32 - 1, 2**63, 2**64 - 1)) % 256**width
    data[at : at + width] = value.to_bytes(width, random.choice(("little", "big")))


def _append(random: Random, data: bytearray, _seeds: Sequence[bytes]) -> None:
    data += random.randbytes(random.choice((1, 1, 2, 3, 32)))


_BYTE_DAMAGE: Final = (_flip, _flip, _replace, _cut, _remove, _repeat, _insert, _overwrite, _splice, _number, _append)
