"""What must be true after a soak, checked from what the processes left on disk.

No commitment was used twice, whoever restarted in between; the audit log verifies and holds exactly the signatures that
were answered; and behind each of them stand the shares of as many signers as it names. Files are read as streams: what
is kept in memory are 16 bytes of digest for each use and each answer.
"""

from __future__ import annotations

import collections
import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import frost_sidecar_audit_worm as audit_worm
import msgspec

from frost_sidecar.signer.used_log import FLUSH_SECONDS

_DIGEST: Final = 16
"""Bytes of a digest that tell two apart."""
_EXAMPLES: Final = 10
_ASKED_TWICE: Final = 10_000
"""Most commitments used twice that are looked at again."""
_BEFORE_A_KILL: Final = FLUSH_SECONDS + 1.0
_AFTER_A_KILL: Final = 6.0
"""Seconds around the moment a signer was killed: what it had used just before may not stand in its file any more, and
the records of those signatures come up to a request's whole time later."""

_ASKED, _SIGNED, _REFUSED, _LOST, _RECORDED, _RECORDED_LATE = range(6)


class Findings:
    """What is wrong, by kind, with a few examples."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: list[str] = []

    def add(self, kind: str, example: object = "", number: int = 1) -> None:
        """Take note of something that must not be."""
        self.counts[kind] += number
        if example and len(self.examples) < _EXAMPLES:
            self.examples.append(f"{kind}: {example}")


class Answers:
    """What each request got, by its number: 17 bytes each."""

    def __init__(self) -> None:
        self._states = bytearray()
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._states)

    def ask(self) -> int:
        """The number of the next request."""
        self._states.append(_ASKED)
        self._digests += bytes(_DIGEST)
        return len(self._states) - 1

    def signed(self, number: int, signature: bytes) -> None:
        self._states[number] = _SIGNED
        self._digests[number * _DIGEST : (number + 1) * _DIGEST] = hashlib.sha256(signature).digest()[:_DIGEST]

    def refused(self, number: int) -> None:
        """It got a typed error."""
        self._states[number] = _REFUSED

    def lost_unless_answered(self, number: int) -> None:
        """Its connection ended; without an answer before that, it may have been signed or not."""
        if self._states[number] == _ASKED:
            self._states[number] = _LOST

    def record(self, number: int, sha256: str, findings: Findings) -> None:
        """Take note of a signature in the audit log."""
        state = self._states[number] if 0 <= number < len(self) else None
        if state == _SIGNED:
            self._states[number] = _RECORDED
            if bytes.fromhex(sha256)[:_DIGEST] != self._digests[number * _DIGEST : (number + 1) * _DIGEST]:
                findings.add("recorded another signature than was answered", f"request {number}")
        elif state in (_REFUSED, _LOST):
            self._states[number] = _RECORDED_LATE if state == _REFUSED else _RECORDED
        else:
            why = "never asked" if state is None else "recorded before"
            findings.add("recorded a signature that nobody was given", f"request {number}, {why}")

    def withheld(self, number: int) -> None:
        """The log takes a signature back that it had recorded: nobody got it."""
        if 0 <= number < len(self) and self._states[number] == _RECORDED_LATE:
            self._states[number] = _REFUSED

    def check(self, findings: Findings) -> None:
        """After the whole log: each signature that was answered is in it, and none that was refused."""
        for state, kind in (
            (_SIGNED, "answered a signature that is not in the audit log"),
            (_RECORDED_LATE, "recorded a signature although the request got an error"),
        ):
            if number := self._states.count(state):
                findings.add(kind, f"request {self._states.index(state)}", number)


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a signer process: the file with its uses, and when it was killed, if it was (seconds since 1970)."""

    path: Path
    killed: float | None = None


@dataclass
class Uses:
    """What the signers' files say."""

    number: int = 0
    packages: dict[int, set[bytes]] = field(default_factory=dict)
    """By signer: digests of the signing packages that it made shares for."""
    torn: int = 0
    """Unfinished last lines of signers that were killed."""


def read_uses(lives: Mapping[int, Sequence[Life]], findings: Findings) -> Uses:
    """Read the files of all lives of all signers, by identifier, and find what was used twice."""
    uses = Uses()
    epochs: dict[bytes, Path] = {}
    for identifier, mine in lives.items():
        seen: set[bytes] = set()
        twice: set[bytes] = set()
        packages = uses.packages.setdefault(identifier, set())
        for life in mine:
            for line in _lines(life, uses, findings):
                epoch, name, package = line
                if epochs.setdefault(epoch, life.path) != life.path:
                    findings.add("one epoch in two lives", epoch.decode())
                digest = _commitment(epoch, name)
                (twice if digest in seen else seen).add(digest)
                packages.add(bytes.fromhex(package.decode())[:_DIGEST])
                uses.number += 1
        if twice:
            _tell(identifier, mine, twice, findings)
    return uses


def _lines(life: Life, uses: Uses | None, findings: Findings) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Epoch, commitment and package of each line."""
    with life.path.open("rb") as file:
        for number, line in enumerate(file, 1):
            parts = line.split()
            if line.endswith(b"\n") and len(parts) == 4 and len(parts[3]) == 64:
                yield parts[0], parts[1], parts[3]
            elif uses is None:
                continue
            elif life.killed is not None and not line.endswith(b"\n"):
                uses.torn += 1
            else:
                findings.add("a line that is none", f"{life.path.name}, line {number}")


def _commitment(epoch: bytes, name: bytes) -> bytes:
    return hashlib.blake2b(epoch + b" " + name, digest_size=_DIGEST).digest()


def _tell(identifier: int, lives: Sequence[Life], twice: set[bytes], findings: Findings) -> None:
    """Say of commitments used twice whether it was for one signing package or, which gives the key away, for two."""
    asked = set(list(twice)[:_ASKED_TWICE])
    packages: dict[bytes, set[bytes]] = {digest: set() for digest in asked}
    names: dict[bytes, str] = {}
    for life in lives:
        for epoch, name, package in _lines(life, None, findings):
            digest = _commitment(epoch, name)
            if digest in packages:
                packages[digest].add(package)
                names[digest] = name.decode()
    for digest, different in packages.items():
        kind = "a commitment in two signing packages" if len(different) > 1 else "a commitment used twice for one"
        findings.add(kind, f"signer {identifier}, {names[digest]}")
    if more := len(twice) - len(asked):
        findings.add("a commitment used twice", number=more)


class _Session(msgspec.Struct):
    package_sha256: str | None = None


class _Record(msgspec.Struct):
    time: str
    request_id: str
    outcome: str
    participants: tuple[int, ...] = ()
    sessions: tuple[_Session, ...] = ()
    signature_sha256: str | None = None


class _Body(msgspec.Struct):
    record: _Record | None = None


@dataclass
class Log:
    """What the audit log says."""

    records: int = 0
    signed: int = 0
    untold: int = 0
    """Shares that stand in no file because their signer was killed before it had written that down."""


def read_audit(
    path: Path,
    prefix: str,
    min_signers: int,
    answers: Answers,
    uses: Uses,
    lives: Mapping[int, Sequence[Life]],
    findings: Findings,
) -> Log:
    """Verify the log, and hold it against the answers and the signers' files.

    ``prefix``: what stands before the number in a request's id.
    """
    report = audit_worm.verify(path)
    if report.fault is not None:
        findings.add("the audit log does not verify", report.fault)
    kills = {identifier: [life.killed for life in mine if life.killed] for identifier, mine in lives.items()}
    log = Log()
    try:
        for record in _records(path):
            log.records += 1
            name = record.request_id.removeprefix(prefix)
            number = int(name) if name.isdecimal() and name != record.request_id else -1
            if record.outcome == "signed":
                log.signed += 1
                answers.record(number, record.signature_sha256 or "", findings)
                log.untold += _check_shares(record, min_signers, uses, kills, findings)
            else:
                answers.withheld(number)
    except audit_worm.CorruptLogError as error:
        findings.add("the audit log cannot be read to its end", error)
    answers.check(findings)
    return log


def _records(path: Path) -> Iterator[_Record]:
    decoder = msgspec.json.Decoder(_Body)
    for each in audit_worm.read(path):
        record = decoder.decode(each.body).record
        if record is not None:
            yield record


def _check_shares(
    record: _Record, min_signers: int, uses: Uses, kills: Mapping[int, Iterable[float]], findings: Findings
) -> int:
    """Whether each participant made a share for the package; how many may have, but were killed too soon to say so."""
    package = record.sessions[-1].package_sha256 if record.sessions else None
    if package is None or len(set(record.participants)) != min_signers:
        findings.add("a signature without a quorum or a signing package", record.request_id)
        return 0
    untold = 0
    for each in record.participants:
        if bytes.fromhex(package)[:_DIGEST] in uses.packages.get(each, ()):
            continue
        when = dt.datetime.fromisoformat(record.time).timestamp()
        if any(kill - _BEFORE_A_KILL <= when <= kill + _AFTER_A_KILL for kill in kills.get(each, ())):
            untold += 1
        else:
            findings.add("a signature without a signer's share", f"{record.request_id}, signer {each}")
    return untold
