"""Configuration of a signer node: one TOML file and the documented environment, as the coordinator's.

A whole file::

    name = "signer-1"
    bind = "0.0.0.0:7101"
    metrics_bind = "127.0.0.1:9101"
    state = "/var/lib/frost"

    [tls]
    cert = "/tls/tls.crt"
    key = "/tls/tls.key"
    ca = "/tls/ca.crt"

    [keys.default]
    share = "share.json"
    policy = "access-token"

    [policies.access-token]
    typ = ["at+jwt"]
    iss = ["https://mint.example"]
    max_lifetime_seconds = 900

    [clients]
    names = ["DNS:coordinator.mint.example"]

    [plugins.auth_hs256]
    secret_file = "/secrets/jwt"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from frost_sidecar.addressing import parse_address
from frost_sidecar.errors import ConfigError
from frost_sidecar.model import KeyName
from frost_sidecar.process import CertificateName, Count, Name, ProcessConfig, Seconds
from frost_sidecar.rules import JwsRules
from frost_sidecar.wire import MAX_BODY_BYTES, MAX_COMMITMENTS


class ShareConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """This signer's share of one group key."""

    share: str = "share.json"
    """File with the crate's key package as JSON, mode 0600, relative to ``state``; sealed with ``seal_key_file``."""
    policy: Name | None = None
    """A name in ``[policies]``: only JWS signing input that keeps those rules is signed. None: any bytes are."""
    clients: tuple[CertificateName, ...] = ()
    """Clients that may use this key; empty: all that may call."""


class TokenRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Which bearer tokens are let in, beyond what the protocol fixes for all."""

    issuers: Annotated[tuple[Name, ...], Meta(min_length=1)] = ("frost-coord",)
    subjects: tuple[Name, ...] = ()
    """Subjects that may ask; empty: any subject that an authenticator vouches for."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=30)] = 2.0
    """Clock difference that is forgiven."""
    max_remembered: Annotated[int, Meta(ge=1, le=10_000_000)] = 262_144
    """Tokens remembered until they expire, so that none works twice; past it calls are refused."""


class ClientRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Which certificates may call."""

    names: tuple[CertificateName, ...] = ()
    """Names of which the certificate must carry one. Required, but under ``dev``: then any of the authority's may."""


class NodeLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what clients can make the signer hold."""

    max_commitments_per_client: Annotated[int, Meta(ge=MAX_COMMITMENTS, le=1_000_000)] = 2048
    """Outstanding commitments of one client; its own oldest make room. Never fewer than one request may ask for."""
    max_clients: Annotated[int, Meta(ge=1, le=65536)] = 64
    """Clients with outstanding commitments; one more is refused."""
    commitment_seconds: Seconds = 600.0
    """How long the nonces of a commitment are kept."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=MAX_BODY_BYTES)] = MAX_BODY_BYTES
    body_seconds: Seconds = 10.0
    """How long a client may take to send a request's body."""
    max_connections: Count = 256
    grace_seconds: Seconds = 10.0
    """After SIGTERM: how long requests under way may take to finish before they are refused."""


class NodeConfig(ProcessConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of a signer node."""

    name: Name
    """The signer's name for itself: the audience of the tokens that it accepts."""
    bind: str = "0.0.0.0:7101"
    """``HOST:PORT`` of the protocol's listener, always mTLS. Port 0 takes a free one, which the log names."""
    metrics_bind: str | None = None
    """``HOST:PORT`` of a plain-HTTP listener for /healthz and /metrics alone; keep it internal."""
    seal_key_file: str | None = None
    """File with the key that the share files are sealed with (``frost-sidecar keygen seal``); then all must be."""
    dev_used_log: str | None = None
    """For test runs, only under ``dev``: file that gets a line for every commitment that is used."""
    policies: Annotated[dict[Name, JwsRules], Meta(max_length=256)] = msgspec.field(default_factory=dict)
    """Rules for what this signer signs, whatever its clients say: by names of your own."""
    keys: dict[KeyName, ShareConfig] = msgspec.field(default_factory=lambda: {"default": ShareConfig()})
    token: TokenRules = TokenRules()
    clients: ClientRules = ClientRules()
    limits: NodeLimits = NodeLimits()

    def check(self) -> None:
        """Check addresses and keys; raises :class:`ConfigError`."""
        parse_address(self.bind, path="bind")
        if self.metrics_bind is not None:
            parse_address(self.metrics_bind, path="metrics_bind")
        if not self.keys:
            raise ConfigError("at least one key is needed", path="keys")
        if not self.clients.names and not self.dev:
            raise ConfigError(
                'say which certificates may call, as in ["DNS:coordinator.example"]', path="clients.names"
            )
        if self.dev_used_log is not None and not self.dev:
            raise ConfigError("is for test runs alone; remove it, or set dev = true", path="dev_used_log")
        for name, rules in self.policies.items():
            rules.validate(f"policies.{name}")
        for name, key in self.keys.items():
            if key.policy is not None and key.policy not in self.policies:
                raise ConfigError(f"{key.policy!r} is not one of policies", path=f"keys.{name}.policy")
            for client in key.clients:
                if self.clients.names and client not in self.clients.names:
                    raise ConfigError(f"{client!r} is not one of clients.names", path=f"keys.{name}.clients")

    @property
    def seal_key_path(self) -> Path | None:
        """The file of the sealing keys, absolute."""
        return None if self.seal_key_file is None else self.path(self.seal_key_file)

    @property
    def used_log_path(self) -> Path | None:
        """The file of the used commitments, absolute."""
        return None if self.dev_used_log is None else self.path(self.dev_used_log)

    def share_path(self, key: str) -> Path:
        """The file of the key's share, absolute."""
        return self.path(self.state) / self.keys[key].share
