"""What a token's claims must be, whatever it is for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from frost_sidecar.errors import Unauthenticated

_TEXTS: Final = ("iss", "jti", "body_sha256")


class ClaimRules:
    """Times, lifetime, issuer and subject; audience, body and replay are the host's to check."""

    def __init__(
        self,
        *,
        max_lifetime: float,
        leeway: float = 0,
        issuers: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``max_lifetime`` and ``leeway`` in seconds; ``issuers``: the accepted ``iss``, empty for any."""
        self._max_lifetime = max_lifetime
        self._leeway = leeway
        self._issuers = frozenset(issuers)
        self._clock = clock

    def now(self) -> float:
        """The time that counts here, in seconds since the epoch."""
        return self._clock()

    def check(self, claims: Mapping[str, object]) -> str:
        """The subject; raises :class:`Unauthenticated` with the reason for claims that do not hold."""
        _check_types(claims)
        self._check_times(claims)
        if self._issuers and claims.get("iss") not in self._issuers:
            raise Unauthenticated("the token's iss is not one that is trusted here", reason="token-issuer")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise Unauthenticated("the token has no subject (sub)", reason="token-subject")
        return subject

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now = self.now()
        issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims, name) > now + self._leeway:
                raise Unauthenticated(
                    f"the token is not valid yet ({name} is in the future); compare the clocks",
                    reason="token-not-yet-valid",
                )
        if expires <= now - self._leeway:
            raise Unauthenticated("the token has expired; compare the clocks if it is fresh", reason="token-expired")
        if not 0 < expires - issued <= self._max_lifetime:
            raise Unauthenticated(
                f"the token's exp is not within {self._max_lifetime:g} s after its iat", reason="token-lifetime"
            )


def _check_types(claims: Mapping[str, object]) -> None:
    for name in _TEXTS:
        if not isinstance(claims.get(name, ""), str):
            raise _wrong(f"{name} is not a string")
    audience = claims.get("aud", "")
    if not all(isinstance(each, str) for each in (audience if isinstance(audience, list) else [audience])):
        raise _wrong("aud is not a string or a list of strings")


def _seconds(claims: Mapping[str, object], name: str) -> float:
    """A NumericDate (RFC 7519, section 2)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"{name} is missing or not a number")
    if not abs(value) <= sys.float_info.max:  # so that whoever calculates with it may
        raise _wrong(f"{name} is out of range")
    return value


def _wrong(what: str) -> Unauthenticated:
    return Unauthenticated(f"the token's claim {what}", reason="token-claims")
