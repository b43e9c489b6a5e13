"""The secrets that count now: the newest, and for a while the one before."""

from __future__ import annotations

import time
from collections.abc import Callable

from frost_sidecar_auth_hs256.secret import Secret


class Keyring:
    """Holds a secret. This one stays as it is; see :class:`~frost_sidecar_auth_hs256.watch.WatchedKeyring`."""

    def __init__(self, secret: Secret, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds that never go back."""
        self._clock = clock
        self._newest = secret
        self._previous: Secret | None = None
        self._until = 0.0

    async def refresh(self) -> None:
        """Bring the keyring up to date, where it has something to follow. Called before each use; raises nothing."""

    @property
    def newest(self) -> Secret:
        """The secret to sign with."""
        return self._newest

    def accepted(self) -> tuple[Secret, ...]:
        """The secrets to check with: the newest, then the one before while it still counts."""
        if self._previous is not None and self._clock() >= self._until:
            self._previous = None
        return (self._newest,) if self._previous is None else (self._newest, self._previous)

    def replace(self, secret: Secret, *, until: float) -> None:
        """Make ``secret`` the newest; the present one is accepted before ``until`` on the clock, older ones no more."""
        self._newest, self._previous, self._until = secret, self._newest, until
