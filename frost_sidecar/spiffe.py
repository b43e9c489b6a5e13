"""SPIFFE: which identity a certificate of the X.509-SVID profile carries, and whether it belongs to a trust domain.

Sections named here are of the specifications "SPIFFE-ID" and "X.509-SVID", version 1.0.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509

_LONGEST: Final = 2048
"""Bytes of an identity that everybody must take (SPIFFE-ID, section 2.3); ours are never longer."""
_LONGEST_DOMAIN: Final = 255
_IDENTITY: Final = re.compile(r"spiffe://([a-z0-9._-]+)((?:/[A-Za-z0-9._-]+)*)\Z", re.ASCII)
"""No port, user, query, fragment or percent sign, no empty segment and no slash at the end (sections 2.1 and 2.2)."""


def parse(identity: str) -> tuple[str, str]:
    """Trust domain and path of a SPIFFE ID; the path begins with a slash, or is empty.

    Raises:
        ValueError: ``identity`` is none. The text of the error names the rule, not the value.
    """
    if len(identity.encode(errors="replace")) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} bytes")
    match = _IDENTITY.match(identity)
    if match is None:
        raise ValueError("it is no spiffe://TRUST-DOMAIN/PATH in its one form")
    domain, path = match[1], match[2]
    if len(domain) > _LONGEST_DOMAIN:
        raise ValueError(f"its trust domain is longer than {_LONGEST_DOMAIN} bytes")
    if {".", ".."} & set(path.split("/")):
        raise ValueError("its path has a segment . or ..")
    return domain, path


def member(certificate: x509.Certificate, trust_domain: str) -> str:
    """The identity of a workload's certificate that belongs to ``trust_domain``.

    The chain has been verified before; this is what X.509-SVID, sections 2 to 5, ask for beyond that: exactly one URI,
    a SPIFFE ID with a path, in a certificate that can sign no other.

    Raises:
        ValueError: it does not belong there, with the rule that it breaks.
    """
    try:
        extensions = certificate.extensions
        uris = _uris(extensions)
        authority = _is_authority(extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ValueError("its extensions cannot be read") from None
    if len(uris) != 1:
        raise ValueError(f"it has {len(uris)} URIs, not the one of a SPIFFE identity")
    domain, path = parse(uris[0])
    if domain != trust_domain:
        raise ValueError(f"it is not of the trust domain {trust_domain}")
    if not path:
        raise ValueError("it is the trust domain's own, not a workload's")
    if authority:
        raise ValueError("it is an authority's, which may sign certificates or revocation lists")
    return uris[0]


def _uris(extensions: x509.Extensions) -> list[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _is_authority(extensions: x509.Extensions) -> bool:
    """Whether basic constraints or key usage make it one; a certificate without either is none (RFC 5280, 4.2.1.9)."""
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return True
    except x509.ExtensionNotFound:
        pass
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return usage.key_cert_sign or usage.crl_sign
