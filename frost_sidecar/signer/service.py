"""The signer protocol without HTTP: path, credentials and body in, status and body out.

The server's routes are a thin shell over :meth:`SignerService.handle`; the in-memory cluster of the testing kit calls
the same method, so what holds there holds on the wire.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import msgspec

from frost_sidecar.encoding import decode_json
from frost_sidecar.errors import (
    Denied,
    FrostSidecarError,
    InternalError,
    MalformedRequest,
    StaleEpoch,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownKey,
)
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import SignerMetrics
from frost_sidecar.problem import TYPE_BASE, Problem
from frost_sidecar.signer.access import Gate
from frost_sidecar.signer.node import SignerNode
from frost_sidecar.signer.reading import Reading
from frost_sidecar.wire import (
    COMMITMENTS_PATH,
    INFO_PATH,
    SHARES_PATH,
    CommitmentsAnswer,
    CommitmentsRequest,
    InfoAnswer,
    ShareResult,
    SharesAnswer,
    SharesRequest,
)

T = TypeVar("T")
Answer = CommitmentsAnswer | SharesAnswer | InfoAnswer

log = get_logger("frost_sidecar.signer.service")

STATUSES: Mapping[type[FrostSidecarError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Denied: HTTPStatus.FORBIDDEN,
    UnknownKey: HTTPStatus.NOT_FOUND,
    StaleEpoch: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    FrostSidecarError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The HTTP status of each error of a signer; a class without an entry has its nearest base's."""

_INLINE_BYTES: Final = 64 * 1024
"""A larger body is decoded in a thread; this one takes about 0.6 ms, and the way to a thread and back 0.1 ms."""
_INLINE_WORK: Final = 16
"""More commitments than this, to check or to make, are worked on in a thread; these take about 2 ms."""
_BYTES_OF_WORK: Final = 8 * 1024
"""So much of a body counts as one commitment more: messages are hashed, and the rules read every byte."""
_THREADS: Final = 4


class SignerService:
    """Answers requests of the signer protocol for one node."""

    def __init__(self, node: SignerNode, gate: Gate, metrics: SignerMetrics) -> None:
        self.node = node
        self.gate = gate
        self.metrics = metrics
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._outcomes = cache(metrics.shares.labels)
        self._requests = cache(metrics.requests.labels)

    async def handle(
        self,
        path: str,
        token: str | None,
        certificate_names: tuple[str, ...],
        body: bytes,
        *,
        request_id: str | None = None,
    ) -> tuple[int, bytes]:
        """The HTTP status and the JSON body that answer a request; an error's body is an RFC 9457 problem."""
        if path not in (COMMITMENTS_PATH, SHARES_PATH, INFO_PATH):
            status = HTTPStatus.NOT_FOUND
            return status, _problem("not-found", status, "no such path", request_id)
        started = time.perf_counter()
        try:
            client = await self.gate.admit(token, certificate_names, body)
            data = msgspec.json.encode(await self._answer(path, client, body, request_id or ""))
            status = HTTPStatus.OK
        except FrostSidecarError as error:
            status = _status(error)
            data = _problem(error.slug, status, str(error), request_id, error.reason)
        except Exception:
            log.exception("request failed by a defect", path=path, request_id=request_id)
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            data = _problem(InternalError.slug, status, "internal error; see the signer's log", request_id)
        self._requests(path, str(status.value)).observe(time.perf_counter() - started)
        return status, data

    async def _answer(self, path: str, client: str, body: bytes, request_id: str) -> Answer:
        if path == COMMITMENTS_PATH:
            return await self._commitments(client, body)
        if path == SHARES_PATH:
            return await self._shares(client, body, request_id)
        if body:
            raise MalformedRequest("this request has no body")
        return self.node.info(client)

    async def _commitments(self, client: str, body: bytes) -> CommitmentsAnswer:
        request = await self._decode(body, CommitmentsRequest)
        with self._refusals():
            return await self._work(request.count, lambda: self.node.commitments(client, request))

    async def _shares(self, client: str, body: bytes, request_id: str) -> SharesAnswer:
        request = await self._decode(body, SharesRequest)
        work = sum(len(session.commitments) for session in request.sessions) + request.replenish
        work += len(body) // _BYTES_OF_WORK
        with self._refusals():
            judged, denied = await self._judged(client, request, work, request_id)
            asked = request
            if denied:
                others = [session for session in request.sessions if session.session not in denied]
                asked = msgspec.structs.replace(request, sessions=others)
            answer = await self._work(work, lambda: self.node.shares(client, asked, judged))
        if denied:
            results = denied | {result.session: result for result in answer.results}
            ordered = [results[session.session] for session in request.sessions]
            answer = msgspec.structs.replace(answer, results=ordered)
        for outcome, count in Counter(result.error or "ok" for result in answer.results).items():
            self._outcomes(request.key, outcome).inc(count)
        return answer

    async def _judged(
        self, client: str, request: SharesRequest, work: int, request_id: str
    ) -> tuple[dict[str, Reading] | None, dict[str, ShareResult]]:
        """The sessions that policy plugins allow, by name, None without plugins; and by name those they refuse.

        They are not asked of a message that the rules refuse, which is in neither.
        """
        permissions = self.node.permissions
        if permissions is None or permissions.policies is None:
            return None, {}
        readings = await self._work(work, lambda: self.node.readings(client, request))
        denied: dict[str, ShareResult] = {}

        async def decide(name: str, reading: Reading) -> None:
            why = await permissions.decide(client, request.key, reading.message, reading.jws, request_id)
            if why is not None:
                denied[name] = ShareResult(session=name, error="denied", detail=why)

        async with anyio.create_task_group() as group:
            for name, reading in readings.items():
                group.start_soon(decide, name, reading)
        return {name: reading for name, reading in readings.items() if name not in denied}, denied

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """Count whole requests that the node denies; the gate counts its own."""
        try:
            yield
        except Denied as error:
            self.metrics.refused(error)
            raise

    async def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            if len(body) <= _INLINE_BYTES:
                return decode_json(body, kind)
            return await anyio.to_thread.run_sync(decode_json, body, kind, limiter=self._threads)
        except ValueError as error:
            raise MalformedRequest(str(error)) from None

    async def _work(self, amount: int, work: Callable[[], T]) -> T:
        if amount <= _INLINE_WORK:
            return work()
        return await anyio.to_thread.run_sync(work, limiter=self._threads)


def _status(error: FrostSidecarError) -> HTTPStatus:
    return next(STATUSES[base] for base in type(error).__mro__ if base in STATUSES)


def _problem(slug: str, status: HTTPStatus, detail: str, request_id: str | None, reason: str | None = None) -> bytes:
    return Problem(TYPE_BASE + slug, status.phrase, status, detail, request_id, reason=reason).encode()
