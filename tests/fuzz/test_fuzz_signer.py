"""The signer protocol from both ends: requests as a signer takes them, answers as the coordinator reads them."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, Final

import frost_ed25519 as frost
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from frost_ed25519 import keys, round1, round2

from frost_sidecar import transport, wire
from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import SignerError
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.metrics import SignerMetrics, new_registry
from frost_sidecar.model import Answer, Credentials, Identity, Signer
from frost_sidecar.problem import TYPE_BASE, Problem
from frost_sidecar.signer import NodeConfig, NonceStore, SignerNode, SignerService
from frost_sidecar.signer.access import Gate
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target, settle
from tests.fuzz.mutation import damage_json
from tests.fuzz.test_fuzz_binding import dealt

CLIENT: Final = "DNS:coordinator.test"
SIGNER: Final = Signer(1, "signer-1", "https://signer-1.test", "ad-1", "signer-1.test")
LIMIT: Final = 1024 * 1024
_STATUSES: Final = {200, 400, 404, 409}
_moment = [1_000_000.0]
"""The signer's time: each call comes so late that the tokens before it are forgotten, and memory stays small."""


class _Anybody(Authenticator):
    """Gives each call claims that are good: the body is under test."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        claims: dict[str, Any] = json.loads(credentials.token or "")
        return Identity("c", "anybody", {**claims, "jti": str(next(self._numbers))})


@cache
def _service() -> SignerService:
    config = NodeConfig.build(
        {
            "name": SIGNER.name,
            "clients": {"names": [CLIENT]},
            "plugins": {"x": {}},
            "token": {"issuers": ["i"], "max_remembered": 10_000_000},
        }
    )
    metrics = SignerMetrics(new_registry())
    node = SignerNode(SIGNER.name, {"default": dealt()[1][0]}, NonceStore(metrics))
    return SignerService(node, Gate(config, [("x", _Anybody())], metrics, clock=lambda: _moment[0]), metrics)


def _handle(path: str, body: bytes) -> tuple[int, Any]:
    _moment[0] += 1000.0
    now = int(_moment[0])
    claims = {
        "iss": "i",
        "sub": "c",
        "aud": SIGNER.name,
        "iat": now,
        "nbf": now,
        "exp": now + 1,
        "body_sha256": wire.body_digest(body),
    }
    status, answer = settle(_service().handle(path, json.dumps(claims), (CLIENT,), body))
    return status, msgspec.json.decode(answer)


def _refused_in_form(status: int, answer: Any) -> None:
    assert status in _STATUSES, answer
    if status != 200:
        assert answer["type"].startswith(TYPE_BASE)
        assert answer["status"] == status
        assert answer["type"] != TYPE_BASE + "internal"


def _commitments_read(data: bytes, value: tuple[int, Any]) -> None:
    status, answer = value
    _refused_in_form(status, answer)
    if status == 200:
        given = json.loads(data)
        assert given.keys() == {"key", "count"}
        assert len(answer["commitments"]) == given["count"]
        assert type(given["count"]) is int
        assert given["key"] == "default"
        read = msgspec.convert(answer, wire.CommitmentsAnswer)
        assert read.identifier == 1


def _info_read(data: bytes, value: tuple[int, Any]) -> None:
    _refused_in_form(*value)
    assert (value[0] == 200) is (data == b"")


def _shares_seeds() -> list[bytes]:
    """Requests with blanks in them for what is good once: epoch and commitments, filled in at the last moment."""
    mine = {"id": "ID-A", "hiding": "HIDING-A", "binding": "BINDING-A"}
    theirs = {"id": "theirs", "hiding": "HIDING-2", "binding": "BINDING-2"}
    session = {"session": "s1", "msg": b64encode(b"message"), "commitments": {"1": mine, "2": theirs}}
    other = {
        "session": "s2",
        "msg": b64encode(b"other"),
        "commitments": {"1": {each: value.replace("-A", "-B") for each, value in mine.items()}, "2": theirs},
    }
    base: dict[str, Any] = {"key": "default", "epoch": "EPOCH"}
    return [
        json.dumps(each).encode()
        for each in (
            {**base, "sessions": [session]},
            {**base, "sessions": [session, other], "replenish": 2},
            {**base, "sessions": [session, {**other, "commitments": session["commitments"]}]},
        )
    ]


def _shares(data: bytes) -> tuple[int, Any, bytes, list[wire.Commitment], round1.SigningNonces]:
    service = _service()
    fresh = service.node.commitments(f"{CLIENT} c", wire.CommitmentsRequest("default", 2)).commitments
    nonces, theirs = round1.commit(dealt()[1][1])
    filled = data.replace(b"EPOCH", service.node.nonces.epoch.encode())
    for letter, each in zip((b"A", b"B"), fresh, strict=True):
        filled = filled.replace(b"ID-" + letter, each.id.encode())
        filled = filled.replace(b"HIDING-" + letter, each.hiding.encode())
        filled = filled.replace(b"BINDING-" + letter, each.binding.encode())
    filled = filled.replace(b"HIDING-2", b64encode(theirs.hiding).encode())
    filled = filled.replace(b"BINDING-2", b64encode(theirs.binding).encode())
    return *_handle(wire.SHARES_PATH, filled), filled, fresh, nonces


def _shares_read(_data: bytes, value: tuple[int, Any, bytes, list[wire.Commitment], round1.SigningNonces]) -> None:
    """A share is given once for a commitment, and it is the one for exactly the package that was sent."""
    status, answer, filled, fresh, nonces = value
    _refused_in_form(status, answer)
    if status != 200:
        return
    read = msgspec.convert(answer, wire.SharesAnswer)
    given = json.loads(filled)["sessions"]
    assert [each.session for each in read.results] == [each["session"] for each in given]
    assert all((each.share is None) != (each.error is None) for each in read.results)
    signed = [(asked, each.share) for asked, each in zip(given, read.results, strict=True) if each.share is not None]
    used = [asked["commitments"]["1"]["id"] for asked, _ in signed]
    assert len(set(used)) == len(used)
    assert set(used) <= {each.id for each in fresh}
    for asked, share in signed[:1]:
        _check_signature(asked, share or "", nonces)
    again, repeated = _handle(wire.SHARES_PATH, filled)
    assert again == 200
    assert all(each["error"] for each in repeated["results"])


def _check_signature(asked: dict[str, Any], share: str, nonces: round1.SigningNonces) -> None:
    """With participant 2's share it makes a signature, where participant 2 is in the session as it is."""
    _, packages, public = dealt()
    listed = {
        int(name): round1.SigningCommitments(b64decode(each["hiding"]), b64decode(each["binding"]))
        for name, each in asked["commitments"].items()
    }
    if listed.keys() != {1, 2} or listed[2] != nonces.commitments:
        return
    message = b64decode(asked["msg"])
    package = frost.SigningPackage(listed, message)
    shares = {
        1: round2.SignatureShare.deserialize(b64decode(share)),
        2: round2.sign(package, nonces, packages[1]),
    }
    signature = frost.aggregate(package, shares, public).serialize()
    Ed25519PublicKey.from_public_bytes(public.verifying_key.serialize()).verify(signature, message)


def _answer_seeds(kind: str) -> list[bytes]:
    """A status and a body, a line each."""
    point = b64encode(secrets.token_bytes(32))
    commitments = [{"id": f"c{index}", "hiding": point, "binding": point} for index in range(2)]
    common = {"identifier": 1, "epoch": "e1"}
    bodies: dict[str, list[dict[str, Any]]] = {
        "commitments": [{**common, "commitments": commitments, "expires_in": 600.0}],
        "shares": [
            {**common, "results": [{"session": "s1", "share": point}], "commitments": commitments, "expires_in": 1.0},
            {**common, "results": [{"session": "s1", "error": "denied"}], "commitments": [], "expires_in": 0.0},
        ],
        "info": [
            {
                "protocols": [1],
                "name": "signer-1",
                "epoch": "e1",
                "keys": {
                    "default": {"identifier": 1, "min_signers": 2, "group_public": point, "verifying_share": point}
                },
                "more": {"of": ["a", "newer", "version"]},
            }
        ],
    }
    problem = Problem(TYPE_BASE + "stale-epoch", "Conflict", 409, "another epoch").encode()
    return [*(b"200\n" + json.dumps(each).encode() for each in bodies[kind]), b"409\n" + problem]


def damage_answer(random: Random, seeds: Sequence[bytes]) -> bytes:
    """The status seldom, the body mostly."""
    status, _, body = random.choice(seeds).partition(b"\n")
    if random.randrange(10) == 0:
        status = random.choice((b"200", b"201", b"204", b"301", b"400", b"409", b"500", b"0", b"999"))
    damage = damage_json if random.randrange(5) else damage_bytes
    return status + b"\n" + damage(random, [body])


def _decoder(kind: Any) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        status, _, body = data.partition(b"\n")
        return transport._decode(SIGNER, Answer(int(status) if status.isdigit() else 0, body), kind, LIMIT)

    return decode


def _answer_read(data: bytes, value: Any) -> None:
    status, _, body = data.partition(b"\n")
    assert int(status) == 200
    given, read = json.loads(body), msgspec.to_builtins(value)
    for name, member in read.items():
        assert name in {"results", "commitments", "keys"} or type(member)(given[name]) == member
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
    if not isinstance(value, wire.InfoAnswer):
        assert value.identifier == SIGNER.identifier
        assert len(value.commitments) <= wire.MAX_COMMITMENTS
    for each in read.get("commitments", ()):
        assert each in given["commitments"]


def _points_read(data: bytes, value: Any) -> None:
    """What the coordinator does with a commitment next raises nothing that it does not expect."""
    _answer_read(data, value)
    for each in value.commitments:
        try:
            points = round1.SigningCommitments(b64decode(each.hiding), b64decode(each.binding))
        except (ValueError, frost.FrostError):
            continue
        assert keys.VerifyingShare.deserialize(points.hiding)


def _is_answered(value: tuple[int, Any]) -> bool:
    return value[0] == 200


TARGETS: Final = [
    Target(
        "signer, commitments request",
        lambda: [b'{"key":"default","count":1}', b'{"count":3,"key":"default"}'],
        lambda data: _handle(wire.COMMITMENTS_PATH, data),
        (),
        _commitments_read,
        took=_is_answered,
    ),
    Target("signer, shares request", _shares_seeds, _shares, (), _shares_read, took=_is_answered),
    Target(
        "signer, info request",
        lambda: [b"", b"{}"],
        lambda data: _handle(wire.INFO_PATH, data),
        (),
        _info_read,
        took=_is_answered,
    ),
    *(
        Target(
            f"coordinator, {name} answer",
            lambda name=name: _answer_seeds(name),  # type: ignore[misc]
            _decoder(kind),
            (SignerError,),
            read,
            mutate=damage_answer,
        )
        for name, kind, read in (
            ("commitments", wire.CommitmentsAnswer, _points_read),
            ("shares", wire.SharesAnswer, _points_read),
            ("info", wire.InfoAnswer, _answer_read),
        )
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
