"""Reading what a command line names: a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from frost_sidecar.errors import ConfigError, TooLarge

STANDARD_INPUT = Path("-")


def read(file: Path | None, most: int) -> bytes:
    """All bytes of ``file``; of standard input where it is ``-`` or None.

    Raises:
        ConfigError: it cannot be read; the message names it.
        TooLarge: it has more than ``most`` bytes.
    """
    name = "standard input" if file in (None, STANDARD_INPUT) else str(file)
    try:
        if file is not None and file != STANDARD_INPUT:
            with file.open("rb") as opened:
                data = opened.read(most + 1)
        elif sys.stdin is None:  # how Python shows a closed one
            raise ConfigError("is closed; name a file, or send the bytes there", path=name)
        else:
            data = sys.stdin.buffer.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", path=name) from None
    except ValueError:
        raise ConfigError("a path cannot have a NUL in it", path=name) from None
    if len(data) > most:
        raise TooLarge(f"{name} has more than {most} bytes; no more are taken")
    return data
