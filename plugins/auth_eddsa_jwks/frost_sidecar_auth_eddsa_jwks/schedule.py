"""Which key signs, and which are published, from when until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frost_sidecar.errors import ConfigError
from frost_sidecar_auth_eddsa_jwks.jwk import PublicKey
from frost_sidecar_auth_eddsa_jwks.private import PrivateKey


@dataclass(frozen=True, slots=True)
class Entry:
    """A published key. Times are whole seconds since the epoch."""

    public: PublicKey
    since: int
    """When it was first published; 0: before anybody counted."""
    until: int | None
    """When it is published no longer; None: not as long as its file is there."""

    def is_published(self, now: float) -> bool:
        """Whether those who check still take it."""
        return self.until is None or self.until > now

    def jwk(self) -> dict[str, Any]:
        """The key as JWK. ``iat`` and ``exp`` are its times, for the next start and for those who check with it.

        An Ed25519 key has no ``alg``: tokens may say ``EdDSA`` or ``Ed25519``, and checkers drop keys that say the
        other.
        """
        public = self.public
        alg = {"alg": next(iter(public.algorithms))} if len(public.algorithms) == 1 else {}
        since = {"iat": self.since} if self.since else {}
        until = {} if self.until is None else {"exp": self.until}
        return {**public.members, "kid": public.kid, "use": "sig", **alg, **since, **until}


@dataclass(frozen=True, slots=True)
class Schedule:
    """The keys of one moment. Another moment's is made of it by :meth:`follow_up`."""

    keys: tuple[tuple[PrivateKey, float], ...] = ()
    """Those whose files are there, the newest first, each with the time from when on it may sign."""
    entries: tuple[Entry, ...] = ()
    """Those that are published."""

    def follow_up(
        self, keys: Sequence[PrivateKey], now: float, *, publish_seconds: float, retired_seconds: float
    ) -> Schedule:
        """What is next, when ``keys``, the newest first, are those whose files are there.

        A key that was not published yet, or not any longer, signs after ``publish_seconds``; at the very first, where
        nothing was, the oldest that has not expired signs at once: it is the one that others may know already.
        One that is not among ``keys`` is published for ``retired_seconds`` more, as is one that has expired.
        """
        gone = {entry.public.kid: entry for entry in self.entries}
        held, entries = [], []
        oldest = next((key for key in reversed(keys) if key.public.expires is None or key.public.expires > now), None)
        for key in keys:
            public = key.public
            before = gone.pop(public.kid, None)
            known = before is not None and before.public.is_same(public) and before.is_published(now)
            is_first = not self.entries and key is oldest
            # No key was published in the future: a clock was ahead.
            since = min(before.since, int(now)) if before and known else 0 if is_first else int(now)
            held.append((key, since + publish_seconds if since else 0.0))
            end = None if public.expires is None else int(public.expires + retired_seconds)
            if end is None or end > now:
                entries.append(Entry(public, since, end))
        for entry in gone.values():
            end = int(now + retired_seconds)
            until = end if entry.until is None else min(entry.until, end)
            if until > now:
                entries.append(Entry(entry.public, entry.since, until))
        return Schedule(tuple(held), tuple(entries))

    def signing(self, now: float) -> PrivateKey:
        """The key to sign with: the newest that was published for long enough, or else the one that was for longest.

        Raises :class:`~frost_sidecar.errors.ConfigError` where all have expired.
        """
        usable = [(key, ready) for key, ready in self.keys if key.public.expires is None or key.public.expires > now]
        if not usable:
            raise ConfigError("every key has expired (exp in its JWK); add a new one")
        for key, ready in usable:
            if ready <= now:
                return key
        return min(usable, key=lambda each: each[1])[0]

    def is_due(self, now: float) -> bool:
        """Whether a key is to be published no longer."""
        return any(entry.until is not None and entry.until <= now for entry in self.entries)

    def jwks(self) -> dict[str, Any]:
        """The published keys as JWK set (RFC 7517, section 5)."""
        return {"keys": [entry.jwk() for entry in self.entries]}
