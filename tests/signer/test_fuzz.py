"""Any JSON at all, and any small damage to a good request: an answer of the protocol, never a defect."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frost_sidecar.wire import COMMITMENTS_PATH, SHARES_PATH, CommitmentsAnswer, SharesAnswer, SharesRequest

if TYPE_CHECKING:
    from tests.signer.conftest import Reply, Rig

SETTINGS = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1", "01", "A" * 44])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@SETTINGS
@given(path=st.sampled_from([COMMITMENTS_PATH, SHARES_PATH]), body=st.binary() | VALUES.map(json.dumps).map(str.encode))
def test_any_body_is_answered(rig: Rig, path: str, body: bytes) -> None:
    reply = asyncio.run(rig.call(rig.service(), path, body))
    assert (reply.status, reply.slug) == (400, "malformed-request")


@SETTINGS
@given(data=st.data())
def test_a_damaged_request_is_answered(rig: Rig, data: st.DataObject) -> None:
    reply = asyncio.run(_ask_damaged(rig, data))
    assert reply.status in {200, 400, 404, 409}
    if reply.status == 200:
        answer = msgspec.json.decode(reply.body, type=SharesAnswer)
        assert all((each.share is None) != (each.error is None) for each in answer.results)


async def _ask_damaged(rig: Rig, data: st.DataObject) -> Reply:
    service = rig.service()
    stock = await rig.call(service, COMMITMENTS_PATH, {"key": "default", "count": 2})
    answer = msgspec.json.decode(stock.body, type=CommitmentsAnswer)
    sessions = [rig.group.session(each, name=f"s{index}")[0] for index, each in enumerate(answer.commitments)]
    request = msgspec.to_builtins(SharesRequest("default", answer.epoch, sessions))
    _damage(request, data)
    return await rig.call(service, SHARES_PATH, json.dumps(request).encode())


def _damage(value: Any, data: st.DataObject) -> None:
    """Replace, remove or rename one thing somewhere inside ``value``."""
    place = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    if isinstance(value[place], dict | list) and value[place] and data.draw(st.booleans()):
        return _damage(value[place], data)
    kind = data.draw(st.sampled_from(["replace", "remove", "rename"]))
    if kind == "replace":
        value[place] = data.draw(VALUES)
    else:
        taken = value.pop(place)
        if kind == "rename" and isinstance(value, dict):
            value[data.draw(st.text())] = taken
    return None
