"""Checks bearer tokens."""

from __future__ import annotations

import re
import sys
import time
from typing import Final

import jwt

from frost_sidecar.encoding import b64decode, decode_json
from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.model import Credentials, Identity
from frost_sidecar_auth_hs256.keyring import Keyring

MAX_TOKEN_CHARS: Final = 8192
"""Longest token that is looked at."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
_REFUSED_HEADERS: Final = (
    *("b64", "crit", "cty", "enc", "epk", "zip"),
    *("jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u"),
)
"""Header members that would change how a token is read, or bring or choose a key (RFC 7515, section 4.1)."""
_TYPES: Final = frozenset({"jwt", "at+jwt"})
"""RFC 7519, section 5.1; RFC 9068, section 2.1. Other types are tokens for something else (RFC 8725, section 3.11)."""
_TEXTS: Final = ("iss", "jti", "body_sha256")
_JWS: Final = jwt.PyJWS()


class Hs256Authenticator(Authenticator):
    """Accepts JWTs whose header says HS256 and whose signature, lifetime and subject hold."""

    def __init__(self, keyring: Keyring, *, leeway: float = 0, accept_undated: bool = False) -> None:
        """``leeway``: seconds by which the issuer's clock may differ from ours, in either direction.

        ``accept_undated``: accept tokens without ``exp``, which are good for ever, and tokens without ``sub``, whose
        subject then is their ``iss``. A claim that is there is checked all the same.
        """
        self._keyring = keyring
        self._leeway = leeway
        self._accept_undated = accept_undated

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return the token's subject and claims; None without a token or where its header names another algorithm.

        Raises :class:`~frost_sidecar.errors.Unauthenticated` with the reason for any other token. The audience is the
        host's to check.
        """
        token = credentials.token
        if token is None:
            return None
        header = _header(token)
        if header.get("alg") != "HS256":
            return None
        _check_header(header)
        await self._keyring.refresh()
        claims = self._verify(token)
        self._check_times(claims)
        _check_texts(claims)
        return Identity(subject=self._subject(claims), method="hs256", claims=claims)

    def _verify(self, token: str) -> dict[str, object]:
        """The claims under the signature: PyJWT checks that one, the payload is read by our own, stricter rules."""
        payload = None
        for secret in self._keyring.accepted():
            try:
                payload = _JWS.decode(token, secret.reveal(), algorithms=["HS256"])
                break
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, RecursionError):
                raise _malformed("is not a JWT") from None
        if payload is None:
            raise Unauthenticated(
                "the token's signature is wrong: another secret, or it was changed", reason="token-signature"
            )
        try:
            return decode_json(payload, dict[str, object])
        except ValueError as error:
            raise _malformed(f"is not a JWT: its payload is not strict JSON: {error}") from None

    def _check_times(self, claims: dict[str, object]) -> None:
        now = time.time()
        for name in ("nbf", "iat"):
            if name in claims and _seconds(claims, name) > now + self._leeway:
                raise Unauthenticated(
                    f"the token is not valid yet ({name} is in the future); compare the clocks",
                    reason="token-not-yet-valid",
                )
        if "exp" not in claims and self._accept_undated:
            return
        if _seconds(claims, "exp") <= now - self._leeway:
            raise Unauthenticated("the token has expired; compare the clocks if it is fresh", reason="token-expired")

    def _subject(self, claims: dict[str, object]) -> str:
        name = "iss" if self._accept_undated and "sub" not in claims else "sub"
        subject = claims.get(name)
        if not isinstance(subject, str) or not subject:
            either = "neither a subject (sub) nor an issuer (iss)" if name == "iss" else "no subject (sub)"
            raise Unauthenticated(f"the token has {either}", reason="token-subject")
        return subject


def _header(token: str) -> dict[str, object]:
    if len(token) > MAX_TOKEN_CHARS:
        raise _malformed(f"is longer than {MAX_TOKEN_CHARS} characters")
    if not _COMPACT.match(token):
        raise _malformed("is not a compact JWT: three parts of base64url with dots between them")
    try:
        first, *_ = [b64decode(part) for part in token.split(".")]
        header = decode_json(first, dict[str, object])
    except ValueError:
        raise _malformed("is not a compact JWT: base64url or JSON is broken") from None
    if not isinstance(header.get("alg"), str):
        raise _malformed("is not a compact JWT: its header names no algorithm")
    return header


def _check_header(header: dict[str, object]) -> None:
    for member in _REFUSED_HEADERS:
        if member in header:
            raise Unauthenticated(
                f"the token's header has the member {member!r}, which is not accepted", reason="token-header"
            )
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
        raise Unauthenticated("the token's typ is not JWT", reason="token-header")


def _seconds(claims: dict[str, object], name: str) -> float:
    """A NumericDate (RFC 7519, section 2)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_claim(f"{name} is missing or not a number")
    if not abs(value) <= sys.float_info.max:  # so that whoever calculates with it may
        raise _wrong_claim(f"{name} is out of range")
    return value


def _check_texts(claims: dict[str, object]) -> None:
    for name in _TEXTS:
        if not isinstance(claims.get(name, ""), str):
            raise _wrong_claim(f"{name} is not a string")
    audience = claims.get("aud", "")
    if not all(isinstance(each, str) for each in (audience if isinstance(audience, list) else [audience])):
        raise _wrong_claim("aud is not a string or a list of strings")


def _malformed(what: str) -> Unauthenticated:
    return Unauthenticated(f"the token {what}", reason="token-malformed")


def _wrong_claim(what: str) -> Unauthenticated:
    return Unauthenticated(f"the token's claim {what}", reason="token-claims")
