"""A certificate authority that lives for one test or one demo. Never for production: its key lies beside its files."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from frost_sidecar.model import TlsFiles

_START: Final = dt.timedelta(minutes=-5)


class Authority:
    """Issues certificates for server and client use below one self-signed root, written as PEM files to ``folder``."""

    def __init__(
        self, folder: Path, *, name: str = "frost-sidecar test authority", above: Authority | None = None
    ) -> None:
        """``above`` is the authority that vouches for this one; by default it is a root and vouches for itself."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._above = above
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._revoked: list[int] = []
        issuer = above or self
        self._own = (
            _builder(self._name, issuer._name, self._key.public_key(), dt.timedelta(days=7))  # noqa: SLF001 - its own class
            .add_extension(x509.BasicConstraints(ca=True, path_length=1 if above is None else 0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(issuer._identifier, critical=False)  # noqa: SLF001
            .sign(issuer._key, hashes.SHA256())  # noqa: SLF001
        )
        self.certificate: Path = folder / "ca.crt" if above is None else above.certificate
        """The root's certificate: what peers trust."""
        if above is None:
            _write(self.certificate, self._pem, 0o644)

    def issue(
        self,
        name: str,
        sans: Iterable[str],
        *,
        start: dt.timedelta = _START,
        lifetime: dt.timedelta = dt.timedelta(days=1),
        authority: bool = False,
        usage: x509.KeyUsage | None = None,
    ) -> TlsFiles:
        """Write ``NAME.crt`` and ``NAME.key`` with subject alternative names and return their paths.

        A name that parses as an IP address becomes an IP SAN, one with ``://`` a URI SAN, any other a DNS SAN.
        ``start``: when it begins to be valid, from now. With
        ``authority`` or another key ``usage`` the certificate is none that a workload should have.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, self._name, key.public_key(), lifetime, start)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage or _usage(signs=authority), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(self._identifier, critical=False)
            .add_extension(x509.SubjectAlternativeName([_san(each) for each in sans]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = TlsFiles(self.folder / f"{name}.crt", self.folder / f"{name}.key", self.certificate)
        chain = b"" if self._above is None else self._pem
        _write(files.cert, certificate.public_bytes(serialization.Encoding.PEM) + chain, 0o644)
        _write(
            files.key,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            0o600,
        )
        return files

    def revoke(self, files: TlsFiles) -> None:
        """Have the certificate that is in these files in every list from now on."""
        self._revoked.append(x509.load_pem_x509_certificates(files.cert.read_bytes())[0].serial_number)

    def revoke_authority(self, below: Authority) -> None:
        """The same with an authority that this one vouches for."""
        self._revoked.append(below._own.serial_number)

    def revocations(
        self,
        *,
        start: dt.timedelta = dt.timedelta(),
        lifetime: dt.timedelta = dt.timedelta(days=1),
        extension: x509.ExtensionType | None = None,
    ) -> str:
        """The list of revoked certificates, PEM: valid for ``lifetime``, beginning ``start`` from now."""
        now = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1) + start
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now)
            .next_update(now + lifetime)
            .add_extension(self._identifier, critical=False)
        )
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        for serial in self._revoked:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    @property
    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    @property
    def _pem(self) -> bytes:
        return self._own.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    lifetime: dt.timedelta,
    begin: dt.timedelta = _START,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    start = now + begin
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(max(now + lifetime, start + dt.timedelta(seconds=1)))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """For an authority, which signs certificates and lists, or for a workload, which signs handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
