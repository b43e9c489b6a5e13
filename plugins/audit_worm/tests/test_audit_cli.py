"""The host's commands over this plugin's logs."""

import json
import os
import sys
from pathlib import Path

import pytest
from frost_sidecar_audit_worm import Head, verify
from frost_sidecar_audit_worm.chain import link
from frost_sidecar_audit_worm.writing import Log
from typer.testing import CliRunner, Result

from frost_sidecar.cli.audit import audit
from frost_sidecar.model import AuditRecord


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(audit, [str(each) for each in arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    log = Log(path)
    for number in range(3):
        record = AuditRecord(
            time="2026-11-22T08:00:00Z",
            request_id=f"r{number}",
            outcome="denied",
            caller="unix:mint",
            key="default",
            message_sha256="m",
            reason="not\nallowed",
        )
        log.append([record])
    log.close()
    return path


def test_an_intact_log(path: Path) -> None:
    result = run("verify", path)
    assert result.exit_code == 0
    assert "intact" in result.output
    assert "NOT" not in result.output
    answer = json.loads(run("verify", path, "--json").output)
    assert answer == {
        "intact": True,
        "file": str(path),
        "log_id": verify(path).log_id,
        "created": verify(path).created,
        "records": 3,
        "recovered": 0,
        "head": verify(path).head,
        "fault": None,
    }


def test_a_changed_log(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"r1"', b'"rX"'))
    result = run("verify", path)
    assert result.exit_code == 1
    assert "NOT INTACT" in result.output
    assert "record 2" in result.output
    result = run("verify", path, "--json")
    assert result.exit_code == 1
    fault = json.loads(result.output)["fault"]
    assert (fault["line"], fault["record"]) == (3, 2)
    result = run("show", path)
    assert result.exit_code == 1
    assert "r0" in result.output
    assert "record 2" in result.stderr


def test_an_expected_head(path: Path) -> None:
    head = verify(path).head
    assert head is not None
    assert run("verify", path, "--expect-head", head).exit_code == 0
    assert run("verify", path, "--expect-head", "3:" + "0" * 64).exit_code == 1
    result = run("verify", path, "--expect-head", "nonsense")
    assert result.exit_code == 2
    assert "--expect-head" in result.stderr


@pytest.mark.parametrize(
    "name", ["[/].log", "[green]intact[/green].log", ":smile:.log", "[link=x]a.log", "a\x1b[31m.log"]
)
def test_a_path_that_looks_like_markup(path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = path.parent / name.replace("/", "") / "["
    folder.mkdir(parents=True)
    file = folder / "]x.log" if "/" in name else folder / name
    path.rename(file)
    path.with_name("audit.log.head").rename(file.with_name(file.name + ".head"))
    monkeypatch.setenv("COLUMNS", "1000")
    result = run("verify", file)
    assert result.exit_code == 0, result.exception
    assert (str(file) if str(file).isprintable() else json.dumps(str(file))) in result.output
    assert "\x1b[31m" not in result.output
    missing = run("verify", folder / "[/]")
    assert missing.exit_code == 2
    assert "[/]: No such file" in missing.stderr


def test_a_path_that_is_no_utf_8(path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff.log"))
    path.rename(file)
    path.with_name("audit.log.head").rename(file.with_name(file.name + ".head"))
    result = run("verify", file)
    assert result.exit_code == 0, result.exception


def append(path: Path, body: bytes) -> None:
    """A record that the chain takes, as somebody writes it who can write the file."""
    head = verify(path).head
    assert head is not None
    with path.open("ab") as file:
        file.write(link(Head.parse(head), body).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"request","record":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"kind":"request","record":"\xff"}',
    ],
    ids=["nested", "not UTF-8"],
)
def test_a_body_that_is_hostile(path: Path, body: bytes) -> None:
    append(path, body)
    for command in (["verify"], ["verify", "--json"], ["show"], ["show", "--json"]):
        result = run(*command, path)
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert (
            "the body is none of this format" in " ".join((result.output + result.stderr).split())
            or "--json" in command
        )


def test_a_body_that_is_strange(path: Path) -> None:
    """Whatever the log takes can be shown, and nothing in it speaks to the terminal."""
    append(path, b'{"kind":"request","record":{"a":' + b"[" * 30 + b"]" * 30 + b"}}")
    append(path, b'{"kind":"request","record":{"\\u0007x\\u202e":"\\u001b[2J","[/]":"[/]"}}')
    result = run("show", path)
    assert result.exit_code == 0, result.exception
    assert not set(result.output) & set("\x1b\x07\u202e")  # not \x1b alone: into a file, colours are dropped anyway
    assert "[/]=[/]" in result.output


@pytest.mark.parametrize("command", ["verify", "show"])
def test_a_file_that_cannot_be_read(path: Path, command: str) -> None:
    result = run(command, path.with_name("none.log"))
    assert result.exit_code == 2
    assert "none.log: No such file" in result.stderr


@pytest.mark.parametrize("command", ["verify", "show"])
def test_without_the_plugin(path: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "frost_sidecar_audit_worm", None)
    result = run(command, path)
    assert result.exit_code == 2
    assert "install frost-sidecar-audit-worm" in result.stderr


def test_show(path: Path) -> None:
    result = run("show", path)
    assert result.exit_code == 0
    first, *rest = result.output.splitlines()
    assert len(rest) == 2
    assert first.split()[:4] == ["1", "kind=request", "time=2026-11-22T08:00:00Z", "request_id=r0"]
    assert '"not\\nallowed"' in first
    stored = [json.loads(line) for line in run("show", path, "--json").output.splitlines()]
    assert [each["record"]["request_id"] for each in stored] == ["r0", "r1", "r2"]
