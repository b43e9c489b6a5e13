"""One attack: how its token is made, what must be said about it, and which published cases it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import Refusal
from tests.token_attacks.forge import USUAL, Algorithm, Forge

Host = Literal["signer", "coordinator"]

Reason = Refusal | tuple[Refusal, Refusal] | None
UNKNOWN: Final[Reason] = ("token-unknown", "token-algorithm")
"""Of a token whose ``alg`` nobody takes: not HS256's, so that another plugin may have it; the other one says no."""


@dataclass(frozen=True)
class Case:
    """An attack on every algorithm in ``algorithms``, at every host in ``hosts``."""

    name: str
    """What is wrong, in a few words; the name of the test and of the row in docs/token-attacks.md."""
    make: Callable[[Forge], str]
    reason: Reason
    """Why it is refused: two, where ``auth_hs256`` and ``auth_eddsa_jwks`` differ. None: it is let in, as it should."""
    wycheproof: tuple[int, ...] = ()
    """The published cases (``tcId``) of this kind, all of json_web_signature_test."""
    algorithms: tuple[Algorithm, ...] = USUAL
    hosts: tuple[Host, ...] = ("signer", "coordinator")

    def reason_for(self, algorithm: Algorithm) -> Refusal | None:
        """What is said where the plugin of ``algorithm`` alone is asked."""
        if isinstance(self.reason, tuple):
            return self.reason[algorithm != "HS256"]
        return self.reason


def reason_of_both(case: Case, token: str, asked: Sequence[str]) -> Refusal:
    """What is said of a token that is refused where both plugins are asked, in this order."""
    assert case.reason is not None
    pair = case.reason if isinstance(case.reason, tuple) else (case.reason, case.reason)
    first, second = pair if asked[0] == "auth_hs256" else pair[::-1]
    if first != "token-unknown":
        return first
    # None of the first one's own, then. A token that names HS256 is that plugin's, whatever key it was made with.
    return "token-signature" if b'"alg":"HS256"' in b64decode(token.partition(".")[0]) else second


def span(*pieces: int | tuple[int, int]) -> tuple[int, ...]:
    """Numbers, and spans of numbers with both ends."""
    pairs = ((each, each) if isinstance(each, int) else each for each in pieces)
    return tuple(number for first, last in pairs for number in range(first, last + 1))
