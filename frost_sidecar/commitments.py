"""Where a session's commitments come from: leased once, never returned.

Today every lease asks the signer for one fresh commitment. A stock that is kept filled can take its place behind
:meth:`Commitments.lease` without a change anywhere else.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import frost_ed25519 as frost

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import SignerError
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Signer
from frost_sidecar.transport import SignerCalls, Trace
from frost_sidecar.wire import Commitment

_REMEMBERED = 16_384
"""Commitments remembered per signer, to notice one that is offered again."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One commitment, for one signing package and no other."""

    signer: Signer
    epoch: str
    commitment: Commitment
    points: frost.round1.SigningCommitments

    def listed(self) -> Commitment:
        """The commitment as it goes into a signing package: in our own spelling, whatever the signer's was."""
        return Commitment(
            id=self.commitment.id, hiding=b64encode(self.points.hiding), binding=b64encode(self.points.binding)
        )


class Commitments:
    """Leases commitments of all signers."""

    def __init__(self, calls: SignerCalls, metrics: CoordinatorMetrics) -> None:
        self._calls = calls
        self._metrics = metrics
        self._seen: dict[int, OrderedDict[bytes, None]] = {}

    async def lease(self, signer: Signer, key: str, trace: Trace) -> Lease:
        """A commitment that was never leased before; raises :class:`SignerError`."""
        answer = await self._calls.commitments(signer, key, 1, trace)
        [commitment] = answer.commitments
        self._metrics.commitments.labels(signer.name, "fetched").inc()
        try:
            points = frost.round1.SigningCommitments(b64decode(commitment.hiding), b64decode(commitment.binding))
        except (ValueError, frost.FrostError) as error:
            raise SignerError(signer.identifier, "malformed", f"unusable commitment: {error}") from None
        self._remember(signer, points)
        self._metrics.commitments.labels(signer.name, "leased").inc()
        return Lease(signer, answer.epoch, commitment, points)

    def burnt(self, lease: Lease) -> None:
        """Count a lease of which no signature came. It is gone all the same."""
        self._metrics.commitments.labels(lease.signer.name, "burnt").inc()

    def _remember(self, signer: Signer, points: frost.round1.SigningCommitments) -> None:
        """Refuse a point seen before: a signer that repeats one is broken, and must not sign with it again."""
        seen = self._seen.setdefault(signer.identifier, OrderedDict())
        if points.hiding == points.binding or points.hiding in seen or points.binding in seen:
            raise SignerError(signer.identifier, "malformed", "offered the same commitment twice")
        seen[points.hiding] = seen[points.binding] = None
        while len(seen) > 2 * _REMEMBERED:
            seen.popitem(last=False)
