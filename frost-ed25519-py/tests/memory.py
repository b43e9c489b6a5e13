"""Looks for secrets in the memory of a process, the way an attacker would.

A secret scalar is known by what is published for it: its product with the base
point.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

SCALAR = 32
WORD = 8
BLOCK = 512
"""How much is read behind a pointer. The secrets that are tested take less."""

Match = Callable[[bytes], bool]


class Memory:
    """The memory of a process. What is not mapped reads as nothing."""

    def __init__(self, process: int) -> None:
        self._path = Path(f"/proc/{process}")

    def read(self, address: int, length: int) -> bytes:
        """Read without ever crashing, as `ctypes.string_at` would."""
        file = os.open(self._path / "mem", os.O_RDONLY)
        try:
            return os.pread(file, length, address)
        except (OSError, OverflowError):
            return b""
        finally:
            os.close(file)

    def copies(self, secret: bytes) -> dict[int, str]:
        """Give all addresses of a secret, each with the name of its mapping."""
        copies = {}
        for line in (self._path / "maps").read_text().splitlines():
            bounds, permissions, *_, name = [*line.split(maxsplit=5), ""][:6]
            if not permissions.startswith("rw"):
                continue
            start, end = (int(bound, 16) for bound in bounds.split("-"))
            for found in re.finditer(re.escape(secret), self.read(start, end - start)):
                copies[start + found.start()] = name
        return copies


def commits_to(*points: bytes) -> Match:
    """Match scalars whose product with the base point is one of these."""

    def match(window: bytes) -> bool:
        # No product is computed of what is not reduced, or small.
        if window[-1] > 0x10 or not any(window[16:]):
            return False
        try:
            return crypto_scalarmult_ed25519_base_noclamp(window) in points
        except RuntimeError:
            return False

    return match


@dataclass(frozen=True)
class Trace:
    """The memory that an object has and points to, and where secrets were in it."""

    memory: Memory
    match: Match
    blocks: frozenset[tuple[int, int]]
    found: frozenset[int]

    def still_there(self) -> set[int]:
        """Give the addresses in that memory at which there are secrets now."""
        return set(_find(self.memory, self.blocks, self.match))


def _find(memory: Memory, blocks: Iterable[tuple[int, int]], match: Match) -> Iterator[int]:
    seen = set()
    for address, length in blocks:
        data = memory.read(address, length)
        for offset in range(len(data) - SCALAR + 1):
            if address + offset not in seen:
                seen.add(address + offset)
                if match(data[offset : offset + SCALAR]):
                    yield address + offset


def trace(
    address: int, size: int, match: Match, *, process: int | None = None, depth: int = 2
) -> Trace:
    """Look at an object, and behind every word of it that may be a pointer."""
    memory = Memory(os.getpid() if process is None else process)
    head = object.__basicsize__
    blocks = {(address, size)}
    edge = {(address + head, size - head)}
    for _ in range(depth):
        reached = set()
        for start, length in edge:
            data = memory.read(start, length)
            for offset in range(0, len(data) - WORD + 1, WORD):
                pointer = int.from_bytes(data[offset : offset + WORD], "little")
                if pointer % WORD == 0 and memory.read(pointer, 1):
                    reached.add((pointer, BLOCK))
        edge = reached - blocks
        blocks |= reached
    everything = frozenset(blocks)
    return Trace(memory, match, everything, frozenset(_find(memory, everything, match)))


def trace_object(value: object, match: Match) -> Trace:
    """Look at an object of this process."""
    return trace(id(value), type(value).__basicsize__, match)
