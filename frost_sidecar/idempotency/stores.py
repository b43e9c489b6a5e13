"""Where answers are kept: in the shared store, and in this process's memory where there is none or it is out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import anyio

from frost_sidecar.config import IdempotencyConfig
from frost_sidecar.errors import DeadlineExceeded, IdempotencyUnavailable, Overloaded
from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.idempotency.memory import MemoryStore
from frost_sidecar.idempotency.shared import SharedStore
from frost_sidecar.idempotency.use import Use
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Claim

log = get_logger("frost_sidecar.idempotency")


class Stores:
    """Both stores as one: claims, answers and releases go where they belong, and no caller's end stops them."""

    def __init__(self, store: tuple[str, IdempotencyStore] | None, config: IdempotencyConfig) -> None:
        self._shared = None if store is None else SharedStore(*store, config.store_seconds, config.on_outage)
        self._memory = MemoryStore(config.max_entries)
        self._config = config
        self._settling: set[asyncio.Task[None]] = set()

    async def claim(self, use: Use, owner: str, seconds: float) -> tuple[IdempotencyStore, Claim]:
        """Claim the key for ``seconds``; with it the store that said so.

        Raises:
            IdempotencyUnavailable: the shared store is out, and the configuration says to refuse.
            DeadlineExceeded: the request's deadline passed.
            Overloaded: the memory is full.
        """
        if self._shared is not None:
            # What was signed in an outage is known here alone, and stays the answer when the store is back.
            if (kept := self._memory.find(use.scope)) is not None:
                return self._memory, kept
            try:
                return self._shared, await self._claim_shared(self._shared, use, owner, seconds)
            except IdempotencyUnavailable:
                if self._config.on_outage == "refuse":
                    use.result = "unavailable"
                    raise
        try:
            return self._memory, await self._memory.claim(use.scope, use.fingerprint, owner, seconds)
        except Overloaded:
            use.result = "overloaded"
            raise

    async def keep(self, store: IdempotencyStore, use: Use, owner: str, answer: bytes) -> None:
        """Store the answer where the key was claimed, or in memory if that fails."""
        use.result = "new" if store is (self._shared or self._memory) else "unshared"
        await self._settle(store, self._keep(store, use, owner, answer))

    async def release(self, store: IdempotencyStore, use: Use, owner: str) -> None:
        """Free the key; where the store does not answer it becomes free by itself, later."""
        await self._settle(store, _release(store, use.scope, owner))

    async def settled(self) -> None:
        """Return when nothing is on its way to a store."""
        while self._settling:
            await asyncio.wait(self._settling)

    async def _claim_shared(self, shared: SharedStore, use: Use, owner: str, seconds: float) -> Claim:
        shared.admit()
        claim = None
        try:
            with anyio.move_on_after(use.left()):
                claim = await shared.claim(use.scope, use.fingerprint, owner, seconds)
        finally:
            if claim is None:
                # Whether it took effect nobody knows. Nobody waits for this either: the claim ends by itself at last.
                self._start(_release(shared, use.scope, owner))
        if claim is None:
            raise DeadlineExceeded("the time budget ran out before the idempotency store answered")
        return claim

    async def _keep(self, store: IdempotencyStore, use: Use, owner: str, answer: bytes) -> None:
        seconds = use.kept(self._config.replay_seconds)
        try:
            await store.complete(use.scope, owner, answer, seconds)
        except IdempotencyUnavailable as error:
            # To refuse now would have the caller ask again, and a second signature made.
            use.result = "unshared"
            log.error(  # noqa: TRY400 - the traceback that helps is the cause's
                "idempotency store: a signature is answered and not stored; another replica would sign again",
                request_id=use.request_id,
                exc_info=error.__cause__,
            )
            with suppress(Overloaded):
                await self._memory.claim(use.scope, use.fingerprint, owner, seconds)
                await self._memory.complete(use.scope, owner, answer, seconds)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Let ``work``, which ends within the store's deadline, run in a task that no caller's end can stop."""
        task = asyncio.create_task(work, name="idempotency")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _settle(self, store: IdempotencyStore, work: Coroutine[Any, Any, None]) -> None:
        """Wait for ``work`` even if the caller is gone, so that who comes next finds it done."""
        if store is self._memory:  # it never waits, so no caller's end can come in between
            await work
            return
        task = self._start(work)
        with anyio.CancelScope(shield=True):
            await asyncio.shield(task)


async def _release(store: IdempotencyStore, scope: str, owner: str) -> None:
    with suppress(IdempotencyUnavailable):  # the claim ends by itself
        await store.release(scope, owner)
