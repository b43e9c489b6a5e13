"""TLS contexts that accept exactly one peer, all with the one certificate that was read together with its key.

The check of the name runs inside the handshake, before the last handshake message leaves: a peer with another identity
never sees a byte of a request, and no code path of an HTTP library can forget to ask.
"""

from __future__ import annotations

import ipaddress
import math
import ssl
from collections.abc import Mapping
from typing import Any, Self

from cryptography import x509

from frost_sidecar import spiffe
from frost_sidecar.errors import ConfigError
from frost_sidecar.identity import UNREADABLE, expiry, load_lists
from frost_sidecar.model import TlsFiles
from frost_sidecar.private_file import check_not_public, check_readable


class PinnedObject(ssl.SSLObject):
    """A TLS connection whose handshake fails unless the peer's certificate carries the pinned name."""

    pinned: PinnedContext | None = None
    """The context that the connection was asked of; without one no peer is right."""
    alert: str | None = None
    """The TLS alert that arrived after the handshake; for whoever explains the connection's end."""
    taken: float | None = None
    """When the last call took it, on the monotonic clock; None before the first."""
    ends: float = 0.0
    """When either side's certificate ends to be valid, seconds since the epoch."""

    def do_handshake(self) -> None:
        """Go on with the handshake; at its end, look at the name and the trust domain."""
        super().do_handshake()
        if self.pinned is None:
            raise ssl.SSLCertVerificationError("the connection has lost its pinned name")
        certificate = self.getpeercert() or {}
        names = _names(certificate)
        if not self.pinned.accepts(names):
            shown = ", ".join(f"{kind}:{value}" for kind, value in names)[:200] or "no name at all"
            raise ssl.SSLCertVerificationError(f"it is for {shown}, not for {self.pinned.pin}")
        try:
            self.pinned.check_domain(self.getpeercert(True) or b"")
        except UNREADABLE as error:
            raise ssl.SSLCertVerificationError(f"it is not of the trust domain: {error}") from None
        self.ends = min(self.pinned.ends, ssl.cert_time_to_seconds(str(certificate["notAfter"])))

    def read(self, size: int = 1024, buffer: Any = None) -> bytes:
        """Note the peer's alert: an event loop may drop it when a write meets the closed connection first."""
        try:
            return super().read(size, buffer)
        except ssl.SSLError as error:
            self.alert = alert_in(error) or self.alert
            raise


class PinnedContext(ssl.SSLContext):
    """A client's TLS context for one peer. Made by :meth:`TlsIdentity.context`.

    Its connections are made by the identity's context and carry the pin with them, so that a further name costs no
    reading of files. It holds neither certificate nor authority itself: used past :meth:`wrap_bio`, it trusts nobody.
    """

    pin: str = ""
    """The one name that the peer's certificate must carry: a DNS name, an IP address or a URI."""
    ends: float = math.inf
    """When our own certificate ends to be valid, or what we know of others' does; seconds since the epoch."""
    _identity: ssl.SSLContext
    _trust_domain: str | None

    @classmethod
    def of(cls, identity: ssl.SSLContext, pin: str, *, ends: float, trust_domain: str | None) -> Self:
        """The context for ``pin`` whose connections ``identity`` makes."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.pin = pin
        context.ends = ends
        context._identity = identity
        context._trust_domain = trust_domain
        return context

    @property
    def by_uri(self) -> bool:
        """Whether the peer is known by a URI (SPIFFE), which TLS itself cannot check."""
        return _is_uri(self.pin)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the signature is the standard library's
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> PinnedObject:
        """A connection of the identity's that only the pinned peer can take up. asyncio and uvloop call this."""
        connection = self._identity.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if not isinstance(connection, PinnedObject):
            raise TypeError("the identity makes connections that check no name")
        connection.pinned = self
        return connection

    def check_domain(self, der: bytes) -> None:
        """Raise ValueError for a certificate that is not of the trust domain, where one is asked for."""
        if self._trust_domain is not None:
            spiffe.member(x509.load_der_x509_certificate(der), self._trust_domain)

    def accepts(self, names: tuple[tuple[str, str], ...]) -> bool:
        """Whether subject alternative names, as pairs of kind and value, are those of the pinned peer.

        A URI must match byte for byte and be the only one (X.509-SVID, section 2); DNS names match without regard to
        case, never by wildcard, and only in ASCII: other scripts have letters whose lower case is an ASCII letter. IP
        addresses match by value. The common name counts for nothing.
        """
        if self.by_uri:
            return [value for kind, value in names if kind == "URI"] == [self.pin]
        address = _address(self.pin)
        if address is not None:
            return any(kind == "IP Address" and _address(value) == address for kind, value in names)
        wanted = self.pin.rstrip(".").lower()
        return any(kind == "DNS" and value.isascii() and value.lower() == wanted for kind, value in names)


def alert_in(error: BaseException) -> str | None:
    """The name of the peer's TLS alert in an exception of OpenSSL's, as in ``certificate unknown``."""
    for text in error.args:
        if isinstance(text, str) and "_ALERT_" in text:
            return text.partition("_ALERT_")[2].partition("]")[0].lower().replace("_", " ")
    return None


class TlsIdentity:
    """Our certificate and the one authority of our peers, as their files are now."""

    def __init__(self, files: TlsFiles, *, trusts_until: float = math.inf) -> None:
        """Read ``files``. After ``trusts_until`` their revocation lists are out of date, seconds since the epoch.

        Raises:
            ConfigError: a file is missing, unreadable or of the wrong kind, or key and certificate do not belong
                together. The message names the file.
        """
        self._by_host = _read(files, check_hostname=True)
        self._by_uri = _read(files, check_hostname=False)
        self._trust_domain = files.trust_domain
        self._trusts_until = trusts_until
        try:
            self.ends = expiry(files.cert)
            """When our certificate ends to be valid, seconds since the epoch."""
        except (OSError, ValueError):
            raise ConfigError(f"{files.cert} cannot be read", path="tls.cert") from None

    def context(self, pin: str) -> PinnedContext:
        """A context for TLS 1.3 that shows our certificate and accepts only the peer ``pin`` below our authority.

        Raises:
            ConfigError: ``pin`` cannot be a server's name.
        """
        if not pin.isascii() or not pin.isprintable() or "*" in pin or " " in pin:
            raise ConfigError(f"server_name {pin!r} is not one exact ASCII name", path="signers")
        if _is_uri(pin):
            return self._pinned(self._by_uri, pin)
        context = self._pinned(self._by_host, pin)
        try:
            context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=pin.rstrip("."))
        except ValueError as error:
            raise ConfigError(f"server_name {pin!r} cannot be a host's name: {error}", path="signers") from None
        return context

    def _pinned(self, identity: ssl.SSLContext, pin: str) -> PinnedContext:
        ends = min(self.ends, self._trusts_until)
        return PinnedContext.of(identity, pin, ends=ends, trust_domain=self._trust_domain)


def _read(files: TlsFiles, *, check_hostname: bool) -> ssl.SSLContext:
    for file in (files.cert, files.key, files.ca):
        check_readable(file, "tls")
    check_not_public(files.key, what="a private key", setting="tls.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = PinnedObject
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    context.check_hostname = check_hostname
    try:
        context.load_verify_locations(cafile=files.ca)
    except ssl.SSLError:
        raise ConfigError(f"{files.ca} holds no certificate in PEM form", path="tls.ca") from None
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except _EncryptedKeyError:
        raise ConfigError(f"{files.key} is encrypted; store the key without a passphrase", path="tls.key") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{files.key} is not the key of the certificate {files.cert}", path="tls.key") from None
        raise ConfigError(
            f"{files.cert} and {files.key} are not a certificate chain and its key in PEM form", path="tls.cert"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {files.cert} or {files.key}: {error.strerror}", path="tls.cert") from None
    if files.crl is not None:
        load_lists(context, files.crl, "tls")
    return context


class _EncryptedKeyError(Exception):
    """The private key needs a passphrase. Without the callback OpenSSL would ask for one on the terminal."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _is_uri(pin: str) -> bool:
    return "://" in pin


def _names(certificate: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    found = certificate.get("subjectAltName", ())
    entries = found if isinstance(found, tuple) else ()
    return tuple((str(entry[0]), str(entry[1])) for entry in entries if isinstance(entry, tuple) and len(entry) == 2)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
