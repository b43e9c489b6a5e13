"""Somebody has the coordinator: its certificate, its token secret, its configuration, its transport and its code.

The attacker here speaks the signer protocol to real signer processes with all of that. It gets signatures on what the
signers' own rules allow, which is the control, and nothing else: no signature, no share and no nonce.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import frost_ed25519 as frost
import jwt
import msgspec
import pytest

from frost_sidecar import plugins, wire
from frost_sidecar.config import Config
from frost_sidecar.encoding import b64decode, b64encode, b64url
from frost_sidecar.hookspecs import TokenIssuer, Transport
from frost_sidecar.jose import pyjwt_key, thumbprint
from frost_sidecar.keygen.dealer import Dealt, deal
from frost_sidecar.keygen.group import Group
from frost_sidecar.model import Answer, Call, Signer, TokenClaims
from frost_sidecar.testing.processes import ProcessCluster

ISSUER: Final = "https://mint.example"
AUDIENCE: Final = "https://api.example"
RULES: Final = f"""
[policies.access]
typ = ["at+jwt"]
iss = ["{ISSUER}"]
aud = ["{AUDIENCE}", "https://*.api.example"]
sub = ["user:*"]
max_lifetime_seconds = 900
required = ["jti"]
forbidden = ["act"]

[policies.other]
iss = ["https://other.example"]
"""
GONE: Final = object()
COORDINATOR: Final = "coordinator.frost.test"
BATCH: Final = "batch.frost.test"
"""Another client of the signers, whose certificate the attacker does not have."""
LIMIT: Final = 8 * 1024 * 1024


@dataclass
class Site:
    """The signers with three keys, and all that they ever gave the attacker."""

    cluster: ProcessCluster
    dealt: Mapping[str, Dealt]
    allowed: set[bytes] = field(default_factory=set)
    """Messages that the rules allow."""
    shares: list[tuple[str, int, wire.Session, str]] = field(default_factory=list)
    """Key, signer, session and share."""
    answers: list[bytes] = field(default_factory=list)

    def public(self, key: str = "default") -> bytes:
        return self.dealt[key].group_public

    def group(self, key: str = "default") -> Group:
        return Group.load(key, self.dealt[key].group_file)

    def token(self, *, key: str = "default", header: Mapping[str, Any] | None = None, **claims: Any) -> bytes:
        """The signing input of a token that the rules allow, but for what is changed."""
        now = int(time.time())
        head = {"alg": "EdDSA", "kid": thumbprint(self.public(key)), "typ": "at+jwt", **(header or {})}
        times = {"iat": now, "exp": now + 600, "jti": secrets.token_hex(8)}
        body = {"iss": ISSUER, "sub": "user:alice", "aud": AUDIENCE, **times, **claims}
        return joined(encoded(head), encoded(body))

    def good(self) -> bytes:
        """A fresh message that the rules allow."""
        message = self.token()
        self.allowed.add(message)
        return message

    def check(self) -> None:
        """All shares are for messages that the rules allow, each of its own nonces; and no answer has a secret."""
        assert [session for _, _, session, _ in self.shares if b64decode(session.msg) not in self.allowed] == []
        used = [(key, signer, session.commitments[str(signer)].id) for key, signer, session, _ in self.shares]
        assert len(used) == len(set(used))
        everything = b"\n".join(self.answers)
        for dealt in self.dealt.values():
            for file in dealt.share_files.values():
                secret = bytes.fromhex(json.loads(file.read_text("utf-8"))["signing_share"])
                for spelling in (secret, secret.hex().encode(), b64encode(secret).encode(), b64url(secret).encode()):
                    assert spelling not in everything
        assert b'nonce"' not in everything


def encoded(members: Mapping[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in members.items() if value is not GONE}).encode()


def joined(header: bytes, payload: bytes) -> bytes:
    return f"{b64url(header)}.{b64url(payload)}".encode()


class Attacker:
    """Everything that the coordinator's process has, in hostile hands."""

    def __init__(self, site: Site, transport: Transport, issuer: TokenIssuer, signers: Sequence[Signer]) -> None:
        self.site = site
        self.transport = transport
        self.issuer = issuer
        self.signers = {each.identifier: each for each in signers}

    async def token(self, identifier: int, body: bytes, **changes: Any) -> str:
        now = int(time.time())
        claims = TokenClaims(
            iss="frost-coord",
            sub="frost-coordinator",
            aud=self.signers[identifier].name,
            iat=now,
            nbf=now,
            exp=now + 30,
            jti=secrets.token_hex(16),
            body_sha256=wire.body_digest(body),
        )
        return await self.issuer.issue(msgspec.structs.replace(claims, **changes))

    async def call(
        self,
        identifier: int,
        path: str,
        message: msgspec.Struct | bytes = b"",
        *,
        token: str | None = None,
        **claims: Any,
    ) -> Answer:
        """One call, with a token of the attacker's own unless one is given; keeps all that comes back."""
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        bearer = await self.token(identifier, body, **claims) if token is None else token
        call = Call(
            "POST" if body else "GET", path, body, {"Authorization": f"Bearer {bearer}"} if bearer else {}, LIMIT
        )
        answer = await self.transport.call(self.signers[identifier], call)
        self.site.answers.append(answer.body)
        return answer

    async def commitments(
        self, identifier: int, count: int = 1, key: str = "default", **claims: Any
    ) -> wire.CommitmentsAnswer:
        request = wire.CommitmentsRequest(key, count)
        answer = await self.call(identifier, wire.COMMITMENTS_PATH, request, **claims)
        assert answer.status == 200, answer.body
        return msgspec.json.decode(answer.body, type=wire.CommitmentsAnswer)

    async def ask(self, identifier: int, request: wire.SharesRequest, **claims: Any) -> list[wire.ShareResult]:
        answer = await self.call(identifier, wire.SHARES_PATH, request, **claims)
        assert answer.status == 200, answer.body
        results = msgspec.json.decode(answer.body, type=wire.SharesAnswer).results
        for session, result in zip(request.sessions, results, strict=True):
            if result.share is not None:
                self.site.shares.append((request.key, identifier, session, result.share))
        return results

    async def outcomes(self, identifier: int, request: wire.SharesRequest, **claims: Any) -> list[str]:
        return [each.error or "share" for each in await self.ask(identifier, request, **claims)]

    async def sessions(
        self, *messages: bytes, key: str = "default", quorum: Sequence[int] = (1, 2), **claims: Any
    ) -> dict[int, wire.SharesRequest]:
        """What each of the quorum is asked for one session of each message, with fresh commitments of its own."""
        stock = {each: await self.commitments(each, len(messages), key, **claims) for each in quorum}
        sessions = [
            wire.Session(
                f"s{index}", b64encode(message), {str(each): stock[each].commitments[index] for each in quorum}
            )
            for index, message in enumerate(messages)
        ]
        return {each: wire.SharesRequest(key, stock[each].epoch, sessions) for each in quorum}

    async def sign(self, message: bytes, quorum: Sequence[int] = (1, 2)) -> bytes | list[wire.ShareResult]:
        """The signature that the quorum makes, verified; or what each of its members said instead."""
        requests = await self.sessions(message, quorum=quorum)
        results = {each: (await self.ask(each, requests[each]))[0] for each in quorum}
        if any(each.share is None for each in results.values()):
            return list(results.values())
        package = packaged(requests[quorum[0]].sessions[0], message)
        return self.aggregate(package, {each: result.share or "" for each, result in results.items()})

    def aggregate(self, package: frost.SigningPackage, shares: Mapping[int, str]) -> bytes:
        read = {each: frost.round2.SignatureShare.deserialize(b64decode(share)) for each, share in shares.items()}
        group = self.site.group()
        signature = frost.aggregate(package, read, group.package)
        group.verifying_key.verify(package.message, signature)
        return signature.serialize()


def packaged(session: wire.Session, message: bytes) -> frost.SigningPackage:
    points = {
        int(each): frost.round1.SigningCommitments(b64decode(listed.hiding), b64decode(listed.binding))
        for each, listed in session.commitments.items()
    }
    return frost.SigningPackage(points, message)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("captured")
    with ProcessCluster(folder, signer_rules=RULES, signer_policy="access") as cluster:
        dealt = {"default": cluster.dealt}
        for key in ("other", "reserved"):
            dealt[key] = deal(folder / key, min_signers=2, max_signers=3)
        for identifier in cluster.identifiers:
            toml = folder / f"signer-{identifier}.toml"
            names = f'clients.names = ["DNS:{COORDINATOR}"'
            text = toml.read_text("utf-8")
            assert names in text
            more = {"other": 'policy = "other"', "reserved": f'policy = "access"\nclients = ["DNS:{BATCH}"]'}
            tables = "".join(
                f'[keys.{key}]\nshare = "../{key}/{dealt[key].share_files[identifier].name}"\n{rule}\n\n'
                for key, rule in more.items()
            )
            toml.write_text(text.replace(names, f'{names}, "DNS:{BATCH}"') + tables, "utf-8")
            cluster.start_signer(identifier)
        site = Site(cluster, dealt)
        yield site
        site.check()


@asynccontextmanager
async def captured(site: Site, certificate: str | None = None) -> AsyncIterator[Attacker]:
    """The attacker; or, with a ``certificate`` of its own, another client that does as it should."""
    config = Config.load(site.cluster.coordinator_toml)
    if certificate is not None:
        tls = site.cluster.authority.issue(certificate.partition(".")[0], [certificate])
        config = msgspec.structs.replace(
            config, tls=msgspec.structs.replace(config.tls, cert=str(tls.cert), key=str(tls.key))
        )
    loaded = plugins.load(config, "coordinator", signers=config.signer_nodes)
    _, transport = loaded.only("make_transport", Transport)
    _, issuer = loaded.only("make_token_issuer", TokenIssuer)
    async with transport, issuer:
        yield Attacker(site, transport, issuer, config.signer_nodes)


Forge = Callable[[Site], bytes]


def claims(**changes: Any) -> Forge:
    return lambda site: site.token(**changes)


def header(**changes: Any) -> Forge:
    return lambda site: site.token(header=changes)


def payload(make: Callable[[bytes], bytes]) -> Forge:
    """The good token with another payload."""

    def forge(site: Site) -> bytes:
        head, _, body = site.good().partition(b".")
        return head + b"." + b64url(make(b64decode(body.decode()))).encode()

    return forge


def spelled(make: Callable[[bytes], bytes]) -> Forge:
    """The good token, spelled otherwise."""
    return lambda site: make(site.good())


def last_bit(message: bytes) -> bytes:
    """Another spelling of the same payload: bits behind its end (RFC 4648, section 3.5)."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    head, _, body = message.partition(b".")
    body = b64url(b64decode(body.decode()) + b" " * ((1 - len(b64decode(body.decode()))) % 3)).encode()
    assert len(body) % 4 == 2
    return head + b"." + body[:-1] + alphabet[alphabet.index(body[-1:]) + 1 :][:1]


def in_a_year() -> int:
    return int(time.time()) + 365 * 86400


FORGED: Final[Mapping[str, Forge]] = {
    "another typ": header(typ="JWT"),
    "no typ": header(typ=GONE),
    "a typ of another tree": header(typ="text/at+jwt"),
    "another issuer": claims(iss="https://evil.example"),
    "no issuer": claims(iss=GONE),
    "a list of issuers": claims(iss=[ISSUER]),
    "a second issuer in another case": claims(Iss="https://evil.example"),
    "a longer life": lambda site: site.token(exp=int(time.time()) + 3600),
    "no end": claims(exp=GONE),
    "an end that is null": claims(exp=None),
    "a life that begins in a year": lambda site: site.token(iat=in_a_year(), exp=in_a_year() + 60),
    "another audience": claims(aud="https://bank.example"),
    "another audience beside ours": claims(aud=[AUDIENCE, "https://bank.example"]),
    "no audience": claims(aud=[]),
    "an audience on another host": claims(aud="https://bank.example/x.api.example"),
    "another subject": claims(sub="admin:root"),
    "a subject with a line end": claims(sub="user:alice\nadmin:root"),
    "no jti": claims(jti=GONE),
    "a forbidden claim": claims(act={"sub": "root"}),
    "a forbidden claim in another case": claims(Act={"sub": "root"}),
    "opaque bytes": lambda _: b"opaque bytes",
    "the empty message": lambda _: b"",
    "a certificate to be signed": lambda _: b"\x30\x82\x01\x00" + bytes(range(256)),
    "a payload that is no claims set": payload(lambda _: b'["sub"]'),
    "a claim twice": payload(lambda body: body[:-1] + b',"sub":"admin:root"}'),
    "a claim twice, escaped": payload(lambda body: body[:-1] + b',"s\\u0075b":"admin:root"}'),
    "a header twice": lambda site: joined(b'{"alg":"none","alg":"EdDSA","typ":"at+jwt"}', b'{"sub":"admin:root"}'),
    "text behind the claims": payload(lambda body: body + b"{}"),
    "a byte order mark": payload(lambda body: b"\xef\xbb\xbf" + body),
    "UTF-16": payload(lambda body: body.decode().encode("utf-16")),
    "NaN": payload(lambda body: body[:-1] + b',"x":NaN}'),
    "padding": spelled(lambda message: message + b"="),
    "a line end in the base64url": spelled(lambda message: message + b"\n"),
    "bits behind the base64url": spelled(last_bit),
    "the kid of another key": lambda site: site.token(header={"kid": thumbprint(site.public("other"))}),
    "no kid": header(kid=GONE),
    "alg none": header(alg="none"),
    "alg HS256": header(alg="HS256"),
    "crit": header(crit=["x"], x=1),
    "an unencoded payload": header(b64=False, crit=["b64"]),
    "a key in the header": header(jwk={"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
    "the address of a key": header(jku="https://evil.example/jwks.json"),
    "a member of the header in another case": header(ALG="none"),
    "a JWT in the JWT": header(cty="JWT"),
    "a token for payload": payload(lambda body: joined(b'{"alg":"none"}', body) + b"."),
    "a whole token": spelled(lambda message: message + b".c2lnbmF0dXJl"),
    "no protected header": spelled(lambda message: b"." + message.partition(b".")[2]),
    "more than the longest message": spelled(lambda message: message + b"A" * (65537 - len(message))),
}


async def test_the_control(site: Site) -> None:
    """The same code gets a signature on what the rules allow, which verifiers accept."""
    async with captured(site) as attacker:
        for quorum in ((1, 2), (1, 3), (2, 3)):
            message = site.good()
            signature = await attacker.sign(message, quorum)
            assert isinstance(signature, bytes)
            token = f"{message.decode()}.{b64url(signature)}"
            read = jwt.decode(token, pyjwt_key(site.public()), algorithms=["EdDSA"], audience=AUDIENCE, issuer=ISSUER)
            assert read["sub"] == "user:alice"
            assert sum(b64decode(session.msg) == message for _, _, session, _ in site.shares) == 2
    site.check()


@pytest.mark.parametrize("name", FORGED)
async def test_a_message_outside_the_rules(site: Site, name: str) -> None:
    message = FORGED[name](site)
    assert message not in site.allowed
    async with captured(site) as attacker:
        for quorum in ((1, 2), (3, 1), (1, 2, 3)):
            results = await attacker.sign(message, quorum)
            assert isinstance(results, list)
            expected = "malformed" if len(message) > 65536 else "denied"
            assert {each.error for each in results} == {expected}
            assert all((each.detail or "").isprintable() for each in results)
        assert isinstance(await attacker.sign(site.good()), bytes)
    assert not [session for _, _, session, _ in site.shares if b64decode(session.msg) == message]
    site.check()


Attack = Callable[[Attacker], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}


def attack(run: Attack) -> Attack:
    ATTACKS[getattr(run, "__name__", "").replace("_", " ")] = run
    return run


def forged(site: Site) -> bytes:
    return site.token(sub="admin:root")


@attack
async def a_denied_message_among_allowed_ones(attacker: Attacker) -> None:
    site = attacker.site
    requests = await attacker.sessions(site.good(), forged(site), site.good(), b"opaque")
    for each, request in requests.items():
        assert await attacker.outcomes(each, request) == ["share", "denied", "share", "denied"]


@attack
async def sixty_four_at_once(attacker: Attacker) -> None:
    site = attacker.site
    messages = [forged(site) for _ in range(wire.MAX_SESSIONS)]
    for each, request in (await attacker.sessions(*messages)).items():
        assert set(await attacker.outcomes(each, request)) == {"denied"}


@attack
async def one_commitment_for_an_allowed_and_a_denied_message(attacker: Attacker) -> None:
    site = attacker.site
    for first_is_good in (True, False):
        requests = await attacker.sessions(site.good())
        for each, request in requests.items():
            [good] = request.sessions
            bad = msgspec.structs.replace(good, session="bad", msg=b64encode(forged(site)))
            order = [good, bad] if first_is_good else [bad, good]
            outcome = await attacker.outcomes(each, msgspec.structs.replace(request, sessions=order))
            assert outcome == (["share", "unknown-commitment"] if first_is_good else ["denied", "share"])


@attack
async def another_message_after_the_share(attacker: Attacker) -> None:
    site = attacker.site
    for other in (forged(site), site.good()):
        for each, request in (await attacker.sessions(site.good())).items():
            assert await attacker.outcomes(each, request) == ["share"]
            changed = msgspec.structs.replace(request.sessions[0], session="again", msg=b64encode(other))
            assert await attacker.outcomes(each, msgspec.structs.replace(request, sessions=[changed])) == [
                "unknown-commitment"
            ]


@attack
async def shares_of_an_allowed_message_for_another_one(attacker: Attacker) -> None:
    message, other = attacker.site.good(), forged(attacker.site)
    requests = await attacker.sessions(message)
    shares = {each: (await attacker.ask(each, request))[0].share or "" for each, request in requests.items()}
    session = requests[1].sessions[0]
    assert len(attacker.aggregate(packaged(session, message), shares)) == 64
    with pytest.raises(frost.FrostError):
        attacker.aggregate(packaged(session, other), shares)


@attack
async def shares_of_two_sessions_in_one(attacker: Attacker) -> None:
    """Each signer is told another story: what comes back fits together in neither."""
    one, two = attacker.site.good(), attacker.site.good()
    requests = await attacker.sessions(one)
    [session] = requests[1].sessions
    second = msgspec.structs.replace(session, msg=b64encode(two))
    first = await attacker.ask(1, requests[1])
    other = await attacker.ask(2, msgspec.structs.replace(requests[2], sessions=[second]))
    shares = {1: first[0].share or "", 2: other[0].share or ""}
    for message in (one, two, forged(attacker.site)):
        with pytest.raises(frost.FrostError):
            attacker.aggregate(packaged(session, message), shares)


@attack
async def commitments_under_the_name_of_another_key(attacker: Attacker) -> None:
    """``other`` has weaker rules, and a share of another group."""
    site = attacker.site
    for message in (forged(site), site.token(key="other", header={"typ": "JWT"}, iss="https://other.example")):
        for each, request in (await attacker.sessions(message)).items():
            moved = msgspec.structs.replace(request, key="other")
            assert await attacker.outcomes(each, moved) == ["unknown-commitment"]
            assert await attacker.outcomes(each, request) == ["denied"]


@attack
async def the_weaker_rules_of_another_key(attacker: Attacker) -> None:
    site = attacker.site
    for message in (site.token(header={"typ": "JWT"}, iss="https://other.example"), site.good()):
        for each, request in (await attacker.sessions(message, key="other")).items():
            assert await attacker.outcomes(each, request) == ["denied"]


@attack
async def a_key_of_another_client(attacker: Attacker) -> None:
    for sub in ("frost-coordinator", f"DNS:{BATCH}", f"x DNS:{BATCH}", f",DNS:{BATCH}"):
        answer = await attacker.call(1, wire.COMMITMENTS_PATH, wire.CommitmentsRequest("reserved", 1), sub=sub)
        assert (answer.status, json.loads(answer.body)["reason"]) == (403, "grant-missing")
        [request] = (await attacker.sessions(attacker.site.good(), quorum=[1], sub=sub)).values()
        answer = await attacker.call(1, wire.SHARES_PATH, msgspec.structs.replace(request, key="reserved"), sub=sub)
        assert (answer.status, json.loads(answer.body)["reason"]) == (403, "grant-missing")


@attack
async def names_that_are_nearly_a_key(attacker: Attacker) -> None:
    for key in ("Default", "default ", "../keys/default", "default\u0000", "", "*"):
        answer = await attacker.call(1, wire.COMMITMENTS_PATH, wire.CommitmentsRequest(key, 1))
        assert answer.status in {400, 404}


@attack
async def commitments_of_another_client(attacker: Attacker) -> None:
    site = attacker.site
    async with captured(site, BATCH) as batch:
        requests = await batch.sessions(site.good(), sub="batch")
        for sub in ("frost-coordinator", "batch"):
            for each, request in requests.items():
                assert await attacker.outcomes(each, request, sub=sub) == ["unknown-commitment"]
        for each, request in requests.items():
            assert await batch.outcomes(each, request, sub="batch") == ["share"]


@attack
async def a_call_again(attacker: Attacker) -> None:
    request = (await attacker.sessions(attacker.site.good()))[1]
    body = msgspec.json.encode(request)
    token = await attacker.token(1, body)
    assert await attacker.outcomes(1, request, token=token) == ["share"]
    again = await attacker.call(1, wire.SHARES_PATH, body, token=token)
    assert (again.status, json.loads(again.body)["reason"]) == (401, "token-replayed")
    assert await attacker.outcomes(1, request) == ["unknown-commitment"]


@attack
async def a_token_for_something_else(attacker: Attacker) -> None:
    body = msgspec.json.encode((await attacker.sessions(attacker.site.good()))[1])
    now = int(time.time())
    wrong = {
        "token-body": await attacker.token(1, b"{}"),
        "token-audience": await attacker.token(2, body),
        "token-lifetime": await attacker.token(1, body, exp=now + 3600),
        "token-expired": await attacker.token(1, body, iat=now - 60, nbf=now - 60, exp=now - 30),
        "token-not-yet-valid": await attacker.token(1, body, iat=now + 600, exp=now + 630),
        "token-issuer": await attacker.token(1, body, iss="somebody"),
        "token-subject": await attacker.token(1, body, sub="line\nend"),
    }
    for reason, token in wrong.items():
        answer = await attacker.call(1, wire.SHARES_PATH, body, token=token)
        assert (answer.status, json.loads(answer.body)["reason"]) == (401, reason)


@attack
async def a_token_without_its_signature(attacker: Attacker) -> None:
    body = msgspec.json.encode((await attacker.sessions(attacker.site.good()))[1])
    signed = await attacker.token(1, body)
    claims = signed.split(".")[1]
    none = b64url(b'{"alg":"none","typ":"JWT"}')
    mac = b64url(hmac.digest(b"", f"{none}.{claims}".encode(), hashlib.sha256))
    for token in (f"{none}.{claims}.", f"{none}.{claims}.{mac}", signed[:-2] + "AA", signed.rpartition(".")[0] + "."):
        assert (await attacker.call(1, wire.SHARES_PATH, body, token=token)).status == 401


@attack
async def no_token(attacker: Attacker) -> None:
    body = msgspec.json.encode((await attacker.sessions(attacker.site.good()))[1])
    for path in (wire.SHARES_PATH, wire.COMMITMENTS_PATH, wire.INFO_PATH):
        answer = await attacker.call(1, path, b"" if path == wire.INFO_PATH else body, token="")
        assert (answer.status, json.loads(answer.body)["reason"]) == (401, "token-missing")


@attack
async def an_old_epoch(attacker: Attacker) -> None:
    site = attacker.site
    request = (await attacker.sessions(site.good(), quorum=[3, 1]))[3]
    site.cluster.stop_signer(3)
    site.cluster.start_signer(3)
    async with captured(site) as again:  # its connections broke with the signer
        answer = await again.call(3, wire.SHARES_PATH, request)
        assert (answer.status, json.loads(answer.body)["type"]) == (409, "urn:frost-sidecar:error:stale-epoch")
        epoch = (await again.commitments(3)).epoch
        assert await again.outcomes(3, msgspec.structs.replace(request, epoch=epoch)) == ["unknown-commitment"]


@attack
async def commitments_that_are_not_quite_its_own(attacker: Attacker) -> None:
    site = attacker.site
    requests = await attacker.sessions(site.good())
    [session] = requests[1].sessions
    one, two = session.commitments["1"], session.commitments["2"]
    swapped = replace_points(one, one.binding, one.hiding)
    foreign = replace_points(one, two.hiding, two.binding)
    identity = b64encode(b"\x01" + bytes(31))
    for wrong in (swapped, foreign, replace_points(one, identity, identity)):
        changed = msgspec.structs.replace(session, commitments={"1": wrong, "2": two})
        assert await attacker.outcomes(1, msgspec.structs.replace(requests[1], sessions=[changed])) == ["malformed"]
    assert await attacker.outcomes(1, requests[1]) == ["share"]


def replace_points(commitment: wire.Commitment, hiding: str, binding: str) -> wire.Commitment:
    return wire.Commitment(commitment.id, hiding, binding)


@attack
async def commitments_of_its_own_for_the_others(attacker: Attacker) -> None:
    """The other participants are the attacker itself: its share alone is worth nothing, and the message is checked."""
    site = attacker.site
    nonces_known = [frost.round1.commit(any_share()) for _ in range(2)]
    for message, outcome in ((forged(site), "denied"), (site.good(), "share")):
        stock = await attacker.commitments(1)
        _, mine = nonces_known[0]
        listed = {"1": stock.commitments[0], "2": wire.Commitment("x", b64encode(mine.hiding), b64encode(mine.binding))}
        session = wire.Session("s", b64encode(message), listed)
        results = await attacker.ask(1, wire.SharesRequest("default", stock.epoch, [session]))
        assert (results[0].error or "share") == outcome
        if results[0].share is not None:
            guessed = b64encode(secrets.token_bytes(31) + b"\0")
            with pytest.raises(frost.FrostError):
                attacker.aggregate(packaged(session, message), {1: results[0].share, 2: guessed})


def any_share() -> frost.keys.KeyPackage:
    shares, _ = frost.keys.generate_with_dealer(3, 2)
    return frost.keys.KeyPackage.from_secret_share(next(iter(shares.values())))


@attack
async def fewer_participants_than_the_threshold(attacker: Attacker) -> None:
    requests = await attacker.sessions(attacker.site.good())
    [session] = requests[1].sessions
    alone = msgspec.structs.replace(session, commitments={"1": session.commitments["1"]})
    without = msgspec.structs.replace(session, commitments={"2": session.commitments["2"]})
    for changed, said in ((alone, "malformed"), (without, "not-a-participant")):
        assert await attacker.outcomes(1, msgspec.structs.replace(requests[1], sessions=[changed])) == [said]


@attack
async def members_that_the_protocol_does_not_have(attacker: Attacker) -> None:
    request = (await attacker.sessions(forged(attacker.site)))[1]
    plain = msgspec.to_builtins(request)
    session = plain["sessions"][0]
    for changed in (
        {**plain, "policy": None},
        {**plain, "client": f"DNS:{BATCH}"},
        {**plain, "dev": True},
        {**plain, "sessions": [{**session, "policy": "other"}]},
        {**plain, "sessions": [{**session, "nonces": True}]},
        {**plain, "sessions": [session] * (wire.MAX_SESSIONS + 1)},
        {**plain, "sessions": [session, session]},
    ):
        answer = await attacker.call(1, wire.SHARES_PATH, msgspec.json.encode(changed))
        assert answer.status == 400


@attack
async def one_message_for_the_rules_and_another_one_in_the_body(attacker: Attacker) -> None:
    site = attacker.site
    request = (await attacker.sessions(site.good()))[1]
    body = msgspec.json.encode(request)
    good, bad = request.sessions[0].msg.encode(), b64encode(forged(site)).encode()
    twice = body.replace(b'"msg":"' + good + b'"', b'"msg":"' + good + b'","msg":"' + bad + b'"')
    escaped = body.replace(b'"msg":"' + good + b'"', b'"msg":"' + good + b'","ms\\u0067":"' + bad + b'"')
    for changed in (twice, escaped):
        assert changed != body
        assert (await attacker.call(1, wire.SHARES_PATH, changed)).status == 400
    assert await attacker.outcomes(1, request) == ["share"]


@attack
async def other_paths(attacker: Attacker) -> None:
    await attacker.sessions(attacker.site.good())
    assert (await attacker.call(1, "/healthz", token="")).body == b"ok"
    metrics = await attacker.call(1, "/metrics", token="")
    assert b"frost_signer_shares_total" in metrics.body
    epoch = json.loads((await attacker.call(1, wire.INFO_PATH)).body)["epoch"]
    for word in ("user:alice", ISSUER, epoch, COORDINATOR, "frost-coordinator"):
        assert word.encode() not in metrics.body
    for path in (
        "/v1/nonces",
        "/v1/keys",
        "/v1/share",
        "/v1/shares/",
        "/v1/info/default",
        "/v1/../share-1.json",
        "/state/share-1.json",
        "/debug/pprof",
        "/",
        "//v1/info",
    ):
        assert (await attacker.call(1, path)).status == 404
        assert (await attacker.call(1, path, b"{}")).status == 404


@attack
async def what_a_signer_says_of_itself(attacker: Attacker) -> None:
    answer = await attacker.call(1, wire.INFO_PATH)
    info = json.loads(answer.body)
    assert info.keys() == {"protocols", "name", "epoch", "keys"}
    assert list(info["keys"]) == ["default", "other"]
    for key in info["keys"].values():
        assert key.keys() == {"identifier", "min_signers", "group_public", "verifying_share"}


@attack
async def wearing_the_rules_out(attacker: Attacker) -> None:
    """Messages that are made to cost much are denied as fast, and the next good one is signed."""
    site = attacker.site
    many: dict[str, Any] = {f"claim{number}": number for number in range(2000)}
    dear = [
        site.token(sub="user:" + "a" * 40_000),
        site.token(aud=["https://" + "a." * 100 + "api.example"] * 150),
        site.token(**many, act=1),
        joined(encoded({"alg": "EdDSA"}), b'{"a":' * 900 + b"1" + b"}" * 900),
        joined(encoded({"alg": "EdDSA"}), b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        joined(encoded({"alg": "EdDSA"}), b'{"a":' + b"9" * 40_000 + b"}"),
    ]
    started = time.perf_counter()
    for each, request in (await attacker.sessions(*dear * 2)).items():
        assert set(await attacker.outcomes(each, request)) == {"denied"}
    assert time.perf_counter() - started < 20
    assert isinstance(await attacker.sign(site.good()), bytes)


@pytest.mark.parametrize("name", ATTACKS)
async def test_the_protocol_turned_against_its_signers(site: Site, name: str) -> None:
    async with captured(site) as attacker:
        await ATTACKS[name](attacker)
    site.check()


def test_there_are_many_ways_that_do_not_work() -> None:
    assert len(FORGED) >= 25
    assert len(ATTACKS) >= 20
