"""A closed loop of sign requests: so many in flight, each followed by the next, and what came of them.

The messages are worth nothing to whoever gets hold of them: JWTs of the type ``bench+jwt`` that expired in 1970.
"""

from __future__ import annotations

import collections
import json
import math
import secrets
import time
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError, FrostSidecarError
from frost_sidecar.model import MAX_MESSAGE_BYTES
from frost_sidecar.service import SigningService

TYP: Final = "bench+jwt"
ISSUER: Final = "frost-sidecar-bench"
OWN_CLAIMS: Final = ("exp", "iat", "nbf", "jti")
"""What keeps a message worthless and distinct; nobody else sets it."""
OTHER_KEY: Final = "other-key"
"""An error of our own: a signature that verifies, under another key than the one that was measured."""

_REQUEST_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.05
"""After a failed request: what refuses at once is not asked ten thousand times a second."""
_DIGITS: Final = 12


class Messages(Iterator[bytes]):
    """JWS signing inputs (RFC 7515, section 5.1), no two alike, that no verifier accepts a token of."""

    def __init__(self, kid: str, size: int, *, typ: str = TYP, claims: Mapping[str, Any] | None = None) -> None:
        """Each of ``size`` bytes, or one more where no base64url is that long.

        Args:
            kid: thumbprint of the key (RFC 7638).
            size: bytes of a message.
            typ: the header's ``typ``.
            claims: further claims; by default ``iss`` alone.

        Raises:
            ConfigError: the claims do not fit into ``size``, or are not ours to take.
        """
        claims = {"iss": ISSUER} if claims is None else claims
        for name in OWN_CLAIMS:
            if name in claims:
                raise ConfigError(f"{name} is set by the benchmark: its tokens expired in 1970", path="--claims")
        header = {"alg": "EdDSA", "kid": kid, "typ": typ}
        self._header = b64url(json.dumps(header, separators=(",", ":")).encode()) + "."
        text = json.dumps({**claims, "exp": 1, "iat": 0}, separators=(",", ":"))
        self._before = f'{text[:-1]},"jti":"{secrets.token_hex(8)}-'.encode()
        least = len(self._message(0, 0))
        if not least <= size <= MAX_MESSAGE_BYTES:
            raise ConfigError(f"{size} is not between {least} and {MAX_MESSAGE_BYTES}", path="--message-bytes")
        self._pad = math.ceil((size - least) * 3 / 4)
        while self._pad and len(self._message(0, self._pad - 1)) >= size:
            self._pad -= 1
        self._number = 0

    def _message(self, number: int, pad: int) -> bytes:
        payload = b'%s%0*d%s"}' % (self._before, _DIGITS, number, b"-" * pad)
        return (self._header + b64url(payload)).encode()

    def __next__(self) -> bytes:
        self._number += 1
        return self._message(self._number, self._pad)


@dataclass(slots=True)
class Level:
    """What came of one concurrency."""

    in_flight: int
    seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    """Seconds of each request that was signed."""
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    """Requests that failed, by the error's slug."""

    @property
    def signatures(self) -> int:
        """Requests that were signed."""
        return len(self.latencies)

    def report(self) -> dict[str, Any]:
        """The figures, with their units in their names."""
        ordered = sorted(self.latencies)
        return {
            "in_flight": self.in_flight,
            "seconds": round(self.seconds, 3),
            "signatures": self.signatures,
            "signatures_per_second": round(self.signatures / self.seconds, 2) if self.seconds else 0.0,
            "p50_ms": _milliseconds(ordered, 0.5),
            "p90_ms": _milliseconds(ordered, 0.9),
            "p99_ms": _milliseconds(ordered, 0.99),
            "max_ms": _milliseconds(ordered, 1.0),
            "errors": dict(sorted(self.errors.items())),
        }


def _milliseconds(ordered: list[float], share: float) -> float | None:
    """The value that ``share`` of all do not exceed (nearest rank); None where there is none."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000, 3)


class ClosedLoop:
    """Signs with one key of one service. Every signature was verified by the service, and is of the key measured."""

    def __init__(self, service: SigningService, key: str | None, public: bytes, messages: Messages) -> None:
        self._service = service
        self._key = key
        self._public = public
        self._messages = messages

    async def run(self, level: Level, seconds: float) -> None:
        """Keep ``level.in_flight`` requests under way for ``seconds``, and wait for the last; adds to ``level``."""
        started = time.perf_counter()
        end = started + seconds

        async def worker() -> None:
            while time.perf_counter() < end:
                await self._one(level)

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(level.in_flight):
                    tasks.start_soon(worker)
        finally:
            level.seconds += time.perf_counter() - started

    async def _one(self, level: Level) -> None:
        message = next(self._messages)
        asked = time.perf_counter()
        try:
            signed = await self._service.sign(message, key=self._key, timeout=_REQUEST_SECONDS)
        except FrostSidecarError as error:
            level.errors[error.slug] += 1
            await anyio.sleep(_PAUSE_SECONDS)
            return
        if signed.group_public == self._public:
            level.latencies.append(time.perf_counter() - asked)
        else:
            level.errors[OTHER_KEY] += 1
