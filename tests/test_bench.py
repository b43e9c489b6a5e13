"""``frost-sidecar bench`` as a user meets it: what it prints, what it signs, and what it refuses to do."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from frost_sidecar.cli.chart import Chart, Line
from frost_sidecar.cli.closed_loop import OTHER_KEY, ClosedLoop, Level, Messages
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError
from frost_sidecar.jose import pyjwt_key, thumbprint
from frost_sidecar.jws import parse_jws
from frost_sidecar.process import convert
from frost_sidecar.rules import JwsRules
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.processes import ProcessCluster, UnixConnection
from frost_sidecar.testing.sidecar import MemorySidecar

PAGE = (Path(__file__).parent.parent / "docs" / "performance.md").read_text("utf-8")
SHORT = ["--seconds", "0.3", "--warm-up", "0.1"]
KEY = Ed25519PrivateKey.generate()
KID = thumbprint(KEY.public_key().public_bytes_raw())


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "frost_sidecar", "bench", *map(str, arguments)]


def _environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "COLUMNS": "400", "PYTHONWARNINGS": "error", **more}


def _run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*arguments),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env=_environment(**environ),
        check=False,
    )


async def _beside(*arguments: object) -> tuple[int, str, str]:
    """The same, beside a sidecar in this process."""
    with anyio.fail_after(60):
        done = await anyio.run_process(_command(*arguments), stdin=subprocess.DEVNULL, env=_environment(), check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def _refused(status: int, out: str, err: str, said: str) -> None:
    """Exit status 2, nothing on standard output, and what is wrong in the last line on standard error."""
    assert (status, out) == (2, ""), err
    last = err.splitlines()[-1]
    assert last.startswith("frost-sidecar: ")
    assert said in last


def _signed(socket: Path) -> int:
    """How many signatures a sidecar has made, by its metrics."""
    connection = UnixConnection(socket)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = re.search(r"^frost_coordinator_signs_total (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ProcessCluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as running:
        running.write_coordinator(running.folder / "mint.toml", running.folder / "mint-audit.log")
        running.start()
        yield running


def test_a_running_sidecar_is_measured(cluster: ProcessCluster) -> None:
    before = _signed(cluster.socket)
    done = _run("--in-flight", "1,4", *SHORT, "--yes", "--json", FROST_SIDECAR_SOCKET=str(cluster.socket))
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    assert report["message_bytes"] == 300
    assert [level["in_flight"] for level in report["levels"]] == [1, 4]
    for level in report["levels"]:
        assert level["errors"] == {}
        assert level["seconds"] >= 0.3
        assert level["signatures_per_second"] == pytest.approx(level["signatures"] / level["seconds"], rel=0.01)
        assert 0 < level["p50_ms"] <= level["p90_ms"] <= level["p99_ms"] <= level["max_ms"]
    # What was counted was signed; warm-ups and the first trial were, too.
    assert _signed(cluster.socket) - before > sum(level["signatures"] for level in report["levels"]) > 1


def test_a_table_and_a_picture_in_process(cluster: ProcessCluster, tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    config = cluster.folder / "mint.toml"
    done = _run("--config", config, "--in-flight", "2", *SHORT, "--message-bytes", "1000", "--yes", "--svg", picture)
    assert done.returncode == 0, done
    title, *_, row, _ = done.stdout.splitlines()
    assert title.strip() == "Every signature verified"
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert (cells[0], cells[-1]) == ("2", "none")
    assert float(cells[1]) > 0
    assert "requests in flight" in "".join(ET.parse(picture).getroot().itertext())


async def test_over_tcp_with_certificate_and_token(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    (short_path / "token").write_text(sidecar.token())
    tls = ["--tls-cert", sidecar.client.cert, "--tls-key", sidecar.client.key, "--tls-ca", sidecar.client.ca]
    async with sidecar.serving():
        where = ["--target", sidecar.url, *tls, "--token-file", short_path / "token"]
        status, out, err = await _beside(*where, "--in-flight", "3", *SHORT, "--yes", "--json")
    assert status == 0, err
    assert json.loads(out)["levels"][0]["signatures"] > 0
    assert len({record.message_sha256 for record in sidecar.cluster.records}) == len(sidecar.cluster.records) > 3


async def test_requests_that_fail_are_counted_by_kind(short_path: Path) -> None:
    grant = {"caller": "bench", "opaque": True, "per_second": 5.0, "burst": 3}
    sidecar = MemorySidecar(short_path, callers={"bench": {"unix": {}}}, grants=[grant])
    async with sidecar.serving():
        status, out, err = await _beside("--socket", sidecar.path, "--in-flight", "4", *SHORT, "--yes", "--json")
        assert status == 1, err
        [level] = json.loads(out)["levels"]
        assert list(level["errors"]) == ["too-many-requests"]
        status, out, err = await _beside("--socket", sidecar.path, "--in-flight", "4", *SHORT, "--yes")
    assert status in {1, 2}, err  # two where not even the first was let through
    if status == 1:
        assert re.search(r"\d too-many-requests", out)


async def test_where_not_one_message_is_signed_nothing_is_measured(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, callers={"bench": {"unix": {}}}, grants=[])
    async with sidecar.serving():
        where = ["--socket", sidecar.path, "--yes"]
        _refused(*await _beside(*where), "caller bench has no grant for the key 'default'")
        _refused(*await _beside(*where, "--key", "other"), "'other'")
    assert len(sidecar.cluster.records) <= 1


async def test_the_policy_of_the_page_lets_it_pass_and_the_mint_s_own_with_its_claims(short_path: Path) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = tomllib.loads(block.replace("{ uid = 1002 }", "{}"))
    sidecar = MemorySidecar(short_path, **settings)
    async with sidecar.serving():
        status, _, err = await _beside("--socket", sidecar.path, "--in-flight", "2", *SHORT, "--yes", "--json")
        assert status == 0, err
        _refused(*await _beside("--socket", sidecar.path, "--yes", "--typ", "JWT"), "typ must be bench+jwt")
    settings["policies"]["bench"] = {
        "typ": ["at+jwt"],
        "iss": ["https://mint.example"],
        "aud": ["https://api.example"],
        "max_lifetime_seconds": 900,
    }
    claims = short_path / "claims.json"
    claims.write_text('{"iss": "https://mint.example", "aud": "https://api.example"}')
    (short_path / "b").mkdir()
    sidecar = MemorySidecar(short_path / "b", **settings)
    async with sidecar.serving():
        more = ["--typ", "at+jwt", "--claims", claims]
        where = ["--socket", sidecar.path, "--in-flight", "2", *SHORT, "--yes", "--json"]
        status, _, err = await _beside(*where, *more)
        assert status == 0, err
        _refused(*await _beside(*where), "policy bench")


def test_a_signature_of_another_key_is_none(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)

    async def measure(public: bytes) -> Level:
        level = Level(2)
        async with cluster.coordinator() as coordinator:
            await ClosedLoop(coordinator, None, public, Messages(KID, 300)).run(level, 0.1)
        return level

    good = anyio.run(measure, cluster.group_public)
    assert (good.signatures > 0, good.errors) == (True, {})
    bad = anyio.run(measure, bytes(32))
    assert (bad.signatures, list(bad.errors)) == (0, [OTHER_KEY])
    assert bad.report()["p50_ms"] is None


@pytest.mark.parametrize("size", [*range(250, 262), 300, 1000, 65_536])
def test_messages_are_as_long_as_asked_and_no_two_alike(size: int) -> None:
    messages = Messages(KID, size)
    made = [next(messages) for _ in range(5)]
    assert len(set(made)) == 5
    assert {len(each) for each in made} <= {size, size + 1}


def test_a_token_made_of_a_message_is_worth_nothing() -> None:
    message = next(Messages(KID, 300))
    token = f"{message.decode()}.{b64url(KEY.sign(message))}"
    key = pyjwt_key(KEY.public_key().public_bytes_raw())
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token, key, algorithms=["EdDSA"])
    decoded = jwt.decode(token, key, algorithms=["EdDSA"], options={"verify_exp": False})
    assert (decoded["exp"], decoded["iat"], decoded["iss"]) == (1, 0, "frost-sidecar-bench")
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": KID, "typ": "bench+jwt"}
    rules = convert({"typ": ["bench+jwt"], "iss": ["frost-sidecar-bench"], "allowed": []}, JwsRules)
    rules.check(parse_jws(message), KID)


def test_claims_that_would_give_a_message_worth_are_refused() -> None:
    for name in ("exp", "iat", "nbf", "jti"):
        with pytest.raises(ConfigError, match=f"{name} is set by the benchmark"):
            Messages(KID, 300, claims={"iss": "mint", name: 2**31})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say where to sign"),
        (["--socket", "/s", "--config", "c"], "choose one"),
        (["--socket", ""], "--socket: is empty"),
        (["--socket", "/s"], "say --yes to do it"),
        (["--socket", "/nonexistent/s", "--yes"], "no answer from the sidecar at unix:/nonexistent/s"),
        (["--socket", "/s", "--in-flight", "0"], "--in-flight: 0 is not between 1 and 1024"),
        (["--socket", "/s", "--in-flight", "1025"], "--in-flight: 1025 is not between 1 and 1024"),
        (["--socket", "/s", "--in-flight", "1;2"], "commas between"),
        (["--socket", "/s", "--in-flight", "-1"], "commas between"),
        (["--socket", "/s", "--in-flight", ""], "commas between"),
        (["--socket", "/s", "--in-flight", "4,4"], "each once"),
        (["--socket", "/s", "--in-flight", ",".join(map(str, range(1, 18)))], "up to 16 numbers"),
        (["--socket", "/s", "--seconds", "0"], "--seconds: 0 is not between 0.1 and 600"),
        (["--socket", "/s", "--seconds", "601"], "--seconds: 601 is not between"),
        (["--socket", "/s", "--seconds", "nan"], "--seconds: nan is not between"),
        (["--socket", "/s", "--warm-up", "-1"], "--warm-up: -1 is not between 0 and 600"),
        (["--socket", "/s", "--claims", "/nonexistent"], "/nonexistent: cannot read it"),
        (["--socket", "/s", "--claims", "/dev/null"], "--claims: /dev/null is no JSON object"),
        (["--socket", "/s", "--svg", "/nonexistent/a.svg"], "there is no such folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], said: str) -> None:
    done = _run(*arguments)
    _refused(done.returncode, done.stdout, done.stderr, said)


def test_a_message_too_short_for_its_claims_is_refused(cluster: ProcessCluster) -> None:
    for size in (0, 100, 65_537):
        done = _run("--socket", cluster.socket, "--yes", "--message-bytes", size)
        _refused(done.returncode, done.stdout, done.stderr, f"--message-bytes: {size} is not between")


@contextlib.contextmanager
def _at_a_terminal(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command with a terminal for input and errors, and the terminal's other end."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        _command(*arguments), stdin=child, stdout=subprocess.PIPE, stderr=child, env=_environment(TERM="xterm")
    )
    os.close(child)
    try:
        yield process, parent
    finally:
        process.kill()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        os.close(parent)


def _until(terminal: int, word: bytes) -> bytes:
    """What the terminal shows up to ``word``; all of it where that does not come."""
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal says that its last writer has gone
        while word not in shown and (part := os.read(terminal, 65536)):
            shown += part
    return shown


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
def test_at_a_terminal_it_asks_first(cluster: ProcessCluster, answer: bytes, status: int) -> None:
    before = _signed(cluster.socket)
    with _at_a_terminal("--socket", cluster.socket, "--in-flight", "2", *SHORT, "--json") as (process, terminal):
        asked = _until(terminal, b"[y/N]")
        assert b"real messages with the default key" in asked
        assert _signed(cluster.socket) == before
        os.write(terminal, answer)
        shown = _until(terminal, b"never shown")
        out, _ = process.communicate(timeout=60)
        assert process.returncode == status
    if status:
        assert (out, _signed(cluster.socket)) == (b"", before)
        assert b"nothing was signed, as you said" in shown
    else:
        assert json.loads(out)["levels"][0]["signatures"] > 0
        assert b"2 in flight: " in shown


def test_ctrl_c_prints_what_there_is(cluster: ProcessCluster) -> None:
    before = _signed(cluster.socket)
    command = _command("--socket", cluster.socket, "--in-flight", "2", "--warm-up", "0", "--seconds", "600", "--yes")
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    ) as process:
        deadline = time.monotonic() + 60
        while _signed(cluster.socket) < before + 10:
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    [level] = json.loads(out)["levels"]
    assert level["signatures"] >= 5
    assert 0 < level["seconds"] < 60


def _chart(*, logarithmic: bool = False) -> str:
    lines = [Line("a & b", [0.03, 2.0, None, 30_000.0]), Line("c", [1, 2, 3, 4], right=not logarithmic)]
    return Chart("<Title>", "x, things", ["1", "2", "4", "8"], "y, ms", lines, logarithmic=logarithmic).svg()


@pytest.mark.parametrize("logarithmic", [False, True])
def test_a_chart_is_a_small_picture_that_stays_the_same(*, logarithmic: bool) -> None:
    drawn = _chart(logarithmic=logarithmic)
    assert drawn == _chart(logarithmic=logarithmic)
    assert len(drawn) < 20_000
    root = ET.fromstring(drawn)
    words = set("".join(f"\n{text}\n" for text in root.itertext()).split("\n"))
    assert {"<Title>", "x, things", "y, ms", "a & b", "c", "1", "2", "4", "8"} <= words
    assert root.get("viewBox") == "0 0 760 420"
    assert not {"{http://www.w3.org/2000/svg}script", "script"} & {each.tag for each in root.iter()}
    assert re.findall(r"https?:[^\"' ]*", drawn) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"20\d\d-\d\d", drawn)


def test_a_chart_shows_on_light_and_dark_pages() -> None:
    """Nothing of it is black or white, and its ground is the page's."""
    style = re.sub(r"\s", "", next(ET.fromstring(_chart()).iter("{http://www.w3.org/2000/svg}style")).text or "")
    painted = set(re.findall(r"(?:fill|stroke|background-color):([^;}!]+)", style))
    assert "transparent" in painted
    assert not painted & {"white", "#fff", "#000", "rgba(0,0,0,1)", "rgba(255,255,255,1)"}
