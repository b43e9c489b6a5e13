"""In the original's place: its environment, state, certificates and callers' requests; real processes on TCP."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar.testing.processes import EVERYTHING, ProcessCluster

NAME = "frost-coordinator.frost.svc"
MESSAGE = b"header.payload"


class Original:
    """The original's deployment with our signers: everything that it configures by its environment."""

    def __init__(self, folder: Path) -> None:
        self.cluster = ProcessCluster(folder)
        self.files = self.cluster.authority.issue("frost-tls", [NAME, "coordinator.frost.test", "127.0.0.1"])
        self.log = folder / "coordinator.log"
        self.toml = folder / "frost-sidecar.toml"
        signers = "".join(
            f"[[signers]]\nidentifier = {i}\nzone = 'ad-{i}'\nurl = 'https://127.0.0.1:{self.cluster.signer_port(i)}'\n"
            f"server_name = 'signer-{i}.frost.test'\n"
            for i in self.cluster.identifiers
        )
        self.toml.write_text(
            f"server.client_names = ['DNS:{NAME}']\n"
            "plugins.transport_mtls = {}\nplugins.auth_hs256.accept_undated = true\n"
            f"plugins.audit_worm.path = '{folder / 'drop-in-audit.log'}'\n{signers}{EVERYTHING}"
        )
        self.environment = {
            "BIND": "127.0.0.1:0",
            "FROST_STATE": str(self.cluster.dealt.group_file.parent),
            "TLS_CERT_PEM": str(self.files.cert),
            "TLS_KEY_PEM": str(self.files.key),
            "TLS_SERVER_CA": str(self.files.ca),
            "JWT_HS256_B64_FILE": str(folder / "jwt_hs256_b64"),
            "RUST_LOG": "info",
            "FROST_SIDECAR_CONFIG": str(self.toml),
        }
        self.secret = base64.b64decode((folder / "jwt_hs256_b64").read_text())

    def urls(self, *identifiers: int) -> list[str]:
        return [f"https://127.0.0.1:{self.cluster.signer_port(i)}" for i in identifiers]

    @contextmanager
    def running(self) -> Iterator[str]:
        """The coordinator's process; gives its address."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("FROST_", "TLS_", "JWT_"))}
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "frost_sidecar", "serve"], stderr=output, env={**ours, **self.environment}
            )
        try:
            yield self._address(process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0, self.log.read_text()

    def _address(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            for line in self.log.read_text().splitlines():
                if (entry := json.loads(line))["event"] == "listening":
                    return str(entry["bind"])
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    deployment = Original(tmp_path_factory.mktemp("original"))
    with deployment.cluster:
        for identifier in deployment.cluster.identifiers:
            deployment.cluster.start_signer(identifier)
        yield deployment


async def test_the_originals_environment_state_certificates_and_request(original: Original) -> None:
    """A token as the original makes them, and one certificate for the coordinator and its caller."""
    context = ssl.create_default_context(cafile=str(original.files.ca))
    context.load_cert_chain(original.files.cert, original.files.key)
    token = jwt.encode({"iss": "frost-coord"}, original.secret, algorithm="HS256")
    body = {
        "msg_b64": base64.urlsafe_b64encode(MESSAGE).decode().rstrip("="),
        "participants": [1, 3],
        "signer_urls": original.urls(1, 3),
    }
    with original.running() as address:
        async with aiohttp.ClientSession(
            base_url=f"https://{address}",
            connector=aiohttp.TCPConnector(ssl=context),
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(total=20),
        ) as http:
            async with http.post("/sign", json=body) as response:
                assert response.status == 200, await response.text()
                answer = await response.json()
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(answer["group_public_b64"]))
            public.verify(base64.b64decode(answer["signature_b64"]), MESSAGE)
            assert answer["participants"] == [1, 3]
            async with http.get("/healthz") as response:
                assert (response.status, await response.read()) == (200, b"ok")
            async with http.get("/metrics") as response:
                assert "\nfrost_coordinator_signs_total 1.0\n" in await response.text()
            async with http.get("/readyz") as response:
                assert (response.status, (await response.json())["ready"]) == (200, True)
            async with http.post(
                "/sign", json={**body, "signer_urls": ["https://evil.example", "https://x"]}
            ) as response:
                assert response.status == 422


def test_the_environment_alone_is_not_enough_and_says_what_is_missing(original: Original) -> None:
    environment = {**original.environment, "FROST_SIDECAR_CONFIG": "", "PATH": os.environ["PATH"]}
    process = subprocess.run(
        [sys.executable, "-m", "frost_sidecar", "serve"], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.startswith("frost-sidecar: signers: is missing; name the signers, or set signer_urls_allow")
    assert "Traceback" not in process.stderr
