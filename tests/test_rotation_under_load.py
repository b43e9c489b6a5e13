"""Everything that proves who is who is exchanged while signatures are made as fast as they go: none fails.

Real processes: three signers and a sidecar. The token keys, the key set, every certificate, and at last the authority
itself are rotated. A signer call that failed and was made good by another quorum counts as a failure, too.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import anyio.to_thread
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from frost_sidecar import contract
from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.jose import jwk_set
from frost_sidecar.model import TlsFiles
from frost_sidecar.testing.authority import Authority
from frost_sidecar.testing.processes import ProcessCluster

IN_FLIGHT = 16
MESSAGE = b"message"
PUBLISH_SECONDS = 3.0
PATIENT = {"call_seconds": 15.0, "budget_seconds": 30.0}
"""A slow machine is no fault of a rotation."""


class Rotating(ProcessCluster):
    """A cluster whose tokens are EdDSA: the sidecar publishes its key set to a file that the signers follow."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.keys = self.folder / "token-keys"
        self.jwks = self.folder / "jwks.json"
        self.keys.mkdir()
        first = self.add_key("1")
        self._retoken(
            self.coordinator_toml,
            {
                "key_dir": str(self.keys),
                "jwks_out": str(self.jwks),
                "publish_seconds": PUBLISH_SECONDS,
                "retired_seconds": 60.0,
            },
        )
        for identifier in self.identifiers:
            self._retoken(self.signer_toml(identifier), {"jwks_file": str(self.jwks)})
        # Signers start first: whoever deploys them gives them the key set.
        self.jwks.write_text(json.dumps(jwk_set([first])))

    def add_key(self, name: str) -> bytes:
        """A new private key in the coordinator's folder; its public half."""
        key = Ed25519PrivateKey.generate()
        draft = self.folder / f"{name}.draft"
        draft.touch(0o600)
        draft.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        draft.rename(self.keys / f"{name}.pem")
        return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def _retoken(self, file: Path, settings: dict[str, object]) -> None:
        lines = [f"plugins.auth_eddsa_jwks.{name} = {json.dumps(value)}" for name, value in settings.items()]
        changed, count = re.subn(r"^plugins\.auth_hs256\..*$", "\n".join(lines), file.read_text(), flags=re.MULTILINE)
        assert count == 1
        file.write_text(changed)

    def certify(self, authority: Authority) -> None:
        """New certificates for everybody in the places of the old ones, certificate and key one after the other."""
        names = {f"signer-{each}": f"signer-{each}.frost.test" for each in self.identifiers}
        names[self.coordinator_toml.stem] = "coordinator.frost.test"
        for file, name in names.items():
            issued = authority.issue(f"new-{file}", [name])
            for new, old in ((issued.cert, f"{file}.crt"), (issued.key, f"{file}.key")):
                new.rename(self.authority.folder / old)

    def trust(self, *authorities: Path) -> None:
        draft = self.folder / "ca.draft"
        draft.write_bytes(b"".join(each.read_bytes() for each in authorities))
        draft.rename(self.authority.certificate)

    def client(self, authority: Authority, ca: Path) -> ssl.SSLContext:
        files: TlsFiles = authority.issue("probe", ["coordinator.frost.test"])
        context = ssl.create_default_context(cafile=str(ca))
        context.check_hostname = False
        context.load_cert_chain(files.cert, files.key)
        return context


class Load:
    """Signatures, ``IN_FLIGHT`` at a time, until the block ends."""

    def __init__(self, cluster: ProcessCluster) -> None:
        self.cluster = cluster
        self.signed = 0
        self.failed: list[str] = []
        self._stop = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(self.cluster.socket)),
                timeout=aiohttp.ClientTimeout(total=40),
                headers={contract.PROGRAM_HEADER: contract.PROGRAM_VALUE},
            ) as http,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(IN_FLIGHT):
                tasks.start_soon(self._sign, http)
            yield http
            self._stop = True

    async def _sign(self, http: aiohttp.ClientSession) -> None:
        body = {"msg_b64": b64encode(MESSAGE)}
        while not self._stop:
            try:
                async with http.post("http://sidecar/sign", json=body) as response:
                    answer = await response.json(content_type=None)
                    if response.status == 200 and len(b64decode(answer["signature_b64"])) == 64:
                        self.signed += 1
                    else:
                        self.failed.append(f"{response.status}: {answer.get('detail')}")
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failed.append(repr(error))


async def sidecar_metric(http: aiohttp.ClientSession, pattern: str) -> float:
    async with http.get("http://sidecar/metrics") as response:
        return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", await response.text(), re.MULTILINE))


async def signer_metric(cluster: ProcessCluster, identifier: int, pattern: str) -> float:
    def fetch() -> str:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{cluster.metrics_port(identifier)}/metrics", timeout=5
        ) as response:
            return str(response.read(), "utf-8")

    text = await anyio.to_thread.run_sync(fetch)
    return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE))


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 15) -> None:
    with anyio.move_on_after(seconds):
        while not await condition():
            await anyio.sleep(0.1)
        return
    raise AssertionError(f"not within {seconds:g} s: {what}")


RELOADED = r'frost_\w+_reloads_total{result="ok",what="(?:[^"]*tls|listener)"}'


@pytest.mark.timeout(180)
async def test_no_request_fails_while_everything_rotates(tmp_path: Path) -> None:
    with Rotating(tmp_path / "cluster", signing=PATIENT) as cluster:
        await anyio.to_thread.run_sync(cluster.start)
        load = Load(cluster)
        async with load.running() as http:

            async def reloads() -> list[float]:
                found = [await signer_metric(cluster, each, RELOADED) for each in cluster.identifiers]
                return [*found, await sidecar_metric(http, RELOADED)]

            async def after(change: Callable[[], None], what: str) -> None:
                """Make a change of TLS files, and wait until all four processes have taken it up."""
                before = await reloads()
                change()

                async def all_reloaded() -> bool:
                    return all(new > old for new, old in zip(await reloads(), before, strict=True))

                await until(all_reloaded, what)
                await anyio.sleep(1.0)  # and some signatures on new connections

            # 1. The token key: published first, signs later, the old one goes at last.
            cluster.add_key("2")
            await until(lambda: _keys_published(cluster, 2), "the new key is published")
            await anyio.sleep(PUBLISH_SECONDS + 1.5)
            (cluster.keys / "1.pem").unlink()
            await anyio.sleep(2.0)

            # 2. All certificates, under the same authority.
            old = cluster.authority
            await after(lambda: cluster.certify(old), "new certificates")

            # 3. The authority: both are trusted, then everybody gets a certificate of the new one, then it is alone.
            old_root = tmp_path / "old-ca.crt"
            old_root.write_bytes(old.certificate.read_bytes())
            new = Authority(tmp_path / "new-authority", name="the next authority")
            await after(lambda: cluster.trust(old_root, new.certificate), "both authorities")
            await after(lambda: cluster.certify(new), "certificates of the new authority")
            await after(lambda: cluster.trust(new.certificate), "the new authority alone")
            signed_by_then = load.signed
            await until(lambda: _more(load, signed_by_then + 100), "signatures after it all")
            faults = await sidecar_metric(http, r"frost_coordinator_signer_faults_total{.*}")
            refusals = await sidecar_metric(http, r"frost_coordinator_refusals_total{.*}")
        assert load.failed == []
        assert (faults, refusals) == (0, 0)
        assert load.signed > 500
        for identifier in cluster.identifiers:
            await _speaks_for(cluster, identifier, new, old)


async def _keys_published(cluster: Rotating, number: int) -> bool:
    return len(json.loads(cluster.jwks.read_text())["keys"]) == number


async def _more(load: Load, number: int) -> bool:
    return load.signed >= number


async def _speaks_for(cluster: Rotating, identifier: int, new: Authority, old: Authority) -> None:
    """The signer has a certificate of the new authority, and takes no client of the old one any more."""
    url = f"https://127.0.0.1:{cluster.signer_port(identifier)}/healthz"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        async with http.get(url, ssl=cluster.client(new, new.certificate)) as response:
            assert await response.text() == "ok"
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await http.get(url, ssl=cluster.client(old, new.certificate))
