"""A plugin's store as the coordinator uses it: every call has a deadline, and an outage is noticed once."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from frost_sidecar.containment import contained
from frost_sidecar.errors import IdempotencyUnavailable, PluginError
from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Claim

log = get_logger("frost_sidecar.idempotency")

T = TypeVar("T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
"""Seconds after a failure in which nobody is made to wait for the store; doubles with every further failure."""


class SharedStore(IdempotencyStore):
    """Passes calls on to ``store``; whatever goes wrong with one is :class:`IdempotencyUnavailable`.

    Where that is raised, nobody knows whether the call took effect. Claims alone begin and end an outage: a full store,
    say, refuses them and still takes releases.
    """

    def __init__(self, name: str, store: IdempotencyStore, seconds: float, on_outage: str) -> None:
        """``name``: the plugin's. ``seconds``: deadline of one call. ``on_outage``: what is done then, for the log."""
        self.name = name
        self._store = store
        self._seconds = seconds
        self._on_outage = on_outage
        self._down_since: float | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._next_try = 0.0

    def admit(self) -> None:
        """Return where the store may be asked; in an outage that is one request at a time, after a pause.

        Raises:
            IdempotencyUnavailable: the store has just failed.
        """
        if self._down_since is None:
            return
        now = anyio.current_time()
        if now < self._next_try:
            raise self._unavailable()
        self._next_try = now + self._seconds

    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        """As the contract says; raises :class:`IdempotencyUnavailable`."""

        async def claim() -> Claim:
            held: object = await self._store.claim(key, fingerprint, owner, seconds)
            if not isinstance(held, Claim) or not isinstance(held.fingerprint, bytes) or type(held.mine) is not bool:
                raise TypeError("claim must return a Claim")
            if not isinstance(held.answer, bytes | None):
                raise TypeError("the answer of a Claim must be bytes")
            return held

        started = anyio.current_time()
        try:
            held = await self._call(claim)
        except IdempotencyUnavailable as error:
            self._note_failure(started, error.__cause__ or error)
            raise self._unavailable() from None
        self._note_success()
        return held

    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        """As the contract says; raises :class:`IdempotencyUnavailable` from its cause."""
        await self._call(lambda: self._store.complete(key, owner, answer, seconds))

    async def release(self, key: str, owner: str) -> None:
        """As the contract says; raises :class:`IdempotencyUnavailable` from its cause."""
        await self._call(lambda: self._store.release(key, owner))

    async def _call(self, method: Callable[[], Awaitable[T]]) -> T:
        async def attempt() -> T:
            # As an error of ours it passes the containment unlogged: the log gets one line an outage, not one a call.
            try:
                with anyio.fail_after(self._seconds):
                    return await method()
            except Exception as error:
                raise self._unavailable() from error

        try:
            return await contained(self.name, None, attempt)
        except PluginError as error:
            raise self._unavailable() from error

    def _note_failure(self, started: float, cause: BaseException) -> None:
        if self._down_since is None:
            self._down_since = anyio.current_time()
            late = isinstance(cause, TimeoutError)
            log.error(
                "idempotency store: outage begins",
                plugin=self.name,
                why="no answer in time" if late else type(cause).__name__,
                on_outage=self._on_outage,
                exc_info=None if late else cause,
            )
        elif started < self._failed_at:
            return  # it was under way when the outage was noticed, and says nothing new
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 16)
        self._failed_at = anyio.current_time()
        self._next_try = self._failed_at + pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret

    def _note_success(self) -> None:
        if self._down_since is not None:
            lasted = anyio.current_time() - self._down_since
            log.warning("idempotency store: outage over", plugin=self.name, seconds=round(lasted, 3))
        self._down_since = None
        self._failures = 0

    def _unavailable(self) -> IdempotencyUnavailable:
        return IdempotencyUnavailable(
            f"plugin {self.name}: the shared idempotency store gives no answer, so nobody can say whether this request "
            "was signed before; try again with the same key",
        )
