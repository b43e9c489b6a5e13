"""The signer node's process: its listeners, from the configuration to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

import anyio
from aiohttp import hdrs, web
from frost_ed25519.keys import KeyPackage

from frost_sidecar import plugins
from frost_sidecar.channel import bearer, bind, certificate_names, spell
from frost_sidecar.errors import Denied, PluginError, Refusal
from frost_sidecar.following import SILENT, Following
from frost_sidecar.hookspecs import Authenticator, Component, Policy
from frost_sidecar.identity import ServerIdentity
from frost_sidecar.listener import Exchange, Handler, Limits, Listener
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import SignerMetrics, new_registry, render
from frost_sidecar.policy import Policies
from frost_sidecar.problem import CONTENT_TYPE
from frost_sidecar.signer.access import Gate
from frost_sidecar.signer.config import NodeConfig
from frost_sidecar.signer.keystore import load_shares
from frost_sidecar.signer.node import OnUsed, SignerNode, Use
from frost_sidecar.signer.nonces import NonceStore
from frost_sidecar.signer.permission import POLICY_SECONDS, Permissions
from frost_sidecar.signer.service import STATUSES, SignerService
from frost_sidecar.signer.used_log import FLUSH_SECONDS, UsedLog
from frost_sidecar.wire import COMMITMENTS_PATH, INFO_PATH, SHARES_PATH

C = TypeVar("C", bound=Component)

log = get_logger("frost_sidecar.signer.server")


class NodeFactory(Protocol):
    """Makes the node: :class:`SignerNode` or a subclass."""

    def __call__(
        self,
        name: str,
        keys: Mapping[str, KeyPackage],
        nonces: NonceStore,
        *,
        permissions: Permissions,
        on_used: OnUsed,
    ) -> SignerNode:
        """The node for this process's keys and nonces."""


LISTENER: Final = "listener"
"""What the files of the protocol's listener are called in logs and metrics."""
_SWEEP_SECONDS: Final = 15.0
_USES_A_LINE: Final = 32
"""Shares in one line of the log: collectors cut lines after 16 KiB, and these are less than 12."""
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_MORE_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    HTTPStatus.UNAUTHORIZED: {hdrs.WWW_AUTHENTICATE: "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {hdrs.RETRY_AFTER: "1"},
}


async def serve(
    config: NodeConfig,
    *,
    ready: Callable[[tuple[str, int]], None] | None = None,
    node_factory: NodeFactory = SignerNode,
    given: Mapping[str, object] | None = None,
) -> None:
    """Serve until cancelled; then let requests under way finish within the grace time.

    Args:
        config: the node's configuration.
        ready: told the protocol listener's host and port once it accepts connections.
        node_factory: makes the node; the testing kit's liars are subclasses of :class:`SignerNode`.
        given: plugin objects of the embedding program, by name.

    Raises:
        ConfigError: a file, an address or a setting cannot be used.
        PluginError: a configured plugin cannot be used.
    """
    identity = ServerIdentity(config.tls_files)
    metrics = SignerMetrics(new_registry())
    async with contextlib.AsyncExitStack() as stack:
        following = stack.enter_context(
            Following(
                lambda what, result: metrics.reloads.labels(what, result).inc(),
                lambda what, expires: metrics.certificate_expiry.labels(what).set(expires),
            )
        )
        identity.follow(following.follow, LISTENER)
        loaded = plugins.load(config, "signer", given=given, follow=following.follow)
        authenticators = [
            (name, await stack.enter_async_context(_entered(name, each)))
            for name, each in loaded.all("make_authenticator", Authenticator)
        ]
        policies = [
            (name, await stack.enter_async_context(_entered(name, each)))
            for name, each in loaded.all("make_policy", Policy)
        ]
        permissions = Permissions(config, metrics, Policies(policies, POLICY_SECONDS) if policies else None)
        nonces = NonceStore(
            metrics,
            per_client=config.limits.max_commitments_per_client,
            clients=config.limits.max_clients,
            lifetime=config.limits.commitment_seconds,
        )
        shares = load_shares({key: config.share_path(key) for key in config.keys}, seal_key_file=config.seal_key_path)
        permissions.check_shares(shares)
        used = None
        if config.used_log_path is not None:
            used = stack.enter_context(UsedLog(config.used_log_path, nonces.epoch))
        on_used = _log_uses if used is None else _both(used.add, _log_uses)
        node = node_factory(config.name, shares, nonces, permissions=permissions, on_used=on_used)
        shell = _Shell(SignerService(node, Gate(config, authenticators, metrics), metrics), _limits(config))
        addresses: dict[str, str] = {}
        if config.metrics_bind is not None:
            internal = stack.enter_context(bind(config.metrics_bind, "metrics_bind"))
            await (await stack.enter_async_context(shell.internal)).listen(internal)
            addresses["metrics_address"] = spell(internal)

        def refused(reason: Refusal) -> None:
            metrics.refusals.labels(reason).inc()

        sock = stack.enter_context(bind(config.bind, "bind"))
        await (await stack.enter_async_context(shell.main)).listen(sock, identity, config.clients.names, refused)
        if not config.clients.names:
            log.warning("any certificate of the authority may call this signer; set clients.names", ca=config.tls.ca)
        log.info(
            "listening",
            address=spell(sock),
            **addresses,
            signer=config.name,
            epoch=nonces.epoch,
            keys=sorted(config.keys),
        )
        if ready is not None:
            host, port = sock.getsockname()[:2]
            ready((host, port))
        told: set[str] = set()
        while True:
            await anyio.sleep(min(_SWEEP_SECONDS if used is None else FLUSH_SECONDS, nonces.lifetime))
            nonces.expire()
            if used is not None:
                used.flush()
            silent = {what for what, why in following.faults.items() if why == SILENT}
            for what in silent - told:
                log.error("files cannot be looked at", what=what, why=SILENT)
            told = silent


@contextlib.asynccontextmanager
async def _entered(name: str, product: C) -> AsyncIterator[C]:
    """A plugin's object, which may await in its end although ``serve`` was cancelled; both within a time."""
    try:
        # Not a cancel scope: a plugin may open a task group here that it closes at its end.
        async with asyncio.timeout(_START_SECONDS):
            entered = await product.__aenter__()
    except TimeoutError as error:
        raise PluginError(name, f"did not start within {_START_SECONDS:g} s") from error
    try:
        yield entered
    finally:
        with anyio.CancelScope(shield=True):
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await product.__aexit__(None, None, None)
            except Exception:
                log.exception("plugin did not end cleanly", plugin=name)


def _log_uses(uses: Sequence[Use]) -> None:
    """The signer's own trace of each share: the coordinator's audit log has the same hash."""
    for first in range(0, len(uses), _USES_A_LINE):
        shares = [
            {
                "commitment": use.commitment,
                "key": use.key,
                "package_sha256": use.package.hex(),
                "session": use.session,
                **({} if use.request is None else {"request": use.request}),
            }
            for use in uses[first : first + _USES_A_LINE]
        ]
        log.info("shares", shares=shares)


def _both(first: OnUsed, second: OnUsed) -> OnUsed:
    def on_used(uses: Sequence[Use]) -> None:
        first(uses)
        second(uses)

    return on_used


def _limits(config: NodeConfig) -> Limits:
    limits = config.limits
    return Limits(limits.max_body_bytes, limits.body_seconds, limits.max_connections, limits.grace_seconds)


class _Shell:
    """HTTP around the service: reads a request's credentials and body, and writes the answer."""

    def __init__(self, service: SignerService, limits: Limits) -> None:
        self._service = service
        health: dict[tuple[str, str], Handler] = {("GET", "/healthz"): self._health, ("GET", "/metrics"): self._metrics}
        self.internal = Listener(health, STATUSES, limits)
        self.main = Listener(
            {
                ("POST", COMMITMENTS_PATH): self._protocol,
                ("POST", SHARES_PATH): self._protocol,
                ("GET", INFO_PATH): self._protocol,
                **health,
            },
            STATUSES,
            limits,
        )

    async def _protocol(self, exchange: Exchange) -> web.Response:
        request = exchange.request
        try:
            names = certificate_names(request)
        except Denied as error:
            self._service.metrics.refused(error)
            raise
        self._service.gate.certificate(names)
        token = bearer(request)
        # Without the right certificate, or without any token, none of the body is read; the service refuses the latter.
        body = await exchange.read_body() if token else b""
        status, answer = await self._service.handle(request.path, token, names, body, request_id=exchange.request_id)
        return web.Response(
            status=status,
            body=answer,
            headers=_MORE_HEADERS.get(status),
            content_type="application/json" if status == HTTPStatus.OK else CONTENT_TYPE,
        )

    async def _health(self, _exchange: Exchange) -> web.Response:
        return web.Response(text="ok")

    async def _metrics(self, exchange: Exchange) -> web.Response:
        accept = exchange.request.headers.get(hdrs.ACCEPT, "")
        body, content_type = render(self._service.metrics.registry, accept)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})
