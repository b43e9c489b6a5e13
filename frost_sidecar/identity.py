"""What a process proves with its certificate, and what it asks of its peers: as its files are now, not at the start.

A context is never changed: new files make a new one, which new connections get. What a connection was begun with, it
keeps to its end; what may have changed since (a list of revoked certificates, a certificate's end) is asked again for
each request, by :meth:`ServerIdentity.check`.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from frost_sidecar import spiffe
from frost_sidecar.errors import ConfigError, Denied
from frost_sidecar.following import Follow
from frost_sidecar.model import TlsFiles
from frost_sidecar.private_file import check_not_public, check_readable
from frost_sidecar.revocation import Revocations

_KINDS: Final = frozenset({"DNS", "URI"})
"""Kinds of subject alternative names that can stand for a peer."""
UNREADABLE: Final = (ValueError, x509.InvalidVersion)
"""Of a certificate that OpenSSL took, but that breaks the rules of its encoding."""


@dataclass(frozen=True)
class Peer:
    """What the verified certificate of a connection's other side says."""

    names: tuple[str, ...]
    """As ``DNS:…`` and ``URI:…``."""
    expires: float
    """Seconds since the epoch."""
    der: bytes = field(repr=False)

    @classmethod
    def of(cls, tls: Any) -> Peer | None:
        """The peer of an SSL object; None without a readable certificate, as when the peer is gone already."""
        if isinstance(tls, _PeerObject) and tls.peer is not None:
            return tls.peer
        try:
            certificate = tls.getpeercert() if tls else None
        except (UnicodeDecodeError, ssl.SSLError, SystemError):  # it has a name that cannot be spelled
            return None
        if not certificate:
            return None
        names = tuple(f"{kind}:{name}" for kind, name in certificate.get("subjectAltName", ()) if kind in _KINDS)
        peer = cls(names, ssl.cert_time_to_seconds(certificate["notAfter"]), tls.getpeercert(True) or b"")
        if isinstance(tls, _PeerObject):
            tls.peer = peer
        return peer

    @cached_property
    def certificate(self) -> x509.Certificate | None:
        """The certificate; None for one that OpenSSL took, but that breaks the rules of its encoding."""
        try:
            return x509.load_der_x509_certificate(self.der)
        except UNREADABLE:
            return None


class _PeerObject(ssl.SSLObject):
    """A TLS connection that keeps what was read of its peer: nothing of that changes while it lives."""

    peer: Peer | None = None


class PeerContext(ssl.SSLContext):
    """A server's TLS context that knows whose it is. Made by :class:`ServerIdentity`."""

    sslobject_class = _PeerObject
    identity: ServerIdentity | None = None


class ServerIdentity:
    """Certificate, key, authorities and revocation lists of one listener; :meth:`follow` reads them."""

    def __init__(self, files: TlsFiles, section: str = "tls") -> None:
        """``section`` is the table of the configuration that errors name."""
        self._files = files
        self._section = section
        self._turn = threading.Lock()
        self._context: PeerContext | None = None
        self._revocations: Revocations | None = None

    def follow(self, follow: Follow, what: str) -> None:
        """Read the files now, and again when they change: ``what`` for all, ``what.crl`` for the revocation lists.

        Raises:
            ConfigError: a file cannot be read or does not fit the others; names its place in the table.
        """
        files = self._files
        if files.crl is not None:
            follow(f"{what}.crl", [files.crl], self._read_lists)
        follow(what, [files.cert, files.key, files.ca], self._read)

    @property
    def context(self) -> PeerContext:
        """TLS 1.3 with a client certificate of the authority required: for the next connection."""
        if self._context is None:
            raise RuntimeError("the identity is used before it was read")
        return self._context

    def check(self, peer: Peer) -> None:
        """Whether a peer with this certificate may have one more request answered now.

        Raises:
            Denied: it is revoked, the revocation lists are out of date, or it is not of the trust domain.
        """
        revocations, domain = self._revocations, self._files.trust_domain
        if revocations is None and domain is None:
            return
        certificate = peer.certificate
        if certificate is None:
            raise Denied("the client certificate cannot be read", reason="certificate-untrusted")
        if revocations is not None:
            if revocations.expires <= time.time():
                raise Denied("the list of revoked certificates is out of date", reason="certificate-untrusted")
            if revocations.has(certificate):
                raise Denied("the client certificate is revoked", reason="certificate-revoked")
        if domain is not None:
            try:
                spiffe.member(certificate, domain)
            except ValueError as error:
                raise Denied(f"the client certificate: {error}", reason="certificate-trust-domain") from None

    def _read(self) -> float:
        # OpenSSL would take a list that nobody can use, and then refuse everybody. At the start it was read just now.
        if self._files.crl is not None and self._context is not None:
            Revocations.read(self._files.crl, self._files.ca, self._section)
        return self._load()

    def _load(self) -> float:
        with self._turn:
            context = PeerContext(ssl.PROTOCOL_TLS_SERVER)
            context.verify_mode = ssl.CERT_REQUIRED
            context.num_tickets = 0  # a resumed session would skip the look at the client's certificate
            expires = load(context, self._files, self._section)
            if self._context is not None:
                check_in_time(self._files.cert, self._section)
            context.identity = self
            self._context = context
            return expires

    def _read_lists(self) -> float:
        """Take over new lists: for the connections that are there, and for new ones if all other files can be used."""
        if self._files.crl is None:
            raise RuntimeError("there is no list to read")
        self._revocations = revocations = Revocations.read(self._files.crl, self._files.ca, self._section)
        if self._context is not None:
            self._load()
        return revocations.expires


class _MemberObject(ssl.SSLObject):
    """A client's TLS connection whose handshake fails for a server outside of the trust domain that is asked for."""

    def do_handshake(self) -> None:
        """Go on with the handshake; at its end, look at the trust domain."""
        super().do_handshake()
        domain = self.context.trust_domain if isinstance(self.context, _ClientContext) else None
        if domain is None:
            return
        try:
            spiffe.member(x509.load_der_x509_certificate(self.getpeercert(True) or b""), domain)
        except UNREADABLE as error:
            raise ssl.SSLCertVerificationError(f"it is not of the trust domain: {error}") from None


class _ClientContext(ssl.SSLContext):
    sslobject_class = _MemberObject
    trust_domain: str | None = None


def client_context(files: TlsFiles, section: str = "tls") -> ssl.SSLContext:
    """TLS 1.3 with our certificate, for a server of the authority (and the trust domain) that has the target's name.

    Raises:
        ConfigError: a file cannot be read or does not fit the others; names its place in the table ``section``.
    """
    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.trust_domain = files.trust_domain
    load(context, files, section)
    return context


def load(context: ssl.SSLContext, files: TlsFiles, section: str) -> float:
    """Load the files into a fresh context and ask for TLS 1.3; gives the end of our own certificate's validity.

    Raises:
        ConfigError: a file cannot be read or does not fit the others; names its place in the table ``section``.
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    named = {"cert": files.cert, "key": files.key, "ca": files.ca, "crl": files.crl}
    for setting, file in named.items():
        if file is not None:
            check_readable(file, f"{section}.{setting}")
    check_not_public(files.key, what="a private key", setting=f"{section}.key")
    try:
        context.load_cert_chain(files.cert, files.key, password=str)  # an empty password, not a question
        expires = expiry(files.cert)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {files.cert} with {files.key}: {error}", path=f"{section}.cert") from None
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {files.ca}: {error}", path=f"{section}.ca") from None
    if files.crl is not None:
        load_lists(context, files.crl, section)
    return expires


def load_lists(context: ssl.SSLContext, crl: Path, section: str) -> None:
    """Let the handshake refuse certificates that are in these lists; each issuer of a chain then needs one.

    Raises:
        ConfigError: the file cannot be used, or holds certificates, which would be trusted.
    """
    before = context.cert_store_stats()["x509"]
    try:
        context.load_verify_locations(crl)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {crl}: {error}", path=f"{section}.crl") from None
    stats = context.cert_store_stats()
    if stats["x509"] != before or not stats["crl"]:
        raise ConfigError(f"{crl} must hold revocation lists and nothing else", path=f"{section}.crl")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def check_in_time(cert: Path, section: str) -> None:
    """Raise ConfigError for a certificate that is not valid now, so that one that is stays in use."""
    try:
        certificate = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {cert}: {error}", path=f"{section}.cert") from None
    if certificate.not_valid_after_utc.timestamp() <= time.time():
        raise ConfigError(f"{cert} has expired already", path=f"{section}.cert")
    if certificate.not_valid_before_utc.timestamp() > time.time():
        begin = certificate.not_valid_before_utc.isoformat()
        raise ConfigError(f"{cert} is valid from {begin} only; check the clock", path=f"{section}.cert")


def expiry(cert: Path) -> float:
    """End of the validity of a PEM file's first certificate, in seconds since the epoch; OSError or ValueError."""
    return x509.load_pem_x509_certificates(cert.read_bytes())[0].not_valid_after_utc.timestamp()
