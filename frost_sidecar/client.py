"""The sidecar as a :class:`~frost_sidecar.service.SigningService`: what a mint calls when the coordinator is a process.

::

    async with AsyncSidecarClient("/run/frost/sign.sock") as client:
        signed = await client.sign(b"header.payload")

A call is repeated where that can help (no connection, 429, 503) and is safe: one idempotency key for all attempts, so
that a request whose answer was lost is not signed twice.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import msgspec

from frost_sidecar import answers
from frost_sidecar.arguments import Call, Message, check_call, check_choice, check_items, check_message
from frost_sidecar.connection import Connection, Reply, TokenSource
from frost_sidecar.contract import (
    BATCH_PATH,
    IDEMPOTENCY_HEADER,
    JWKS_PATH,
    KEYS_PATH,
    PROGRAM_HEADER,
    PROGRAM_VALUE,
    READY_PATH,
    REPLAY_SECONDS_HEADER,
    SIGN_PATH,
    TIMEOUT_HEADER,
    Readiness,
    SignBody,
)
from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import (
    ConfigError,
    DeadlineExceeded,
    FrostSidecarError,
    SidecarUnreachable,
    TooLarge,
    Unavailable,
)
from frost_sidecar.logs import get_logger
from frost_sidecar.model import MAX_MESSAGE_BYTES, BatchItem, Signed, TlsFiles

log = get_logger("frost_sidecar.client")

T = TypeVar("T")

_ANSWER_BYTES: Final = 1024 * 1024
_ITEM_BYTES: Final = 4096
"""Most bytes of an answer: some for all, and some for each item of a batch."""
_FIRST_BACKOFF: Final = 0.05
_LONGEST_BACKOFF: Final = 2.0
"""Seconds: the wait before a further attempt is random between none and this bound, which doubles with each attempt."""
_MOST_DOUBLINGS: Final = 16
_LONGEST_TIMEOUT: Final = 86400.0
"""Seconds."""
_LONGEST_TIMEOUT_MS: Final = 9_999_999


class AsyncSidecarClient:
    """A running sidecar. An asynchronous context manager; takes any number of concurrent calls in its event loop."""

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        timeout: float = 10.0,
        attempts: int = 3,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
        connections: int = 64,
    ) -> None:
        """Check the arguments; nothing is opened before ``async with``.

        Args:
            target: the path of the sidecar's Unix socket, or ``https://HOST:PORT``.
            timeout: seconds for a call with all its attempts; a call's own ``timeout`` can only be shorter.
            attempts: how often a call is tried at most; 1 tries once.
            token: for https: the bearer token; or a :class:`~pathlib.Path` of a file with it, read for each request; or
                a function that returns it, plain (it must not block) or asynchronous, called for each request.
            tls: for https: our certificate and key, and the authority of the sidecar's certificate. Changed files are
                used for new connections.
            connections: most connections at once; further calls wait for one, inside their timeout.

        Raises:
            ConfigError: an argument cannot be used.
        """
        for name, value, kind, most in (
            ("timeout", timeout, int | float, _LONGEST_TIMEOUT),
            ("attempts", attempts, int, math.inf),
            ("connections", connections, int, math.inf),
        ):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ConfigError(f"must be a number, not {type(value).__name__}", path=name)
            if not 0 < value <= most:
                raise ConfigError(f"{value} is out of range", path=name)
        self._timeout = timeout
        self._attempts = attempts
        self._connection = Connection(target, tls=tls, token=token, limit=connections)

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

    async def sign(
        self,
        message: Message,
        *,
        key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - travels to the sidecar, not only a cancel scope
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Signed:
        """One Ed25519 signature (RFC 8032) over ``message``; arguments and errors as in process, and two more errors.

        Args:
            message: bytes to sign; for a JWS its signing input.
            key: name of the key; by default the sidecar's default key.
            participants: identifiers of the signers that may take part.
            signer_urls: the same by URL.
            timeout: seconds for all attempts; the client's own is the upper bound.
            idempotency_key: the same key and request give the same answer; by default a fresh one for this call's
                attempts, and none where there is one attempt alone.
            request_id: appears in the sidecar's logs, in audit and at the signers; made when absent.
            traceparent: W3C trace context, passed on.

        Raises:
            RequestError: the request cannot be served as it is.
            Unauthenticated: the sidecar refuses the token, or there is none.
            Denied: a policy refuses the message.
            ShuttingDown: also, the client was closed meanwhile.
            Unavailable: no attempt succeeded, for a reason that may pass; :class:`SidecarUnreachable` is one.
            DeadlineExceeded: the time was not enough.
            UnexpectedAnswer: what answered is no sidecar, or its signature does not verify.
            InternalError: a defect at the sidecar; its log has the cause under the request id.
        """
        item = BatchItem(_sized(check_message(message)), *_choice(key, participants, signer_urls))
        call = check_call(timeout, idempotency_key, request_id, traceparent)
        body = msgspec.json.encode(_body(item))
        return await self._post(SIGN_PATH, call, body, _ANSWER_BYTES, partial(answers.signed, item=item))

    async def sign_batch(
        self,
        items: Sequence[Message | BatchItem],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - see sign
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Signed | FrostSidecarError]:
        """One outcome for each item, in their order; an item's failure is its own and is not tried again.

        An item that no sidecar would take for its size is not sent; the ``:INDEX`` behind the request id of the others
        is then their place among those that were.

        Raises:
            FrostSidecarError: as :meth:`sign`, for the batch as a whole.
        """
        checked = check_items(items)
        call = check_call(timeout, idempotency_key, request_id, traceparent)
        fitting = [item for item in checked if _too_large(item.message) is None]
        signed: Iterator[Signed | FrostSidecarError] = iter(())
        if fitting:
            body = msgspec.json.encode([_body(item) for item in fitting])
            most_bytes = _ANSWER_BYTES + len(fitting) * _ITEM_BYTES
            read = partial(answers.outcomes, items=fitting)
            signed = iter(await self._post(BATCH_PATH, call, body, most_bytes, read))
        return [_too_large(item.message) or next(signed) for item in checked]

    async def group_public(self, key: str | None = None) -> bytes:
        """The group's Ed25519 public key, 32 bytes, as the sidecar has it now. Raises as :meth:`sign`."""
        name = check_choice(key, None, None).key
        return await self._get(KEYS_PATH, partial(answers.public_key, key=name))

    async def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517). Raises as :meth:`sign`."""
        return await self._get(JWKS_PATH, answers.jwk_set)

    async def readiness(self) -> Readiness:
        """Whether a request could be signed now, and why not. Raises as :meth:`sign`; not ready is no error."""
        return await self._get(READY_PATH, answers.readiness)

    async def _post(self, path: str, call: Call, body: bytes, most_bytes: int, read: Callable[[Reply], T]) -> T:
        headers = {
            "Content-Type": "application/json",
            PROGRAM_HEADER: PROGRAM_VALUE,
            "X-Request-ID": call.request_id,
        }
        if call.idempotency_key is not None:
            headers[IDEMPOTENCY_HEADER] = call.idempotency_key
        elif self._attempts > 1:
            # Nobody will ask with this key once the call is over: no need to keep its answer for long.
            headers[IDEMPOTENCY_HEADER] = uuid.uuid4().hex
            headers[REPLAY_SECONDS_HEADER] = str(math.ceil(min(self._timeout, call.timeout or self._timeout)))
        if call.traceparent is not None:
            headers["traceparent"] = call.traceparent
        seconds = min(self._timeout, call.timeout or self._timeout)
        deadline = anyio.current_time() + seconds

        async def attempt() -> T:
            sent = {**headers, TIMEOUT_HEADER: _milliseconds(deadline - anyio.current_time())}
            reply = await self._connection.exchange("POST", path, headers=sent, body=body, most_bytes=most_bytes)
            return read(reply)

        return await self._persist(attempt, seconds)

    async def _get(self, path: str, read: Callable[[Reply], T]) -> T:
        headers = {"X-Request-ID": secrets.token_hex(16)}

        async def attempt() -> T:
            reply = await self._connection.exchange("GET", path, headers=headers, body=None, most_bytes=_ANSWER_BYTES)
            return read(reply)

        return await self._persist(attempt, self._timeout)

    async def _persist(self, attempt: Callable[[], Awaitable[T]], seconds: float) -> T:
        """``attempt``, and again where the error may pass, inside one deadline."""
        deadline = anyio.current_time() + seconds
        failed: Unavailable | None = None
        with anyio.move_on_after(seconds):
            for number in itertools.count(1):
                try:
                    return await attempt()
                except Unavailable as error:
                    failed, pause = error, _pause(error, number)
                    if number >= self._attempts or anyio.current_time() + pause >= deadline:
                        raise
                log.info("trying again", attempt=number + 1, reason=str(failed), seconds=round(pause, 3))
                await self._connection.pause(pause)
        before = f"; the attempt before: {failed}" if failed else ""
        raise DeadlineExceeded(f"no answer from the sidecar within {seconds:g} s{before}")


def _choice(
    key: object, participants: object, signer_urls: object
) -> tuple[str | None, tuple[int, ...] | None, tuple[str, ...] | None]:
    choice = check_choice(key, participants, signer_urls)
    return choice.key, choice.participants, choice.signer_urls


def _sized(message: bytes) -> bytes:
    error = _too_large(message)
    if error is not None:
        raise error
    return message


def _too_large(message: bytes) -> TooLarge | None:
    if len(message) <= MAX_MESSAGE_BYTES:  # no sidecar may be configured to take more
        return None
    return TooLarge(f"the message has {len(message)} bytes, {MAX_MESSAGE_BYTES} are allowed")


def _body(item: BatchItem) -> SignBody:
    return SignBody(b64encode(item.message), item.participants, item.signer_urls, item.key)


def _milliseconds(left: float) -> str:
    """The sidecar's share of the time that is left: a little stays with us, so that its own answer can arrive."""
    return str(min(_LONGEST_TIMEOUT_MS, max(1, int(1000 * (left - min(left / 10, 0.1))))))


def _pause(error: Unavailable, number: int) -> float:
    """Seconds before attempt ``number + 1``: what the sidecar asks for, and full jitter so that clients come spread."""
    asked = 0.0 if isinstance(error, SidecarUnreachable) else error.retry_after
    bound = min(_LONGEST_BACKOFF, math.ldexp(_FIRST_BACKOFF, min(number - 1, _MOST_DOUBLINGS)))
    return asked + random.uniform(0, bound)  # noqa: S311 - spreads load, keeps no secret
