"""Who is calling, as the channel proves it: never as the body says."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping, Sequence

from aiohttp import web

from frost_sidecar.channel import bearer, certificate_names, usable_names
from frost_sidecar.config import ServerConfig
from frost_sidecar.containment import contained
from frost_sidecar.errors import Denied, FrostSidecarError, Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Credentials, Identity

log = get_logger("frost_sidecar.access")

IN_PROCESS = Caller("in-process", "in-process")
"""The program that embeds the coordinator."""

_PEER_CREDENTIALS = struct.Struct("iII")
"""Linux ``struct ucred``: pid, uid, gid (socket(7), SO_PEERCRED)."""
_LONGEST_SUBJECT = 256


class Door:
    """Lets callers in: by their user on the Unix socket, by certificate and bearer token on TCP."""

    def __init__(
        self,
        config: ServerConfig,
        authenticators: Sequence[tuple[str, Authenticator]],
        seconds: float,
        metrics: CoordinatorMetrics,
    ) -> None:
        """``seconds`` is the deadline of one authenticator's answer."""
        self._names = config.client_names
        self._rules = config.token
        self._authenticators = authenticators
        self._seconds = seconds
        self._metrics = metrics

    @property
    def has_authenticators(self) -> bool:
        """Whether anybody can be let in on TCP at all."""
        return bool(self._authenticators)

    async def caller(self, request: web.Request) -> Caller:
        """Who asks for a signature.

        Raises:
            Denied: the client's certificate carries no configured name.
            Unauthenticated: the token is missing or refused, or the kernel does not say who is at the socket's end.
        """
        if _is_unix(request):
            return unix_caller(request)
        names = self.certificate(request)
        try:
            subject = self._subject(await self._identity(Credentials(bearer(request), names)))
        except Unauthenticated:
            self._metrics.refusals.labels("token").inc()
            raise
        return Caller(f"tcp:{names[0]} {subject}", "tcp")

    def certificate(self, request: web.Request) -> tuple[str, ...]:
        """The client's names on TCP, the configured one first; none on the Unix socket. Raises :class:`Denied`."""
        if _is_unix(request):
            return ()
        names = certificate_names(request)
        usable = usable_names(names)
        allowed = [name for name in self._names if name in usable] if self._names else usable
        if not allowed:
            self._metrics.refusals.labels("certificate").inc()
            raise Denied("the client certificate carries no name that may call this coordinator")
        return (allowed[0], *(name for name in names if name != allowed[0]))

    async def _identity(self, credentials: Credentials) -> Identity:
        if not credentials.token:
            raise Unauthenticated("a bearer token is needed, in one Authorization header")
        for plugin, authenticator in self._authenticators:
            try:
                identity: object = await contained(plugin, self._seconds, authenticator.authenticate, credentials)
            except Unauthenticated:
                raise
            except FrostSidecarError as error:
                raise Unauthenticated("the token could not be checked") from error
            if isinstance(identity, Identity):
                return identity
            if identity is not None:
                log.error("authenticator answered no identity", plugin=plugin)
                raise Unauthenticated("the token could not be checked")
        raise Unauthenticated("no authenticator knows this kind of token")

    def _subject(self, identity: Identity) -> str:
        claims = identity.claims
        if "body_sha256" in claims:
            raise Unauthenticated("the token is one for a signer's call, not for the coordinator")
        audience = claims.get("aud", self._rules.audience)
        if self._rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unauthenticated("the token's aud is not this coordinator")
        self._check_times(claims)
        if self._rules.issuers and claims.get("iss") not in self._rules.issuers:
            raise Unauthenticated("the token's iss is not one that this coordinator trusts")
        subject: object = identity.subject
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise Unauthenticated(f"the token's subject is not 1 to {_LONGEST_SUBJECT} printable characters")
        return subject

    def _check_times(self, claims: Mapping[str, object]) -> None:
        """Check the times that there are (RFC 7519, section 4.1); which must be there the authenticator says."""
        now, leeway = time.time(), self._rules.leeway_seconds
        for name in {"exp", "nbf", "iat"} & claims.keys():
            value = claims[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Unauthenticated(f"the token's {name} is not a number")
            if name == "exp" and not value > now - leeway:
                raise Unauthenticated("the token is expired")
            if name != "exp" and not value <= now + leeway:
                raise Unauthenticated(f"the token's {name} is in the future; check the clocks")


def _is_unix(request: web.Request) -> bool:
    peer = request.get_extra_info("socket")
    return peer is not None and peer.family == socket.AF_UNIX


def unix_caller(request: web.Request) -> Caller:
    """The process at the other end of a Unix socket, named by the user that connected.

    Raises:
        Unauthenticated: the kernel does not say who it is.
    """
    peer = request.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        raise Unauthenticated("the peer's credentials are not known")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, gid = _PEER_CREDENTIALS.unpack(raw)
    return Caller(f"unix:uid={uid},gid={gid}", "unix")
