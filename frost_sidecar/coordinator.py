"""Puts the parts together from a configuration.

A complete use, in process::

    from frost_sidecar import Config, Coordinator

    async with Coordinator.open(Config.load("frost-sidecar.toml")) as coordinator:
        signed = await coordinator.sign(b"header.payload")
        print(signed.signature.hex())
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, TypeVar

import anyio
import msgspec
from msgspec import Meta

from frost_sidecar.access import IN_PROCESS
from frost_sidecar.audit import Audit
from frost_sidecar.commitments import Commitments
from frost_sidecar.config import Config, Identifier
from frost_sidecar.containment import cancelled_from_outside
from frost_sidecar.errors import ConfigError, FrostSidecarError, MalformedRequest, PluginError
from frost_sidecar.hookspecs import AuditSink, Component, Policy, Selector, TokenIssuer, Transport
from frost_sidecar.keygen.group import Group
from frost_sidecar.listener import Listener
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CollectorRegistry, CoordinatorMetrics, new_registry
from frost_sidecar.model import REQUEST_ID, TRACEPARENT, KeyName, Signed, Signer, SignRequest
from frost_sidecar.plugins import Loaded, load
from frost_sidecar.policy import Policies
from frost_sidecar.routes import STATUSES, Routes
from frost_sidecar.selection import ZoneSpread
from frost_sidecar.server import limits, unix_socket
from frost_sidecar.sessions import Sessions
from frost_sidecar.signers import Signers
from frost_sidecar.signing import Signing
from frost_sidecar.transport import SignerCalls

log = get_logger("frost_sidecar.coordinator")

C = TypeVar("C", bound=Component)


_START_SECONDS = 30.0
"""How long one plugin may take to start."""
_STOP_SECONDS = 10.0
"""How long one plugin may take to end."""


class _Arguments(msgspec.Struct, frozen=True):
    """Arguments of :meth:`Coordinator.sign`, with the bounds that the socket has too."""

    key: KeyName | None
    participants: Annotated[tuple[Identifier, ...], Meta(max_length=255)] | None
    signer_urls: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=255)] | None
    timeout: Annotated[float, Meta(gt=0)] | None
    request_id: Annotated[str, Meta(pattern=f"^{REQUEST_ID.pattern}")]
    traceparent: Annotated[str, Meta(pattern=f"^{TRACEPARENT.pattern}")] | None


class Coordinator:
    """Signs with a quorum of signers. Made by :meth:`open`; takes any number of concurrent calls in its event loop."""

    def __init__(self, config: Config, signing: Signing, signers: Signers, metrics: CoordinatorMetrics) -> None:
        self.config = config
        self.registry = metrics.registry
        self._signing = signing
        self._signers = signers
        self._metrics = metrics

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: Config,
        *,
        plugins: Mapping[str, object] | None = None,
        registry: CollectorRegistry | None = None,
    ) -> AsyncIterator[Coordinator]:
        """A running coordinator; on leaving, its plugins are left too, what is queued for audit first.

        Args:
            config: the configuration.
            plugins: plugin objects of the embedding program, by name; each needs its section in the configuration.
            registry: where metrics go; by default a registry of the coordinator's own.

        Raises:
            ConfigError: the configuration or a group file cannot be used.
            PluginError: a plugin cannot be used.
        """
        nodes = config.signer_nodes
        groups = _groups(config, nodes)
        loaded = load(config, "coordinator", signers=nodes, given=plugins)
        try:
            metrics = CoordinatorMetrics(registry if registry is not None else new_registry())
        except ValueError:
            raise ConfigError(
                "the registry has another coordinator's metrics; give each its own", path="registry"
            ) from None
        async with AsyncExitStack() as stack:
            stack.callback(metrics.close)
            for products in loaded.products.values():
                for name, product in products:
                    await _enter(stack, name, product)
            signers = Signers(nodes, config.signing, metrics)
            audit = await stack.enter_async_context(Audit(_sinks(config, loaded), config.audit, metrics))
            sessions = _sessions(config, loaded, signers, metrics)
            policies = Policies(loaded.all("make_policy", Policy), config.signing.plugin_seconds)
            by_identifier = {node.identifier: node for node in nodes}
            signing = Signing(
                groups, config.main_key, by_identifier, policies, sessions, audit, config.signing, metrics
            )
            stack.push_async_callback(signing.close, config.signing.budget_seconds)
            yield cls(config, signing, signers, metrics)

    async def sign(
        self,
        message: bytes | bytearray | memoryview,
        *,
        key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a budget shared with the configuration's, not a cancel scope
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Signed:
        """One Ed25519 signature (RFC 8032) over ``message`` by a quorum of signers (RFC 9591).

        Args:
            message: bytes to sign; for a JWS its signing input.
            key: name of the key; by default the configuration's default key.
            participants: identifiers of the signers that may take part; the quorum is chosen among them.
            signer_urls: the same by URL; must be configured signers, paired with ``participants`` where both are given.
            timeout: seconds for all attempts; the configured budget is the upper bound.
            request_id: appears in logs, audit and at the signers; made when absent.
            traceparent: W3C trace context, passed on.

        Raises:
            RequestError: the request cannot be served as it is.
            Denied: a policy refuses the message.
            Unavailable: no quorum, no audit, no policy answer, or overloaded. May pass by itself.
            DeadlineExceeded: the time was not enough.
            InternalError: a defect of ours or of a plugin; the log has the cause under the request id.
        """
        if not isinstance(message, bytes | bytearray | memoryview):
            raise MalformedRequest(f"the message must be bytes, not {type(message).__name__}")
        try:
            given = msgspec.convert(
                {
                    "key": key,
                    "participants": participants,
                    "signer_urls": signer_urls,
                    "timeout": timeout,
                    "request_id": secrets.token_hex(16) if request_id is None else request_id,
                    "traceparent": traceparent,
                },
                _Arguments,
            )
        except msgspec.ValidationError as error:
            raise MalformedRequest(f"an argument cannot be used: {error}") from None
        budget = self.config.signing.budget_seconds
        return await self._signing.sign(
            IN_PROCESS,
            SignRequest(
                message=bytes(message),
                request_id=given.request_id,
                deadline=anyio.current_time() + min(budget, given.timeout or budget),
                key=given.key,
                participants=given.participants,
                signer_urls=given.signer_urls,
                traceparent=given.traceparent,
            ),
        )

    def group_public(self, key: str | None = None) -> bytes:
        """The group's Ed25519 public key, 32 bytes; raises :class:`UnknownKey`."""
        return self._signing.group(key).public

    async def serve(self, *, stop: anyio.Event, ready: anyio.Event | None = None) -> None:
        """Serve the sidecar's endpoints on the configured Unix socket until ``stop`` is set, then drain.

        Raises:
            ConfigError: no socket is configured, or it cannot be made.
        """
        server = self.config.server
        if server.socket is None:
            raise ConfigError("say where to listen, or set FROST_SIDECAR_SOCKET", path="server.socket")
        path = self.config.path(server.socket)
        routes = Routes(self._signing, self._signers, self._metrics, self.config.signing.budget_seconds)
        with unix_socket(path, server) as sock:
            async with Listener(routes.table, STATUSES, limits(server, self.config.audit.write_seconds)) as listener:
                await listener.listen(sock)
                log.info("listening", socket=str(path), mode=server.socket_mode)
                if ready is not None:
                    ready.set()
                await stop.wait()
                log.info("shutting down", grace_seconds=server.grace_seconds)


async def _enter(stack: AsyncExitStack, name: str, product: Component) -> None:
    """Start a plugin's object, and see to its end: both within a time, and neither may take the program with it."""
    try:
        # Not a cancel scope: a plugin may open a task group here that it closes at its end.
        async with asyncio.timeout(_START_SECONDS):
            await product.__aenter__()
    except FrostSidecarError:
        raise
    except TimeoutError as error:
        raise PluginError(name, f"did not start within {_START_SECONDS:g} s") from error
    except asyncio.CancelledError as error:
        if cancelled_from_outside():
            raise
        raise PluginError(name, "failed to start: it cancelled itself") from error
    except Exception as error:
        raise PluginError(name, f"failed to start: {type(error).__name__}: {error}") from error

    async def leave() -> None:
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await product.__aexit__(None, None, None)
        except asyncio.CancelledError:
            if cancelled_from_outside():
                raise
            log.exception("plugin did not end cleanly", plugin=name, why="it cancelled itself")
        except Exception:
            log.exception("plugin did not end cleanly", plugin=name)

    stack.push_async_callback(leave)


def _groups(config: Config, nodes: Sequence[Signer]) -> dict[str, Group]:
    """Every configured key's group, each with enough configured signers to sign at all."""
    groups = {}
    configured = {node.identifier for node in nodes}
    for name, key in config.keys.items():
        group = Group.load(name, config.path(config.state) / key.group, key.min_signers)
        if len(group.identifiers & configured) < group.min_signers:
            raise ConfigError(
                f"key {name!r} needs {group.min_signers} of the signers {sorted(group.identifiers)}; "
                f"configured are {sorted(configured)}",
                path="signers",
            )
        groups[name] = group
    strangers = configured - frozenset().union(*(group.identifiers for group in groups.values()))
    if strangers:
        raise ConfigError(f"no key has a share for signers {sorted(strangers)}", path="signers")
    return groups


def _sinks(config: Config, loaded: Loaded) -> list[tuple[str, AuditSink]]:
    sinks = loaded.all("make_audit_sink", AuditSink)
    for name in config.audit.best_effort:
        if name not in {sink for sink, _ in sinks}:
            raise ConfigError(f"{name!r} is no configured plugin with an audit sink", path="audit.best_effort")
    if all(name in config.audit.best_effort for name, _ in sinks):
        log.warning("no required audit sink is configured: signatures are released unrecorded")
    return sinks


def _sessions(config: Config, loaded: Loaded, signers: Signers, metrics: CoordinatorMetrics) -> Sessions:
    calls = SignerCalls(
        loaded.only("make_transport", Transport),
        loaded.only("make_token_issuer", TokenIssuer),
        token=config.token,
        signing=config.signing,
        metrics=metrics,
        measured=signers.measured,
        signers=config.signer_nodes,
    )
    selector = next(iter(loaded.all("make_selector", Selector)), ("built-in zone spread", ZoneSpread()))
    return Sessions(signers, Commitments(calls, metrics), calls, selector, config.signing, metrics)
