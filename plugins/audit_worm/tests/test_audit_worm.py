"""The log: writing, reading, every way to change it, and every way in which a disk or a process can fail."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest
from frost_sidecar_audit_worm import CorruptLogError, Head, Record, Report, WormSink, make_audit_sink, read, verify
from frost_sidecar_audit_worm.chain import MAX_BODY_BYTES, link
from frost_sidecar_audit_worm.writing import Log
from hypothesis import given, settings
from hypothesis import strategies as st

from frost_sidecar.errors import AuditUnavailable, ConfigError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.model import AuditRecord, AuditSession, TlsFiles
from frost_sidecar.process import convert


def record(number: int = 0, **changes: str) -> AuditRecord:
    base = AuditRecord(
        time="2026-11-22T08:00:00.000000Z",
        request_id=f"request-{number}",
        outcome="signed",
        caller="unix:mint",
        key="default",
        message_sha256="m" * 43,
        participants=(1, 3),
        sessions=(AuditSession(session="s" * 22, participants=(1, 3), package_sha256="p" * 43),),
        signature_sha256="g" * 43,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def head_of(path: Path) -> Path:
    return path.with_name("audit.log.head")


def write(path: Path, *batches: int) -> None:
    """Append batches of so many records."""
    log = Log(path)
    number = log.head.count
    for size in batches:
        log.append([record(number + index) for index in range(size)])
        number += size
    log.close()


def intact(path: Path) -> Report:
    report = verify(path)
    assert report.fault is None, str(report.fault)
    return report


def not_permitted(fd: int, size: int) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def settle(path: Path) -> None:
    """Let the file look as if nobody had written it for a while, so that verify does not wait for a writer."""
    os.utime(path, (1, 1))


def requests(path: Path) -> list[str]:
    bodies = [json.loads(each.body) for each in read(path)]
    return [body["record"]["request_id"] for body in bodies if body["kind"] == "request"]


# --- the good way -----------------------------------------------------------------------------------------------------


async def test_records_come_back_as_they_were(path: Path) -> None:
    odd = record(1, caller='line\nfeed \u2028 "quotes" \\ \0 \u00fc \U0001f512', reason="x" * 100_000)
    async with WormSink(path) as sink:
        await sink.append([record(0), odd])
        await sink.append([])
        await sink.append([record(2)])
    stored = [json.loads(each.body) for each in read(path)]
    assert [each["kind"] for each in stored] == ["request"] * 3
    assert [msgspec.convert(each["record"], AuditRecord) for each in stored] == [record(0), odd, record(2)]
    report = intact(path)
    assert (report.records, report.recovered) == (3, 0)


def test_the_files_are_for_the_owner_alone(path: Path) -> None:
    write(path, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert head_of(path).stat().st_mode & 0o777 == 0o600


async def test_a_log_goes_on_where_it_ended(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    heads = []
    for number in range(3):
        async with WormSink(path) as sink:
            await sink.append([record(number)])
        heads.append(intact(path).head)
    assert requests(path) == ["request-0", "request-1", "request-2"]
    for head in heads:
        assert verify(path, expected_head=head).fault is None
        assert head in [getattr(each, "head", None) for each in caplog.records]


def test_the_format_as_documented(path: Path) -> None:
    """The README's recipe in its own words, with nothing of the plugin's."""

    def field(data: bytes) -> bytes:
        return len(data).to_bytes(8, "big") + data

    write(path, 2, 1)
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    header = re.fullmatch(
        rb"frost-sidecar-audit 1 ([0-9a-f]{32}) [0-9-]{10}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", lines[0]
    )
    assert header
    chain = hashlib.sha256(field(b"frost-sidecar-audit/1/header") + field(lines[0] + b"\n")).digest()
    for number, line in enumerate(lines[1:], 1):
        length, sequence, digest, body = line.split(b" ", 3)
        fields = (b"frost-sidecar-audit/1/record", chain, number.to_bytes(8, "big"), body)
        chain = hashlib.sha256(b"".join(map(field, fields))).digest()
        assert (len(length), int(length)) == (8, len(body))
        assert (len(sequence), int(sequence)) == (16, number)
        assert digest.decode() == chain.hex()
        assert json.loads(body)["kind"] == "request"
    head = b"frost-sidecar-audit-head 1 %s %016d:%s\n" % (header[1], 3, chain.hex().encode())
    assert head_of(path).read_bytes() == head
    assert verify(path).head == f"3:{chain.hex()}"


async def test_durable_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One write and one flush a batch, the flush after the write and before the head; all outside of the event loop."""
    steps: list[str] = []
    names: dict[int, str] = {}
    loop_thread = threading.get_ident()

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(fd: int, *rest: object) -> object:
            assert threading.get_ident() != loop_thread
            steps.append(f"{name} {names[fd]}")
            return real(fd, *rest)

        monkeypatch.setattr(os, name, call)

    async with WormSink(path) as sink:
        assert sink._log is not None
        names |= {sink._log._fd: "log", sink._log._head_fd: "head"}
        for name in ("write", "fdatasync", "pwrite"):
            watch(name)
        await sink.append([record(number) for number in range(100)])
        assert steps == ["write log", "fdatasync log", "pwrite head"]
        monkeypatch.undo()


# --- every change is found --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    path = tmp_path_factory.mktemp("original") / "audit.log"
    write(path, 1, 2, 3)
    return path, path.read_bytes(), head_of(path).read_bytes()


def changed(data: st.DataObject, text: bytes) -> bytes:
    """One change of one byte or one line, anywhere."""
    kind = data.draw(st.sampled_from(["flip", "delete", "insert", "cut", "append", "swap", "repeat", "drop"]))
    lines = text.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(text) - 1))
    line, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    extra = data.draw(st.binary(min_size=1, max_size=3))
    match kind:
        case "flip":
            return text[:at] + bytes([text[at] ^ (1 << data.draw(st.integers(0, 7)))]) + text[at + 1 :]
        case "delete":
            return text[:at] + text[at + 1 :]
        case "insert":
            return text[:at] + extra + text[at:]
        case "cut":
            return text[:at]
        case "append":
            return text + extra
        case "swap":
            lines[line], lines[other] = lines[other], lines[line]
        case "repeat":
            lines.insert(other, lines[line])
        case _:
            del lines[line]
    return b"".join(lines)


@given(st.data())
@settings(max_examples=400)
def test_any_change_of_the_log_is_found(original: tuple[Path, bytes, bytes], data: st.DataObject) -> None:
    path, text, head = original
    found = changed(data, text)
    path.write_bytes(found)
    head_of(path).write_bytes(head)
    settle(path)
    report = verify(path)
    assert (report.fault is None) == (found == text)
    if report.fault is not None and report.records < 6:  # behind the head's six: a torn write, told of below
        with pytest.raises(ConfigError):
            Log(path)


@given(st.data())
@settings(max_examples=200)
def test_any_change_of_the_head_is_found(original: tuple[Path, bytes, bytes], data: st.DataObject) -> None:
    path, text, head = original
    found = changed(data, head)
    path.write_bytes(text)
    head_of(path).write_bytes(found)
    assert (verify(path).fault is None) == (found == head)


@pytest.mark.parametrize("line", range(7))
def test_truncation_between_records_is_found(original: tuple[Path, bytes, bytes], line: int) -> None:
    path, text, head = original
    path.write_bytes(b"".join(text.splitlines(keepends=True)[:line]))
    head_of(path).write_bytes(head)
    fault = verify(path).fault
    assert fault is not None
    if line:
        place = f"line {line + 1}, record {line}"
        assert str(fault) == f"{place}: the head file names 6 records, the log ends after {line - 1}: it was truncated"


def test_an_older_head_is_an_ancestor(path: Path) -> None:
    """As after a crash between flush and head; so an old head file put back with an unchanged log is not found."""
    write(path, 2)
    old = head_of(path).read_bytes()
    write(path, 2)
    head_of(path).write_bytes(old)
    assert intact(path).records == 4
    write(path, 1)
    assert intact(path).records == 5


def test_a_rewritten_log_is_found_by_a_head_kept_elsewhere(path: Path, tmp_path: Path) -> None:
    write(path, 3)
    kept = intact(path).head
    other = tmp_path / "other" / "audit.log"
    other.parent.mkdir()
    write(other, 5)
    shutil.copy(other, path)
    shutil.copy(head_of(other), head_of(path))
    assert intact(path).records == 5
    fault = verify(path, expected_head=kept).fault
    assert fault is not None
    assert "rewritten" in str(fault)


def test_expected_heads(path: Path) -> None:
    write(path, 3)
    head = intact(path).head
    assert head is not None
    assert verify(path, expected_head=head).fault is None
    assert verify(path, expected_head="3:" + "0" * 64).fault is not None
    assert "ends after 3" in str(verify(path, expected_head="4:" + "0" * 64).fault)
    for wrong in ("", "3", "3:abc", head.upper(), head + "\n", f"-{head}"):
        with pytest.raises(ValueError, match="COUNT:HEX"):
            verify(path, expected_head=wrong)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: lines[:2] + lines[3:], "line 3, record 2: record 3 stands where record 2 should"),
        (lambda lines: lines[:3] + lines[2:], "line 4, record 3: record 2 stands where record 3 should"),
        (lambda lines: [lines[0].replace(b"Z", b"z"), *lines[1:]], "line 1: not the header"),
        (lambda lines: [*lines[:2], lines[2].replace(b"signed", b"denied"), *lines[3:]], "line 3, record 2: the hash"),
        (lambda lines: [*lines[:2], lines[2].replace(b"signed", b"failed!"), *lines[3:]], "line 3, record 2: the body"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], "line 3, record 2: the line is not of the form"),
        (lambda lines: [*lines, b"00"], "line 8, record 7: 2 bytes of an unfinished write"),
    ],
)
def test_what_is_wrong_is_said(
    original: tuple[Path, bytes, bytes], change: Callable[[list[bytes]], list[bytes]], problem: str
) -> None:
    path, text, head = original
    path.write_bytes(b"".join(change(text.splitlines(keepends=True))))
    head_of(path).write_bytes(head)
    settle(path)
    assert str(verify(path).fault).startswith(problem)


def test_a_missing_head_file(path: Path) -> None:
    write(path, 1)
    head_of(path).unlink()
    assert "head file is missing" in str(verify(path).fault)
    with pytest.raises(ConfigError, match="head file is missing"):
        Log(path)
    assert not head_of(path).exists()


def test_files_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(path)
    path.write_bytes(os.urandom(1000))
    assert "not the header" in str(verify(path).fault)
    with pytest.raises(CorruptLogError):
        list(read(path))


def forge(path: Path, body: bytes) -> Record:
    """Append a record that the chain takes, as somebody does who can write the file."""
    head = verify(path).head
    assert head is not None
    forged = link(Head.parse(head), body)
    with path.open("ab") as file:
        file.write(forged.encode())
    return forged


GOOD = json.dumps({"kind": "request", "record": {"request_id": "x"}}).encode()
DEEP = b'{"kind":"request","record":{"a":' + b"[" * 30 + b"]" * 30 + b"}}"
RECOVERED = b'{"kind":"recovered","time":"t","bytes":1,"sha256":"s","file":"f"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"request","record":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"kind":"request","record":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"a":' * 100_000,
        b'{"kind":"request","record":{"a":' + b"[" * 31 + b"]" * 31 + b"}}",
        RECOVERED[:-1] + b',"a":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"kind":"request","record":{"request_id":"\xff\xfe"}}',
        b'{"kind":"request","record":{},"\xff":1}',
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        b'{"kind":"recovered","kind":"request","record":{}}',
        b'{"kind":"request","kind":"request","record":{}}',
        b'{"kind":"request","record":{},"record":{}}',
        b'{"kind":"request","record":{"outcome":"denied","outcome":"signed"}}',
        b'{"kind":"request","record":{"x":NaN}}',
        b'{"kind":"request","record":{"x":"\\ud800"}}',
        b'{"kind":"anything at all"}',
        b'{"kind":7,"record":{}}',
        b'{"kind":"\\u001b[2J' + b"x" * 1_000_000 + b'","record":{}}',
        b'{"kind":"request"}',
        b'{"kind":"recovered"}',
        b'{"record":{}}',
        b'["request"]',
        b"",
    ],
)
def test_a_body_that_is_none(path: Path, body: bytes) -> None:
    """The chain holds, the body does not: never a crash, never intact, and never taken for a torn write."""
    write(path, 2)
    forge(path, body)
    settle(path)
    report = verify(path)
    assert str(report.fault).startswith("line 4, record 3: the body is none of this format: ")
    assert report.records == 2
    assert str(report.fault).isprintable()
    assert len(str(report.fault)) < 400
    with pytest.raises(CorruptLogError):
        list(read(path))
    with pytest.raises(ConfigError, match="line 4, record 3: the body"):
        Log(path)
    assert not list(path.parent.glob("*.torn-*"))


def test_bodies_of_other_versions(path: Path) -> None:
    """Members that came or went, other spellings of the same value: a log outlives the program."""
    write(path, 1)
    for body in (GOOD, RECOVERED, RECOVERED[:-1] + b',"more":[1]}', GOOD.replace(b"x", b"\\u0078"), GOOD + b" ", DEEP):
        forge(path, body)
    assert (intact(path).records, intact(path).recovered) == (7, 2)
    write(path, 1)
    assert intact(path).records == 8


# --- the start --------------------------------------------------------------------------------------------------------


def plugin_context(folder: Path, **values: object) -> PluginContext:
    return PluginContext(
        name="audit_worm",
        role="coordinator",
        dev=False,
        tls=TlsFiles(folder, folder, folder),
        signers=(),
        settings=lambda kind: convert(values, kind, path="plugins.audit_worm"),
        path=folder.joinpath,
    )


async def test_the_hook_builds(tmp_path: Path) -> None:
    async with make_audit_sink(plugin_context(tmp_path, path="mint.log")) as sink:
        await sink.append([record()])
    assert verify(tmp_path / "mint.log").records == 1


def test_wrong_settings(tmp_path: Path) -> None:
    make_audit_sink(plugin_context(tmp_path))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="no-folder"):
        make_audit_sink(plugin_context(tmp_path, path="no-folder/mint.log"))
    with pytest.raises(ConfigError, match=r"plugins\.audit_worm"):
        make_audit_sink(plugin_context(tmp_path, file="mint.log"))


def test_two_writers(path: Path) -> None:
    log = Log(path)
    with pytest.raises(ConfigError, match="another process writes the audit log"):
        Log(path)
    log.append([record()])
    log.close()
    write(path, 1)
    assert intact(path).records == 2


def test_a_log_that_is_gone_at_the_start(path: Path) -> None:
    write(path, 1)
    path.unlink()
    with pytest.raises(ConfigError, match="is gone, but its head file tells of records"):
        Log(path)
    assert not path.exists()


@pytest.mark.parametrize("leftover", [b"", b"frost-sidecar-audit 1 "])
def test_a_crash_while_the_log_is_made(path: Path, leftover: bytes) -> None:
    write(path)
    path.rename(path.with_name("audit.log.new"))
    path.with_name("audit.log.new").write_bytes(leftover)
    write(path, 2)
    assert intact(path).records == 2
    assert {each.name for each in path.parent.iterdir()} == {"audit.log", "audit.log.head"}


def test_paths_that_are_no_files(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError):
        Log(path)


@pytest.mark.parametrize("kept", [1, 50, 200, -1])
def test_a_torn_write_is_set_aside_and_accounted_for(path: Path, kept: int) -> None:
    write(path, 2)
    whole, head = path.read_bytes(), head_of(path).read_bytes()
    write(path, 1)
    torn = path.read_bytes()[len(whole) :][:kept]
    path.write_bytes(whole + torn)
    head_of(path).write_bytes(head)
    settle(path)
    assert "unfinished write" in str(verify(path).fault)

    write(path, 1)
    report = intact(path)
    assert (report.records, report.recovered) == (4, 1)
    account = json.loads([each.body for each in read(path)][2])
    [aside] = path.parent.glob("audit.log.torn-*")
    assert aside.read_bytes() == torn
    assert account | {"time": ""} == {
        "kind": "recovered",
        "time": "",
        "bytes": len(torn),
        "sha256": hashlib.sha256(torn).hexdigest(),
        "file": aside.name,
    }


def test_a_torn_write_in_a_file_that_may_not_be_shortened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, 1)
    with path.open("ab") as file:
        file.write(b"0000")

    monkeypatch.setattr(os, "ftruncate", not_permitted)
    with pytest.raises(ConfigError, match=r"chattr -a"):
        Log(path)
    assert path.read_bytes().endswith(b"\n0000")
    assert not list(path.parent.glob("*.torn-*"))


def behind_the_head(path: Path, tail: bytes) -> list[bytes]:
    """A log of two records that the head knows and two that it does not, then ``tail``; returns the good lines."""
    write(path, 2)
    head = head_of(path).read_bytes()
    write(path, 2)
    head_of(path).write_bytes(head)
    lines = path.read_bytes().splitlines(keepends=True)
    with path.open("ab") as file:
        file.write(tail)
    settle(path)
    return lines


def lost_page(path: Path, at: int) -> bytes:
    """A block of 40 records of which one page never reached the disk."""
    other = path.with_name("other.log")
    write(other, 4, 40)
    block = bytearray(b"".join(other.read_bytes().splitlines(keepends=True)[5:]))
    block[at : at + 4096] = bytes(4096)
    for each in (other, other.with_name("other.log.head")):
        each.unlink()
    return bytes(block)


@pytest.mark.parametrize("at", [0, 4096, 8192])
async def test_a_power_loss_in_the_middle_of_a_write(path: Path, at: int, caplog: pytest.LogCaptureFixture) -> None:
    tail = lost_page(path, at)
    lines = behind_the_head(path, tail)
    report = verify(path)
    assert report.fault is not None
    assert report.records == 4
    async with WormSink(path) as sink:
        await sink.append([record(9)])
    [loud] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "acknowledged records may be in it" in loud.getMessage()
    [aside] = path.parent.glob("audit.log.torn-*")
    assert aside.read_bytes() == tail
    assert path.read_bytes().startswith(b"".join(lines))
    report = intact(path)
    assert (report.records, report.recovered) == (6, 1)
    account = json.loads([each.body for each in read(path)][4])
    assert account.pop("time")
    fault = account.pop("fault")
    assert fault.startswith("line 6, record 5: ")
    assert account == {
        "kind": "recovered",
        "bytes": len(tail),
        "sha256": hashlib.sha256(tail).hexdigest(),
        "file": aside.name,
        "lines": tail.count(b"\n"),
    }


def test_a_large_damaged_tail(path: Path) -> None:
    tail = bytes(17 * 1024 * 1024) + b"\nx"
    behind_the_head(path, tail)
    write(path, 1)
    [aside] = path.parent.glob("audit.log.torn-*")
    assert aside.read_bytes() == tail
    assert (intact(path).records, intact(path).recovered) == (6, 1)


@pytest.mark.parametrize(("line", "accepted"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
@pytest.mark.parametrize("how", ["zeros", "dropped", "one byte"])
def test_only_damage_behind_the_head_is_a_torn_write(path: Path, line: int, how: str, *, accepted: bool) -> None:
    lines = behind_the_head(path, b"")
    was = lines[line]
    if how == "dropped":
        lines[line] = b""
    else:
        lines[line] = bytes(len(was)) if how == "zeros" else was.replace(b"20", b"21", 1)
    damaged = b"".join(lines)
    path.write_bytes(damaged)
    settle(path)
    if (how, line) == ("dropped", 4):
        intact(path)  # cut off behind a head that never knew of it: see the README
        return
    assert verify(path).fault is not None
    if accepted:
        write(path)
        report = intact(path)
        assert (report.records, report.recovered) == (line, 1)
    else:
        with pytest.raises(ConfigError, match="not as it was written"):
            Log(path)
        assert path.read_bytes() == damaged
        assert not list(path.parent.glob("*.torn-*"))


def test_another_hash_at_the_heads_count_is_refused(path: Path) -> None:
    """With damage behind it, too: the head is looked at first."""
    behind_the_head(path, bytes(100) + b"\n")
    stored = head_of(path).read_bytes()
    digit = b"1" if stored[-2:-1] == b"0" else b"0"
    head_of(path).write_bytes(stored[:-2] + digit + b"\n")
    with pytest.raises(ConfigError, match="rewritten"):
        Log(path)


def test_the_head_of_another_log(path: Path, tmp_path: Path) -> None:
    write(path, 1)
    other = tmp_path / "other.log"
    write(other, 1)
    shutil.copy(tmp_path / "other.log.head", head_of(path))
    assert "belongs to another log" in str(verify(path).fault)
    with pytest.raises(ConfigError, match="belongs to another log"):
        Log(path)


@pytest.mark.parametrize("state", ["dangling", "existing"])
async def test_a_symbolic_link_to_the_log(tmp_path: Path, state: str) -> None:
    """Records land where the link points, with everything that belongs to them."""
    (tmp_path / "worm").mkdir()
    real, link = tmp_path / "worm" / "real.log", tmp_path / "link.log"
    link.symlink_to(Path("worm") / "real.log")
    if state == "existing":
        write(real, 1)
    async with make_audit_sink(plugin_context(tmp_path, path="link.log")) as sink:
        await sink.append([record(1)])
        with pytest.raises(ConfigError, match="another process"):
            Log(real)
    assert link.is_symlink()
    for path in (real, link):
        assert intact(path).records == (2 if state == "existing" else 1)
        assert intact(path).path == path
        assert "request-1" in requests(path)
    with real.open("ab") as file:
        file.write(b"torn")
    write(link)
    assert {each.name for each in tmp_path.iterdir()} == {"worm", "link.log"}
    assert {each.name.partition(".torn-")[0] for each in real.parent.iterdir()} == {"real.log", "real.log.head"}
    assert intact(link).recovered == 1
    real.unlink()
    with pytest.raises(ConfigError, match="is gone"):
        Log(link)


def test_symbolic_links_that_lead_nowhere(tmp_path: Path) -> None:
    loop = tmp_path / "loop.log"
    loop.symlink_to(loop)
    with pytest.raises(ConfigError, match="leads back to itself"):
        Log(loop)
    assert loop.is_symlink()
    (tmp_path / "link.log").symlink_to(tmp_path / "missing" / "real.log")
    with pytest.raises(ConfigError, match="missing does not exist"):
        make_audit_sink(plugin_context(tmp_path, path="link.log"))


# --- what is on the disk, and when ------------------------------------------------------------------------------------


@pytest.fixture
def flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Every flush: the file's name and its bytes at that moment; for the folder the names in it."""
    seen: list[tuple[str, object]] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def flush(fd: int) -> None:
            own = os.fstat(fd)
            if os.path.samestat(own, tmp_path.stat()):
                seen.append(("folder", {each.name for each in tmp_path.iterdir()}))
            else:
                [file] = [each for each in tmp_path.iterdir() if os.path.samestat(own, each.stat())]
                seen.append((file.name, file.read_bytes()))
            real(fd)

        monkeypatch.setattr(os, name, flush)

    watch("fsync")
    watch("fdatasync")
    return seen


def test_a_new_log_is_on_disk_before_it_is_used(path: Path, flushed: list[tuple[str, object]]) -> None:
    """A crash at any point leaves no log or a good one: head, then header, then the name, then the first record."""
    log = Log(path)
    header, head = path.read_bytes(), head_of(path).read_bytes()
    created = [
        ("audit.log.head", head),
        ("audit.log.new", header),
        ("folder", {"audit.log", "audit.log.head"}),
        ("audit.log", header),
        ("audit.log.head", head),
    ]
    assert flushed == created
    log.append([record()])
    assert flushed == [*created, ("audit.log", path.read_bytes())]
    assert path.read_bytes() != header
    log.close()
    assert flushed[-1] == ("audit.log.head", head_of(path).read_bytes())


def test_the_start_brings_the_head_to_the_disk(path: Path, flushed: list[tuple[str, object]]) -> None:
    """After the log, which the last process may not have flushed: whatever happens to the power, neither is behind."""
    behind_the_head(path, b"")
    flushed.clear()
    log = Log(path)
    assert flushed == [("audit.log", path.read_bytes()), ("audit.log.head", head_of(path).read_bytes())]
    assert b" %016d:" % 4 in head_of(path).read_bytes()
    log.close()


@pytest.mark.parametrize("tail", [b"torn", bytes(50) + b"\ntorn"], ids=["torn", "damaged"])
def test_a_torn_write_is_on_disk_before_it_is_cut_off(
    path: Path, flushed: list[tuple[str, object]], tail: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind_the_head(path, tail)
    flushed.clear()
    real = os.ftruncate

    def cut(fd: int, size: int) -> None:
        [aside] = path.parent.glob("audit.log.torn-*")
        assert flushed == [(aside.name, tail), ("folder", {"audit.log", "audit.log.head", aside.name})]
        real(fd, size)

    monkeypatch.setattr(os, "ftruncate", cut)
    log = Log(path)
    assert flushed[2:] == [("audit.log", path.read_bytes()), ("audit.log.head", head_of(path).read_bytes())]
    log.close()


def test_a_crash_between_the_cut_and_its_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one case in which set aside bytes have no record: the README tells of it."""
    behind_the_head(path, b"torn")
    with monkeypatch.context() as patch:
        patch.setattr(Log, "_append", not_permitted)
        with pytest.raises(ConfigError):
            Log(path)
    write(path, 1)
    assert (intact(path).records, intact(path).recovered) == (5, 0)
    [aside] = path.parent.glob("audit.log.torn-*")
    assert aside.read_bytes() == b"torn"


def test_the_longest_body(path: Path) -> None:
    room = MAX_BODY_BYTES - len(msgspec.json.encode({"kind": "request", "record": record(reason="")}))
    log = Log(path)
    with pytest.raises(AuditUnavailable, match=f"has {MAX_BODY_BYTES + 1} bytes; at most {MAX_BODY_BYTES}"):
        log.append([record(), record(reason="x" * (room + 1))])
    assert log.head.count == 0
    log.append([record(reason="x" * room)])
    log.close()
    assert [len(each.body) for each in read(path)] == [MAX_BODY_BYTES]
    assert intact(path).records == 1


# --- while it runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [lambda path: path, head_of], ids=["log", "head"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_goes_away_while_running(path: Path, which: Callable[[Path], Path], how: str) -> None:
    file = which(path)
    away = path.with_name("away")
    async with WormSink(path) as sink:
        await sink.append([record(0)])
        file.rename(away)
        if how == "replaced":
            shutil.copy(away, file)
        for _ in range(2):
            with pytest.raises(AuditUnavailable, match=r"audit\.log.* was (removed|replaced)"):
                await sink.append([record(1)])
        away.rename(file)
        await sink.append([record(2)])
    assert intact(path).records == 2


@pytest.mark.parametrize("which", [lambda path: path, head_of], ids=["log", "head"])
async def test_a_file_with_another_name_that_loses_its_own(path: Path, which: Callable[[Path], Path]) -> None:
    """Linked away and then deleted, it still has a name, but not the one under which anybody looks for it."""
    file, away = which(path), path.with_name("away")
    async with WormSink(path) as sink:
        await sink.append([record(0)])
        away.hardlink_to(file)
        await sink.append([record(1)])
        file.unlink()
        with pytest.raises(AuditUnavailable, match="was removed"):
            await sink.append([record(2)])
        away.rename(file)
        await sink.append([record(3)])
    assert intact(path).records == 3


async def test_somebody_else_writes(path: Path) -> None:
    async with WormSink(path) as sink:
        await sink.append([record(0)])
        with path.open("ab") as file:
            file.write(b"x")
        with pytest.raises(AuditUnavailable, match="changed by somebody else"):
            await sink.append([record(1)])


async def test_a_failed_flush_is_for_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def fdatasync(fd: int) -> None:
        nonlocal calls
        calls += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with WormSink(path) as sink:
        await sink.append([record(0)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fdatasync)
            with pytest.raises(AuditUnavailable, match="flushing it to disk failed"):
                await sink.append([record(1)])
        with pytest.raises(AuditUnavailable, match="restart"):
            await sink.append([record(2)])
    assert calls == 1
    write(path, 1)
    assert requests(path) == ["request-0", "request-1"]
    assert intact(path).records == 2


async def test_a_failed_write_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: len(data) // 2])

    async with WormSink(path) as sink:
        await sink.append([record(0)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(AuditUnavailable, match="No space left"):
                await sink.append([record(1)])
        assert intact(path).records == 1
        await sink.append([record(2)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            patch.setattr(os, "ftruncate", not_permitted)
            with pytest.raises(AuditUnavailable, match="takes no records any more"):
                await sink.append([record(3)])
        with pytest.raises(AuditUnavailable, match="takes no records any more"):
            await sink.append([record(4)])
    write(path, 1)
    report = intact(path)
    assert (report.records, report.recovered) == (4, 1)


async def test_a_head_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with WormSink(path) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda fd, data, at: len(data) - 1)
            with pytest.raises(AuditUnavailable, match="head file cannot be written"):
                await sink.append([record(0)])
        with pytest.raises(AuditUnavailable):
            await sink.append([record(1)])


async def test_a_cancelled_append_leaves_the_log_in_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's deadline passes while the disk hangs: the call ends, the write goes on, the next one waits for it."""
    release = threading.Event()
    real = os.fdatasync

    def slow(fd: int) -> None:
        assert release.wait(5)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    release.set()
    async with WormSink(path) as sink:
        await sink.append([record(0)])
        release.clear()
        for number in (1, 2):
            start = time.monotonic()
            with anyio.move_on_after(0.05) as scope:
                await sink.append([record(number)])
            assert scope.cancelled_caught
            assert time.monotonic() - start < 1
        assert threading.active_count() < 10
        release.set()
        await sink.append([record(3)])
    assert requests(path) == ["request-0", "request-1", "request-3"]
    assert intact(path).records == 3


async def test_a_cancelled_append_that_fails_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def failing(fd: int) -> None:
        assert release.wait(5)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with WormSink(path) as sink:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", failing)
            with anyio.move_on_after(0.05):
                await sink.append([record(0)])
            release.set()
            with pytest.raises(AuditUnavailable, match="takes no records"):
                await sink.append([record(1)])


async def test_use_outside_of_its_context(path: Path) -> None:
    with pytest.raises(RuntimeError):
        await WormSink(path).append([record()])


def test_verify_beside_a_writer(path: Path) -> None:
    stop = threading.Event()
    faults: list[object] = []
    log = Log(path)

    def watch() -> None:
        while not stop.is_set():
            report = verify(path)
            if report.fault:
                faults.append(report.fault)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(150):
        log.append([record(number, reason="x" * 3000) for _ in range(10)])
    stop.set()
    watcher.join()
    log.close()
    assert not faults
    assert intact(path).records == 1500


def test_verify_waits_for_a_write_under_way(path: Path) -> None:
    write(path, 1)
    head, whole = head_of(path).read_bytes(), path.read_bytes()
    write(path, 1)
    line = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + line[:100])
    head_of(path).write_bytes(head)

    def finish() -> None:
        time.sleep(0.1)
        with path.open("ab") as file:
            file.write(line[100:])

    writer = threading.Thread(target=finish)
    writer.start()
    assert intact(path).records == 2
    writer.join()


# --- real processes ---------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from frost_sidecar.model import AuditRecord
from frost_sidecar_audit_worm.writing import Log

log = Log(Path(sys.argv[1]))
print("ready", flush=True)
number = int(sys.argv[2])
blob = "m" * 5000
while True:
    batch = [
        AuditRecord(time="", request_id=f"{number}-{i}", outcome="signed", caller="c", key="k", message_sha256=blob)
        for i in range(20)
    ]
    log.append(batch)
    print(number, flush=True)
    number += 1
"""


def test_no_acknowledged_record_is_lost_by_kill_9(path: Path) -> None:
    acknowledged: set[int] = set()
    for life in range(6):
        command = [sys.executable, "-c", WRITER, str(path), str(life * 1000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            acknowledged |= {int(writer.stdout.readline()) for _ in range(3)}
            time.sleep(0.0007 * life)
            writer.kill()
            acknowledged |= {int(line) for line in writer.stdout}
        write(path)
        intact(path)
        stored = requests(path)
        assert stored == sorted(stored, key=lambda each: tuple(map(int, each.split("-"))))
        assert {f"{batch}-{index}" for batch in acknowledged for index in range(20)} <= set(stored)


def test_a_full_disk(path: Path) -> None:
    """A real limit of the kernel: the write comes back short, then fails; more room, and the log goes on."""
    program = """
import resource, sys
from pathlib import Path
from frost_sidecar.errors import AuditUnavailable
from frost_sidecar.model import AuditRecord
from frost_sidecar_audit_worm.writing import Log

record = AuditRecord(time="", request_id="r", outcome="signed", caller="c", key="k", message_sha256="m" * 1000)
log = Log(Path(sys.argv[1]))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
log.append([record] * 2)
for _ in range(2):
    try:
        log.append([record] * 5)
    except AuditUnavailable as error:
        print(error)
log.append([record])
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.append([record] * 5)
log.close()
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write to {path}: File too large\n" * 2
    assert intact(path).records == 8


def test_the_lock_ends_with_the_process(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), "0"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(ConfigError, match="another process"):
            Log(path)
        writer.kill()
        writer.stdout.read()
    write(path, 1)
    intact(path)


def test_heads_as_text() -> None:
    head = Head(12, bytes(range(32)))
    assert Head.parse(str(head)) == head
