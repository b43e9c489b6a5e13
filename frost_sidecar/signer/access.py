"""Who is calling: the certificate's names and a bearer token that is good for this one request.

Whoever steals a token can do nothing with it: it names its signer, lives at most a minute, works once, and carries the
digest of the one body that it vouches for. Nothing in a body says who is calling.
"""

from __future__ import annotations

import asyncio
import heapq
import hmac
import time
from collections.abc import Callable, Sequence

import msgspec

from frost_sidecar.channel import usable_names
from frost_sidecar.errors import Denied, Overloaded, Refusal, Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import SignerMetrics
from frost_sidecar.model import Credentials, Identity, TokenClaims
from frost_sidecar.signer.config import NodeConfig
from frost_sidecar.wire import MAX_TOKEN_LIFETIME, body_digest

log = get_logger("frost_sidecar.signer.access")

AUTHENTICATOR_SECONDS = 1.0
"""Deadline of one authenticator's answer."""
_PURGE = 256
"""Most expired tokens forgotten at one call, so that none pays for all."""
MAX_CLAIM_LENGTH = 256
"""Longest ``sub`` and ``jti``: both are kept in memory."""


class Gate:
    """Lets a request in and says whose it is."""

    def __init__(
        self,
        config: NodeConfig,
        authenticators: Sequence[tuple[str, Authenticator]],
        metrics: SignerMetrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._audience = config.name
        self._rules = config.token
        self._names = config.clients.names
        self._authenticators = tuple(authenticators)
        self._metrics = metrics
        self._clock = clock
        self._seen = _SeenTokens(config.token.max_remembered)

    async def admit(self, token: str | None, certificate_names: tuple[str, ...], body: bytes) -> str:
        """The client that may have this request answered: its certificate's name and its token's subject.

        Raises:
            Denied: the certificate is not one of the configured clients'.
            Unauthenticated: the token is missing, wrong, not for this call, or was used before.
            Overloaded: too many tokens are remembered to tell whether this one is new.
        """
        name = self.certificate(certificate_names)
        try:
            claims = _claims(await self._identity(Credentials(token, certificate_names)))
            self._check(claims, body)
            # From here to the end nothing awaits: of two calls with one token, one comes second.
            self._seen.add((claims.iss, claims.jti), claims.exp + self._rules.leeway_seconds, self._clock())
        except (Unauthenticated, Overloaded) as error:
            self._metrics.refused(error)
            raise
        return f"{name} {claims.sub}"

    def certificate(self, names: tuple[str, ...]) -> str:
        """The client's name by its certificate; raises :class:`Denied` for one that may not call.

        It is the first of the configured names that the certificate carries, so that a client keeps its commitments
        when its certificate is renewed with more names; without configured names, all that it carries.
        """
        usable = usable_names(names)
        allowed = [name for name in self._names if name in usable] if self._names else [",".join(usable)]
        if not usable or not allowed:
            text = "the client certificate carries no name that may call this signer"
            error = Denied(text, reason="certificate-name")
            self._metrics.refused(error)
            raise error
        return allowed[0]

    async def _identity(self, credentials: Credentials) -> Identity:
        if not credentials.token:
            raise Unauthenticated("a bearer token is needed, in one Authorization header", reason="token-missing")
        for plugin, authenticator in self._authenticators:
            try:
                async with asyncio.timeout(AUTHENTICATOR_SECONDS):
                    identity = await authenticator.authenticate(credentials)
            except Unauthenticated:
                raise
            except Exception:
                log.exception("authenticator failed; the call is refused", plugin=plugin)
                raise Unauthenticated("the token could not be checked") from None
            if identity is not None:
                return identity
        raise Unauthenticated("no authenticator knows this kind of token", reason="token-unknown")

    def _check(self, claims: TokenClaims, body: bytes) -> None:
        now, leeway, subjects = self._clock(), self._rules.leeway_seconds, self._rules.subjects
        short = f"1 to {MAX_CLAIM_LENGTH}"
        rows: tuple[tuple[bool, Refusal, str], ...] = (
            (claims.iss not in self._rules.issuers, "token-issuer", "the iss is not one that this signer trusts"),
            (claims.aud != self._audience, "token-audience", "the aud is not this signer"),
            (
                not _is_short(claims.sub) or not claims.sub.isprintable(),
                "token-subject",
                f"the sub is not {short} printable characters",
            ),
            (bool(subjects) and claims.sub not in subjects, "token-subject", "the sub may not call this signer"),
            (claims.iat > now + leeway, "token-not-yet-valid", "the iat is in the future; check the clocks"),
            (claims.nbf > now + leeway, "token-not-yet-valid", "the nbf is in the future; check the clocks"),
            (claims.exp <= now - leeway, "token-expired", "it is expired"),
            (
                not 0 < claims.exp - claims.iat <= MAX_TOKEN_LIFETIME,
                "token-lifetime",
                f"the exp is not within {MAX_TOKEN_LIFETIME} s after the iat",
            ),
            (not _is_short(claims.jti), "token-claims", f"the jti is not {short} characters"),
            (
                not _equal(claims.body_sha256, body_digest(body)),
                "token-body",
                "the body_sha256 is not the digest of this body",
            ),
        )
        for wrong, reason, text in rows:
            if wrong:
                raise Unauthenticated(f"the token is refused: {text}", reason=reason)


class _SeenTokens:
    """Tokens that were used, each until nobody could use it any more. Full, it refuses rather than forgets."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._names: set[tuple[str, str]] = set()
        self._by_expiry: list[tuple[float, tuple[str, str]]] = []

    def add(self, name: tuple[str, str], expires: float, now: float) -> None:
        for _ in range(_PURGE):
            if not self._by_expiry or self._by_expiry[0][0] >= now:
                break
            self._names.discard(heapq.heappop(self._by_expiry)[1])
        if name in self._names:
            raise Unauthenticated("the token was used before", reason="token-replayed")
        if len(self._names) >= self._capacity:
            raise Overloaded("too many tokens in the last minute to tell whether this one was used before")
        self._names.add(name)
        heapq.heappush(self._by_expiry, (expires, name))


def _claims(identity: Identity) -> TokenClaims:
    try:
        claims = msgspec.convert(identity.claims, TokenClaims)
    except msgspec.ValidationError as error:
        raise Unauthenticated(
            f"the token's claims are not those of the signer protocol: {error}", reason="token-claims"
        ) from None
    if claims.sub != identity.subject:
        raise Unauthenticated(
            "the token's sub is not the subject that its authenticator proved", reason="token-subject"
        )
    return claims


def _is_short(claim: str) -> bool:
    return 0 < len(claim) <= MAX_CLAIM_LENGTH


def _equal(claimed: str, expected: str) -> bool:
    return hmac.compare_digest(claimed.encode(errors="replace"), expected.encode())
