"""``frost-sidecar signer`` as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from frost_sidecar.signer import NodeConfig

if TYPE_CHECKING:
    from tests.signer.conftest import Rig

COMMAND = [sys.executable, "-c", "from frost_sidecar.cli import main; main()", "signer", "--config"]
PLUGIN = """
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.plugins import hookimpl

class Nobody(Authenticator):
    async def authenticate(self, credentials):
        return None

@hookimpl
def make_authenticator(context):
    return Nobody()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a distribution offers the plugin "nobody"."""
    site = tmp_path / "site"
    info = site / "nobody-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "nobody.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nobody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[frost_sidecar]\nnobody = nobody\n")
    return {**os.environ, "PYTHONPATH": str(site)}


def _write(path: Path, config: NodeConfig) -> Path:
    """The configuration as TOML, the way JSON is TOML for strings and lists of them."""
    values = msgspec.to_builtins(config)
    lines = [f"{name} = {json.dumps(values[name])}" for name in ("name", "bind", "state")]
    lines += ["[tls]", *(f"{name} = {json.dumps(value)}" for name, value in values["tls"].items() if value)]
    lines += ["[clients]", f"names = {json.dumps(values['clients']['names'])}", "[plugins.nobody]"]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_says_where_it_listens_serves_and_ends(
    rig: Rig, tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    config = _write(tmp_path / "signer.toml", rig.config(plugins={"nobody": {}}))
    process = await asyncio.create_subprocess_exec(
        *COMMAND, str(config), env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    warning = json.loads(await process.stderr.readline())
    assert (warning["level"], warning["key"]) == ("warning", "default")
    assert "signs any bytes" in warning["event"]
    said = json.loads(await process.stderr.readline())
    assert (said["event"], said["signer"], said["keys"]) == ("listening", "signer-1", ["default"])
    assert said["epoch"]
    host, _, port = said["address"].rpartition(":")
    server = rig.client(host, int(port))
    health = await server.send("GET", "/healthz", headers={})
    assert (health.status, health.body) == (200, b"ok")
    assert (await server.send("GET", "/v1/info")).status == 401
    process.send_signal(number)
    assert await process.wait() == 0
    assert b"Traceback" not in await process.stderr.read()


async def test_a_wrong_configuration_is_one_line_and_status_2(tmp_path: Path, environment: dict[str, str]) -> None:
    config = tmp_path / "signer.toml"
    config.write_text('name = "signer-1"\nbnid = "x"\n')
    process = await asyncio.create_subprocess_exec(
        *COMMAND, str(config), env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.count(b"\n") == 1
    assert b"bnid" in errors
