"""The command line as a user meets it: a process, its output, and its exit status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import stat
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from frost_sidecar.encoding import b64decode
from frost_sidecar.keygen.dealer import deal
from frost_sidecar.keygen.group import Group
from frost_sidecar.testing.authority import Authority

COMMANDS = ["demo", "serve", "signer", "sign", "verify", "check", "keygen", "audit", "plugins", "bench"]


def _run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a plain environment, wide enough for tables."""
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "400", "PYTHONWARNINGS": "error", **environ}
    return subprocess.run(
        [sys.executable, "-m", "frost_sidecar", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    """One line on standard error, exit status 2, nothing on standard output."""
    assert (done.returncode, done.stdout) == (2, ""), done
    [line] = done.stderr.splitlines()
    assert line.startswith("frost-sidecar")
    assert said in line


def test_help_names_every_command() -> None:
    for arguments, code in ((["--help"], 0), ([], 2)):
        done = _run(*arguments)
        assert done.returncode == code
        assert all(f" {command} " in done.stdout + done.stderr for command in COMMANDS)


SUBCOMMANDS = [
    ["keygen", "dealer"],
    ["keygen", "import"],
    ["keygen", "seal"],
    ["keygen", "reseal"],
    ["keygen", "unseal"],
    ["audit", "verify"],
    ["audit", "show"],
]


@pytest.mark.parametrize("command", [*([each] for each in COMMANDS), *SUBCOMMANDS])
def test_every_command_has_help(command: list[str]) -> None:
    done = _run(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: python -m frost_sidecar {' '.join(command)}" in done.stdout


def test_an_unknown_command_or_option_is_a_usage_error() -> None:
    for arguments in (["mint"], ["serve", "--port", "1"], ["keygen", "dealer"], ["signer"]):
        done = _run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr


def test_the_host_alone_has_a_command_line() -> None:
    """Neither PyJWT nor any plugin is a dependency of the host: only the demo asks for them."""
    without = ["jwt", "frost_sidecar_audit_worm", "frost_sidecar_auth_hs256", "frost_sidecar_transport_mtls"]
    code = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {without} else find(name, *rest)
sys.modules |= dict.fromkeys({without})
from frost_sidecar.cli import main
main()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run([*command, "plugins", "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run([*command, "demo"], capture_output=True, text=True, timeout=60, check=False)
    _refused(done, "install pyjwt frost-sidecar-transport-mtls frost-sidecar-auth-hs256 frost-sidecar-audit-worm")


def test_dealing_as_json(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    done = _run("keygen", "dealer", "-t", "2", "-n", "3", "-o", folder, "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["group_file"] == str(folder / "group.json")
    assert answer["share_files"] == {str(i): str(folder / f"share-{i}.json") for i in (1, 2, 3)}
    assert Group.load("default", folder / "group.json").public == b64decode(answer["group_public_b64"])
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in answer["share_files"].values()} == {0o600}
    assert done.stderr.startswith("Warning: A dealer saw the whole key")


def test_dealing_as_a_table(tmp_path: Path) -> None:
    done = _run("keygen", "dealer", "--threshold", "2", "--signers", "3", "--out", tmp_path / "keys")
    assert done.returncode == 0
    for said in ("2 of 3, public key", "group.json", "share-1.json", "share-3.json", "0600", "signer 2, nobody else"):
        assert said in done.stdout
    assert "Warning" in done.stderr
    assert "Warning" not in done.stdout
    secret = json.loads((tmp_path / "keys" / "share-1.json").read_text())["signing_share"]
    assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["a[/b]c", "[red]x", "[link=file:///]", "deep/" * 20 + "end", "caf\u00e9"])
@pytest.mark.parametrize("columns", ["20", "400"])
def test_paths_come_out_whole_in_a_pipe(tmp_path: Path, name: str, columns: str) -> None:
    folder = tmp_path / name
    done = _run("keygen", "dealer", "-t", "2", "-n", "2", "-o", folder, COLUMNS=columns)
    assert done.returncode == 0, done.stderr
    for file in ("group.json", "share-1.json", "share-2.json"):
        assert sum(f" {folder / file} " in line for line in done.stdout.splitlines()) == 1


def test_a_name_that_would_steer_the_terminal_is_shown_in_escapes(tmp_path: Path) -> None:
    for name, shown in ((b"\x1b[31m", r"\u001b[31m"), (b"a\nb", r"a\nb"), (b"\xff", r"\udcff")):
        folder = tmp_path / os.fsdecode(name)
        done = _run("keygen", "dealer", "-t", "2", "-n", "2", "-o", folder)
        assert done.returncode == 0, done.stderr
        assert f"{shown}/group.json" in done.stdout
        assert "\x1b" not in done.stdout
        as_json = _run("keygen", "dealer", "-t", "2", "-n", "2", "-o", f"{folder}-2", "--json")
        assert Path(json.loads(as_json.stdout)["group_file"]).is_file()
        refused = _run("keygen", "dealer", "-t", "2", "-n", "2", "-o", folder)
        _refused(refused, "File exists")
        assert shown in refused.stderr


@pytest.mark.parametrize("columns", [40, 400])
def test_paths_come_out_whole_in_a_terminal(tmp_path: Path, columns: int) -> None:
    """A narrow terminal gets lines that it breaks itself: what is copied from it has no breaks."""
    folder = tmp_path / "a[/b]c" / ("long-" * 20)
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm"}
    command = [sys.executable, "-m", "frost_sidecar", "keygen", "dealer", "-t", "2", "-n", "2", "-o", str(folder)]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=subprocess.DEVNULL, env=environment)
    os.close(child)
    printed = b""
    with contextlib.suppress(OSError):  # how a terminal says that its last writer has gone
        while part := os.read(parent, 65536):
            printed += part
    os.close(parent)
    assert process.wait(60) == 0
    assert str(folder / "share-2.json") in printed.decode()


def test_every_command_ends_with_one_line_where_it_cannot_write() -> None:
    for arguments in (["plugins"], ["plugins", "--json"], ["--help"], ["keygen", "--help"], ["verify", "--help"]):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "frost_sidecar", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (2, b"frost-sidecar: No space left on device\n"), arguments
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (141, b""), arguments


def _pem(folder: Path, encryption: KeySerializationEncryption, *, ed25519: bool = True) -> Path:
    key = Ed25519PrivateKey.generate() if ed25519 else generate_private_key(SECP256R1())
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return folder / "key.pem"


def test_splitting_a_key_keeps_its_public_key(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    done = _run("keygen", "dealer", "-t", "2", "-n", "2", "-o", tmp_path / "keys", "--split", pem, "--json")
    assert b64decode(json.loads(done.stdout)["group_public_b64"]) == key.public_key().public_bytes_raw()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "cannot read"),
        ("garbage", "is not an unencrypted private key in PEM"),
        ("encrypted", "is not an unencrypted private key in PEM"),
        ("p256", "is not an Ed25519 key"),
    ],
)
def test_a_key_that_cannot_be_split(tmp_path: Path, kind: str, said: str) -> None:
    pem = tmp_path / "key.pem"
    if kind == "garbage":
        pem.write_bytes(b"-----BEGIN PRIVATE" + b" KEY-----\nsecret\n")
    elif kind != "missing":
        _pem(tmp_path, BestAvailableEncryption(b"x") if kind == "encrypted" else NoEncryption(), ed25519=kind != "p256")
    done = _run("keygen", "dealer", "-t", "2", "-n", "2", "-o", tmp_path / "keys", "--split", pem)
    _refused(done, f"--split: {'cannot read ' if kind == 'missing' else ''}{pem}")
    assert said in done.stderr
    assert not (tmp_path / "keys").exists()


def test_dealing_what_cannot_be_dealt(tmp_path: Path) -> None:
    _refused(_run("keygen", "dealer", "-t", "4", "-n", "3", "-o", tmp_path / "keys"), "4 of 3 is no threshold")
    (tmp_path / "group.json").write_text("precious")
    _refused(_run("keygen", "dealer", "-t", "2", "-n", "3", "-o", tmp_path), "group.json: File exists")
    assert [each.name for each in tmp_path.iterdir()] == ["group.json"]


def test_the_list_of_plugins() -> None:
    done = _run("plugins", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert {"transport_mtls", "auth_hs256", "audit_worm"} <= set(found)
    assert found["audit_worm"] == ["frost-sidecar-audit-worm 0.1.0"]
    table = _run("plugins")
    assert all(f" {name} " in table.stdout for name in found)


COORDINATOR = """
server.socket = "sign.sock"
[[signers]]
identifier = 1
url = "https://127.0.0.1:1"
zone = "a"
[[signers]]
identifier = 2
url = "https://127.0.0.1:2"
zone = "b"
"""
PLUGINS = '[plugins.transport_mtls]\n[plugins.auth_hs256]\nsecret_b64 = "c2VjcmV0"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys and certificates that fit; the working directory, from which the default state counts."""
    monkeypatch.chdir(tmp_path)
    deal(tmp_path / "frost_state", min_signers=2, max_signers=2)
    files = Authority(tmp_path / "tls").issue("own", ["own.frost.test"])
    assert files.cert == tmp_path / "tls" / "own.crt"
    return tmp_path


NAMED = 'name = "s"\nclients.names = ["DNS:own.frost.test"]\n'
TLS = '[tls]\ncert = "tls/own.crt"\nkey = "tls/own.key"\nca = "tls/ca.crt"\n'


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "signers: is missing"),
        ("x = ", "not a TOML file"),
        ("colour = 1\n" + COORDINATOR, "colour: unknown key"),
        (COORDINATOR.replace("identifier = 2", "identifier = 1"), "signers[1].identifier: 1 already stands"),
        (COORDINATOR.replace('"sign.sock"', "5"), "server.socket"),
        ('log.level = "loud"\n' + COORDINATOR, "log.level: unknown level"),
        ('state = "nowhere"\n' + COORDINATOR, "keys.default: cannot read the group file"),
        (COORDINATOR + TLS, "plugins: a coordinator needs exactly 1 plugin with the hook make_transport"),
        (COORDINATOR + TLS + "[plugins.acme]\n", "plugin acme: is configured but not installed"),
        (COORDINATOR + TLS + PLUGINS.replace("c2VjcmV0", "!"), "plugins.auth_hs256"),
        (COORDINATOR + TLS + PLUGINS.replace("secret_b64", "secert"), "plugins.auth_hs256.secert: unknown key"),
        (COORDINATOR.replace("identifier = 2", "identifier = 7") + TLS + PLUGINS, "needs 2 of the signers [1, 2]"),
    ],
)
def test_a_sidecar_that_cannot_start(folder: Path, toml: str, said: str) -> None:
    file = folder / "frost-sidecar.toml"
    file.write_text(toml)
    _refused(_run("serve", "--config", file), said)
    assert not (folder / "sign.sock").exists()


def test_a_sidecar_without_its_file(tmp_path: Path) -> None:
    _refused(_run("serve", "--config", tmp_path / "no.toml"), "cannot read the configuration file: No such file")
    _refused(_run("serve", FROST_SIDECAR_CONFIG=str(tmp_path / "no.toml")), "no.toml: cannot read")
    _refused(_run("serve"), "signers: is missing")
    _refused(_run("serve", FROST_SIDECAR_DEV="maybe"), "FROST_SIDECAR_DEV: use 1 or 0")


def test_the_log_level_of_a_rust_deployment_does_not_stop_the_start(folder: Path) -> None:
    file = folder / "frost-sidecar.toml"
    file.write_text(COORDINATOR + TLS)
    _refused(_run("serve", "--config", file, RUST_LOG="info,hyper=warn"), "the hook make_transport")
    _refused(_run("serve", "--config", file, RUST_LOG="frost_coord=debug"), "the hook make_transport")
    _refused(_run("serve", "--config", file, RUST_LOG="off,frost_coord"), "the hook make_transport")
    _refused(_run("serve", "--config", file, LOG_LEVEL="loud"), "log.level: unknown level 'loud'")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "name: is missing"),
        ('name = "s"\nbind = "7101"\n', "bind: use HOST:PORT"),
        ('name = "s"\nserver.socket = "x"\n', "server: unknown key"),
        ('name = "s"\n', "clients.names: say which certificates may call"),
        ('name = "s"\nclients.names = []\n', "clients.names: say which certificates may call"),
        (NAMED, "tls.cert: cannot use"),
        ('name = "s"\ndev = true\n', "tls.cert: cannot use"),
        (NAMED + TLS, "plugins: a signer needs at least 1 plugin with the hook make_authenticator"),
        (NAMED + TLS + "[plugins.acme]\n", "plugin acme: is configured but not installed"),
    ],
)
def test_a_signer_that_cannot_start(folder: Path, toml: str, said: str) -> None:
    file = folder / "signer.toml"
    file.write_text(toml)
    _refused(_run("signer", "--config", file), said)


def test_a_signer_without_its_file(tmp_path: Path) -> None:
    _refused(_run("signer", "--config", tmp_path / "no.toml"), "cannot read the configuration file: No such file")
