"""Signs the bearer tokens of signer calls."""

from __future__ import annotations

import msgspec
from jwt import api_jws

from frost_sidecar.hookspecs import TokenIssuer
from frost_sidecar.model import TokenClaims
from frost_sidecar_auth_hs256.keyring import Keyring


class Hs256Issuer(TokenIssuer):
    """Issues compact JWTs with the header ``{"alg":"HS256","typ":"JWT"}`` and exactly the claims it is given."""

    def __init__(self, keyring: Keyring) -> None:
        """``keyring``: its newest secret signs."""
        self._keyring = keyring

    async def issue(self, claims: TokenClaims) -> str:
        """Return the token; raises nothing."""
        await self._keyring.refresh()
        secret = self._keyring.newest.reveal()
        return api_jws.encode(msgspec.json.encode(claims), secret, algorithm="HS256", sort_headers=True)
