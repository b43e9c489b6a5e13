"""Many sessions in one request: each comes out as it would alone, in order, and no commitment twice."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from frost_ed25519 import FrostError, SigningPackage, round1, round2

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.hookspecs import Decision, Policy, PolicyRequest
from frost_sidecar.metrics import SignerMetrics, new_registry, render
from frost_sidecar.signer import NonceStore, SignerNode
from frost_sidecar.wire import COMMITMENTS_PATH, SHARES_PATH, Commitment, Session, SharesAnswer, SharesRequest
from tests.signer.conftest import CLIENT
from tests.signer.test_signer_policy import TABLES, jwt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frost_sidecar.signer.node import Use
    from frost_sidecar.signer.reading import Reading
    from tests.signer.conftest import Group, Reply, Rig, Server

ME = f"{CLIENT} frost-coordinator"
SMALL_ORDER = b64encode(bytes(32))
Post = Callable[..., Awaitable["Reply"]]
"""Sends a path, a message and changed claims."""


class Batch:
    """64 sessions of every kind, shuffled, each with what must come of it."""

    def __init__(self, rig: Rig, epoch: str, mine: Sequence[Commitment], theirs: Sequence[Commitment]) -> None:
        self._group = rig.group
        self._epoch = epoch
        self._mine = iter(mine)
        self._theirs = iter(theirs)
        self.sessions: list[Session] = []
        self.expected: list[str] = []
        self._finish: dict[str, Callable[[str], bytes]] = {}
        kinds = [
            *(self._good, self._denied, self._unknown, self._foreign, self._absent, self._twice, self._second_chance),
            *(self._no_base64, self._alone, self._bad_name, self._bad_point, self._own_point),
        ]
        chosen = [*kinds, *random.Random(5).choices(kinds, k=80)]
        for kind in chosen:
            if len(self.sessions) >= 62:
                kind = self._good  # noqa: PLW2901 - the others may add two
            if len(self.sessions) == 64:
                break
            kind()
        assert len(self.sessions) == 64

    def request(self, replenish: int = 0) -> SharesRequest:
        return SharesRequest("default", self._epoch, self.sessions, replenish)

    def check(self, answer: SharesAnswer) -> None:
        """Each outcome in its place, and each share one that makes a signature."""
        assert [each.session for each in answer.results] == [each.session for each in self.sessions]
        assert [each.error or "ok" for each in answer.results] == self.expected
        for each in answer.results:
            assert (each.share is None) != (each.error is None)
            assert each.share is None or len(self._finish[each.session](each.share)) == 64

    def _add(self, expected: str, message: bytes | None = None, mine: Commitment | None = None) -> Session:
        name = f"s{len(self.sessions)}"
        message = jwt(self._group, sub=name) if message is None else message
        session, self._finish[name] = self._group.session(mine or next(self._mine), message, name)
        self.sessions.append(session)
        self.expected.append(expected)
        return session

    def _change(self, session: Session, **changes: Any) -> None:
        self.sessions[-1] = msgspec.structs.replace(session, **changes)

    def _points(self, session: Session, who: str, **changes: str) -> None:
        changed = msgspec.structs.replace(session.commitments[who], **changes)
        self._change(session, commitments={**session.commitments, who: changed})

    def _good(self) -> None:
        self._add("ok")

    def _denied(self) -> None:
        self._add("denied", jwt(self._group, iss="https://evil.example"))

    def _unknown(self) -> None:
        self._points(self._add("unknown-commitment"), "1", id="never-issued")

    def _foreign(self) -> None:
        self._add("unknown-commitment", mine=next(self._theirs))

    def _absent(self) -> None:
        session = self._add("not-a-participant")
        self._change(session, commitments={"3": session.commitments["1"], "2": session.commitments["2"]})

    def _twice(self) -> None:
        mine = next(self._mine)
        self._add("ok", mine=mine)
        self._add("unknown-commitment", mine=mine)

    def _second_chance(self) -> None:
        """What a session that is refused names is left for the next."""
        mine = next(self._mine)
        self._points(self._add("malformed", mine=mine), "2", binding=SMALL_ORDER)
        self._add("ok", mine=mine)

    def _no_base64(self) -> None:
        self._change(self._add("malformed"), msg="####")

    def _alone(self) -> None:
        session = self._add("malformed")
        self._change(session, commitments={"1": session.commitments["1"]})

    def _bad_name(self) -> None:
        session = self._add("malformed")
        self._change(session, commitments={"1": session.commitments["1"], "02": session.commitments["2"]})

    def _bad_point(self) -> None:
        self._points(self._add("malformed"), "2", hiding=SMALL_ORDER)

    def _own_point(self) -> None:
        session = self._add("malformed")
        self._points(session, "1", hiding=session.commitments["2"].hiding)


async def _stock(post: Post, count: int, **claims: Any) -> tuple[str, list[Commitment]]:
    reply = await post(COMMITMENTS_PATH, {"key": "default", "count": count}, **claims)
    assert reply.status == 200, reply.body
    return reply.json["epoch"], [msgspec.convert(each, Commitment) for each in reply.json["commitments"]]


async def _mixed(rig: Rig, post: Post) -> Batch:
    """Send a mixed batch, check its answer, and use what rode back."""
    epoch, mine = await _stock(post, 128)
    _, theirs = await _stock(post, 64, sub="another-coordinator")
    batch = Batch(rig, epoch, mine, theirs)
    reply = await post(SHARES_PATH, batch.request(replenish=64))
    assert reply.status == 200, reply.body
    answer = msgspec.json.decode(reply.body, type=SharesAnswer)
    batch.check(answer)
    assert (answer.identifier, answer.epoch, len(answer.commitments)) == (1, epoch, 64)
    pairs = [rig.group.session(each, jwt(rig.group, sub=f"t{n}"), f"t{n}") for n, each in enumerate(answer.commitments)]
    reply = await post(SHARES_PATH, SharesRequest("default", epoch, [session for session, _ in pairs]))
    results = msgspec.json.decode(reply.body, type=SharesAnswer).results
    for (_, finish), result in zip(pairs, results, strict=True):
        assert len(finish(result.share or "")) == 64
    return batch


async def test_every_kind_of_session_in_one_request(rig: Rig) -> None:
    service = rig.service(**TABLES)

    async def post(path: str, message: object, **claims: Any) -> Reply:
        return await rig.call(service, path, message, **claims)

    batch = await _mixed(rig, post)
    text = render(service.metrics.registry, "")[0].decode()
    counted = collections.Counter(batch.expected) + collections.Counter(ok=64)
    assert set(counted) == {"ok", "denied", "unknown-commitment", "not-a-participant", "malformed"}
    for result, count in counted.items():
        assert f'frost_signer_shares_total{{key="default",result="{result}"}} {count}.0' in text
    assert f'frost_signer_commitments_total{{event="used"}} {counted["ok"]}.0' in text
    assert service.node.nonces.outstanding(ME) == 128 - batch.expected.count("ok")
    assert service.node.nonces.outstanding(f"{CLIENT} another-coordinator") == 64
    reply = await rig.call(service, SHARES_PATH, batch.request())
    again = [each.get("error") for each in reply.json["results"]]
    used = {each.commitments["1"].id for each, what in zip(batch.sessions, batch.expected, strict=True) if what == "ok"}
    assert set(again) == {"denied", "unknown-commitment", "not-a-participant", "malformed"}
    for session, outcome in zip(batch.sessions, again, strict=True):
        if session.msg != "####" and "1" in session.commitments and session.commitments["1"].id in used:
            assert outcome in {"unknown-commitment", "malformed"}


async def test_every_kind_of_session_over_real_tls(rig: Rig) -> None:
    async with rig.serving(**TABLES) as server:

        async def post(path: str, message: object, **claims: Any) -> Reply:
            body = msgspec.json.encode(message)
            return await server.send("POST", path, body, token=rig.token(body, **claims))

        await _mixed(rig, post)


async def test_a_stale_epoch_refuses_a_whole_batch_and_takes_nothing(rig: Rig) -> None:
    service = rig.service()
    _, stock = await _stock(lambda path, message: rig.call(service, path, message), 64)
    sessions = [rig.group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(stock)]
    reply = await rig.call(service, SHARES_PATH, SharesRequest("default", "another", sessions, 64))
    assert (reply.status, reply.slug) == (409, "stale-epoch")
    assert service.node.nonces.outstanding(ME) == 64
    reply = await rig.call(service, SHARES_PATH, SharesRequest("default", service.node.nonces.epoch, sessions))
    assert all("share" in each for each in reply.json["results"])


class _Recording:
    """A node and all uses that it told of."""

    def __init__(self, group: Group) -> None:
        self.uses: list[Use] = []
        self.store = NonceStore(SignerMetrics(new_registry()))
        self.node = SignerNode("signer-1", {"default": group.shares[1]}, self.store, on_used=self.uses.extend)
        self.stock = self.store.issue("c", "default", group.shares[1], 32)

    def ask(self, sessions: Sequence[Session]) -> list[tuple[str, str]]:
        """Commitment and outcome of each session."""
        answer = self.node.shares("c", SharesRequest("default", self.store.epoch, list(sessions)))
        return [
            (session.commitments["1"].id, result.error or "ok")
            for session, result in zip(sessions, answer.results, strict=True)
        ]


def test_of_batches_in_threads_that_race_for_the_same_commitments_each_is_used_once(group: Group) -> None:
    for seed in range(5):
        recording = _Recording(group)
        barrier = threading.Barrier(8)

        def race(
            number: int, seed: int = seed, recording: _Recording = recording, barrier: threading.Barrier = barrier
        ) -> list[tuple[str, str]]:
            shuffled = random.Random(8 * seed + number).sample(recording.stock, 32)
            sessions = [
                group.session(each, f"message {number}".encode(), f"s{n}")[0]
                for n, each in enumerate([*shuffled, *shuffled[:16]])
            ]
            barrier.wait()
            return recording.ask(sessions)

        with ThreadPoolExecutor(8) as pool:
            outcomes = [each for outcome in pool.map(race, range(8)) for each in outcome]
        assert {what for _, what in outcomes} == {"ok", "unknown-commitment"}
        signed = [name for name, what in outcomes if what == "ok"]
        assert sorted(signed) == sorted(each.id for each in recording.stock)
        assert sorted(use.commitment for use in recording.uses) == sorted(signed)
        assert recording.store.outstanding("c") == 0


async def test_of_requests_that_race_over_tls_each_commitment_is_used_once(rig: Rig) -> None:
    async with rig.serving() as server:
        stock = (await server.commitments(32)).commitments
        epoch = (await server.commitments()).epoch

        async def race(number: int) -> list[str]:
            shuffled = random.Random(number).sample(stock, 32)
            sessions = [
                rig.group.session(each, f"message {number}".encode(), f"s{n}")[0] for n, each in enumerate(shuffled)
            ]
            reply = await server.send("POST", SHARES_PATH, SharesRequest("default", epoch, sessions))
            results = msgspec.json.decode(reply.body, type=SharesAnswer).results
            return [mine.id for mine, each in zip(shuffled, results, strict=True) if each.share is not None]

        signed = [name for names in await asyncio.gather(*map(race, range(6))) for name in names]
    assert sorted(signed) == sorted(each.id for each in stock)


async def test_health_answers_while_a_batch_is_worked_on(rig: Rig) -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Held(SignerNode):
        def shares(
            self, client: str, request: SharesRequest, judged: Mapping[str, Reading] | None = None
        ) -> SharesAnswer:
            asked.set()
            assert go_on.wait(30)
            return super().shares(client, request, judged)

    async with rig.serving(Held) as server:
        call = asyncio.create_task(_batch(rig, server))
        try:
            while not asked.is_set():
                await asyncio.sleep(0.01)
            for _ in range(3):
                reply = await server.send("GET", "/healthz", headers={})
                assert (reply.status, reply.body) == (200, b"ok")
            assert not call.done()
        finally:
            go_on.set()
        assert (await call).count("ok") == 64


async def _batch(rig: Rig, server: Server) -> list[str]:
    stock = await server.commitments(64)
    sessions = [rig.group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(stock.commitments)]
    reply = await server.send("POST", SHARES_PATH, SharesRequest("default", stock.epoch, sessions))
    return [each.get("error", "ok") for each in reply.json["results"]]


async def test_a_cancelled_batch_is_worked_off_and_its_commitments_are_gone(rig: Rig) -> None:
    service = rig.service()
    taken, go_on = threading.Event(), threading.Event()
    uses: list[Use] = []

    def hold(fresh: Sequence[Use]) -> None:
        uses.extend(fresh)
        taken.set()
        assert go_on.wait(30)

    service.node._on_used = hold
    epoch, stock = await _stock(lambda path, message: rig.call(service, path, message), 64)
    sessions = [rig.group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(stock)]
    call = asyncio.create_task(rig.call(service, SHARES_PATH, SharesRequest("default", epoch, sessions)))
    while not taken.is_set():
        await asyncio.sleep(0.01)
    call.cancel()
    go_on.set()
    await asyncio.wait([call])
    assert call.cancelled()
    assert service.node.nonces.outstanding(ME) == 0
    reply = await rig.call(service, SHARES_PATH, SharesRequest("default", epoch, sessions))
    assert [each["error"] for each in reply.json["results"]] == ["unknown-commitment"] * 64
    assert [use.commitment for use in uses] == [each.id for each in stock]


async def test_where_uses_cannot_be_told_no_share_leaves_and_all_commitments_are_gone(rig: Rig) -> None:
    service = rig.service()

    def fail(_: object) -> None:
        raise OSError("the disk is full")

    service.node._on_used = fail
    epoch, stock = await _stock(lambda path, message: rig.call(service, path, message), 12)
    sessions = [rig.group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(stock)]
    reply = await rig.call(service, SHARES_PATH, SharesRequest("default", epoch, sessions))
    assert (reply.status, reply.slug) == (500, "internal")
    assert b"share" not in reply.body
    assert service.node.nonces.outstanding(ME) == 0


def test_a_share_that_cannot_be_made_costs_its_own_session_alone(group: Group) -> None:
    recording = _Recording(group)
    spent = recording.stock[1]
    issued = recording.store._stock["c"][spent.id]
    _, other = round1.commit(group.shares[2])
    round2.sign(SigningPackage({1: issued.commitments, 2: other}, b"x"), issued.nonces, group.shares[1])
    sessions = [group.session(each, b"m", f"s{n}")[0] for n, each in enumerate(recording.stock[:3])]
    assert [what for _, what in recording.ask(sessions)] == ["ok", "malformed", "ok"]


class _OnlyShort(Policy):
    async def decide(self, request: PolicyRequest) -> Decision:
        return Decision(len(request.message) < 9, "too long")


async def test_points_are_decoded_once_although_plugins_are_asked(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[bytes, bytes]] = []
    calls: list[int] = []
    real = round1.decode_many

    def watched(points: list[tuple[bytes, bytes]]) -> list[round1.SigningCommitments | FrostError]:
        calls.append(len(points))
        decoded.extend(points)
        return real(points)

    service = rig.service(deciding=_OnlyShort())
    epoch, stock = await _stock(lambda path, message: rig.call(service, path, message), 64)
    pairs = [rig.group.session(each, b"short" if n % 2 else b"much too long", f"s{n}") for n, each in enumerate(stock)]
    monkeypatch.setattr(round1, "decode_many", watched)
    request = SharesRequest("default", epoch, [session for session, _ in pairs])
    reply = await rig.call(service, SHARES_PATH, request)
    results = msgspec.json.decode(reply.body, type=SharesAnswer).results
    assert [each.error for each in results] == ["denied", None] * 32
    for (_, finish), each in zip(pairs, results, strict=True):
        assert each.share is None or finish(each.share)
    assert calls == [64]
    assert decoded == [
        (b64decode(each.commitments["2"].hiding), b64decode(each.commitments["2"].binding)) for each in request.sessions
    ]
    assert service.node.nonces.outstanding(ME) == 32


async def test_the_request_of_a_session_changes_nothing_but_must_be_an_id(rig: Rig) -> None:
    service = rig.service()
    epoch, [mine] = await _stock(lambda path, message: rig.call(service, path, message), 1)
    session, finish = rig.group.session(mine)
    for bad in ("", "a b", "r" * 129, "a\n", 1):
        value = msgspec.to_builtins(SharesRequest("default", epoch, [session]))
        value["sessions"][0]["request"] = bad
        reply = await rig.call(service, SHARES_PATH, json.dumps(value).encode())
        assert (reply.status, reply.slug) == (400, "malformed-request"), bad
    named = msgspec.structs.replace(session, request="mint:42/a+b=c")
    reply = await rig.call(service, SHARES_PATH, SharesRequest("default", epoch, [named]))
    assert finish(reply.json["results"][0]["share"])
