"""Many messages in one call: each has its own outcome, all share one deadline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import anyio

from frost_sidecar.arguments import Call
from frost_sidecar.encoding import length_prefixed
from frost_sidecar.errors import FrostSidecarError, InternalError, TooLarge
from frost_sidecar.idempotency import Idempotency
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import BatchItem, Caller, Signed, SignRequest

_AT_ONCE = 16
"""Items of one batch that are signed at once, so that a batch leaves room for others."""


class Batches:
    """Signs batches, through the same door as single messages."""

    def __init__(self, idempotency: Idempotency, max_items: int, metrics: CoordinatorMetrics) -> None:
        self._idempotency = idempotency
        self._max_items = max_items
        self._metrics = metrics

    async def sign(
        self, caller: Caller, items: Sequence[BatchItem], call: Call, deadline: float
    ) -> list[Signed | FrostSidecarError]:
        """One outcome for each item, in their order. An item's failure is its own.

        With an idempotency key the items that were signed before are answered again, and the others are tried again.

        Raises:
            TooLarge: more items than configured.
            IdempotencyConflict: the key belongs to another batch, or to a single request.
        """
        if len(items) > self._max_items:
            raise TooLarge(f"the batch has {len(items)} messages, {self._max_items} are allowed")
        self._metrics.batch_size.observe(len(items))
        end = None
        if call.idempotency_key is not None:
            end = await self._idempotency.reserve(
                caller, call.idempotency_key, _digest(items), deadline, call.replay_seconds
            )
        outcomes: list[Signed | FrostSidecarError] = [InternalError("the batch ended early")] * len(items)
        turns = anyio.CapacityLimiter(_AT_ONCE)

        async def one(index: int, item: BatchItem) -> None:
            async with turns:
                try:
                    outcomes[index] = await self._idempotency.sign(caller, _request(index, item, call, deadline))
                except FrostSidecarError as error:
                    outcomes[index] = error

        try:
            async with anyio.create_task_group() as tasks:
                for index, item in enumerate(items):
                    tasks.start_soon(one, index, item)
        finally:
            if end is not None:
                await end(any(isinstance(each, Signed) for each in outcomes))
        return outcomes


def item_request_id(request_id: str, index: int) -> str:
    """The request id of one item: the batch's, and the item's place."""
    suffix = f":{index}"
    return request_id[: 128 - len(suffix)] + suffix


def _request(index: int, item: BatchItem, call: Call, deadline: float) -> SignRequest:
    key = call.idempotency_key
    return SignRequest(
        message=item.message,
        request_id=item_request_id(call.request_id, index),
        deadline=deadline,
        key=item.key,
        participants=item.participants,
        signer_urls=item.signer_urls,
        traceparent=call.traceparent,
        replay_seconds=call.replay_seconds,
        idempotency_key=None if key is None else f"batch:{hashlib.sha256(key.encode()).hexdigest()}:{index}",
    )


def _digest(items: Sequence[BatchItem]) -> bytes:
    """SHA-256 over all items, every field with its length in front, so that no two batches read the same."""
    hashed = hashlib.sha256()
    for item in items:
        among = ",".join(map(str, item.participants or ())).encode()
        urls = length_prefixed(*(url.encode("utf-8", "surrogatepass") for url in item.signer_urls or ()))
        hashed.update(length_prefixed(item.message, (item.key or "").encode(), among, urls))
    return hashed.digest()
