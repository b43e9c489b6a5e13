"""Calls to signers: wraps the plugin's transport with token, deadline, one error family and metrics."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeVar

import anyio
import msgspec

from frost_sidecar import wire
from frost_sidecar.config import SigningConfig, TokenConfig
from frost_sidecar.containment import contained
from frost_sidecar.encoding import decode_json
from frost_sidecar.errors import FaultKind, FrostSidecarError, SignerError, TransportError
from frost_sidecar.hookspecs import TokenIssuer, Transport
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Answer, Call, Signer, TokenClaims
from frost_sidecar.problem import read_problem, slug_of

log = get_logger("frost_sidecar.transport")

T = TypeVar("T", wire.CommitmentsAnswer, wire.SharesAnswer, wire.InfoAnswer)

Measured = Callable[[Signer, float], None]
"""Told of every call for a signature that was answered as the protocol wants: the signer, and the seconds it took."""

Calling = Callable[[Signer], AbstractContextManager[None]]
"""Around every call for a signature."""

_ANSWER_BYTES = 4096
_ITEM_BYTES = 512
"""An answer's size: something for all, and something for each commitment or share; about twice what is needed."""
_DETAIL_BYTES = 6 * 1024
"""And for each session what the longest reason for a denial may take, escaped: one caller's denied messages must not
make the answer for all others too long."""

_KINDS: dict[str, FaultKind] = {"stale-epoch": "stale-epoch"}
"""Slugs of a signer's refusals that mean more than "refused"; a key that we may not use there is "denied"."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What ties a signer's log to the request: its id and the W3C trace context."""

    request_id: str
    traceparent: str | None = None


class SignerCalls:
    """The signer protocol's calls, one method each. Every failure is a :class:`SignerError`."""

    def __init__(
        self,
        transport: tuple[str, Transport],
        issuer: tuple[str, TokenIssuer],
        *,
        token: TokenConfig,
        signing: SigningConfig,
        metrics: CoordinatorMetrics,
        measured: Measured,
        calling: Calling,
        signers: Iterable[Signer],
    ) -> None:
        self._transport_name, self._transport = transport
        self._issuer_name, self._issuer = issuer
        self._token = token
        self._signing = signing
        self._metrics = metrics
        self._measured = measured
        self._calling = calling
        self._urls = {signer.identifier: signer.url for signer in signers}
        # Addresses that callers bring have turns of their own: what hangs there keeps nobody else waiting.
        self._turns = {
            (identifier, own): asyncio.Semaphore(signing.calls_per_signer)
            for identifier in self._urls
            for own in (True, False)
        }

    async def commitments(self, signer: Signer, key: str, count: int, trace: Trace) -> wire.CommitmentsAnswer:
        """Ask ``signer`` for ``count`` fresh commitments (RFC 9591, section 5.1)."""
        request = wire.CommitmentsRequest(key=key, count=count)
        limit = _limit(count)
        answer = await self._call(signer, wire.COMMITMENTS_PATH, request, wire.CommitmentsAnswer, trace, limit)
        if len(answer.commitments) != count:
            raise _fault(signer, "malformed", f"{len(answer.commitments)} commitments instead of {count}")
        return answer

    async def shares(self, signer: Signer, request: wire.SharesRequest, trace: Trace) -> wire.SharesAnswer:
        """Ask ``signer`` for its signature shares (RFC 9591, section 5.2)."""
        sessions = len(request.sessions)
        limit = _limit(sessions + request.replenish) + sessions * _DETAIL_BYTES
        answer = await self._call(signer, wire.SHARES_PATH, request, wire.SharesAnswer, trace, limit)
        if [each.session for each in answer.results] != [each.session for each in request.sessions]:
            raise _fault(signer, "malformed", "the results are not those of the sessions asked for")
        if answer.epoch != request.epoch:
            raise _fault(signer, "malformed", "the answer is of another epoch than the request")
        return answer

    async def info(self, signer: Signer, trace: Trace) -> wire.InfoAnswer:
        """Ask ``signer`` who it is, and for which keys it has a share."""
        answer = await self._call(signer, wire.INFO_PATH, None, wire.InfoAnswer, trace, _limit(wire.MAX_KEYS))
        if answer.name != signer.name:
            raise _fault(signer, "identity", "answered under another name than it is configured with")
        return answer

    async def _call(
        self, signer: Signer, path: str, message: msgspec.Struct | None, kind: type[T], trace: Trace, limit: int
    ) -> T:
        """One call, of whose answer ``limit`` bytes are read. Waiting for turn and token is not the signer's time."""
        body = b"" if message is None else msgspec.json.encode(message)
        async with self._turns[signer.identifier, signer.url == self._urls[signer.identifier]]:
            headers = await self._headers(signer, body, trace)
            method: Literal["GET", "POST"] = "GET" if message is None else "POST"
            call = Call(method=method, path=path, body=body, headers=headers, max_answer_bytes=limit)
            started = time.perf_counter()
            try:
                with (
                    anyio.fail_after(self._signing.call_seconds),
                    nullcontext() if message is None else self._calling(signer),
                ):
                    answer = await contained(self._transport_name, None, self._transport.call, signer, call)
            except TimeoutError:
                raise _fault(signer, "timeout", f"no answer within {self._signing.call_seconds:g} s") from None
            except TransportError as error:
                raise _fault(signer, error.kind, error.detail) from None
            except FrostSidecarError as error:
                raise _fault(signer, "internal", str(error)) from error
        decoded = _decode(signer, answer, kind, limit)
        seconds = time.perf_counter() - started
        self._metrics.calls.labels(signer.name, path).observe(seconds)
        if message is not None:
            self._measured(signer, seconds)
        return decoded

    async def _headers(self, signer: Signer, body: bytes, trace: Trace) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {await self._issue(signer, body)}",
            "Content-Type": "application/json",
            "X-Request-ID": trace.request_id,
        }
        if trace.traceparent:
            headers["traceparent"] = trace.traceparent
        return headers

    async def _issue(self, signer: Signer, body: bytes) -> str:
        now = int(time.time())
        claims = TokenClaims(
            iss=self._token.issuer,
            sub=self._token.subject,
            aud=signer.name,
            iat=now,
            nbf=now,
            exp=now + self._token.lifetime_seconds,
            jti=secrets.token_urlsafe(16),
            body_sha256=wire.body_digest(body),
        )
        try:
            token: object = await contained(self._issuer_name, self._signing.plugin_seconds, self._issuer.issue, claims)
        except FrostSidecarError as error:
            raise _fault(signer, "internal", str(error)) from error
        if not isinstance(token, str) or not token:
            raise _fault(signer, "internal", f"plugin {self._issuer_name}: issued no token")
        return token


def _limit(items: int) -> int:
    return _ANSWER_BYTES + items * _ITEM_BYTES


def _decode(signer: Signer, answer: Answer, kind: type[T], limit: int) -> T:
    if len(answer.body) > limit:
        raise _fault(signer, "malformed", f"the answer has more than {limit} bytes")
    if answer.status != HTTPStatus.OK:
        slug = slug_of(answer.body) or "no problem document"
        problem = read_problem(answer.body)
        if problem is not None and problem.reason == "grant-missing":
            raise _fault(signer, "denied", problem.detail)
        raise _fault(signer, _KINDS.get(slug, "refused"), f"answered {answer.status} ({slug[:64]})")
    try:
        decoded: T = decode_json(answer.body, kind)
    except ValueError as error:
        raise _fault(signer, "malformed", f"answer not understood: {error}") from None
    if not isinstance(decoded, wire.InfoAnswer) and decoded.identifier != signer.identifier:
        raise _fault(signer, "identity", f"answered as signer {decoded.identifier}")
    return decoded


def _fault(signer: Signer, kind: FaultKind, detail: str) -> SignerError:
    return SignerError(signer.identifier, kind, detail)
