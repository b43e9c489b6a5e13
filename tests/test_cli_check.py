"""``frost-sidecar check``: the decision that a request would get, and why, from a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from frost_sidecar.encoding import b64url
from frost_sidecar.jose import thumbprint
from frost_sidecar.keygen.dealer import deal

COORDINATOR = """
state = "keys"
tls.cert = "absent.pem"
plugins.transport_mtls = {}
plugins.auth_hs256.secret_file = "absent"
plugins.audit_worm.path = "absent.log"

[[signers]]
identifier = 1
url = "https://one.test"
zone = "ad-1"
[[signers]]
identifier = 2
url = "https://two.test"
zone = "ad-2"

[callers.mint]
unix = { uid = 1000, executable = "/usr/bin/env" }
[callers.tool]
in_process = true
tcp = { certificate = "DNS:tool.test", subject = "tool" }
[callers.stranger]
unix = {}

[[grants]]
caller = "mint"
policy = "access"
per_second = 50
burst = 100
max_in_flight = 8
[[grants]]
caller = "tool"
opaque = true

[policies.access]
typ = ["at+jwt"]
iss = ["https://mint.test"]
max_lifetime_seconds = 600
"""
SIGNER = """
name = "signer-1"
clients.names = ["DNS:coordinator.test"]
keys.default.policy = "access"
plugins.auth_hs256.secret_file = "absent"
[policies.access]
typ = ["at+jwt"]
sub = ["user:*"]
"""


class Files:
    """A folder with configurations, and the command run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kid = thumbprint(deal(folder / "keys", min_signers=2, max_signers=2).group_public)
        (folder / "coordinator.toml").write_text(COORDINATOR)
        (folder / "signer.toml").write_text(SIGNER)

    def token(self, *, typ: str = "at+jwt", signature: bool = False, **claims: object) -> Path:
        now = int(time.time())
        header = {"alg": "EdDSA", "typ": typ, "kid": self.kid}
        payload = {"iss": "https://mint.test", "sub": "user:alice", "iat": now, "exp": now + 300, **claims}
        text = ".".join(b64url(json.dumps(each).encode()) for each in (header, payload))
        file = self.folder / "token"
        file.write_text(f"{text}.{b64url(bytes(64))}\n" if signature else text)
        return file

    def run(self, *arguments: str | Path, config: bool = True) -> subprocess.CompletedProcess[str]:
        given = ["--config", self.folder / "coordinator.toml"] if config else []
        return subprocess.run(
            [sys.executable, "-m", "frost_sidecar", "check", *map(str, [*given, *arguments])],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "COLUMNS": "400", "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def judged(self, *arguments: str | Path, config: bool = True) -> tuple[int, dict[str, Any]]:
        done = self.run(*arguments, "--json", config=config)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_what_would_be_signed(files: Files) -> None:
    done = files.run("--caller", "mint", "--key", "default", "--jws", files.token(signature=True))
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "would be signed",
        files.kid,
        "on the Unix socket: uid 1000, executable /usr/bin/env",
        "JWS by policy access, 50 a second, 100 at once, 8 under way",
        "all rules are kept",
        '"sub": "user:alice"',
    ):
        assert said in done.stdout


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"typ": "JWT"}, "jws-type"),
        ({"iss": "https://other.test"}, "jws-issuer"),
        ({"exp": 4102444800}, "jws-lifetime"),
    ],
)
def test_what_would_be_denied(change: dict[str, Any], reason: str, files: Files) -> None:
    code, found = files.judged("--caller", "mint", "--jws", files.token(**change))
    assert (code, found["allowed"]) == (1, False)
    [refusing] = [step for step in found["steps"] if step["allowed"] is False]
    assert (refusing["what"], refusing["reason"]) == ("policy access", reason)
    assert "WOULD BE DENIED" in files.run("--caller", "mint", "--jws", files.token(**change)).stdout


@pytest.mark.parametrize(
    ("caller", "message", "code", "reason"),
    [
        ("tool", b"any bytes", 0, None),
        ("mint", b"any bytes", 1, "not-a-jws"),
        ("stranger", b"any bytes", 1, "grant-missing"),
        ("tool", b"eyJhbGciOiJFZERTQSIsImFsZyI6IkVkRFNBIn0.e30", 1, "malformed-request"),
        ("tool", b"x" * 20000, 1, "too-large"),
        ("tool", b"", 1, "malformed-request"),
    ],
)
def test_bytes(caller: str, message: bytes, code: int, reason: str | None, files: Files) -> None:
    file = files.folder / "message"
    file.write_bytes(message)
    ended, found = files.judged("--caller", caller, "--message", file)
    assert ended == code
    assert [step["reason"] for step in found["steps"] if step["allowed"] is False] == ([reason] if reason else [])


def test_signers_are_asked_for_their_own_rules(files: Files) -> None:
    signer: list[str | Path] = ["--signer", files.folder / "signer.toml"]
    code, found = files.judged("--caller", "mint", *signer, "--jws", files.token())
    assert (code, found["steps"][-1]["what"], found["steps"][-1]["allowed"]) == (0, "signer signer-1", True)
    code, found = files.judged("--caller", "mint", *signer, "--jws", files.token(sub="admin"))
    assert (code, found["steps"][-1]["reason"]) == (1, "jws-subject")
    file = files.folder / "message"
    file.write_bytes(b"any bytes")
    code, found = files.judged("--caller", "tool", *signer, "--message", file)
    assert (code, found["steps"][-1]["reason"]) == (1, "not-a-jws")
    code, _ = files.judged(*signer, "--group", files.folder / "keys/group.json", "--jws", files.token(), config=False)
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--caller", "nobody", "--jws", "token"], "'nobody' is not one of callers: mint, tool, stranger"),
        (["--jws", "token"], "--caller: name one: mint, tool, stranger"),
        (["--caller", "mint"], "name one file"),
        (["--caller", "mint", "--jws", "token", "--message", "token"], "name one file"),
        (["--caller", "mint", "--key", "other", "--jws", "token"], "there is no key 'other'; configured: default"),
        (["--caller", "mint", "--jws", "absent-file"], "cannot read it"),
    ],
)
def test_what_cannot_be_judged(arguments: list[str], said: str, files: Files) -> None:
    files.token()
    named = [str(files.folder / each) if each in {"token", "absent-file"} else each for each in arguments]
    done = files.run(*named)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert said in line


ACME = """
from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import Decision, Policy
import anyio
class Short(Policy):
    async def __aenter__(self):
        self.tasks = await anyio.create_task_group().__aenter__()
        return self
    async def __aexit__(self, *_):
        await self.tasks.__aexit__(None, None, None)
    async def decide(self, request):
        return Decision(len(request.message) < 10, "longer than 9 bytes")
class Broken(Short):
    async def __aenter__(self):
        raise OSError("no connection")
class short:
    @staticmethod
    @hookimpl
    def make_policy(context):
        return Short()
class broken:
    @staticmethod
    @hookimpl
    def make_policy(context):
        return Broken()
"""


def _with_plugin(files: Files, file: str, plugin: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command's end, where ``file`` configures a plugin that is installed."""
    site = files.folder / "site"
    (site / "acme-1.dist-info").mkdir(parents=True, exist_ok=True)
    (site / "acme-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (site / "acme-1.dist-info" / "entry_points.txt").write_text(
        "[frost_sidecar]\nshort = acme:short\nbroken = acme:broken\n"
    )
    (site / "acme.py").write_text(ACME)
    (files.folder / file).write_text((files.folder / file).read_text() + f"\n[plugins.{plugin}]\n")
    return subprocess.run(
        [sys.executable, "-m", "frost_sidecar", "check", "-c", files.folder / "coordinator.toml", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "COLUMNS": "400", "PYTHONPATH": str(site)},
        check=False,
    )


@pytest.mark.parametrize(("content", "code"), [(b"short", 0), (b"much too long", 1)])
@pytest.mark.parametrize("whose", ["coordinator.toml", "signer.toml"])
def test_a_policy_plugin_is_asked(whose: str, content: bytes, code: int, files: Files) -> None:
    signer = files.folder / "signer.toml"
    signer.write_text(signer.read_text().replace('keys.default.policy = "access"\n', ""))
    message = files.folder / "message"
    message.write_bytes(content)
    done = _with_plugin(files, whose, "short", "--caller", "tool", "--signer", signer, "--message", message)
    assert done.returncode == code, done
    assert ("longer than 9 bytes" in done.stdout) is (code == 1)
    assert ("signs any bytes" in done.stdout) is (whose == "coordinator.toml")


def test_a_policy_plugin_that_does_not_start_is_named(files: Files) -> None:
    message = files.folder / "message"
    message.write_bytes(b"short")
    done = _with_plugin(files, "coordinator.toml", "broken", "--caller", "tool", "--message", message)
    assert (done.returncode, done.stdout) == (2, "")
    assert "plugin broken: failed to start" in done.stderr
