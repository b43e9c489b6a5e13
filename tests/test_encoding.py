"""Base64 with one value per spelling, and JSON that no two readers understand differently."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frost_sidecar.encoding import b64decode, b64encode, b64url, decode_base64url, decode_json

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    anything: Any = None


class Tolerant(msgspec.Struct):
    name: str


def _spellings(data: bytes) -> set[str]:
    standard, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    return {standard, url, standard.rstrip("="), url.rstrip("=")}


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xfb\xff")
@example(b"\xff\xef\xbe")
def test_all_four_spellings_are_one_value(data: bytes) -> None:
    assert {b64decode(each) for each in _spellings(data)} == {data}
    assert b64encode(data) == base64.b64encode(data).decode()
    assert decode_base64url(b64url(data).encode()) == data


@given(st.text(alphabet=f"{ALPHABET}+/-_= \n", max_size=12))
def test_what_decodes_is_one_of_the_four_spellings(text: str) -> None:
    try:
        data = b64decode(text)
    except ValueError:
        return
    assert text in _spellings(data)


@given(st.text(max_size=40))
def test_any_other_text_is_a_value_error(text: str) -> None:
    try:
        data = b64decode(text)
    except UnicodeError:
        pytest.fail("a Unicode error, which quotes its input, got out")
    except ValueError:
        return
    assert text in _spellings(data)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("+_==", "mixed"),
        ("-/8=", "mixed"),
        ("Zm9v\n", "outside the alphabet"),
        ("Zm 9v", "outside the alphabet"),
        (" Zm9v", "outside the alphabet"),
        ("Zm9v\0", "outside the alphabet"),
        ("Zm9vé", "outside ASCII"),
        ("\uff3am9v", "outside ASCII"),
        ("\ud800", "outside ASCII"),
        ("Z", "length"),
        ("Zm9vZ", "length"),
        ("Zg=", "length or padding"),
        ("Zg===", "padding"),
        ("Zm8==", "length or padding"),
        ("Zm9v=", "length or padding"),
        ("Zm9v====", "padding"),
        ("=", "length or padding"),
        ("====", "padding"),
        ("Zg==Zg==", "padding in the wrong place"),
        ("Z=g=", "padding in the wrong place"),
        ("Zh==", "trailing bits"),
        ("Zh", "trailing bits"),
        ("Zm9=", "trailing bits"),
        ("_-9", "trailing bits"),
    ],
)
def test_what_is_no_base64_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        b64decode(text)


@pytest.mark.parametrize("data", [b"+A==", b"Zg==", b"+w", b"/w", b"Zh", b"Zg\n", b"\xe9", b"Z", b"Zg\xff"])
def test_jose_knows_only_url_safe_and_unpadded(data: bytes) -> None:
    with pytest.raises(ValueError, match="not base64"):
        decode_base64url(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_value_is_read_as_every_reader_reads_it(value: Any) -> None:
    body = json.dumps(value).encode()
    assert decode_json(body, object) == json.loads(body) == value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"inner": {"number": 1}, "inner": {"number": 2}}', "'inner' stands twice"),
        (b'{"inner": {"number": 1, "number": 1}}', "'number' stands twice"),
        (b'{"inner": {"number": 1, "\\u006eumber": 2}}', "'number' stands twice"),
        (b'{"inner": {"number": 1}, "anything": [[{"a": [{"b": 1, "b": 2}]}]]}', "'b' stands twice"),
        (b'{"inner": {"number": 1}, "anything": {"": 1, "": 1}}', "'' stands twice"),
        (b'{"inner": {"number": "1"}}', r"\$\.inner\.number"),
        (b'{"inner": {"number": 1.5}}', r"\$\.inner\.number"),
        (b'{"inner": {"number": true}}', r"\$\.inner\.number"),
        (b'{"inner": {"number": 1, "more": 2}}', r"unknown field `more` - at `\$\.inner`"),
        (b'{"inner": {"number": 1}, "more": 2}', "unknown field `more`"),
        (b'{"inner": {}}', "missing"),
        (b'{"inner": null}', r"\$\.inner"),
        (b"[]", "object"),
        (b'{"inner": {"number": NaN}}', "malformed"),
        (b'{"inner": {"number": 1}, "anything": NaN}', "malformed"),
        (b'{"inner": {"number": 1}, "anything": Infinity}', "malformed"),
        (b'{"inner": {"number": 1}, "anything": 1e999}', "range"),
        (b'{"inner": {"number": 1}, "anything": ' + b"9" * 5000 + b"}", None),
        (b'{"inner": {"number": 1}, "anything": "\\ud800"}', None),
        (b'{"inner": {"number": 1}, "anything": "\\udc00 and more text"}', None),
        (b'{"inner": {"number": 1}, "anything": "\xff"}', None),
        (b'{"inner": {"number": 1}, "anything": "\xed\xa0\x80"}', None),
        (b'\xef\xbb\xbf{"inner": {"number": 1}}', None),
        ('{"inner": {"number": 1}}'.encode("utf-16"), None),
        ('{"inner": {"number": 1}}'.encode("utf-16-le"), None),
        ('{"inner": {"number": 1}}'.encode("utf-32"), None),
        (b'{"inner": {"number": 1}} {}', "trailing"),
        (b'{"inner": {"number": 1},}', None),
        (b"{'inner': {'number': 1}}", None),
        (b'{"inner": {"number": 01}}', None),
        (b'/**/{"inner": {"number": 1}}', None),
        (b"", None),
        (b"\0", None),
        (b'{"inner": {"number": 1}, "anything": ' + b"[" * 200_000, "deep"),
        (b'{"inner": {"number": 1}, "anything": ' + b'{"a":' * 200_000, "deep"),
    ],
)
def test_ambiguous_or_wrong_json_is_a_value_error(body: bytes, said: str | None) -> None:
    with pytest.raises(ValueError, match=said):
        decode_json(body, Outer)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"name": "a", "later": {"x": 1, "x": 2}}', "'x' stands twice"),
        (b'{"name": "a", "later": ' + b"[" * 200_000, "deep"),
        (b'{"name": "a", "later": NaN}', "malformed"),
        (b'{"name": "a", "later": "\xff"}', None),
        (b'{"name": "a", "later": ' + b"1" * 5000 + b"}", None),
    ],
)
def test_members_that_are_skipped_are_checked_too(body: bytes, said: str | None) -> None:
    assert decode_json(b'{"name": "a", "later": [1]}', Tolerant) == Tolerant("a")
    with pytest.raises(ValueError, match=said):
        decode_json(body, Tolerant)


def test_the_message_does_not_repeat_a_long_name() -> None:
    name = b'"' + b"n" * 10_000 + b'"'
    with pytest.raises(ValueError, match="stands twice") as caught:
        decode_json(b"{" + name + b":1," + name + b":2}", object)
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ue+-.0123456789dDaflsnr\ud800', max_size=60))
@example(b'"\\ud800"')
@example(b'{"\\ud800":1}')
@example(b'"\\ud800\\u0041"')
def test_any_bytes_are_a_value_or_a_value_error(noise: bytes | str) -> None:
    body = noise if isinstance(noise, bytes) else noise.encode("utf-8", "surrogatepass")
    kinds: tuple[type[object], ...] = (object, Outer, dict)
    for kind in kinds:
        try:
            value = decode_json(body, kind)
        except ValueError:
            continue
        assert kind is Outer or value == json.loads(body)
