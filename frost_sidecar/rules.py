"""What a JWS must be like to be signed: one table ``[policies.NAME]``, the same at the coordinator and at a signer.

.. code-block:: toml

    [policies.access-token]
    typ = ["at+jwt"]
    iss = ["https://mint.example"]
    aud = ["https://api.example", "https://*.api.example"]
    sub = ["user:*"]
    max_lifetime_seconds = 900
    required = ["jti"]
    forbidden = ["act"]

The protected header is closed: what no rule names may not be in it. Claims are open, unless ``allowed`` lists them; but
none may be taken for one that a rule names. docs/policy.md has every rule with what it refuses and why.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from frost_sidecar.errors import ConfigError, Denied, Refusal
from frost_sidecar.jose import OWN_MEMBERS, Algorithm
from frost_sidecar.jws import is_token
from frost_sidecar.model import JwsSigningInput
from frost_sidecar.patterns import Patterns, check_pattern, is_seen, matches
from frost_sidecar.process import Name

Names = Annotated[tuple[Name, ...], Meta(max_length=64)]

_TIMES: Final = ("exp", "nbf", "iat")
_TEXTS: Final[Mapping[str, Refusal]] = {"iss": "jws-issuer", "sub": "jws-subject", "jti": "jws-claims"}
_REGISTERED_CLAIMS: Final = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti")
_REGISTERED_MEMBERS: Final = OWN_MEMBERS | {"crit", "cty", "zip"}
_LEADING_ELSEWHERE: Final = OWN_MEMBERS - {"alg", "kid", "typ"}
"""Members of a header that lead a verifier to another key or another reading (RFC 8725, sections 2.8 and 3.10)."""
_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: past it, and below zero, readers overflow, wrap around or fail."""
_MOST_VALUES: Final = 64
"""Most values of one claim that are compared; more are refused."""
_LONGEST_SHOWN: Final = 128


class JwsRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Rules for protected header and claims (RFC 7515, RFC 7519). Every one of them must be kept."""

    alg: Annotated[tuple[Algorithm, ...], Meta(min_length=1)] = ("EdDSA", "Ed25519")
    """Accepted ``alg``; a FROST(Ed25519) key makes no other signatures."""
    kid: Names = ()
    """Accepted ``kid`` beside the key's own, which is its RFC 7638 thumbprint."""
    kid_required: bool = True
    typ: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)] = ("JWT",)
    """Accepted ``typ``, compared as media types: without ``application/`` and without regard to case."""
    typ_required: bool = True
    cty: Names = ()
    """Accepted ``cty``, compared as ``typ``; none: there must be no ``cty``."""
    crit: Names = ()
    """Extensions that ``crit`` may name; none: there must be no ``crit``."""
    header: Names = ()
    """Further members that the header may have."""
    payload: Literal["claims", "any"] = "claims"
    """``claims``: a JWT claims set. ``any``: also bytes that are none, and no token; the rules for claims then count
    where it is one."""
    iss: Patterns = ()
    """Accepted ``iss``; given, the claim is required. So with ``aud`` and ``sub``."""
    aud: Patterns = ()
    """Accepted ``aud``; each value of a list must be accepted."""
    sub: Patterns = ()
    max_lifetime_seconds: Annotated[float, Meta(gt=0, le=10 * 366 * 86400)] | None = None
    """Longest time from now, and from ``iat``, to ``exp``; given, ``exp`` is required."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=300)] = 5.0
    """How far the mint's clock may be ahead of ours."""
    required: Names = ()
    """Claims that must be there, with something in them."""
    forbidden: Names = ()
    allowed: Names | None = None
    """Further claims that may be there, beside those of RFC 7519 and those that rules name; None: any."""
    values: Annotated[dict[Name, Patterns], Meta(max_length=64)] = {}
    """Accepted values of further claims, which are then required: texts, or lists of them."""

    def check(self, jws: JwsSigningInput | None, key_id: str, *, now: float | None = None) -> None:
        """Return where ``jws`` keeps all rules; ``key_id`` is the thumbprint of the key that would sign it.

        ``now`` is the time in seconds since the epoch, that of the clock where it is not given.

        Raises:
            Denied: with what is wrong, and which rule says so as ``reason``. Nothing else, whatever is in ``jws``.
        """
        if jws is None:
            raise Denied("the message is no JWS signing input (RFC 7515, section 5.1)", reason="not-a-jws")
        self._check_header(jws.header, key_id)
        if jws.claims is not None:
            self._check_names(jws.claims)
            self._check_types(jws.claims)
            self._check_values(jws.claims)
            self._check_lifetime(jws.claims, time.time() if now is None else now)
        elif self.payload == "claims":
            raise Denied("the payload is no JWT claims set: a JSON object is wanted", reason="jws-claims")
        elif is_token(jws.payload):
            raise Denied("the payload is itself a token, whose claims no rule has seen", reason="jws-claims")

    def validate(self, path: str) -> None:
        """Raises :class:`~frost_sidecar.errors.ConfigError` for rules that cannot be meant; ``path`` is their place."""
        named = {"iss": self.iss, "aud": self.aud, "sub": self.sub}
        named |= {f"values.{name}": patterns for name, patterns in self.values.items()}
        for name, patterns in named.items():
            for pattern in patterns:
                check_pattern(pattern, f"{path}.{name}")
        for rule, names in {"typ": self.typ, "cty": self.cty}.items():
            if any(not _media_type(each) for each in names):
                raise ConfigError("application/ alone is no media type", path=f"{path}.{rule}")
        if "jwt" in map(_media_type, self.cty):
            raise ConfigError("a JWT in a JWT has claims that these rules cannot see", path=f"{path}.cty")
        for rule, names in {"header": self.header, "crit": self.crit}.items():
            for name in names:
                if _folded(name) in _by_fold((*_REGISTERED_MEMBERS, *_REGISTERED_CLAIMS)):
                    raise ConfigError(
                        f"{name!r} has a meaning of its own (RFC 7515, RFC 7519) and cannot be allowed",
                        path=f"{path}.{rule}",
                    )
        self._validate_claims(path)

    def _validate_claims(self, path: str) -> None:
        lists = {"required": self.required, "forbidden": self.forbidden, "allowed": self.allowed or ()}
        for rule, names in {**lists, "values": tuple(self.values)}.items():
            for name in names:
                meant = _by_fold(_REGISTERED_CLAIMS).get(_folded(name), (name,))
                if name not in meant:
                    text = f"{name!r} is not {meant[0]!r}: names are compared exactly"
                    raise ConfigError(text, path=f"{path}.{rule}")
        for name in self.values:
            if name in _TIMES:
                raise ConfigError("is a number, which patterns cannot match", path=f"{path}.values.{name}")
        wanted = {*self._compared(), *self.required, *(self.allowed or ())}
        wanted |= {"exp"} if self.max_lifetime_seconds is not None else set()
        for name in self.forbidden:
            if name in wanted:
                raise ConfigError(f"{name!r} is forbidden here and asked for elsewhere", path=f"{path}.forbidden")

    def _compared(self) -> dict[str, Patterns]:
        """The claims that must match patterns."""
        given = {"iss": self.iss, "aud": self.aud, "sub": self.sub}
        return {name: patterns for name, patterns in given.items() if patterns} | self.values

    def _check_header(self, header: Mapping[str, object], key_id: str) -> None:
        alg = header.get("alg")
        if alg not in self.alg:
            raise Denied(f"alg must be {_either(self.alg)}, not {_shown(header, 'alg')}", reason="jws-algorithm")
        if self.kid_required or "kid" in header:
            kid = header.get("kid")
            if kid != key_id and kid not in self.kid:
                raise Denied(f"kid must be the key's own, {key_id}, not {_shown(header, 'kid')}", reason="jws-key")
        if (self.typ_required or "typ" in header) and not _is_media_type(header.get("typ"), self.typ):
            raise Denied(f"typ must be {_either(self.typ)}, not {_shown(header, 'typ')}", reason="jws-type")
        if "cty" in header and not _is_media_type(header["cty"], self.cty):
            wanted = f"must be {_either(self.cty)}" if self.cty else "is not allowed"
            raise Denied(f"cty {wanted}; it is {_shown(header, 'cty')}", reason="jws-type")
        for name in sorted(_LEADING_ELSEWHERE & header.keys()):
            raise Denied(f"the header has {name}, which leads verifiers elsewhere", reason="jws-header")
        self._check_critical(header)
        for name in header:
            if name not in {"alg", "kid", "typ", "cty", "crit", *self.crit, *self.header}:
                raise Denied(f"the header has {_quoted(name)}, which no rule allows", reason="jws-header")

    def _check_critical(self, header: Mapping[str, object]) -> None:
        if "crit" not in header:
            return
        critical = header["crit"]
        names = [each for each in critical if isinstance(each, str)] if isinstance(critical, list) else []
        if not names or critical != list(dict.fromkeys(names)) or not header.keys() >= set(names):
            raise Denied("crit must name members of the header, one or more, each once", reason="jws-critical")
        for each in names:
            if each not in self.crit:
                raise Denied(f"crit names {_quoted(each)}, which is not allowed", reason="jws-critical")

    def _check_names(self, claims: Mapping[str, object]) -> None:
        """Names are compared exactly (RFC 7519, section 4), but not by every reader of JSON: ``Iss`` is refused."""
        compared = self._compared()
        known = (*_REGISTERED_CLAIMS, *self.required, *self.forbidden, *compared)
        by_fold = _by_fold(known)
        for name in claims:
            if not is_seen(name):
                raise Denied(f"the claim {_quoted(name)} has a name that cannot be seen", reason="jws-claims")
            if name in self.forbidden:
                raise Denied(f"the claim {_quoted(name)} is forbidden", reason="jws-claims")
            meant = by_fold.get(_folded(name), ())
            if meant and name not in meant:
                raise Denied(f"the claim {_quoted(name)} can be taken for {meant[0]}", reason="jws-claims")
            if self.allowed is not None and name not in known and name not in self.allowed:
                raise Denied(f"the claim {_quoted(name)} is not one of those allowed", reason="jws-claims")
        for name in self.required:
            if claims.get(name) in (None, "", [], {}):
                raise Denied(f"the claim {name} is required", reason="jws-claims")

    def _check_types(self, claims: Mapping[str, object]) -> None:
        """The types of RFC 7519, section 4.1, whatever the rules say: a reader may take another one for anything."""
        for name, reason in _TEXTS.items():
            if name in claims and not isinstance(claims[name], str):
                raise Denied(f"{name} must be text, not {_shown(claims, name)}", reason=reason)
        if "aud" in claims and _texts(claims["aud"]) is None:
            wanted = f"text or a list of 1 to {_MOST_VALUES} texts"
            raise Denied(f"aud must be {wanted}, not {_shown(claims, 'aud')}", reason="jws-audience")
        for name in _TIMES:
            value = claims.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
                wanted = "a number of seconds since 1970, up to the year 9999 (RFC 7519, section 2)"
                raise Denied(f"{name} must be {wanted}, not {_shown(claims, name)}", reason="jws-claims")

    def _check_values(self, claims: Mapping[str, object]) -> None:
        reasons: dict[str, Refusal] = {**_TEXTS, "aud": "jws-audience"}
        for name, patterns in self._compared().items():
            values = _texts(claims.get(name))
            if values is None or not all(matches(each, patterns) for each in values):
                wanted = f"must be {_either(patterns)}"
                raise Denied(f"{name} {wanted}, not {_shown(claims, name)}", reason=reasons.get(name, "jws-claims"))

    def _check_lifetime(self, claims: Mapping[str, object], now: float) -> None:
        """Times are numbers in bounds here."""
        times = {name: value for name in _TIMES if isinstance(value := claims.get(name), int | float)}
        latest = now + self.leeway_seconds
        if times.get("iat", 0) > latest:
            raise Denied("iat is in the future; compare the clocks", reason="jws-lifetime")
        longest = self.max_lifetime_seconds
        if longest is None:
            return
        if "exp" not in times:
            raise Denied("exp is required", reason="jws-lifetime")
        if times["exp"] - times.get("iat", latest) > longest:
            raise Denied(f"exp is more than {longest:g} s after iat, or from now", reason="jws-lifetime")


def _texts(value: object) -> list[str] | None:
    """The texts that a claim holds, one or a list; None where it holds anything else, nothing, or too many."""
    values = value if isinstance(value, list) else [value]
    texts = [each for each in values[: _MOST_VALUES + 1] if isinstance(each, str)]
    return texts if 0 < len(texts) == len(values) <= _MOST_VALUES else None


def _folded(name: str) -> str:
    """What the most forgiving readers of JSON take a name for: some disregard case, or fold long s to s."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


@lru_cache(maxsize=1024)
def _by_fold(names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Names by what :func:`_folded` makes of them."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        found[_folded(name)] = (*found.get(_folded(name), ()), name)
    return found


def _is_media_type(value: object, accepted: tuple[str, ...]) -> bool:
    return isinstance(value, str) and _media_type(value) in {_media_type(each) for each in accepted}


def _media_type(typ: str) -> str:
    """RFC 7515, section 4.1.9: ``application/`` may be left out where no other slash follows."""
    lowered = typ.lower() if typ.isascii() else typ
    short = lowered.removeprefix("application/")
    return lowered if "/" in short else short


def _either(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"one of {', '.join(values)}"[:512]


def _quoted(text: str) -> str:
    return ascii(text[:_LONGEST_SHOWN])


def _shown(members: Mapping[str, object], name: str) -> str:
    """A member's value in a few words: it comes from outside, and may be as large and deep as a message allows."""
    if name not in members:
        return "absent"
    value = members[name]
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        texts = [_quoted(each) for each in value[:4] if isinstance(each, str)]
        return f"a list of {len(value)}: {', '.join(texts)}"[:_LONGEST_SHOWN]
    if isinstance(value, float | bool) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value)
    return {dict: "an object", int: "a large number"}.get(type(value), "null")
