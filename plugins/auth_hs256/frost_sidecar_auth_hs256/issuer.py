"""Signs the bearer tokens of signer calls."""

from __future__ import annotations

import jwt
import msgspec

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import TokenIssuer
from frost_sidecar.model import TokenClaims
from frost_sidecar_auth_hs256.secret import Secret


class Hs256Issuer(TokenIssuer):
    """Issues compact JWTs with the header ``{"alg":"HS256","typ":"JWT"}`` and exactly the claims it is given.

    Raises :class:`~frost_sidecar.errors.ConfigError` for a secret that is a key of another kind (PEM, SSH, DER).
    """

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        try:
            self._encode({})
        except jwt.InvalidKeyError:
            raise ConfigError("the HS256 secret is an asymmetric key or a certificate; use random bytes") from None

    async def issue(self, claims: TokenClaims) -> str:
        """Return the token; raises nothing."""
        return self._encode(msgspec.to_builtins(claims))

    def _encode(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, self._secret.reveal(), algorithm="HS256", sort_headers=True)
