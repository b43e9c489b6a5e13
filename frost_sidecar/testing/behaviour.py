"""How a signer of the in-memory cluster behaves: honest, absent, slow, broken, or lying.

A behaviour stands between transport and signer. It gets the honest handler and the call, and returns what the
coordinator will see::

    cluster.behave(2, wrong_share)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from frost_sidecar.errors import TransportError
from frost_sidecar.model import Answer, Call
from frost_sidecar.problem import TYPE_BASE, Problem
from frost_sidecar.testing.lying_signer import random_scalar
from frost_sidecar.wire import COMMITMENTS_PATH, SHARES_PATH

Handle = Callable[[Call], Awaitable[Answer]]
Behaviour = Callable[[Handle, Call], Awaitable[Answer]]


async def honest(handle: Handle, call: Call) -> Answer:
    """Does what the protocol says."""
    return await handle(call)


async def unreachable(_handle: Handle, _call: Call) -> Answer:
    """Nobody listens."""
    raise TransportError("unreachable", "connection refused")


async def stalled(_handle: Handle, _call: Call) -> Answer:
    """Takes the request and never answers."""
    await anyio.sleep_forever()
    raise AssertionError("unreachable")


def delayed(seconds: float) -> Behaviour:
    """Answers honestly, after ``seconds``."""

    async def behaviour(handle: Handle, call: Call) -> Answer:
        await anyio.sleep(seconds)
        return await handle(call)

    return behaviour


async def drops_answers(handle: Handle, call: Call) -> Answer:
    """Does the work; its answer to a shares request is lost."""
    answer = await handle(call)
    if call.path == SHARES_PATH:
        raise TransportError("unreachable", "connection reset before the answer")
    return answer


async def delivered_twice(handle: Handle, call: Call) -> Answer:
    """The network delivers each request twice; the coordinator sees the second answer."""
    await handle(call)
    return await handle(call)


async def wrong_share(handle: Handle, call: Call) -> Answer:
    """Every signature share is a random scalar."""
    return await _rewritten(handle, call, SHARES_PATH, _lie)


async def wrong_identity(handle: Handle, call: Call) -> Answer:
    """Answers in the name of the next signer."""

    def edit(answer: dict[str, Any]) -> None:
        answer["identifier"] += 1

    return await _rewritten(handle, call, call.path, edit)


async def garbage(_handle: Handle, _call: Call) -> Answer:
    """Answers 200 with bytes that are no JSON."""
    return Answer(200, b"\xff\x00 not json")


async def refusing(_handle: Handle, _call: Call) -> Answer:
    """Answers every request with a bare 500."""
    return Answer(500, b"")


async def always_stale(handle: Handle, call: Call) -> Answer:
    """Says of every commitment, its newest too, that it is of another epoch."""
    if call.path != SHARES_PATH:
        return await handle(call)
    problem = Problem(f"{TYPE_BASE}stale-epoch", "Conflict", 409, "another epoch")
    return Answer(409, problem.encode())


def denying(detail: str | None = None) -> Behaviour:
    """Denies every message, as by a policy of its own."""

    def edit(answer: dict[str, Any]) -> None:
        reason = {} if detail is None else {"detail": detail}
        answer["results"] = [{"session": each["session"], "error": "denied", **reason} for each in answer["results"]]

    async def behaviour(handle: Handle, call: Call) -> Answer:
        return await _rewritten(handle, call, SHARES_PATH, edit)

    return behaviour


class RepeatsCommitments:
    """Offers its first commitment again and again, as a signer restored from a snapshot would."""

    def __init__(self) -> None:
        self._first: Answer | None = None

    async def __call__(self, handle: Handle, call: Call) -> Answer:
        """Answer with the first answer."""
        if call.path != COMMITMENTS_PATH:
            return await handle(call)
        if self._first is None:
            self._first = await handle(call)
        return self._first


def _lie(answer: dict[str, Any]) -> None:
    for result in answer["results"]:
        if "share" in result:
            result["share"] = random_scalar()


async def _rewritten(handle: Handle, call: Call, path: str, edit: Callable[[dict[str, Any]], None]) -> Answer:
    answer = await handle(call)
    if call.path != path or answer.status != 200:
        return answer
    value = msgspec.json.decode(answer.body)
    edit(value)
    return Answer(200, msgspec.json.encode(value))
