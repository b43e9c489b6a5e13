"""Request bodies and headers as the sidecar decodes them, before anything is asked of a signer."""

from __future__ import annotations

import base64
import json
import re
import secrets
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import pytest
from multidict import CIMultiDict

from frost_sidecar import routes
from frost_sidecar.arguments import Call, check_call
from frost_sidecar.channel import bearer
from frost_sidecar.client import _body
from frost_sidecar.contract import BatchBody, SignBody
from frost_sidecar.encoding import decode_json
from frost_sidecar.errors import MalformedRequest
from frost_sidecar.idempotency.fingerprint import request_fingerprint
from frost_sidecar.jose import claims_payload
from frost_sidecar.listener import Exchange
from frost_sidecar.model import REQUEST_ID, BatchItem, SignRequest
from tests.fuzz.budget import explore
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_text


def sign_seeds() -> list[bytes]:
    """Bodies of ``POST /sign``."""
    message = base64.b64encode(secrets.token_bytes(50)).decode()
    bodies: list[dict[str, Any]] = [
        {"msg_b64": message},
        {"msg_b64": "", "key": "default"},
        {"msg_b64": message, "participants": [1, 3], "key": "default"},
        {"msg_b64": message, "participants": [1, 2], "signer_urls": ["https://a.test:1", "https://b.test:2"]},
        {"msg_b64": message, "participants": None, "signer_urls": None, "key": None},
    ]
    return [json.dumps(each).encode() for each in bodies]


def batch_seeds() -> list[bytes]:
    """Bodies of ``POST /sign/batch``."""
    bodies = sign_seeds()
    return [b"[" + each + b"]" for each in bodies] + [b"[" + b",".join(bodies) + b"]"]


def _sign(data: bytes) -> BatchItem:
    return routes._item(routes._decode(data, SignBody, "a sign request"))


def _batch(data: bytes) -> list[BatchItem]:
    return [routes._item(each) for each in routes._decode(data, BatchBody, "a list of sign requests")]


def _same_item(given: dict[str, Any], item: BatchItem) -> None:
    """Python's own reader finds the same request in the body, and nothing that was ignored."""
    assert given.keys() <= {"msg_b64", "participants", "signer_urls", "key"}
    text = given["msg_b64"].replace("-", "+").replace("_", "/").rstrip("=")
    assert base64.b64decode(text + "=" * (-len(text) % 4), validate=True) == item.message
    assert base64.b64encode(item.message).decode().rstrip("=") == text
    participants, urls = given.get("participants"), given.get("signer_urls")
    assert item.participants == (None if participants is None else tuple(participants))
    assert all(type(each) is int and 1 <= each <= 65535 for each in item.participants or ())
    assert item.signer_urls == (None if urls is None else tuple(urls))
    assert item.key == given.get("key")


def _sign_read(data: bytes, item: BatchItem) -> None:
    _same_item(json.loads(data), item)
    again = _sign(msgspec.json.encode(_body(item)))
    assert again == item
    assert _fingerprint(again) == _fingerprint(item)


def _fingerprint(item: BatchItem) -> bytes:
    return request_fingerprint(
        SignRequest(item.message, "r", 0.0, key=item.key, participants=item.participants, signer_urls=item.signer_urls)
    )


def _batch_read(data: bytes, items: list[BatchItem]) -> None:
    for given, item in zip(json.loads(data), items, strict=True):
        _same_item(given, item)
    assert _batch(msgspec.json.encode([_body(item) for item in items])) == items


def header_seeds() -> list[bytes]:
    """Headers of a request, a line each."""
    return [
        f"X-Request-ID={secrets.token_hex(16)}\nX-Request-Timeout-Ms=2500\nIdempotency-Key={secrets.token_hex(8)}\n"
        f"traceparent=00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01\nAuthorization=Bearer abc.def.ghi".encode(),
        b"X-Request-Timeout-Ms=1\nIdempotency-Key=!~\ntraceparent=cc-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00",
    ]


def _headers(data: bytes) -> tuple[CIMultiDict[str], Call, str | None]:
    """What the lines are as headers; aiohttp hands on header values as text with surrogates for other bytes."""
    pairs = [line.partition(b"=")[::2] for line in data.split(b"\n")]
    headers = CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape")) for name, value in pairs if name
    )
    request = cast("Any", SimpleNamespace(headers=headers))  # nothing but its headers is looked at
    exchange = Exchange(request, "request-1", cast("Any", None), cast("Any", None))
    return headers, routes._call(exchange), bearer(request)


def _headers_read(_data: bytes, value: tuple[CIMultiDict[str], Call, str | None]) -> None:
    headers, call, token = value
    assert check_call(call.timeout, call.idempotency_key, call.request_id, call.traceparent) == call
    if call.timeout is not None:
        assert 0.001 <= call.timeout < 10_000
        assert str(round(call.timeout * 1000)) == headers["X-Request-Timeout-Ms"]
    else:
        assert "X-Request-Timeout-Ms" not in headers
    assert (call.idempotency_key is None) is ("Idempotency-Key" not in headers)
    if call.idempotency_key is not None:
        assert call.idempotency_key.isascii()
        assert call.idempotency_key.isprintable()
        assert headers.getall("Idempotency-Key") == [call.idempotency_key]
    if call.traceparent is not None:
        version, trace, parent, flags = call.traceparent.split("-")
        assert (len(version), len(trace), len(parent), len(flags)) == (2, 32, 16, 2)
        assert version != "ff"
        assert int(trace, 16)
        assert int(parent, 16)
    if token is not None:
        assert headers["Authorization"].split()[1:] == [token]
        assert token.isascii()
    given = headers.get("X-Request-ID", "")
    if REQUEST_ID.match(given):
        assert re.fullmatch(r"[\x21-\x7e]{1,128}", given)


def _claims_seeds() -> list[bytes]:
    return [
        json.dumps(
            {"iss": "mint", "sub": "a", "aud": ["x", "y"], "exp": 2_000_000_000, "jti": "1", "cnf": {"a": [1.5, None]}}
        ).encode(),
        b'{"aud": "x", "nbf": 1, "iat": 0}',
    ]


def _claims(data: bytes) -> tuple[Any, bytes]:
    """Claims that came to a mint as JSON, whatever its own reader made of them."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedRequest("no JSON") from None
    return value, claims_payload(value)


def _claims_read(_data: bytes, value: tuple[Any, bytes]) -> None:
    given, payload = value
    assert decode_json(payload, dict[str, Any]) == given


TARGETS: Final = [
    Target("sign body", sign_seeds, _sign, (MalformedRequest,), _sign_read),
    Target("batch body", batch_seeds, _batch, (MalformedRequest,), _batch_read),
    Target("request headers", header_seeds, _headers, (MalformedRequest,), _headers_read, mutate=damage_text),
    Target("claims to sign", _claims_seeds, _claims, (MalformedRequest,), _claims_read),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
