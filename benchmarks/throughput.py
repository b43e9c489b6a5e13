"""Signatures per second at 64 in flight: ours with and without an audit log, and the Rust coordinator, in turns."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmarks.figure import figure, median_of
from benchmarks.session import Raw, Result, Session

IN_FLIGHT: Final = 64


def measure(session: Session) -> Result:
    plan, stand = session.plan, session.stand
    servers = (stand.sidecar("audit"), stand.opponent("rust"), stand.sidecar("plain", audit=False))
    raw: Raw = []
    with session.part("throughput and audit", plan.alternations * len(servers)):
        for number in range(plan.alternations):
            phases = [
                (server.name, partial(stand.phase, server, IN_FLIGHT, plan.throughput, plan.warm_up))
                for server in servers
            ]
            raw.append(session.alternate(number, phases))
    stand.end(*servers)
    rates = {server.name: [each[server.name]["signatures_per_second"] for each in raw] for server in servers}
    per_second = {name: median_of(raw, name, "signatures_per_second") for name in rates}
    return Result(
        {
            "throughput_ratio_vs_rust": figure(
                "throughput_ratio_vs_rust",
                [ours / rust for ours, rust in zip(rates["audit"], rates["rust"], strict=True)],
                audit="ours with audit_worm; the Rust coordinator has no audit log",
                audit_off=median_of(
                    [{"ratio": ours / rust} for ours, rust in zip(rates["plain"], rates["rust"], strict=True)], "ratio"
                ),
                signatures_per_second=per_second,
                p99_ms={name: median_of(raw, name, "latency_ms", "p99") for name in rates},
                coordinator_cpu_us={
                    name: median_of(raw, name, "cpu_us_per_signature", "coordinator") for name in rates
                },
                all_signers_cpu_us={
                    name: median_of(raw, name, "cpu_us_per_signature", "all_signers") for name in rates
                },
                failed={name: sum(each[name]["failed"] for each in raw) for name in rates},
            ),
            "audit_throughput_ratio": figure(
                "audit_throughput_ratio",
                [on / off for on, off in zip(rates["audit"], rates["plain"], strict=True)],
                signatures_per_second={"on": per_second["audit"], "off": per_second["plain"]},
            ),
        },
        raw,
    )
