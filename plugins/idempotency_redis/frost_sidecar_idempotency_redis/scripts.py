"""The three steps as scripts: the server runs each without anything in between.

An entry is a hash with the fields ``fingerprint``, ``owner`` and, once there is one, ``answer``; it ends by the
server's own clock. What is no such hash was not written by these scripts, and no script touches it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which the server remembers it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.text.encode("ascii"), usedforsecurity=False).hexdigest())


CLAIM: Final = Script("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'owner', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, ARGV[1], false}
end
if kind ~= 'hash' then
  return {0, '', false}
end
local held = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'answer')
if held[2] == ARGV[2] and not held[3] then
  return {1, held[1], false}
end
return {0, held[1] or '', held[3]}
""")
"""KEYS: key. ARGV: fingerprint, owner, milliseconds. Returns whether it is the owner's, its fingerprint, its answer."""

COMPLETE: Final = Script("""
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  return 0
end
local held = redis.call('HMGET', KEYS[1], 'owner', 'answer')
if held[1] ~= ARGV[1] or held[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
""")
"""KEYS: key. ARGV: owner, answer, milliseconds."""

RELEASE: Final = Script("""
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then
  return 0
end
local held = redis.call('HMGET', KEYS[1], 'owner', 'answer')
if held[1] ~= ARGV[1] or held[2] then
  return 0
end
return redis.call('DEL', KEYS[1])
""")
"""KEYS: key. ARGV: owner."""
