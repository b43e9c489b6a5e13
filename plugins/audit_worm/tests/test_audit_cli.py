"""The host's commands over this plugin's logs."""

import json
import sys
from pathlib import Path

import pytest
from frost_sidecar_audit_worm import verify
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
