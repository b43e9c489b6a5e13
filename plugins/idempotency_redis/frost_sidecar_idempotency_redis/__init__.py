"""Answers by idempotency key in Redis or Valkey, so that replicas sign once for one key.

.. code-block:: toml

    [plugins.idempotency_redis]
    url_file = "/secrets/redis-url"
"""

from __future__ import annotations

from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import IdempotencyStore, PluginContext
from frost_sidecar_idempotency_redis.connection import connection_of
from frost_sidecar_idempotency_redis.settings import Settings
from frost_sidecar_idempotency_redis.store import RedisStore

__all__ = ["RedisStore", "Settings", "make_idempotency_store"]


@hookimpl
def make_idempotency_store(context: PluginContext) -> IdempotencyStore:
    """Read the address and build the store; raises :class:`~frost_sidecar.errors.ConfigError`."""
    settings = context.settings(Settings)
    return RedisStore(connection_of(settings, context), settings.prefix)
