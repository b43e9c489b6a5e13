"""A JWK set at an https address, kept for a while."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from frost_sidecar.errors import Unauthenticated
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_eddsa_jwks.fetching import Fetcher, FetchError
from frost_sidecar_auth_eddsa_jwks.jwk import PublicKey
from frost_sidecar_auth_eddsa_jwks.jwks import KeySet
from frost_sidecar_auth_eddsa_jwks.source import KeySource, ParseSet, no_such_key, say_what_is_new

log = get_logger("frost_sidecar.auth_eddsa_jwks")

PATIENCE_SECONDS: Final = 0.7
"""How long a token waits for a request that is under way; hosts wait a second for an authenticator."""
_JITTER: Final = 0.1
"""By how much of the time signers that were started together ask earlier, so that they do not ask together."""

_SHORTEST_PAUSE: Final = 0.05
"""Seconds; timers may ring a little early."""


class RemoteKeys(KeySource):
    """Asks at the start and every ``refresh_seconds``, whether tokens come or not, and for a ``kid`` that is not known.

    There is one request at a time, for all tokens together, and none within ``min_refresh_seconds`` of the last, be it
    answered or not. While it is not, the keys stay, until ``stale_seconds`` after they were fetched; then all tokens
    are refused.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        parse: ParseSet,
        source: str,
        *,
        refresh_seconds: float,
        min_refresh_seconds: float,
        stale_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``source``: the address, for the log. ``clock``: seconds that never go back."""
        self._fetcher = fetcher
        self._parse = parse
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._min_refresh_seconds = min_refresh_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._keys = KeySet({})
        self._fetched: float | None = None
        self._again = clock()
        """Before this no request is made."""
        self._fault: str | None = None
        self._flight: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Ask once. A server that does not answer stops no start: until it does, all tokens are refused."""
        await self._fetcher.__aenter__()
        try:
            flight = self._fly()
            if flight is not None:
                await asyncio.wait([flight])
        except asyncio.CancelledError:
            await self.__aexit__(None, None, None)
            raise
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._keeping, self._flight):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await self._fetcher.__aexit__(kind, error, trace)

    async def find(self, kid: str | None) -> PublicKey:
        """The key named ``kid``; raises :class:`Unauthenticated`."""
        if self._is_usable() and ((key := self._keys.find(kid)) or kid is None):
            if key is None:
                raise no_such_key(kid)
            return key
        flight = self._fly()
        if flight is not None:
            await asyncio.wait([flight], timeout=PATIENCE_SECONDS)  # leaves it alone when this token is given up
        if not self._is_usable():
            raise Unauthenticated("the keys to check the token with are not to be had", reason="token-unchecked")
        key = self._keys.find(kid)
        if key is not None:
            return key
        if kid is not None and (self._flight is not None or self._fault is not None):
            raise Unauthenticated(
                "the token's kid is not known, and newer keys are not to be had", reason="token-unchecked"
            )
        raise no_such_key(kid)

    def _is_usable(self) -> bool:
        return self._fetched is not None and self._clock() - self._fetched < self._stale_seconds

    def _fly(self) -> asyncio.Task[None] | None:
        """The request under way, begun now where it is time for one; None within the time between two."""
        if self._flight is None and self._clock() >= self._again:
            self._flight = asyncio.create_task(self._refresh())
        return self._flight

    async def _refresh(self) -> None:
        began = self._clock()
        try:
            keys = self._parse(await self._fetcher.fetch())
        except (FetchError, ValueError) as error:
            self._note(str(error))
        except Exception as error:
            log.exception("keys cannot be fetched, by a defect", source=self._source)
            self._note(type(error).__name__)
        else:
            if self._fault is not None:
                log.info("keys can be fetched again", source=self._source)
            say_what_is_new(self._keys, keys, self._source)
            self._fault, self._keys, self._fetched = None, keys, began
        finally:
            self._again = self._clock() + self._min_refresh_seconds
            self._flight = None

    def _note(self, fault: str) -> None:
        """Say what is wrong, once for each change."""
        if fault != self._fault:
            log.error("keys cannot be fetched; those before stay for a while", source=self._source, why=fault)
        self._fault = fault

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(max(self._due() - self._clock(), _SHORTEST_PAUSE))
            flight = self._fly()
            if flight is not None:
                await asyncio.wait([flight])

    def _due(self) -> float:
        """When to ask again: after a fault as soon as may be."""
        if self._fault is not None or self._fetched is None:
            return self._again
        earlier = 1 - _JITTER * random.random()  # noqa: S311 - spreads requests, keeps no secret
        return max(self._fetched + self._refresh_seconds * earlier, self._again)
