"""Checks bearer tokens."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.model import Credentials, Identity
from frost_sidecar_auth_eddsa_jwks.claims import ClaimRules
from frost_sidecar_auth_eddsa_jwks.jwk import Algorithm
from frost_sidecar_auth_eddsa_jwks.source import KeySource, check_end
from frost_sidecar_auth_eddsa_jwks.token import parse_token


class JwksAuthenticator(Authenticator):
    """Accepts JWTs that a key of the set signed, and whose claims hold."""

    def __init__(self, source: KeySource, rules: ClaimRules, algorithms: Iterable[Algorithm]) -> None:
        """``algorithms``: what tokens' headers may say; the key must fit, too."""
        self._source = source
        self._rules = rules
        self._algorithms = frozenset(algorithms)

    async def __aenter__(self) -> Self:
        await self._source.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._source.__aexit__(kind, error, trace)

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return the token's subject and claims; None without a token or where its header names HS256, 384 or 512.

        Raises :class:`~frost_sidecar.errors.Unauthenticated` with the reason for any other token. Audience, body and
        replay are the host's to check.
        """
        if credentials.token is None:
            return None
        token = parse_token(credentials.token)
        if token.is_symmetric:
            return None
        algorithm = token.algorithm(self._algorithms)
        token.check_header()
        key = await self._source.find(token.kid())
        if algorithm not in key.algorithms:
            raise Unauthenticated("the token's key is not one for its alg", reason="token-key")
        check_end(key, self._rules.now())
        if not key.verify(algorithm, token.message, token.signature):
            raise Unauthenticated("the token's signature is wrong", reason="token-signature")
        claims = token.claims()
        subject = self._rules.check(claims)
        return Identity(subject, "rs256" if algorithm == "RS256" else "eddsa", claims)
