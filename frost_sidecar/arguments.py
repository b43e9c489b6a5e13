"""The arguments of ``sign`` and ``sign_batch``, checked alike in process and by the clients."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from frost_sidecar.config import MAX_BATCH
from frost_sidecar.contract import Identifiers, Urls
from frost_sidecar.errors import MalformedRequest, TooLarge
from frost_sidecar.model import IDEMPOTENCY_KEY, REQUEST_ID, TRACEPARENT, BatchItem, KeyName

Message = bytes | bytearray | memoryview
T = TypeVar("T", bound=msgspec.Struct)


class Choice(msgspec.Struct, frozen=True):
    """Which key signs, and which signers may take part."""

    key: KeyName | None = None
    participants: Identifiers | None = None
    signer_urls: Urls | None = None


class Call(msgspec.Struct, frozen=True):
    """What belongs to a call as a whole. ``timeout`` is in seconds; the request id is made where none is given."""

    timeout: Annotated[float, Meta(gt=0)] | None = None
    idempotency_key: Annotated[str, Meta(pattern=f"^{IDEMPOTENCY_KEY.pattern}")] | None = None
    request_id: Annotated[str, Meta(pattern=f"^{REQUEST_ID.pattern}")] = msgspec.field(
        default_factory=lambda: secrets.token_hex(16)
    )
    traceparent: Annotated[str, Meta(pattern=f"^{TRACEPARENT.pattern}")] | None = None
    replay_seconds: float | None = None
    """How long the caller may still ask with the idempotency key; the configuration's time is the upper bound."""


def check_message(message: object) -> bytes:
    """The message's bytes; raises :class:`MalformedRequest` for anything that is no bytes, or none at all."""
    if not isinstance(message, bytes | bytearray | memoryview):
        raise MalformedRequest(f"the message must be bytes, not {type(message).__name__}")
    if not (given := bytes(message)):
        raise MalformedRequest("the message is empty")
    return given


def check_choice(key: object, participants: object, signer_urls: object) -> Choice:
    """The arguments of one message; raises :class:`MalformedRequest`."""
    choice = _convert({"key": key, "participants": participants, "signer_urls": signer_urls}, Choice)
    if any("\ud800" <= each <= "\udfff" for url in choice.signer_urls or () for each in url):  # no JSON can hold it
        raise MalformedRequest("an argument cannot be used: signer_urls: half a surrogate pair is no character")
    return choice


def check_call(timeout: object, idempotency_key: object, request_id: object, traceparent: object) -> Call:
    """The arguments of one call; raises :class:`MalformedRequest`."""
    given = {"timeout": timeout, "idempotency_key": idempotency_key, "traceparent": traceparent}
    return _convert(given if request_id is None else {**given, "request_id": request_id}, Call)


def check_items(items: Sequence[Message | BatchItem]) -> list[BatchItem]:
    """The items of a batch, all of them checked; raises :class:`MalformedRequest` or :class:`TooLarge`."""
    if isinstance(items, str | bytes | bytearray | memoryview) or not isinstance(items, Sequence):
        raise MalformedRequest(f"a batch is a list of messages, not {type(items).__name__}")
    if not items:
        raise MalformedRequest("the batch is empty")
    if len(items) > MAX_BATCH:
        raise TooLarge(f"the batch has {len(items)} messages, {MAX_BATCH} are allowed")
    return [_item(index, each) for index, each in enumerate(items)]


def _item(index: int, item: Message | BatchItem) -> BatchItem:
    try:
        message = check_message(item.message if isinstance(item, BatchItem) else item)
        if not isinstance(item, BatchItem):
            return BatchItem(message)
        choice = check_choice(item.key, item.participants, item.signer_urls)
        return BatchItem(message, choice.key, choice.participants, choice.signer_urls)
    except MalformedRequest as error:
        raise MalformedRequest(f"item {index}: {error}") from None


def _convert(values: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"an argument cannot be used: {error}") from None
