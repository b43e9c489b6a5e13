"""Connections that are open before a call needs one: a handshake is round trips, and no signature waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Self

from frost_sidecar.errors import TransportError
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Answer, Call, Signer
from frost_sidecar_transport_mtls.pinning import PinnedObject

log = get_logger("frost_sidecar.transport_mtls")

_GREETING: Final = Call("GET", "/healthz", b"", {}, 4096)
"""Signers answer it without a token. Whatever the answer is, the connection is made."""
_GREETING_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 1.0
"""How often each signer's connections are counted, at the longest; also the pause after the first attempt."""
MOST_PAUSE_SECONDS: Final = 10.0
"""The pause between attempts doubles up to this while a signer is away."""
_STEADY_SECONDS: Final = 30.0
"""Without an attempt for so long, the pauses begin anew: the connections held until now."""
_END_SECONDS: Final = 1.5
"""How long handshakes under way may go on at the end: one that is cancelled may leave its socket to the collector."""
_LONGEST_IDLE_SECONDS: Final = 60.0
"""Signers close what idles for 75 s, whatever we would keep."""


class Warmth:
    """Keeps ``wanted`` connections open to each signer, in tasks of its own; enter it with the transport.

    It fails at nothing: a signer that is away is tried again, after pauses that grow and differ, so that a signer that
    comes back meets its coordinators one after the other. Connections that idle are used before they would be closed.
    """

    def __init__(
        self,
        signers: Iterable[Signer],
        wanted: int,
        *,
        call: Callable[[Signer, Call], Awaitable[Answer]],
        connections: Callable[[Signer], Sequence[PinnedObject]],
        keepalive_seconds: float,
    ) -> None:
        """``call`` is the transport's; ``connections`` tells those to a signer that a call could use now."""
        self._signers = tuple(signers) if wanted and keepalive_seconds >= 1 else ()
        self._wanted = wanted
        self._call = call
        self._connections = connections
        self._idle_seconds = min(keepalive_seconds, _LONGEST_IDLE_SECONDS)
        self._look_seconds = min(LOOK_SECONDS, keepalive_seconds / 4)
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # Plain tasks, not a task group: a program may open and close a coordinator in different tasks.
        self._ending.clear()
        self._tasks = [
            asyncio.create_task(self._keep(each), name=f"connections of {each.name}") for each in self._signers
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, []
        self._ending.set()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=_END_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, signer: Signer) -> None:
        attempts = _Attempts()
        away = False
        while not self._ending.is_set():
            try:
                open_now = self._connections(signer)
                if len(open_now) >= self._wanted:
                    away = False
                    await self._use(signer, open_now)
                elif attempts.may_begin():
                    why = await self._open(signer)
                    attempts.ended()
                    if why is not None and not away:
                        log.info("signer has no warm connections", signer=signer.name, why=why)
                    away = why is not None
            except Exception:
                log.exception("keeping connections failed by a defect", signer=signer.name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter, no secret
                    await self._ending.wait()

    async def _open(self, signer: Signer) -> str | None:
        """Make them as many as wanted: calls at once need one each. None, or why it failed."""
        outcomes = await asyncio.gather(*(self._greet(signer) for _ in range(self._wanted)))
        return next((why for why in outcomes if why is not None), None)

    async def _use(self, signer: Signer, open_now: Sequence[PinnedObject]) -> None:
        """Use those that have idled for long, one after the other: the pool gives the one that has idled longest."""
        longest = self._idle_seconds * random.uniform(0.4, 0.6)  # noqa: S311 - jitter, no secret
        now = time.monotonic()
        for _ in (each for each in open_now if each.taken is not None and now - each.taken > longest):
            if await self._greet(signer) is not None:
                return

    async def _greet(self, signer: Signer) -> str | None:
        try:
            async with asyncio.timeout(_GREETING_SECONDS):
                await self._call(signer, _GREETING)
        except TimeoutError:
            return f"no answer within {_GREETING_SECONDS:g} s"
        except TransportError as error:
            return error.detail
        return None


class _Attempts:
    """When connections to one signer may be opened again."""

    def __init__(self) -> None:
        self._count = 0
        self._next = self._last = time.monotonic()

    def may_begin(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        if now - self._last > _STEADY_SECONDS:
            self._count = 0
        self._last = now
        return True

    def ended(self) -> None:
        pause = min(MOST_PAUSE_SECONDS, LOOK_SECONDS * 2**self._count)
        self._next = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
        if pause < MOST_PAUSE_SECONDS:
            self._count += 1
