"""Logging: the host application's own is left alone, fields arrive as extra, and the command line writes JSON."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import frost_sidecar
from frost_sidecar.errors import ConfigError
from frost_sidecar.logs import configure, get_logger


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, given back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    access = logging.getLogger("aiohttp.access").level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(access)


def _fail() -> None:
    raise ValueError("the cause")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout + done.stderr


def test_importing_the_library_changes_nothing_of_the_hosts_logging() -> None:
    code = """
import logging, structlog
logging.basicConfig(level="ERROR", format="host %(message)s")
root = logging.getLogger()
before = root.handlers[:], root.level, logging.getLoggerClass(), logging.getLogRecordFactory(), logging.lastResort
import frost_sidecar, frost_sidecar.coordinator, frost_sidecar.signer, frost_sidecar.cli
after = root.handlers[:], root.level, logging.getLoggerClass(), logging.getLogRecordFactory(), logging.lastResort
assert before == after and not structlog.is_configured() and not logging.root.manager.disable
ours = logging.getLogger("frost_sidecar")
assert ours.propagate and ours.level == logging.NOTSET, ours
assert [type(each) for each in ours.handlers] == [logging.NullHandler]
frost_sidecar.logs.get_logger("frost_sidecar.x").error("seen", field=1)
frost_sidecar.logs.get_logger("frost_sidecar.x").info("not seen")
"""
    assert _python(code) == "host seen\n"


def test_without_any_logging_of_the_host_we_write_nothing() -> None:
    code = "from frost_sidecar.logs import get_logger; get_logger('frost_sidecar.x').error('unheard', field=1)"
    assert _python(code) == ""


def test_fields_arrive_as_extra(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="frost_sidecar"):
        get_logger("frost_sidecar.test").info("signer failed", signer="signer-1", kind="timeout", cool_down_seconds=1.5)
    [record] = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("frost_sidecar.test", "INFO", "signer failed")
    assert record.__dict__["signer"] == "signer-1"
    assert record.__dict__["cool_down_seconds"] == 1.5


@pytest.mark.parametrize("event", ["100 %", "%s", "%(name)s", "{}", "a\nb"])
def test_the_event_is_no_format(caplog: pytest.LogCaptureFixture, event: str) -> None:
    with caplog.at_level("INFO", logger="frost_sidecar"):
        get_logger("frost_sidecar.test").info(event, value="%d")
    assert caplog.messages == [event]


def test_an_exception_arrives_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="frost_sidecar"):
        try:
            _fail()
        except ValueError:
            get_logger("frost_sidecar.test").exception("failed by a defect", request_id="r")
    [record] = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the cause"
    assert (record.levelname, record.__dict__["request_id"]) == ("ERROR", "r")


def test_the_cause_may_be_handed_over(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="frost_sidecar"):
        get_logger("frost_sidecar.test").error("plugin failed", plugin="p", method="m", why="w", exc_info=KeyError("k"))
    [record] = caplog.records
    assert record.exc_info is not None
    assert repr(record.exc_info[1]) == "KeyError('k')"
    assert [record.__dict__[each] for each in ("plugin", "method", "why")] == ["p", "m", "w"]


def test_a_level_that_is_off_costs_no_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="frost_sidecar"):
        get_logger("frost_sidecar.test").info("too quiet", field=1)
    assert caplog.records == []


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_lines_form_is_one_json_object_a_line(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info")
    get_logger("frost_sidecar.test").warning("listening", socket=Path("/run/x"), signers={1: "a"}, text="é\n\ud800")
    logging.getLogger("other.library").error("plain %s", "words", extra={"more": 1})
    get_logger("frost_sidecar.test").debug("not at this level")
    try:
        _fail()
    except ValueError:
        get_logger("frost_sidecar.test").exception("failed")
    output = capsys.readouterr()
    assert output.out == ""
    ours, other, failed = _lines(output.err)
    assert ours["event"] == "listening"
    assert ours["level"] == "warning"
    assert ours["logger"] == "frost_sidecar.test"
    assert "/run/x" in ours["socket"]
    assert (ours["text"], ours["signers"]) == ("é\n\ud800", {"1": "a"})
    assert ours["timestamp"].endswith("Z")
    assert (other["event"], other["more"], other["logger"]) == ("plain words", 1, "other.library")
    assert "ValueError: the cause" in failed["exception"]


@pytest.mark.parametrize(
    ("level", "number"),
    [
        ("debug", logging.DEBUG),
        ("trace", logging.DEBUG),
        ("INFO", logging.INFO),
        ("warn", logging.WARNING),
        ("Warning", logging.WARNING),
        ("error", logging.ERROR),
        ("critical", logging.CRITICAL),
    ],
)
def test_levels_of_both_worlds(root: logging.Logger, level: str, number: int) -> None:
    configure(level)
    assert root.level == number
    assert len(root.handlers) == 1


@pytest.mark.parametrize("level", ["", "loud", "10", "info,h2=warn", "frost_coord=debug"])
def test_an_unknown_level_is_refused(root: logging.Logger, level: str) -> None:
    before = root.handlers[:], root.level
    with pytest.raises(ConfigError, match="unknown level") as caught:
        configure(level)
    assert caught.value.path == "log.level"
    assert (root.handlers, root.level) == before


def _log_calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            yield node


def test_no_call_uses_a_field_that_logging_keeps_for_itself() -> None:
    """``logging`` raises KeyError for them, and would do so only when the line is reached; ``exc_info`` is meant."""
    reserved = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "event"} - {"exc_info"}
    calls = [
        (file.name, call.lineno, keyword.arg)
        for file in Path(frost_sidecar.__file__).parent.rglob("*.py")
        for call in _log_calls(ast.parse(file.read_text("utf-8")))
        for keyword in call.keywords
    ]
    assert len(calls) > 20
    assert [call for call in calls if call[2] in reserved] == []
