"""One call of a plugin's method: its deadline, and whatever goes wrong with it under the plugin's name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import anyio

from frost_sidecar.errors import FrostSidecarError, PluginError
from frost_sidecar.logs import get_logger

log = get_logger("frost_sidecar.containment")

P = ParamSpec("P")
T = TypeVar("T")


def cancelled_from_outside() -> bool:
    """Whether somebody asked this task to stop; if not, a cancellation in it is an invention of the code that ran."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def contained(
    plugin: str, seconds: float | None, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """What ``method`` returns, within ``seconds`` where they are given.

    An error of ours passes through. Everything else, lateness and a cancellation that nobody asked for included, is
    logged with its cause and becomes a :class:`PluginError` without it: a plugin's words may hold what callers must not
    see.
    """
    cause: BaseException | None
    before = _cancellations()
    try:
        if seconds is None:
            return await method(*args, **kwargs)
        with anyio.fail_after(seconds):
            answer = await method(*args, **kwargs)
        if _cancellations() <= before:
            return answer
        # A request's deadline comes once: whoever swallows it would let the request go on for ever.
        why, cause = "it was cancelled, and went on", None
    except FrostSidecarError:
        raise
    except asyncio.CancelledError as error:
        if cancelled_from_outside():
            raise
        why, cause = "it cancelled itself", error
    except TimeoutError as error:
        why, cause = "no answer in time", error
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises is that plugin's failure
        why, cause = f"it failed with {type(error).__name__}; the log has the cause", error
    log.error("plugin failed", plugin=plugin, method=getattr(method, "__name__", "?"), why=why, exc_info=cause)
    raise PluginError(plugin, why)
