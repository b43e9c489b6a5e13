"""Every part is told, and none that nobody waits for is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import frost_ed25519 as frost

from frost_sidecar import errors, wire
from frost_sidecar.batching import Batching, Part
from frost_sidecar.commitments import Lease
from frost_sidecar.encoding import b64encode
from frost_sidecar.metrics import CoordinatorMetrics, new_registry
from frost_sidecar.transport import Trace
from tests.test_batching import Gate, make_cluster, sample, stocked

_POINT = bytes([0x58]) + bytes([0x66]) * 31
COMMITMENT = wire.Commitment(id="id", hiding=b64encode(_POINT), binding=b64encode(_POINT))
POINTS = frost.round1.SigningCommitments(_POINT, _POINT)


async def test_what_nobody_waits_for_does_not_pile_up_behind_a_signer_that_hangs(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=1)
    for each in cluster.identifiers:
        cluster.behave(each, Gate())
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        for _ in range(6):
            late = [coordinator.sign(b"%d" % each, timeout=0.3) for each in range(100)]
            for outcome in await asyncio.gather(*late, return_exceptions=True):
                assert isinstance(outcome, errors.DeadlineExceeded)
        assert 0 < sample(coordinator, "frost_coordinator_share_queue") <= 2 * 2 * 128


async def test_every_part_is_told_also_where_the_end_comes_between(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    signer = cluster.config.signer_nodes[0]
    lease = Lease(signer, "default", "epoch", COMMITMENT, POINTS, 0.0)
    told: list[str] = []

    def part(name: str) -> Part:
        session = wire.Session(session=name, msg="", commitments={"1": COMMITMENT})
        return Part(lease, session, Trace("request"), lambda _identifier, _outcome: told.append(name))

    async with cluster.coordinator() as coordinator:
        parts = coordinator._parts.readiness
        metrics = CoordinatorMetrics(new_registry())
        batching = Batching(parts._calls, parts._commitments, cluster.config.signing, metrics)
        async with batching:
            batching.send("default", part("leaving"))
            await asyncio.sleep(0)
            batching.send("default", part("waiting"))
        batching.send("default", part("late"))
    assert sorted(told) == ["late", "leaving", "waiting"]
