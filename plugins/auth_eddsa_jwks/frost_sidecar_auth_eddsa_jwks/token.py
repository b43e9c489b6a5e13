"""A compact JWT, taken apart so that no two readers see different things in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from frost_sidecar.encoding import decode_base64url, decode_json
from frost_sidecar.errors import Unauthenticated
from frost_sidecar_auth_eddsa_jwks.jwk import ALGORITHMS, MAX_KID, Algorithm, is_kid

MAX_TOKEN_CHARS: Final = 8192
"""Longest token that is looked at."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
_SYMMETRIC: Final = frozenset({"HS256", "HS384", "HS512"})
_REFUSED_HEADERS: Final = (
    *("b64", "crit", "enc", "epk", "zip"),
    *("jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u"),
)
"""Members that would change how a token is read, or bring or choose a key of its own (RFC 7515, section 4.1)."""
_TYPES: Final = frozenset({"jwt", "at+jwt"})
"""RFC 7519, section 5.1; RFC 9068, section 2.1. Other types are tokens for something else (RFC 8725, section 3.11)."""


@dataclass(frozen=True, slots=True)
class Token:
    """The parts of a token that nobody has checked yet."""

    header: dict[str, object]
    message: bytes = field(repr=False)
    """The signing input (RFC 7515, section 5.1)."""
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def is_symmetric(self) -> bool:
        """Whether its header names an algorithm with a shared secret."""
        return self.header["alg"] in _SYMMETRIC

    def algorithm(self, accepted: frozenset[Algorithm]) -> Algorithm:
        """Its ``alg``; raises :class:`Unauthenticated` for one that is not accepted, ``none`` in any spelling first."""
        for each in ALGORITHMS:
            if each == self.header["alg"] and each in accepted:
                return each
        known = ", ".join(each for each in ALGORITHMS if each in accepted)
        raise Unauthenticated(f"the token's alg is none of {known}", reason="token-algorithm")

    def check_header(self) -> None:
        """Raise :class:`Unauthenticated` for a header that asks for another reading or another kind of token."""
        for member in _REFUSED_HEADERS:
            if member in self.header:
                raise Unauthenticated(
                    f"the token's header has the member {member!r}, which is not accepted", reason="token-header"
                )
        kind = self.header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
            raise Unauthenticated("the token's typ is not JWT", reason="token-header")
        if "cty" in self.header:
            raise Unauthenticated("the token's header has a cty: nested tokens are not accepted", reason="token-header")

    def kid(self) -> str | None:
        """The name of its key, where it has one; raises :class:`Unauthenticated`."""
        kid = self.header.get("kid")
        if "kid" not in self.header:
            return None
        if not isinstance(kid, str) or not is_kid(kid):
            raise Unauthenticated(f"the token's kid is not 1 to {MAX_KID} printable characters", reason="token-key")
        return kid

    def claims(self) -> dict[str, object]:
        """The claims in its payload; raises :class:`Unauthenticated`."""
        try:
            return decode_json(self.payload, dict[str, object])
        except ValueError as error:
            raise malformed(f"its payload is not strict JSON: {error}") from None


def parse_token(text: str) -> Token:
    """Take a token apart.

    Raises:
        Unauthenticated: it is no compact JWT (RFC 7515, section 7.1) in the one canonical spelling: too long, another
            number of parts, base64url or JSON that is not strict, no ``alg``.
    """
    if len(text) > MAX_TOKEN_CHARS:
        raise malformed(f"it is longer than {MAX_TOKEN_CHARS} characters")
    if not _COMPACT.match(text):
        raise malformed("it is not three parts of base64url with dots between them")
    message, _, last = text.encode("ascii").rpartition(b".")
    first, _, middle = message.partition(b".")
    try:
        header = decode_json(decode_base64url(first), dict[str, object])
        payload, signature = decode_base64url(middle), decode_base64url(last)
    except ValueError:
        raise malformed("its base64url or the JSON of its header is broken") from None
    if not isinstance(header.get("alg"), str):
        raise malformed("its header names no algorithm")
    return Token(header, message, payload, signature)


def malformed(why: str) -> Unauthenticated:
    """The refusal of a token that can be read in two ways, or in none."""
    return Unauthenticated(f"the token is not a compact JWT: {why}", reason="token-malformed")
