"""From settings to a client of the server: address, credentials, TLS and deadlines, each said explicitly."""

from __future__ import annotations

import os
import re
import ssl
import stat
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar_idempotency_redis.settings import Settings

_MAX_URL_BYTES: Final = 4096
_FORMS: Final = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB, with USER:PASSWORD@ in front"
_DATABASE: Final = re.compile(r"[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and how it is spoken to."""

    address: str
    """For logs: no user, no password."""
    kind: type[Connection | SSLConnection | UnixDomainSocketConnection]
    arguments: dict[str, Any] = field(repr=False)
    connect_seconds: float
    call_seconds: float
    max_connections: int

    def client(self) -> Redis:
        """A client; it connects when it is used."""
        pool = BlockingConnectionPool(
            connection_class=self.kind,
            max_connections=self.max_connections,
            timeout=self.call_seconds,
            socket_connect_timeout=self.connect_seconds,
            socket_timeout=self.call_seconds,
            # Once more at once, for a pooled connection that the server has closed: each call may come twice.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            **self.arguments,
        )
        return Redis.from_pool(pool)


def connection_of(settings: Settings, context: PluginContext) -> Server:
    """The server that the settings name.

    Raises:
        ConfigError: the URL or a file cannot be used. No message holds the URL: it may have a password in it.
    """
    place = f"plugins.{context.name}.{'url_file' if settings.url_file is not None else 'url'}"
    if (settings.url is None) == (settings.url_file is None):
        raise ConfigError("set either url or url_file", path=place)
    url = settings.url if settings.url is not None else _read(settings.url_file or "", context, place)
    parts = _split(url, place)
    arguments: dict[str, Any] = {}
    try:
        username, password = parts.username, parts.password
        host, port = parts.hostname, parts.port or 6379
    except ValueError:
        raise ConfigError(f"not an address; use {_FORMS}", path=place) from None
    if username:
        arguments["username"] = unquote(username)
    if password is not None:
        arguments["password"] = unquote(password)
    tls = {name: getattr(settings, name) for name in ("ca", "cert", "key") if getattr(settings, name) is not None}
    if parts.scheme != "rediss" and (tls or settings.process_tls):
        raise ConfigError("ca, cert, key and process_tls are for rediss:// alone", path=place)
    seconds = settings.connect_seconds, settings.call_seconds, settings.max_connections
    if parts.scheme == "unix":
        path = unquote(parts.path)
        arguments |= {"path": path, "db": _database(dict(parse_qsl(parts.query)).get("db", "0"), place)}
        if host or not path.strip("/"):
            raise ConfigError(f"not the path of a socket; use {_FORMS}", path=place)
        return Server(f"unix://{path}", UnixDomainSocketConnection, arguments, *seconds)
    if not host:
        raise ConfigError(f"it names no host; use {_FORMS}", path=place)
    arguments |= {"host": host, "port": port, "db": _database(parts.path.strip("/") or "0", place)}
    address = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if parts.scheme == "redis":
        return Server(address, Connection, arguments, *seconds)
    arguments |= _tls(settings, tls, context)
    return Server(address, SSLConnection, arguments, *seconds)


def _tls(settings: Settings, given: dict[str, str], context: PluginContext) -> dict[str, Any]:
    """Arguments of a connection that checks the server's certificate and name, whatever the URL would like."""
    place = f"plugins.{context.name}"
    if settings.process_tls and given:
        raise ConfigError("process_tls takes the place of ca, cert and key; set one or the other", path=place)
    if ("cert" in given) != ("key" in given):
        raise ConfigError("cert and key go together", path=place)
    files = {name: context.path(value) for name, value in given.items()}
    if settings.process_tls:
        files = {"ca": context.tls.ca, "cert": context.tls.cert, "key": context.tls.key}
    arguments: dict[str, Any] = {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }
    try:
        trial = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            trial.load_cert_chain(files["cert"], files["key"])
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"ca, cert or key cannot be used: {error.strerror or type(error).__name__}", path=place
        ) from None
    names = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
    return arguments | {names[name]: str(path) for name, path in files.items()}


def _split(url: str, place: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise ConfigError(f"not a URL; use {_FORMS}", path=place) from None
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ConfigError(f"unknown scheme; use {_FORMS}", path=place)
    # The client library would take settings from a query, the switch that turns certificates off among them.
    allowed = {"db"} if parts.scheme == "unix" else set()
    if parts.fragment or not {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} <= allowed:
        raise ConfigError(f"a part of the URL is not understood; use {_FORMS}", path=place)
    return parts


def _database(text: str, place: str) -> int:
    if not _DATABASE.match(text):
        raise ConfigError(f"the database is no number; use {_FORMS}", path=place)
    return int(text)


def _read(name: str, context: PluginContext, place: str) -> str:
    path = context.path(name)
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a regular file", path=place)
            data = file.read(_MAX_URL_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", path=place) from None
    if status.st_mode & stat.S_IROTH and not context.dev:
        raise ConfigError(f"{path} can be read by every user; run `chmod o-rwx {path}`", path=place)
    if len(data) > _MAX_URL_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_URL_BYTES} bytes; is it the right file?", path=place)
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds no URL", path=place) from None
