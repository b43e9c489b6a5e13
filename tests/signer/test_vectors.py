"""docs/signer-protocol-vectors.json is what this implementation reads and writes, and it signs what RFC 9591 says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from frost_ed25519 import SigningPackage, VerifyingKey, aggregate, verify_signature_share
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

DOCS = Path(__file__).parents[2] / "docs"
REQUESTS: dict[str, Any] = {COMMITMENTS_PATH: CommitmentsRequest, SHARES_PATH: SharesRequest}
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
    assert claims.body_sha256 == body_digest(vectors["exchanges"][2]["request"].encode())
    assert slug_of(vectors["problem"].encode()) == "stale-epoch"
    assert msgspec.json.decode(vectors["problem"], type=Problem).encode().decode() == vectors["problem"]


def test_the_commitment_comes_back_in_the_session(vectors: dict[str, Any]) -> None:
    stock = _read(vectors, "commitments", "answer")
    request = _read(vectors, "shares", "request")
    assert request.sessions[0].commitments["1"] == stock.commitments[0]
    assert request.epoch == stock.epoch == _read(vectors, "info", "answer").epoch


def test_the_shares_verify_and_make_the_signature_of_the_rfc(vectors: dict[str, Any]) -> None:
    group = vectors["group"]
    key = VerifyingKey.deserialize(b64decode(group["group_public"]))
    verifying = {int(name): VerifyingShare.deserialize(b64decode(v)) for name, v in group["verifying_shares"].items()}
    assert _read(vectors, "info", "answer").keys["default"].verifying_share == group["verifying_shares"]["1"]

    session = _read(vectors, "shares", "request").sessions[0]
    package = SigningPackage(
        {
            parse_identifier(name): SigningCommitments(b64decode(each.hiding), b64decode(each.binding))
            for name, each in session.commitments.items()
        },
        b64decode(session.msg),
    )
    shares = {
        1: SignatureShare.deserialize(b64decode(_read(vectors, "shares", "answer").results[0].share)),
        3: SignatureShare.deserialize(b64decode(vectors["other_share"]["share"])),
    }
    for identifier, share in shares.items():
        verify_signature_share(identifier, verifying[identifier], share, package, key)
    signature = aggregate(package, shares, PublicKeyPackage(verifying, key, group["min_signers"]))
    assert b64encode(signature.serialize()) == vectors["signature"]
    key.verify(b"test", signature)


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
    for cap in (wire.MAX_COMMITMENTS, wire.MAX_SESSIONS, wire.MAX_PARTICIPANTS, wire.MAX_BODY_BYTES):
        assert str(cap) in page
