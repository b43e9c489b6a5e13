"""Configuration: one TOML file and the documented environment, typed, with unknown keys refused by their path.

The environment wins over the file, and a variable ending in ``_FILE`` wins over its plain form. Relative paths in the
file count from the file's folder, those in the environment from the working directory.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from frost_sidecar.addressing import AllowedUrls, parse_address, parse_url
from frost_sidecar.errors import ConfigError
from frost_sidecar.model import MAX_MESSAGE_BYTES, KeyName, Signer, TlsFiles

T = TypeVar("T", bound="ProcessConfig")

DEFAULT_STATE = "./frost_state"
"""Counts from the working directory, as all that the file does not say."""
DEFAULT_BIND = "0.0.0.0:7100"
MAX_BATCH = 1024
"""Most messages in one batch, whatever is configured."""

Identifier = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
CertificateName = Annotated[str, Meta(max_length=512, pattern=r"^(DNS|URI):[!-+\--~]+\Z")]
"""A subject alternative name with its kind in front; printable ASCII without blank and comma."""

ENVIRONMENT: Mapping[str, str] = {
    "FROST_STATE": "state",
    "FROST_SIDECAR_DEV": "dev",
    "FROST_SIDECAR_SOCKET": "server.socket",
    "BIND": "server.bind",
    "TLS_CERT_PEM": "tls.cert",
    "TLS_KEY_PEM": "tls.key",
    "TLS_SERVER_CA": "tls.ca",
    "JWT_HS256_B64_FILE": "plugins.auth_hs256.secret_file",
    "JWT_HS256_B64": "plugins.auth_hs256.secret_b64",
    "RUST_LOG": "log.level",
    "LOG_LEVEL": "log.level",
}
"""Environment variable → place in the TOML file. A later row wins; ``plugins.X`` counts only where X is configured."""

_ONE_OF = {"secret_file": "secret_b64", "secret_b64": "secret_file"}
"""Settings that a variable replaces although they have another name."""
_PATHS = set(ENVIRONMENT) - {"FROST_SIDECAR_DEV", "BIND", "JWT_HS256_B64", "RUST_LOG", "LOG_LEVEL"}
_RUST_LEVELS = {"off", "error", "warn", "info", "debug", "trace"}
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


class TlsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The process's own certificate chain and key, and the authority that its peers' certificates need. PEM files."""

    cert: str = "/tls/tls.crt"
    key: str = "/tls/tls.key"
    ca: str = "/tls/ca.crt"


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Log level of the command line's processes."""

    level: str = "info"


class ProcessConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What coordinator and signer configure alike."""

    state: str = DEFAULT_STATE
    """Folder of group.json or of the key shares."""
    dev: bool = False
    """Allow development fallbacks. Never in production; every fallback says so loudly."""
    tls: TlsConfig = TlsConfig()
    log: LogConfig = LogConfig()
    plugins: dict[str, dict[str, Any]] = {}
    """The plugins to load, by name, each with its own settings."""
    base: str = "."
    """Folder from which relative paths count; set by :meth:`load`, refused in the file."""

    @classmethod
    def load(cls: type[T], path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> T:
        """Read the TOML file ``path`` (none: defaults and environment alone) and merge ``environ`` (``os.environ``).

        Raises:
            ConfigError: the file cannot be read, or a key or value is wrong; with its path.
        """
        values: dict[str, Any] = {}
        base = Path.cwd()
        if path is not None:
            base = Path(path).resolve().parent
            try:
                values = tomllib.loads(Path(path).read_text("utf-8"))
            except OSError as error:
                raise ConfigError(f"cannot read the configuration file: {error.strerror}", path=str(path)) from None
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"not a TOML file: {str(error)[:200]}", path=str(path)) from None
            if "base" in values:
                raise ConfigError("unknown key", path="base")
        values.setdefault("state", str(Path.cwd() / DEFAULT_STATE))
        _merge_environment(values, os.environ if environ is None else environ, cls.__struct_fields__)
        return cls.build({**values, "base": str(base)})

    @classmethod
    def build(cls: type[T], values: Mapping[str, Any]) -> T:
        """The configuration from a mapping in the shape of the TOML file; no environment, no file.

        Raises:
            ConfigError: a key or value is wrong; with its path.
        """
        config = convert(values, cls)
        config.check()
        return config

    def check(self) -> None:
        """Check what types cannot say; raises :class:`ConfigError`."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """All fields, but of the plugins their names alone: settings may hold secrets."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return list({**shown, "plugins": list(self.plugins)}.items())

    def __repr__(self) -> str:
        """As :meth:`__rich_repr__`."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def path(self, value: str) -> Path:
        """A configured path, absolute."""
        return Path(self.base, value)

    @property
    def tls_files(self) -> TlsFiles:
        """The three TLS files, absolute."""
        return TlsFiles(self.path(self.tls.cert), self.path(self.tls.key), self.path(self.tls.ca))


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


class SigningConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets of a sign request."""

    budget_seconds: Seconds = 5.0
    """Deadline over all attempts, unless the request brings a shorter one."""
    call_seconds: Seconds = 1.5
    """Deadline of one call to one signer."""
    calls_per_signer: Count = 64
    """Calls to one signer under way at once; further ones wait their turn, and that is not held against the signer."""
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
    server: ServerConfig = ServerConfig()
    signing: SigningConfig = SigningConfig()
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

    @property
    def allowed_urls(self) -> AllowedUrls:
        """The patterns of ``signer_urls_allow``; raises :class:`ConfigError`."""
        return AllowedUrls(self.signer_urls_allow, path="signer_urls_allow")

    @property
    def listener_tls(self) -> TlsFiles:
        """The three TLS files of the TCP listener, absolute."""
        tls = self.server.tls or self.tls
        return TlsFiles(self.path(tls.cert), self.path(tls.key), self.path(tls.ca))

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


C = TypeVar("C")

_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`\Z", re.DOTALL)
_FIELD_MESSAGES = {"contains unknown": "unknown key", "missing required": "is missing"}


def convert(values: object, kind: type[C], *, path: str = "") -> C:
    """``values`` as ``kind``; raises :class:`ConfigError` that names the place below ``path``."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `")
        place = path + where.removeprefix("key` in `").removeprefix("$").rstrip("`")
        if field := _FIELD.match(message):
            message, place = _FIELD_MESSAGES[field[1]], f"{place}.{field[2]}"
        raise ConfigError(message, path=place.lstrip(".").replace("[...]", "[…]") or None) from None


def _merge_environment(values: dict[str, Any], environ: Mapping[str, str], fields: tuple[str, ...]) -> None:
    for variable, place in ENVIRONMENT.items():
        text = environ.get(variable) if place.split(".")[0] in fields else None  # a signer has no socket
        if text is None or (not text and place != "dev"):
            continue
        if variable == "JWT_HS256_B64" and environ.get("JWT_HS256_B64_FILE"):
            continue
        value: object = text
        if variable == "RUST_LOG":
            # "info,hyper=warn,tower": targets are Rust's affair. Without a level for all it says nothing to us.
            levels = [part.strip() for part in text.split(",") if part.strip().lower() in _RUST_LEVELS]
            if not levels:
                continue
            value = levels[-1]
        elif variable in _PATHS:
            value = str(Path.cwd() / text)
        elif place == "dev":
            if text.lower() not in _SWITCH:
                raise ConfigError("use 1 or 0", path=variable)
            value = _SWITCH[text.lower()]
        _put(values, place, value)


def _put(values: dict[str, Any], place: str, value: object) -> None:
    """Set one value; nothing, where it is for a plugin that is not configured."""
    *sections, key = place.split(".")
    table = values
    for depth, section in enumerate(sections, 1):
        if sections[0] == "plugins" and section not in table:
            return
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError("must be a table", path=".".join(sections[:depth]))
    if key in _ONE_OF:
        table.pop(_ONE_OF[key], None)
    table[key] = value
