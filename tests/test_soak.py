"""The checker of a soak: it finds what it is for, in files as signers and the audit plugin write them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import frost_sidecar_audit_worm as audit_worm
import pytest
from frost_sidecar_audit_worm.writing import Log

from benchmarks.soak_check import Answers, Findings, Life, read_audit, read_uses
from benchmarks.soak_memory import MILLION, Lives, Sample, growing, growth_per_million
from frost_sidecar.model import AuditRecord, AuditSession
from frost_sidecar.signer.node import Use
from frost_sidecar.signer.used_log import UsedLog

NUMBER = 12
WHEN = datetime.fromisoformat("2026-01-01T00:00:00.000000+00:00")


def package(number: int) -> bytes:
    return hashlib.sha256(b"package %d" % number).digest()


def record(number: int, outcome: str = "signed", participants: tuple[int, ...] = (1, 2)) -> AuditRecord:
    signed = outcome == "signed"
    session = AuditSession(session=f"s{number}", participants=participants, package_sha256=package(number).hex())
    return AuditRecord(
        time=WHEN.isoformat(timespec="microseconds"),
        request_id=f"soak-{number}",
        outcome="signed" if signed else "failed",
        caller="uid:0",
        key="default",
        message_sha256="00" * 32,
        participants=participants if signed else (),
        sessions=(AuditSession(session="first", participants=(2, 3)), session),
        signature_sha256=sha256(number) if signed else None,
    )


def sha256(number: int) -> str:
    return hashlib.sha256(b"signature %d" % number).hexdigest()


class Soaked:
    """What a soak of twelve requests leaves: signers 1 and 2 in two lives each, an audit log, and the answers."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "audit.log"
        self.lives: dict[int, list[Life]] = {}
        self.answers = Answers()
        for identifier in (1, 2):
            for life in (0, 1):
                path = folder / f"used-{identifier}-life-{life}.log"
                self.lives.setdefault(identifier, []).append(Life(path))
                with UsedLog(path, f"epoch-{identifier}-{life}") as used:
                    used.add([self.use(number) for number in range(6 * life, 6 * life + 6)])
        for number in range(NUMBER):
            assert self.answers.ask() == number
            self.answers.signed(number, b"signature %d" % number)
        self.records = [record(number) for number in range(NUMBER)]

    @staticmethod
    def use(number: int, of: int | None = None) -> Use:
        return Use(f"commitment-{number}", "default", package(number if of is None else of), f"s{number}", None)

    def append(self, identifier: int, life: int, *uses: Use, epoch: str | None = None) -> None:
        with UsedLog(self.lives[identifier][life].path, epoch or f"epoch-{identifier}-{life}") as used:
            used.add(uses)

    def check(self) -> Findings:
        log = Log(self.log)
        log.append(self.records)
        log.close()
        return self.check_as_it_is()

    def check_as_it_is(self) -> Findings:
        self.findings = Findings()
        self.uses = read_uses(self.lives, self.findings)
        self.audit = read_audit(self.log, "soak-", 2, self.answers, self.uses, self.lives, self.findings)
        return self.findings


@pytest.fixture
def soaked(tmp_path: Path) -> Soaked:
    return Soaked(tmp_path)


def test_a_good_soak_is_good(soaked: Soaked) -> None:
    assert not soaked.check().counts
    assert soaked.uses.number == 2 * NUMBER
    assert (soaked.audit.records, soaked.audit.signed) == (NUMBER, NUMBER)


def test_a_commitment_in_two_signing_packages_is_found(soaked: Soaked) -> None:
    soaked.append(1, 0, soaked.use(3, of=4))
    findings = soaked.check()
    assert findings.counts == {"a commitment in two signing packages": 1}
    assert findings.examples == ["a commitment in two signing packages: signer 1, commitment-3"]


def test_a_commitment_used_twice_for_one_package_is_found(soaked: Soaked) -> None:
    soaked.append(2, 1, soaked.use(7))
    assert soaked.check().counts == {"a commitment used twice for one": 1}


def test_a_use_after_a_restart_is_found(soaked: Soaked) -> None:
    """A signer that came back from a snapshot: one epoch in two lives, and a commitment of the first used again."""
    soaked.append(1, 1, soaked.use(3, of=8), epoch="epoch-1-0")
    assert soaked.check().counts == {"one epoch in two lives": 1, "a commitment in two signing packages": 1}


def test_the_same_id_in_two_epochs_or_of_two_signers_is_no_reuse(soaked: Soaked) -> None:
    soaked.append(1, 1, soaked.use(3, of=8))
    assert not soaked.check().counts


def test_a_damaged_line_is_found_and_a_killed_signers_last_line_may_be_unfinished(soaked: Soaked) -> None:
    path = soaked.lives[2][1].path
    path.write_bytes(path.read_bytes()[:-20])
    assert soaked.check().counts["a line that is none"] == 1
    soaked.lives[2][1] = Life(path, killed=WHEN.timestamp())
    uses = read_uses(soaked.lives, findings := Findings())
    assert not findings.counts
    assert uses.torn == 1


def test_a_signature_without_a_share_is_found(soaked: Soaked) -> None:
    path = soaked.lives[2][1].path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    findings = soaked.check()
    assert findings.counts == {"a signature without a signer's share": 1}
    assert findings.examples == ["a signature without a signer's share: soak-11, signer 2"]


@pytest.mark.parametrize(("seconds", "untold"), [(0.5, 1), (-3.0, 1), (10.0, 0), (-60.0, 0)])
def test_a_killed_signer_may_not_have_written_its_last_second(soaked: Soaked, seconds: float, untold: int) -> None:
    """``seconds``: from the record to the kill."""
    path = soaked.lives[2][1].path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    soaked.lives[2][1] = Life(path, killed=WHEN.timestamp() + seconds)
    assert soaked.check().counts.total() == 1 - untold
    assert soaked.audit.untold == untold


def test_a_signature_that_was_answered_and_not_recorded_is_found(soaked: Soaked) -> None:
    del soaked.records[5]
    findings = soaked.check()
    assert findings.counts == {"answered a signature that is not in the audit log": 1}
    assert findings.examples == ["answered a signature that is not in the audit log: request 5"]


def test_another_signature_than_was_answered_is_found(soaked: Soaked) -> None:
    soaked.answers.signed(5, b"another signature")
    assert soaked.check().counts == {"recorded another signature than was answered": 1}


@pytest.mark.parametrize("number", [5, NUMBER + 1])
def test_a_signature_that_nobody_was_given_is_found(soaked: Soaked, number: int) -> None:
    """One recorded twice, and one of a request that was never sent."""
    soaked.records.append(record(number))
    findings = soaked.check()
    assert findings.counts["recorded a signature that nobody was given"] == 1


def test_a_signature_recorded_for_a_refused_request_is_found_unless_it_was_taken_back(soaked: Soaked) -> None:
    soaked.answers.refused(soaked.answers.ask())
    soaked.append(1, 1, soaked.use(NUMBER))
    soaked.append(2, 1, soaked.use(NUMBER))
    soaked.records.append(record(NUMBER))
    assert soaked.check().counts == {"recorded a signature although the request got an error": 1}


def test_a_signature_that_was_withheld_is_none(soaked: Soaked) -> None:
    soaked.answers.refused(soaked.answers.ask())
    soaked.append(1, 1, soaked.use(NUMBER))
    soaked.append(2, 1, soaked.use(NUMBER))
    soaked.records += [record(NUMBER), record(NUMBER, "failed")]
    assert not soaked.check().counts


def test_a_request_whose_answer_was_lost_may_have_been_signed(soaked: Soaked) -> None:
    for signed in (True, False):
        number = soaked.answers.ask()
        soaked.answers.lost_unless_answered(number)
        if signed:
            soaked.append(1, 1, soaked.use(number))
            soaked.append(2, 1, soaked.use(number))
            soaked.records.append(record(number))
    assert not soaked.check().counts


def test_fewer_signers_than_it_takes_are_found(soaked: Soaked) -> None:
    soaked.records[4] = record(4, participants=(1, 1))
    assert soaked.check().counts == {"a signature without a quorum or a signing package": 1}


def test_a_changed_audit_log_is_found(soaked: Soaked) -> None:
    soaked.check()
    text = soaked.log.read_bytes()
    soaked.log.write_bytes(text.replace(b"soak-9", b"soak-8"))
    counts = soaked.check_as_it_is().counts
    assert counts["the audit log does not verify"] == 1
    assert counts["the audit log cannot be read to its end"] == 1
    assert audit_worm.verify(soaked.log).fault is not None


def life(begin: int, first_bytes: int, per_signature: float, length: int = 300) -> list[Sample]:
    """A sample a second, each 1000 signatures after the one before."""
    return [
        Sample(float(number), begin + 1000 * number, first_bytes + int(1000 * number * per_signature))
        for number in range(length)
    ]


def test_growth_is_that_within_the_lives() -> None:
    """A process that came back smaller, or bigger, has not shrunk or grown."""
    assert growth_per_million([life(0, 90_000_000, 0), life(300_000, 50_000_000, 0)]) == 0
    assert growth_per_million([life(0, 50_000_000, 64), life(300_000, 90_000_000, 64)]) == 64 * MILLION
    assert growth_per_million([]) is None
    assert growth_per_million([life(0, 1, 0)[:1]]) is None


def test_a_leak_of_64_bytes_a_signature_is_judged_after_the_warm_up() -> None:
    leaking, flat, short = Lives(), Lives(), Lives()
    leaking.samples = [life(0, 50_000_000, 64), life(300_000, 50_000_000, 64)]
    warming = life(0, 20_000_000, 300, 100)
    flat.samples = [[*warming, *(Sample(number, 1000 * number, 50_000_000) for number in range(100, 400))]]
    short.samples = [life(0, 50_000_000, 64)]
    reports = {"leaking": leaking.report(), "flat": flat.report(), "short": short.report()}
    assert growing(reports) == ["leaking"]
    assert [each["judged"] for each in reports.values()] == [True, True, False]
    assert [each["bytes_per_million"] for each in reports.values()] == [64 * MILLION, 0, 64 * MILLION]


def test_another_process_is_another_life() -> None:
    lives = Lives()
    lives.look(os.getpid(), 0.0, 0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        lives.look(process.pid, 1.0, 10)
        lives.look(process.pid, 2.0, 20)
    lives.look(process.pid, 3.0, 30)
    assert [len(each) for each in lives.samples] == [1, 2]
    assert all(sample.resident_bytes > 0 for each in lives.samples for sample in each)
