"""A background thread with an event loop in which an asynchronous service is open, for callers that have no loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

import anyio

from frost_sidecar.errors import DeadlineExceeded, ShuttingDown
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.portal")

S = TypeVar("S")
T = TypeVar("T")

Opener = Callable[[], AbstractAsyncContextManager[S]]

_SPARE_SECONDS: Final = 5.0
"""What a call or the end may take beyond its own deadline before the calling thread is let go."""


class _Work:
    """One call, from before it is handed to the loop: an interrupt may come before there is a future to cancel."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._abandoned = False

    def begin(self) -> asyncio.Task[Any] | None:
        """Its task, from now on; None where nobody waits for it any more."""
        self._task = asyncio.current_task()
        return None if self._abandoned else self._task

    def abandon(self) -> None:
        """Nobody waits for it any more; in the loop's thread."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()


class Portal(Generic[S]):
    """One service, open from :meth:`open` to :meth:`close`, and callable by any number of threads between."""

    def __init__(self, opener: Opener[S], seconds: float) -> None:
        """``seconds``: the longest call that the service allows. A loop that hangs must not hang its callers."""
        self._opener = opener
        self._seconds = seconds + _SPARE_SECONDS
        self._ready: concurrent.futures.Future[S] = concurrent.futures.Future()
        self._accepting = False
        self._abandoned = False
        self._lock = threading.Lock()
        """Held for moments only, so that no call can slip in behind the end."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._stop = asyncio.Event()
        self._calls: set[asyncio.Task[Any]] = set()
        # A daemon, and so are its worker threads: the interpreter waits for others before it runs atexit's functions.
        self._thread = threading.Thread(target=self._run, name="frost-sidecar", daemon=True)

    def open(self) -> None:
        """Start the thread and wait for the service; raises what opening it raises. An interrupt ends the thread."""
        try:
            self._thread.start()
            self._ready.result()
            with self._lock:
                self._accepting = True
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Nobody will call: end the thread, wherever it is; before its loop exists it finds the flag when it starts."""
        with self._lock:
            self._accepting = False
            self._abandoned = True
            self._soon(self._cancel)

    def let_go(self) -> None:
        """As :meth:`close`, without waiting or a lock: for finalizers, which may run in the middle of anything."""
        self._soon(self._stop.set)

    @property
    def ended(self) -> bool:
        """Whether the thread is gone."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Let the calls under way finish, then close the service. New calls are refused from now on."""
        with self._lock:
            self._accepting = False
            self._soon(self._stop.set)
        self._thread.join(self._seconds)
        if self._thread.is_alive():
            log.error("the service did not end in time; cancelling what is left")
            self._soon(self._cancel)
            self._thread.join(_SPARE_SECONDS)

    def call(self, function: Callable[[S], Awaitable[T]]) -> T:
        """What ``function`` of the service gives. It is cancelled where the calling thread is interrupted.

        Raises:
            RuntimeError: the service is closed.
            ShuttingDown: it was closed meanwhile, and the call did not finish in its time.
            DeadlineExceeded: there was no answer long after the service's own deadline.
        """
        work = _Work()
        try:
            return self._result(self._handed_over(work, function))
        except concurrent.futures.CancelledError:
            raise ShuttingDown("the service was closed before the request was finished") from None
        except BaseException:
            self._soon(work.abandon)
            raise

    def _handed_over(self, work: _Work, function: Callable[[S], Awaitable[T]]) -> concurrent.futures.Future[T]:
        with self._lock:
            if not self._accepting or self._loop is None:
                raise RuntimeError("the service is closed")
            return asyncio.run_coroutine_threadsafe(self._do(work, function), self._loop)

    def _result(self, future: concurrent.futures.Future[T]) -> T:
        done, _ = concurrent.futures.wait([future], self._seconds)
        if not done:
            raise DeadlineExceeded(f"no answer within {self._seconds:g} s; does a plugin block the event loop?")
        return future.result()

    async def _do(self, work: _Work, function: Callable[[S], Awaitable[T]]) -> T:
        task = work.begin()
        if task is None:
            raise asyncio.CancelledError
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await function(self._ready.result())

    def _run(self) -> None:
        try:
            # Not uvloop: a child that is forked off while libuv has threads crashes at its end, when libuv joins them.
            anyio.run(self._serve)
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)  # it belongs to whoever opens
            elif not self._abandoned:
                log.exception("the service did not end cleanly")
        finally:
            with self._lock:
                self._accepting = False

    async def _serve(self) -> None:
        with self._lock:
            self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
            if self._abandoned:
                return
        async with self._opener() as service:
            self._ready.set_result(service)
            await self._stop.wait()
            while self._calls:
                await asyncio.wait(self._calls)

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _soon(self, act: Callable[[], object]) -> None:
        """Let the loop do ``act``, where there is still a loop."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(act)
        except RuntimeError:
            log.debug("the event loop has ended already")
