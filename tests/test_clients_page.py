"""The page for those who call runs as it stands: its Python in processes of their own, its shell lines in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from frost_sidecar.testing.processes import ProcessCluster
from frost_sidecar.testing.sidecar import MemorySidecar

PAGE = (Path(__file__).parent.parent / "docs" / "clients.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REMOTE = [block for block in BLOCKS if 'target = "https://' in block]
LOCAL = [block for block in BLOCKS if block not in REMOTE]
SHELL = [line.removeprefix("$ ") for line in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ProcessCluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as running:
        running.write_coordinator(running.folder / "mint.toml", running.folder / "mint-audit.log")
        running.start()
        yield running


def _python(code: str) -> list[str]:
    return [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code]


def _here(text: str, cluster: ProcessCluster) -> str:
    """The page's paths in this cluster."""
    text = text.replace("/run/frost/sign.sock", str(cluster.socket)).replace("keys/", f"{cluster.folder}/keys/")
    return text.replace('"frost-sidecar.toml"', repr(str(cluster.folder / "mint.toml")))


def test_the_page_has_its_examples() -> None:
    assert (len(LOCAL), len(REMOTE), len(SHELL)) == (4, 1, 5)


@pytest.mark.parametrize("block", LOCAL, ids=lambda block: block.split("\n\n")[1].split()[1])
def test_python(block: str, cluster: ProcessCluster) -> None:
    done = subprocess.run(
        _python(_here(block, cluster)), capture_output=True, text=True, timeout=60, env=_environment(), check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert re.match(r"[0-9a-f]{128}", done.stdout)
    assert "failed" not in done.stdout


async def test_python_over_tcp(short_path: Path) -> None:
    [block] = REMOTE
    sidecar = MemorySidecar(short_path, tcp=True)
    (short_path / "token").write_text(sidecar.token())
    async with sidecar.serving():
        for said, here in (
            ("https://frost-coordinator.frost.svc:7100", sidecar.url),
            ("/run/secrets/frost-token", short_path / "token"),
            ("/tls/tls.crt", sidecar.client.cert),
            ("/tls/tls.key", sidecar.client.key),
            ("/tls/ca.crt", sidecar.client.ca),
        ):
            assert said in block
            block = block.replace(said, str(here))
        with anyio.fail_after(60):
            done = await anyio.run_process(_python(block), env=_environment(), check=False)
    assert (done.returncode, done.stderr) == (0, b""), done
    assert re.fullmatch(rb"ready\n[0-9a-f]{128}\n", done.stdout)


def test_shell(cluster: ProcessCluster, tmp_path: Path) -> None:
    (tmp_path / "message.bin").write_bytes(b"\x00any bytes")
    (tmp_path / "keys").symlink_to(cluster.dealt.group_file.parent)
    (tmp_path / "frost-sidecar").write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m frost_sidecar "$@"\n')
    (tmp_path / "frost-sidecar").chmod(0o755)
    environment = {**_environment(), "FROST_SIDECAR_SOCKET": str(cluster.socket)}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    for line in SHELL:
        done = subprocess.run(
            ["sh", "-ec", line.replace("/run/frost/sign.sock", str(cluster.socket))],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, (line, done)
        if " verify " in line:
            assert "good" in done.stdout.splitlines()[0]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "COLUMNS": "200"}
