"""The store: every step is one script at the server that holds the key, never at a replica of it."""

from __future__ import annotations

import math
import re
import secrets
from types import TracebackType
from typing import Any, Self, cast

import anyio
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, NoScriptError, RedisError

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Claim
from frost_sidecar_idempotency_redis.connection import Server
from frost_sidecar_idempotency_redis.scripts import CLAIM, COMPLETE, RELEASE, Script

log = get_logger("frost_sidecar.idempotency_redis")

_HOPELESS = re.compile(r"ACL failure|permission|unknown command|DB index", re.IGNORECASE)
"""Answers that no waiting changes, among those for which the client has no class of their own."""
_PROBE_SECONDS = 5.0
"""How long the look at the server may take at start."""


class RedisStore(IdempotencyStore):
    """Answers in a Redis or Valkey server. It connects when it is used, and again after it was lost."""

    def __init__(self, server: Server, prefix: str) -> None:
        """``prefix`` begins every key."""
        self._server = server
        self._prefix = prefix
        self._client: Redis | None = None

    async def __aenter__(self) -> Self:
        """Look at the server once. One that cannot be reached is for the host to judge, request by request.

        Raises:
            ConfigError: the server refuses the credentials, lets this user do less than the store must, has no such
                database, or is part of a cluster.
        """
        self._client = self._server.client()
        try:
            with anyio.fail_after(_PROBE_SECONDS):
                await self._probe(self._client)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if isinstance(error, AuthenticationError | NoPermissionError | MovedError) or _HOPELESS.search(str(error)):
                await self._client.aclose()
                raise ConfigError(
                    f"{self._server.address} will not do: {type(error).__name__}: {error}",
                    path="plugins.idempotency_redis",
                ) from None
            log.warning(
                "the server gives no answer yet", address=self._server.address, why=f"{type(error).__name__}: {error}"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        """As the contract says. What is no entry of ours comes back with an empty fingerprint."""
        mine, held, answer = await self._run(CLAIM, key, fingerprint, owner, _milliseconds(seconds))
        return Claim(mine=mine == 1, fingerprint=held, answer=answer)

    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        """As the contract says."""
        await self._run(COMPLETE, key, owner, answer, _milliseconds(seconds))

    async def release(self, key: str, owner: str) -> None:
        """As the contract says."""
        await self._run(RELEASE, key, owner)

    async def _run(self, script: Script, key: str, *arguments: bytes | str | int) -> Any:
        if self._client is None:
            raise RuntimeError("the store must be entered before it is used")
        try:
            return await cast("Any", self._client.evalsha(script.sha, 1, self._prefix + key, *arguments))
        except NoScriptError:  # the server's first time, or it has been restarted
            return await cast("Any", self._client.eval(script.text, 1, self._prefix + key, *arguments))

    async def _probe(self, client: Redis) -> None:
        """Do what will be done later, under a key of its own; then see whether the server may throw keys away."""
        key, owner = f"probe-{secrets.token_hex(16)}", secrets.token_hex(16)
        await self.claim(key, b"", owner, 1)
        await self.complete(key, f"not {owner}", b"", 1)
        await self.release(key, owner)
        try:
            memory = await client.info("memory")
        except RedisError:  # not for everybody, and not needed
            return
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and memory.get("maxmemory"):
            log.warning(
                "the server throws keys away when it is full: a key that was answered may then be signed for again; "
                "set maxmemory-policy to noeviction",
                address=self._server.address,
                policy=policy,
            )


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
