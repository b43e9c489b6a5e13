"""A cluster in one process: real coordinator, real signer nodes, no sockets; faults at the turn of a switch.

The signers run the same :class:`~frost_sidecar.signer.SignerService` as a signer process, tokens and all::

    cluster = MemoryCluster(folder, min_signers=2, max_signers=3)
    cluster.behave(3, wrong_share)
    async with cluster.coordinator() as coordinator:
        signed = await coordinator.sign(b"message")
    assert cluster.reused == []
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import frost_ed25519 as frost
import msgspec

from frost_sidecar.config import Config
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import AuditSink, Authenticator, PluginContext, TokenIssuer, Transport
from frost_sidecar.keygen.dealer import deal
from frost_sidecar.metrics import SignerMetrics, new_registry
from frost_sidecar.model import Answer, AuditRecord, Call, Credentials, Identity, Signer, TokenClaims
from frost_sidecar.plugins import hookimpl
from frost_sidecar.signer import NodeConfig, NonceStore, Permissions, SignerNode, SignerService
from frost_sidecar.signer.access import Gate
from frost_sidecar.signer.node import Use
from frost_sidecar.testing.behaviour import Behaviour, honest, unreachable
from frost_sidecar.wire import SHARES_PATH

PLUGIN = "memory"
"""Name of the cluster's plugin in the configuration."""

_CERTIFICATE = ("DNS:coordinator.frost.test",)


def everybody(*keys: str) -> dict[str, Any]:
    """Settings that let everybody who can call have everything signed with these keys."""
    grants = [{"caller": "everybody", "key": key, "opaque": True} for key in keys]
    return {"callers": {"everybody": {"in_process": True, "unix": {}, "tcp": {}}}, "grants": grants}


class MemoryCluster:
    """Signers 1 to ``max_signers``, of which ``min_signers`` sign; ``folder`` gets the key files."""

    def __init__(
        self,
        folder: Path,
        *,
        min_signers: int = 2,
        max_signers: int = 3,
        zones: Sequence[str] = ("ad-1", "ad-2", "ad-3"),
        settings: Mapping[str, Any] | None = None,
        signers: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """``signers``: more settings of signers, by identifier: what their owners let be signed, and limits."""
        dealt = deal(folder, min_signers=min_signers, max_signers=max_signers)
        self._shares = {
            identifier: frost.keys.KeyPackage.from_json(path.read_text("utf-8"))
            for identifier, path in dealt.share_files.items()
        }
        self.group_public = dealt.group_public
        self.identifiers = range(1, max_signers + 1)
        self._settings = dict(signers or {})
        self.records: list[AuditRecord] = []
        """What the audit sink was given, in order."""
        self.reused: list[str] = []
        """Commitments that turned up in two signing packages. Anything here is a broken invariant."""
        self._packages: dict[tuple[str, str], bytes] = {}
        self._used: set[tuple[int, str, str]] = set()
        self.tokens = _Tokens()
        self._behaviours: dict[int, Behaviour] = dict.fromkeys(self.identifiers, honest)
        self._services = {identifier: self._incarnate(identifier) for identifier in self.identifiers}
        self.config = Config.build(
            {
                "state": str(folder),
                "signers": [
                    {"identifier": i, "url": f"https://signer-{i}.frost.test", "zone": zones[(i - 1) % len(zones)]}
                    for i in self.identifiers
                ],
                "plugins": {PLUGIN: {}},
                **everybody(*(settings or {}).get("keys", ("default",))),
                **(settings or {}),
            }
        )

    def coordinator(self, plugins: Mapping[str, object] | None = None) -> AbstractAsyncContextManager[Coordinator]:
        """A coordinator over this cluster; ``plugins`` join the cluster's own."""
        return Coordinator.open(self.config, plugins={PLUGIN: self.plugin, **(plugins or {})})

    @property
    def plugin(self) -> object:
        """The cluster's plugin, transport and tokens and audit sink, for whoever opens the coordinator otherwise."""
        return _Plugin(self)

    def behave(self, identifier: int, behaviour: Behaviour) -> None:
        """Let a signer behave in this way from its next call on."""
        self._behaviours[identifier] = behaviour

    def crash(self, identifier: int) -> None:
        """End a signer: its nonces are gone, its address refuses connections."""
        self._services[identifier] = self._incarnate(identifier)
        self.behave(identifier, unreachable)

    def restart(self, identifier: int) -> None:
        """Begin a new life of a signer, honest, in a new epoch."""
        self._services[identifier] = self._incarnate(identifier)
        self.behave(identifier, honest)

    async def call(self, signer: Signer, call: Call) -> Answer:
        """Carry one call, as the transport would."""
        if call.path == SHARES_PATH:
            self._watch(call.body)

        async def handle(call: Call) -> Answer:
            token = call.headers.get("Authorization", "").removeprefix("Bearer ")
            service = self._services[signer.identifier]
            return Answer(*await service.handle(call.path, token, _CERTIFICATE, call.body))

        return await self._behaviours[signer.identifier](handle, call)

    def _watch(self, body: bytes) -> None:
        """Note every commitment in a signing package on its way out; the same one in another package is the fault."""
        for session in msgspec.json.decode(body)["sessions"]:
            package = msgspec.json.encode([session["msg"], session["commitments"]], order="sorted")
            for commitment in session["commitments"].values():
                points = commitment["hiding"], commitment["binding"]
                if self._packages.setdefault(points, package) != package:
                    self.reused.append(f"sent twice: {commitment['id']}")

    def _incarnate(self, identifier: int) -> SignerService:
        config = NodeConfig.build(
            {
                "name": f"signer-{identifier}",
                "clients": {"names": _CERTIFICATE},
                "plugins": {PLUGIN: {}},
                **self._settings.get(identifier, {}),
            }
        )
        metrics = SignerMetrics(new_registry())
        nonces = NonceStore(
            metrics,
            per_client=config.limits.max_commitments_per_client,
            clients=config.limits.max_clients,
            lifetime=config.limits.commitment_seconds,
        )

        def on_used(uses: Sequence[Use]) -> None:
            for each in uses:
                use = identifier, nonces.epoch, each.commitment
                if use in self._used:
                    self.reused.append(f"used twice by signer {identifier}: {each.commitment}")
                self._used.add(use)

        permissions = Permissions(config, metrics)
        shares = {"default": self._shares[identifier]}
        node = SignerNode(config.name, shares, nonces, permissions=permissions, on_used=on_used)
        return SignerService(node, Gate(config, [(PLUGIN, self.tokens)], metrics), metrics)


class _Tokens(TokenIssuer, Authenticator):
    """Opaque tokens, known to issuer and checker because both are this object."""

    def __init__(self) -> None:
        self._claims: dict[str, TokenClaims] = {}

    async def issue(self, claims: TokenClaims) -> str:
        token = secrets.token_urlsafe(24)
        self._claims[token] = claims
        return token

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        claims = self._claims.get(credentials.token or "")
        if claims is None:
            raise Unauthenticated("unknown token")
        return Identity(claims.sub, "memory", msgspec.to_builtins(claims))


class _Transport(Transport):
    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def call(self, signer: Signer, call: Call) -> Answer:
        return await self._cluster.call(signer, call)


class _Sink(AuditSink):
    def __init__(self, records: list[AuditRecord]) -> None:
        self._records = records

    async def append(self, records: Sequence[AuditRecord]) -> None:
        self._records.extend(records)


class _Plugin:
    """The cluster as a plugin of its coordinator."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    @hookimpl
    def make_transport(self, context: PluginContext) -> Transport:
        return _Transport(self._cluster)

    @hookimpl
    def make_token_issuer(self, context: PluginContext) -> TokenIssuer:
        return self._cluster.tokens

    @hookimpl
    def make_audit_sink(self, context: PluginContext) -> AuditSink:
        return _Sink(self._cluster.records)
