"""What a coordinator asks its signers for although no request waits for it: commitments for its stock."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from frost_sidecar import Coordinator
from frost_sidecar.model import Call

NO_STOCK = {"most": 0}
"""Settings of ``[stock]`` with which every call to a signer is some request's, and round 1 a call of each session."""

_SECONDS = 10.0


def is_background(call: Call) -> bool:
    """Whether a call fills the stock, and no request waits for it."""
    return call.headers["X-Request-ID"] == "stock"


async def stocked(coordinator: Coordinator, identifiers: Iterable[int] = (1, 2, 3)) -> None:
    """Wait until there are commitments of each of these signers in stock."""
    value = coordinator.registry.get_sample_value
    waiting = [{"signer": f"signer-{each}", "key": "default"} for each in identifiers]
    with anyio.fail_after(_SECONDS):
        while not all(value("frost_coordinator_commitments_in_stock", each) for each in waiting):
            await anyio.sleep(0.01)
