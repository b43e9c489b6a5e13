"""docs/signer-protocol-vectors.json is what this implementation reads and writes, and it signs what RFC 9591 says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from frost_ed25519 import SigningKey, SigningPackage, VerifyingKey, aggregate, verify_signature_share
from frost_ed25519.keys import PublicKeyPackage, VerifyingShare
from frost_ed25519.round1 import SigningCommitments
from frost_ed25519.round2 import SignatureShare

from frost_sidecar.encoding import b64decode, b64encode, decode_json
from frost_sidecar.model import TokenClaims
from frost_sidecar.problem import Problem, slug_of
from frost_sidecar.wire import (
    COMMITMENTS_PATH,
    INFO_PATH,
    SHARES_PATH,
    CommitmentsAnswer,
    CommitmentsRequest,
    InfoAnswer,
    SharesAnswer,
    SharesRequest,
    body_digest,
    parse_identifier,
)

if TYPE_CHECKING:
    from tests.signer.conftest import Rig

DOCS = Path(__file__).parents[2] / "docs"
REQUESTS: dict[str, Any] = {COMMITMENTS_PATH: CommitmentsRequest, SHARES_PATH: SharesRequest}
ORDER = 2**252 + 27742317777372353535851937790883648493
ANSWERS: dict[str, Any] = {COMMITMENTS_PATH: CommitmentsAnswer, SHARES_PATH: SharesAnswer, INFO_PATH: InfoAnswer}


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCS / "signer-protocol-vectors.json").read_text("utf-8"))
    return loaded


def _read(vectors: dict[str, Any], name: str, part: str) -> Any:
    [exchange] = [each for each in vectors["exchanges"] if each["name"] == name]
    kinds = REQUESTS if part == "request" else ANSWERS
    return decode_json(exchange[part].encode(), kinds[exchange["path"]])


def test_every_message_is_read_and_written_byte_for_byte(vectors: dict[str, Any]) -> None:
    for exchange in vectors["exchanges"]:
        path = exchange["path"]
        answer = exchange["answer"].encode()
        assert msgspec.json.encode(decode_json(answer, ANSWERS[path])) == answer
        request = exchange["request"].encode()
        if path == INFO_PATH:
            assert request == b""
        else:
            assert msgspec.json.encode(decode_json(request, REQUESTS[path])) == request
        assert body_digest(request) == exchange["body_sha256"]


def test_the_token_and_the_problem_are_read(vectors: dict[str, Any]) -> None:
    claims = msgspec.convert(vectors["token_claims"], TokenClaims)
    [shares] = [each for each in vectors["exchanges"] if each["name"] == "shares"]
    assert claims.body_sha256 == shares["body_sha256"]
    assert slug_of(vectors["problem"].encode()) == "stale-epoch"
    assert msgspec.json.decode(vectors["problem"], type=Problem).encode().decode() == vectors["problem"]


def test_the_commitments_come_back_in_the_sessions(vectors: dict[str, Any]) -> None:
    stock = _read(vectors, "commitments", "answer")
    more = _read(vectors, "three commitments", "answer")
    [first] = _read(vectors, "shares", "request").sessions
    two = _read(vectors, "two sessions", "request").sessions
    assert [each.commitments["1"] for each in (first, *two)] == [stock.commitments[0], *more.commitments[:2]]
    epochs = {_read(vectors, name, "request").epoch for name in ("shares", "two sessions", "errors")}
    assert epochs == {stock.epoch} == {more.epoch} == {_read(vectors, "info", "answer").epoch}


def test_the_sessions_are_of_every_kind_that_has_gone_wrong_elsewhere(vectors: dict[str, Any]) -> None:
    wide, empty = _read(vectors, "two sessions", "request").sessions
    names = list(wide.commitments)
    assert len({tuple(names), tuple(sorted(names)), tuple(sorted(names, key=int))}) == 3
    assert any(int(name) > 255 for name in names)
    assert set(b64encode(b64decode(wide.msg))) > {"+"}
    assert empty.msg == ""


def test_the_commitments_follow_from_the_randomness(vectors: dict[str, Any]) -> None:
    share = b64decode(vectors["signer"]["signing_share"])
    assert b64encode(_times_base(share)) == vectors["group"]["verifying_shares"]["1"]
    drawn = 0
    for exchange in vectors["exchanges"]:
        fresh = getattr(_read(vectors, exchange["name"], "answer"), "commitments", [])
        for commitment, randomness in zip(fresh, exchange.get("randomness", []), strict=True):
            drawn += 1
            for part in ("hiding", "binding"):
                seed = b"FROST-ED25519-SHA512-v1nonce" + b64decode(randomness[part]) + share
                nonce = int.from_bytes(hashlib.sha512(seed).digest(), "little") % ORDER
                assert b64encode(_times_base(nonce.to_bytes(32, "little"))) == getattr(commitment, part)
    assert drawn == 5


def _times_base(scalar: bytes) -> bytes:
    return SigningKey.deserialize(scalar).verifying_key.serialize()


@pytest.mark.parametrize(
    ("exchange", "index", "message"),
    [("shares", 0, b"test"), ("two sessions", 0, b"\xfb\xff not text"), ("two sessions", 1, b"")],
)
def test_the_shares_verify_and_make_the_signatures(
    vectors: dict[str, Any], exchange: str, index: int, message: bytes
) -> None:
    group = vectors["group"]
    key = VerifyingKey.deserialize(b64decode(group["group_public"]))
    verifying = {int(name): VerifyingShare.deserialize(b64decode(v)) for name, v in group["verifying_shares"].items()}
    assert _read(vectors, "info", "answer").keys["default"].verifying_share == group["verifying_shares"]["1"]

    session = _read(vectors, exchange, "request").sessions[index]
    result = _read(vectors, exchange, "answer").results[index]
    assert (b64decode(session.msg), result.session) == (message, session.session)
    package = SigningPackage(
        {
            parse_identifier(name): SigningCommitments(b64decode(each.hiding), b64decode(each.binding))
            for name, each in session.commitments.items()
        },
        message,
    )
    end = vectors["sessions"][session.session]
    texts = {"1": result.share, **end["other_shares"]}
    assert texts.keys() == session.commitments.keys()
    shares = {int(name): SignatureShare.deserialize(b64decode(text)) for name, text in texts.items()}
    for identifier, share in shares.items():
        verify_signature_share(identifier, verifying[identifier], share, package, key)
    signature = aggregate(package, shares, PublicKeyPackage(verifying, key, group["min_signers"]))
    assert b64encode(signature.serialize()) == end["signature"]
    key.verify(message, signature)


async def test_the_signer_answers_the_errors_byte_for_byte(vectors: dict[str, Any], rig: Rig) -> None:
    [exchange] = [each for each in vectors["exchanges"] if each["name"] == "errors"]
    service = rig.service()
    service.node.nonces.epoch = _read(vectors, "errors", "request").epoch
    reply = await rig.call(service, exchange["path"], exchange["request"].encode())
    assert (reply.status, reply.body.decode()) == (200, exchange["answer"])


def test_the_page_names_every_member_error_and_cap() -> None:
    from frost_sidecar import wire
    from frost_sidecar.signer.service import STATUSES

    page = (DOCS / "signer-protocol.md").read_text("utf-8")
    structs = [each for each in vars(wire).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    words = {name for struct in structs for name in getattr(struct, "__struct_fields__", ())}
    words |= set(TokenClaims.__struct_fields__)
    words |= {error.slug for error in STATUSES} | {"stale-epoch", "too-many-clients", "overloaded", "shutting-down"}
    words |= set(wire.SessionError.__args__)  # type: ignore[attr-defined]
    assert {word for word in words if f"`{word}`" not in page} == set()
    for cap in (wire.MAX_COMMITMENTS, wire.MAX_SESSIONS, wire.MAX_PARTICIPANTS, wire.MAX_LISTED, wire.MAX_BODY_BYTES):
        assert str(cap) in page
