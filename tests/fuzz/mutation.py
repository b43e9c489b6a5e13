"""Damage that knows the form of what it damages: JSON, base64, and lines of text.

Every function takes its choices from a ``random.Random``. Hypothesis gives one whose choices it can shrink, the long
run a plain one that is fast: the same inputs come out of both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from tests.fuzz.bytewise import MAX_BYTES, damage_bytes


class Raw(str):
    """JSON text that no serialiser would write."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """A JSON object that may name a member twice."""

    __slots__ = ()


_ODD: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        1.0,
        2,
        1.5,
        255,
        256,
        65535,
        65536,
        2**31,
        2**53,
        2**53 + 1,
        2**63,
        2**64,
        -(2**63) - 1,
    ),
    *(
        Raw("1e400"),
        Raw("-0"),
        Raw("-0.0"),
        Raw("1E0"),
        Raw("NaN"),
        Raw("Infinity"),
        Raw("9" * 400),
        Raw("1" + "0" * 5000),
    ),
    *(Raw("0.1e1"), Raw("1e-400"), Raw("01"), Raw("+1"), Raw("1."), Raw(".5"), Raw("0x1"), Raw("1e18"), Raw("1e300")),
    *(
        "",
        "0",
        "1",
        "01",
        " 1",
        "1 ",
        "+1",
        "1_0",
        "\u0661",
        "true",
        "null",
        "default",
        "EdDSA",
        "HS256",
        "none",
        "None",
    ),
    *(Raw('"\\ud800"'), Raw('"\\udc00a"'), Raw('"\\ud83d\\ude00"'), Raw('"\\u0000"'), Raw('"\\x41"'), Raw('"\t"')),
    *("\0", "\n", "a\n", "\x7f", "\u2028", "é", "e\u0301", "\ufeff", "\U0001f600", "%00", "../", "a" * 65, "a" * 300),
    *([], [[]], [None], {}, {"": None}, [1, 1], [2, 1], ["1"], [1.0], list(range(300))),
    *(Raw("[" * 40 + "]" * 40), Raw("[" * 1100 + "]" * 1100), Raw('{"a":' * 1100 + "1" + "}" * 1100), Raw("[" * 20000)),
)
_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def damage_json(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A JSON seed with members and values changed, in another spelling; now and then with its bytes damaged instead."""
    kind = random.randrange(10)
    if kind == 0:
        return damage_bytes(random, seeds)
    try:
        value = json.loads(random.choice(seeds), object_pairs_hook=Members)
        for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
            value = _damage_value(random, value)
        data = _spell(random, value, odd=random.randrange(6) == 0).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # a seed that is no JSON, or deeper than can be followed here
        return damage_bytes(random, seeds)
    return damage_bytes(random, [data]) if kind == 1 else data[:MAX_BYTES]


def damage_text(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Lines: left out, repeated, exchanged, values replaced; or bytes damaged."""
    if random.randrange(3) == 0:
        return damage_bytes(random, seeds)
    lines = random.choice(seeds).split(b"\n")
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        at = random.randrange(len(lines)) if lines else 0
        kind = random.randrange(6)
        if not lines or kind == 0:
            lines.insert(at, random.choice(random.choice(seeds).split(b"\n")))
        elif kind == 1:
            lines.pop(at)
        elif kind == 2:
            lines.insert(at, lines[at])
        elif kind == 3:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            name, equals, _ = lines[at].partition(b"=")
            odd = _spell(random, random.choice(_ODD), odd=False).encode("utf-8", "surrogatepass")
            lines[at] = name + equals + odd if kind == 4 else damage_bytes(random, [lines[at]])
    return b"\n".join(lines)[:MAX_BYTES]


def respell_base64(random: Random, text: str) -> str:
    """The same bytes in another spelling, right or wrong; or nearly the same text."""
    kind = random.randrange(9)
    body = text.rstrip("=")
    if kind == 0:
        return body
    if kind == 1:
        return body.replace("+", "-").replace("/", "_")
    if kind == 2:
        return body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4)
    if kind == 3 and body:
        return body[:-1] + random.choice(_BASE64)  # other trailing bits
    if kind == 4:
        return text + random.choice(("=", "==", "\n", " ", "A", "\0", "é", "-+"))
    at = random.randrange(len(text) + 1)
    if kind == 5:
        return text[:at] + random.choice((" ", "\n", "=", "-", "_", "+", "/", ".", "\u212a")) + text[at:]
    if kind == 6:
        return text[:at] + text[at + 1 :]
    if kind == 7:
        return text[:at] + random.choice(_BASE64) + text[at + 1 :]
    return text.swapcase()


def _damage_value(random: Random, value: Any) -> Any:
    """``value`` with one change, in it or of it."""
    if isinstance(value, list) and value and random.randrange(5):
        at = random.randrange(len(value))
        if random.randrange(3):
            member = value[at]
            if isinstance(value, Members):
                value[at] = (member[0], _damage_value(random, member[1]))
            else:
                value[at] = _damage_value(random, member)
            return value
        return _damage_list(random, value, at)
    if isinstance(value, str) and random.randrange(2):
        return respell_base64(random, value) if random.randrange(3) else _damage_text(random, value)
    if type(value) in (int, float) and abs(value) < 1e300 and random.randrange(2):
        return random.choice(
            (value + 1, value - 1, -value, float(value), str(value), Raw(f"{value}e0"), Raw(f"{value}.0"))
        )
    kind = random.randrange(8)
    if kind == 0:
        return [value]
    if kind == 1:
        return Members([("a", value)])
    odd = random.choice(_ODD)
    return Members(odd.items()) if isinstance(odd, dict) else list(odd) if isinstance(odd, list) else odd


def _damage_list(random: Random, value: list[Any], at: int) -> list[Any]:
    kind = random.randrange(5)
    if kind == 0:
        value.pop(at)
    elif kind == 1:
        value.insert(random.randrange(len(value) + 1), value[at])
    elif kind == 2:
        other = random.randrange(len(value))
        value[at], value[other] = value[other], value[at]
    elif isinstance(value, Members):
        name, member = value[at]
        other_name, other = random.choice(value)
        new = random.choice((other_name, f"{name}x", name.upper(), name.title(), ""))
        if kind == 3:
            value[at] = (new, member)
        else:
            value.append((name, other))
    elif kind == 3:
        # Once is enough: what is repeated 300 times in what is repeated 300 times would fill the memory.
        value.extend(value[at : at + 1] * (random.choice((1, 3, 70, 300)) if len(value) < 32 else 1))
    else:
        value[at] = random.choice(_ODD) if isinstance(value[at], int) else value[at - 1]
    return value


def _damage_text(random: Random, value: str) -> str:
    at = random.randrange(len(value) + 1)
    kind = random.randrange(5)
    if kind == 0:
        return value[:at]
    if kind == 1:
        return (
            value[:at]
            + random.choice(("\0", "\n", " ", "é", "\u200b", "\U0001f600", "/", "@", "#", ":", "\\"))
            + value[at:]
        )
    if kind == 2:
        return value + value
    if kind == 3:
        return value.upper()
    return value[:at] + chr(random.randrange(32, 127)) + value[at + 1 :]


def _spell(random: Random, value: Any, *, odd: bool) -> str:
    """JSON text. ``odd``: with blanks, and letters as escapes, where a writer would have none."""
    blank = random.choice(("", " ", "\n\t")) if odd else ""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Members):
        inner = (
            f"{blank}{_spell(random, str(name), odd=odd)}{blank}:{_spell(random, each, odd=odd)}"
            for name, each in value
        )
        return "{" + ",".join(inner) + blank + "}"
    if isinstance(value, dict):
        return _spell(random, Members(value.items()), odd=odd)
    if isinstance(value, list):
        return "[" + f",{blank}".join(_spell(random, each, odd=odd) for each in value) + "]"
    if isinstance(value, str) and value and odd:
        at = random.randrange(len(value))
        if ord(value[at]) < 65536:
            return f"{json.dumps(value[:at])[:-1]}\\u{ord(value[at]):04x}{json.dumps(value[at + 1 :])[1:]}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=random.randrange(2) == 0)
    try:
        return json.dumps(value)
    except ValueError:  # an integer with more digits than Python spells
        return "1"
