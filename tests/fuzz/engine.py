"""What is fuzzed, and what must hold for every input: read or refused as documented, quickly, and without a leak."""

from __future__ import annotations

import asyncio
import atexit
import re
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final, TypeVar

from tests.fuzz.bytewise import Mutation
from tests.fuzz.mutation import damage_json

T = TypeVar("T")

MAX_SECONDS: Final = 1.0
"""Processor time that one input may take."""
_WINDOW: Final = 10
"""So many characters of a secret in an error are a leak; fewer may be chance."""
_CORPUS: Final = 64
"""Most inputs kept because they led to something new."""
_SEED_BYTES: Final = 8192
"""Longest of them: damage makes seeds longer, again and again."""
_FINDINGS: Final = 16
"""Most different findings kept of one target."""
_QUOTED: Final = re.compile(r"['\"].*|\d+", re.DOTALL)
"""What in an error is the input's own."""
_SHORTEN_SECONDS: Final = 5.0
"""Time for shortening one finding."""
_INPUT: Final = re.compile(r"['\"({[\n]|\d")
"""What in a finding begins the input's own."""


class Finding(AssertionError):
    """A decoder did what no input may make it do."""


def _nothing(*_: Any) -> None:
    """No oracle beyond those of the engine."""


@dataclass(frozen=True)
class Target:
    """A decoder of outside bytes, and its oracles."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    """Valid inputs, made at run time."""
    decode: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    """What it may raise, exactly these or their subclasses; empty: nothing."""
    accepted: Callable[[bytes, Any], None] = _nothing
    """Asserts what must hold for an input that was read, and its value."""
    refused: Callable[[bytes], None] = _nothing
    """Asserts what must hold for an input that was refused."""
    mutate: Mutation = damage_json
    secrets: Callable[[], Sequence[str]] = tuple
    """Texts in the seeds of which no error may show a piece."""
    bare: bool = False
    """Whether not even an error's suppressed context may have a piece of them: crash reporters print it."""
    took: Callable[[Any], bool] = lambda _: True
    """Whether a value means "accepted", for decoders that answer instead of raising."""

    def __str__(self) -> str:
        return self.name


def attempt(target: Target, data: bytes) -> tuple[bool, str]:
    """Feed one input. Whether it was accepted, and its outcome in words without the input's own.

    Raises:
        Finding: an oracle does not hold.
    """
    started = time.process_time()
    try:
        value = target.decode(data)
    except target.refusals as error:
        _check_time(target, started)
        _check_error(target, error)
        _judge(target, "refused", target.refused, data)
        return False, f"{type(error).__name__}: {_QUOTED.sub('#', str(error)[:300])}"
    except Exception as error:
        raise Finding(f"{target.name}: {type(error).__name__} is no documented refusal: {error}"[:2000]) from error
    _check_time(target, started)
    taken = target.took(value)
    _judge(target, "read", target.accepted, data, value)
    return taken, "read" if taken else "refused"


def hold(target: Target, random: Random) -> None:
    """One input from the seeds."""
    attempt(target, target.mutate(random, _seeds(target.seeds)))


class Campaign:
    """A long run of one target. An input that leads to a refusal not seen before becomes a seed of further ones."""

    def __init__(self, target: Target, seed: int) -> None:
        self.target = target
        self.random = Random(seed)
        self.accepted = self.refused = self.failed = 0
        self.seconds = 0.0
        self.slowest = 0.0
        self.findings: dict[str, bytes] = {}
        """The first input of each kind of finding, shortened as far as it goes."""
        self._seeds = _seeds(target.seeds)
        self._corpus: list[bytes] = []
        self._outcomes: set[str] = set()

    @property
    def inputs(self) -> int:
        """Inputs so far; those tried to shorten a finding do not count."""
        return self.accepted + self.refused + self.failed

    @property
    def outcomes(self) -> int:
        """Different outcomes so far."""
        return len(self._outcomes)

    def run(self, seconds: float) -> None:
        """Feed inputs for a while."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            seeds = self._corpus if self._corpus and self.random.randrange(3) == 0 else self._seeds
            data = self.target.mutate(self.random, seeds)
            started = time.perf_counter()
            what = None
            try:
                taken, outcome = attempt(self.target, data)
            except Finding as finding:
                what = kind_of(finding)
            if what is not None:  # outside of the handler: errors to come would have this one as their context
                self._note(what, data)
                continue
            self.slowest = max(self.slowest, time.perf_counter() - started)
            self.accepted += taken
            self.refused += not taken
            if outcome not in self._outcomes:
                self._outcomes.add(outcome)
                if len(self._corpus) < _CORPUS and len(data) < _SEED_BYTES:
                    self._corpus.append(data)
        self.seconds += seconds + time.perf_counter() - end

    def _note(self, what: str, data: bytes) -> None:
        self.failed += 1
        if what not in self.findings and len(self.findings) < _FINDINGS:
            self.findings[what] = shorten(self.target, data, what)


def kind_of(finding: Finding) -> str:
    """A finding in words, without what the input brought into them."""
    return _INPUT.split(str(finding))[0]


def shorten(target: Target, data: bytes, kind: str) -> bytes:
    """``data`` without the bytes that a finding of this kind does not need."""
    size, end = max(1, len(data) // 2), time.monotonic() + _SHORTEN_SECONDS
    while size and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            shorter = data[:at] + data[at + size :]
            if _finds(target, shorter) == kind:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _finds(target: Target, data: bytes) -> str | None:
    try:
        attempt(target, data)
    except Finding as finding:
        return kind_of(finding)
    return None


def settle(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, in the one event loop of all targets that need one."""
    return _runner().run(work)


def same(left: object, right: object) -> bool:
    """Equal, and of the same types all the way down: 1 is not 1.0, and not true."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@cache
def _seeds(make: Callable[[], Sequence[bytes]]) -> Sequence[bytes]:
    return tuple(make())


@cache
def _runner() -> asyncio.Runner:
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


def _judge(target: Target, word: str, oracle: Callable[..., None], *given: Any) -> None:
    try:
        oracle(*given)
    except RecursionError:  # the oracle's own: a value that the decoder takes may be deeper than it can follow
        return
    except Exception as error:
        raise Finding(f"{target.name}: {word}, but: {type(error).__name__}: {error}"[:2000]) from error


def _check_time(target: Target, started: float) -> None:
    took = time.process_time() - started
    if took > MAX_SECONDS:
        raise Finding(f"{target.name}: took {took:.2f} s of processor time")


def _check_error(target: Target, error: BaseException) -> None:
    """Neither a refusal nor what is printed with it quotes a secret, or carries its input about."""
    if isinstance(error, UnicodeError):
        raise Finding(f"{target.name}: a {type(error).__name__}, which carries its input, got out")
    if not (pieces := _pieces(target.secrets)):
        return
    chain: BaseException | None = error
    for _ in range(8):
        if chain is None:
            break
        text = "\n".join((repr(chain), str(chain), *(repr(each) for each in vars(chain).values())))
        text = f"{text} {getattr(chain, 'doc', '')} {getattr(chain, 'object', '')}".lower()
        if any(piece in text for piece in pieces):
            raise Finding(f"{target.name}: a {type(chain).__name__} shows a piece of a secret")
        hidden = chain.__suppress_context__ and not target.bare
        chain = chain.__cause__ or (None if hidden else chain.__context__)


@cache
def _pieces(secrets: Callable[[], Sequence[str]]) -> frozenset[str]:
    return frozenset(
        secret[at : at + _WINDOW].lower() for secret in secrets() for at in range(len(secret) - _WINDOW + 1)
    )
