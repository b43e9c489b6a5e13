"""TLS contexts that accept exactly one peer.

The check of the name runs inside the handshake, before the last handshake message leaves: a peer with another identity
never sees a byte of a request, and no code path of an HTTP library can forget to ask.
"""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Any

from frost_sidecar.errors import ConfigError
from frost_sidecar.model import TlsFiles


class PinnedObject(ssl.SSLObject):
    """A TLS connection whose handshake fails unless the peer's certificate carries the context's name."""

    alert: str | None = None
    """The TLS alert that arrived after the handshake; for whoever explains the connection's end."""

    def do_handshake(self) -> None:
        """Go on with the handshake; at its end, look at the name."""
        super().do_handshake()
        context = self.context
        if not isinstance(context, PinnedContext):
            raise ssl.SSLCertVerificationError("the connection has lost its pinned context")
        names = _names(self)
        if not context.accepts(names):
            shown = ", ".join(f"{kind}:{value}" for kind, value in names)[:200] or "no name at all"
            raise ssl.SSLCertVerificationError(f"it is for {shown}, not for {context.pin}")

    def read(self, size: int = 1024, buffer: Any = None) -> bytes:
        """Note the peer's alert: an event loop may drop it when a write meets the closed connection first."""
        try:
            return super().read(size, buffer)
        except ssl.SSLError as error:
            self.alert = alert_in(error) or self.alert
            raise


class PinnedContext(ssl.SSLContext):
    """A client's TLS context for one peer. Made by :func:`pinned_context`."""

    sslobject_class = PinnedObject

    pin: str = ""
    """The one name that the peer's certificate must carry: a DNS name, an IP address or a URI."""

    @property
    def by_uri(self) -> bool:
        """Whether the peer is known by a URI (SPIFFE), which TLS itself cannot check."""
        return "://" in self.pin

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


def pinned_context(files: TlsFiles, pin: str) -> PinnedContext:
    """A context for TLS 1.3 that shows our certificate and accepts only the peer ``pin`` below our own authority.

    Raises:
        ConfigError: a file is missing, unreadable or of the wrong kind, key and certificate do not belong together, or
            ``pin`` cannot be a server's name. The message names the file.
    """
    for file in (files.cert, files.key, files.ca):
        _check_readable(file)
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.pin = pin
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    context.check_hostname = not context.by_uri
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
    _check_pin(context)
    return context


class _EncryptedKeyError(Exception):
    """The private key needs a passphrase. Without the callback OpenSSL would ask for one on the terminal."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"cannot read the TLS file {file}: {error.strerror}", path="tls") from None


def _check_pin(context: PinnedContext) -> None:
    pin = context.pin
    if not pin.isascii() or not pin.isprintable() or "*" in pin or " " in pin:
        raise ConfigError(f"server_name {pin!r} is not one exact ASCII name", path="signers")
    if context.by_uri:
        return
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=pin.rstrip("."))
    except ValueError as error:
        raise ConfigError(f"server_name {pin!r} cannot be a host's name: {error}", path="signers") from None


def _names(connection: ssl.SSLObject) -> tuple[tuple[str, str], ...]:
    certificate = connection.getpeercert() or {}
    found = certificate.get("subjectAltName", ())
    return tuple((str(entry[0]), str(entry[1])) for entry in found if isinstance(entry, tuple) and len(entry) == 2)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
