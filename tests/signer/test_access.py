"""Who may call: every claim, the replay cache, certificates, and what authenticators can do wrong."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from frost_sidecar.errors import Unauthenticated
from frost_sidecar.hookspecs import Authenticator
from frost_sidecar.metrics import render
from frost_sidecar.model import Credentials, Identity
from frost_sidecar.signer import SignerService, access
from frost_sidecar.wire import COMMITMENTS_PATH, INFO_PATH, body_digest

if TYPE_CHECKING:
    from tests.signer.conftest import Rig

NOW = 1_800_000_000
ASK = {"key": "default", "count": 1}


REASONS = {
    "iss": "token-issuer",
    "aud": "token-audience",
    "sub": "token-subject",
    "iat": "token-not-yet-valid",
    "nbf": "token-not-yet-valid",
    "exp": "token-lifetime",
    "expired": "token-expired",
    "jti": "token-claims",
    "body_sha256": "token-body",
}


async def test_a_good_token_is_let_in(rig: Rig) -> None:
    service = rig.service()
    assert (await rig.call(service, INFO_PATH)).status == 200
    assert (await rig.call(service, COMMITMENTS_PATH, ASK)).status == 200


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"iss": "somebody"}, "iss"),
        ({"iss": None}, "iss"),
        ({"iss": 7}, "iss"),
        ({"aud": "signer-2"}, "aud"),
        ({"aud": ["signer-1"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"sub": ""}, "sub"),
        ({"sub": "line\nbreak"}, "sub"),
        ({"sub": "\ud800"}, "sub"),
        ({"sub": "x" * 257}, "sub"),
        ({"sub": None}, "sub"),
        ({"iat": NOW + 3}, "iat"),
        ({"iat": None}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"iat": True}, "iat"),
        ({"iat": float("nan")}, "iat"),
        ({"nbf": NOW + 3}, "nbf"),
        ({"nbf": None}, "nbf"),
        ({"iat": NOW - 40, "exp": NOW - 2}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": NOW + 61}, "exp"),
        ({"iat": NOW, "exp": NOW}, "exp"),
        ({"iat": NOW + 2, "exp": NOW + 1}, "exp"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 257}, "jti"),
        ({"jti": None}, "jti"),
        ({"jti": 1}, "jti"),
        ({"body_sha256": body_digest(b"another body")}, "body_sha256"),
        ({"body_sha256": ""}, "body_sha256"),
        ({"body_sha256": "\ud800"}, "body_sha256"),
        ({"body_sha256": None}, "body_sha256"),
    ],
)
async def test_one_wrong_claim_is_enough(rig: Rig, claims: dict[str, Any], word: str) -> None:
    service = rig.service()
    reply = await rig.call(service, COMMITMENTS_PATH, ASK, **claims)
    assert (reply.status, reply.slug) == (401, "unauthenticated")
    assert word in reply.json["detail"]
    assert service.node.nonces.outstanding(f"DNS:coordinator.test {claims.get('sub')}") == 0
    *_, value = claims.values()
    of_its_type = type(value) is (int if word in {"iat", "nbf", "exp", "expired"} else str)
    reason = REASONS[word] if of_its_type else "token-claims"
    assert reply.json["reason"] == reason
    assert f'frost_signer_refusals_total{{reason="{reason}"}} 1.0' in _metrics(service)


@pytest.mark.parametrize("claims", [{"iat": NOW + 2}, {"nbf": NOW + 2}, {"iat": NOW - 31, "exp": NOW - 1}])
async def test_the_leeway_is_given_both_ways(rig: Rig, claims: dict[str, Any]) -> None:
    assert (await rig.call(rig.service(), INFO_PATH, **claims)).status == 200


async def test_with_subjects_no_other_may_call(rig: Rig) -> None:
    service = rig.service(token={"subjects": ["one", "two"]})
    assert (await rig.call(service, INFO_PATH, sub="two")).status == 200
    assert (await rig.call(service, INFO_PATH, sub="three")).status == 401


async def test_without_subjects_any_proved_subject_may_call(rig: Rig) -> None:
    assert (await rig.call(rig.service(), INFO_PATH, sub="another")).status == 200


async def test_a_token_vouches_for_one_body(rig: Rig) -> None:
    token = rig.token(b'{"key":"default","count":1}')
    reply = await rig.call(rig.service(), COMMITMENTS_PATH, b'{"key":"default","count":2}', token=token)
    assert reply.status == 401
    assert "body_sha256" in reply.json["detail"]


async def test_a_token_works_once(rig: Rig) -> None:
    service = rig.service()
    token = rig.token(b"")
    assert (await rig.call(service, INFO_PATH, token=token)).status == 200
    again = await rig.call(service, INFO_PATH, token=token)
    assert (again.status, again.slug) == (401, "unauthenticated")
    assert 'frost_signer_refusals_total{reason="token-replayed"} 1.0' in _metrics(service)


async def test_of_simultaneous_calls_with_one_token_one_is_let_in(rig: Rig) -> None:
    class Slow(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            await anyio.sleep(0.01)
            return Identity("frost-coordinator", "test", claims)

    claims = rig.claims(b"")
    service = rig.service(Slow())
    statuses: list[int] = []

    async def call() -> None:
        statuses.append((await rig.call(service, INFO_PATH, token="same")).status)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(call)
    assert sorted(statuses) == [200] + [401] * 9


async def test_a_refused_token_is_not_remembered(rig: Rig) -> None:
    service = rig.service()
    assert (await rig.call(service, INFO_PATH, jti="one", aud="signer-2")).status == 401
    assert (await rig.call(service, INFO_PATH, jti="one")).status == 200


async def test_the_replay_cache_keeps_issuers_apart(rig: Rig) -> None:
    service = rig.service(token={"issuers": ["one", "two"]})
    assert (await rig.call(service, INFO_PATH, iss="one", jti="same")).status == 200
    assert (await rig.call(service, INFO_PATH, iss="two", jti="same")).status == 200
    assert (await rig.call(service, INFO_PATH, iss="one", jti="same")).status == 401


async def test_a_full_replay_cache_refuses_until_tokens_expire(rig: Rig) -> None:
    service = rig.service(token={"max_remembered": 2})
    first, second = rig.token(b""), rig.token(b"")
    assert (await rig.call(service, INFO_PATH, token=first)).status == 200
    assert (await rig.call(service, INFO_PATH, token=second)).status == 200
    third = await rig.call(service, INFO_PATH)
    assert (third.status, third.slug) == (503, "overloaded")
    rig.clock.now += 31
    assert (await rig.call(service, INFO_PATH, token=first)).status == 401  # within the leeway, and still remembered
    rig.clock.now += 2
    assert (await rig.call(service, INFO_PATH, token=first)).status == 401  # expired
    assert (await rig.call(service, INFO_PATH)).status == 200


def test_no_call_pays_for_forgetting_all_expired_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    popped: list[object] = []
    real = heapq.heappop
    monkeypatch.setattr("heapq.heappop", lambda heap: popped.append(None) or real(heap))  # type: ignore[func-returns-value]
    seen = access._SeenTokens(1000)
    for number in range(600):
        seen.add(("i", str(number)), 10.0, 0.0)
    left = []
    for number in range(3):
        seen.add(("j", str(number)), 30.0, 20.0)
        left.append((len(popped), len(seen._names), len(seen._by_expiry)))
    assert left == [(256, 345, 345), (512, 90, 90), (600, 3, 3)]
    with pytest.raises(Unauthenticated):
        seen.add(("j", "0"), 30.0, 20.0)


@pytest.mark.parametrize("token", ["", None])
async def test_no_token_is_refused(rig: Rig, token: str | None) -> None:
    status, _ = await rig.service().handle(INFO_PATH, token, ("DNS:coordinator.test",), b"")
    assert status == 401


@pytest.mark.parametrize("token", ["x", "x.y", "x.y.z", "." * 10, "ä"])
async def test_nonsense_tokens_are_refused(rig: Rig, token: str) -> None:
    assert (await rig.call(rig.service(), INFO_PATH, token=token)).status == 401


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (("DNS:coordinator.test",), True),
        (("DNS:other.test", "URI:spiffe://mint/coordinator"), True),
        (("DNS:other.test",), False),
        (("URI:coordinator.test",), False),
        (("DNS:coordinator.test.evil",), False),
        (("DNS:COORDINATOR.TEST",), False),
        ((), False),
    ],
)
async def test_the_certificate_must_carry_a_configured_name(rig: Rig, names: tuple[str, ...], *, allowed: bool) -> None:
    service = rig.service(clients={"names": ["URI:spiffe://mint/coordinator", "DNS:coordinator.test"]})
    reply = await rig.call(service, INFO_PATH, names=names)
    if allowed:
        assert reply.status == 200
    else:
        assert (reply.status, reply.slug) == (403, "denied")
        assert 'frost_signer_refusals_total{reason="certificate-name"} 1.0' in _metrics(service)


async def test_without_configured_names_any_named_certificate_may_call(rig: Rig) -> None:
    service = rig.service(clients={}, dev=True)
    assert (await rig.call(service, INFO_PATH, names=("DNS:any.test",))).status == 200
    assert (await rig.call(service, INFO_PATH, names=())).status == 403


NOBODY = (
    "DNS:two names",
    "DNS:a,DNS:b",
    "DNS:caf\xe9.test",
    "DNS:a\tb",
    "DNS:a\nb",
    "DNS:a\x7f",
    "DNS:a\0",
    "DNS:\u2028",
)


@pytest.mark.parametrize("name", NOBODY)
async def test_a_name_that_is_not_plain_text_names_nobody(rig: Rig, name: str) -> None:
    service = rig.service(clients={}, dev=True)
    assert (await rig.call(service, INFO_PATH, names=(name,))).status == 403
    assert service.gate.certificate((name, "DNS:any.test")) == "DNS:any.test"


def test_the_order_of_names_in_a_certificate_does_not_matter(rig: Rig) -> None:
    gate = rig.service(clients={}, dev=True).gate
    assert gate.certificate(("URI:b://b", "DNS:c", "DNS:a")) == "DNS:a,DNS:c,URI:b://b"
    assert gate.certificate(("DNS:a", "URI:b://b", "DNS:c")) == "DNS:a,DNS:c,URI:b://b"
    chosen = rig.service(clients={"names": ["URI:b://b", "DNS:a"]}).gate
    assert chosen.certificate(("DNS:a", "DNS:c", "URI:b://b")) == "URI:b://b"


async def test_a_renewed_certificate_with_more_names_is_the_same_client(rig: Rig) -> None:
    service = rig.service()
    await rig.call(service, COMMITMENTS_PATH, ASK)
    await rig.call(service, COMMITMENTS_PATH, ASK, names=("DNS:a.test", "DNS:coordinator.test"))
    assert service.node.nonces.outstanding("DNS:coordinator.test frost-coordinator") == 2


async def test_authenticators_are_asked_in_order_until_one_answers(rig: Rig) -> None:
    asked: list[str] = []

    class Named(Authenticator):
        def __init__(self, name: str, answer: Identity | None) -> None:
            self.name = name
            self.answer = answer

        async def authenticate(self, credentials: Credentials) -> Identity | None:
            asked.append(self.name)
            return self.answer

    identity = Identity("frost-coordinator", "test", rig.claims(b""))
    service = rig.service(Named("first", None), Named("second", identity), Named("third", identity))
    assert (await rig.call(service, INFO_PATH)).status == 200
    assert asked == ["first", "second"]


async def test_a_refusal_ends_the_asking(rig: Rig) -> None:
    class Refusing(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            raise Unauthenticated("revoked")

    class Generous(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            return Identity("frost-coordinator", "test", rig.claims(b""))

    reply = await rig.call(rig.service(Refusing(), Generous()), INFO_PATH)
    assert (reply.status, reply.json["detail"]) == (401, "revoked")


async def test_a_subject_that_the_token_does_not_carry_is_refused(rig: Rig) -> None:
    class Confused(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            return Identity("somebody", "test", rig.claims(b""))

    assert (await rig.call(rig.service(Confused()), INFO_PATH)).status == 401


async def test_a_failing_authenticator_refuses_and_is_logged_without_the_token(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            raise RuntimeError("the key server is down")

    token = rig.token(b"")
    reply = await rig.call(rig.service(Broken()), INFO_PATH, token=token)
    assert reply.status == 401
    assert "key server" not in reply.json["detail"]
    assert "the key server is down" in caplog.text
    assert token not in caplog.text


async def test_a_hanging_authenticator_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Authenticator):
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            await anyio.sleep_forever()
            return None

    monkeypatch.setattr(access, "AUTHENTICATOR_SECONDS", 0.01)
    assert (await rig.call(rig.service(Hanging()), INFO_PATH)).status == 401


def _metrics(service: SignerService) -> str:
    return render(service.metrics.registry, "")[0].decode()
