"""Bytes to model and back, for every endpoint of the sidecar; and which HTTP status an error has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final

import anyio
import msgspec
from aiohttp import web
from msgspec import Meta

from frost_sidecar import errors
from frost_sidecar.access import unix_caller
from frost_sidecar.config import Identifier
from frost_sidecar.encoding import b64decode, b64encode, decode_json
from frost_sidecar.errors import FrostSidecarError, MalformedRequest
from frost_sidecar.listener import Exchange, Handler
from frost_sidecar.metrics import CoordinatorMetrics, render
from frost_sidecar.model import TRACEPARENT, KeyName, SignRequest
from frost_sidecar.signers import Signers
from frost_sidecar.signing import Signing

STATUSES: Mapping[type[FrostSidecarError], HTTPStatus] = {
    errors.MalformedRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Denied: HTTPStatus.FORBIDDEN,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ParticipantsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownKey: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.FrostSidecarError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The HTTP status of each error class, or of its nearest base."""

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
_TIMEOUT = re.compile(r"[1-9][0-9]{0,6}\Z")


class SignBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /sign``. ``participants`` and ``signer_urls`` narrow the choice of signers."""

    msg_b64: str
    participants: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=255)] | None = None
    signer_urls: (
        Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(min_length=1, max_length=255)] | None
    ) = None
    key: KeyName | None = None


class SignAnswer(msgspec.Struct, frozen=True):
    """Answer of ``POST /sign``: standard base64, padded."""

    signature_b64: str
    group_public_b64: str
    participants: tuple[int, ...]
    key: str
    request_id: str


class Routes:
    """The sidecar's endpoints."""

    def __init__(self, signing: Signing, signers: Signers, metrics: CoordinatorMetrics, budget_seconds: float) -> None:
        self._signing = signing
        self._signers = signers
        self._metrics = metrics
        self._budget_seconds = budget_seconds

    @property
    def table(self) -> Mapping[tuple[str, str], Handler]:
        """Handlers by method and path."""
        return {
            ("POST", "/sign"): self.sign,
            ("GET", "/healthz"): self.healthz,
            ("GET", "/metrics"): self.metrics,
        }

    async def sign(self, exchange: Exchange) -> web.Response:
        """``POST /sign``: one signature."""
        started = anyio.current_time()
        caller = unix_caller(exchange.request)
        headers = exchange.request.headers
        budget = _budget(headers.get(TIMEOUT_HEADER), self._budget_seconds)
        body = _decode(await exchange.read_body())
        traceparent = headers.get("traceparent", "")
        signed = await self._signing.sign(
            caller,
            SignRequest(
                message=_message(body.msg_b64),
                request_id=exchange.request_id,
                deadline=started + budget,
                key=body.key,
                participants=body.participants,
                signer_urls=body.signer_urls,
                traceparent=traceparent if TRACEPARENT.match(traceparent) else None,
            ),
        )
        answer = SignAnswer(
            b64encode(signed.signature),
            b64encode(signed.group_public),
            signed.participants,
            signed.key,
            signed.request_id,
        )
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def healthz(self, _: Exchange) -> web.Response:
        """``GET /healthz``: the process lives."""
        return web.Response(text="ok")

    async def metrics(self, exchange: Exchange) -> web.Response:
        """``GET /metrics``: Prometheus text, or OpenMetrics where the client prefers it."""
        self._signers.publish()
        body, content_type = render(self._metrics.registry, exchange.request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _decode(body: bytes) -> SignBody:
    try:
        return decode_json(body, SignBody)
    except ValueError as error:
        raise MalformedRequest(f"the body is not a sign request: {error}") from None


def _message(msg_b64: str) -> bytes:
    try:
        return b64decode(msg_b64)
    except ValueError as error:
        raise MalformedRequest(f"msg_b64: {error}") from None


def _budget(header: str | None, configured: float) -> float:
    """Seconds for the request: what the caller asks for, and never more than configured."""
    if header is None:
        return configured
    if not _TIMEOUT.match(header):
        raise MalformedRequest(f"{TIMEOUT_HEADER} must be a whole number of milliseconds from 1 to 9999999")
    return min(configured, int(header) / 1000)
