"""The examples as a mint team runs them: real servers on real ports, over a real cluster, read by real verifiers."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet
from joserfc.jws import deserialize_compact

from frost_sidecar.jose import joserfc_key, thumbprint
from frost_sidecar.testing.processes import ProcessCluster

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGE = Path(__file__).parent.parent / "docs" / "minting.md"
SERVERS = {
    # asyncio's own loop: uvloop logs a traceback of its own where a TLS connection's peer is killed while it writes.
    "fastapi": ["uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "--loop", "asyncio", "fastapi_mint:app"],
    "flask": ["flask", "--app", str(EXAMPLES / "flask_mint"), "run", "--port", "0"],
}
START_SECONDS = 30.0
_ADDRESS = re.compile(r"[Rr]unning on (http://127\.0\.0\.1:[0-9]+)")


class Mint:
    """A running example, as its clients see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx2.Client(base_url=url, timeout=30, trust_env=False)

    def post(
        self, user: str | None = "alice", audience: Any = "api", requested_at: Any = None, **headers: str
    ) -> httpx2.Response:
        named = {"X-Authenticated-User": user} if user else {}
        body = {"audience": audience} | ({} if requested_at is None else {"requested_at": requested_at})
        return self.http.post("/token", json=body, headers={**named, **headers})

    def token(self, **given: Any) -> str:
        answer = self.post(**given)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def read(self, token: str) -> dict[str, Any]:
        """The claims, as a verifier reads them that knows nothing but the URL of the key set."""
        key = jwt.PyJWKClient(f"{self.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
        return jwt.decode(token, key, algorithms=["EdDSA"], audience="api", issuer="https://mint.example")


@contextmanager
def served(server: str, target: str, log: Path) -> Iterator[Mint]:
    """The example in a process of its own, ended as by Ctrl-C."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FROST_", "FLASK_"))}
    environment |= {"FROST_TARGET": target, "PYTHONUNBUFFERED": "1"}
    # A process that ignores Ctrl-C, as one in the background does, would have its children ignore it too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *SERVERS[server]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    signal.signal(signal.SIGINT, before)
    try:
        mint = Mint(address(process, log))
        with mint.http:
            yield mint
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in {0, -signal.SIGINT}, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if match := _ADDRESS.search(log.read_text()):
            return match[1]
        time.sleep(0.02)
    raise AssertionError(f"the server did not come up:\n{log.read_text()}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ProcessCluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture(
    scope="module", params=[(server, way) for server in SERVERS for way in ("in process", "sidecar")], ids="-".join
)
def mint(request: pytest.FixtureRequest, cluster: ProcessCluster) -> Iterator[Mint]:
    server, way = request.param
    target = f"unix:{cluster.socket}"
    if way == "in process":
        toml = cluster.folder / f"{server}.toml"
        cluster.write_coordinator(toml, cluster.folder / f"{server}-audit.log")
        target = str(toml)
    with served(server, target, cluster.folder / f"{server}-{way.replace(' ', '-')}.log") as mint:
        yield mint


def test_a_verifier_with_the_key_sets_url_accepts_the_token(mint: Mint, cluster: ProcessCluster) -> None:
    token = mint.token()
    claims = mint.read(token)
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("alice", 300)
    kid = thumbprint(cluster.dealt.group_public)
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": kid, "typ": "JWT"}

    published = mint.http.get("/.well-known/jwks.json")
    assert published.headers["content-type"] == "application/jwk-set+json"
    assert published.headers["cache-control"] == "public, max-age=300"
    keys = KeySet.import_key_set(published.json())
    with pytest.warns(SecurityWarning, match="RFC 9864"):
        assert joserfc_jwt.decode(token, keys, algorithms=["EdDSA"]).claims == claims


def test_a_repeated_request_gets_the_same_token(mint: Mint) -> None:
    sent = int(time.time())
    key: dict[str, Any] = {"Idempotency-Key": f"order 1 of {mint.url}", "requested_at": sent}
    first = mint.token(**key)
    time.sleep(1.1)  # iat and exp of a new token would be others now
    assert mint.token(**key) == first
    assert (mint.read(first)["iat"], mint.read(first)["exp"]) == (sent, sent + 300)
    other = mint.token(user="bob", **key)
    assert (mint.read(other)["sub"], mint.read(first)["sub"]) == ("bob", "alice")
    for conflict in (mint.post(audience="another", **key), mint.post(**key | {"requested_at": sent - 1})):
        assert (conflict.status_code, conflict.headers["content-type"]) == (409, "application/problem+json")
        assert conflict.json()["type"] == "urn:frost-sidecar:error:idempotency-conflict"


def test_a_repeated_request_gets_the_same_token_from_any_worker(cluster: ProcessCluster, tmp_path: Path) -> None:
    """Three processes, of two kinds, that know nothing of each other, over one sidecar."""
    there = f"unix:{cluster.socket}"
    with (
        served("fastapi", there, tmp_path / "1") as one,
        served("fastapi", there, tmp_path / "2") as two,
        served("flask", there, tmp_path / "3") as three,
    ):
        mints = [one, two, three]
        key = {"Idempotency-Key": "order 2", "requested_at": int(time.time())}
        tokens = [one.token(**key)]
        time.sleep(1.1)
        tokens += [each.token(**key) for each in mints]
        assert len(set(tokens)) == 1
        key = {"Idempotency-Key": "order 3", "requested_at": int(time.time())}
        with ThreadPoolExecutor(6) as pool:
            at_once = list(pool.map(lambda each: each.token(**key), mints * 2, timeout=60))
        assert len(set(at_once)) == 1
        assert len({one.read(token)["jti"] for token in (tokens[0], at_once[0], two.token(), two.token())}) == 4


def test_a_key_that_could_not_keep_its_promise_is_refused(mint: Mint) -> None:
    now = int(time.time())
    cases: list[tuple[str, Any, str]] = [
        ("order 4", None, "requested_at: say with an Idempotency-Key"),
        ("order 4", now - 301, "requested_at: must be within the last 300 s"),
        ("order 4", now + 60, "requested_at: must be within the last 300 s"),
        ("", now, "Idempotency-Key: must be 1 to 255"),
        ("x" * 256, now, "Idempotency-Key: must be 1 to 255"),
    ]
    for key, requested_at, said in cases:
        refused = mint.post(requested_at=requested_at, **{"Idempotency-Key": key})
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json"), said
        assert said in refused.json()["detail"]
    for wrong in ("now", 1.5, True):
        assert mint.post(requested_at=wrong, **{"Idempotency-Key": "order 4"}).status_code in {400, 422}


def test_bad_requests_are_the_clients_fault(mint: Mint) -> None:
    assert mint.post(user=None).status_code in {401, 422}
    assert mint.post(audience=None).status_code == 422
    assert mint.post(audience={}).status_code == 422
    too_large = mint.post(audience="x" * 20_000)
    assert (too_large.status_code, too_large.json()["type"]) == (413, "urn:frost-sidecar:error:too-large")


def test_many_clients_mint_while_a_signer_is_killed(mint: Mint, cluster: ProcessCluster) -> None:
    started = threading.Event()

    def one(number: int) -> str:
        if number == 40:
            started.set()
        return mint.token(user=f"user-{number}")

    with ThreadPoolExecutor(16) as pool:
        minted = [pool.submit(one, number) for number in range(160)]
        assert started.wait(30)
        cluster.kill_signer(2)
        tokens = [each.result(60) for each in minted]
    try:
        assert [mint.read(token)["sub"] for token in tokens[::16]] == [f"user-{number}" for number in range(0, 160, 16)]
        assert len({jwt.decode(token, options={"verify_signature": False})["jti"] for token in tokens}) == 160
    finally:
        cluster.start_signer(2)


def test_without_a_quorum_clients_are_told_to_come_back_and_nothing_else(mint: Mint, cluster: ProcessCluster) -> None:
    for identifier in (1, 2):
        cluster.kill_signer(identifier)
    refused = mint.post()
    keys = mint.http.get("/.well-known/jwks.json")
    for identifier in (1, 2):
        cluster.start_signer(identifier)
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert int(refused.headers["retry-after"]) >= 1
    assert "signer" not in refused.text
    assert set(refused.json()) == {"type", "title", "status", "detail"}
    assert [each["kid"] for each in keys.json()["keys"]] == [thumbprint(cluster.dealt.group_public)]

    deadline = time.monotonic() + 30
    while (answer := mint.post()).status_code == 503 and time.monotonic() < deadline:
        time.sleep(float(answer.headers["retry-after"]) / 10)
    assert mint.read(answer.json()["access_token"])["sub"] == "alice"


def test_a_target_that_is_none_stops_the_start(tmp_path: Path) -> None:
    for server in SERVERS:
        with (
            pytest.raises(AssertionError, match="use https://HOST:PORT"),
            served(server, "http://127.0.0.1:1", tmp_path / server),
        ):
            pytest.fail("it came up")


def test_the_code_in_the_page_on_minting_runs(
    cluster: ProcessCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    cluster.write_coordinator(tmp_path / "frost-sidecar.toml", tmp_path / "audit.log")
    monkeypatch.chdir(tmp_path)
    there = f"unix:{cluster.socket}"
    names: dict[str, Any] = {}
    with served("fastapi", there, tmp_path / "log") as mint:
        try:
            for block in blocks:
                code = block.replace("unix:/run/frost/sign.sock", there)
                code = code.replace("https://mint.example/.well-known", f"{mint.url}/.well-known")
                running = eval(compile(code, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
                if running is not None:
                    asyncio.run(running)
        finally:
            jwt.unregister_algorithm("Ed25519")
    assert len(blocks) == 8
    assert (names["claims"]["sub"], names["decoded"].claims["sub"]) == ("carol", "carol")
    receipt = deserialize_compact(names["receipt"], joserfc_key(cluster.dealt.group_public), algorithms=["Ed25519"])
    assert receipt.payload == b"any bytes"


def test_the_readme_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    assert [each.name for each in sorted(EXAMPLES.glob("*.py")) if f"[{each.name}]({each.name})" not in text] == []
