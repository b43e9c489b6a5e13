"""``frost-sidecar demo``: the newcomer's first minute, on a real cluster of real processes."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import aiohttp
import anyio
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.markup import escape

from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.config import Config
from frost_sidecar.contract import PROGRAM_HEADER, PROGRAM_VALUE
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.encoding import b64decode, b64encode, b64url
from frost_sidecar.errors import ConfigError, Denied
from frost_sidecar.jose import thumbprint
from frost_sidecar.mint import Mint
from frost_sidecar.testing.processes import LYING, ClusterError, ProcessCluster

console = Console(highlight=False, soft_wrap=True)

_RULES = """
[policies.demo]
iss = ["demo-mint"]
max_lifetime_seconds = 300
"""
_GRANTS = """
[callers.demo]
in_process = true
unix = { uid = UID }

[[grants]]
caller = "demo"
policy = "demo"
"""
_ANYTHING = """
[callers.captured]
in_process = true

[[grants]]
caller = "captured"
opaque = true
"""
"""What a coordinator would say that somebody has got hold of."""


NEEDED = {
    "jwt": "pyjwt",
    "frost_sidecar_transport_mtls": "frost-sidecar-transport-mtls",
    "frost_sidecar_auth_hs256": "frost-sidecar-auth-hs256",
    "frost_sidecar_audit_worm": "frost-sidecar-audit-worm",
}
"""What the demo imports or configures and the host does not depend on, with the name to install."""


class StepFailed(Exception):
    """A step did not show what it should."""


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the cluster running at the end, with curl lines to try, until Ctrl-C.")
    ] = False,
) -> None:
    """Run a 2-of-3 cluster over three zones, sign with it, break it, and end by itself."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"the demo needs more than the host alone; install {' '.join(missing)}")
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="frost-"))
    started = time.monotonic()
    try:
        with _step("Deal a key 2-of-3, make an authority and certificates"):
            grants = _GRANTS.replace("UID", str(os.getuid())) + _RULES
            cluster = ProcessCluster(folder, grants=grants, signer_rules=_RULES, signer_policy="demo")
        with cluster:
            anyio.run(_story, cluster)
            if keep:
                _wait(cluster)
    except (StepFailed, ClusterError) as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("Ended.")
        raise typer.Exit(0 if keep else 130) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    console.print(f"[bold green]All of it worked[/], in {time.monotonic() - started:.1f} s; nothing is left behind.")


async def _story(cluster: ProcessCluster) -> None:
    from frost_sidecar_audit_worm import verify  # noqa: PLC0415 - a plugin, not a dependency of the host

    with _step("Start three signers (mTLS, one a zone) and the sidecar (Unix socket)"):
        await anyio.to_thread.run_sync(cluster.start)
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=str(cluster.socket)),
        timeout=aiohttp.ClientTimeout(total=15),
        headers={PROGRAM_HEADER: PROGRAM_VALUE},
    ) as http:
        with _step("Mint a JWT through the socket; PyJWT, which knows nothing of us, verifies it"):
            token, key, who = await _mint(http, cluster)
            _note(f"signers {who}  {token[:40]}…")
            _note(f"public key {b64encode(key)}: plain Ed25519, as if one party had signed")
        with _step("Mint in-process: the same library inside the mint"):
            await _in_process(cluster)
        with _step("Ask for a token of another issuer: no grant allows it, and no signer signs it"):
            await _denied(http, cluster)
        with _step("Ask twice for one token, at once, with one idempotency key: one signature"):
            await _twice(cluster)
        with _step("Kill signer 1 (SIGKILL) and mint again"):
            cluster.kill_signer(1)
            for _ in range(5):
                token, key, who = await _mint(http, cluster)
            _note(f"5 of 5 minted; the last by signers {who}")
            await anyio.to_thread.run_sync(cluster.start_signer, 1)
        with _step("Put a lying signer in the place of signer 2: its shares are wrong"):
            await anyio.to_thread.run_sync(cluster.stop_signer, 2)
            await anyio.to_thread.run_sync(cluster.start_signer, 2, LYING)
            _note(await _caught(http, cluster))
            token, key, who = await _mint(http, cluster)
            _note(f"in quarantine; asked for any quorum, signers {who} sign")
    with _step("Verify the audit log, then change one byte in a copy and verify that"):
        report = verify(cluster.audit_log)
        if report.fault is not None:
            raise StepFailed(f"the audit log does not verify: {report.fault}")
        _note(f"{report.records} records, chained; head {report.head}")
        _note(f"changed copy: {_tampered(cluster.audit_log)}")


async def _mint(http: aiohttp.ClientSession, cluster: ProcessCluster) -> tuple[str, bytes, list[int]]:
    """A JWT through the socket: token, public key, and who signed."""
    signing_input = _signing_input(cluster)
    async with http.post("http://sidecar/sign", json={"msg_b64": b64url(signing_input)}) as response:
        answer = await response.json(content_type=None)
        if response.status != 200:
            raise StepFailed(f"the sidecar answered {response.status}: {answer.get('detail')}")
    key = b64decode(answer["group_public_b64"])
    token = f"{signing_input.decode()}.{b64url(b64decode(answer['signature_b64']))}"
    _check(token, key)
    return token, key, answer["participants"]


async def _in_process(cluster: ProcessCluster) -> None:
    mint_toml = cluster.folder / "mint.toml"
    cluster.write_coordinator(mint_toml, cluster.folder / "mint-audit.log")
    async with Coordinator.open(Config.load(mint_toml, environ={})) as coordinator:
        token = await Mint(coordinator).jwt({"iss": "demo-mint", "sub": "alice"}, lifetime=60)
        _check(token, await coordinator.group_public())
    _note('await Mint(coordinator).jwt({"iss": "demo-mint", "sub": "alice"}, lifetime=60)')


async def _denied(http: aiohttp.ClientSession, cluster: ProcessCluster) -> None:
    """A message outside of the rules, asked of the sidecar, and of a coordinator that has lost its own."""
    evil = _signing_input(cluster, iss="https://bank.example")
    async with http.post("http://sidecar/sign", json={"msg_b64": b64url(evil)}) as response:
        problem = await response.json(content_type=None)
    if (response.status, problem.get("reason")) != (403, "jws-issuer"):
        raise StepFailed(f"the sidecar answered {response.status}: {problem}")
    _note(f"403 {problem['reason']}: {problem['detail']}")
    captured = cluster.folder / "captured.toml"
    cluster.write_coordinator(captured, cluster.folder / "captured-audit.log", _ANYTHING)
    async with Coordinator.open(Config.load(captured, environ={})) as coordinator:
        try:
            await coordinator.sign(evil)
        except Denied as error:
            _note(f"a coordinator without rules of its own: {error}")
        else:
            raise StepFailed("the signers signed what their own rules forbid")


async def _twice(cluster: ProcessCluster) -> None:
    tokens = []
    async with AsyncSidecarClient(cluster.socket) as client, anyio.create_task_group() as tasks:
        mint = Mint(client)

        async def one() -> None:
            tokens.append(
                await mint.jwt(
                    {"iss": "demo-mint", "sub": "alice"}, lifetime=60, jti=True, idempotency_key="order-4711"
                )
            )

        for _ in range(2):
            tasks.start_soon(one)
    if len(set(tokens)) != 1:
        raise StepFailed("two signatures were made for one idempotency key")
    _note(f"twice the same: …{tokens[0][-40:]}")


async def _caught(http: aiohttp.ClientSession, cluster: ProcessCluster) -> str:
    """Ask for signers 1 and 2 and nobody else; what the sidecar says of the liar."""
    body = {"msg_b64": b64url(_signing_input(cluster)), "participants": [1, 2]}
    async with http.post("http://sidecar/sign", json=body) as response:
        problem = await response.json(content_type=None)
    if response.status != 503 or "signer 2: bad-share" not in problem["detail"]:
        raise StepFailed(f"the lying signer was not named: {response.status} {problem}")
    return f"asked for signers 1 and 2 only: 503, {problem['detail']}"


def _tampered(log: Path) -> str:
    from frost_sidecar_audit_worm import verify  # noqa: PLC0415 - a plugin, not a dependency of the host

    copy = log.with_name("audit-changed.log")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    shutil.copy(f"{log}.head", f"{copy}.head")
    report = verify(copy)
    if report.fault is None:
        raise StepFailed("the changed byte was not found")
    return f"found: {report.fault}"


def _signing_input(cluster: ProcessCluster, iss: str = "demo-mint") -> bytes:
    now = int(time.time())
    header = {"alg": "EdDSA", "typ": "JWT", "kid": thumbprint(cluster.dealt.group_public)}
    claims = {"iss": iss, "sub": "alice", "iat": now, "exp": now + 60, "jti": secrets.token_hex(8)}
    return b".".join(b64url(json.dumps(each).encode()).encode() for each in (header, claims))


def _check(token: str, key: bytes) -> None:
    import jwt  # noqa: PLC0415 - of the extra "testing", not a dependency of the host

    try:
        jwt.decode(token, Ed25519PublicKey.from_public_bytes(key), algorithms=["EdDSA"])
    except jwt.PyJWTError as error:
        raise StepFailed(f"PyJWT refuses the token: {error}") from None


def _wait(cluster: ProcessCluster) -> None:
    """Make signer 2 honest again and stay until Ctrl-C."""
    cluster.stop_sidecar()
    cluster.stop_signer(2)
    cluster.start_signer(2)
    cluster.start_sidecar()
    console.print("\n[bold]The cluster runs.[/] In another terminal:\n")
    curl = f"curl -sS --unix-socket {cluster.socket} http://sidecar"
    header, body = f"{PROGRAM_HEADER}: {PROGRAM_VALUE}", json.dumps({"msg_b64": b64encode(_signing_input(cluster))})
    console.print(f"  {curl}/healthz\n  {curl}/sign -H '{header}' -d '{body}'", markup=False)
    console.print(f"  {curl}/metrics | grep frost_", markup=False)
    console.print(f"  frost-sidecar audit verify {cluster.audit_log}", markup=False)
    console.print(
        f"\nKill a signer: kill -9 {cluster.pid('signer-3')}. Logs: {escape(str(cluster.folder))}. "
        "Ctrl-C ends everything."
    )
    signal.pause()


@contextmanager
def _step(title: str) -> Iterator[None]:
    started = time.monotonic()
    console.print(f"[bold]▸ {title}[/]")
    yield
    console.print(f"  [green]✓[/] {time.monotonic() - started:.2f} s")


def _note(text: str) -> None:
    console.print(f"  {text}", markup=False, style="dim")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
