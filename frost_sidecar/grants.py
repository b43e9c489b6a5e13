"""Which caller may use which key, for what, and how much: the configuration's ``[[grants]]``.

Nobody has a grant that is not written down. Only the development switch, and only where no grant is configured at all,
lets everybody have everything signed, and says so loudly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import anyio

from frost_sidecar.config import Config, GrantConfig
from frost_sidecar.errors import Denied, TooManyRequests
from frost_sidecar.logs import get_logger
from frost_sidecar.model import Caller, JwsSigningInput
from frost_sidecar.rules import JwsRules

log = get_logger("frost_sidecar.grants")


class Grant:
    """What one caller may have signed with one key."""

    def __init__(self, config: GrantConfig, rules: JwsRules | None, key_id: str) -> None:
        """``rules``: None for any bytes. ``key_id``: the key's thumbprint (RFC 7638)."""
        self.config = config
        self._rules = rules
        self._key_id = key_id
        self._in_flight = 0
        self._tokens = float(config.burst)
        self._filled = 0.0

    def check(self, jws: JwsSigningInput | None) -> None:
        """Return where a message, read as ``jws``, may be signed; raises :class:`~frost_sidecar.errors.Denied`."""
        if self._rules is None:
            return
        try:
            self._rules.check(jws, self._key_id)
        except Denied as error:
            raise Denied(f"policy {self.config.policy}: {error}", reason=error.reason or "policy") from None

    @contextmanager
    def spent(self) -> Iterator[None]:
        """One request of the budget, while the block runs; raises :class:`~frost_sidecar.errors.TooManyRequests`."""
        most = self.config.max_in_flight
        if most is not None and self._in_flight >= most:
            raise TooManyRequests(f"caller {self.config.caller} has {most} requests under way, and may have no more")
        self._take()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def _take(self) -> None:
        """Take a token from the bucket, which fills at ``per_second`` up to ``burst``."""
        rate = self.config.per_second
        if rate is None:
            return
        now = anyio.current_time()
        self._tokens = min(float(self.config.burst), self._tokens + (now - self._filled) * rate)
        self._filled = now
        if self._tokens < 1:
            wait = (1 - self._tokens) / rate
            raise TooManyRequests(
                f"caller {self.config.caller} may have {rate:g} signatures per second; again in {wait:.3g} s",
                retry_after=wait,
                reason="rate",
            )
        self._tokens -= 1


class Grants:
    """All grants of a coordinator."""

    def __init__(self, config: Config, key_ids: Mapping[str, str]) -> None:
        """``key_ids``: the thumbprint (RFC 7638) of each key, by its name."""
        self._grants = {
            (each.caller, key): Grant(each, config.policies[each.policy] if each.policy else None, key_ids[key])
            for each in config.grants
            for key in [each.key or config.main_key]
        }
        self._anybody = None
        if not self._grants and config.dev:
            log.warning("no grants are configured: under the development switch everybody may have everything signed")
            self._anybody = Grant(GrantConfig("anybody", opaque=True), None, "")
        elif not self._grants:
            log.warning("no grants are configured, so nobody may have anything signed; add [callers] and [[grants]]")

    def find(self, caller: Caller, key: str) -> Grant:
        """The grant of ``caller`` for ``key``; raises :class:`~frost_sidecar.errors.Denied` where there is none."""
        if self._anybody is not None:
            return self._anybody
        if caller.name is None:
            raise Denied(f"{caller.subject} is none of the configured callers", reason="caller-unknown")
        grant = self._grants.get((caller.name, key))
        if grant is None:
            raise Denied(f"caller {caller.name} has no grant for the key {key!r}", reason="grant-missing")
        return grant

    def has(self, caller: Caller, key: str) -> bool:
        """Whether :meth:`find` finds one."""
        return self._anybody is not None or (caller.name or "", key) in self._grants

    @contextmanager
    def budget(self, caller: Caller, key: str) -> Iterator[None]:
        """A request of ``caller`` under way, within its grant's budget; who has no grant spends nothing.

        Raises :class:`~frost_sidecar.errors.TooManyRequests`.
        """
        grant = self._anybody or self._grants.get((caller.name or "", key))
        if grant is None:
            yield
            return
        with grant.spent():
            yield
