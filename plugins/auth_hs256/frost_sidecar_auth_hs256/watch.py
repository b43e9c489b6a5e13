"""A keyring that follows its secret's file."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from frost_sidecar_auth_hs256.file import Fault, Reading, SecretFile, Stamp
from frost_sidecar_auth_hs256.keyring import Keyring

LOOK_SECONDS: Final = 1.0
"""Shortest time from the end of one look at the file to the next one's start."""
REST_SECONDS: Final = 10.0
"""A file that nobody has touched for this long is not being written."""
PATIENCE_SECONDS: Final = 0.2
"""How long uses wait for a look, all together; after that they go on with what the keyring has."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the file, under way in its thread."""

    started: float
    done: anyio.Event = field(default_factory=anyio.Event)


class WatchedKeyring(Keyring):
    """Looks at the file when it is used, at most once a second; a file that cannot be used leaves things as they are.

    A look is a ``stat`` and, where that shows another file, a read of a few bytes. It runs in a thread of its own, one
    at a time, because a file system may hang: then uses wait ``PATIENCE_SECONDS`` once, not one by one, and the thread
    holds up neither the event loop, nor a shared pool of threads, nor the end of the process, as it is a daemon.

    A file in the place of another one is taken over at once. One that is written in place is taken over when it was the
    same at two looks, one after the other, or has been at rest for ``REST_SECONDS``: half of a secret is base64, too.
    So is one where the look before found none: nobody can tell whether it was moved there or is being written.
    """

    def __init__(
        self,
        file: SecretFile,
        reading: Reading,
        *,
        previous_seconds: float,
        log: Any,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``reading``: what the file held at the start.

        ``previous_seconds``: how long after a change the secret before it is accepted. ``log``: a logger as of
        :func:`frost_sidecar.logs.get_logger`. ``wall``: seconds since 1970, to compare with times of files.
        """
        super().__init__(reading.secret, clock=clock)
        self._file = file
        self._previous_seconds = previous_seconds
        self._log = log.bind(path=str(file.path))
        self._wall = wall
        self._stamp = reading.stamp
        self._fault: Fault | None = None
        # Times are starts of looks, so that a change during a slow one falls behind them, not before.
        self._looked = self._unseen = clock()
        self._due = self._looked + LOOK_SECONDS
        # What the last look saw, None for no file; it did not see that yet at the time ``_unseen``.
        self._seen: Stamp | None = reading.stamp
        self._look: _Look | None = None

    async def refresh(self) -> None:
        """Look at the file, if the last look is a second ago, and take over what it holds."""
        now = self._clock()
        look = self._look
        if look is None:
            if now < self._due:
                return
            look = self._look = _Look(now)
            self._start(look)
        patience = look.started + PATIENCE_SECONDS - now
        if patience > 0:
            with anyio.move_on_after(patience):
                await look.done.wait()
                return
        self._note(Fault("no answer from its file system"))

    def _start(self, look: _Look) -> None:
        # After a fault the file is read whatever its stamp: what was wrong may be outside of it, and still be.
        known = None if self._fault else self._stamp
        arguments = (asyncio.get_running_loop(), look, known)
        try:
            threading.Thread(target=self._run, args=arguments, name="auth_hs256 secret file", daemon=True).start()
        except RuntimeError:
            self._finish(look, Fault("the system starts no more threads"))

    def _run(self, loop: asyncio.AbstractEventLoop, look: _Look, known: Stamp | None) -> None:
        """In the thread: no state of the keyring is touched here."""
        try:
            seen = self._file.look(known)
        except Exception as error:  # noqa: BLE001 - or the keyring would wait for this look for ever
            seen = Fault(type(error).__name__)
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(self._finish, look, seen)

    def _finish(self, look: _Look, seen: Reading | Fault | None) -> None:
        before, stamp = self._seen, self._stamp if seen is None else seen.stamp
        if stamp != before:
            self._seen, self._unseen = stamp, self._looked
        if isinstance(seen, Fault):
            self._note(seen)
        else:
            if seen is not None:
                self._accept(seen, before, look)
            if self._fault is not None:
                self._log.info("the secret's file can be used again")
            self._fault = None
        self._looked = look.started
        self._due = self._clock() + LOOK_SECONDS
        self._look = None
        look.done.set()

    def _note(self, fault: Fault) -> None:
        """Say what is wrong, once for each change."""
        if fault != self._fault:
            self._fault = fault
            self._log.error("the secret's file cannot be used; the secret read before stays", why=fault.message)

    def _accept(self, reading: Reading, before: Stamp | None, look: _Look) -> None:
        """Take over what was read, unless it may be half of a secret; ``before``: what the look before saw."""
        if not reading.secret.matches(self.newest):
            # From the change on, not from this look: a process that was idle since gives the old secret no second life.
            now = self._clock()
            age = min(max(self._wall() - reading.stamp.changed_ns / 1e9, 0.0), now - self._unseen)
            exchanged = before is not None and not reading.stamp.same_file(before)
            at_rest = reading.stamp == before or age - (now - look.started) >= REST_SECONDS
            if not reading.steady or not (exchanged or at_rest):
                return
            for sentence in reading.forgiven:
                self._log.warning(sentence)
            self.replace(reading.secret, until=now - age + self._previous_seconds)
            self._log.info("the secret was replaced", previous_seconds=self._previous_seconds)
        self._stamp = reading.stamp
