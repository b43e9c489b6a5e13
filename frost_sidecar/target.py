"""One line of configuration says how a mint signs: by a sidecar's socket, by a sidecar over TCP, or in process.

::

    async with connect(os.environ["FROST_TARGET"]) as service:
        signed = await service.sign(signing_input)

========================  ============================================================
``unix:/run/frost/s``     a sidecar's Unix socket
``https://HOST:PORT``     a sidecar over TCP, with ``tls`` and ``token``
``frost-sidecar.toml``    a coordinator in this process, with that configuration
========================  ============================================================
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack

from frost_sidecar.blocking import BlockingCoordinator, SidecarClient
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.config import Config
from frost_sidecar.connection import TokenSource, target_text
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import ConfigError
from frost_sidecar.metrics import CollectorRegistry
from frost_sidecar.model import TlsFiles
from frost_sidecar.service import BlockingSigningService, SigningService

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class Options(TypedDict, total=False):
    """What some kinds of target need; a kind ignores the others' options, so that only the target has to change."""

    timeout: float
    """Sidecar: seconds for a call. In process the configuration says it."""
    attempts: int
    """Sidecar: how often a call is tried at most."""
    connections: int
    """Sidecar: most connections at once."""
    tls: TlsFiles | None
    """https: certificate, key and authority."""
    token: TokenSource | None
    """https: the bearer token, a file with it, or a function that returns it."""
    plugins: Mapping[str, object] | None
    """In process: plugin objects of the program."""
    registry: CollectorRegistry | None
    """In process: where metrics go."""


@asynccontextmanager
async def connect(target: str | os.PathLike[str], **options: Unpack[Options]) -> AsyncIterator[SigningService]:
    """The signing service that ``target`` names, open while the block runs.

    Raises:
        ConfigError: the target is none, or what it names cannot be used.
        PluginError: in process: a plugin cannot be used.
    """
    if _is_sidecar(target):
        async with AsyncSidecarClient(target, **_client(target, options)) as client:
            yield client
    else:
        async with Coordinator.open(Config.load(target), **_coordinator(options)) as coordinator:
            yield coordinator


@contextmanager
def connect_blocking(target: str | os.PathLike[str], **options: Unpack[Options]) -> Iterator[BlockingSigningService]:
    """As :func:`connect`, without asyncio; safe under threads.

    Raises:
        ConfigError: the target is none, or what it names cannot be used.
        PluginError: in process: a plugin cannot be used.
    """
    if _is_sidecar(target):
        with SidecarClient(target, **_client(target, options)) as client:
            yield client
    else:
        with BlockingCoordinator.open(Config.load(target), **_coordinator(options)) as coordinator:
            yield coordinator


def _is_sidecar(target: str | os.PathLike[str]) -> bool:
    text = target_text(target)
    if text.startswith(("unix:", "https://")):
        return True
    if text.startswith("http:"):
        raise ConfigError("a sidecar is not reached over plain HTTP; use https://HOST:PORT, or unix:PATH", path=text)
    if not text or _SCHEME.match(text):
        raise ConfigError(
            "use unix:PATH, https://HOST:PORT, or the path of a coordinator's TOML file", path=text or "target"
        )
    if _is_socket(Path(text)):
        raise ConfigError(f"is a socket; as a target it is unix:{text}", path=text)
    return False


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def _client(target: str | os.PathLike[str], options: Options) -> dict[str, Any]:
    fitting = {
        "timeout",
        "attempts",
        "connections",
        *(("tls", "token") if target_text(target).startswith("https:") else ()),
    }
    return {name: value for name, value in options.items() if name in fitting}


def _coordinator(options: Options) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name in {"plugins", "registry"}}
