"""A real OpenBao server for tests: a KV engine and a PKI with root and intermediate, behind TLS on loopback."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frost_sidecar.testing.authority import Authority

START_SECONDS = 30.0
SIDES = ("signers", "coordinator")
DOMAIN = "spiffe://mint.example"
WORKLOAD = {
    "allowed_uri_sans": [f"{DOMAIN}/*"],
    "require_cn": False,
    "allow_any_name": False,
    "allow_localhost": False,
    "allow_ip_sans": False,
    "server_flag": True,
    "client_flag": True,
    "key_type": "ec",
    "key_bits": 256,
    "key_usage": ["DigitalSignature"],
    "basic_constraints_valid_for_non_ca": True,
    "max_ttl": "60s",
    "not_before_duration": "2s",
}
"""The PKI's role: the X.509-SVID profile, for a minute at most, and dated back by no more than clocks may differ."""


class OpenBaoError(Exception):
    """The server refused, with its status and its words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status


class Vault:
    """Requests to the server with one token."""

    def __init__(self, port: int, ca: Path, token: str | None) -> None:
        self.address = f"https://127.0.0.1:{port}"
        self.ca = ca
        self.token = token
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(ca))

    def with_token(self, token: str | None) -> Vault:
        return Vault(self._port, self.ca, token)

    def raw(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=self._tls)
        headers = {"X-Vault-Request": "true", **({} if self.token is None else {"X-Vault-Token": self.token})}
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise OpenBaoError(response.status, content.decode("utf-8", "replace"))
        return content

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        content = self.raw(method, path, body)
        answer: dict[str, Any] = json.loads(content) if content else {}
        return answer

    def write_secret(self, path: str, values: Mapping[str, str]) -> None:
        """A new version of a secret in the KV engine, version 2, at ``secret/``."""
        self.call("POST", f"secret/data/{path}", {"data": values})

    def read_secret(self, path: str) -> dict[str, str]:
        data: dict[str, str] = self.call("GET", f"secret/data/{path}")["data"]["data"]
        return data

    def issue(self, name: str, *, ttl: str, authority: str = "pki") -> dict[str, Any]:
        """A key and a certificate of ``spiffe://mint.example/NAME``: an X.509-SVID, this URI and no other name."""
        data: dict[str, Any] = self.call(
            "POST", f"{authority}/issue/workload", {"uri_sans": f"{DOMAIN}/{name}", "ttl": ttl}
        )["data"]
        return data

    def root_certificate(self, root: str = "root") -> bytes:
        """The root's certificate, PEM."""
        return self.raw("GET", f"{root}/ca/pem").strip() + b"\n"

    def revocation_lists(self) -> bytes:
        """The lists of both authorities, PEM."""
        return self.raw("GET", "pki/crl/pem").strip() + b"\n" + self.raw("GET", "root/crl/pem").strip() + b"\n"

    def make_authorities(self, root: str, issuing: str) -> None:
        """A root, and below it what issues short certificates to the domain's workloads; named after their mounts."""
        for mount in (root, issuing):
            self.call("POST", f"sys/mounts/{mount}", {"type": "pki", "config": {"max_lease_ttl": "24h"}})
            self.call("POST", f"{mount}/config/crl", {"expiry": "12h"})
        about = {"ttl": "12h", "key_type": "ec", "key_bits": 256, "exclude_cn_from_sans": True, "uri_sans": DOMAIN}
        about |= {"common_name": f"mint.example {root}"}
        self.call("POST", f"{root}/root/generate/internal", about)
        about |= {"common_name": f"mint.example {issuing}"}
        request = self.call("POST", f"{issuing}/intermediate/generate/internal", about)["data"]["csr"]
        signed = self.call("POST", f"{root}/root/sign-intermediate", {"csr": request, **about})["data"]["certificate"]
        self.call("POST", f"{issuing}/intermediate/set-signed", {"certificate": signed})
        self.call("POST", f"{issuing}/roles/workload", WORKLOAD)

    def limited(self, name: str, rules: str) -> Vault:
        """The same server with a token that may do no more than ``rules`` say (a policy in HCL)."""
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": rules})
        token = self.call("POST", "auth/token/create", {"policies": [name], "no_default_policy": True, "ttl": "1h"})
        return self.with_token(token["auth"]["client_token"])


class Stored:
    """A cluster's secrets in the KV engine: a token secret, twice, so that it can change at the signers first, and a
    sealing key for each of three signers."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self.sealing = {signer: random_base64() for signer in (1, 2, 3)}
        token = random_base64()
        for side in SIDES:
            self.put_token_secret(side, token)
        for signer, key in self.sealing.items():
            self.put_sealing_keys(signer, key)

    def put_token_secret(self, side: str, secret: str) -> None:
        self.vault.write_secret(f"frost/tokens/{side}", {"jwt_hs256_b64": secret})

    def put_sealing_keys(self, signer: int, *keys: str) -> None:
        """The newest first."""
        self.vault.write_secret(f"frost/sealing/signer-{signer}", {"seal.key": "\n".join(keys)})


def random_base64() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Vault]:
    """A server of its own in ``folder``, initialised, unsealed, with KV and PKI; ends with the block."""
    tls = Authority(folder / "tls", name="OpenBao's own").issue("openbao", ["127.0.0.1"])
    port = _free_port()
    config = {
        "storage": {"inmem": {}},
        "listener": [
            {"tcp": {"address": f"127.0.0.1:{port}", "tls_cert_file": str(tls.cert), "tls_key_file": str(tls.key)}}
        ],
        "api_addr": f"https://127.0.0.1:{port}",
        "disable_clustering": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    log = folder / "openbao.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("bao"), "server", f"-config={folder / 'config.json'}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"HOME": str(folder), "PATH": os.environ.get("PATH", "")},
        )
    try:
        vault = Vault(port, tls.ca, None)
        _await(vault, process, log)
        yield _prepare(vault)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(vault: Vault, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            vault.call("GET", "sys/init")
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"OpenBao did not come up; the end of its log:\n{log.read_text()[-2000:]}")


def _prepare(vault: Vault) -> Vault:
    """Initialise and unseal the server, and make its engines: a root for short certificates of one trust domain."""
    made = vault.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
    vault.call("PUT", "sys/unseal", {"key": made["keys_base64"][0]})
    root = vault.with_token(made["root_token"])
    deadline = time.monotonic() + START_SECONDS
    while root.call("GET", "sys/seal-status")["sealed"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    root.call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    root.make_authorities("root", "pki")
    _wait_for_kv(root)
    return root


def _wait_for_kv(vault: Vault) -> None:
    """A new KV engine upgrades itself to version 2 in the background, and refuses writes until it has."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            vault.write_secret("ready", {"yes": "1"})
        except OpenBaoError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
