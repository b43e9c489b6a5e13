"""One run of the benchmarks: its plan, its folder, its progress, and the stand that most parts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.progress import Progress, TaskID

from benchmarks.plan import Plan
from benchmarks.stand import Stand

Raw = list[dict[str, Any]]
"""What was measured, one entry for each alternation."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a part of the benchmarks adds to the report."""

    figures: dict[str, dict[str, Any]]
    raw: Raw


class Session:
    """A context manager; ends what it started."""

    def __init__(self, plan: Plan, folder: Path, progress: Progress) -> None:
        self.plan = plan
        self.folder = folder
        self._progress = progress
        self._stack = ExitStack()
        self._stand: Stand | None = None
        self._bar: TaskID | None = None
        self._begun = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def stand(self) -> Stand:
        """2-of-3, three signer processes; the same ones for all that ask for them here."""
        if self._stand is None:
            self._stand = self._stack.enter_context(Stand(self.folder / "c"))
        return self._stand

    @contextmanager
    def part(self, title: str, steps: int) -> Iterator[None]:
        """A bar of ``steps``, which :meth:`say` moves on, while the block runs."""
        self._bar = self._progress.add_task(title, total=steps, now="")
        self._begun = 0
        yield
        self._progress.update(self._bar, completed=steps, now="")

    def say(self, what: str) -> None:
        """Show what begins now."""
        if self._bar is not None:
            self._progress.update(self._bar, completed=self._begun, now=what)
            self._begun += 1

    def alternate(self, number: int, phases: Sequence[tuple[str, Callable[[], Any]]]) -> dict[str, Any]:
        """Do all ``phases`` once, in their order or, where ``number`` is odd, in the opposite one."""
        done = {}
        for name, act in reversed(phases) if number % 2 else phases:
            self.say(name)
            done[name] = act()
        return {"order": list(done), **done}
