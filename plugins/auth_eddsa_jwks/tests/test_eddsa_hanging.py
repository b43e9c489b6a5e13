"""A published key set on a file system that hangs: the process ends all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROCESS = """
import asyncio, sys, threading, time
from pathlib import Path
from frost_sidecar_auth_eddsa_jwks import JwksIssuer, KeyFiles
from frost_sidecar_auth_eddsa_jwks.__main__ import main
from frost_sidecar_auth_eddsa_jwks.publication import Publication

class Hanging(Publication):
    hangs = threading.Event()
    def write(self, schedule):
        if len(schedule.entries) < 2 and len(self.seen) == 2:
            self.hangs.set()
            threading.Event().wait()
        self.seen = schedule.entries
        super().write(schedule)
    seen = ()

folder = Path(sys.argv[1])
for name in ("1.pem", "2.pem"):
    main(["keygen", str(folder / name)])
publication = Hanging(folder.parent / "jwks.json", "jwks_out")
issuer = JwksIssuer(
    KeyFiles(folder, "EdDSA", "key_dir", folder=True), publish_seconds=0, retired_seconds=1, publication=publication
)
issuer.reload()
(folder / "1.pem").unlink()
issuer.reload()

async def run():
    async with issuer:
        while not publication.hangs.is_set():
            await asyncio.sleep(0.05)

asyncio.run(run())
print("ended")
"""


def test_a_process_ends_although_its_key_set_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, str(tmp_path / "keys")], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "ended"
