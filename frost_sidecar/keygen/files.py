"""Writing key material: complete or not at all, and never readable for others."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_new(path: Path, text: str, *, mode: int) -> None:
    """Create ``path`` with ``text`` atomically and durably.

    Raises:
        FileExistsError: there is such a file already; a key share is never overwritten.
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
