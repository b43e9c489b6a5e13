"""Whether a request could be signed now: reachable quorum, zones, audit, certificates.

The signers are asked (``GET /v1/info``, with token and certificate as for a signature), at most once a second however
many ask us, so that nobody can use ``/readyz`` to load them.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import anyio

from frost_sidecar.audit import Audit
from frost_sidecar.commitments import Commitments
from frost_sidecar.contract import CertificateReadiness, KeyReadiness, Readiness, SignerReadiness
from frost_sidecar.encoding import b64decode
from frost_sidecar.errors import SignerError
from frost_sidecar.following import Following
from frost_sidecar.keygen.group import Group
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import Signer
from frost_sidecar.signers import Signers
from frost_sidecar.transport import SignerCalls, Trace
from frost_sidecar.wire import InfoAnswer

_FRESH_SECONDS = 1.0
"""How long an answer is given again."""
_SOON = dt.timedelta(days=1)
"""What ends to be valid within this time is a remark; within a quarter of its time where that is shorter."""


class ReadinessCheck:
    """Looks at everything that a signature needs."""

    def __init__(
        self,
        groups: Mapping[str, Group],
        nodes: Sequence[Signer],
        signers: Signers,
        commitments: Commitments,
        calls: SignerCalls,
        audit: Audit,
        following: Following,
        metrics: CoordinatorMetrics,
        *,
        by_callers: bool,
    ) -> None:
        """Look at these.

        ``nodes`` are the configured signers, ``following`` the process's own certificates and other files;
        ``by_callers`` says that callers may bring the addresses of signers that are not configured.
        """
        self._by_callers = by_callers
        self._groups = groups
        self._nodes = nodes
        self._signers = signers
        self._commitments = commitments
        self._calls = calls
        self._audit = audit
        self._following = following
        self._metrics = metrics
        self._turn = anyio.Lock()
        self._last: tuple[float, Readiness] | None = None

    async def check(self) -> Readiness:
        """The state as it is, or was a second ago."""
        async with self._turn:
            if self._last is None or anyio.current_time() - self._last[0] >= _FRESH_SECONDS:
                readiness = await self._look()
                self._metrics.ready.set(readiness.ready)
                self._last = anyio.current_time(), readiness
            return self._last[1]

    async def _look(self) -> Readiness:
        infos: dict[int, InfoAnswer | SignerError] = {}

        async def ask(node: Signer) -> None:
            try:
                infos[node.identifier] = await self._calls.info(node, Trace("readyz"))
            except SignerError as fault:
                infos[node.identifier] = fault

        async with anyio.create_task_group() as tasks:
            for node in self._nodes:
                tasks.start_soon(ask, node)
            sinks = await self._audit.check()
            certificates = await self.certificates()
        signers = tuple(self._signer(node, infos[node.identifier]) for node in self._nodes)
        keys = {name: self._key(group, signers) for name, group in self._groups.items()}
        wrong = [f"key {name}: no quorum of signers can sign now" for name, key in keys.items() if key.quorum is False]
        wrong += [f"audit sink {name}: {each.detail}" for name, each in sinks.items() if each.required and each.detail]
        wrong += [f"{use}: has expired" for use, each in certificates.items() if not each.seconds_left]
        remarks = [
            f"key {name}: the loss of one zone would leave no quorum"
            for name, key in keys.items()
            if key.quorum and not key.survives_zone_loss
        ]
        remarks += [
            f"key {name}: only callers know where its signers are, so nobody can say whether a quorum is there"
            for name, key in keys.items()
            if key.quorum is None
        ]
        remarks += [f"signer {each.identifier}: {each.detail}" for each in signers if each.detail]
        remarks += [
            f"audit sink {name}: {each.detail}" for name, each in sinks.items() if not each.required and each.detail
        ]
        terms = self._following.terms  # a file that was read since then may have no end any more
        remarks += [
            f"{use}: expires at {each.expires}"
            for use, each in certificates.items()
            if 0 < each.seconds_left < min(_SOON.total_seconds(), terms.get(use, math.inf) / 4)
        ]
        remarks += [f"{what}: its changed files cannot be used; see the log" for what in self._following.faults]
        return Readiness(not wrong, tuple(wrong + remarks), keys, signers, sinks, certificates)

    def _signer(self, node: Signer, info: InfoAnswer | SignerError) -> SignerReadiness:
        state = self._signers.state(node.identifier)
        fault = info if isinstance(info, SignerError) else None
        wrong: list[str] = []
        right: list[str] = []
        if not isinstance(info, SignerError):
            for name, group in self._groups.items():
                if node.identifier not in group.identifiers:
                    continue
                (right if _has_share(info, name, group, node.identifier) else wrong).append(name)
        detail = f"{fault.kind}: {fault.detail}" if fault else None
        if wrong:
            detail = f"has no share, or the share of another group, for {', '.join(wrong)}"
        return SignerReadiness(
            identifier=node.identifier,
            name=node.name,
            zone=node.zone,
            state=state,
            reachable=fault is None,
            keys=tuple(right),
            commitments_in_stock=self._commitments.in_stock(node.identifier),
            detail=detail or (f"is {state}" if state != "healthy" else None),
        )

    def _key(self, group: Group, signers: Iterable[SignerReadiness]) -> KeyReadiness:
        usable = [each for each in signers if group.name in each.keys and each.state != "quarantined"]
        zones = Counter(each.zone for each in usable)
        quorum = len(usable) >= group.min_signers
        listed = group.identifiers & {node.identifier for node in self._nodes}
        unknown = self._by_callers and len(listed) < group.min_signers
        return KeyReadiness(
            min_signers=group.min_signers,
            usable=tuple(each.identifier for each in usable),
            zones=dict(sorted(zones.items())),
            quorum=None if unknown else quorum,
            survives_zone_loss=quorum and len(usable) - max(zones.values()) >= group.min_signers,
        )

    async def certificates(self) -> dict[str, CertificateReadiness]:
        """When what the process proves itself and others with ends to be valid, by what it is."""
        now = time.time()
        return {
            use: CertificateReadiness(
                dt.datetime.fromtimestamp(expires, dt.UTC).isoformat(), max(0, int(expires - now))
            )
            for use, expires in self._following.expiries.items()
        }


def _has_share(info: InfoAnswer, key: str, group: Group, identifier: int) -> bool:
    claimed = info.keys.get(key)
    if claimed is None or claimed.identifier != identifier:
        return False
    try:
        return b64decode(claimed.group_public) == group.public
    except ValueError:
        return False
