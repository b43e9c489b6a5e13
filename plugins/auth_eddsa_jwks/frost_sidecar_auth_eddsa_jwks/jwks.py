"""A set of public keys (RFC 7517, section 5): what of it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from frost_sidecar.encoding import decode_json
from frost_sidecar_auth_eddsa_jwks.jwk import Algorithm, PublicKey, parse_jwk

MAX_KEYS: Final = 64
"""Most keys of one set."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a set that can be used, by ``kid``."""

    keys: Mapping[str, PublicKey]
    ignored: tuple[str, ...] = ()
    """What is wrong with each of the others, a sentence each."""

    def find(self, kid: str | None) -> PublicKey | None:
        """The key named ``kid``; without a name the only key, None where there are several."""
        if kid is not None:
            return self.keys.get(kid)
        return next(iter(self.keys.values())) if len(self.keys) == 1 else None

    @property
    def expires(self) -> float | None:
        """When the last of the keys ends to be valid, seconds since the epoch; None: never."""
        return last_end(self.keys.values())


def parse_jwks(data: bytes, algorithms: Iterable[Algorithm]) -> KeySet:
    """Read a JWK set. A key that cannot be used is left out, and the others are used all the same.

    Left out are: keys with private members, symmetric ones, those of another type, curve, use or ``alg``, weak ones,
    those that no token with one of ``algorithms`` needs, and different keys of one ``kid``, all of them.

    Raises:
        ValueError: it is no strict JSON, no JWK set, has more than ``MAX_KEYS`` keys, or none that can be used.
    """
    document = decode_json(data, dict[str, Any])
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("no JWK set: its member keys is no list")  # noqa: TRY004 - one error for all that is wrong
    if len(listed) > MAX_KEYS:
        raise ValueError(f"{len(listed)} keys; at most {MAX_KEYS} are accepted")
    wanted = frozenset(algorithms)
    keys: dict[str, PublicKey] = {}
    ambiguous: set[str] = set()
    ignored = []
    for number, jwk in enumerate(listed):
        try:
            key = _usable(jwk, wanted)
        except ValueError as error:
            ignored.append(f"keys[{number}] {error}")
            continue
        if not keys.setdefault(key.kid, key).is_same(key):
            ambiguous.add(key.kid)
            ignored.append(f"keys[{number}] has the kid of another key; neither is used")
    usable = {kid: key for kid, key in keys.items() if kid not in ambiguous}
    if not usable:
        raise ValueError("; ".join(["no key that can be used", *ignored]))
    return KeySet(usable, tuple(ignored))


def last_end(keys: Iterable[PublicKey]) -> float | None:
    """When the last of ``keys`` ends to be valid; None where one of them never does."""
    ends = [key.expires for key in keys]
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _usable(jwk: object, wanted: frozenset[Algorithm]) -> PublicKey:
    if not isinstance(jwk, dict):
        raise ValueError("is no object")  # noqa: TRY004 - one error for all that is wrong
    key = parse_jwk(jwk)
    if not key.algorithms & wanted:
        raise ValueError("is of no use for the accepted algorithms")
    return key
