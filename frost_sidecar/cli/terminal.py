"""What the command line prints: tables, and errors in one line. Words from outside never steer the terminal."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import typer.core
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.cli")

FAILED = 2
"""Exit status where the command could not do what it is for."""

_READER_GONE = 128 + 13
"""What a shell reports of a process that SIGPIPE ended; that signal itself is off here, for sockets raise it too."""


class Commands(typer.core.TyperGroup):
    """The root of the command line. Typer ends with 1 where a pipe breaks or input ends; 1 says another thing here."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As the base, which prints the help here."""
        with _own_status():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """As the base, which runs the command here."""
        with _own_status():
            return super().invoke(ctx)


@contextmanager
def _own_status() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        raise SystemExit(tell(error)) from None


def tell(error: BaseException) -> int:
    """Say ``error`` in one line on standard error; the exit status. A reader that has gone is told nothing."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _give_up_output()
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return _READER_GONE
    with suppress(OSError, ValueError, AttributeError):  # nobody is there to read it
        sys.stderr.write(f"frost-sidecar: {one_line(_message(error))}\n")
        sys.stderr.flush()
    return FAILED


def _give_up_output() -> None:
    """What stays in the buffer would be written, and fail, once more when the interpreter ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _message(error: BaseException) -> str:
    if isinstance(error, FrostSidecarError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    log.error("command failed by a defect", exc_info=error)  # where a command keeps a log: serve and signer do
    return f"unexpected {type(error).__name__}: {error}; this is a defect, please report it"


def one_line(text: str) -> str:
    """``text`` with JSON's escapes for each character that a terminal would obey, or that starts a line."""
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def printable(value: object) -> str:
    """``value`` in one line: text as it is, and all else, also text that a terminal would obey, as JSON."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def print_table(title: str, rows: Iterable[Sequence[str]], *, columns: Sequence[str] = (), style: str = "") -> None:
    """Print ``rows``, each cell whole: a pipe gets one line a row, and so does a terminal that is too narrow."""
    console = Console(highlight=False)
    # Text: what looks like markup is none.
    cells = [[Text(printable(each), overflow="fold") for each in row] for row in rows]
    table = Table(*columns, title=Text(printable(title), style=style), show_header=bool(columns))
    if not columns:
        table.add_column(style="bold")
        table.add_column()
    for row in cells:
        table.add_row(*row)
    widest = Measurement.get(console, console.options.update(max_width=1 << 20), table).maximum
    if not console.is_terminal:
        console.width = max(widest, len(title))
        console.print(table)
    elif widest <= console.width:
        console.print(table)
    else:  # the terminal breaks the lines itself, and gives back what is copied without the breaks
        console.print(Text(printable(title), style=style), soft_wrap=True)
        for row in cells:
            console.print(Text("  ").join(row), soft_wrap=True)
