"""The secrets that count now: the newest, and each one before it for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from frost_sidecar_auth_hs256.secret import Secret

MAX_PREVIOUS: Final = 4
"""Most secrets before the newest that are accepted; of more, the oldest goes first."""


class Keyring:
    """Holds a secret. This one stays as it is; see :class:`~frost_sidecar_auth_hs256.watch.WatchedKeyring`."""

    def __init__(self, secret: Secret, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds that never go back."""
        self._clock = clock
        self._newest = secret
        self._previous: list[tuple[Secret, float]] = []
        """Each with its end on the clock, the last one replaced first."""

    async def refresh(self) -> None:
        """Bring the keyring up to date, where it has something to follow. Called before each use; raises nothing."""

    @property
    def newest(self) -> Secret:
        """The secret to sign with."""
        return self._newest

    def accepted(self) -> tuple[Secret, ...]:
        """The secrets to check with: the newest, then those before that still count, the last one replaced first."""
        if self._previous:
            now = self._clock()
            self._previous = [each for each in self._previous if now < each[1]]
        return (self._newest, *(secret for secret, _ in self._previous))

    def replace(self, secret: Secret, *, until: float) -> None:
        """Make ``secret`` the newest; the present one is accepted before ``until`` on the clock.

        Those before it keep their own ends, as many as ``MAX_PREVIOUS`` allows.
        """
        # A secret that comes back does not take up a place beside itself.
        others = [each for each in self._previous if not each[0].matches(secret)]
        self._previous = [(self._newest, until), *others][:MAX_PREVIOUS]
        self._newest = secret
