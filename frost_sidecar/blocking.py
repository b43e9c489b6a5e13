"""Without asyncio: a coordinator or a sidecar behind plain methods that block, for Django, Flask and scripts.

::

    with BlockingCoordinator.open(Config.load("frost-sidecar.toml")) as coordinator:
        signed = coordinator.sign(b"header.payload")

    client = SidecarClient("/run/frost/sign.sock")
    signed = client.sign(b"header.payload")
    client.close()

Each object has one background thread with an event loop, in which the asynchronous service runs. Any number of threads
may call at once. What is not closed is closed when nothing refers to it any more, or when the program ends.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from frost_sidecar.arguments import Message
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.config import Config
from frost_sidecar.connection import BearerToken, TokenSource
from frost_sidecar.contract import Readiness
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.metrics import CollectorRegistry
from frost_sidecar.model import BatchItem, Signed, TlsFiles
from frost_sidecar.portal import Opener, Portal
from frost_sidecar.service import SigningService

T = TypeVar("T")
S = TypeVar("S", bound=SigningService)

_FORK_SECONDS: Final = 5.0
"""How long a fork waits for a service that is being opened."""


class _Blocking(Generic[S]):
    """The methods of :class:`~frost_sidecar.service.BlockingSigningService` over a portal."""

    _reopens: bool
    """Whether a child of a fork may open the service anew."""

    def __init__(self, opener: Opener[S], seconds: float) -> None:
        self._opener = opener
        self._seconds = seconds
        self._lock = threading.Lock()
        self._portal: Portal[S] | None = None
        self._closed: str | None = None
        """Why there are no calls any more."""
        self._dropped: weakref.finalize[[Portal[S]], Any] | None = None
        _EVERY.add(self)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sign(
        self,
        message: Message,
        *,
        key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Signed:
        """As :meth:`~frost_sidecar.service.SigningService.sign`; :class:`RuntimeError` in an event loop's thread."""
        return self._call(
            lambda service: service.sign(
                message,
                key=key,
                participants=participants,
                signer_urls=signer_urls,
                timeout=timeout,
                idempotency_key=idempotency_key,
                request_id=request_id,
                traceparent=traceparent,
            )
        )

    def sign_batch(
        self,
        items: Sequence[Message | BatchItem],
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Signed | FrostSidecarError]:
        """As :meth:`~frost_sidecar.service.SigningService.sign_batch`."""
        return self._call(
            lambda service: service.sign_batch(
                items,
                timeout=timeout,
                idempotency_key=idempotency_key,
                request_id=request_id,
                traceparent=traceparent,
            )
        )

    def group_public(self, key: str | None = None) -> bytes:
        """As :meth:`~frost_sidecar.service.SigningService.group_public`."""
        return self._call(lambda service: service.group_public(key))

    def jwks(self) -> dict[str, Any]:
        """As :meth:`~frost_sidecar.service.SigningService.jwks`."""
        return self._call(lambda service: service.jwks())

    def readiness(self) -> Readiness:
        """As :meth:`~frost_sidecar.service.SigningService.readiness`."""
        return self._call(lambda service: service.readiness())

    def close(self) -> None:
        """Let the calls under way finish, then close; nothing, where it is closed. In a forked child it is closed."""
        with self._lock:
            self._closed = self._closed or "the service is closed"
            portal, self._portal = self._portal, None
            dropped, self._dropped = self._dropped, None
        if dropped is not None:
            dropped.detach()
        if portal is not None:
            portal.close()
            _RUNNING.discard(portal)

    def _open(self) -> Portal[S]:
        _refuse_event_loop()
        with self._lock:
            if self._closed is not None:
                raise RuntimeError(self._closed)
            if self._portal is None:
                portal = Portal(self._opener, self._seconds)
                try:
                    with _FORKS.held():
                        portal.open()
                    self._keep(portal)
                except BaseException:
                    self._portal = None
                    portal.abandon()
                    raise
                return portal
            return self._portal

    def _keep(self, portal: Portal[S]) -> None:
        """``portal`` is ours; also where the program ends, or forgets us, without closing."""
        _RUNNING.difference_update([each for each in _RUNNING.copy() if each.ended])
        _RUNNING.add(portal)
        self._dropped = weakref.finalize(self, _let_go, portal)
        self._dropped.atexit = False
        self._portal = portal

    def _call(self, function: Callable[[S], Awaitable[T]]) -> T:
        _refuse_event_loop()
        portal = self._portal
        return (portal if portal is not None else self._open()).call(function)

    def _forked(self) -> None:
        """In a forked child: the thread and its event loop exist in the parent alone."""
        self._lock = threading.Lock()
        self._portal = None
        if self._dropped is not None:
            self._dropped.detach()
            self._dropped = None
        if not self._reopens:
            self._closed = "the coordinator was opened before a fork: open it in each process, after the fork"


class BlockingCoordinator(_Blocking[Coordinator]):
    """A coordinator in this process: :meth:`open` it, after the fork where processes are forked."""

    _reopens = False

    @classmethod
    def open(
        cls,
        config: Config,
        *,
        plugins: Mapping[str, object] | None = None,
        registry: CollectorRegistry | None = None,
    ) -> Self:
        """A running coordinator, to be closed by :meth:`close` or at the end of a ``with`` block.

        Args:
            config: the configuration.
            plugins: as in :meth:`frost_sidecar.coordinator.Coordinator.open`; they run in the background thread.
            registry: where metrics go; by default a registry of the coordinator's own.

        Raises:
            ConfigError: the configuration or a group file cannot be used.
            PluginError: a plugin cannot be used.
            RuntimeError: called in the thread of an event loop.
        """
        # A signature is recorded after its deadline, in a time of its own.
        seconds = config.signing.budget_seconds + config.audit.write_seconds
        service = cls(partial(Coordinator.open, config, plugins=plugins, registry=registry), seconds)
        service._open()
        return service


class SidecarClient(_Blocking[AsyncSidecarClient]):
    """A running sidecar. Opened by the first call or a ``with`` block, and opened anew in a forked child."""

    _reopens = True

    def __init__(
        self,
        target: str | os.PathLike[str],
        *,
        timeout: float = 10.0,
        attempts: int = 3,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
        connections: int = 64,
    ) -> None:
        """As :class:`~frost_sidecar.client.AsyncSidecarClient`; a function as ``token`` runs in the background thread.

        Raises:
            ConfigError: an argument cannot be used.
        """
        opener = partial(
            AsyncSidecarClient,
            target,
            timeout=timeout,
            attempts=attempts,
            token=BearerToken.of(token),
            tls=tls,
            connections=connections,
        )
        opener()  # says now what is wrong
        super().__init__(opener, timeout)


def _refuse_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "called in the thread of a running event loop, which it would block: "
        "await Coordinator or AsyncSidecarClient there, or call from a worker thread"
    )


def _let_go(portal: Portal[Any]) -> None:
    """Its object was dropped without a word. In a forked child nothing: the thread is the parent's."""
    if portal in _RUNNING:
        portal.let_go()


def _close_all() -> None:
    for portal in _RUNNING.copy():
        portal.close()


_EVERY: weakref.WeakSet[_Blocking[Any]] = weakref.WeakSet()
_RUNNING: set[Portal[Any]] = set()
"""Portals whose thread runs, or ends by itself."""
_ABANDONED: list[Portal[Any]] = []
"""A parent's portals, kept in its forked child: ending them would reach into the parent's event loop, whose epoll
descriptor both processes share."""


class _Forks:
    """Forks wait while a service opens: a child forked off then inherits the import locks of a thread it has not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No fork while the block runs, but where it takes unreasonably long."""
        with self._lock:
            yield

    def before(self) -> None:
        """In the thread that forks."""
        self._of_thread.waited = self._lock.acquire(timeout=_FORK_SECONDS)

    def in_parent(self) -> None:
        """The fork is over."""
        if self._of_thread.waited:
            self._lock.release()

    def in_child(self) -> None:
        """Nothing of the parent's is left but data."""
        self._lock = threading.Lock()
        _ABANDONED.extend(_RUNNING)
        _RUNNING.clear()
        for each in list(_EVERY):
            each._forked()  # noqa: SLF001 - its own module


_FORKS = _Forks()
atexit.register(_close_all)
os.register_at_fork(before=_FORKS.before, after_in_parent=_FORKS.in_parent, after_in_child=_FORKS.in_child)
