"""``GET /readyz``: whether a request could be signed now, and why not."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import AuditRecord, AuditSink, PluginContext
from frost_sidecar.model import Answer, Call
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.behaviour import Handle
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar
from tests.background import NO_STOCK, stocked


class Sink(AuditSink):
    """A sink with a switch."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.hangs = False

    async def append(self, records: Sequence[AuditRecord]) -> None:
        if self.fault:
            raise self.fault

    async def check(self) -> None:
        if self.hangs:
            await anyio.sleep_forever()
        if self.fault:
            raise self.fault

    @hookimpl
    def make_audit_sink(self, context: PluginContext) -> AuditSink:
        return self


async def test_a_whole_cluster_is_ready(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http, http.get("/readyz") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        report = await response.json()
    assert report["ready"] is True
    assert report["reasons"] == []
    assert report["keys"]["default"] == {
        "min_signers": 2,
        "usable": [1, 2, 3],
        "zones": {"ad-1": 1, "ad-2": 1, "ad-3": 1},
        "quorum": True,
        "survives_zone_loss": True,
    }
    assert [each["reachable"] for each in report["signers"]] == [True] * 3
    assert report["audit"] == {"memory": {"required": True, "writable": True, "backlog": 0, "detail": None}}


async def test_a_lost_signer_is_said_and_a_lost_quorum_is_503(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    sidecar.cluster.crash(1)
    async with sidecar.serving() as http:
        async with http.get("/readyz") as response:
            report = await response.json()
        assert response.status == 200
        assert report["keys"]["default"]["usable"] == [2, 3]
        assert report["keys"]["default"]["survives_zone_loss"] is False
        assert any("signer 1: unreachable" in reason for reason in report["reasons"])
        assert "key default: the loss of one zone would leave no quorum" in report["reasons"]
        sidecar.cluster.crash(2)
        await anyio.sleep(1.1)
        async with http.get("/readyz") as response:
            report = await response.json()
        assert (response.status, report["ready"]) == (503, False)
        assert response.headers["Retry-After"] == "1"
        assert "key default: no quorum of signers can sign now" in report["reasons"]
        async with http.get("/metrics") as response:
            assert "frost_coordinator_ready 0.0" in await response.text()


async def test_a_signer_with_another_groups_share_does_not_count(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path / "ours")
    stranger = MemoryCluster(tmp_path / "theirs")

    async def of_another_group(_: Handle, call: Call) -> Answer:
        token = call.headers["Authorization"].removeprefix("Bearer ")
        stranger.tokens._claims[token] = cluster.tokens._claims[token]
        return await stranger.call(cluster.config.signer_nodes[0], call)

    cluster.behave(1, of_another_group)
    async with cluster.coordinator() as coordinator:
        report = await coordinator.readiness()
    assert report.ready
    assert report.keys["default"].usable == (2, 3)
    assert report.signers[0].reachable
    assert "another group" in (report.signers[0].detail or "")


async def test_where_only_callers_know_the_signers_nobody_is_asked_and_the_sidecar_is_ready(tmp_path: Path) -> None:
    url = "https://frost-signer-{}.frost.svc"
    cluster = MemoryCluster(tmp_path, settings={"signers": [], "signer_urls_allow": [url.format("{identifier}")]})
    async with cluster.coordinator() as coordinator:
        report = await coordinator.readiness()
        assert await coordinator.sign(b"m", participants=[1, 2], signer_urls=[url.format(1), url.format(2)])
    assert report.ready
    assert report.keys["default"].quorum is None
    assert report.signers == ()
    [reason] = report.reasons
    assert reason.startswith("key default: only callers know where its signers are")


async def test_a_quarantined_signer_does_not_count(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path)
    cluster.behave(3, behaviour.wrong_share)
    async with cluster.coordinator() as coordinator:
        for _ in range(8):
            await coordinator.sign(b"message")
        report = await coordinator.readiness()
    assert report.keys["default"].usable == (1, 2)
    assert report.signers[2].state == "quarantined"
    assert report.signers[2].detail == "is quarantined"


async def test_many_who_ask_cost_the_signers_one_question(tmp_path: Path) -> None:
    cluster = MemoryCluster(tmp_path, settings={"stock": NO_STOCK})
    asked = []

    async def counted(handle: Handle, call: Call) -> Answer:
        asked.append(call.path)
        return await handle(call)

    cluster.behave(1, counted)
    async with cluster.coordinator() as coordinator, anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(coordinator.readiness)
    assert asked == ["/v1/info"]


@pytest.mark.parametrize("least", [0, 1, 40])
async def test_commitments_in_stock_are_said_and_none_are_needed(tmp_path: Path, least: int) -> None:
    cluster = MemoryCluster(tmp_path, settings={"stock": {"least": least}})
    cluster.crash(2)
    async with cluster.coordinator() as coordinator:
        if least:
            await stocked(coordinator, (1, 3))
        report = await coordinator.readiness()
    assert report.ready
    assert [signer.commitments_in_stock for signer in report.signers] == [least, 0, least]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("how", ["refuses", "hangs"])
async def test_an_audit_sink_that_cannot_write(tmp_path: Path, how: str, required: bool) -> None:  # noqa: FBT001
    sink = Sink()
    audit: dict[str, Any] = {"write_seconds": 0.2, "best_effort": [] if required else ["sink"]}
    cluster = MemoryCluster(tmp_path, settings={"plugins": {"memory": {}, "sink": {}}, "audit": audit})
    async with cluster.coordinator({"sink": sink}) as coordinator:
        if how == "refuses":
            sink.fault = OSError("no space left on device")
        else:
            sink.hangs = True
        report = await coordinator.readiness()
        assert report.ready is not required
        assert report.audit["sink"].writable is False
        assert any(reason.startswith("audit sink sink: plugin sink: ") for reason in report.reasons)
        assert "no space left" not in str(report)  # a plugin's words may hold what callers must not see
        sink.fault, sink.hangs = None, False
        await anyio.sleep(1.1)
        assert (await coordinator.readiness()).ready


async def test_a_failed_write_speaks_against_a_sink_only_for_a_while(tmp_path: Path) -> None:
    """Without requests nothing is written: an unready sidecar that gets none must become ready again by itself."""

    class Silent(Sink):
        async def check(self) -> None:
            return None

    sink = Silent()
    cluster = MemoryCluster(tmp_path, settings={"plugins": {"memory": {}, "sink": {}}})
    async with cluster.coordinator({"sink": sink}) as coordinator:
        sink.fault = OSError("no space")
        with pytest.raises(Exception, match="audit"):
            await coordinator.sign(b"message")
        assert not (await coordinator.readiness()).ready
        await anyio.sleep(5.2)
        assert (await coordinator.readiness()).ready


@pytest.mark.parametrize(("seconds", "ready", "said"), [(-60, False, "listener: has expired"), (3600, True, None)])
async def test_certificates_are_looked_at(short_path: Path, seconds: int, ready: bool, said: str | None) -> None:  # noqa: FBT001
    sidecar = MemorySidecar(short_path, tcp=True)
    sidecar.authority.issue("listener", ["x.frost.test"], lifetime=dt.timedelta(seconds=seconds))
    async with sidecar.serving() as http:
        async with http.get("/readyz") as response:
            report = await response.json()
        async with http.get("/metrics") as response:
            text = await response.text()
    assert report["ready"] is ready
    assert report["reasons"] == ([said] if said else [])
    assert abs(report["certificates"]["listener"]["seconds_left"] - max(0, seconds)) < 30
    assert 'frost_coordinator_certificate_expiry_timestamp_seconds{use="listener"}' in text


async def test_the_end_of_a_certificate_is_said_before_it_comes(short_path: Path) -> None:
    """With a quarter of its time left, however short that time: those that live for minutes are renewed in minutes."""
    sidecar = MemorySidecar(short_path, tcp=True)
    sidecar.authority.issue("listener", ["x.frost.test"], lifetime=dt.timedelta(seconds=12))
    reasons: set[str] = set()
    async with sidecar.serving() as http:
        with anyio.fail_after(30):
            while "listener: has expired" not in reasons:
                async with http.get("/readyz") as response:
                    report = await response.json()
                    assert response.status == (503 if report["reasons"] == ["listener: has expired"] else 200)
                reasons |= set(report["reasons"])
                await anyio.sleep(0.2)
    assert {each.partition(" at ")[0] for each in reasons} == {"listener: expires", "listener: has expired"}


async def test_a_changed_certificate_that_cannot_be_read_is_a_remark(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path, tcp=True)
    remark = "listener: its changed files cannot be used; see the log"
    async with sidecar.serving() as http:

        async def report() -> Any:
            async with http.get("/readyz") as response:
                assert response.status == 200
                return await response.json()

        good = sidecar.listener.cert.read_bytes()
        sidecar.listener.cert.write_text("-----BEGIN")
        with anyio.fail_after(6):
            while remark not in (await report())["reasons"]:
                await anyio.sleep(0.2)
        assert (await report())["certificates"]["listener"]["seconds_left"] > 3600  # of the one that is in use
        async with http.get("/metrics") as response:
            assert 'frost_coordinator_reloads_total{result="failed",what="listener"} 1.0' in await response.text()
        sidecar.listener.cert.write_bytes(good)
        with anyio.fail_after(6):
            while (await report())["reasons"]:
                await anyio.sleep(0.2)
        async with http.get("/metrics") as response:
            assert 'frost_coordinator_reloads_total{result="ok",what="listener"} 1.0' in await response.text()


class EndlessSoon(Sink):
    """Follows a file whose content has an end, until it is written again."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.end: float | None = time.time() + 1000

    @hookimpl
    def make_audit_sink(self, context: PluginContext) -> AuditSink:
        context.follow("ends", [self.file], lambda: self.end)
        return self


async def test_an_end_that_is_taken_back_while_signers_are_asked(short_path: Path) -> None:
    (short_path / "file").write_text("1")
    sink = EndlessSoon(short_path / "file")
    sidecar = MemorySidecar(short_path, plugins={"ending": sink})

    async def changes(handle: Handle, call: Call) -> Answer:
        sink.end = None
        sink.file.write_text("without an end")
        await anyio.sleep(1.6)
        return await handle(call)

    sidecar.cluster.behave(1, changes)
    async with sidecar.serving() as http, http.get("/readyz") as response:
        assert response.status == 200
