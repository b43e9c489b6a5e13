"""The page for those who come from the Rust coordinator: complete, true to the tree, and its deployment works."""

from __future__ import annotations

import ast
import base64
import functools
import json
import os
import re
import ssl
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from frost_sidecar.config import DEFAULT_BIND, Config
from frost_sidecar.model import Answer, Call
from frost_sidecar.process import ENVIRONMENT
from frost_sidecar.testing.behaviour import Behaviour, Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.processes import ProcessCluster

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "from-the-rust-coordinator.md"
TEXT = PAGE.read_text("utf-8")
HEADER = "| the original says | what we do | where, and what shows it |"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.partition(HEADER)[2].splitlines()
    if line.startswith("| ") and not line.startswith("| ---")
]
TEST = re.compile(r"`([\w/.-]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
MESSAGE = b"header.payload"

VARIABLES = {
    "BIND": "0.0.0.0:7100",
    "FROST_STATE": "./frost_state",
    "TLS_CERT_PEM": "/tls/tls.crt",
    "TLS_KEY_PEM": "/tls/tls.key",
    "TLS_SERVER_CA": "/tls/ca.crt",
    "JWT_HS256_B64": None,
    "JWT_HS256_B64_FILE": None,
    "RUST_LOG": "info",
}
"""The original's environment variables and their defaults."""
NAMES = [
    *("POST /sign", "GET /healthz", "GET /metrics", "frost_coordinator_signs_total", "application/json", "200 OK"),
    *("msg_b64", "participants", "signer_urls", "signature_b64", "group_public_b64", "Authorization: Bearer"),
    *("group.json", "PublicKeyPackage", "frost-coord", "devsecret", "round1::commit", "SignatureShare", "HS256"),
    *("--cacert", "--cert", "--key", "content-type", "curl -sS -X POST", "/jwt/JWT_HS256_B64", "frost-tls"),
    *("RS256", "EdDSA", "JWKS", "OCI Vault", "attestation", "hedged", "backoff", "Rate limiting", "SAN pinning"),
    *("SPIFFE", "pre-computes nonces", "histograms", "error counters", "circuit-breaker", "NetworkPolic", "digest"),
    *(
        "RuntimeDefault",
        "runAsNonRoot",
        "capabilities",
        "DaemonSet",
        "headless",
        "endpoints",
        "ClusterIP",
        "idempotent",
    ),
    *("timeout budgets", "quorum selection", "append-only", "WORM", "key reconstruction", "HTTP/2", "keep-alive"),
    *("batching", "CPU pinning", "NUMA", "key shares", "standard", "Axum", "request IDs", "signer IDs", "replicated"),
]
"""What the lines of the original's page are about."""


def test_every_row_says_what_the_original_says_what_we_do_and_where() -> None:
    assert len(ROWS) >= 85
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_every_name_of_the_original_has_its_row() -> None:
    said = "\n".join(row[0] for row in ROWS).lower()
    assert [name for name in [*VARIABLES, *NAMES] if name.lower() not in said] == []


def test_a_row_without_a_test_says_what_is_not_there() -> None:
    untested = [row for row in ROWS if not TEST.search(row[2])]
    assert [row[0] for row in untested if "Not yet" not in row[1]] == []
    assert len(untested) <= 5


@functools.cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:50] for row in ROWS])
def test_the_files_and_functions_of_a_row_are_there(row: list[str]) -> None:
    links, tests = LINK.findall(row[2]), TEST.findall(row[2])
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
    assert [(file, name) for file, name in tests if name not in functions_of(file)] == []


@pytest.mark.parametrize("name", [name for name, default in VARIABLES.items() if default])
def test_the_variables_defaults_are_the_originals(name: str) -> None:
    value: object = Config.build({"signers": _signers()})
    if name == "BIND":
        value = DEFAULT_BIND
    else:
        for part in ENVIRONMENT[name].split("."):
            value = getattr(value, part)
    assert value == VARIABLES[name]
    [row] = [row for row in ROWS if row[0].startswith(f"`{name}`")]
    assert f"`{VARIABLES[name]}`" in row[0]


def test_every_setting_that_the_page_names_is_one() -> None:
    configuration = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    named = set(re.findall(r"`((?:server|signing|token|clients|audit)\.[a-z_]+)`", TEXT))
    assert named
    assert [name for name in named if f"| `{name}` |" not in configuration] == []


async def test_the_page_is_a_deployment_that_works(short_path: Path) -> None:
    """The page's file and the original's variables, real processes, and the request of the original's curl line."""
    with ProcessCluster(short_path) as cluster:
        for identifier in cluster.identifiers:
            cluster.start_signer(identifier)
        tls = cluster.authority.issue("tls", ["coordinator.frost.test", "frost-coordinator.frost.svc"])
        mint = cluster.authority.issue("mint", ["mint.frost.svc"])
        secret = cluster.folder / "jwt_hs256_b64"
        file = short_path / "page.toml"
        file.write_text(_with_addresses_of_this_machine(cluster))
        environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT} | {
            "FROST_SIDECAR_CONFIG": str(file),
            "BIND": "127.0.0.1:0",
            "FROST_STATE": str(cluster.dealt.group_file.parent),
            "TLS_CERT_PEM": str(tls.cert),
            "TLS_KEY_PEM": str(tls.key),
            "TLS_SERVER_CA": str(tls.ca),
            "JWT_HS256_B64": secret.read_text(),
            "RUST_LOG": "info",
        }
        with sidecar(environment, short_path / "log") as log:
            listening = await _line(log, "listening")
            token = jwt.encode({"iss": "frost-coord"}, base64.b64decode(secret.read_text()), algorithm="HS256")
            context = ssl.create_default_context(cafile=str(mint.ca))
            context.load_cert_chain(mint.cert, mint.key)
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
                body = {
                    "msg_b64": base64.b64encode(MESSAGE).decode(),
                    "participants": [1, 2],
                    "signer_urls": [f"https://127.0.0.1:{cluster.signer_port(i)}" for i in (1, 2)],
                }
                async with http.post(
                    f"https://{listening['bind']}/sign",
                    json=body,
                    headers={"Authorization": f"Bearer {token}", "content-type": "application/json"},
                    ssl=context,
                    server_hostname="frost-coordinator.frost.svc",
                ) as response:
                    assert response.status == 200
                    answer = await response.json()
                async with http.get(f"http://{listening['metrics_bind']}/readyz") as response:
                    assert (await response.json())["keys"]["default"]["usable"] == [1, 2, 3]
                async with http.get(f"http://{listening['metrics_bind']}/healthz") as response:
                    assert (response.status, await response.read()) == (200, b"ok")
                async with http.get(f"http://{listening['metrics_bind']}/metrics") as response:
                    metrics = await response.text()
    assert list(answer)[:2] == ["signature_b64", "group_public_b64"]
    assert answer["participants"] == [1, 2]
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(answer["group_public_b64"]))
    public.verify(base64.b64decode(answer["signature_b64"]), MESSAGE)
    assert "# TYPE frost_coordinator_signs_total counter\nfrost_coordinator_signs_total 1.0\n" in metrics
    assert "DNS:mint.frost.svc frost-coord" in (short_path / "audit.log").read_text("utf-8")


@pytest.mark.parametrize("calls", [1, 2, 3])
async def test_calls_to_one_signer_wait_their_turn(tmp_path: Path, calls: int) -> None:
    under_way: Counter[int] = Counter()
    most: Counter[int] = Counter()
    gate = anyio.Event()

    def counted(identifier: int) -> Behaviour:
        async def behaviour(handle: Handle, call: Call) -> Answer:
            under_way[identifier] += 1
            most[identifier] = max(most[identifier], under_way[identifier])
            try:
                await gate.wait()
                return await handle(call)
            finally:
                under_way[identifier] -= 1

        return behaviour

    signing = {"calls_per_signer": calls, "batches_per_signer": 8, "call_seconds": 10.0, "budget_seconds": 10.0}
    cluster = MemoryCluster(tmp_path, min_signers=3, settings={"signing": signing})
    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:
        await coordinator.sign(b"with this every signer has commitments in stock")

        def requests() -> float:
            return coordinator.registry.get_sample_value("frost_coordinator_share_batch_size_count") or 0.0

        for identifier in cluster.identifiers:
            cluster.behave(identifier, counted(identifier))
        for number in range(6):
            tasks.start_soon(coordinator.sign, b"message %d" % number)
            with anyio.fail_after(10):  # each leaves in a request of its own, or waits there for its turn
                while requests() < 3 * (number + 2) or sum(under_way.values()) < 3 * min(number + 1, calls):
                    await anyio.sleep(0.002)
            assert under_way == dict.fromkeys(cluster.identifiers, min(number + 1, calls))
        gate.set()
    assert most == dict.fromkeys(cluster.identifiers, calls)
    assert [(record.outcome, len(record.sessions)) for record in cluster.records] == [("signed", 1)] * 7


def _with_addresses_of_this_machine(cluster: ProcessCluster) -> str:
    """The page's file; what is another machine's there is this one's here, everything else is as printed."""
    [block] = re.findall(r"^   ```toml\n(.*?)^   ```$", TEXT, re.MULTILINE | re.DOTALL)
    toml = textwrap.dedent(block)
    changes = {
        f'url = "https://frost-signer-{each}.frost.svc:7000"': (
            f'url = "https://127.0.0.1:{cluster.signer_port(each)}"\nserver_name = "signer-{each}.frost.test"'
        )
        for each in cluster.identifiers
    }
    changes['"0.0.0.0:9100"'] = '"127.0.0.1:0"'
    changes["/var/lib/frost/audit.log"] = "audit.log"
    for printed, here in changes.items():
        assert toml.count(printed) == 1
        toml = toml.replace(printed, here)
    return toml


@contextmanager
def sidecar(environment: dict[str, str], log: Path) -> Iterator[Path]:
    """``frost-sidecar serve`` without an argument, until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "frost_sidecar", "serve"], env=environment, stderr=output)
    try:
        yield log
    finally:
        process.terminate()
        assert process.wait(15) == 0


async def _line(log: Path, event: str) -> dict[str, str]:
    """The first line of the log that says ``event``."""
    with anyio.fail_after(20):
        while True:
            for line in log.read_text("utf-8").splitlines(keepends=True):
                if line.endswith("\n") and (said := json.loads(line))["event"] == event:
                    return dict(said)
            await anyio.sleep(0.02)


def _signers() -> list[dict[str, object]]:
    return [{"identifier": i, "url": f"https://frost-signer-{i}.frost.svc:7000", "zone": f"ad-{i}"} for i in (1, 2, 3)]
