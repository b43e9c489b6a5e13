"""Configuration of a coordinator, beyond what every process configures (:mod:`frost_sidecar.process`)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from frost_sidecar.addressing import AllowedUrls, parse_address, parse_url
from frost_sidecar.errors import ConfigError
from frost_sidecar.model import MAX_MESSAGE_BYTES, KeyName, Signer, TlsFiles
from frost_sidecar.process import CertificateName, Count, Name, ProcessConfig, Seconds, TlsConfig
from frost_sidecar.rules import JwsRules

DEFAULT_BIND = "0.0.0.0:7100"
MAX_BATCH = 1024
"""Most messages in one batch, whatever is configured."""

Identifier = Annotated[int, Meta(ge=1, le=65535)]


class SignerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One signer node, as the coordinator reaches it."""

    identifier: Identifier
    url: Annotated[str, Meta(max_length=512)]
    zone: Name
    name: Name | None = None
    """The signer's name for itself, the audience of its tokens; default ``signer-IDENTIFIER``."""
    server_name: Name | None = None
    """The DNS name that its certificate must carry; default the URL's host."""


class KeyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One group key."""

    group: str = "group.json"
    """File with the public key package, relative to ``state``."""
    min_signers: Annotated[int, Meta(ge=2, le=255)] | None = None
    """The threshold t; needed only where the file does not say it (crate versions before 3.0)."""


class CallerTokenRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Which bearer tokens callers on TCP may present, beyond what their authenticator checks."""

    audience: Name = "frost-coordinator"
    """A token's ``aud``, where it has one, must name this: a token for a signer is none for the coordinator."""
    issuers: tuple[Name, ...] = ()
    """Accepted ``iss``; empty: any that an authenticator vouches for."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=30)] = 2.0
    """Clock difference that is forgiven."""


class ServerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The sidecar's listeners. With neither ``socket`` nor ``bind`` it listens on TCP, :data:`DEFAULT_BIND`."""

    bind: str | None = None
    """``HOST:PORT`` of the TCP listener: mTLS, and a bearer token for each request to sign."""
    tls: TlsConfig | None = None
    """Certificate, key and authority of the TCP listener; default: the process's own, ``tls``."""
    client_names: tuple[CertificateName, ...] = ()
    """Names of which a TCP client's certificate must carry one. Required with TCP, but under ``dev``."""
    token: CallerTokenRules = CallerTokenRules()
    metrics_bind: str | None = None
    """``HOST:PORT`` of a plain-HTTP listener for /healthz, /readyz and /metrics alone; keep it internal."""
    max_batch: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = 64
    """Most messages in one batch."""

    socket: str | None = None
    """Path of the Unix socket."""
    socket_mode: Annotated[str, Meta(pattern=r"^0?[0-7]{3}\Z")] = "0660"
    """Octal mode of the socket. Whoever may write to it may ask for signatures; the last digit must be 0."""
    socket_owner: str | None = None
    """User name or id; default: the process's."""
    socket_group: str | None = None
    """Group name or id; default: the process's."""
    grace_seconds: Seconds = 10.0
    """After SIGTERM: how long requests under way may take to finish before they are refused."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)] = 256 * 1024
    body_seconds: Seconds = 10.0
    """How long a client may take to send a request's body."""
    max_connections: Count = 1024

    def check(self) -> None:
        """Check the addresses and the socket's mode; raises :class:`ConfigError`."""
        for name in ("bind", "metrics_bind"):
            if (address := getattr(self, name)) is not None:
                parse_address(address, path=f"server.{name}")
        if int(self.socket_mode, 8) & 0o007:
            raise ConfigError("the socket must not be open to every user; end it with 0", path="server.socket_mode")


class UnixCaller(Struct, frozen=True, forbid_unknown_fields=True):
    """A process on the Unix socket: all that is given must be so. Empty: whoever may open the socket."""

    uid: Annotated[int, Meta(ge=0, lt=2**32)] | None = None
    """Its effective user when it connected."""
    gid: Annotated[int, Meta(ge=0, lt=2**32)] | None = None
    """One of its groups when it connected, effective or supplementary."""
    executable: Annotated[str, Meta(min_length=2, max_length=4096, pattern=r"^/[^\x00]*\Z")] | None = None
    """The program's file; the process must run this very file, not one of the same name."""


class TcpCaller(Struct, frozen=True, forbid_unknown_fields=True):
    """A client on TCP: all that is given must be so. Empty: whoever has a certificate and a token that count."""

    certificate: CertificateName | None = None
    """A name in its certificate."""
    subject: Name | None = None
    """Its token's subject."""
    issuer: Name | None = None
    """Its token's ``iss``."""


class CallerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One who may ask for signatures, by what the channel proves: any of the kinds that are given."""

    in_process: bool = False
    """The program that embeds the coordinator."""
    unix: UnixCaller | None = None
    tcp: TcpCaller | None = None


class GrantConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What one caller may have signed with one key. Without a grant, nothing."""

    caller: Name
    """A name in ``[callers]``."""
    key: KeyName | None = None
    """Default: the default key."""
    policy: Name | None = None
    """A name in ``[policies]``: messages must be JWS signing input that keeps those rules."""
    opaque: bool = False
    """Any bytes may be signed, and so any token, too; instead of ``policy``."""
    per_second: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    """Signatures per second, on average. None: no such limit."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """Signatures at once, after a pause; with ``per_second``."""
    max_in_flight: Count | None = None
    """Requests under way at once. None: no such limit beyond the coordinator's."""


class SigningConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets of a sign request."""

    budget_seconds: Seconds = 5.0
    """Deadline over all attempts, unless the request brings a shorter one."""
    call_seconds: Seconds = 1.5
    """Deadline of one call to one signer."""
    calls_per_signer: Count = 64
    """Calls to one signer under way at once; further ones wait their turn, and that is not held against the signer."""
    batches_per_signer: Annotated[int, Meta(ge=1, le=64)] = 2
    """Requests for shares to one signer under way at once; the sessions that come meanwhile gather, and go together."""
    max_in_flight: Count = 256
    """Requests under way at once; one more is refused as overloaded."""
    max_in_flight_per_caller: Count | None = None
    """Requests of one caller under way at once; one more is refused to that caller alone. None: no such limit."""
    max_message_bytes: Annotated[int, Meta(ge=1, le=MAX_MESSAGE_BYTES)] = 16 * 1024
    plugin_seconds: Seconds = 1.0
    """Deadline of one call of a selector, policy or token issuer."""
    max_sessions: Annotated[int, Meta(ge=1, le=64)] = 8
    """FROST sessions that one request may start, one after the other, before it gives up."""
    quarantine_seconds: Annotated[float, Meta(ge=1, le=30 * 86400)] = 3600.0
    """How long a signer that sent a wrong share is not asked again."""
    cool_down_seconds: Seconds = 1.0
    """How long a signer that failed is asked last; doubles with every further failure, up to thirty times this."""


class StockConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Commitments kept ready, so that a signature costs one round trip instead of two. By signer and key.

    How many follows demand, between two bounds. A signer keeps 2048 for all coordinators of one name and all keys.
    """

    least: Annotated[int, Meta(ge=0, le=8192)] = 32
    """Kept however small the demand is, though never more than ``most``."""
    most: Annotated[int, Meta(ge=0, le=8192)] = 512
    """Never more than this. 0: no stock; each session asks its signers first."""
    caller_share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """What one caller may hold at once, as a part of what it holds and what is left in stock together."""


class AuditConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How records reach the sinks."""

    best_effort: tuple[str, ...] = ()
    """Plugins whose sink may fail without stopping signatures; all other sinks are required."""
    write_seconds: Seconds = 2.0
    """Deadline of one write; past it the sink counts as unavailable."""
    max_queue: Count = 4096
    """Records waiting for a sink; beyond it requests are refused."""


class TokenConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Claims of the tokens sent to signers."""

    plugin: Name | None = None
    """The plugin that issues them; needed where several could. The others then only check tokens."""
    issuer: Name = "frost-coord"
    subject: Name = "frost-coordinator"
    lifetime_seconds: Annotated[int, Meta(ge=1, le=60)] = 30


class IdempotencyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Answers kept by ``Idempotency-Key``."""

    replay_seconds: Seconds = 300.0
    """How long an answer is kept and given again for the same key and request."""
    max_entries: Count = 262_144
    """Keys kept in the process's memory; past it requests with a new key are refused as overloaded."""
    store_seconds: Seconds = 0.5
    """Deadline of one call of a store that a plugin brings."""
    on_outage: Literal["refuse", "sign"] = "refuse"
    """When that store gives no answer: refuse, or sign all the same and be idempotent within this process alone."""


class Config(ProcessConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of a coordinator, in process or as a sidecar."""

    signers: Annotated[tuple[SignerConfig, ...], Meta(max_length=255)] = ()
    """The signer nodes. May be left out where ``signer_urls_allow`` lets callers bring their addresses."""
    signer_urls_allow: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=64)] = ()
    """Patterns of further URLs that callers may name in ``signer_urls``: see :mod:`frost_sidecar.addressing`."""
    keys: dict[KeyName, KeyConfig] = msgspec.field(default_factory=lambda: {"default": KeyConfig()})
    default_key: KeyName | None = None
    """The key of requests that name none; needed where there are several keys."""
    callers: Annotated[dict[Name, CallerConfig], Meta(max_length=1024)] = msgspec.field(default_factory=dict)
    """Who may ask, by names of your own; the first that fits a request counts."""
    grants: Annotated[tuple[GrantConfig, ...], Meta(max_length=4096)] = ()
    """Which caller may use which key, for what, and how much. None: nobody may have anything signed."""
    policies: Annotated[dict[Name, JwsRules], Meta(max_length=256)] = msgspec.field(default_factory=dict)
    """Rules for what is signed, by names of your own."""
    server: ServerConfig = ServerConfig()
    signing: SigningConfig = SigningConfig()
    stock: StockConfig = StockConfig()
    audit: AuditConfig = AuditConfig()
    token: TokenConfig = TokenConfig()
    idempotency: IdempotencyConfig = IdempotencyConfig()

    def check(self) -> None:
        """Check signers, keys and addresses against each other; raises :class:`ConfigError`."""
        allowed = self.allowed_urls
        if not self.signers and not allowed:
            raise ConfigError("is missing; name the signers, or set signer_urls_allow", path="signers")
        self.server.check()
        for field in ("identifier", "url", "name"):
            seen: dict[object, int] = {}
            for index, signer in enumerate(self.signer_nodes):
                value = getattr(signer, field)
                if value in seen:
                    raise ConfigError(
                        f"{value!r} already stands at signers[{seen[value]}]", path=f"signers[{index}].{field}"
                    )
                seen[value] = index
        if not self.keys:
            raise ConfigError("at least one key is needed", path="keys")
        if self.default_key is None and len(self.keys) > 1:
            raise ConfigError("with several keys, say which one is the default", path="default_key")
        if self.default_key is not None and self.default_key not in self.keys:
            raise ConfigError(f"{self.default_key!r} is not one of keys", path="default_key")
        if self.token.plugin is not None and self.token.plugin not in self.plugins:
            raise ConfigError(f"{self.token.plugin!r} is no configured plugin", path="token.plugin")
        self._check_grants()

    def _check_grants(self) -> None:
        for name, caller in self.callers.items():
            if not (caller.in_process or caller.unix or caller.tcp):
                raise ConfigError("say how it calls: in_process, unix or tcp", path=f"callers.{name}")
        for name, rules in self.policies.items():
            rules.validate(f"policies.{name}")
        seen: set[tuple[str, str]] = set()
        for index, grant in enumerate(self.grants):
            where = f"grants[{index}]"
            key = grant.key or self.main_key
            if grant.caller not in self.callers:
                raise ConfigError(f"{grant.caller!r} is not one of callers", path=f"{where}.caller")
            if key not in self.keys:
                raise ConfigError(f"{key!r} is not one of keys", path=f"{where}.key")
            if grant.policy is not None and grant.policy not in self.policies:
                raise ConfigError(f"{grant.policy!r} is not one of policies", path=f"{where}.policy")
            if grant.opaque == (grant.policy is not None):
                raise ConfigError("set either policy, or opaque = true for any bytes", path=where)
            if (grant.caller, key) in seen:
                raise ConfigError(f"{grant.caller!r} has a grant for {key!r} already", path=where)
            seen.add((grant.caller, key))

    @property
    def issued_by(self) -> str | None:
        """The plugin that issues the tokens of signer calls, where one is named."""
        return self.token.plugin

    @property
    def allowed_urls(self) -> AllowedUrls:
        """The patterns of ``signer_urls_allow``; raises :class:`ConfigError`."""
        return AllowedUrls(self.signer_urls_allow, path="signer_urls_allow")

    @property
    def listener_tls(self) -> TlsFiles:
        """The TLS files of the TCP listener, absolute."""
        return (self.server.tls or self.tls).files(self.path)

    @property
    def main_key(self) -> str:
        """The key of requests that name none."""
        return self.default_key or next(iter(self.keys))

    @property
    def signer_nodes(self) -> tuple[Signer, ...]:
        """The signers with their defaults filled in; raises :class:`ConfigError` for a URL that is not https."""
        return tuple(_signer(index, each) for index, each in enumerate(self.signers))


def _signer(index: int, config: SignerConfig) -> Signer:
    address = parse_url(config.url)
    if address is None:
        raise ConfigError("a signer's URL is https://HOST:PORT and nothing more", path=f"signers[{index}].url")
    return Signer(
        identifier=config.identifier,
        name=config.name or f"signer-{config.identifier}",
        url=config.url.rstrip("/"),
        zone=config.zone,
        server_name=config.server_name or address[0],
    )
