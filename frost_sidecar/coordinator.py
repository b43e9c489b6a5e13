"""Puts the parts together from a configuration.

A complete use, in process::

    from frost_sidecar import Config, Coordinator

    async with Coordinator.open(Config.load("frost-sidecar.toml")) as coordinator:
        signed = await coordinator.sign(b"header.payload")
        print(signed.signature.hex())
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from frost_sidecar.access import Door, in_process
from frost_sidecar.aggregation import Aggregation
from frost_sidecar.arguments import Message, check_call, check_choice, check_items, check_message
from frost_sidecar.audit import Audit
from frost_sidecar.batch import Batches
from frost_sidecar.batching import Batching
from frost_sidecar.commitments import Commitments
from frost_sidecar.config import Config
from frost_sidecar.containment import cancelled_from_outside
from frost_sidecar.contract import KeyAnswer, KeysAnswer, Readiness, find_public
from frost_sidecar.encoding import b64encode
from frost_sidecar.errors import ConfigError, FrostSidecarError, PluginError
from frost_sidecar.following import Following
from frost_sidecar.grants import Grants
from frost_sidecar.hookspecs import (
    AuditSink,
    Authenticator,
    Component,
    IdempotencyStore,
    Policy,
    Selector,
    TokenIssuer,
    Transport,
)
from frost_sidecar.idempotency import Idempotency
from frost_sidecar.jose import jwk_set, thumbprint
from frost_sidecar.keygen.group import Group
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CollectorRegistry, CoordinatorMetrics, new_registry
from frost_sidecar.model import BatchItem, Signed, Signer, SignRequest
from frost_sidecar.participants import Participants
from frost_sidecar.plugins import Loaded, load
from frost_sidecar.policy import Policies
from frost_sidecar.readiness import ReadinessCheck
from frost_sidecar.routes import Parts, Routes
from frost_sidecar.selection import ZoneSpread
from frost_sidecar.server import listening, tcp_address
from frost_sidecar.sessions import Sessions
from frost_sidecar.signers import Signers
from frost_sidecar.signing import Signing
from frost_sidecar.transport import SignerCalls

log = get_logger("frost_sidecar.coordinator")

_START_SECONDS = 300.0
"""How long one plugin may take to start: an audit log of many millions of records is checked whole."""
_STOP_SECONDS = 10.0
"""How long one plugin may take to end."""


class Coordinator:
    """Signs with a quorum of signers. Made by :meth:`open`; takes any number of concurrent calls in its event loop."""

    def __init__(self, config: Config, parts: Parts, following: Following) -> None:
        self.config = config
        self.registry = parts.metrics.registry
        self.addresses: Mapping[str, str] = {}
        """Where :meth:`serve` listens: ``socket``, ``bind``, ``metrics_bind``, those that are configured."""
        self._parts = parts
        self._following = following
        self._caller = in_process(config.callers)

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
        try:
            metrics = CoordinatorMetrics(registry if registry is not None else new_registry())
        except ValueError:
            raise ConfigError(
                "the registry has another coordinator's metrics; give each its own", path="registry"
            ) from None
        async with AsyncExitStack() as stack:
            stack.callback(metrics.close)
            following = stack.enter_context(
                Following(
                    lambda what, result: metrics.reloads.labels(what, result).inc(),
                    lambda what, expires: metrics.certificate_expiry.labels(what).set(expires),
                )
            )
            loaded = load(config, "coordinator", signers=nodes, given=plugins, follow=following.follow)
            authenticators = loaded.all("make_authenticator", Authenticator)
            for products in loaded.products.values():
                for name, product in products:
                    await enter(stack, name, product)
            participants = Participants(nodes, config.allowed_urls)
            known = participants.known(groups.values())
            signers = Signers(known, config.signing, metrics)
            audit = await stack.enter_async_context(Audit(_sinks(config, loaded), config.audit, metrics))
            calls = _calls(config, loaded, known, signers, metrics)
            selector = _selector(config, loaded)
            stock = Commitments(
                calls, signers, groups, config.stock, metrics, budget_seconds=config.signing.budget_seconds
            )
            commitments = await stack.enter_async_context(stock)
            batching = await stack.enter_async_context(Batching(calls, commitments, config.signing, metrics))
            aggregation = await stack.enter_async_context(Aggregation())
            sessions = Sessions(signers, commitments, batching, aggregation, selector, config.signing, metrics)
            policies = Policies(loaded.all("make_policy", Policy), config.signing.plugin_seconds)
            grants = Grants(config, {name: thumbprint(group.public) for name, group in groups.items()})
            signing = Signing(
                groups,
                config.main_key,
                participants,
                grants,
                policies,
                sessions,
                audit,
                config.signing,
                metrics,
            )
            store = next(iter(loaded.all("make_idempotency_store", IdempotencyStore)), None)
            idempotency = Idempotency(
                signing.sign, store, config.idempotency, metrics, config.audit.write_seconds, signing.verify
            )
            stack.push_async_callback(idempotency.close, config.idempotency.store_seconds + 1.0)
            stack.push_async_callback(signing.close, config.signing.budget_seconds)
            yield cls(
                config,
                Parts(
                    door=Door(config.server, config.callers, authenticators, config.signing.plugin_seconds, metrics),
                    idempotency=idempotency,
                    batches=Batches(idempotency, config.server.max_batch, metrics),
                    readiness=ReadinessCheck(
                        groups,
                        nodes,
                        signers,
                        commitments,
                        calls,
                        audit,
                        following,
                        metrics,
                        by_callers=bool(config.allowed_urls),
                    ),
                    signers=signers,
                    metrics=metrics,
                    keys=KeysAnswer(config.main_key, {name: _key(group) for name, group in groups.items()}),
                    jwks=jwk_set(group.public for group in groups.values()),
                    budget_seconds=config.signing.budget_seconds,
                ),
                following,
            )

    async def sign(
        self,
        message: Message,
        *,
        key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a budget shared with the configuration's, not a cancel scope
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Signed:
        """One Ed25519 signature (RFC 8032) over ``message`` by a quorum of signers (RFC 9591).

        Args:
            message: bytes to sign; for a JWS its signing input.
            key: name of the key; by default the configuration's default key.
            participants: identifiers of the signers that may take part; the quorum is chosen among them.
            signer_urls: the same by URL; must be configured or allowed, paired with ``participants`` where both are
                given.
            timeout: seconds for all attempts; the configured budget is the upper bound.
            idempotency_key: 1 to 255 printable ASCII characters; the same key and request give the same signature for
                ``idempotency.replay_seconds``, also while the first is under way.
            request_id: appears in logs, audit and at the signers; made when absent.
            traceparent: W3C trace context, passed on.

        Raises:
            RequestError: the request cannot be served as it is.
            Denied: a policy refuses the message.
            Unavailable: no quorum, no audit, no policy answer, or overloaded. May pass by itself.
            DeadlineExceeded: the time was not enough.
            InternalError: a defect of ours or of a plugin; the log has the cause under the request id.
        """
        started = anyio.current_time()
        choice = check_choice(key, participants, signer_urls)
        call = check_call(timeout, idempotency_key, request_id, traceparent)
        return await self._parts.idempotency.sign(
            self._caller,
            SignRequest(
                message=check_message(message),
                request_id=call.request_id,
                deadline=self._parts.deadline(started, call),
                key=choice.key,
                participants=choice.participants,
                signer_urls=choice.signer_urls,
                traceparent=call.traceparent,
                idempotency_key=call.idempotency_key,
            ),
        )

    async def sign_batch(
        self,
        items: Sequence[Message | BatchItem],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as in sign
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Signed | FrostSidecarError]:
        """One outcome for each message, in their order: a signature, or the error that this message got.

        ``timeout`` is for all together. The request id of an item is the batch's with ``:INDEX`` behind it. With an
        ``idempotency_key`` the items that were signed before are answered again and only the others tried again.

        Raises:
            MalformedRequest: an argument or an item cannot be understood; then nothing is signed.
            TooLarge: more than ``server.max_batch`` items.
            IdempotencyConflict: the key was used for something else.
        """
        started = anyio.current_time()
        call = check_call(timeout, idempotency_key, request_id, traceparent)
        deadline = self._parts.deadline(started, call)
        return await self._parts.batches.sign(self._caller, check_items(items), call, deadline)

    async def group_public(self, key: str | None = None) -> bytes:
        """The group's Ed25519 public key, 32 bytes; raises :class:`UnknownKey`."""
        return find_public(self._parts.keys, check_choice(key, None, None).key)

    async def jwks(self) -> dict[str, Any]:
        """The public keys of all groups as a JWK set (RFC 7517), ``kid`` being the thumbprint (RFC 7638)."""
        return copy.deepcopy(dict(self._parts.jwks))

    async def readiness(self) -> Readiness:
        """Whether a request could be signed now, and why not; asks the signers, at most once a second."""
        return await self._parts.readiness.check()

    async def serve(self, *, stop: anyio.Event, ready: anyio.Event | None = None) -> None:
        """Serve the sidecar's endpoints on the configured listeners until ``stop`` is set, then drain.

        Raises:
            ConfigError: a listener cannot be made as configured.
        """
        if tcp_address(self.config.server) is not None:
            self._check_tcp()
        async with listening(self.config, Routes(self._parts), self._following, self._parts.metrics) as addresses:
            self.addresses = addresses
            if ready is not None:
                ready.set()
            await stop.wait()

    def _check_tcp(self) -> None:
        server = self.config.server
        why = "" if server.bind else "; with neither server.bind nor a Unix socket (FROST_SIDECAR_SOCKET) TCP is meant"
        if not self._parts.door.has_authenticators:
            raise ConfigError(f"a TCP listener needs a plugin that checks bearer tokens{why}", path="plugins")
        if not server.client_names and not self.config.dev:
            raise ConfigError(
                f'say which certificates may call, as in ["DNS:mint.example"]{why}', path="server.client_names"
            )


async def enter(stack: AsyncExitStack, name: str, product: Component) -> None:
    """Start a plugin's object, and see to its end: both within a time, and neither may take the program with it.

    Raises:
        PluginError: it did not start.
    """
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
        if len(group.identifiers & configured) < group.min_signers and not config.allowed_urls:
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


def _key(group: Group) -> KeyAnswer:
    return KeyAnswer(b64encode(group.public), thumbprint(group.public), group.min_signers, len(group.identifiers))


def _selector(config: Config, loaded: Loaded) -> tuple[str, Selector, float | None]:
    """The selector, its name, and how long it may take; None for ours, which waits for nothing."""
    for name, selector in loaded.all("make_selector", Selector):
        return name, selector, config.signing.plugin_seconds
    return "built-in zone spread", ZoneSpread(), None


def _sinks(config: Config, loaded: Loaded) -> list[tuple[str, AuditSink]]:
    sinks = loaded.all("make_audit_sink", AuditSink)
    for name in config.audit.best_effort:
        if name not in {sink for sink, _ in sinks}:
            raise ConfigError(f"{name!r} is no configured plugin with an audit sink", path="audit.best_effort")
    if all(name in config.audit.best_effort for name, _ in sinks):
        log.warning("no required audit sink is configured: signatures are released unrecorded")
    return sinks


def _calls(
    config: Config, loaded: Loaded, known: Sequence[Signer], signers: Signers, metrics: CoordinatorMetrics
) -> SignerCalls:
    return SignerCalls(
        loaded.only("make_transport", Transport),
        loaded.only("make_token_issuer", TokenIssuer),
        token=config.token,
        signing=config.signing,
        metrics=metrics,
        measured=signers.measured,
        calling=signers.calling,
        signers=known,
    )
