"""From claims to a signed token, through any of the three ways of calling.

::

    async with Coordinator.open(config) as coordinator:
        token = await Mint(coordinator).jwt({"iss": "https://mint.example", "sub": "alice"}, lifetime=300)

:class:`BlockingMint` is the same without asyncio. What both do stands once, in :class:`_Minting`, as generators that
yield what they ask of the service.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from frost_sidecar.encoding import b64url, length_prefixed
from frost_sidecar.errors import ConfigError, DeadlineExceeded, MalformedRequest, Unavailable, UnexpectedAnswer
from frost_sidecar.jose import (
    ALGORITHMS,
    Algorithm,
    assemble,
    claims_payload,
    protected_header,
    signing_input,
    thumbprint,
)
from frost_sidecar.model import IDEMPOTENCY_KEY
from frost_sidecar.service import BlockingSigningService, SigningService

_MOST_REMEMBERED = 65_536
_ATTEMPTS = 2
"""With the key that was known, and with the one that took its place."""

_Ask = Callable[[Any], Any]
"""Asks a service, blocking or not, for something; the generator gets the answer sent."""
_Steps = Generator[_Ask, Any, str]

Expected = bytes | Collection[bytes]
"""One Ed25519 public key, or several."""


class UnexpectedKey(UnexpectedAnswer):
    """The service signs with a key that is none of the mint's ``expected_public``. No token was given out."""


class JwsOptions(TypedDict, total=False):
    """What a token may say beside its payload, and how it is signed."""

    header: Mapping[str, Any] | None
    """Further members of the protected header; not those in :data:`frost_sidecar.jose.OWN_MEMBERS`."""
    typ: str | None
    """Media type of the whole, as ``at+jwt`` (RFC 9068); for a JWT ``JWT`` where nothing is said."""
    participants: Sequence[int] | None
    """This and what follows: as in :meth:`frost_sidecar.coordinator.Coordinator.sign`."""
    signer_urls: Sequence[str] | None
    timeout: float | None
    idempotency_key: str | None
    """Same key, same token, within the mint's ``remember_seconds`` and the service's ``idempotency.replay_seconds``."""
    request_id: str | None
    traceparent: str | None


class JwtOptions(JwsOptions, total=False):
    """The same, and claims that are set where the caller's claims do not have them."""

    lifetime: int | timedelta | None
    """Whole seconds, more than 0: sets ``iat``, and ``exp`` that much after ``iat``."""
    issued_at: int | datetime | None
    """The time of ``iat``: seconds since the epoch, or a datetime with a time zone. By default now."""
    nbf: bool
    """Set ``nbf`` to the time of issue."""
    jti: bool
    """Set ``jti``: 128 random bits, or with an ``idempotency_key`` 128 bits made from it and the other claims."""


class _Minting:
    """What both mints do."""

    def __init__(self, key: str | None, alg: Algorithm, remember_seconds: float, expected: Expected | None) -> None:
        if alg not in ALGORITHMS:
            raise ConfigError(f"must be one of {', '.join(ALGORITHMS)}", path="alg")
        self._key = key
        self._alg: Algorithm = alg
        self._expected = None if expected is None else _publics(expected)
        self._public: bytes | None = None
        self._first_uses = _FirstUses(remember_seconds)

    def _jwt(
        self,
        claims: Mapping[str, Any],
        *,
        lifetime: int | timedelta | None = None,
        issued_at: int | datetime | None = None,
        nbf: bool = False,
        jti: bool = False,
        **options: Unpack[JwsOptions],
    ) -> _Steps:
        if not isinstance(claims, Mapping):
            raise MalformedRequest(f"claims: must be a JSON object, not {type(claims).__name__}")
        key = options.get("idempotency_key")
        now = int(time.time()) if key is None else self._first_uses.of(_checked(key)).seconds
        issued = claims.get("iat", now if issued_at is None else _seconds_since_epoch(issued_at))
        stamps: dict[str, Any] = {}
        if lifetime is not None or issued_at is not None:
            stamps["iat"] = issued
        if lifetime is not None:
            # A wrong iat of the caller's is named by claims_payload, not by an addition that fails.
            stamps["exp"] = issued + _whole_seconds(lifetime) if type(issued) is int else None
        if nbf:
            stamps["nbf"] = issued
        options.setdefault("typ", "JWT")
        stamped = {**stamps, **claims}
        if jti and "jti" not in claims:
            stamped["jti"] = _token_id(key, claims_payload(stamped))
        return self._jws(claims_payload(stamped), **options)

    def _jws(
        self,
        payload: bytes,
        *,
        header: Mapping[str, Any] | None = None,
        typ: str | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> _Steps:
        started = time.monotonic()
        use = _Use(0.0, 0) if idempotency_key is None else self._first_uses.of(_checked(idempotency_key))

        def sign(message: bytes, kid: str) -> _Ask:
            left = None if timeout is None else timeout - (time.monotonic() - started)
            return lambda service: service.sign(
                message,
                key=self._key,
                participants=participants,
                signer_urls=signer_urls,
                timeout=left,
                idempotency_key=None if idempotency_key is None else _for_key(idempotency_key, kid),
                request_id=request_id,
                traceparent=traceparent,
            )

        # A retry begins with the key of the request that it repeats: only there the service has the answer.
        public = use.public or self._public
        if public is None:
            public = yield lambda service: service.group_public(self._key)
            self._check_expected(public)
        for _ in range(_ATTEMPTS):
            use.public = public
            message = signing_input(protected_header(public, alg=self._alg, typ=typ, extra=header), payload)
            if timeout is not None and 0 < timeout <= time.monotonic() - started:
                raise DeadlineExceeded(f"no token within {timeout:g} s")
            signed = yield sign(message, thumbprint(public))
            self._check_expected(signed.group_public)
            if not signed.replayed:  # an old answer says nothing of the key that signs now
                self._public = signed.group_public
            if signed.group_public == public:
                return assemble(message, signed.signature)
            public = signed.group_public
        raise Unavailable("the group's key changed again while the token was signed; ask again")

    def _check_expected(self, public: bytes) -> None:
        if self._expected is not None and public not in self._expected:
            raise UnexpectedKey(
                f"the service signs with the key {thumbprint(public)}, which is none of the mint's expected_public; "
                "is it the right service, or has the key been rotated?"
            )


class Mint(_Minting):
    """Signs tokens with a :class:`~frost_sidecar.service.SigningService`. Make one and keep it."""

    def __init__(
        self,
        service: SigningService,
        key: str | None = None,
        alg: Algorithm = "EdDSA",
        *,
        remember_seconds: float = 300.0,
        expected_public: Expected | None = None,
    ) -> None:
        """A mint for one key.

        Args:
            service: what signs; a :class:`~frost_sidecar.coordinator.Coordinator`, or a client of the sidecar.
            key: name of the key; by default the configuration's default key.
            alg: what the header says, ``EdDSA`` or ``Ed25519``. The signature is the same.
            remember_seconds: how long a repeated idempotency key gets the time and the signing key of its first use in
                this mint; best the service's ``idempotency.replay_seconds``.
            expected_public: the public key, or the keys, 32 bytes each, under which tokens may be given out; by default
                any that the service names. While keys are changed it takes the old and the new one.

        Raises:
            ConfigError: ``alg`` is none of these, or ``expected_public`` is no key.
        """
        super().__init__(key, alg, remember_seconds, expected_public)
        self._service = service

    async def jwt(self, claims: Mapping[str, Any], **options: Unpack[JwtOptions]) -> str:
        """A signed JWT (RFC 7519) with ``claims``; options in :class:`JwtOptions`.

        Raises:
            MalformedRequest: a claim or header member cannot be signed; the message names it.
            FrostSidecarError: everything that :meth:`~frost_sidecar.coordinator.Coordinator.sign` raises.
            Unavailable: also where the key changed twice while it was signed.
            UnexpectedKey: the service signs with a key that is not in ``expected_public``.
        """
        return await self._drive(self._jwt(claims, **options))

    async def jws(self, payload: bytes, **options: Unpack[JwsOptions]) -> str:
        """A compact JWS (RFC 7515, section 7.1) over any bytes; options in :class:`JwsOptions`."""
        return await self._drive(self._jws(payload, **options))

    async def _drive(self, steps: _Steps) -> str:
        answer: Any = None
        while True:
            try:
                ask = steps.send(answer)
            except StopIteration as done:
                token: str = done.value
                return token
            answer = await ask(self._service)


class BlockingMint(_Minting):
    """:class:`Mint` over a :class:`~frost_sidecar.service.BlockingSigningService`. Safe under threads: make one."""

    def __init__(
        self,
        service: BlockingSigningService,
        key: str | None = None,
        alg: Algorithm = "EdDSA",
        *,
        remember_seconds: float = 300.0,
        expected_public: Expected | None = None,
    ) -> None:
        """As :class:`Mint`."""
        super().__init__(key, alg, remember_seconds, expected_public)
        self._service = service

    def jwt(self, claims: Mapping[str, Any], **options: Unpack[JwtOptions]) -> str:
        """As :meth:`Mint.jwt`."""
        return self._drive(self._jwt(claims, **options))

    def jws(self, payload: bytes, **options: Unpack[JwsOptions]) -> str:
        """As :meth:`Mint.jws`."""
        return self._drive(self._jws(payload, **options))

    def _drive(self, steps: _Steps) -> str:
        answer: Any = None
        while True:
            try:
                ask = steps.send(answer)
            except StopIteration as done:
                token: str = done.value
                return token
            answer = ask(self._service)


@dataclass(slots=True)
class _Use:
    """The first use of an idempotency key."""

    forget_at: float
    seconds: int
    """Since the epoch."""
    public: bytes | None = None
    """The key that was asked for last."""


class _FirstUses:
    """When each idempotency key was first used, and with which key: a retry must ask for the same bytes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._uses: OrderedDict[str, _Use] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, idempotency_key: str) -> _Use:
        """The first use of ``idempotency_key``, which may be this one."""
        now = time.monotonic()
        with self._lock:
            while self._uses:
                oldest = next(iter(self._uses))
                if len(self._uses) < _MOST_REMEMBERED and now < self._uses[oldest].forget_at:
                    break
                del self._uses[oldest]
            return self._uses.setdefault(idempotency_key, _Use(now + self._seconds, int(time.time())))


def _token_id(idempotency_key: str | None, payload: bytes) -> str:
    """Of the same request the same at every replica; of another one, also with the same key, another."""
    if idempotency_key is None:
        return secrets.token_urlsafe(16)
    fields = (b"jti", idempotency_key.encode("ascii"), payload)
    return b64url(hashlib.sha256(length_prefixed(*fields)).digest()[:16])


def _publics(expected: Expected) -> frozenset[bytes]:
    publics = frozenset([expected] if isinstance(expected, bytes) else expected)
    if not publics or not all(isinstance(each, bytes) and len(each) == 32 for each in publics):
        raise ConfigError("must be a public key of 32 bytes, or several", path="expected_public")
    return publics


def _checked(idempotency_key: str) -> str:
    if not isinstance(idempotency_key, str) or not IDEMPOTENCY_KEY.match(idempotency_key):
        raise MalformedRequest("idempotency_key: must be 1 to 255 characters of printable ASCII without blanks")
    return idempotency_key


def _for_key(idempotency_key: str, kid: str) -> str:
    """The idempotency key that goes to the service: another one once another key signs, for the header says another."""
    return b64url(hashlib.sha256(f"{kid} {idempotency_key}".encode("ascii")).digest())


def _whole_seconds(lifetime: int | timedelta) -> int:
    seconds = lifetime // timedelta(seconds=1) if isinstance(lifetime, timedelta) else lifetime
    if type(seconds) is not int or seconds <= 0:
        raise MalformedRequest("lifetime: must be whole seconds, or a timedelta, of at least 1 s")
    return seconds


def _seconds_since_epoch(moment: int | datetime) -> int:
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        return int(moment.timestamp())
    if type(moment) is int:
        return moment
    raise MalformedRequest("issued_at: must be whole seconds since the epoch, or a datetime with a time zone")
