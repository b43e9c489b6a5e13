"""JOSE around a threshold signature: JWK, thumbprint and key set, and compact JWS and JWT without a second reading.

Nothing here signs; :mod:`frost_sidecar.mint` does, with these parts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import msgspec

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError, MalformedRequest

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey
    from jwt import PyJWK

Algorithm = Literal["EdDSA", "Ed25519"]
"""``EdDSA`` (RFC 8037) is what all verifiers know; ``Ed25519`` (RFC 9864) says the curve too, and some know only it."""

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
OWN_MEMBERS: Final = frozenset({"alg", "kid", "typ", "b64", "enc", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256"})
"""Header members that a caller may not add: set here, or able to point a verifier to another key or another reading."""

_LARGEST: Final = 2**53 - 1
_DEEPEST: Final = 32
_REGISTERED: Final = OWN_MEMBERS | {"crit", "cty"}
_CLAIMS: Final = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
_JSON = msgspec.json.Encoder(order="deterministic")


def thumbprint(public: bytes) -> str:
    """The ``kid`` of an Ed25519 public key: its JWK thumbprint with SHA-256 (RFC 7638; RFC 8037, appendix A.3)."""
    required = {"crv": "Ed25519", "kty": "OKP", "x": b64url(public)}
    return b64url(hashlib.sha256(_JSON.encode(required)).digest())


def okp_jwk(public: bytes) -> dict[str, Any]:
    """An Ed25519 public key as JWK (RFC 8037, section 2).

    It has no ``alg``: tokens may say ``EdDSA`` or ``Ed25519`` (RFC 9864), and verifiers drop keys that say the other.
    """
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(public), "kid": thumbprint(public), "use": "sig"}


def jwk_set(publics: Iterable[bytes]) -> dict[str, Any]:
    """Ed25519 public keys as JWK set (RFC 7517, section 5), each once, in the given order."""
    return {"keys": [okp_jwk(public) for public in dict.fromkeys(publics)]}


def protected_header(
    public: bytes, *, alg: Algorithm = "EdDSA", typ: str | None = None, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The protected header (RFC 7515, section 4) of what the key ``public`` signs; its ``kid`` is the thumbprint.

    Raises:
        MalformedRequest: ``extra`` has one of :data:`OWN_MEMBERS`, a name that differs from a registered one in case
            alone, or a ``crit`` that does not name members of it.
    """
    extra = _object(extra or {}, "header")
    _refuse_lookalikes(extra, _REGISTERED, "header")
    for name in extra:
        if name in OWN_MEMBERS:
            why = "give it as the argument typ" if name == "typ" else "it is set by the mint, or could contradict it"
            raise MalformedRequest(f"header.{name}: cannot be added; {why}")
    if "crit" in extra:
        _check_crit(extra["crit"], extra)
    if typ is not None and not isinstance(typ, str):
        raise MalformedRequest(f"header.typ: must be text, not {type(typ).__name__}")
    return {"alg": alg, "kid": thumbprint(public), **({} if typ is None else {"typ": typ}), **extra}


def claims_payload(claims: Mapping[str, Any]) -> bytes:
    """A claims set (RFC 7519, section 4) as the JSON that is signed: sorted, so that equal claims are equal bytes.

    JSON and nothing that would have to become JSON first: no datetime, bytes, Decimal or set. No number that two
    readers read differently: no NaN, no integer beyond 2**53 - 1 (RFC 7493, section 2.2). Registered claims have the
    types of RFC 7519, and ``exp``, ``nbf`` and ``iat`` are whole seconds. No name differs from theirs in case alone.

    Raises:
        MalformedRequest: with the place of the claim that cannot be signed.
    """
    plain = _object(claims, "claims")
    _refuse_lookalikes(plain, _CLAIMS, "claims")
    for name in ("iss", "sub", "jti"):
        if not isinstance(plain.get(name, ""), str):
            raise MalformedRequest(f"claims.{name}: must be text (RFC 7519)")
    for name in ("iat", "nbf", "exp"):
        if type(plain.get(name, 0)) is not int:
            raise MalformedRequest(f"claims.{name}: must be whole seconds since the epoch: int(time.time())")
    audience = plain.get("aud", "")
    if not all(isinstance(each, str) for each in (audience if isinstance(audience, list) else [audience])):
        raise MalformedRequest("claims.aud: must be text or a list of texts (RFC 7519, section 4.1.3)")
    return _JSON.encode(plain)


def signing_input(header: Mapping[str, Any], payload: bytes) -> bytes:
    """The JWS signing input (RFC 7515, section 5.1); raises :class:`MalformedRequest`."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise MalformedRequest(f"the payload must be bytes, not {type(payload).__name__}")
    return f"{b64url(_JSON.encode(_object(header, 'header')))}.{b64url(payload)}".encode("ascii")


def assemble(message: bytes, signature: bytes) -> str:
    """The compact JWS (RFC 7515, section 7.1) of a signing input and its Ed25519 signature."""
    return f"{message.decode('ascii')}.{b64url(signature)}"


def pyjwt_key(public: bytes) -> PyJWK:
    """An Ed25519 public key for ``jwt.decode``; raises :class:`ConfigError` where PyJWT is not installed."""
    try:
        from jwt import PyJWK  # noqa: PLC0415 - a verifier's library, not a dependency of the host
    except ImportError:
        raise ConfigError("a key for PyJWT needs it; install pyjwt") from None
    return PyJWK(okp_jwk(public))


def joserfc_key(public: bytes) -> OKPKey:
    """An Ed25519 public key for joserfc; raises :class:`ConfigError` where it is not installed."""
    try:
        from joserfc.jwk import OKPKey  # noqa: PLC0415 - a verifier's library, not a dependency of the host
    except ImportError:
        raise ConfigError("a key for joserfc needs it; install joserfc") from None
    return OKPKey.import_key(okp_jwk(public))


def _refuse_lookalikes(members: Mapping[str, Any], registered: frozenset[str], place: str) -> None:
    """Names are compared exactly (RFC 7515, section 4; RFC 7519, section 4), but not by every reader of JSON."""
    folded = {name.casefold(): name for name in registered}
    for name in members:
        meant = folded.get(name.casefold(), name)
        if meant != name:
            raise MalformedRequest(
                f"{place}.{name}: differs from {meant} in case alone, and some readers take it for it"
            )


def _check_crit(names: object, extra: Mapping[str, Any]) -> None:
    """Critical members are extensions, each once, and there (RFC 7515, section 4.1.11)."""
    known = isinstance(names, list) and all(isinstance(each, str) and each in extra for each in names)
    if not isinstance(names, list) or not names or not known or len(set(names)) != len(names) or _REGISTERED & {*names}:
        raise MalformedRequest("header.crit: must list extension members of the same header, each once")


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise MalformedRequest(f"{place}: must be a JSON object, not {type(value).__name__}")
    plain: dict[str, Any] = _plain(value, place, _DEEPEST)
    return plain


def _plain(value: object, place: str, depth: int) -> Any:
    """A copy of plain JSON types: what was checked is what is signed, whoever holds the original."""
    match value:
        case None | bool():
            return value
        case str():
            return _text(value, place)
        case int():
            if abs(value) > _LARGEST:
                raise MalformedRequest(f"{place}: is more than 2**53 - 1, which readers round; give it as text")
            return int(value)
        case float():
            if not math.isfinite(value):
                raise MalformedRequest(f"{place}: NaN and infinity are not JSON")
            return float(value)
        case Mapping() | list() | tuple():
            if depth == 0:
                raise MalformedRequest(f"{place[:64]}…: is nested more than {_DEEPEST} deep")
            return _plain_container(value, place, depth - 1)
    raise MalformedRequest(f"{place}: a {type(value).__name__} is not JSON; write it as text or as a number")


def _plain_container(value: Mapping[Any, Any] | Sequence[Any], place: str, depth: int) -> Any:
    if not isinstance(value, Mapping):
        return [_plain(each, f"{place}[{index}]", depth) for index, each in enumerate(value)]
    members = {_name(name, place): each for name, each in value.items()}
    if len(members) != len(value):
        raise MalformedRequest(f"{place}: a member stands twice")
    return {name: _plain(each, f"{place}.{name[:64]}", depth) for name, each in members.items()}


def _name(name: object, place: str) -> str:
    if not isinstance(name, str):
        raise MalformedRequest(f"{place}: the member {str(name)[:64]!r} is a {type(name).__name__}; names are text")
    return _text(name, f"{place}: a member's name")


def _text(value: str, place: str) -> str:
    text = str.__str__(value)  # the text itself of an enumeration's member
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedRequest(f"{place}: half of a surrogate pair is no text") from None
    return text
