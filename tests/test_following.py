"""Files that are followed: every way in which they change, and every way in which that can go wrong."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from frost_sidecar.errors import ConfigError
from frost_sidecar.following import Following, read_once
from frost_sidecar.testing.mount import WAYS, Way, put

SECONDS = 8.0
"""Enough for two looks, on a machine that does other things, too."""


class Reader:
    """Reads ``a`` and ``b``, which must say the same; counts."""

    def __init__(self, folder: Path, expires: float | None = None) -> None:
        self.folder = folder
        self.expires = expires
        self.value = ""
        self.reads = 0
        self.defect: Exception | None = None
        self.hang = threading.Event()
        self.hang.set()

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "a", self.folder / "b"]

    def __call__(self) -> float | None:
        self.reads += 1
        self.hang.wait(30)
        if self.defect:
            raise self.defect
        try:
            first, second = (path.read_text() for path in self.paths)
        except OSError as error:
            raise ConfigError(f"cannot read: {error.strerror}", path="x") from None
        if first != second or not first.endswith("."):
            raise ConfigError("a and b do not fit", path="x")
        self.value = first
        return self.expires


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come"
        time.sleep(0.02)


def both(text: str) -> dict[str, bytes]:
    return {"a": text.encode(), "b": text.encode()}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frost_sidecar.following.LOOK_SECONDS", 0.15)
    monkeypatch.setattr("frost_sidecar.following._RETRY_SECONDS", 0.6)


@pytest.fixture
def counted() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def following(counted: list[tuple[str, str]]) -> Iterator[Following]:
    with Following(lambda *each: counted.append(each)) as following:
        yield following


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_new_files_are_taken_however_they_come(
    tmp_path: Path, following: Following, counted: list[tuple[str, str]], way: Way, pause: float
) -> None:
    folder = tmp_path / "files"
    put(folder, both("first."), way)
    reader = Reader(folder)
    following.follow("x", reader.paths, reader)
    assert (reader.value, reader.reads, counted) == ("first.", 1, [])
    seen = set()
    for _ in way(folder, both("second.")):
        end = time.monotonic() + pause
        while time.monotonic() < end:
            seen.add(reader.value)
            time.sleep(0.02)
    until(lambda: reader.value == "second." and "x" not in following.faults)
    assert seen <= {"first.", "second."}
    assert counted[-1] == ("x", "ok")
    reads = reader.reads
    time.sleep(0.5)
    assert reader.reads == reads  # nothing changed, nothing is read


def test_files_that_are_just_being_written_are_not_read(
    tmp_path: Path, following: Following, counted: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frost_sidecar.following.LOOK_SECONDS", 0.5)
    put(tmp_path, both("0."), WAYS["in place"])
    reader = Reader(tmp_path)
    following.follow("x", reader.paths, reader)
    for turn in range(1, 5):
        time.sleep(0.4)  # the last look was just now: the next one falls between the two files
        for _ in WAYS["in place"](tmp_path, both(f"{turn}.")):
            time.sleep(0.2)  # shorter than the time between two looks
        until(lambda turn=turn: reader.value == f"{turn}.")  # type: ignore[misc]
    assert set(counted) == {("x", "ok")}


def test_files_that_cannot_be_used_change_nothing_and_are_said_once(
    tmp_path: Path, following: Following, counted: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, both("first."))
    reader = Reader(tmp_path)
    with caplog.at_level(logging.INFO):
        following.follow("x", reader.paths, reader)
        (tmp_path / "a").resolve().write_text("other.")
        until(lambda: bool(following.faults))
        assert following.faults == {"x": "x: a and b do not fit"}
        until(lambda: reader.reads >= 3)  # tried again without a change
        assert (reader.value, counted) == ("first.", [("x", "failed")])
        assert caplog.text.count("files cannot be used") == 1
        (tmp_path / "a").unlink()
        until(lambda: following.faults == {"x": "x: cannot read: No such file or directory"})
        assert counted == [("x", "failed")] * 2
        put(tmp_path, both("third."))
        until(lambda: reader.value == "third." and not following.faults)
    assert counted[-1] == ("x", "ok")
    assert "files taken over" in caplog.text


def test_what_was_wrong_elsewhere_is_found_to_be_right_again(tmp_path: Path, following: Following) -> None:
    put(tmp_path, both("first."))
    reader = Reader(tmp_path)
    following.follow("x", reader.paths, reader)
    reader.defect = ConfigError("the disk of something else is full")
    put(tmp_path, both("second."))
    until(lambda: bool(following.faults))
    reader.defect = None
    until(lambda: reader.value == "second." and not following.faults)


def test_a_defect_of_a_reload_ends_nothing_and_floods_no_log(
    tmp_path: Path, following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, both("first."))
    reader = Reader(tmp_path)
    following.follow("x", reader.paths, reader)
    reader.defect = RuntimeError("secret words")
    put(tmp_path, both("second."))
    until(lambda: reader.reads >= 3, 15)
    assert following.faults == {"x": "a defect: RuntimeError"}
    assert caplog.text.count("reload failed by a defect") == 1
    reader.defect = None
    until(lambda: reader.value == "second.")


def test_files_that_cannot_be_used_at_the_start_stop_it(tmp_path: Path, following: Following) -> None:
    reader = Reader(tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        following.follow("x", reader.paths, reader)
    assert (following.faults, following.expiries, following.terms) == ({}, {}, {})
    put(tmp_path, both("now."))
    following.follow("x", reader.paths, reader)
    assert reader.value == "now."


def test_the_end_of_validity_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    put(tmp_path, both("first."))
    end = time.time() + 100
    reader, endless = Reader(tmp_path, end), Reader(tmp_path)
    with Following(expires=lambda *each: told.append(each)) as following:
        following.follow("x", reader.paths, reader)
        following.follow("y", endless.paths, endless)
        assert (told, following.expiries) == ([("x", end)], {"x": end})
        assert 95 < following.terms["x"] <= 100
        reader.expires = end + 1000
        put(tmp_path, both("second."))
        until(lambda: following.expiries == {"x": end + 1000})
        assert told == [("x", end), ("x", end + 1000)]
        assert 1000 < following.terms["x"] <= 1100
        reader.expires = None
        put(tmp_path, both("third."))
        until(lambda: following.expiries == {})
        assert told[2:] == [("x", math.inf)]  # or the metric would warn of an end that is none


def test_a_folders_entries_count(tmp_path: Path, following: Following) -> None:
    reads: list[set[str]] = []
    following.follow("keys", [tmp_path], lambda: reads.append({each.name for each in tmp_path.iterdir()}))
    (tmp_path / "one.pem").write_text("1")
    until(lambda: reads[-1] == {"one.pem"})
    count = len(reads)
    (tmp_path / "one.pem").write_text("2")
    until(lambda: len(reads) > count)
    (tmp_path / "one.pem").unlink()
    until(lambda: reads[-1] == set())


def test_rights_count_as_a_change(tmp_path: Path, following: Following) -> None:
    file = tmp_path / "key"
    file.write_text("k")
    modes: list[int] = []
    following.follow("key", [file], lambda: modes.append(file.stat().st_mode & 0o777))
    file.chmod(0o600 if modes == [0o644] else 0o644)
    until(lambda: len(modes) == 2)


def test_a_content_of_the_same_size_and_time_counts(tmp_path: Path, following: Following) -> None:
    put(tmp_path, both("first."))
    reader = Reader(tmp_path)
    following.follow("x", reader.paths, reader)
    for path in reader.paths:
        before = path.stat()
        path.write_text("other.")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    until(lambda: reader.value == "other.")


def test_a_hanging_file_system_is_a_fault_and_hinders_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frost_sidecar.following._SILENT_SECONDS", 0.3)
    put(tmp_path / "slow", both("first."))
    put(tmp_path / "fast", both("first."))
    slow, fast = Reader(tmp_path / "slow"), Reader(tmp_path / "fast")
    with Following() as following:
        following.follow("slow", slow.paths, slow)
        following.follow("fast", fast.paths, fast)
        slow.hang.clear()
        put(tmp_path / "slow", both("second."))
        until(lambda: following.faults == {"slow": "no answer from its file system"})
        put(tmp_path / "fast", both("second."))
        until(lambda: fast.value == "second.")
        began = time.monotonic()
    assert time.monotonic() - began < 3  # the end waits for nobody who hangs
    slow.hang.set()


def test_what_is_forgotten_is_read_no_more(tmp_path: Path, following: Following) -> None:
    put(tmp_path, both("first."))
    reader, list_, other = Reader(tmp_path), Reader(tmp_path), Reader(tmp_path)
    for what, each in {"listener": reader, "listener.crl": list_, "listeners": other}.items():
        following.follow(what, each.paths, each)
    with pytest.raises(ValueError, match="followed already"):
        following.follow("listener", reader.paths, reader)
    following.forget("listener")
    following.forget("nothing")
    put(tmp_path, both("second."))
    until(lambda: other.value == "second.")
    time.sleep(0.6)
    assert (reader.value, list_.value) == ("first.", "first.")
    following.follow("listener", reader.paths, reader)
    assert reader.value == "second."


def test_following_begins_with_the_block_and_ends_with_it(tmp_path: Path) -> None:
    put(tmp_path, both("first."))
    reader = Reader(tmp_path)
    following = Following()
    following.follow("x", reader.paths, reader)
    put(tmp_path, both("second."))
    time.sleep(0.6)
    assert reader.value == "first."
    with following:
        until(lambda: reader.value == "second.")
    put(tmp_path, both("third."))
    time.sleep(0.6)
    assert reader.value == "second."
    assert not [each for each in threading.enumerate() if each.name == "following x"]


def test_without_following_files_are_read_once(tmp_path: Path) -> None:
    put(tmp_path, both("first."))
    reader = Reader(tmp_path)
    read_once("x", reader.paths, reader)
    assert (reader.value, reader.reads) == ("first.", 1)


def test_files_that_never_come_to_rest_are_taken_all_the_same(
    tmp_path: Path, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frost_sidecar.following._RESTLESS_SECONDS", 1.0)
    put(tmp_path, both("one."), WAYS["by renaming"])
    reader = Reader(tmp_path)
    following.follow("x", [*reader.paths, tmp_path], reader)
    put(tmp_path, both("two."), WAYS["by renaming"])
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(0.03):
            (tmp_path / "restless").write_text(str(time.monotonic_ns()))

    restless = threading.Thread(target=touch)
    restless.start()
    try:
        until(lambda: reader.value == "two.")
    finally:
        stop.set()
        restless.join()
