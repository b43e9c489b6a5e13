"""Signs the bearer tokens of signer calls, and publishes what they can be checked with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import TokenIssuer
from frost_sidecar.logs import get_logger
from frost_sidecar.model import TokenClaims
from frost_sidecar_auth_eddsa_jwks.jwks import last_end
from frost_sidecar_auth_eddsa_jwks.keyfiles import KeyFiles
from frost_sidecar_auth_eddsa_jwks.private import PrivateKey
from frost_sidecar_auth_eddsa_jwks.publication import Publication
from frost_sidecar_auth_eddsa_jwks.schedule import Schedule

log = get_logger("frost_sidecar.auth_eddsa_jwks")

LOOK_SECONDS: Final = 1.0
"""Time between two looks at the clock for keys that are to be published no longer."""
_MEMBERS: Final = msgspec.json.Encoder()


class JwksIssuer(TokenIssuer):
    """Issues compact JWTs with ``alg``, ``kid`` and ``typ`` in the header and exactly the claims it is given."""

    def __init__(
        self,
        files: KeyFiles,
        *,
        publish_seconds: float,
        retired_seconds: float,
        publication: Publication | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads nothing yet: :meth:`reload` does, and has to be called before the first token.

        ``publish_seconds`` and ``retired_seconds``: see :meth:`Schedule.follow_up`. ``clock``: seconds since 1970.
        """
        self._files = files
        self._publish_seconds = publish_seconds
        self._retired_seconds = retired_seconds
        self._publication = publication
        self._clock = clock
        self._schedule: Schedule | None = None
        self._signs: PrivateKey | None = None
        self._turn = threading.Lock()
        self._over = threading.Event()

    async def __aenter__(self) -> Self:
        # A thread that the end of the process does not wait for: a file system may hang.
        self._over = over = threading.Event()
        threading.Thread(target=self._withdraw_in_time, args=(over,), name="token keys", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    async def issue(self, claims: TokenClaims) -> str:
        """Return the token; raises :class:`~frost_sidecar.errors.ConfigError` where every key has expired."""
        key = self._now().signing(self._clock())
        if key is not self._signs:
            if self._signs is None or self._signs.public.kid != key.public.kid:
                log.info("another key signs", kid=key.public.kid)
            self._signs = key
        return key.sign(_MEMBERS.encode(claims))

    def jwks(self) -> dict[str, Any]:
        """The JWK set (RFC 7517) that the tokens can be checked with, now."""
        return self._now().jwks()

    def reload(self) -> float | None:
        """Read the keys, publish them, and sign with the newest from its time on; waits for the file system.

        Returns when the last key ends to be valid, in seconds since the epoch, None for never.

        Raises:
            ConfigError: no key can be used, or they cannot be published: then all stays as it is.
        """
        keys = self._files.read()
        with self._turn:
            before = self._schedule
            if before is None:
                before = Schedule() if self._publication is None else self._publication.recall()
            now = self._clock()
            after = before.follow_up(
                keys, now, publish_seconds=self._publish_seconds, retired_seconds=self._retired_seconds
            )
            if self._publication is not None:
                self._publication.write(after)  # first, so that nothing signs that is not published
            self._schedule = after
        for kid in {each.public.kid for each in after.entries} - {each.public.kid for each in before.entries}:
            log.info("key published", kid=kid)
        for key, ready in after.keys[:1]:
            log.info("newest key", kid=key.public.kid, signs_in_seconds=max(0, round(ready - now)))
        return last_end(key.public for key in keys)

    def _now(self) -> Schedule:
        if self._schedule is None:
            raise ConfigError("the keys were not read yet")
        return self._schedule

    def _withdraw_in_time(self, over: threading.Event) -> None:
        said = ""
        while not over.wait(LOOK_SECONDS):
            try:
                if self._now().is_due(self._clock()):
                    self._withdraw()
                said = ""
            except ConfigError as error:
                if said != str(error):  # once for each reason, not once a second
                    said = str(error)
                    log.error("a key could not be withdrawn", why=said)  # noqa: TRY400 - the reason is the message

    def _withdraw(self) -> None:
        with self._turn:
            after = self._now().follow_up(
                [key for key, _ in self._now().keys],
                self._clock(),
                publish_seconds=self._publish_seconds,
                retired_seconds=self._retired_seconds,
            )
            if self._publication is not None:
                self._publication.write(after)
            self._schedule = after
