"""The record of every request, and its way to the sinks: no signature leaves before the required ones have it.

Writes are batched naturally: while one write to a sink is under way, the next records gather and leave together.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio

from frost_sidecar.config import AuditConfig
from frost_sidecar.containment import contained
from frost_sidecar.contract import SinkReadiness
from frost_sidecar.errors import AuditUnavailable, Denied, FrostSidecarError, Refusal
from frost_sidecar.hookspecs import AuditSink
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import CoordinatorMetrics
from frost_sidecar.model import AuditRecord, AuditSession, Caller, Outcome, Quorum, SignRequest

log = get_logger("frost_sidecar.audit")

_LARGEST_BATCH = 512
"""Most records in one write."""


_FAILURE_SECONDS = 5.0
"""How long a failed write speaks against a sink."""

_LONGEST_REASON = 2048
"""Characters of a reason that are kept."""


class Entry:
    """What becomes the record of one request while it is under way."""

    def __init__(self, caller: Caller, request: SignRequest) -> None:
        self.caller = caller
        self.request = request
        self.key = request.key or ""
        self.sessions: tuple[AuditSession, ...] = ()
        self.participants: Quorum = ()
        self.signature: bytes | None = None

    def record(self, outcome: Outcome, reason: str | None = None, refusal: Refusal | None = None) -> AuditRecord:
        """The record as it stands."""
        signed = outcome == "signed" and self.signature is not None
        return AuditRecord(
            time=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
            request_id=self.request.request_id,
            outcome=outcome,
            caller=self.caller.subject,
            key=self.key,
            message_sha256=hashlib.sha256(self.request.message).hexdigest(),
            participants=self.participants if signed else (),
            sessions=self.sessions,
            signature_sha256=hashlib.sha256(self.signature).hexdigest() if signed and self.signature else None,
            reason=None if reason is None else reason[:_LONGEST_REASON],
            traceparent=self.request.traceparent,
            caller_name=self.caller.name,
            refusal=refusal,
        )


class Audit:
    """Hands records to all sinks. Enter it before use; leaving waits for what is queued, within the write deadline."""

    def __init__(
        self, sinks: Sequence[tuple[str, AuditSink]], config: AuditConfig, metrics: CoordinatorMetrics
    ) -> None:
        self._lanes = [_Lane(name, sink, config, metrics) for name, sink in sinks]
        self._required = [lane for lane in self._lanes if lane.name not in config.best_effort]
        self._seconds = config.write_seconds
        self._phase = metrics.phases["audit"]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # Plain tasks, not a task group: a program may open and close a coordinator in different tasks.
        self._tasks = [asyncio.create_task(lane.run(), name=f"audit {lane.name}") for lane in self._lanes]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self._seconds):
                for lane in self._lanes:
                    await lane.flushed()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._lanes:
            lane.close()

    async def check(self) -> dict[str, SinkReadiness]:
        """Every sink as it is now, by its plugin's name."""
        return {lane.name: await lane.check(required=lane in self._required) for lane in self._lanes}

    @asynccontextmanager
    async def recording(self, caller: Caller, request: SignRequest) -> AsyncIterator[Entry]:
        """Around a request: when the block ends, its record is durable, whatever the end, or the request fails.

        Raises:
            AuditUnavailable: a required sink did not confirm the record of a signature in time. For a request that
                fails anyway the record is handed over, and the request's own error stands.
        """
        entry = Entry(caller, request)
        try:
            yield entry
        except BaseException as error:
            outcome: Outcome = "denied" if isinstance(error, Denied) else "failed"
            refusal = error.reason if isinstance(error, Denied) else None
            record = entry.record(outcome, str(error) if isinstance(error, Exception) else "cancelled", refusal)
            await self._write(record, required=False)
            raise
        try:
            await self._write(entry.record("signed"), required=True)
        except BaseException as error:
            why = str(error) if isinstance(error, AuditUnavailable) else "cancelled"
            withheld = entry.record("failed", f"signature withheld: {why}")
            for lane in self._lanes:
                lane.submit(withheld, correction=True)
            raise

    async def _write(self, record: AuditRecord, *, required: bool) -> None:
        """Hand over to all sinks and wait for the required ones, even if the request is cancelled meanwhile."""
        tickets = [(lane, lane.submit(record)) for lane in self._lanes]
        failed: list[str] = []
        with self._phase.time():
            with anyio.CancelScope(deadline=anyio.current_time() + self._seconds, shield=True):
                for lane, ticket in tickets:
                    if lane in self._required and ticket is not None:
                        await ticket.done.wait()
            for lane, ticket in tickets:
                if lane in self._required and not lane.confirmed(ticket):
                    failed.append(f"{lane.name}: {ticket.why if ticket else 'its queue is full'}")
        if failed:
            log.error("audit record not confirmed", request_id=record.request_id, sinks=failed)
        if failed and required:
            names = ", ".join(each.partition(":")[0] for each in failed)
            raise AuditUnavailable(f"no confirmation of the audit record by {names}, so the signature was withheld")


class _Ticket:
    """One record on its way to one sink."""

    __slots__ = ("done", "durable", "record", "why")

    def __init__(self, record: AuditRecord) -> None:
        self.record = record
        self.done = asyncio.Event()
        self.durable = False
        self.why = "no confirmation in time"


class _Lane:
    """One sink with its queue; a single task writes, so that a sink is never called twice at once."""

    def __init__(self, name: str, sink: AuditSink, config: AuditConfig, metrics: CoordinatorMetrics) -> None:
        self.name = name
        self._sink = sink
        self._config = config
        self._metrics = metrics
        self._queue: list[_Ticket] = []
        self._writing: list[_Ticket] = []
        self._wake = anyio.Event()
        self._failed: tuple[float, str | None] = 0.0, None
        metrics.audit_backlog.labels(name).set_function(lambda: len(self._queue))

    def submit(self, record: AuditRecord, *, correction: bool = False) -> _Ticket | None:
        """Queue a record; None where the queue is full. A correction of a record may use as much room again."""
        if len(self._queue) >= self._config.max_queue * (2 if correction else 1):
            log.error("audit record lost: the queue is full", sink=self.name, request_id=record.request_id)
            return None
        ticket = _Ticket(record)
        self._queue.append(ticket)
        self._wake.set()
        return ticket

    def confirmed(self, ticket: _Ticket | None) -> bool:
        """Whether the record became durable by now. One that has not been taken up to now is withdrawn."""
        if ticket is None:
            return False
        if not ticket.done.is_set() and ticket in self._queue:
            self._queue.remove(ticket)
        return ticket.durable

    async def check(self, *, required: bool) -> SinkReadiness:
        """Whether a record would be made durable now, by the queue, the last write, and the sink's own word."""
        backlog = len(self._queue) + len(self._writing)
        when, detail = self._failed
        if anyio.current_time() - when > _FAILURE_SECONDS:
            detail = None  # or an unready sidecar would get no request that could prove it ready
        if backlog >= self._config.max_queue:
            detail = "its queue is full"
        try:
            await contained(self.name, self._config.write_seconds, self._sink.check)
        except FrostSidecarError as error:
            detail = str(error)
        return SinkReadiness(required, detail is None, backlog, detail)

    async def flushed(self) -> None:
        """Return when nothing is queued or being written."""
        while self._queue or self._writing:
            await (self._writing or self._queue)[-1].done.wait()

    def close(self) -> None:
        """Say which records were lost at the end."""
        lost = [ticket.record.request_id for ticket in (*self._writing, *self._queue)]
        if lost:
            log.error("audit records not written at the end", sink=self.name, request_ids=lost)

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._queue:
                self._writing, self._queue = self._queue[:_LARGEST_BATCH], self._queue[_LARGEST_BATCH:]
                await self._write(self._writing)
                self._writing = []

    async def _write(self, batch: list[_Ticket]) -> None:
        started = time.perf_counter()
        why = None
        try:
            records = [ticket.record for ticket in batch]
            await contained(self.name, self._config.write_seconds, self._sink.append, records)
        except FrostSidecarError as error:
            why = str(error)
            log.error("audit write failed", sink=self.name, records=len(batch), why=why)  # noqa: TRY400 - no traceback
        self._failed = anyio.current_time(), why
        result = "failed" if why else "ok"
        self._metrics.audit_writes.labels(self.name, result).observe(time.perf_counter() - started)
        for ticket in batch:
            ticket.durable = why is None
            ticket.why = why or ticket.why
            ticket.done.set()
