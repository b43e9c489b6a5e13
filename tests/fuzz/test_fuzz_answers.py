"""What a sidecar, or whatever is in its place, answers to a client; and what an idempotency store gives back."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from multidict import CIMultiDict, CIMultiDictProxy

from frost_sidecar import answers
from frost_sidecar.connection import Reply
from frost_sidecar.contract import Readiness
from frost_sidecar.errors import ConfigError, FrostSidecarError, Overloaded, PluginError, UnexpectedAnswer
from frost_sidecar.idempotency.answer import decode_answer, encode_answer
from frost_sidecar.jose import jwk_set, okp_jwk, thumbprint
from frost_sidecar.model import REQUEST_ID, BatchItem, Signed
from frost_sidecar.problem import TYPE_BASE, Problem
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_json
from tests.fuzz.test_fuzz_encoding import spellings

MESSAGE: Final = b"header.payload"
ITEM: Final = BatchItem(MESSAGE, "default", (1, 2, 3))


@cache
def signer() -> Ed25519PrivateKey:
    """Stands for the group: a signature of a group is an ordinary one."""
    return Ed25519PrivateKey.generate()


def public() -> bytes:
    """Its public key."""
    return signer().public_key().public_bytes_raw()


def sign_answer(**more: Any) -> dict[str, Any]:
    """An answer of ``POST /sign`` whose signature verifies."""
    return {
        "signature_b64": base64.b64encode(signer().sign(MESSAGE)).decode(),
        "group_public_b64": base64.b64encode(public()).decode(),
        "participants": [1, 3],
        "key": "default",
        "request_id": secrets.token_hex(16),
        **more,
    }


def _problem(slug: str, status: int) -> bytes:
    body = Problem(TYPE_BASE + slug, "Title", status, "detail", "r-1", "failed").encode()
    return f"{status} application/problem+json 7\n".encode() + body


def _problems() -> list[bytes]:
    return [_problem("overloaded", 503), _problem("denied", 403), _problem("of-tomorrow", 418), b"502 text/html -\n<p>"]


def _good(value: object, kind: str = "application/json") -> bytes:
    return f"200 {kind} -\n".encode() + json.dumps(value).encode()


def _sign_seeds() -> list[bytes]:
    return [_good(sign_answer()), *_problems()]


def _batch_seeds() -> list[bytes]:
    refused = {"type": TYPE_BASE + "no-quorum", "title": "t", "status": 503, "detail": "d", "outcome": "failed"}
    return [_good([sign_answer(outcome="signed"), refused]), _good([refused, refused]), *_problems()]


def _keys_seeds() -> list[bytes]:
    key = {
        "group_public_b64": base64.b64encode(public()).decode(),
        "kid": thumbprint(public()),
        "min_signers": 2,
        "max_signers": 3,
    }
    return [_good({"default_key": "default", "keys": {"default": key, "other": key}}), *_problems()]


def _jwks_seeds() -> list[bytes]:
    return [
        _good(jwk_set([public()]), "application/jwk-set+json"),
        _good({"keys": [{"kty": "RSA"}, okp_jwk(public())]}),
    ]


def _ready_seeds() -> list[bytes]:
    state: dict[str, Any] = {
        "ready": True,
        "reasons": ["signer 2: cooling"],
        "keys": {
            "default": {
                "min_signers": 2,
                "usable": [1, 3],
                "zones": {"a": 1, "b": 1},
                "quorum": True,
                "survives_zone_loss": False,
            }
        },
        "signers": [
            {
                "identifier": 1,
                "name": "signer-1",
                "zone": "a",
                "state": "healthy",
                "reachable": True,
                "keys": ["default"],
                "commitments_in_stock": 0,
            }
        ],
        "audit": {"audit_worm": {"required": True, "writable": True, "backlog": 0, "detail": None}},
        "certificates": {"tls.cert": {"expires": "2030-01-01T00:00:00Z", "seconds_left": 1}},
    }
    unready = _good({**state, "ready": False}).replace(b"200 ", b"503 ", 1)
    return [_good(state), unready, *_problems()]


def _damage(random: Random, seeds: Sequence[bytes]) -> bytes:
    head, _, body = random.choice(seeds).partition(b"\n")
    if random.randrange(8) == 0:
        head = damage_bytes(random, [head])
    damage = damage_json if random.randrange(5) else damage_bytes
    return head.replace(b"\n", b"") + b"\n" + damage(random, [body])


def _reply(data: bytes) -> Reply:
    """Status, content type and ``Retry-After`` in the first line, as aiohttp hands them on."""
    head, _, body = data.partition(b"\n")
    status, kind, after, *_ = [*head.decode("utf-8", "surrogateescape").split(" "), "", "", ""]
    headers = CIMultiDictProxy(CIMultiDict({"Idempotency-Replayed": "true"} if after == "7" else {}))
    number = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else 200
    seconds = float(after) if after.isascii() and after.isdigit() and len(after) < 7 else None
    return Reply(number, kind, body, headers, seconds)


def _reader(read: Callable[[Reply], Any]) -> Callable[[bytes], Any]:
    """``read``, whose errors are those that a caller of the clients may get."""

    def decode(data: bytes) -> Any:
        try:
            return read(_reply(data))
        except (ConfigError, PluginError) as error:
            raise AssertionError(f"{type(error).__name__} is not for callers") from error

    return decode


def _check_signed(signed: Signed) -> None:
    Ed25519PublicKey.from_public_bytes(signed.group_public).verify(signed.signature, MESSAGE)
    assert signed.key == "default"
    assert set(signed.participants) <= {1, 2, 3}
    assert list(signed.participants) == sorted(set(signed.participants)) != []
    assert REQUEST_ID.match(signed.request_id)


def _sign_read(data: bytes, signed: Signed) -> None:
    _check_signed(signed)
    given = json.loads(data.partition(b"\n")[2])
    assert given["signature_b64"].rstrip("=").replace("-", "+").replace("_", "/") == (
        base64.b64encode(signed.signature).decode().rstrip("=")
    )
    assert given["request_id"] == signed.request_id


def _batch_read(data: bytes, outcomes: list[Signed | FrostSidecarError]) -> None:
    given = json.loads(data.partition(b"\n")[2])
    assert len(outcomes) == len(given) == 2
    for asked, each in zip(given, outcomes, strict=True):
        if isinstance(each, Signed):
            assert asked["outcome"] == "signed"
            _check_signed(each)
        else:
            assert not isinstance(each, ConfigError | PluginError)
            assert isinstance(each, UnexpectedAnswer) or asked["type"] == TYPE_BASE + each.slug


def _key_read(data: bytes, key: bytes) -> None:
    given = json.loads(data.partition(b"\n")[2])
    named = given["keys"][given["default_key"]]
    assert len(key) == 32
    assert named["kid"] == thumbprint(key)


def _jwks_read(data: bytes, read: dict[str, Any]) -> None:
    assert json.loads(data.partition(b"\n")[2])["keys"] == read["keys"]
    for each in read["keys"]:
        if each.get("crv") == "Ed25519" and each.get("kty") == "OKP":
            assert len(base64.urlsafe_b64decode(each["x"] + "=")) == 32


def _ready_read(data: bytes, read: Readiness) -> None:
    status = _reply(data).status
    assert read.ready is (status == 200)
    assert json.loads(data.partition(b"\n")[2])["ready"] is read.ready


def _stored_seeds() -> list[bytes]:
    signed = Signed(secrets.token_bytes(64), secrets.token_bytes(32), (1, 3), "default", "r-1")
    return [encode_answer(signed), encode_answer(Signed(bytes(64), bytes(32), tuple(range(1, 200)), "a", "b"))]


def _stored_read(data: bytes, signed: Signed) -> None:
    assert signed.replayed
    assert decode_answer(encode_answer(signed)) == signed
    given = json.loads(data)
    assert given["signature"] in spellings(signed.signature)
    assert given["group_public"] in spellings(signed.group_public)
    assert (len(signed.signature), len(signed.group_public)) == (64, 32)
    assert list(signed.participants) == sorted(set(signed.participants)) == given["participants"] != []


def _client(
    name: str, seeds: Callable[[], list[bytes]], read: Callable[[Reply], Any], oracle: Callable[[bytes, Any], None]
) -> Target:
    return Target(f"client, {name}", seeds, _reader(read), (FrostSidecarError,), oracle, mutate=_damage)


def test_an_error_of_a_sidecar_is_the_same_class_here() -> None:
    with pytest.raises(Overloaded, match="detail") as caught:
        answers.signed(_reply(_problem("overloaded", 503)), item=ITEM)
    assert caught.value.retry_after == 7


TARGETS: Final = [
    _client("signature", _sign_seeds, lambda reply: answers.signed(reply, item=ITEM), _sign_read),
    _client("batch", _batch_seeds, lambda reply: answers.outcomes(reply, items=[ITEM, ITEM]), _batch_read),
    _client("public key", _keys_seeds, lambda reply: answers.public_key(reply, key=None), _key_read),
    _client("JWK set", _jwks_seeds, answers.jwk_set, _jwks_read),
    _client("readiness", _ready_seeds, answers.readiness, _ready_read),
    Target("stored answer", _stored_seeds, decode_answer, (ValueError,), _stored_read),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
