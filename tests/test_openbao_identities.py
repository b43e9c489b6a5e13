"""Identities from a real OpenBao server's PKI: certificates that live a minute, token keys beside them, revocation."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.mounted import Mount, MountedCluster, client_tls, number, serial_of_signer
from tests.openbao import DOMAIN, Stored, Vault, running
from tests.under_load import every, load, metric, post, until

OLD, NEW = "2026-01-01.pem", "2026-11-22.pem"


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    with tempfile.TemporaryDirectory(prefix="bao-") as folder, running(Path(folder)) as vault:
        yield vault


@pytest.fixture
def stored(vault: Vault) -> Stored:
    return Stored(vault)


def serial_of_coordinator(cluster: MountedCluster) -> int:
    """The serial number of the certificate that the coordinator shows to signer 3, in whose place we listen."""
    mount = cluster.mounts["signer-3"]
    cluster.stop_signer(3)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(mount / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(mount / "tls.crt", mount / "tls.key")
    with socket.create_server(("127.0.0.1", cluster.signer_port(3))) as server:
        server.settimeout(10)
        with every(0.5, lambda: post(cluster.socket, 2, 3)):
            plain, _ = server.accept()
            plain.settimeout(5)
            with context.wrap_socket(plain, server_side=True) as channel:
                return number(channel)


def test_certificates_of_a_minute_their_authorities_and_token_keys_are_renewed_while_signing(
    vault: Vault, stored: Stored
) -> None:
    old = put_first_token_key(vault)
    with (
        tempfile.TemporaryDirectory(prefix="fs-") as folder,
        MountedCluster(Path(folder), vault, ttl="60s", tokens="eddsa") as cluster,
    ):
        first = {name: mount.certificate for name, mount in cluster.mounts.items()}
        check_profile(first["signer-1"], "signer-1")
        cluster.start()
        assert serial_of_signer(cluster, 1) == first["signer-1"].serial_number
        end = max(each.not_valid_after_utc.timestamp() for each in first.values()) + 2
        with load(cluster, pause=0.05) as signing, every(20, cluster.renew_all):
            until(lambda: signing.made(10), "the first signatures")
            rotate_token_key(cluster, vault, old)
            rotate_authorities(cluster, vault)
            until(lambda: time.time() > end or bool(signing.failures), "the end of the first certificates", seconds=90)
        assert signing.failures == []
        assert signing.signed > 500
        for identifier in cluster.identifiers:
            name = f"signer-{identifier}"
            shown = serial_of_signer(cluster, identifier)
            assert shown == cluster.mounts[name].certificate.serial_number != first[name].serial_number
        issuers = {mount.certificate.issuer.rfc4514_string() for name, mount in cluster.mounts.items()}
        assert issuers == {"CN=mint.example pki-2"}
        shown = serial_of_coordinator(cluster)
        assert shown == cluster.mounts["coordinator"].certificate.serial_number != first["coordinator"].serial_number


def rotate_authorities(cluster: MountedCluster, vault: Vault) -> None:
    """Trust both roots, then have certificates of the new one, then trust the new one alone; each step everywhere."""
    vault.make_authorities("root-2", "pki-2")
    for roots, issuing in ((("root", "root-2"), "pki"), (("root", "root-2"), "pki-2"), (("root-2",), "pki-2")):
        cluster.roots, cluster.issuing = roots, issuing
        cluster.renew_all()
        for name in cluster.names:
            until(partial(cluster.has_taken_over, name), f"{name} has taken over {roots} and {issuing}")


def new_token_key() -> str:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def put_first_token_key(vault: Vault) -> str:
    """A token key in the store for the coordinator, and its public half for the signers."""
    key = new_token_key()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(key)
        file.flush()
        command = [sys.executable, "-m", "frost_sidecar_auth_eddsa_jwks", "jwks", file.name]
        jwks = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    vault.write_secret("frost/tokens/coordinator", {OLD: key})
    vault.write_secret("frost/tokens/signers", {"jwks.json": jwks})
    return key


def rotate_token_key(cluster: MountedCluster, vault: Vault, old: str) -> None:
    """As docs/rotating-token-keys.md has it: publish the new key, let it sign, take the old one away."""
    new = new_token_key()
    (first,) = published(cluster)
    vault.write_secret("frost/tokens/coordinator", {OLD: old, NEW: new})
    cluster.fetch("coordinator")
    until(lambda: len(published(cluster)) == 2, "the publication of the new key")
    (kid,) = set(published(cluster)) - {first}
    carry_public_keys(cluster, vault, kid)
    until(lambda: last(cluster, "sidecar", "another key signs").get("kid") == kid, "the new key signs")
    vault.write_secret("frost/tokens/coordinator", {NEW: new})
    cluster.fetch("coordinator")
    until(lambda: published(cluster) == [kid], "the end of the old key")
    carry_public_keys(cluster, vault, kid)


def carry_public_keys(cluster: MountedCluster, vault: Vault, kid: str) -> None:
    """What the coordinator published, to the signers by way of the store."""
    kids = published(cluster)
    vault.write_secret("frost/tokens/signers", {"jwks.json": cluster.jwks_out.read_text()})
    for identifier in cluster.identifiers:
        name = f"signer-{identifier}"
        cluster.fetch(name)
        until(
            lambda name=name: last(cluster, name, "keys taken over").get("kids") == sorted(kids),  # type: ignore[misc]
            f"{name} has the keys with {kid}",
        )


def published(cluster: MountedCluster) -> list[str]:
    return [key["kid"] for key in json.loads(cluster.jwks_out.read_text())["keys"]]


def last(cluster: MountedCluster, name: str, event: str) -> dict[str, Any]:
    """The last such record of the process's log."""
    records = [json.loads(line) for line in cluster.log(name).read_text("utf-8").splitlines() if event in line]
    return records[-1] if records else {}


def check_profile(leaf: x509.Certificate, name: str) -> None:
    """X.509-SVID, sections 2 to 4: one URI, no authority, signatures alone."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(f"{DOMAIN}/{name}")]
    assert (names.critical, leaf.subject.rfc4514_string()) == (True, "")
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)


def info(connection: http.client.HTTPConnection) -> tuple[int, dict[str, Any]]:
    """Ask a signer who it is, without a token: an allowed certificate gets as far as that."""
    connection.request("GET", "/v1/info")
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_a_revoked_client_is_refused_on_new_and_kept_connections(vault: Vault, stored: Stored) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="fs-") as folder,
        MountedCluster(Path(folder), vault, revocation=True) as cluster,
    ):
        cluster.start()
        stolen = Mount(cluster.folder / "stolen")
        issued = vault.issue("coordinator", ttl="60s")
        stolen.publish(
            {
                "tls.crt": issued["certificate"] + "\n" + issued["issuing_ca"],
                "tls.key": issued["private_key"],
                "ca.crt": vault.root_certificate(),
            }
        )
        with load(cluster) as signing:
            until(lambda: signing.made(10), "the first signatures")
            port = cluster.signer_port(1)
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=client_tls(stolen))
            connection.connect()
            connection.auto_open = 0  # this one connection, or none
            status, problem = info(connection)
            assert (status, problem["reason"]) == (401, "token-missing")
            vault.call("POST", "pki/revoke", {"serial_number": issued["serial_number"]})
            cluster.fetch_lists()
            until(lambda: is_refused(connection) or bool(signing.failures), "the refusal of the kept connection")
            connection.close()
            seen = revoked_count(cluster)
            again = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=client_tls(stolen))
            with pytest.raises((ssl.SSLError, ConnectionError)):
                info(again)
            again.close()
            until(lambda: revoked_count(cluster) == seen + 1, "the count of the refused handshake")
            before = signing.signed
            until(lambda: signing.made(before + 10), "signing with certificates that are good")
        assert signing.failures == []
        a_revoked_coordinator_signs_again_with_a_new_certificate(cluster, vault)


def is_refused(connection: http.client.HTTPSConnection) -> bool:
    """Whether this connection serves its client no longer."""
    if connection.sock is None:  # the answer before was under way when the list was read, and said "Connection: close"
        return True
    return info(connection)[0] == 403


def _spelled(serial: int) -> str:
    """A serial number as the authority spells it: in no more bytes than it has."""
    return serial.to_bytes((serial.bit_length() + 7) // 8).hex(":")


def revoked_count(cluster: MountedCluster) -> float:
    """Refusals of revoked certificates that signer 1 has counted."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.metrics_port(1), timeout=5)
    return metric(connection, 'frost_signer_refusals_total{reason="certificate-revoked"} ') or 0.0


def a_revoked_coordinator_signs_again_with_a_new_certificate(cluster: MountedCluster, vault: Vault) -> None:
    serial = cluster.mounts["coordinator"].certificate.serial_number
    vault.call("POST", "pki/revoke", {"serial_number": _spelled(serial)})
    cluster.fetch_lists()
    until(lambda: post(cluster.socket)[0] == 503, "the refusal of the coordinator")
    cluster.renew("coordinator")
    until(lambda: post(cluster.socket)[0] == 200, "signing with the new certificate")
