"""The protocol's answers: shares that aggregate, single use, and sessions that are refused without cost."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest
from frost_ed25519 import FrostError, SigningPackage, round1

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import MalformedRequest, StaleEpoch, UnknownKey
from frost_sidecar.metrics import SignerMetrics, new_registry
from frost_sidecar.model import MAX_MESSAGE_BYTES
from frost_sidecar.signer import NonceStore, SignerNode
from frost_sidecar.signer.node import Use
from frost_sidecar.wire import MAX_LISTED, Commitment, CommitmentsRequest, Session, SharesRequest

if TYPE_CHECKING:
    from tests.signer.conftest import Group

IDENTITY = b64encode(b"\x01" + bytes(31))
NON_CANONICAL_IDENTITY = b64encode(b"\xee" + b"\xff" * 30 + b"\x7f")  # y = p + 1
SMALL_ORDER = b64encode(bytes(32))
NOT_ON_THE_CURVE = b64encode(b"\x02" + bytes(31))
BASE_POINT_PLUS_ORDER_TWO = b64encode(bytes.fromhex("95" + "99" * 30 + "99"))


@pytest.fixture
def node(group: Group) -> SignerNode:
    store = NonceStore(SignerMetrics(new_registry()))
    return SignerNode("signer-1", {"default": group.shares[1], "other": group.shares[1]}, store)


def issue(node: SignerNode, client: str = "c", key: str = "default") -> Commitment:
    [commitment] = node.commitments(client, CommitmentsRequest(key, 1)).commitments
    return commitment


def ask(node: SignerNode, *sessions: Session, client: str = "c", key: str = "default") -> list[str]:
    """The sessions' errors, or "ok"."""
    answer = node.shares(client, SharesRequest(key, node.nonces.epoch, list(sessions)))
    assert [result.session for result in answer.results] == [session.session for session in sessions]
    assert all((result.share is None) != (result.error is None) for result in answer.results)
    return [result.error or "ok" for result in answer.results]


def test_the_share_makes_a_signature_with_the_others(node: SignerNode, group: Group) -> None:
    session, finish = group.session(issue(node), b"the message")
    answer = node.shares("c", SharesRequest("default", node.nonces.epoch, [session]))
    assert answer.results[0].share is not None
    assert len(finish(answer.results[0].share)) == 64


def test_an_empty_message_and_the_longest_are_signed(node: SignerNode, group: Group) -> None:
    for message in (b"", b"x" * MAX_MESSAGE_BYTES):
        assert ask(node, group.session(issue(node), message)[0]) == ["ok"]


def test_info_says_public_values_only(node: SignerNode, group: Group) -> None:
    info = node.info("DNS:coordinator.test frost-coordinator")
    assert (info.name, info.protocols, sorted(info.keys)) == ("signer-1", [1], ["default", "other"])
    key = info.keys["default"]
    assert (key.identifier, key.min_signers) == (1, 2)
    assert b64decode(key.group_public) == group.public.verifying_key.serialize()
    assert b64decode(key.verifying_share) == group.shares[1].verifying_share.serialize()


def test_fresh_commitments_ride_back(node: SignerNode, group: Group) -> None:
    session, _ = group.session(issue(node))
    answer = node.shares("c", SharesRequest("default", node.nonces.epoch, [session], replenish=3))
    assert len({each.id for each in answer.commitments}) == 3
    assert ask(node, group.session(answer.commitments[2])[0]) == ["ok"]


def test_a_commitment_is_used_once(node: SignerNode, group: Group) -> None:
    mine = issue(node)
    assert ask(node, group.session(mine)[0]) == ["ok"]
    assert ask(node, group.session(mine)[0]) == ["unknown-commitment"]


def test_the_same_session_again_gets_no_second_share(node: SignerNode, group: Group) -> None:
    session, _ = group.session(issue(node))
    assert ask(node, session) == ["ok"]
    assert ask(node, session) == ["unknown-commitment"]


def test_one_commitment_in_two_sessions_of_a_request_is_used_once(node: SignerNode, group: Group) -> None:
    mine = issue(node)
    sessions = [group.session(mine, b"one", "s1")[0], group.session(mine, b"two", "s2")[0]]
    assert ask(node, *sessions) == ["ok", "unknown-commitment"]


def test_of_sixteen_threads_with_one_commitment_one_gets_a_share(group: Group) -> None:
    used: list[Use] = []
    node = SignerNode(
        "signer-1",
        {"default": group.shares[1]},
        NonceStore(SignerMetrics(new_registry())),
        on_used=used.extend,
    )
    for _ in range(10):
        mine = issue(node)
        sessions = [group.session(mine, f"message {number}".encode())[0] for number in range(16)]
        barrier = threading.Barrier(16)

        def race(session: Session, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            return ask(node, session)[0]

        with ThreadPoolExecutor(16) as pool:
            outcomes = list(pool.map(race, sessions))
        assert sorted(outcomes) == ["ok"] + ["unknown-commitment"] * 15
    assert len({each.commitment for each in used}) == len(used) == 10


def test_uses_are_told_with_the_hash_of_the_package(group: Group) -> None:
    used: list[Use] = []
    node = SignerNode(
        "signer-1",
        {"default": group.shares[1]},
        NonceStore(SignerMetrics(new_registry())),
        on_used=used.extend,
    )
    session, _ = group.session(issue(node), b"m")
    session = msgspec.structs.replace(session, request="the-request")
    ask(node, session)
    points = {
        int(name): round1.SigningCommitments(b64decode(each.hiding), b64decode(each.binding))
        for name, each in session.commitments.items()
    }
    package = SigningPackage(points, b"m").serialize()
    digest = hashlib.sha256(package).digest()
    assert used == [Use(session.commitments["1"].id, "default", digest, "s1", "the-request")]


def test_a_failure_after_the_nonce_is_taken_does_not_give_it_back(group: Group) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    node = SignerNode("signer-1", {"default": group.shares[1]}, NonceStore(SignerMetrics(new_registry())), on_used=fail)
    mine = issue(node)
    with pytest.raises(OSError, match="disk"):
        ask(node, group.session(mine)[0])
    assert ask(node, group.session(mine)[0]) == ["unknown-commitment"]


def test_a_commitment_belongs_to_its_client_and_key(node: SignerNode, group: Group) -> None:
    mine = issue(node)
    session, _ = group.session(mine)
    assert ask(node, session, client="another") == ["unknown-commitment"]
    assert ask(node, session, key="other") == ["unknown-commitment"]
    assert ask(node, session) == ["ok"]


def _replace(session: Session, **changes: object) -> Session:
    return msgspec.structs.replace(session, **changes)


def _swap(session: Session, who: str, **changes: object) -> Session:
    changed = msgspec.structs.replace(session.commitments[who], **changes)
    return _replace(session, commitments={**session.commitments, who: changed})


def _rename(session: Session, old: str, new: str) -> Session:
    return _replace(session, commitments={new if name == old else name: v for name, v in session.commitments.items()})


MALFORMED = {
    "message not base64": lambda s: _replace(s, msg="####"),
    "message with trailing bits": lambda s: _replace(s, msg="QUJ="),
    "message too long": lambda s: _replace(s, msg=b64encode(bytes(MAX_MESSAGE_BYTES + 1))),
    "too few participants": lambda s: _replace(s, commitments={"1": s.commitments["1"]}),
    "identifier with a zero in front": lambda s: _rename(s, "2", "02"),
    "own identifier with a zero in front": lambda s: _rename(s, "1", "01"),
    "the own identifier twice": lambda s: _replace(s, commitments={**s.commitments, "01": s.commitments["1"]}),
    "identifier zero": lambda s: _rename(s, "2", "0"),
    "negative identifier": lambda s: _rename(s, "2", "-2"),
    "identifier too large": lambda s: _rename(s, "2", "65536"),
    "identifier of other digits": lambda s: _rename(s, "2", "\u0662"),
    "identifier with a line end": lambda s: _rename(s, "2", "2\n"),
    "no identifier": lambda s: _rename(s, "2", ""),
    "the identity": lambda s: _swap(s, "2", hiding=IDENTITY),
    "the identity, not canonical": lambda s: _swap(s, "2", binding=NON_CANONICAL_IDENTITY),
    "small order": lambda s: _swap(s, "2", hiding=SMALL_ORDER),
    "not on the curve": lambda s: _swap(s, "2", hiding=NOT_ON_THE_CURVE),
    "outside the prime-order group": lambda s: _swap(s, "2", hiding=BASE_POINT_PLUS_ORDER_TWO),
    "33 bytes": lambda s: _swap(s, "2", hiding=b64encode(bytes(33))),
    "point not base64": lambda s: _swap(s, "2", hiding="*" * 44),
    "own point changed": lambda s: _swap(s, "1", hiding=s.commitments["2"].hiding),
    "own points exchanged": lambda s: _swap(
        s, "1", hiding=s.commitments["1"].binding, binding=s.commitments["1"].hiding
    ),
    "own point is the identity": lambda s: _swap(s, "1", binding=IDENTITY),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_session_is_refused_and_costs_no_nonce(node: SignerNode, group: Group, case: str) -> None:
    session, _ = group.session(issue(node))
    assert ask(node, MALFORMED[case](session)) == ["malformed"]
    assert ask(node, session) == ["ok"]


def test_a_session_without_this_signer_is_refused(node: SignerNode, group: Group) -> None:
    session, _ = group.session(issue(node))
    assert ask(node, _rename(session, "1", "3")) == ["not-a-participant"]
    assert ask(node, session) == ["ok"]


def test_the_good_sessions_of_a_request_are_answered(node: SignerNode, group: Group) -> None:
    good, bad, late = (group.session(issue(node), name=name)[0] for name in ("s1", "s2", "s3"))
    assert ask(node, good, _replace(bad, msg="####"), late) == ["ok", "malformed", "ok"]


def test_both_alphabets_and_missing_padding_are_read(node: SignerNode, group: Group) -> None:
    session, finish = group.session(issue(node), b"\xfb\xff\xfe!")
    spelled = _replace(
        session,
        msg=session.msg.translate(str.maketrans("+/", "-_")).rstrip("="),
        commitments={
            name: Commitment(
                each.id,
                each.hiding.translate(str.maketrans("+/", "-_")).rstrip("="),
                each.binding.rstrip("="),
            )
            for name, each in session.commitments.items()
        },
    )
    answer = node.shares("c", SharesRequest("default", node.nonces.epoch, [spelled]))
    assert finish(answer.results[0].share or "")


def test_another_epoch_refuses_the_whole_request(node: SignerNode, group: Group) -> None:
    session, _ = group.session(issue(node))
    with pytest.raises(StaleEpoch):
        node.shares("c", SharesRequest("default", "another", [session], replenish=1))
    assert node.nonces.outstanding("c") == 1
    assert ask(node, session) == ["ok"]


def test_two_sessions_of_one_name_refuse_the_whole_request(node: SignerNode, group: Group) -> None:
    sessions = [group.session(issue(node), name="same")[0] for _ in range(2)]
    with pytest.raises(MalformedRequest):
        ask(node, *sessions)
    assert node.nonces.outstanding("c") == 2


def test_all_sessions_together_list_so_many_commitments_and_no_more(node: SignerNode, group: Group) -> None:
    mine = issue(node)
    session, _ = group.session(mine)
    full = {str(number): session.commitments["2"] for number in range(2, 257)}
    sessions = [Session(f"w{number}", session.msg, full) for number in range(16)]
    rest = {name: full[name] for name in list(full)[: MAX_LISTED - 16 * 255]}
    sessions.append(Session("rest", session.msg, rest))
    assert ask(node, *sessions) == ["not-a-participant"] * 17
    sessions[-1] = Session("rest", session.msg, {"1": mine, **rest})
    with pytest.raises(MalformedRequest, match="4096 commitments"):
        ask(node, *sessions)
    assert ask(node, session) == ["ok"]


def test_who_has_no_commitment_gets_no_points_decoded(
    node: SignerNode, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = issue(node)
    session, _ = group.session(mine)
    bad = _swap(session, "2", hiding=SMALL_ORDER)
    assert ask(node, bad) == ["malformed"]
    decoded: list[tuple[bytes, bytes]] = []
    real = round1.decode_many

    def watched(points: list[tuple[bytes, bytes]]) -> list[round1.SigningCommitments | FrostError]:
        decoded.extend(points)
        return real(points)

    monkeypatch.setattr(round1, "decode_many", watched)
    assert ask(node, bad, client="another") == ["unknown-commitment"]
    assert ask(node, bad, key="other") == ["unknown-commitment"]
    assert ask(node, _swap(bad, "1", id="unknown")) == ["unknown-commitment"]
    assert decoded == []
    assert ask(node, session) == ["ok"]
    assert len(decoded) == 1
    assert ask(node, bad) == ["unknown-commitment"]
    assert len(decoded) == 1


def test_a_long_message_is_refused_before_the_commitment_is_looked_for(node: SignerNode, group: Group) -> None:
    session, _ = group.session(issue(node))
    bad = _replace(session, msg=b64encode(bytes(MAX_MESSAGE_BYTES + 1)))
    assert ask(node, _swap(bad, "1", id="unknown")) == ["malformed"]


def test_answers_say_how_long_commitments_live(group: Group) -> None:
    store = NonceStore(SignerMetrics(new_registry()), lifetime=7.0)
    node = SignerNode("signer-1", {"default": group.shares[1]}, store)
    answer = node.commitments("c", CommitmentsRequest("default", 1))
    assert (answer.identifier, answer.epoch, answer.expires_in) == (1, store.epoch, 7.0)
    session, _ = group.session(answer.commitments[0])
    assert node.shares("c", SharesRequest("default", store.epoch, [session])).expires_in == 7.0


def test_an_unknown_key_is_refused(node: SignerNode, group: Group) -> None:
    session, _ = group.session(issue(node))
    with pytest.raises(UnknownKey):
        node.commitments("c", CommitmentsRequest("nobody", 1))
    with pytest.raises(UnknownKey):
        node.shares("c", SharesRequest("nobody", node.nonces.epoch, [session]))


def test_a_lost_place_does_not_lose_the_shares(group: Group) -> None:
    store = NonceStore(SignerMetrics(new_registry()), clients=1)
    node = SignerNode("signer-1", {"default": group.shares[1]}, store, on_used=lambda *_: _crowd(store, group))
    session, finish = group.session(issue(node))
    answer = node.shares("c", SharesRequest("default", store.epoch, [session], replenish=2))
    assert answer.commitments == []
    assert finish(answer.results[0].share or "")


def _crowd(store: NonceStore, group: Group) -> None:
    """Somebody else takes the one place, which is free because the client's only commitment has just been used."""
    store.issue("another", "default", group.shares[1], 1)
