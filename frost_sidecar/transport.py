"""Calls to signers: wraps the plugin's transport with token, deadline, one error family and metrics."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import anyio
import msgspec

from frost_sidecar import wire
from frost_sidecar.config import SigningConfig, TokenConfig
from frost_sidecar.encoding import decode_json
from frost_sidecar.errors import FaultKind, SignerError, TransportError
from frost_sidecar.hookspecs import TokenIssuer, Transport
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Answer, Call, Signer, TokenClaims
from frost_sidecar.problem import slug_of

log = get_logger("frost_sidecar.transport")

T = TypeVar("T", wire.CommitmentsAnswer, wire.SharesAnswer)

Answered = Callable[[int, float], None]
"""Told of every call that was answered as the protocol wants: the signer's identifier, and the seconds it took."""

_KINDS: dict[str, FaultKind] = {"stale-epoch": "stale-epoch"}
"""Slugs of a signer's refusals that mean more than "refused"."""


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
        answered: Answered,
    ) -> None:
        self._transport_name, self._transport = transport
        self._issuer_name, self._issuer = issuer
        self._token = token
        self._signing = signing
        self._metrics = metrics
        self._answered = answered

    async def commitments(self, signer: Signer, key: str, count: int, trace: Trace) -> wire.CommitmentsAnswer:
        """Ask ``signer`` for ``count`` fresh commitments (RFC 9591, section 5.1)."""
        request = wire.CommitmentsRequest(key=key, count=count)
        answer = await self._call(signer, wire.COMMITMENTS_PATH, request, wire.CommitmentsAnswer, trace)
        if len(answer.commitments) != count:
            raise _fault(signer, "malformed", f"{len(answer.commitments)} commitments instead of {count}")
        return answer

    async def shares(self, signer: Signer, request: wire.SharesRequest, trace: Trace) -> wire.SharesAnswer:
        """Ask ``signer`` for its signature shares (RFC 9591, section 5.2)."""
        answer = await self._call(signer, wire.SHARES_PATH, request, wire.SharesAnswer, trace)
        if [each.session for each in answer.results] != [each.session for each in request.sessions]:
            raise _fault(signer, "malformed", "the results are not those of the sessions asked for")
        if answer.epoch != request.epoch:
            raise _fault(signer, "malformed", "the answer is of another epoch than the request")
        return answer

    async def _call(self, signer: Signer, path: str, message: msgspec.Struct, kind: type[T], trace: Trace) -> T:
        started = time.perf_counter()
        try:
            with anyio.fail_after(self._signing.call_seconds):
                answer = await self._exchange(signer, path, msgspec.json.encode(message), trace)
        except TimeoutError:
            raise _fault(signer, "timeout", f"no answer within {self._signing.call_seconds:g} s") from None
        decoded = _decode(signer, answer, kind)
        seconds = time.perf_counter() - started
        self._metrics.calls.labels(signer.name, path).observe(seconds)
        self._answered(signer.identifier, seconds)
        return decoded

    async def _exchange(self, signer: Signer, path: str, body: bytes, trace: Trace) -> Answer:
        headers = {
            "Authorization": f"Bearer {await self._issue(signer, body)}",
            "Content-Type": "application/json",
            "X-Request-ID": trace.request_id,
        }
        if trace.traceparent:
            headers["traceparent"] = trace.traceparent
        call = Call(method="POST", path=path, body=body, headers=headers, max_answer_bytes=wire.MAX_BODY_BYTES)
        try:
            return await self._transport.call(signer, call)
        except TransportError as error:
            raise _fault(signer, error.kind, error.detail) from None
        except Exception as error:
            log.exception("transport plugin failed", plugin=self._transport_name, signer=signer.name)
            raise _fault(signer, "internal", f"plugin {self._transport_name}: {type(error).__name__}") from error

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
            with anyio.fail_after(self._signing.plugin_seconds):
                return await self._issuer.issue(claims)
        except Exception as error:
            log.exception("token plugin failed", plugin=self._issuer_name, signer=signer.name)
            raise _fault(signer, "internal", f"plugin {self._issuer_name}: {type(error).__name__}") from error


def _decode(signer: Signer, answer: Answer, kind: type[T]) -> T:
    if answer.status != HTTPStatus.OK:
        slug = slug_of(answer.body) or "no problem document"
        raise _fault(signer, _KINDS.get(slug, "refused"), f"answered {answer.status} ({slug[:64]})")
    try:
        decoded: T = decode_json(answer.body, kind)
    except ValueError as error:
        raise _fault(signer, "malformed", f"answer not understood: {error}") from None
    if decoded.identifier != signer.identifier:
        raise _fault(signer, "identity", f"answered as signer {decoded.identifier}")
    return decoded


def _fault(signer: Signer, kind: FaultKind, detail: str) -> SignerError:
    return SignerError(signer.identifier, kind, detail)
