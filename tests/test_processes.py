"""Real processes on real sockets: signers behind mTLS, the sidecar on its Unix socket, and all that can be killed."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import frost_sidecar_audit_worm as audit_worm
import nacl.signing
import pytest

from frost_sidecar.testing.processes import LYING, ProcessCluster

ROOT = Path(__file__).parent.parent
PROGRAM = {"X-Frost-Sidecar": "1"}
GOOD = {"msg_b64": base64.b64encode(b"header.payload").decode()}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("sidecar", timeout=15)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self.path))


def post(cluster: ProcessCluster, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    connection = UnixConnection(cluster.socket)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", "/sign", data, {**PROGRAM, **(headers or {})})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def check(cluster: ProcessCluster, status: int, answer: dict[str, Any]) -> None:
    assert status == 200, answer
    key = nacl.signing.VerifyKey(cluster.dealt.group_public)
    key.verify(b"header.payload", base64.b64decode(answer["signature_b64"]))


@pytest.fixture
def cluster() -> Iterator[ProcessCluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as cluster:
        cluster.start()
        yield cluster


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_signatures_survive_the_death_and_the_lies_of_one_signer(cluster: ProcessCluster) -> None:
    check(cluster, *post(cluster, GOOD))
    cluster.kill_signer(3)
    for _ in range(5):
        status, answer = post(cluster, GOOD)
        check(cluster, status, answer)
        assert answer["participants"] == [1, 2]
    cluster.start_signer(3, LYING)
    status, problem = post(cluster, {**GOOD, "participants": [2, 3]})
    assert (status, problem["type"]) == (503, "urn:frost-sidecar:error:no-quorum")
    assert "signer 3: bad-share" in problem["detail"]
    check(cluster, *post(cluster, GOOD))
    cluster.kill_signer(2)
    status, problem = post(cluster, GOOD)
    assert status == 503
    assert "signer 2: unreachable" in problem["detail"]
    assert "signer 3: quarantined" in problem["detail"]
    cluster.start_signer(2)
    deadline = time.monotonic() + 10
    while (last := post(cluster, GOOD))[0] != 200 and time.monotonic() < deadline:
        pass
    check(cluster, *last)
    assert audit_worm.verify(cluster.audit_log).fault is None


def test_the_sidecar_ends_cleanly_with_requests_under_way(cluster: ProcessCluster) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(post, cluster, GOOD) for _ in range(60)]
        time.sleep(0.15)
        assert cluster.stop_sidecar() == 0
        signed = refused = 0
        for each in answers:
            try:
                status, answer = each.result()
            except (OSError, http.client.HTTPException):
                refused += 1  # connected after the end: nobody listens any more
                continue
            if status == 200:
                check(cluster, status, answer)
                signed += 1
            else:
                assert (status, answer["type"]) == (503, "urn:frost-sidecar:error:shutting-down")
                refused += 1
    assert signed > 0
    assert not cluster.socket.exists()
    report = audit_worm.verify(cluster.audit_log)
    assert (report.fault, report.records) == (None, signed)


def test_a_killed_sidecar_leaves_a_socket_file_and_its_next_life_replaces_it(cluster: ProcessCluster) -> None:
    check(cluster, *post(cluster, GOOD))
    os.kill(cluster.pid("sidecar"), signal.SIGKILL)
    cluster.stop_sidecar()
    assert cluster.socket.exists()
    cluster.start_sidecar()
    check(cluster, *post(cluster, GOOD))
    report = audit_worm.verify(cluster.audit_log)
    assert (report.fault, report.records) == (None, 2)


def test_a_second_sidecar_on_the_same_socket_or_log_is_refused(cluster: ProcessCluster) -> None:
    command = [sys.executable, "-m", "frost_sidecar", "serve", "--config", str(cluster.coordinator_toml)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].startswith("frost-sidecar: ")
    assert "Traceback" not in second.stderr
    check(cluster, *post(cluster, GOOD))


HOSTILE = [
    b"",
    b"[" * 50_000,
    b"\xff" * 1000,
    b'{"msg_b64": "' + b"A" * 250_000,
    b" " * 400_000,
    b'{"msg_b64": "aGk=", "x": ' + b'{"a":' * 30_000 + b"1" + b"}" * 30_000 + b"}",
    b'{"msg_b64": "aGk=", "participants": [1, ' + b"9" * 10_000 + b"]}",
    b'{"msg_b64": "aGk=", "msg_b64": "aGk="}',
]


def test_memory_of_the_sidecar_stays_flat_under_hostile_bodies(cluster: ProcessCluster) -> None:
    pid = cluster.pid("sidecar")

    def storm(count: int) -> None:
        connection = UnixConnection(cluster.socket)
        for number in range(count):
            try:
                connection.request("POST", "/sign", HOSTILE[number % len(HOSTILE)], PROGRAM)
                response = connection.getresponse()
                assert 400 <= response.status < 500
                response.read()
            except (BrokenPipeError, ConnectionResetError, http.client.HTTPException):
                connection.close()  # refused before the body was read
        connection.close()

    storm(400)
    before = memory_bytes(pid)
    storm(1600)
    assert memory_bytes(pid) - before < 8 * 1024 * 1024
    check(cluster, *post(cluster, GOOD))


def test_memory_of_a_signer_stays_flat_under_hostile_bodies(cluster: ProcessCluster) -> None:
    context = ssl.create_default_context(cafile=str(cluster.authority.certificate))
    context.check_hostname = False
    files = cluster.authority.issue("attacker", ["coordinator.frost.test"])
    context.load_cert_chain(files.cert, files.key)
    pid, port = cluster.pid("signer-1"), cluster.signer_port(1)

    def storm(count: int) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        for number in range(count):
            path = ("/v1/shares", "/v1/commitments")[number % 2]
            try:
                connection.request("POST", path, HOSTILE[number % len(HOSTILE)], {"Authorization": "Bearer a.b.c"})
                response = connection.getresponse()
                assert 400 <= response.status < 500
                response.read()
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError, http.client.HTTPException):
                connection.close()
        connection.close()

    storm(400)
    before = memory_bytes(pid)
    storm(1600)
    assert memory_bytes(pid) - before < 8 * 1024 * 1024
    check(cluster, *post(cluster, GOOD))


def test_no_secret_is_in_a_log_a_command_line_or_an_environment(cluster: ProcessCluster) -> None:
    for body in (GOOD, b"junk", {**GOOD, "participants": [9, 1]}):
        post(cluster, body)
    cluster.kill_signer(2)
    post(cluster, GOOD)
    secrets = [cluster.folder.joinpath("jwt_hs256_b64").read_text()]
    secrets += [json.loads(path.read_text())["signing_share"] for path in cluster.dealt.share_files.values()]
    names = ["sidecar", "signer-1", "signer-3"]
    places = {name: cluster.log(name).read_text() for name in [*names, "signer-2"]}
    for name in names:
        for kind in ("cmdline", "environ"):
            places[f"{name} {kind}"] = Path(f"/proc/{cluster.pid(name)}/{kind}").read_bytes().decode("latin-1")
    places["audit log"] = cluster.audit_log.read_text()
    for place, text in places.items():
        assert all(secret not in text for secret in secrets), place
        assert not re.search(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text), f"a token in {place}"
    assert all(path.stat().st_mode & 0o077 == 0 for path in cluster.dealt.share_files.values())


def test_a_signer_with_another_name_in_its_certificate_is_not_talked_to(cluster: ProcessCluster) -> None:
    cluster.stop_signer(1)
    files = cluster.authority.issue("signer-1", ["signer-9.frost.test"])
    assert files.cert.exists()
    cluster.start_signer(1)
    status, problem = post(cluster, {**GOOD, "participants": [1, 2]})
    assert status == 503
    assert "signer 1: tls" in problem["detail"]
    check(cluster, *post(cluster, GOOD))


def test_the_demo_runs_to_its_end_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": tempfile.gettempdir(), "COLUMNS": "200"}
    demo = subprocess.run(
        [sys.executable, "-m", "frost_sidecar", "demo"],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    for words in ("PyJWT", "in-process", "Kill signer 1", "signer 2: bad-share", "changed copy: found", "worked"):
        assert words in demo.stdout, words
    assert demo.stdout.count("✓") == 9
    assert list(tmp_path.iterdir()) == []


def test_the_kept_demo_runs_until_interrupted_and_its_curl_line_signs() -> None:
    command = [sys.executable, "-u", "-m", "frost_sidecar", "demo", "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            lines: list[str] = []
            while not lines or ("Ctrl-C" not in lines[-1] and lines[-1]):
                lines.append(demo.stdout.readline())
            [sign] = [line.strip() for line in lines if "/sign -H" in line]
            curl, _, _, path, url, _, header, _, body = shlex.split(sign)
            assert (curl, url, header) == ("curl", "http://sidecar/sign", "X-Frost-Sidecar: 1")
            connection = UnixConnection(Path(path))
            connection.request("POST", "/sign", body, PROGRAM)
            answer = json.loads(connection.getresponse().read())
            connection.close()
            assert set(answer) >= {"signature_b64", "group_public_b64"}
            demo.send_signal(signal.SIGINT)
            assert demo.wait(30) == 0
        finally:
            demo.terminate()  # so that it ends its own children
            demo.wait(30)
    assert not Path(path).parent.exists()


def test_a_short_load_with_kills_loses_and_forges_nothing() -> None:
    load = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "load.py"), "--requests", "600", "--json"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert load.returncode == 0, load.stdout + load.stderr
    report = json.loads(load.stdout)
    assert report["signed"] + sum(report["typed_errors"].values()) == 600
    assert report["kills_and_restarts"] == 2
