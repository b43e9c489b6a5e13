"""What every idempotency store must do, as tests that a store's author inherits.

::

    class TestMyStore(IdempotencyStoreContract):
        @asynccontextmanager
        async def two_clients(self):
            async with MyStore(ADDRESS) as one, MyStore(ADDRESS) as other:
                yield one, other

pytest collects the inherited tests; they need an asynchronous runner, anyio's own plugin for one. Each test uses keys
of its own, so that a server may be shared and need not be empty.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

import anyio

from frost_sidecar.hookspecs import IdempotencyStore
from frost_sidecar.model import Claim

FINGERPRINT = bytes(range(32))
OTHER_FINGERPRINT = bytes(range(32, 64))
ANSWER = b'{"v":1,"any":"\x00\xff bytes"}'
LONGEST_ANSWER = bytes(range(256)) * 15 + bytes(255)

_LONG = 30.0
_SHORT = 0.8
_TASKS = 50


class IdempotencyStoreContract(ABC):
    """Inherit it, say how two clients of one store are opened, and pytest does the rest."""

    @abstractmethod
    def two_clients(self) -> AbstractAsyncContextManager[tuple[IdempotencyStore, IdempotencyStore]]:
        """Two entered stores over one storage, as two replicas have them; a store in memory is yielded twice."""

    async def test_a_free_key_is_taken_and_says_by_whom(self) -> None:
        """Taken by one, it is held for the other, under the fingerprint of the first."""
        async with self.two_clients() as (one, other):
            key = _key()
            _expect((await one.claim(key, FINGERPRINT, "a", _LONG)).mine, "the first claim of a free key wins")
            for client in (one, other):
                held = await client.claim(key, OTHER_FINGERPRINT, "b", _LONG)
                _expect(held == Claim(mine=False, fingerprint=FINGERPRINT), "a held key names its holder's fingerprint")

    async def test_keys_are_independent(self) -> None:
        """Another key is free, also one that differs in its last digit."""
        async with self.two_clients() as (one, other):
            key = _key()
            beside = key[:-1] + ("0" if key[-1] != "0" else "1")
            await one.claim(key, FINGERPRINT, "a", _LONG)
            _expect((await other.claim(beside, FINGERPRINT, "b", _LONG)).mine, "another key is free")

    async def test_an_answer_is_given_to_everybody(self) -> None:
        """After ``complete`` both clients get the same bytes, and nobody gets the key."""
        for answer in (ANSWER, LONGEST_ANSWER):
            async with self.two_clients() as (one, other):
                key = _key()
                await one.claim(key, FINGERPRINT, "a", _LONG)
                await one.complete(key, "a", answer, _LONG)
                wanted = Claim(mine=False, fingerprint=FINGERPRINT, answer=answer)
                for client in (one, other):
                    _expect(await client.claim(key, OTHER_FINGERPRINT, "b", _LONG) == wanted, "the answer comes back")
                    _expect(await client.claim(key, FINGERPRINT, "a", _LONG) == wanted, "its owner gets it too")

    async def test_a_released_key_is_free(self) -> None:
        """For anybody and any fingerprint."""
        async with self.two_clients() as (one, other):
            key = _key()
            await one.claim(key, FINGERPRINT, "a", _LONG)
            await one.release(key, "a")
            _expect((await other.claim(key, OTHER_FINGERPRINT, "b", _LONG)).mine, "a released key is free")

    async def test_only_the_owner_completes_and_releases(self) -> None:
        """A stranger's calls change nothing, nor do calls for a key that nobody holds."""
        async with self.two_clients() as (one, other):
            key = _key()
            await other.complete(key, "b", ANSWER, _LONG)
            await other.release(key, "b")
            _expect((await one.claim(key, FINGERPRINT, "a", _LONG)).mine, "a key is not made by completing it")
            await other.complete(key, "b", ANSWER, _LONG)
            await other.release(key, "b")
            held = await other.claim(key, FINGERPRINT, "b", _LONG)
            _expect(held == Claim(mine=False, fingerprint=FINGERPRINT), "a stranger's calls change nothing")

    async def test_an_answer_stays(self) -> None:
        """Neither its owner nor a stranger can take it back or change it."""
        async with self.two_clients() as (one, other):
            key = _key()
            await one.claim(key, FINGERPRINT, "a", _LONG)
            await one.complete(key, "a", ANSWER, _LONG)
            for owner in ("a", "b"):
                await other.release(key, owner)
                await other.complete(key, owner, b"another", _LONG)
            held = await one.claim(key, FINGERPRINT, "c", _LONG)
            _expect(held.answer == ANSWER, "the first answer stays")

    async def test_a_call_may_come_twice(self) -> None:
        """A client inside the store may repeat a call whose answer was lost."""
        async with self.two_clients() as (one, other):
            key = _key()
            for client in (one, other):
                _expect(
                    (await client.claim(key, FINGERPRINT, "a", _LONG)).mine, "the owner's claim, repeated, is its own"
                )
            for client in (one, other):
                await client.complete(key, "a", ANSWER, _LONG)
            _expect((await one.claim(key, FINGERPRINT, "b", _LONG)).answer == ANSWER, "completed twice is completed")
            key = _key()
            await one.claim(key, FINGERPRINT, "a", _LONG)
            for client in (one, other):
                await client.release(key, "a")
            _expect((await one.claim(key, FINGERPRINT, "b", _LONG)).mine, "released twice is released")

    async def test_a_claim_ends_by_itself(self) -> None:
        """Its owner died; and an owner that comes back after that has lost the key."""
        async with self.two_clients() as (one, other):
            key = _key()
            await one.claim(key, FINGERPRINT, "a", _SHORT)
            _expect(not (await other.claim(key, OTHER_FINGERPRINT, "b", _LONG)).mine, "a claim holds until it ends")
            await _freed(other, key, "b")
            await one.complete(key, "a", ANSWER, _LONG)
            await one.release(key, "a")
            held = await one.claim(key, FINGERPRINT, "c", _LONG)
            _expect(held == Claim(mine=False, fingerprint=OTHER_FINGERPRINT), "who lost the key changes nothing")

    async def test_an_answer_ends_by_itself(self) -> None:
        """After its own time, which does not begin with the claim."""
        async with self.two_clients() as (one, other):
            long, short = _key(), _key()
            await one.claim(long, FINGERPRINT, "a", _SHORT)
            await one.complete(long, "a", ANSWER, _LONG)
            await one.claim(short, FINGERPRINT, "a", _LONG)
            await one.complete(short, "a", ANSWER, _SHORT)
            await _freed(other, short, "b")
            await anyio.sleep(_SHORT)
            _expect((await other.claim(long, FINGERPRINT, "b", _LONG)).answer == ANSWER, "an answer has its own time")

    async def test_of_many_at_once_one_wins(self) -> None:
        """Claims of many tasks over both clients, for several keys."""
        async with self.two_clients() as clients:
            for _ in range(5):
                key = _key()
                won: list[str] = []

                async def claim(client: IdempotencyStore, owner: str, key: str = key, won: list[str] = won) -> None:
                    if (await client.claim(key, FINGERPRINT, owner, _LONG)).mine:
                        won.append(owner)

                async with anyio.create_task_group() as tasks:
                    for number in range(_TASKS):
                        tasks.start_soon(claim, clients[number % 2], str(number))
                _expect(len(won) == 1, f"exactly one claim wins, not {len(won)}")

    async def test_a_call_may_be_cancelled(self) -> None:
        """At any moment: later calls get their own answers, and never those of a call that was given up."""
        async with self.two_clients() as (one, other):
            for step in range(40):
                given_up, key = _key(), _key()
                with anyio.move_on_after(step * 0.0001):
                    await one.claim(given_up, OTHER_FINGERPRINT, "a", _LONG)
                _expect((await one.claim(key, FINGERPRINT, "b", _LONG)).mine, "the answer is that of this call")
                await one.complete(key, "b", str(step).encode(), _LONG)
                held = await other.claim(key, FINGERPRINT, "c", _LONG)
                _expect(held.answer == str(step).encode(), "the answer is that of this key")


def _key() -> str:
    return secrets.token_hex(32)


def _expect(condition: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise AssertionError(f"the contract says: {what}")


async def _freed(client: IdempotencyStore, key: str, owner: str) -> None:
    """Return when ``owner`` has got ``key``, which must be soon."""
    for _ in range(250):
        if (await client.claim(key, OTHER_FINGERPRINT, owner, _LONG)).mine:
            return
        await anyio.sleep(0.02)
    raise AssertionError("the contract says: what was taken is free again after its time")
