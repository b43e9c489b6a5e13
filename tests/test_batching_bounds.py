"""What a request may hold: one key, one epoch, so many commitments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar import wire
from frost_sidecar.batching import Batching, Part
from frost_sidecar.commitments import Lease
from frost_sidecar.encoding import b64encode
from frost_sidecar.metrics import CoordinatorMetrics, new_registry
from frost_sidecar.model import Signer
from frost_sidecar.transport import Trace
from tests.test_batching import Gate, make_cluster, until

_POINT = bytes([0x58]) + bytes([0x66]) * 31
COMMITMENT = wire.Commitment(id="id", hiding=b64encode(_POINT), binding=b64encode(_POINT))
POINTS = frost.round1.SigningCommitments(_POINT, _POINT)


def make_part(signer: Signer, number: int, *, epoch: str = "epoch", listed: int = 1) -> Part:
    """A part that no signer knows of: what is looked at is the request that it leaves in."""
    lease = Lease(signer, "default", epoch, COMMITMENT, POINTS, 0.0)
    commitments = {str(each): COMMITMENT for each in range(1, listed + 1)}
    session = wire.Session(session=f"s-{number}", msg="", commitments=commitments)
    return Part(lease, session, Trace("request"), lambda _identifier, _outcome: None)


@asynccontextmanager
async def batching_behind(folder: Path, gate: Gate) -> AsyncIterator[tuple[Batching, Signer]]:
    """Batching of its own, with one request at once, to signer 1 behind ``gate``."""
    cluster = make_cluster(folder, batches_per_signer=1)
    cluster.behave(1, gate)
    async with cluster.coordinator() as coordinator:
        parts = coordinator._parts.readiness
        metrics = CoordinatorMetrics(new_registry())
        async with Batching(parts._calls, parts._commitments, cluster.config.signing, metrics) as batching:
            yield batching, cluster.config.signer_nodes[0]


async def test_two_keys_and_two_epochs_never_share_a_request(tmp_path: Path) -> None:
    gate = Gate(is_open=True)
    kinds = [("default", "one"), ("other", "one"), ("default", "two")]
    async with batching_behind(tmp_path, gate) as (batching, signer):
        for number in range(9):
            key, epoch = kinds[number % 3]
            batching.send(key, make_part(signer, number, epoch=epoch))
        await until(lambda: len(gate.calls) == 3)
    assert [(call["key"], call["epoch"]) for call in gate.calls] == kinds
    names = [[each["session"] for each in call["sessions"]] for call in gate.calls]
    assert names == [["s-0", "s-3", "s-6"], ["s-1", "s-4", "s-7"], ["s-2", "s-5", "s-8"]]


async def test_a_request_lists_no_more_commitments_than_allowed(tmp_path: Path) -> None:
    gate = Gate(is_open=True)
    async with batching_behind(tmp_path, gate) as (batching, signer):
        for number in range(40):
            batching.send("default", make_part(signer, number, listed=255))
        await until(lambda: sum(gate.sizes) == 40)
    assert gate.sizes == [16, 16, 8]


async def test_an_address_that_is_idle_is_forgotten(tmp_path: Path) -> None:
    gate = Gate(is_open=True)
    async with batching_behind(tmp_path, gate) as (batching, signer):
        for number in range(3):
            batching.send("default", make_part(replace(signer, url=f"https://brought-{number}.test"), number))
        await until(lambda: len(gate.calls) == 3)
        await until(lambda: not batching._lanes)
