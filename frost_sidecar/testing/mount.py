"""Folders whose files change as they do in the field: for tests of what follows its files.

Each way is a generator: it has written a part at each ``yield``, so that a test can look at what is there by then.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

Way = Callable[[Path, Mapping[str, bytes]], Iterator[None]]
"""Puts files, by their names, into a folder that may hold older ones."""


def kubernetes(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """As a kubelet (and cert-manager's CSI driver) does: all at once, by another target of the link ``..data``."""
    version = folder / f"..{secrets.token_hex(4)}"
    version.mkdir(parents=True)
    for name, data in files.items():
        _private(version / name).write_bytes(data)
    old = folder / "..data"
    before = old.resolve() if old.is_symlink() else None
    yield
    link = folder / "..data_tmp"
    link.symlink_to(version.name)
    link.rename(old)
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    yield
    if before is not None:
        for each in before.iterdir():
            each.unlink()
        before.rmdir()


def renamed(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """One after the other, each whole: for a while some are of the old set and some of the new."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        draft = folder / f".{name}.draft"
        _private(draft).write_bytes(data)
        draft.rename(folder / name)
        yield


def in_place(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """One after the other, each at once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        _private(folder / name).write_bytes(data)
        yield


def in_pieces(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """In place, each emptied first and then written in two halves: as a slow copy."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with _private(folder / name).open("wb") as file:
            for piece in (b"", data[: len(data) // 2], data[len(data) // 2 :]):
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
                yield


def _private(path: Path) -> Path:
    """The file, made for its owner alone where it was not there: there may be a private key in it."""
    path.touch(0o600)
    return path


WAYS: Mapping[str, Way] = {
    "by a symbolic link": kubernetes,
    "by renaming": renamed,
    "in place": in_place,
    "in pieces": in_pieces,
}


def put(folder: Path, files: Mapping[str, bytes], way: Way = kubernetes) -> None:
    """All of it without a pause."""
    for _ in way(folder, files):
        pass
