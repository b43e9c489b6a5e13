"""What a sidecar answered, read strictly and checked: nothing reaches a mint that the sidecar's contract does not say.

A signature is verified here once more, under the group key of the answer: whatever stands between the sidecar and the
mint, a signature that does not verify is an error and never a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from frost_sidecar.connection import Reply
from frost_sidecar.contract import (
    REPLAYED_HEADER,
    KeysAnswer,
    Readiness,
    SignAnswer,
    SignedItem,
    error_of,
    find_public,
    printable,
    status_of,
)
from frost_sidecar.encoding import b64decode, decode_json
from frost_sidecar.errors import FrostSidecarError, Unavailable, UnexpectedAnswer, UnknownKey
from frost_sidecar.jose import thumbprint
from frost_sidecar.model import REQUEST_ID, BatchItem, KeyName, Signed
from frost_sidecar.problem import CONTENT_TYPE, Problem

T = TypeVar("T")

_JSON: Final = "application/json"
_PASSING: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE}
"""Statuses of a proxy before the sidecar that mean "not now"; the sidecar itself sends a problem with them."""
_LAST_IDENTIFIER: Final = 65535
"""RFC 9591 has none; identifiers are 16 bits wide here."""
_SHOWN: Final = 200
"""Characters of a strange answer that go into an error."""


class _Jwks(Struct, frozen=True):
    keys: list[dict[str, Any]]


def signed(reply: Reply, *, item: BatchItem) -> Signed:
    """The answer to ``item`` as ``POST /sign``; raises the sidecar's error, or :class:`UnexpectedAnswer`."""
    replayed = reply.headers.get(REPLAYED_HEADER, "").lower() == "true"
    return _signed(_read(reply, SignAnswer), item, replayed=replayed)


def outcomes(reply: Reply, *, items: Sequence[BatchItem]) -> list[Signed | FrostSidecarError]:
    """The answer to ``items`` as ``POST /sign/batch``; raises as :func:`signed`, for the batch as a whole."""
    given = _read(reply, list[dict[str, Any]])
    if len(given) != len(items):
        raise UnexpectedAnswer(f"the answer has {len(given)} items for {len(items)} messages")
    return [_outcome(each, item) for each, item in zip(given, items, strict=True)]


def public_key(reply: Reply, *, key: str | None) -> bytes:
    """The public key named ``key`` (None: the default one) in the answer of ``GET /keys``.

    Raises:
        UnknownKey: the sidecar has no such key.
        FrostSidecarError: the sidecar's error, or :class:`UnexpectedAnswer`.
    """
    answer = _read(reply, KeysAnswer)
    if answer.default_key not in answer.keys:
        raise UnexpectedAnswer(f"the default key {answer.default_key[:64]!r} is not among the keys")
    for each in answer.keys.values():
        if each.kid != thumbprint(_bytes(each.group_public_b64, 32, "group_public_b64")):
            raise UnexpectedAnswer("a key's kid is not that of its public key")
    try:
        return find_public(answer, key)
    except UnknownKey as error:
        raise UnknownKey(printable(str(error))) from None


def jwk_set(reply: Reply) -> dict[str, Any]:
    """The answer of ``GET /.well-known/jwks.json``; raises the sidecar's error, or :class:`UnexpectedAnswer`."""
    answer = _read(reply, _Jwks, "application/jwk-set+json")
    for jwk in answer.keys:
        if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519":
            _bytes(jwk.get("x"), 32, "x")
    return {"keys": answer.keys}


def readiness(reply: Reply) -> Readiness:
    """The answer of ``GET /readyz``, be it ready or not; raises the sidecar's error, or :class:`UnexpectedAnswer`."""
    unready = reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.content_type == _JSON
    answer = _decode(reply.body, Readiness) if unready else _read(reply, Readiness)
    if answer.ready is unready:
        raise UnexpectedAnswer(f"the answer says ready: {answer.ready}, and its status is {reply.status}")
    return answer


def _read(reply: Reply, kind: type[T], *types: str) -> T:
    """A good answer's body; anything else raises: the error of a problem document, or what can be said of it."""
    if reply.status == HTTPStatus.OK:
        if reply.content_type not in (_JSON, *types):
            raise UnexpectedAnswer(f"the answer is {printable(reply.content_type, _SHOWN)}, not {_JSON}")
        return _decode(reply.body, kind)
    if reply.content_type == CONTENT_TYPE:
        problem = _decode(reply.body, Problem)
        if problem.status != reply.status:
            raise UnexpectedAnswer(f"a problem of status {problem.status} came with status {reply.status}")
        raise _error(problem, reply.retry_after)
    said = f"the answer is {reply.status} {printable(reply.content_type, _SHOWN)}, not the sidecar's"
    if reply.status in _PASSING:
        raise Unavailable(said, retry_after=1.0 if reply.retry_after is None else reply.retry_after)
    raise UnexpectedAnswer(said)


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return decode_json(body, kind)
    except ValueError as error:
        raise UnexpectedAnswer(f"the answer cannot be understood: {printable(str(error), _SHOWN)}") from None


def _error(problem: Problem, retry_after: float | None = None) -> FrostSidecarError:
    """The error that a problem stands for; a type with the status of another is no sidecar's."""
    error = error_of(problem, retry_after)
    if not isinstance(error, UnexpectedAnswer) and status_of(error) != problem.status:
        return UnexpectedAnswer(f"a problem of type {error.slug} came with status {problem.status}")
    return error


def _outcome(values: dict[str, Any], item: BatchItem) -> Signed | FrostSidecarError:
    try:
        if values.get("outcome") == "signed":
            signed = msgspec.convert(values, SignedItem)
            return _signed(signed, item, replayed=signed.replayed)
        problem = msgspec.convert(values, Problem)
    except msgspec.ValidationError as error:
        raise UnexpectedAnswer(f"an item of the answer cannot be understood: {printable(str(error), _SHOWN)}") from None
    return _error(problem)


def _signed(answer: SignAnswer, item: BatchItem, *, replayed: bool) -> Signed:
    signature = _bytes(answer.signature_b64, 64, "signature_b64")
    public = _bytes(answer.group_public_b64, 32, "group_public_b64")
    participants = answer.participants
    ascending = list(participants) == sorted(set(participants))
    if not participants or not ascending or not 1 <= participants[0] <= participants[-1] <= _LAST_IDENTIFIER:
        raise UnexpectedAnswer("the answer's participants are not of their form")
    if not REQUEST_ID.match(answer.request_id) or not _is_key_name(answer.key):
        raise UnexpectedAnswer("the answer's request id or key is not of its form")
    if item.key is not None and answer.key != item.key:
        raise UnexpectedAnswer(f"the answer is of key {answer.key[:64]!r}, not {item.key!r}")
    if item.participants is not None and not set(participants) <= set(item.participants):
        raise UnexpectedAnswer("signers took part that were not among the participants asked for")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, item.message)
    except (InvalidSignature, ValueError):
        raise UnexpectedAnswer("the answer's signature does not verify under its group key") from None
    return Signed(signature, public, participants, answer.key, answer.request_id, replayed)


def _is_key_name(text: str) -> bool:
    try:
        return bool(msgspec.convert(text, KeyName))
    except msgspec.ValidationError:
        return False


def _bytes(text: object, length: int, name: str) -> bytes:
    try:
        data = b64decode(text) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if len(data) != length:
        raise UnexpectedAnswer(f"{name} is not {length} bytes in base64")
    return data
