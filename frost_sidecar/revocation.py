"""Certificate revocation lists (RFC 5280, section 5), read from one PEM file that somebody keeps fresh.

OpenSSL asks the lists in the handshake. It does not ask again while a connection lives: that is what
:class:`Revocations` is for.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import get_logger
from frost_sidecar.private_file import check_readable

log = get_logger("frost_sidecar.revocation")

_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_LISTS: Final = 256
_BLOCK: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_BEGIN: Final = b"-----BEGIN X509 CRL-----"
_UNUSABLE: Final = (
    *(ValueError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True, slots=True)
class Revocations:
    """The lists of one file, as they were read."""

    expires: float
    """When the first of them must have been replaced (``nextUpdate``), seconds since the epoch."""
    _serials: frozenset[tuple[str, int]]

    @classmethod
    def read(cls, crl: Path, ca: Path, section: str) -> Revocations:
        """The lists in ``crl``; those of the authorities in ``ca`` must be signed by them.

        A list of an authority that is not in ``ca``, an intermediate one, is judged in the handshake, where it is
        known. Of two lists of one authority the newer counts, as for OpenSSL.

        Raises:
            ConfigError: a file cannot be read, there is no list, or one that is expired, not valid yet, not whole (a
                delta or an indirect list), or not signed by whom it names; with the place in the table ``section``.
        """
        where = f"{section}.crl"
        check_readable(ca, f"{section}.ca")
        check_readable(crl, where)
        try:
            authorities = x509.load_pem_x509_certificates(ca.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot use {ca}: {error}", path=f"{section}.ca") from None
        try:
            lists = _newest(_parse(_read(crl)))
            expires = min(_checked(each, authorities) for each in lists)
            _say_missing(lists, authorities)
            serials = frozenset((_spelled(each.issuer), entry.serial_number) for each in lists for entry in each)
        except OSError as error:
            raise ConfigError(f"cannot read {crl}: {error.strerror}", path=where) from None
        except _UNUSABLE as error:
            raise ConfigError(f"cannot use {crl}: {error}", path=where) from None
        return cls(expires, serials)

    def has(self, certificate: x509.Certificate) -> bool:
        """Whether the certificate is revoked."""
        return (_spelled(certificate.issuer), certificate.serial_number) in self._serials


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    return data


def _parse(data: bytes) -> list[x509.CertificateRevocationList]:
    blocks = _BLOCK.findall(data)
    if len(blocks) != data.count(_BEGIN):
        raise ValueError("the last list in it is not whole")
    if not blocks:
        raise ValueError("it holds no revocation list in PEM form")
    if len(blocks) > _MOST_LISTS:
        raise ValueError(f"it holds more than {_MOST_LISTS} lists")
    return [x509.load_pem_x509_crl(block) for block in blocks]


def _newest(lists: Iterable[x509.CertificateRevocationList]) -> list[x509.CertificateRevocationList]:
    """The newest list of each authority, which is a name and a key."""
    newest: dict[tuple[str, bytes | None], x509.CertificateRevocationList] = {}
    for each in sorted(lists, key=lambda each: each.last_update_utc):
        newest[_spelled(each.issuer), _key_identifier(each)] = each
    return list(newest.values())


def _key_identifier(each: x509.CertificateRevocationList) -> bytes | None:
    try:
        return each.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None


def _checked(each: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]) -> float:
    """When the list ends to be valid; raises ValueError for one that nobody could use."""
    of = f"the list of {each.issuer.rfc4514_string()}"
    now = dt.datetime.now(dt.UTC)
    if each.next_update_utc is None:
        raise ValueError(f"{of} does not say when the next one comes")
    if each.next_update_utc <= now:
        raise ValueError(f"{of} expired at {each.next_update_utc.isoformat()}; fetch the newest one")
    if each.last_update_utc > now:
        raise ValueError(f"{of} is valid from {each.last_update_utc.isoformat()} only; check the clock")
    for extension in each.extensions:
        if isinstance(extension.value, x509.DeltaCRLIndicator) or (
            isinstance(extension.value, x509.IssuingDistributionPoint)
            and (extension.value.indirect_crl or extension.value.only_some_reasons)
        ):
            raise ValueError(f"{of} is not a whole list of its own; delta and indirect lists are not understood")
    named = [ca for ca in authorities if _spelled(ca.subject) == _spelled(each.issuer)]
    if named and not any(_is_signed(each, ca) for ca in named):
        raise ValueError(f"{of} is not signed by it")
    return each.next_update_utc.timestamp()


def _is_signed(each: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    try:
        return each.is_signature_valid(ca.public_key())  # type: ignore[arg-type]  # a key that signs no list: TypeError
    except (InvalidSignature, TypeError):
        return False


def _say_missing(lists: Sequence[x509.CertificateRevocationList], authorities: Sequence[x509.Certificate]) -> None:
    issuers = {_spelled(each.issuer) for each in lists}
    for ca in authorities:
        if _spelled(ca.subject) not in issuers:
            name = ca.subject.rfc4514_string()
            log.warning("no revocation list of this authority: all its peers are refused", authority=name)


def _spelled(name: x509.Name) -> str:
    """A name in one spelling: certificates and lists of one authority may differ in the type of their texts."""
    return name.rfc4514_string().casefold()
