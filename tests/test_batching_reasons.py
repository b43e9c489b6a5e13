"""A batch's answer has room for every reason that signers may give."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import nacl.signing

from frost_sidecar import errors
from frost_sidecar.encoding import b64encode
from frost_sidecar.model import Answer, Call
from frost_sidecar.testing.behaviour import Handle
from frost_sidecar.wire import SHARES_PATH
from tests.test_batching import make_cluster, sample, stocked


async def test_long_reasons_of_one_callers_denied_messages_do_not_spoil_the_answer_for_others(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, batches_per_signer=1)
    denied = b64encode(b"denied ")[:8]
    room: list[int] = []

    async def explains(handle: Handle, call: Call) -> Answer:
        answer = await handle(call)
        if call.path != SHARES_PATH:
            return answer
        messages = {each["session"]: each["msg"] for each in msgspec.json.decode(call.body)["sessions"]}
        value = msgspec.json.decode(answer.body)
        value["results"] = [
            {"session": each["session"], "error": "denied", "detail": "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 1024}
            if messages[each["session"]].startswith(denied)
            else each
            for each in value["results"]
        ]
        body = msgspec.json.encode(value)
        room.append(call.max_answer_bytes - len(body))
        return Answer(answer.status, body)

    for each in cluster.identifiers:
        cluster.behave(each, explains)
    async with cluster.coordinator() as coordinator:
        await stocked(coordinator)
        refused = [asyncio.create_task(coordinator.sign(b"denied  %d" % each)) for each in range(63)]
        signed = await coordinator.sign(b"honest")
        for outcome in await asyncio.gather(*refused, return_exceptions=True):
            assert isinstance(outcome, errors.Denied)
        nacl.signing.VerifyKey(signed.group_public).verify(b"honest", signed.signature)
        for each in cluster.identifiers:
            labels = {"signer": f"signer-{each}", "kind": "malformed"}
            assert sample(coordinator, "frost_coordinator_signer_faults_total", **labels) == 0
    assert min(room) >= 0
