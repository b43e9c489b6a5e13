"""Who is calling, as the channel proves it: never as the body says."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from frost_sidecar.channel import bearer, certificate_names, usable_names
from frost_sidecar.config import CallerConfig, ServerConfig, UnixCaller
from frost_sidecar.containment import contained
from frost_sidecar.contract import PROGRAM_HEADER, PROGRAM_VALUE
from frost_sidecar.errors import Denied, FrostSidecarError, Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.listener import Exchange
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Caller, Credentials, Identity
from frost_sidecar.peer import Peer

log = get_logger("frost_sidecar.access")

_LONGEST_SUBJECT: Final = 256
_OF_BROWSERS: Final = re.compile(r"origin\Z|sec-fetch-", re.IGNORECASE)
_OF_OTHERS: Final = re.compile(r"origin\Z|sec-fetch-|forwarded\Z|x-forwarded-|x-real-ip\Z|via\Z", re.IGNORECASE)
"""Names of headers that say that somebody else asks than the one who connected; proxies add the latter ones."""


def in_process(callers: Mapping[str, CallerConfig]) -> Caller:
    """The program that embeds the coordinator."""
    return Caller("in-process", "in-process", next((name for name, each in callers.items() if each.in_process), None))


class Door:
    """Lets callers in: by their process on the Unix socket, by certificate and bearer token on TCP."""

    def __init__(
        self,
        config: ServerConfig,
        callers: Mapping[str, CallerConfig],
        authenticators: Sequence[tuple[str, Authenticator]],
        seconds: float,
        metrics: CoordinatorMetrics,
    ) -> None:
        """``seconds`` is the deadline of one authenticator's answer."""
        self._callers = callers
        self._names = config.client_names
        self._rules = config.token
        self._authenticators = authenticators
        self._seconds = seconds
        self._metrics = metrics
        self._executables = [
            (name, Path(each.unix.executable))
            for name, each in callers.items()
            if each.unix is not None and each.unix.executable is not None
        ]
        for name, executable in self._executables:
            if not executable.is_file():
                log.warning("the caller's executable is no file here, so that nobody is this caller", caller=name)

    @property
    def has_authenticators(self) -> bool:
        """Whether anybody can be let in on TCP at all."""
        return bool(self._authenticators)

    def meet(self, transport: asyncio.BaseTransport) -> Peer | None:
        """Who connected, for a connection of the Unix socket that was accepted just now; None for one on TCP."""
        sock = transport.get_extra_info("socket")
        if sock is None or sock.family != socket.AF_UNIX:
            return None
        try:
            return Peer.of(sock, program=bool(self._executables))
        except Unauthenticated as error:
            log.error("a caller is not known", why=str(error))  # noqa: TRY400 - no traceback
            return None

    async def caller(self, exchange: Exchange) -> Caller:
        """Who asks for a signature. Decided by the head of the request: its body is not read before.

        Raises:
            Denied: it comes from a browser or through a proxy, or without the header that is required on the Unix
                socket; or the client's certificate carries no configured name.
            Unauthenticated: the token is missing or refused; or the kernel does not say, or no longer says, who is at
                the socket's end.
        """
        request = exchange.request
        try:
            if _is_unix(request):
                _check_head(request)
                return self._unix_caller(exchange.peer)
            _refuse_headers(request, _OF_BROWSERS)
            names = self._certificate(request)
            identity = await self._identity(Credentials(bearer(request), names))
            subject = self._subject(identity)
        except (Denied, Unauthenticated) as error:
            self._metrics.refused(error)
            raise
        return Caller(f"tcp:{names[0]} {subject}", "tcp", self._tcp_name(names, subject, identity.claims.get("iss")))

    def admit(self, request: web.Request) -> None:
        """Let a request in that does not sign: on TCP a certificate is needed that may call. Raises :class:`Denied`."""
        if not _is_unix(request):
            try:
                self._certificate(request)
            except Denied as error:
                self._metrics.refused(error)
                raise

    def _certificate(self, request: web.Request) -> tuple[str, ...]:
        """The client's names, the configured one first; raises :class:`Denied`."""
        names = certificate_names(request)
        usable = usable_names(names)
        allowed = [name for name in self._names if name in usable] if self._names else usable
        if not allowed:
            raise Denied(
                "the client certificate carries no name that may call this coordinator", reason="certificate-name"
            )
        return (allowed[0], *(name for name in names if name != allowed[0]))

    def _unix_caller(self, peer: object) -> Caller:
        """The process that connected, named after the first configured caller that it fits.

        Raises:
            Unauthenticated: whether it fits cannot be said. Then no later caller counts either: an unknown answer is a
                refusal.
        """
        if not isinstance(peer, Peer):
            raise Unauthenticated("who is at the socket's other end is not known", reason="peer-unknown")
        name = next((name for name, each in self._callers.items() if each.unix and _fits(each.unix, peer)), None)
        return Caller(peer.subject, "unix", name)

    def _tcp_name(self, names: Sequence[str], subject: str, issuer: object) -> str | None:
        """The first configured caller that fits what certificate and token prove."""
        for name, each in self._callers.items():
            wanted = each.tcp
            if (
                wanted is not None
                and (wanted.certificate is None or wanted.certificate in names)
                and (wanted.subject is None or wanted.subject == subject)
                and (wanted.issuer is None or wanted.issuer == issuer)
            ):
                return name
        return None

    async def _identity(self, credentials: Credentials) -> Identity:
        if not credentials.token:
            raise Unauthenticated("a bearer token is needed, in one Authorization header", reason="token-missing")
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
        raise Unauthenticated("no authenticator knows this kind of token", reason="token-unknown")

    def _subject(self, identity: Identity) -> str:
        claims = identity.claims
        if "body_sha256" in claims:
            raise Unauthenticated(
                "the token is one for a signer's call, not for the coordinator", reason="token-audience"
            )
        audience = claims.get("aud", self._rules.audience)
        if self._rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unauthenticated("the token's aud is not this coordinator", reason="token-audience")
        self._check_times(claims)
        if self._rules.issuers and claims.get("iss") not in self._rules.issuers:
            raise Unauthenticated("the token's iss is not one that this coordinator trusts", reason="token-issuer")
        subject: object = identity.subject
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise Unauthenticated(
                f"the token's subject is not 1 to {_LONGEST_SUBJECT} printable characters", reason="token-subject"
            )
        return subject

    def _check_times(self, claims: Mapping[str, object]) -> None:
        """Check the times that there are (RFC 7519, section 4.1); which must be there the authenticator says."""
        now, leeway = time.time(), self._rules.leeway_seconds
        for name in {"exp", "nbf", "iat"} & claims.keys():
            value = claims[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Unauthenticated(f"the token's {name} is not a number", reason="token-claims")
            if name == "exp" and not value > now - leeway:
                raise Unauthenticated("the token is expired", reason="token-expired")
            if name != "exp" and not value <= now + leeway:
                raise Unauthenticated(
                    f"the token's {name} is in the future; check the clocks", reason="token-not-yet-valid"
                )


def _is_unix(request: web.Request) -> bool:
    peer = request.get_extra_info("socket")
    return peer is not None and peer.family == socket.AF_UNIX


def _fits(wanted: UnixCaller, peer: Peer) -> bool:
    """Whether all that is configured is so; the program is looked at last, and only where all else fits."""
    return (
        (wanted.uid is None or wanted.uid == peer.uid)
        and (wanted.gid is None or wanted.gid in peer.groups)
        and (wanted.executable is None or peer.runs(Path(wanted.executable)))
    )


def _check_head(request: web.Request) -> None:
    """Refuse what comes over the Unix socket for somebody else, or from a program that does not know where it asks."""
    _refuse_headers(request, _OF_OTHERS)
    if request.headers.getall(PROGRAM_HEADER, []) != [PROGRAM_VALUE]:
        raise Denied(
            f"add the header {PROGRAM_HEADER}: {PROGRAM_VALUE}, once, to requests on the Unix socket that sign: it "
            "says that a program means to ask, and was not tricked into it",
            reason="header-missing",
        )


def _refuse_headers(request: web.Request, names: re.Pattern[str]) -> None:
    for name in request.headers:
        if names.match(name):
            raise Denied(
                f"the request carries {name[:32]}, so a browser or a proxy sends it for somebody else; signatures are "
                "for the program that asks itself",
                reason="forwarded",
            )
