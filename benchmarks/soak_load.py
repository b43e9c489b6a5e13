"""The load of a soak: a closed loop of requests on a sidecar's socket that remembers what each of them got."""

from __future__ import annotations

import asyncio
import base64
import collections
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import msgspec
import nacl.exceptions
import nacl.signing

from benchmarks.soak_check import Answers, Findings
from frost_sidecar.contract import PROGRAM_HEADER, PROGRAM_VALUE
from frost_sidecar.problem import CONTENT_TYPE, TYPE_BASE

PREFIX: Final = "soak-"
"""Before the number in a request's id."""
REQUEST_SECONDS: Final = 15.0
"""Three times the coordinator's budget: a request without an answer by then hangs."""
_MESSAGE_BYTES: Final = 200
_AGAIN_SECONDS: Final = 0.05
_HEAD_BYTES: Final = 64 * 1024


class _Signed(msgspec.Struct):
    signature_b64: str
    request_id: str


class _Problem(msgspec.Struct):
    type: str


@dataclass
class Load:
    """``in_flight`` requests at a time, each on a connection of its own, until ``requests`` are signed."""

    socket: Path
    group_public: bytes
    requests: int
    in_flight: int
    findings: Findings
    answers: Answers = field(default_factory=Answers)
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    """Answers without a signature, and requests without an answer."""
    signed: int = 0
    down: bool = False
    """Whether the sidecar is being restarted: only then may connections break."""
    ended: bool = False
    """Set it, and no further request begins."""

    async def run(self) -> None:
        """Return when all is signed, or :attr:`ended` was set and the last requests have ended."""
        key = nacl.signing.VerifyKey(self.group_public)
        async with anyio.create_task_group() as tasks:
            for _ in range(self.in_flight):
                tasks.start_soon(self._work, key)

    async def _work(self, key: nacl.signing.VerifyKey) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.signed < self.requests and not self.ended:
            try:
                if connection is None:
                    connection = await asyncio.open_unix_connection(self.socket, limit=_HEAD_BYTES)
            except OSError:
                await anyio.sleep(_AGAIN_SECONDS)
                continue
            number = self.answers.ask()
            try:
                with anyio.fail_after(REQUEST_SECONDS):
                    reply = await _ask(*connection, number, _message(number))
            except TimeoutError:
                self._fault(number, "a request hangs")
            except (OSError, EOFError, ValueError) as error:
                if not self.down:
                    self._fault(number, f"no answer: {type(error).__name__}")
                self.errors["connection lost"] += 1
            else:
                self._take(number, key, reply)
                if not reply.closes:
                    continue
            self.answers.lost_unless_answered(number)
            connection[1].close()
            connection = None
        if connection is not None:
            connection[1].close()

    def _take(self, number: int, key: nacl.signing.VerifyKey, reply: _Reply) -> None:
        try:
            if reply.status == 200:
                signed = msgspec.json.decode(reply.body, type=_Signed)
                signature = base64.b64decode(signed.signature_b64, validate=True)
                key.verify(_message(number), signature)
                self.answers.signed(number, signature)
                self.signed += 1
                if signed.request_id != f"{PREFIX}{number}":
                    self.findings.add("an answer to another request", number)
            elif reply.problem:
                self.answers.refused(number)
                kind = msgspec.json.decode(reply.body, type=_Problem).type.removeprefix(TYPE_BASE)
                self.errors[kind] += 1
            else:
                self._fault(number, f"an answer that is no problem document, status {reply.status}")
        except nacl.exceptions.BadSignatureError:
            self._fault(number, "a wrong signature")
        except ValueError as error:
            self._fault(number, f"an answer that is not understood: {error}")

    def _fault(self, number: int, kind: str) -> None:
        self.findings.add(kind, f"request {number}")


def _message(number: int) -> bytes:
    return b"soak %d " % number + b"." * _MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    problem: bool
    closes: bool


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, message: bytes) -> _Reply:
    """One request and its answer (RFC 9112); raises :class:`ValueError` for an answer that is none."""
    body = b'{"msg_b64":"%s"}' % base64.b64encode(message)
    head = (
        f"POST /sign HTTP/1.1\r\nHost: sidecar\r\n{PROGRAM_HEADER}: {PROGRAM_VALUE}\r\n"
        f"X-Request-ID: {PREFIX}{number}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return _Reply(
        status=int(lines[0][9:12]),
        body=await reader.readexactly(int(headers.get("content-length", "none"))),
        problem=headers.get("content-type", "").startswith(CONTENT_TYPE),
        closes=headers.get("connection", "").lower() == "close",
    )
