"""Distributed key generation: the participants make the key, and nobody ever has it.

Each participant calls `part1`, broadcasts the package it gives, calls `part2`
with the packages of all others, sends each of them the package that is theirs
on a confidential channel, and calls `part3` with what the others sent it.

The broadcast must be authentic and the same to everyone. Not part of RFC 9591;
this is the protocol of the FROST paper as the crate implements it.
"""

from frost_ed25519._native import part1, part2, part3
from frost_ed25519.keys.dkg import round1, round2

__all__ = ["part1", "part2", "part3", "round1", "round2"]
