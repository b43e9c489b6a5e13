"""SPIFFE IDs and the certificates that carry them, rule by rule."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from frost_sidecar import spiffe
from frost_sidecar.model import TlsFiles
from frost_sidecar.testing.authority import Authority

LONGEST_PATH = "/" + "a" * (2048 - len("spiffe://d/"))


@pytest.mark.parametrize(
    ("identity", "domain", "path"),
    [
        ("spiffe://mint.example/frost/signer-1", "mint.example", "/frost/signer-1"),
        ("spiffe://mint.example", "mint.example", ""),
        ("spiffe://a_b-c.9/X/.../..x/_-.", "a_b-c.9", "/X/.../..x/_-."),
        (f"spiffe://{'d' * 255}/x", "d" * 255, "/x"),
        (f"spiffe://d{LONGEST_PATH}", "d", LONGEST_PATH),
    ],
)
def test_an_identity_is_a_trust_domain_and_a_path(identity: str, domain: str, path: str) -> None:
    assert spiffe.parse(identity) == (domain, path)


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "mint.example/signer",
        "https://mint.example/signer",
        "SPIFFE://mint.example/signer",
        "spiffe:/mint.example/signer",
        "spiffe:///signer",
        "spiffe://Mint.example/signer",
        "spiffe://mint.example:443/signer",
        "spiffe://user@mint.example/signer",
        "spiffe://mint.example/signer?x=1",
        "spiffe://mint.example/signer#x",
        "spiffe://mint.example/",
        "spiffe://mint.example/signer/",
        "spiffe://mint.example//signer",
        "spiffe://mint.example/./signer",
        "spiffe://mint.example/../signer",
        "spiffe://mint.example/signer/..",
        "spiffe://mint.example/sign%65r",
        "spiffe://mint.example/sign er",
        "spiffe://mint.example/signér",
        "spiffe://mint.example/sígner",
        "spiffe://münt.example/signer",
        "spiffe://mint.example/signer\n",
        "spiffe://mint.example/a*b",
        f"spiffe://{'d' * 256}/x",
        f"spiffe://d{LONGEST_PATH}a",
    ],
)
def test_what_is_no_identity_is_refused(identity: str) -> None:
    with pytest.raises(ValueError, match=r"it is|its"):
        spiffe.parse(identity)


def _certificate(files: TlsFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.cert.read_bytes())


def test_a_workload_belongs_to_its_trust_domain(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for name, sans in {"alone": [], "with-dns": ["signer-1.test", "127.0.0.1"]}.items():
        files = authority.issue(name, ["spiffe://mint.example/signer/1", *sans])
        assert spiffe.member(_certificate(files), "mint.example") == "spiffe://mint.example/signer/1"


@pytest.mark.parametrize(
    ("sans", "said"),
    [
        (["signer-1.test"], "0 URIs"),
        (["spiffe://mint.example/a", "spiffe://mint.example/b"], "2 URIs"),
        (["spiffe://mint.example/a", "https://mint.example/"], "2 URIs"),
        (["https://mint.example/a"], "no spiffe://"),
        (["spiffe://other.example/a"], "not of the trust domain"),
        (["spiffe://mint.example.evil/a"], "not of the trust domain"),
        (["spiffe://x.mint.example/a"], "not of the trust domain"),
        (["spiffe://MINT.example/a"], "no spiffe://"),
        (["spiffe://mint.example"], "the trust domain's own"),
        (["spiffe://mint.example/a/../b"], "segment"),
    ],
)
def test_other_names_do_not_belong(tmp_path: Path, sans: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spiffe.member(_certificate(Authority(tmp_path).issue("x", sans)), "mint.example")


def _usage(**set_: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: set_.get(name, False) for name in names})


def test_an_authority_is_no_workload(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    names = ["spiffe://mint.example/a"]
    wrong = [
        authority.issue("ca", names, authority=True),
        authority.issue("ca-only", names, authority=True, usage=_usage(digital_signature=True)),
        authority.issue("cert-sign", names, usage=_usage(digital_signature=True, key_cert_sign=True)),
        authority.issue("crl-sign", names, usage=_usage(digital_signature=True, crl_sign=True)),
    ]
    for files in wrong:
        with pytest.raises(ValueError, match="an authority's"):
            spiffe.member(_certificate(files), "mint.example")


def _bare(*extensions: x509.ExtensionType) -> x509.Certificate:
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(hours=1))
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    return builder.sign(key, hashes.SHA256())


def test_a_certificate_without_constraints_and_usage_is_no_authority() -> None:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://mint.example/a")])
    assert spiffe.member(_bare(names), "mint.example") == "spiffe://mint.example/a"
    with pytest.raises(ValueError, match="0 URIs"):
        spiffe.member(_bare(), "mint.example")


def test_names_that_cannot_be_read_belong_nowhere() -> None:
    odd = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x04\x86\x02\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        spiffe.member(_bare(odd), "mint.example")
