"""What a signer's owner lets be signed: rules, clients and policy plugins, before any nonce is taken."""

from __future__ import annotations

import hashlib
import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import msgspec
import pytest

from frost_sidecar import rules as rules_module
from frost_sidecar.encoding import b64decode, b64url
from frost_sidecar.errors import ConfigError, PluginError
from frost_sidecar.hookspecs import Authenticator, Component, Decision, PluginContext, Policy, PolicyRequest
from frost_sidecar.jose import thumbprint
from frost_sidecar.metrics import render
from frost_sidecar.model import Caller
from frost_sidecar.plugins import hookimpl
from frost_sidecar.signer import NodeConfig
from frost_sidecar.signer import server as server_module
from frost_sidecar.wire import COMMITMENTS_PATH, INFO_PATH, SHARES_PATH, Commitment, SharesAnswer, SharesRequest
from tests.signer.conftest import CLIENT, MacAuthenticator

if TYPE_CHECKING:
    from frost_sidecar.signer import SignerService
    from tests.signer.conftest import Group, Reply, Rig

OTHER = "URI:spiffe://mint/other"
ISSUER = "https://mint.example"
TABLES: dict[str, Any] = {
    "policies": {"access": {"iss": [ISSUER]}},
    "keys": {"default": {"policy": "access"}},
}


def jwt(group: Group, *, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
    """A signing input that keeps the rules, but for what is changed."""
    kid = thumbprint(group.public.verifying_key.serialize())
    head = {"alg": "EdDSA", "kid": kid, "typ": "JWT", **(header or {})}
    parts = head, {"iss": ISSUER, "sub": "alice", **claims}
    return ".".join(b64url(json.dumps(each).encode()) for each in parts).encode()


async def stock(rig: Rig, service: SignerService, count: int = 1, **call: Any) -> list[Commitment]:
    reply = await rig.call(service, COMMITMENTS_PATH, {"key": "default", "count": count}, **call)
    assert reply.status == 200, reply.body
    return [msgspec.convert(each, Commitment) for each in reply.json["commitments"]]


async def ask(rig: Rig, service: SignerService, *pairs: tuple[Commitment, bytes], **call: Any) -> Reply:
    """Ask for a share of each message, in one request."""
    sessions = [rig.group.session(mine, message, f"s{index}")[0] for index, (mine, message) in enumerate(pairs)]
    return await rig.call(service, SHARES_PATH, SharesRequest("default", service.node.nonces.epoch, sessions), **call)


def outcomes(reply: Reply) -> list[str]:
    answer = msgspec.json.decode(reply.body, type=SharesAnswer)
    assert all((each.share is None) != (each.error is None) for each in answer.results)
    assert [each.session for each in answer.results] == [f"s{index}" for index in range(len(answer.results))]
    return [each.error or "ok" for each in answer.results]


def metrics(service: SignerService) -> str:
    return render(service.metrics.registry, "")[0].decode()


async def test_a_denied_message_costs_no_nonce(rig: Rig) -> None:
    service = rig.service(**TABLES)
    [mine] = await stock(rig, service)
    reply = await ask(rig, service, (mine, jwt(rig.group, iss="https://evil.example")))
    assert reply.json["results"] == [
        {
            "session": "s0",
            "error": "denied",
            "detail": f"policy access: iss must be {ISSUER}, not 'https://evil.example'",
        }
    ]
    assert service.node.nonces.outstanding(f"{CLIENT} frost-coordinator") == 1
    assert outcomes(await ask(rig, service, (mine, jwt(rig.group)))) == ["ok"]
    assert outcomes(await ask(rig, service, (mine, jwt(rig.group)))) == ["unknown-commitment"]


async def test_the_share_of_an_allowed_message_is_good(rig: Rig) -> None:
    service = rig.service(**TABLES)
    [mine] = await stock(rig, service)
    session, finish = rig.group.session(mine, jwt(rig.group), "s0")
    reply = await rig.call(service, SHARES_PATH, SharesRequest("default", service.node.nonces.epoch, [session]))
    assert finish(reply.json["results"][0]["share"])


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("opaque", "not-a-jws"),
        ("two readings", "not-a-jws"),
        ("a compact token", "not-a-jws"),
        ("no protected header", "not-a-jws"),
        ("unencoded", "not-a-jws"),
        ("another typ", "jws-type"),
        ("another key", "jws-key"),
        ("alg none", "jws-algorithm"),
        ("jwk", "jws-header"),
        ("crit", "jws-critical"),
    ],
)
async def test_what_the_rules_do_not_allow(rig: Rig, what: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    good = jwt(rig.group)
    messages = {
        "opaque": b"any bytes",
        "two readings": good.partition(b".")[0] + b"." + b64url(b'{"iss":"a","iss":"https://mint.example"}').encode(),
        "a compact token": good + b".c2ln",
        "no protected header": b"." + good.partition(b".")[2],
        "unencoded": jwt(rig.group, header={"b64": False, "crit": ["b64"]}),
        "another typ": jwt(rig.group, header={"typ": "at+jwt"}),
        "another key": jwt(rig.group, header={"kid": thumbprint(bytes(32))}),
        "alg none": jwt(rig.group, header={"alg": "none"}),
        "jwk": jwt(rig.group, header={"jwk": {}}),
        "crit": jwt(rig.group, header={"crit": ["exp"], "exp": 1}),
    }
    service = rig.service(**TABLES)
    [mine] = await stock(rig, service)
    assert outcomes(await ask(rig, service, (mine, messages[what]))) == ["denied"]
    assert f'frost_signer_refusals_total{{reason="{reason}"}} 1.0' in metrics(service)
    assert 'frost_signer_shares_total{key="default",result="denied"} 1.0' in metrics(service)
    [record] = [each.__dict__ for each in caplog.records if each.getMessage() == "denied"]
    assert (record["key"], record["client"], record["reason"]) == ("default", f"{CLIENT} frost-coordinator", reason)
    assert record["message_sha256"] == hashlib.sha256(messages[what]).hexdigest()
    assert "alice" not in caplog.text
    assert service.node.nonces.outstanding(f"{CLIENT} frost-coordinator") == 1


async def test_sixty_four_sessions_allowed_and_denied_in_one_request(rig: Rig) -> None:
    service = rig.service(**TABLES)
    good, bad = jwt(rig.group), jwt(rig.group, iss="x", padding="x" * 2000)
    mine = await stock(rig, service, 64)
    pairs = [(each, bad if index % 3 else good) for index, each in enumerate(mine)]
    assert outcomes(await ask(rig, service, *pairs)) == ["denied" if index % 3 else "ok" for index in range(64)]
    assert service.node.nonces.outstanding(f"{CLIENT} frost-coordinator") == 42


async def test_what_is_said_of_a_denial_is_short_and_printable(rig: Rig) -> None:
    service = rig.service(**TABLES)
    [mine] = await stock(rig, service)
    reply = await ask(rig, service, (mine, jwt(rig.group, iss="\n\x1b[2J\u202e" * 1000)))
    [result] = reply.json["results"]
    assert result["detail"].isprintable()
    assert 0 < len(result["detail"]) <= 240


async def test_a_key_without_a_policy_signs_any_bytes(rig: Rig) -> None:
    service = rig.service()
    [mine] = await stock(rig, service)
    assert outcomes(await ask(rig, service, (mine, b"any bytes"))) == ["ok"]


async def test_only_its_clients_may_use_a_key(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    names = {"names": [CLIENT, OTHER]}
    service = rig.service(clients=names, keys={"default": {"clients": [OTHER]}, "open": {}})
    [mine] = await stock(rig, service, names=(OTHER,))
    for path, request in (
        (COMMITMENTS_PATH, {"key": "default", "count": 1}),
        (SHARES_PATH, SharesRequest("default", service.node.nonces.epoch, [rig.group.session(mine)[0]])),
    ):
        reply = await rig.call(service, path, request)
        assert (reply.status, reply.slug, reply.json["reason"]) == (403, "denied", "grant-missing")
    assert 'frost_signer_refusals_total{reason="grant-missing"} 2.0' in metrics(service)
    assert [each.__dict__["reason"] for each in caplog.records if each.getMessage() == "denied"] == [
        "grant-missing"
    ] * 2
    for sub in (f"x {OTHER}", OTHER, f",{OTHER}"):
        assert (await rig.call(service, COMMITMENTS_PATH, {"key": "default", "count": 1}, sub=sub)).status == 403
    assert list((await rig.call(service, INFO_PATH)).json["keys"]) == ["open"]
    assert list((await rig.call(service, INFO_PATH, names=(OTHER,))).json["keys"]) == ["default", "open"]
    assert service.node.nonces.outstanding(f"{CLIENT} frost-coordinator") == 0
    assert outcomes(await ask(rig, service, (mine, b"any bytes"), names=(OTHER,))) == ["ok"]


async def test_without_configured_names_a_key_knows_its_clients_by_any_of_theirs(rig: Rig) -> None:
    service = rig.service(dev=True, clients={}, keys={"default": {"clients": [OTHER]}})
    request = {"key": "default", "count": 1}
    assert (await rig.call(service, COMMITMENTS_PATH, request, names=(CLIENT, OTHER))).status == 200
    assert (await rig.call(service, COMMITMENTS_PATH, request, names=(CLIENT, OTHER + "s"))).status == 403


class Deciding(Policy):
    """Gives the same answer to every question."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[PolicyRequest] = []
        self.entered = 0

    async def __aenter__(self) -> Self:
        self.entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        await anyio.lowlevel.checkpoint()
        self.entered -= 1

    async def decide(self, request: PolicyRequest) -> Decision:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "hang":
            await anyio.sleep_forever()
        return self.answer  # type: ignore[return-value] # wrong answers are the point


async def test_a_policy_plugin_is_asked_what_the_rules_allow(rig: Rig) -> None:
    deciding = Deciding(Decision(allowed=True))
    service = rig.service(deciding=deciding, **TABLES)
    first, second, third = await stock(rig, service, 3)
    good = jwt(rig.group)
    unknown = msgspec.structs.replace(third, id="unknown")
    pairs = (first, good), (second, b"opaque"), (unknown, good)
    assert outcomes(await ask(rig, service, *pairs)) == ["ok", "denied", "unknown-commitment"]
    [request] = deciding.asked
    assert request.caller == Caller(f"{CLIENT} frost-coordinator", "tcp", CLIENT)
    assert (request.key, request.message) == ("default", good)
    assert request.jws is not None
    assert request.jws.claims == {"iss": ISSUER, "sub": "alice"}


async def test_a_policy_plugin_may_allow_some_of_a_request(rig: Rig) -> None:
    class OnlyShort(Policy):
        async def decide(self, request: PolicyRequest) -> Decision:
            return Decision(len(request.message) < 9, "too long")

    service = rig.service(deciding=OnlyShort())
    first, second, third = await stock(rig, service, 3)
    reply = await ask(rig, service, (first, b"short"), (second, b"much too long"), (third, b"brief"))
    assert outcomes(reply) == ["ok", "denied", "ok"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Decision(allowed=False, reason="only on Tuesdays"), "deciding: only on Tuesdays"),
        (Decision(allowed=1), "deciding: not allowed"),  # type: ignore[arg-type] # a truthy answer is not a clear one
        (None, "no decision"),
        (True, "no decision"),
        (RuntimeError("words that nobody may see"), "no answer is a refusal"),
        ("hang", "no answer is a refusal"),
    ],
)
async def test_a_policy_plugin_that_does_not_clearly_allow(rig: Rig, answer: object, said: str) -> None:
    service = rig.service(deciding=Deciding(answer))
    mine = await stock(rig, service, 3)
    reply = await ask(rig, service, *((each, b"any bytes") for each in mine))
    assert outcomes(reply) == ["denied"] * 3
    assert all(said in each["detail"] for each in reply.json["results"])
    assert b"nobody may see" not in reply.body
    assert 'frost_signer_refusals_total{reason="policy"} 3.0' in metrics(service)
    assert 'frost_signer_shares_total{key="default",result="denied"} 3.0' in metrics(service)
    assert service.node.nonces.outstanding(f"{CLIENT} frost-coordinator") == 3


async def test_a_policy_plugin_speaks_for_no_message_with_two_readings(rig: Rig) -> None:
    deciding = Deciding(Decision(allowed=True))
    service = rig.service(deciding=deciding)
    [mine] = await stock(rig, service)
    twice = jwt(rig.group).partition(b".")[0] + b"." + b64url(b'{"a":1,"a":2}').encode()
    assert outcomes(await ask(rig, service, (mine, twice))) == ["denied"]
    assert deciding.asked == []
    assert outcomes(await ask(rig, service, (mine, b"opaque"))) == ["ok"]
    assert [each.jws for each in deciding.asked] == [None]


async def test_no_message_gets_past_the_policy_plugins_while_a_rule_about_time_changes_its_mind(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Denied for its ``iat`` when the plugins are asked, and not any more when the share would be made."""
    clock = [1_900_000_000.0]
    monkeypatch.setattr(rules_module, "time", SimpleNamespace(time=lambda: clock[0]))

    class Slow(Policy):
        async def decide(self, request: PolicyRequest) -> Decision:
            clock[0] += 1.0
            assert request.jws is not None
            assert request.jws.claims is not None
            return Decision(request.jws.claims["sub"] == "alice", "only alice")

    service = rig.service(deciding=Slow(), **TABLES)
    first, second = await stock(rig, service, 2)
    unseen = jwt(rig.group, sub="root", iat=clock[0] + 5.5)
    assert outcomes(await ask(rig, service, (first, jwt(rig.group)), (second, unseen))) == ["ok", "denied"]
    assert service.node.nonces.outstanding(f"{CLIENT} frost-coordinator") == 1


async def test_a_refused_request_is_not_shown_to_policy_plugins(rig: Rig) -> None:
    deciding = Deciding(Decision(allowed=True))
    service = rig.service(deciding=deciding)
    first, second = await stock(rig, service, 2)
    one, two = rig.group.session(first, name="s")[0], rig.group.session(second, name="s")[0]
    epoch = service.node.nonces.epoch
    for request, status in (
        (SharesRequest("default", epoch, [one, two]), 400),
        (SharesRequest("default", "another", [one]), 409),
        (SharesRequest("unknown", epoch, [one]), 404),
    ):
        assert (await rig.call(service, SHARES_PATH, request)).status == status
    assert deciding.asked == []


class Plugin:
    """Tokens and a policy, as one plugin."""

    def __init__(self, policy: Deciding) -> None:
        self.policy = policy

    @hookimpl
    def make_authenticator(self, context: PluginContext) -> Authenticator:
        return MacAuthenticator()

    @hookimpl
    def make_policy(self, context: PluginContext) -> Component:
        assert context.role == "signer"
        return self.policy


async def test_the_real_server_runs_policy_plugins_from_its_start_to_its_end(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    deciding = Deciding(Decision(allowed=False, reason="never"))
    async with rig.serving(plugin=Plugin(deciding), **TABLES) as server:
        assert deciding.entered == 1
        stock = await server.commitments(2)
        session, finish = rig.group.session(stock.commitments[0], jwt(rig.group))
        body = msgspec.json.encode(SharesRequest("default", stock.epoch, [session]))
        headers = {"Authorization": f"Bearer {rig.token(body)}", "X-Request-ID": "the-request"}
        reply = await server.send("POST", SHARES_PATH, body, headers=headers)
        assert reply.json["results"] == [{"session": "s1", "error": "denied", "detail": "mac: never"}]
        assert [each.request_id for each in deciding.asked] == ["the-request"]
        deciding.answer = Decision(allowed=True)
        reply = await server.send("POST", SHARES_PATH, body)
        assert len(b64decode(reply.json["results"][0]["share"])) == 32
        assert finish(reply.json["results"][0]["share"])
    assert deciding.entered == 0
    assert not [each for each in caplog.records if "any bytes" in each.getMessage()]


async def test_a_plugin_that_does_not_start_or_end_takes_nothing_with_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Deciding):
        async def __aexit__(self, *_: object) -> None:
            raise OSError("it will not close")

    async with rig.serving(plugin=Plugin(Broken(Decision(allowed=True)))) as server:
        assert (await server.commitments()).epoch
    assert server.task.cancelled()
    assert [each.__dict__["plugin"] for each in caplog.records if "did not end" in each.getMessage()] == ["mac"]

    class Stuck(Deciding):
        async def __aenter__(self) -> Self:
            await anyio.sleep_forever()
            raise AssertionError("unreachable")

    monkeypatch.setattr(server_module, "_START_SECONDS", 0.05)
    with pytest.raises(PluginError, match="plugin mac: did not start"):
        async with rig.serving(plugin=Plugin(Stuck(Decision(allowed=True)))):
            pass


async def test_a_signer_without_rules_says_so_at_its_start(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with rig.serving():
        [record] = [each.__dict__ for each in caplog.records if "signs any bytes" in each.getMessage()]
    assert record["key"] == "default"
    caplog.clear()
    async with rig.serving(**TABLES):
        pass
    assert "any bytes" not in caplog.text


@pytest.mark.parametrize(
    "second", [{}, {"policy": "open"}, {"policy": "access", "clients": [CLIENT]}], ids=["none", "other", "clients"]
)
async def test_two_names_for_one_group_are_no_way_around_its_policy(rig: Rig, second: dict[str, Any]) -> None:
    policies = {"access": {"iss": [ISSUER]}, "open": {}}
    keys = {"default": {"policy": "access"}, "second": second}
    with pytest.raises(ConfigError, match="same group as 'default'") as caught:
        async with rig.serving(policies=policies, keys=keys):
            pass
    assert caught.value.path == "keys.second"
    async with rig.serving(policies=policies, keys={name: {"policy": "access"} for name in keys}):
        pass


@pytest.mark.parametrize(
    ("tables", "place"),
    [
        ({"keys": {"default": {"policy": "nobody"}}}, "keys.default.policy"),
        ({"keys": {"default": {"clients": ["DNS:nobody.test"]}}}, "keys.default.clients"),
        ({"policies": {"p": {"crit": ["alg"]}}}, "policies.p.crit"),
        ({"policies": {"p": {"iss": ["**x"]}}}, "policies.p.iss"),
        ({"policies": {"p": {"typo": ["x"]}}}, "policies[…].typo"),
    ],
)
def test_a_wrong_configuration_stops_the_start(tables: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NodeConfig.build({"name": "s", "clients": {"names": [CLIENT]}, **tables})
    assert caught.value.path == place
