"""The agent of docs/secrets.md, as the page has it: a real one writes a signer's certificates, and renews them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.mounted import MountedCluster
from tests.openbao import WORKLOAD, Stored, Vault, running
from tests.under_load import load, metric, post, until

PAGE = Path(__file__).parent.parent / "docs" / "secrets.md"


def page_blocks() -> tuple[str, str]:
    """The agent's configuration and its policy."""
    agent, policy = re.findall(r"^```hcl\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return agent, policy


def prepare(vault: Vault, folder: Path) -> Path:
    """What the page takes for granted (the role, and access to it), and the page's configuration with our paths."""
    configuration, policy = page_blocks()
    vault.call("POST", "pki/roles/frost-signer-1", WORKLOAD)
    vault.call("PUT", "sys/policies/acl/frost-signer-1", {"policy": policy})
    vault.call("POST", "sys/auth/approle", {"type": "approle"})
    vault.call("POST", "auth/approle/role/frost-signer-1", {"token_policies": ["frost-signer-1"], "token_ttl": "1h"})
    role = vault.call("GET", "auth/approle/role/frost-signer-1/role-id")["data"]["role_id"]
    secret = vault.call("POST", "auth/approle/role/frost-signer-1/secret-id", {})["data"]["secret_id"]
    (folder / "role-id").write_text(role)
    (folder / "secret-id").write_text(secret)
    (folder / "written").mkdir(mode=0o700)
    for from_page, ours in (
        ("https://openbao.mint.example:8200", vault.address),
        ("/etc/frost/openbao-ca.crt", str(vault.ca)),
        ("/etc/frost", str(folder)),
        ("/run/secrets/frost", str(folder / "written")),
        ("ttl=15m", "ttl=20s"),
    ):
        assert from_page in configuration
        configuration = configuration.replace(from_page, ours)
    path = folder / "agent.hcl"
    path.write_text(configuration)
    return path


@contextlib.contextmanager
def agent(configuration: Path) -> Iterator[None]:
    log = configuration.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("bao"), "agent", f"-config={configuration}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"HOME": str(configuration.parent), "PATH": os.environ.get("PATH", "")},
        )
    try:
        yield
        assert process.poll() is None, log.read_text()[-2000:]
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_an_agent_renews_a_signers_certificate_while_it_signs() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bao-") as store,
        tempfile.TemporaryDirectory(prefix="fs-") as folder,
        running(Path(store)) as vault,
    ):
        Stored(vault)
        with agent(prepare(vault, Path(store))), MountedCluster(Path(folder), vault) as cluster:
            written = Path(store, "written")
            until((written / "tls.crt").exists, "the first certificate")
            assert [stat.S_IMODE(path.stat().st_mode) for path in sorted(written.iterdir())] == [0o600, 0o600]
            configuration = cluster.folder / "signer-1.toml"
            text, mount = configuration.read_text(), cluster.mounts["signer-1"].folder
            for name in ("tls.crt", "tls.key"):
                assert str(mount / name) in text
                text = text.replace(str(mount / name), str(written / name))
            configuration.write_text(text)
            cluster.start()
            first = expiry_of_signer(cluster)
            with load(cluster) as signing:
                until(lambda: expiry_of_signer(cluster) != first, "the next certificate", seconds=60)
                until(lambda: post(cluster.socket, 1, 2)[0] == 200, "signing with it")
            assert signing.failures == []


def expiry_of_signer(cluster: MountedCluster) -> float | None:
    """When the certificate that signer 1 has now ends; its life is so short that a handshake may come too late."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.metrics_port(1), timeout=5)
    return metric(connection, 'frost_signer_certificate_expiry_timestamp_seconds{use="listener"} ')
