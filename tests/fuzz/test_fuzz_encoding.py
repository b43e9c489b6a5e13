"""Base64, JSON and small texts, against independent readers of the same."""

from __future__ import annotations

import base64
import json
import math
import secrets
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from yarl import URL

from frost_sidecar.addressing import AllowedUrls, parse_address, parse_url
from frost_sidecar.encoding import b64decode, decode_base64url, decode_json
from frost_sidecar.errors import ConfigError
from frost_sidecar.problem import TYPE_BASE, Problem, slug_of
from frost_sidecar.wire import parse_identifier
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target, same

ALLOWED: Final = AllowedUrls(
    ["https://*.frost-signer.frost.svc:7000", "https://s-{identifier}.frost.svc", "https://*.signers.test:7443"],
    path="signer_urls_allow",
)


def text_of(data: bytes) -> str:
    """Any bytes as text, one text for one sequence of bytes."""
    return data.decode("utf-8", "surrogateescape")


def spellings(data: bytes) -> set[str]:
    """All texts that are base64 of ``data`` here, as the standard library writes them."""
    standard, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    return {standard, url, standard.rstrip("="), url.rstrip("=")}


def _base64_seeds() -> list[bytes]:
    return [each.encode() for size in (0, 1, 2, 3, 32, 64, 65) for each in spellings(secrets.token_bytes(size))]


def _base64_read(data: bytes, value: bytes) -> None:
    assert text_of(data) in spellings(value)


def _base64_refused(data: bytes) -> None:
    lenient = base64.urlsafe_b64decode(data.replace(b"+", b"-").replace(b"/", b"_") + b"===")
    assert text_of(data) not in spellings(lenient)


def _base64url_read(data: bytes, value: bytes) -> None:
    assert base64.urlsafe_b64encode(value).rstrip(b"=") == data


def _lenient(data: bytes) -> None:
    try:
        _base64_refused(data)
    except ValueError:  # not even the standard library reads it
        return


def _lenient_url(data: bytes) -> None:
    try:
        value = base64.urlsafe_b64decode(data + b"===")
    except ValueError:
        return
    assert base64.urlsafe_b64encode(value).rstrip(b"=") != data


def json_seeds() -> list[bytes]:
    """JSON of every shape."""
    values: list[Any] = [
        {"a": 1, "b": [1.5, -0.0, 1e300, True, None, "x", {"c": {"d": []}}]},
        {"name": secrets.token_hex(8), "é\u2028": "\U0001f600", "": 2**53, "n": -(2**63)},
        [[1, [2, [3, {"k": "v"}]]], 12345678901234567890],
        {str(index): index for index in range(40)},
        "text",
        3.14159,
    ]
    return [json.dumps(each, ensure_ascii=index % 2 == 0).encode() for index, each in enumerate(values)]


class _Twice(Exception):
    """A member stands twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Twice
    return dict(pairs)


def _is_strict(value: object) -> bool:
    """Whether a value that Python read could have been read by everybody."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return not any("\ud800" <= each <= "\udfff" for each in value)
    if isinstance(value, dict):
        return all(_is_strict(name) and _is_strict(each) for name, each in value.items())
    return all(map(_is_strict, value)) if isinstance(value, list) else True


def _json_read(data: bytes, value: object) -> None:
    assert same(value, json.loads(data.decode("utf-8"), object_pairs_hook=_once))
    assert _is_strict(value)
    assert same(decode_json(json.dumps(value).encode(), object), value)


def _json_refused(data: bytes) -> None:
    """What Python reads, too, and reads as everybody would, is not to be refused."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError, _Twice):
        return
    assert not _is_strict(value)


def _problem_seeds() -> list[bytes]:
    return [
        Problem(TYPE_BASE + "stale-epoch", "Conflict", 409, "another epoch", "r1", "failed").encode(),
        Problem("about:blank", "Nothing", 500, "of ours").encode(),
    ]


def _slug_read(data: bytes, slug: str | None) -> None:
    if slug is not None:
        assert json.loads(data.decode("utf-8", "replace"))["type"] == TYPE_BASE + slug


def _address_read(data: bytes, value: tuple[str, int]) -> None:
    host, port = value
    assert 0 <= port <= 65535
    assert host
    assert text_of(data).startswith(("[" + host, host))


def _url_read(data: bytes, value: tuple[str, int] | None) -> None:
    """Whoever connects must get to the host that was looked at."""
    if value is None:
        return
    text = text_of(data)
    yarl, split = URL(text, encoded=True), urlsplit(text)
    assert (yarl.scheme, yarl.port) == ("https", value[1])
    assert (yarl.raw_host or "").lower() == value[0]
    assert (yarl.user, yarl.password, yarl.query_string, yarl.fragment) == (None, None, "", "")
    assert yarl.raw_path in ("", "/")
    assert (split.hostname, split.port or 443, split.username) == (*value, None)


def _allowed_read(data: bytes, host: str | None) -> None:
    if host is None:
        return
    text = text_of(data)
    assert urlsplit(text).hostname == (URL(text, encoded=True).raw_host or "").lower() == host
    assert host.endswith((".frost.svc", ".signers.test"))
    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def _url_seeds() -> list[bytes]:
    return [
        b"https://a.frost-signer.frost.svc:7000",
        b"https://s-3.frost.svc/",
        b"https://one.signers.test:7443",
        b"https://[::1]:7000",
        b"https://127.0.0.1:443/",
        b"https://user@a.signers.test:7443",
    ]


def _identifier_read(data: bytes, value: int) -> None:
    assert str(value).encode() == data
    assert 1 <= value <= 65535


TARGETS: Final = [
    Target(
        "base64",
        _base64_seeds,
        lambda data: b64decode(text_of(data)),
        (ValueError,),
        _base64_read,
        _lenient,
        mutate=damage_bytes,
    ),
    Target(
        "base64url", _base64_seeds, decode_base64url, (ValueError,), _base64url_read, _lenient_url, mutate=damage_bytes
    ),
    Target("json", json_seeds, lambda data: decode_json(data, object), (ValueError,), _json_read, _json_refused),
    Target("problem document", _problem_seeds, slug_of, (), _slug_read, took=lambda slug: slug is not None),
    Target(
        "participant identifier",
        lambda: [b"1", b"65535", b"250"],
        lambda data: parse_identifier(text_of(data)),
        (ValueError,),
        _identifier_read,
        mutate=damage_bytes,
    ),
    Target(
        "listener address",
        lambda: [b"0.0.0.0:7100", b"[::1]:0", b"localhost:65535"],
        lambda data: parse_address(text_of(data), path="server.bind"),
        (ConfigError,),
        _address_read,
        mutate=damage_bytes,
    ),
    Target(
        "signer URL",
        _url_seeds,
        lambda data: parse_url(text_of(data)),
        (),
        _url_read,
        mutate=damage_bytes,
        took=lambda value: value is not None,
    ),
    Target(
        "allowed signer URL",
        _url_seeds,
        lambda data: (ALLOWED.host(text_of(data), 3) or (None,))[0],
        (),
        _allowed_read,
        mutate=damage_bytes,
        took=lambda value: value is not None,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
