"""Secrets from a real OpenBao server, mounted as files, and rotated while real processes sign with them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from frost_sidecar.keygen.sealing import reseal_files
from frost_sidecar.sealing import SealingKeys
from tests.mounted import MountedCluster
from tests.openbao import OpenBaoError, Stored, Vault, random_base64, running
from tests.under_load import every, load, post, until


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    with tempfile.TemporaryDirectory(prefix="bao-") as folder, running(Path(folder)) as vault:
        yield vault


@pytest.fixture
def stored(vault: Vault) -> Stored:
    return Stored(vault)


def test_secrets_are_mounted_from_openbao_and_rotated_while_signing(vault: Vault, stored: Stored) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="fs-") as folder,
        MountedCluster(Path(folder), vault, ttl="20s") as cluster,
    ):
        end = cluster.mounts["coordinator"].certificate.not_valid_after_utc.timestamp()
        cluster.start()
        with load(cluster, pause=0) as signing, every(4, cluster.renew_all):
            until(lambda: signing.made(10), "the first signatures")
            rotate_token_secret(cluster, stored)
            rotate_sealing_keys(cluster, stored)
            until(lambda: time.time() > end, "the end of the first certificates")
            before = signing.signed
            until(lambda: signing.made(before + 10), "signing with what is new")
        assert signing.failures == []
        assert signing.signed > 50


def rotate_token_secret(cluster: MountedCluster, stored: Stored) -> None:
    """A new secret in the store: to the signers first, and to the coordinator when they have it."""
    secret = random_base64()
    stored.put_token_secret("signers", secret)
    for identifier in cluster.identifiers:
        cluster.fetch(f"signer-{identifier}")
    for identifier in cluster.identifiers:
        until(partial(took_secret, cluster, identifier), f"signer {identifier} has the new secret")
    stored.put_token_secret("coordinator", secret)
    cluster.fetch("coordinator")
    until(lambda: took_secret(cluster, 1, log="sidecar"), "the coordinator has the new secret")


def took_secret(cluster: MountedCluster, signer: int, *, log: str | None = None) -> bool:
    """Whether a process wrote that it has the new secret; it looks when it is used, so that we ask for ``signer``."""
    status, answer = post(cluster.socket, signer, signer % 3 + 1)
    assert status == 200, answer
    return "the secret was replaced" in cluster.log(log or f"signer-{signer}").read_text("utf-8")


def rotate_sealing_keys(cluster: MountedCluster, stored: Stored) -> None:
    """Each signer in turn: new key beside the old one, share sealed anew, old key gone, restart."""
    for identifier, share in cluster.dealt.share_files.items():
        name = f"signer-{identifier}"
        mount, new = cluster.mounts[name], random_base64()
        stored.put_sealing_keys(identifier, new, stored.sealing[identifier])
        cluster.fetch(name)
        keys = SealingKeys.load(mount / "seal.key")
        assert [each.changed for each in reseal_files([share], keys)] == [True]
        stored.put_sealing_keys(identifier, new)
        cluster.fetch(name)
        assert SealingKeys.load(mount / "seal.key").newest.kid == keys.newest.kid
        cluster.stop_signer(identifier)
        cluster.start_signer(identifier)


def test_an_agent_reads_what_is_its_own(vault: Vault, stored: Stored) -> None:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        cluster = MountedCluster(Path(folder), vault)
        first = cluster.vaults["signer-1"]
        assert first.read_secret("frost/sealing/signer-1") == {"seal.key": stored.sealing[1]}
        for refused in (
            lambda: first.read_secret("frost/sealing/signer-2"),
            lambda: first.issue("signer-2", ttl="10s"),
            lambda: first.issue("coordinator", ttl="10s"),
            lambda: first.write_secret("frost/sealing/signer-1", {"seal.key": "x"}),
        ):
            with pytest.raises(OpenBaoError) as caught:
                refused()
            assert caught.value.status == 403


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("seal.key", 0o444, "seal_key_file: {path} holds a sealing key and is open to other users (mode 0444)"),
        ("jwt_hs256_b64", 0o444, "plugins.auth_hs256.secret_file"),
    ],
)
def test_mounts_that_others_can_read_are_refused(vault: Vault, stored: Stored, name: str, mode: int, said: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        cluster = MountedCluster(Path(folder), vault)
        path = cluster.mounts["signer-1"] / name
        path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-m", "frost_sidecar", "signer", "--config", cluster.folder / "signer-1.toml"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 2
        assert said.format(path=path) in done.stderr
        assert path.read_text() not in done.stderr
