"""What every process configures alike: one TOML file and the documented environment, typed, nothing unknown in it.

The environment wins over the file, and a variable ending in ``_FILE`` wins over its plain form. Relative paths in the
file count from the file's folder, those in the environment from the working directory.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from frost_sidecar.errors import ConfigError
from frost_sidecar.model import TlsFiles

T = TypeVar("T", bound="ProcessConfig")
C = TypeVar("C")

DEFAULT_STATE = "./frost_state"
"""Counts from the working directory, as all that the file does not say."""
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
    crl: str | None = None
    """Revocation lists of the authority (and of those below it), PEM; peers listed there are refused."""
    trust_domain: Annotated[str, Meta(max_length=255, pattern=r"^[a-z0-9._-]+\Z")] | None = None
    """SPIFFE trust domain that every peer must belong to."""

    def files(self, path: Callable[[str], Path]) -> TlsFiles:
        """The files by their absolute paths, which ``path`` makes."""
        crl = None if self.crl is None else path(self.crl)
        return TlsFiles(path(self.cert), path(self.key), path(self.ca), crl, self.trust_domain)


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
                values = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
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
    def issued_by(self) -> str | None:
        """The plugin that issues the tokens of signer calls, where the configuration names one."""
        return None

    @property
    def tls_files(self) -> TlsFiles:
        """The three TLS files, absolute."""
        return self.tls.files(self.path)


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
