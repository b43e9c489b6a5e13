"""Signers that say what is not so of epochs, commitments and results, and networks that mix their answers up.

As those of :mod:`frost_sidecar.testing.behaviour`, for tests of what holds whoever answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import anyio
import msgspec

from frost_sidecar.model import Answer, Call
from frost_sidecar.testing.behaviour import Behaviour, Handle
from frost_sidecar.wire import COMMITMENTS_PATH, SHARES_PATH

Edit = Callable[[dict[str, Any]], None]


def edited(edit: Edit, *paths: str) -> Behaviour:
    """Does as it should, and changes its good answers to calls of these paths."""

    async def behaviour(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        if call.path not in paths or answer.status != 200:
            return answer
        value = msgspec.json.decode(answer.body)
        edit(value)
        return Answer(200, msgspec.json.encode(value))

    return behaviour


def one_too_few() -> Behaviour:
    """Gives one commitment fewer than asked for, wherever it gives any."""
    return edited(lambda answer: answer.update(commitments=answer["commitments"][:-1]), COMMITMENTS_PATH, SHARES_PATH)


def one_too_many() -> Behaviour:
    """Gives one commitment more than asked for: one that it gave before."""
    given: list[dict[str, str]] = []

    def edit(answer: dict[str, Any]) -> None:
        fresh = list(answer["commitments"])
        answer["commitments"] += given[-1:]
        given.extend(fresh)

    return edited(edit, COMMITMENTS_PATH, SHARES_PATH)


def replenishes_the_same() -> Behaviour:
    """What rides on its answers are the first commitments that ever rode on one."""
    first: list[list[dict[str, str]]] = []

    def edit(answer: dict[str, Any]) -> None:
        if answer["commitments"]:
            first.append(answer["commitments"])
            answer["commitments"] = first[0][: len(answer["commitments"])]

    return edited(edit, SHARES_PATH)


def another_epoch_each_time() -> Behaviour:
    """Every answer is of an epoch of its own; the commitments are real."""
    numbers = itertools.count()
    return edited(lambda answer: answer.update(epoch=f"epoch-{next(numbers)}"), COMMITMENTS_PATH)


def two_epochs() -> Behaviour:
    """Every other answer is of an epoch that it made up."""
    turns = itertools.cycle([True, False])

    def edit(answer: dict[str, Any]) -> None:
        if next(turns):
            answer["epoch"] = "made-up"

    return edited(edit, COMMITMENTS_PATH, SHARES_PATH)


def former_epoch() -> Behaviour:
    """From its second answer on it says the epoch of the first, also after a restart; and offers what it offered."""
    first: list[dict[str, Any]] = []

    def edit(answer: dict[str, Any]) -> None:
        first.append(dict(answer))
        answer["epoch"] = first[0]["epoch"]
        if len(first) % 3 == 0:
            answer["commitments"] = first[0]["commitments"][: len(answer["commitments"])]

    return edited(edit, COMMITMENTS_PATH)


def results_exchanged() -> Behaviour:
    """The shares of a request's sessions change places; the sessions' names stay."""

    def edit(answer: dict[str, Any]) -> None:
        shares = [result.get("share") for result in answer["results"]]
        for result, share in zip(answer["results"], shares[1:] + shares[:1], strict=True):
            if share and "share" in result:
                result["share"] = share

    return edited(edit, SHARES_PATH)


def results_in_another_order() -> Behaviour:
    """The results come in reverse."""
    return edited(lambda answer: answer["results"].reverse(), SHARES_PATH)


def lives_long() -> Behaviour:
    """Its commitments live for a day, it says."""
    return edited(lambda answer: answer.update(expires_in=86400.0), COMMITMENTS_PATH, SHARES_PATH)


def lives_not_at_all() -> Behaviour:
    """Its commitments are too old the moment that they come, it says."""
    return edited(lambda answer: answer.update(expires_in=0.0), COMMITMENTS_PATH, SHARES_PATH)


def overtaking(seconds: float) -> Behaviour:
    """Answers honestly; every other answer is so much later on its way back that younger ones overtake it."""
    turns = itertools.cycle([seconds, 0.0])

    async def behaviour(handle: Handle, call: Call) -> Answer:
        pause = next(turns)
        answer = await handle(call)
        await anyio.sleep(pause)
        return answer

    return behaviour
