"""Bytes to model and back, for every endpoint of the sidecar."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import anyio
import msgspec
from aiohttp import web

from frost_sidecar import contract
from frost_sidecar.access import Door
from frost_sidecar.arguments import Call
from frost_sidecar.batch import Batches, item_request_id
from frost_sidecar.contract import BatchBody, KeysAnswer, SignAnswer, SignBody, SignedItem
from frost_sidecar.encoding import b64decode, b64encode, decode_json
from frost_sidecar.errors import MalformedRequest
from frost_sidecar.idempotency import Idempotency
from frost_sidecar.listener import Exchange, Handler
from frost_sidecar.metrics import CoordinatorMetrics, render
from frost_sidecar.model import IDEMPOTENCY_KEY, TRACEPARENT, BatchItem, Signed, SignRequest
from frost_sidecar.openapi import DOCUMENT
from frost_sidecar.problem import Problem
from frost_sidecar.readiness import ReadinessCheck
from frost_sidecar.signers import Signers

T = TypeVar("T")

_TIMEOUT = re.compile(r"[1-9][0-9]{0,6}\Z")
_REPLAY = re.compile(r"[1-9][0-9]{0,4}\Z")
_JWKS_TYPE: Final = "application/jwk-set+json"
_JWKS_CACHE: Final = "public, max-age=300"


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints lead to."""

    door: Door
    idempotency: Idempotency
    batches: Batches
    readiness: ReadinessCheck
    signers: Signers
    metrics: CoordinatorMetrics
    keys: KeysAnswer
    jwks: Mapping[str, object]
    budget_seconds: float

    def deadline(self, started: float, call: Call) -> float:
        """When the answer must be there: as the caller asks, and never later than configured."""
        return started + min(self.budget_seconds, call.timeout or self.budget_seconds)


class Routes:
    """The sidecar's endpoints."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def table(self) -> Mapping[tuple[str, str], Handler]:
        """Handlers by method and path, of the listeners that sign."""
        return {
            ("POST", contract.SIGN_PATH): self.sign,
            ("POST", contract.BATCH_PATH): self.sign_batch,
            ("GET", contract.KEYS_PATH): self._for_clients(self.keys),
            ("GET", contract.JWKS_PATH): self.jwks,
            ("GET", contract.OPENAPI_PATH): self.openapi,
            ("GET", contract.HEALTH_PATH): self.healthz,
            ("GET", contract.READY_PATH): self._for_clients(self.readyz),
            ("GET", contract.METRICS_PATH): self._for_clients(self.metrics),
        }

    @property
    def internal(self) -> Mapping[tuple[str, str], Handler]:
        """Handlers by method and path, of the internal listener: health and metrics alone, for whoever reaches it."""
        return {
            ("GET", contract.HEALTH_PATH): self.healthz,
            ("GET", contract.READY_PATH): self.readyz,
            ("GET", contract.METRICS_PATH): self.metrics,
        }

    def meet(self, transport: asyncio.BaseTransport) -> object:
        """Who connected, for the door to know at each request of the connection."""
        return self._parts.door.meet(transport)

    async def sign(self, exchange: Exchange) -> web.Response:
        """``POST /sign``: one signature."""
        started = anyio.current_time()
        caller = await self._parts.door.caller(exchange)
        call = _call(exchange)
        item = _item(_decode(await exchange.read_body(), SignBody, "a sign request"))
        signed = await self._parts.idempotency.sign(
            caller,
            SignRequest(
                message=item.message,
                request_id=exchange.request_id,
                deadline=self._parts.deadline(started, call),
                key=item.key,
                participants=item.participants,
                signer_urls=item.signer_urls,
                traceparent=call.traceparent,
                idempotency_key=call.idempotency_key,
                replay_seconds=call.replay_seconds,
            ),
        )
        replayed = {contract.REPLAYED_HEADER: "true"} if signed.replayed else None
        return _json(_answer(signed), headers=replayed)

    async def sign_batch(self, exchange: Exchange) -> web.Response:
        """``POST /sign/batch``: many messages, an outcome for each."""
        started = anyio.current_time()
        caller = await self._parts.door.caller(exchange)
        call = _call(exchange)
        bodies = _decode(await exchange.read_body(), BatchBody, "a list of sign requests")
        items: list[BatchItem] = []
        for index, body in enumerate(bodies):
            try:
                items.append(_item(body))
            except MalformedRequest as error:
                raise MalformedRequest(f"item {index}: {error}") from None
        outcomes = await self._parts.batches.sign(caller, items, call, self._parts.deadline(started, call))
        answers: list[SignedItem | Problem] = [
            SignedItem(**msgspec.structs.asdict(_answer(outcome)), replayed=outcome.replayed)
            if isinstance(outcome, Signed)
            else contract.problem_of(outcome, item_request_id(exchange.request_id, index))
            for index, outcome in enumerate(outcomes)
        ]
        return _json(answers)

    async def keys(self, _: Exchange) -> web.Response:
        """``GET /keys``: the keys by name."""
        return _json(self._parts.keys)

    async def jwks(self, _: Exchange) -> web.Response:
        """``GET /.well-known/jwks.json``: the public keys for verifiers (RFC 7517)."""
        return _json(self._parts.jwks, content_type=_JWKS_TYPE, headers={"Cache-Control": _JWKS_CACHE})

    async def openapi(self, _: Exchange) -> web.Response:
        """``GET /openapi.json``: this contract as an OpenAPI document."""
        return web.Response(body=DOCUMENT, content_type="application/json")

    async def healthz(self, _: Exchange) -> web.Response:
        """``GET /healthz``: the process lives."""
        return web.Response(text="ok")

    async def readyz(self, _: Exchange) -> web.Response:
        """``GET /readyz``: whether a request could be signed now; 503 where not."""
        readiness = await self._parts.readiness.check()
        if readiness.ready:
            return _json(readiness)
        return _json(readiness, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "1"})

    async def metrics(self, exchange: Exchange) -> web.Response:
        """``GET /metrics``: Prometheus text, or OpenMetrics where the client prefers it."""
        self._parts.signers.publish()
        await self._parts.readiness.certificates()
        body, content_type = render(self._parts.metrics.registry, exchange.request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _for_clients(self, handler: Handler) -> Handler:
        """``handler``, on TCP only for certificates that may call."""

        async def checked(exchange: Exchange) -> web.Response:
            self._parts.door.admit(exchange.request)
            return await handler(exchange)

        return checked


def _json(
    value: object,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type=content_type, headers=headers)


def _answer(signed: Signed) -> SignAnswer:
    return SignAnswer(
        b64encode(signed.signature),
        b64encode(signed.group_public),
        signed.participants,
        signed.key,
        signed.request_id,
    )


def _decode(body: bytes, kind: type[T], what: str) -> T:
    try:
        return decode_json(body, kind)
    except ValueError as error:
        raise MalformedRequest(f"the body is not {what}: {error}") from None


def _item(body: SignBody) -> BatchItem:
    try:
        message = b64decode(body.msg_b64)
    except ValueError as error:
        raise MalformedRequest(f"msg_b64: {error}") from None
    if not message:
        raise MalformedRequest("the message is empty")
    return BatchItem(message, body.key, body.identifiers(), body.signer_urls)


def _call(exchange: Exchange) -> Call:
    """What the headers say of the call. A trace context that is none is not passed on, as its specification wants."""
    headers = exchange.request.headers
    traceparent = headers.get("traceparent", "")
    key = headers.get(contract.IDEMPOTENCY_HEADER)
    if key is not None and (not IDEMPOTENCY_KEY.match(key) or len(headers.getall(contract.IDEMPOTENCY_HEADER)) > 1):
        raise MalformedRequest(
            f"{contract.IDEMPOTENCY_HEADER} must be one header of 1 to 255 printable ASCII characters"
        )
    replay = headers.get(contract.REPLAY_SECONDS_HEADER)
    if replay is not None and not _REPLAY.match(replay):
        raise MalformedRequest(f"{contract.REPLAY_SECONDS_HEADER} must be a whole number of seconds from 1 to 99999")
    timeout = headers.get(contract.TIMEOUT_HEADER)
    if timeout is not None and not _TIMEOUT.match(timeout):
        raise MalformedRequest(f"{contract.TIMEOUT_HEADER} must be a whole number of milliseconds from 1 to 9999999")
    return Call(
        timeout=None if timeout is None else int(timeout) / 1000,
        idempotency_key=key,
        request_id=exchange.request_id,
        traceparent=traceparent if TRACEPARENT.match(traceparent) else None,
        replay_seconds=None if replay is None else float(replay),
    )
