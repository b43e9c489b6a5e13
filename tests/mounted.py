"""A cluster of processes whose secrets are mounted from OpenBao: an agent writes files as Kubernetes mounts them.

A version is a new folder, and the link ``..data`` is exchanged for one that leads there. So a reader sees all files of
one version, or all of the next, and each file's name is a link through ``..data`` that never changes.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from cryptography import x509

from frost_sidecar.keygen.sealing import seal_files
from frost_sidecar.sealing import SealingKeys
from frost_sidecar.testing.processes import ProcessCluster
from tests.openbao import DOMAIN, Vault
from tests.under_load import metric, unix_connection


class Mount:
    """A folder of secrets, as the kubelet keeps one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._versions = 0
        self._files: dict[str, bytes] = {}
        self._turn = threading.Lock()

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate that is mounted now."""
        return x509.load_pem_x509_certificates((self / "tls.crt").read_bytes())[0]

    def publish(self, files: Mapping[str, bytes | str], *, mode: int = 0o400, alone: bool = False) -> None:
        """Exchange all files at once for the ones that are there with ``files`` among them, or for these ``alone``."""
        with self._turn:
            before = {} if alone else self._files
            given = {name: value.encode() if isinstance(value, str) else value for name, value in files.items()}
            self._files = {**before, **given}
            self._versions += 1
            self._exchange(mode)

    def _exchange(self, mode: int) -> None:
        version = self.folder / f"..version_{self._versions}"
        version.mkdir()
        for name, content in self._files.items():
            (version / name).touch(0o600)
            (version / name).write_bytes(content)
            (version / name).chmod(mode)
            if not (self / name).is_symlink():
                (self / name).symlink_to(Path("..data", name))
        (self / "..data_tmp").symlink_to(version.name)
        (self / "..data_tmp").rename(self / "..data")
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in self._files:
                link.unlink()
        shutil.rmtree(self.folder / f"..version_{self._versions - 1}", ignore_errors=True)


class MountedCluster(ProcessCluster):
    """Three signers with sealed shares, and a sidecar, that know each other by SPIFFE identities from OpenBao's PKI.

    ``vaults`` are the agents' accesses, by process: each reads what is its own and nothing else. ``tokens`` is what the
    calls carry: of one shared secret, or of a folder of keys, whose public halves the signers have.
    """

    def __init__(
        self,
        folder: Path,
        vault: Vault,
        *,
        ttl: str = "60s",
        revocation: bool = False,
        tokens: Literal["hs256", "eddsa"] = "hs256",
    ) -> None:
        super().__init__(folder)
        self.ttl = ttl
        self.revocation = revocation
        self.tokens = tokens
        self._turn = threading.Lock()
        self.issuing = "pki"
        self.roots: tuple[str, ...] = ("root",)
        self.keys = Mount(folder / "mounts" / "token-keys")
        self.jwks_out = folder / "jwks.json"
        self.names = [*(f"signer-{identifier}" for identifier in self.identifiers), "coordinator"]
        self.vaults = {name: vault.limited(name, _rules(name)) for name in self.names}
        self.mounts = {name: Mount(folder / "mounts" / name) for name in self.names}
        for name in self.names:
            self.renew(name)
            self.fetch(name)
        for identifier, share in self.dealt.share_files.items():
            seal_files([share], SealingKeys.load(self.mounts[f"signer-{identifier}"] / "seal.key"))
        self.configure()

    def configure(self) -> None:
        """Write the configuration of all processes, with every secret from its mount."""
        for identifier in self.identifiers:
            name = f"signer-{identifier}"
            mount, share = self.mounts[name], self.dealt.share_files[identifier]
            (self.folder / f"{name}.toml").write_text(
                f'name = "{name}"\n'
                f'bind = "127.0.0.1:{self.signer_port(identifier)}"\n'
                f'metrics_bind = "127.0.0.1:{self.metrics_port(identifier)}"\n'
                f'state = "{share.parent}"\n'
                f'seal_key_file = "{mount / "seal.key"}"\n'
                f'keys.default.share = "{share.name}"\n'
                f'clients.names = ["URI:{DOMAIN}/coordinator"]\n' + self._checks_tokens(mount) + self._tls(mount)
            )
        mount = self.mounts["coordinator"]
        self.coordinator_toml.write_text(
            f'state = "{self.dealt.group_file.parent}"\n'
            f'server.socket = "{self.socket}"\n'
            f'plugins.audit_worm.path = "{self.audit_log}"\n'
            "plugins.transport_mtls = {}\n"
            + self._makes_tokens(mount)
            + self._tls(mount)
            + "".join(
                f'[[signers]]\nidentifier = {identifier}\nzone = "ad-{identifier}"\n'
                f'url = "https://127.0.0.1:{self.signer_port(identifier)}"\n'
                f'server_name = "{DOMAIN}/signer-{identifier}"\n'
                for identifier in self.identifiers
            )
            + self.grants
        )

    def _checks_tokens(self, mount: Mount) -> str:
        if self.tokens == "hs256":
            return f'plugins.auth_hs256.secret_file = "{mount / "jwt_hs256_b64"}"\n'
        return f'plugins.auth_eddsa_jwks.jwks_file = "{mount / "jwks.json"}"\n'

    def _makes_tokens(self, mount: Mount) -> str:
        if self.tokens == "hs256":
            return self._checks_tokens(mount)
        return (
            f'[plugins.auth_eddsa_jwks]\nkey_dir = "{self.keys.folder}"\njwks_out = "{self.jwks_out}"\n'
            "publish_seconds = 8\nretired_seconds = 4\n"
        )

    def _tls(self, mount: Mount) -> str:
        crl = f'crl = "{mount / "crl.pem"}"\n' if self.revocation else ""
        return (
            f'[tls]\ncert = "{mount / "tls.crt"}"\nkey = "{mount / "tls.key"}"\nca = "{mount / "ca.crt"}"\n'
            f'trust_domain = "{DOMAIN.removeprefix("spiffe://")}"\n{crl}\n'
        )

    def renew(self, name: str) -> None:
        """Mount a new certificate of the process."""
        with self._turn:  # of two renewals the later one knows the newest authorities
            self._renew(name)

    def _renew(self, name: str) -> None:
        vault = self.vaults[name]
        issued = vault.issue(name, ttl=self.ttl, authority=self.issuing)
        files: dict[str, bytes | str] = {
            "tls.crt": issued["certificate"] + "\n" + issued["issuing_ca"] + "\n",
            "tls.key": issued["private_key"] + "\n",
            "ca.crt": b"".join(vault.root_certificate(root) for root in self.roots),
        }
        if self.revocation:
            files["crl.pem"] = vault.revocation_lists()
        self.mounts[name].publish(files)

    def renew_all(self) -> None:
        """Mount a new certificate of each process, one after the other."""
        for name in self.names:
            self.renew(name)

    def has_taken_over(self, name: str) -> bool:
        """Whether the process uses the certificate that is mounted now, by the end of validity in its metrics."""
        if name == "coordinator":
            connection = unix_connection(self.socket)
            use = 'frost_coordinator_certificate_expiry_timestamp_seconds{use="transport_mtls.tls"} '
        else:
            port = self.metrics_port(int(name.removeprefix("signer-")))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            use = 'frost_signer_certificate_expiry_timestamp_seconds{use="listener"} '
        end = self.mounts[name].certificate.not_valid_after_utc.timestamp()
        return metric(connection, use) == end

    def fetch_lists(self) -> None:
        """Mount the authorities' current revocation lists everywhere."""
        for name in self.names:
            self.mounts[name].publish({"crl.pem": self.vaults[name].revocation_lists()})

    def fetch(self, name: str) -> None:
        """Mount what the KV engine holds for the process now: its own secrets, and its side's token secret."""
        side = "coordinator" if name == "coordinator" else "signers"
        files: dict[str, bytes | str] = dict(self.vaults[name].read_secret(f"frost/tokens/{side}"))
        if name == "coordinator" and self.tokens == "eddsa":
            self.keys.publish(files, alone=True)
            return
        if name != "coordinator":
            files |= self.vaults[name].read_secret(f"frost/sealing/{name}")
        self.mounts[name].publish(files)


def _rules(name: str) -> str:
    """What an agent may do, as a policy of OpenBao."""
    side = "coordinator" if name == "coordinator" else "signers"
    return (
        f'path "secret/data/frost/tokens/{side}" {{ capabilities = ["read"] }}\n'
        f'path "secret/data/frost/sealing/{name}" {{ capabilities = ["read"] }}\n'
        'path "+/issue/workload" {\n  capabilities = ["update"]\n'
        f'  allowed_parameters = {{ "uri_sans" = ["{DOMAIN}/{name}"], "ttl" = [] }}\n}}\n'
    )


def client_tls(mount: Mount) -> ssl.SSLContext:
    """What a client with the certificate in ``mount`` connects with; signers are known by their URI, not by a host."""
    context = ssl.create_default_context(cafile=str(mount / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(mount / "tls.crt", mount / "tls.key")
    return context


def serial_of_signer(cluster: MountedCluster, identifier: int) -> int:
    """The serial number of the certificate that the signer shows to a new connection."""
    tls = client_tls(cluster.mounts["coordinator"])
    with (
        socket.create_connection(("127.0.0.1", cluster.signer_port(identifier)), timeout=5) as plain,
        tls.wrap_socket(plain) as channel,
    ):
        return number(channel)


def number(channel: ssl.SSLSocket) -> int:
    shown = channel.getpeercert()
    assert shown is not None
    return int(str(shown["serialNumber"]), 16)
