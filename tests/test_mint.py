"""Tokens from a real cluster, through each way of calling, and what a mint does when the key under it changes."""

from __future__ import annotations

import base64
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import jwt
import nacl.signing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jws import deserialize_compact

from frost_sidecar import mint as mint_module
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import (
    ConfigError,
    DeadlineExceeded,
    IdempotencyConflict,
    MalformedRequest,
    ParticipantsError,
    Unavailable,
    UnexpectedAnswer,
    UnknownKey,
)
from frost_sidecar.jose import joserfc_key, pyjwt_key, thumbprint
from frost_sidecar.mint import BlockingMint, Mint, UnexpectedKey
from frost_sidecar.model import Signed
from frost_sidecar.service import BlockingSigningService, SigningService
from frost_sidecar.target import connect_blocking
from frost_sidecar.testing.behaviour import stalled
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.processes import ProcessCluster
from frost_sidecar.testing.sidecar import MemorySidecar

CLAIMS = {"iss": "https://mint.example", "sub": "alice", "aud": ["api"]}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def read(token: str, public: bytes) -> dict[str, Any]:
    """The claims, once PyJWT accepts the token."""
    return jwt.decode(token, pyjwt_key(public), algorithms=["EdDSA"], audience="api")


@asynccontextmanager
async def in_process(folder: Path) -> AsyncIterator[tuple[SigningService, MemoryCluster]]:
    cluster = MemoryCluster(folder)
    async with cluster.coordinator() as coordinator:
        yield coordinator, cluster


@asynccontextmanager
async def over_the_socket(folder: Path) -> AsyncIterator[tuple[SigningService, MemoryCluster]]:
    sidecar = MemorySidecar(folder)
    async with sidecar.serving(), AsyncSidecarClient(sidecar.path) as client:
        yield client, sidecar.cluster


@asynccontextmanager
async def over_tcp(folder: Path) -> AsyncIterator[tuple[SigningService, MemoryCluster]]:
    sidecar = MemorySidecar(folder, tcp=True)
    async with (
        sidecar.serving(),
        AsyncSidecarClient(sidecar.url, tls=sidecar.client, token=sidecar.token()) as client,
    ):
        yield client, sidecar.cluster


@pytest.fixture(params=[in_process, over_the_socket, over_tcp], ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_token_is_minted_and_its_header_is_right(way: Any, short_path: Path) -> None:
    async with way(short_path) as (service, cluster):
        token = await Mint(service).jwt(CLAIMS)
        assert read(token, cluster.group_public) == CLAIMS
        kid = thumbprint(cluster.group_public)
        assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "kid": kid, "typ": "JWT"}
        [published] = (await service.jwks())["keys"]
        assert published["kid"] == kid


async def test_the_fully_specified_algorithm_is_said_when_asked(way: Any, short_path: Path) -> None:
    async with way(short_path) as (service, cluster):
        token = await Mint(service, key="default", alg="Ed25519").jwt(CLAIMS, typ="at+jwt", header={"ext": 1})
    assert jwt.get_unverified_header(token) == {
        "alg": "Ed25519",
        "kid": thumbprint(cluster.group_public),
        "typ": "at+jwt",
        "ext": 1,
    }


async def test_any_bytes_are_signed_as_jws(way: Any, short_path: Path) -> None:
    async with way(short_path) as (service, cluster):
        token = await Mint(service).jws(b"\x00\xff not json", header={"cty": "application/octet-stream"})
    assert jwt.PyJWS().decode(token, pyjwt_key(cluster.group_public), algorithms=["EdDSA"]) == b"\x00\xff not json"
    assert "typ" not in jwt.get_unverified_header(token)


async def test_the_same_idempotency_key_is_the_same_token_a_second_later(way: Any, short_path: Path) -> None:
    async with way(short_path) as (service, cluster):
        mint = Mint(service)
        first = await mint.jwt(CLAIMS, lifetime=60, jti=True, nbf=True, idempotency_key="order-1")
        await anyio.sleep(1.1)  # the clock's seconds have moved on, so iat and exp would be others
        again = await mint.jwt(CLAIMS, lifetime=60, jti=True, nbf=True, idempotency_key="order-1")
        other = await mint.jwt(CLAIMS, lifetime=60, jti=True, nbf=True, idempotency_key="order-2")
        assert again == first
        assert read(other, cluster.group_public)["jti"] != read(first, cluster.group_public)["jti"]
        with pytest.raises(IdempotencyConflict):
            await mint.jwt({**CLAIMS, "sub": "mallory"}, lifetime=60, jti=True, nbf=True, idempotency_key="order-1")


async def test_what_the_service_says_comes_through(way: Any, short_path: Path) -> None:
    async with way(short_path) as (service, cluster):
        mint = Mint(service)
        await mint.jwt(CLAIMS, participants=[1, 3], request_id="mint-42")
        assert (cluster.records[-1].participants, cluster.records[-1].request_id) == ((1, 3), "mint-42")
        urls = [f"https://signer-{identifier}.frost.test" for identifier in (2, 3)]
        await mint.jwt(CLAIMS, signer_urls=urls, traceparent=TRACEPARENT)
        assert (cluster.records[-1].participants, cluster.records[-1].traceparent) == ((2, 3), TRACEPARENT)
        with pytest.raises(ParticipantsError):
            await mint.jwt(CLAIMS, participants=[1])
        with pytest.raises(UnknownKey):
            await Mint(service, key="nobody").jwt(CLAIMS)
        for identifier in cluster.identifiers:
            cluster.behave(identifier, stalled)
        with pytest.raises(DeadlineExceeded):
            await mint.jwt(CLAIMS, timeout=0.2)


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    async with MemoryCluster(tmp_path).coordinator() as coordinator:
        yield coordinator


async def minted(service: SigningService, claims: dict[str, Any], **options: Any) -> dict[str, Any]:
    token = await Mint(service).jwt(claims, **options)
    return jwt.decode(
        token, pyjwt_key(await service.group_public()), options={"verify_exp": False, "verify_aud": False}
    )


@pytest.mark.parametrize("lifetime", [300, timedelta(minutes=5), timedelta(seconds=300.9)])
async def test_a_lifetime_sets_iat_and_exp(coordinator: Coordinator, lifetime: int | timedelta) -> None:
    before = int(time.time())
    claims = await minted(coordinator, {"sub": "alice"}, lifetime=lifetime)
    assert set(claims) == {"sub", "iat", "exp"}
    assert before <= claims["iat"] <= int(time.time())
    assert claims["exp"] == claims["iat"] + 300


@pytest.mark.parametrize(
    ("given", "options", "there"),
    [
        ({}, {}, {}),
        ({"exp": 5}, {"lifetime": 300, "issued_at": 1000}, {"iat": 1000, "exp": 5}),
        ({"iat": 2000}, {"lifetime": 300}, {"iat": 2000, "exp": 2300}),
        ({"iat": 2000}, {"lifetime": 300, "issued_at": 1000, "nbf": True}, {"iat": 2000, "exp": 2300, "nbf": 2000}),
        ({}, {"issued_at": datetime(2026, 1, 1, tzinfo=UTC)}, {"iat": 1767225600}),
        ({}, {"issued_at": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))}, {"iat": 1767225600}),
        ({"nbf": 7}, {"issued_at": 1000, "nbf": True}, {"iat": 1000, "nbf": 7}),
        ({"jti": "mine"}, {"jti": True}, {"jti": "mine"}),
    ],
)
async def test_what_the_caller_said_stays(
    coordinator: Coordinator, given: dict[str, Any], options: dict[str, Any], there: dict[str, Any]
) -> None:
    before = dict(given)
    assert await minted(coordinator, given, **options) == there
    assert given == before


async def test_a_jti_is_made_for_each_token(coordinator: Coordinator) -> None:
    made = {(await minted(coordinator, {}, jti=True))["jti"] for _ in range(5)}
    assert len(made) == 5
    assert all(len(each) == 22 for each in made)


@pytest.mark.parametrize(
    ("claims", "options", "said"),
    [
        ({}, {"lifetime": 0}, "lifetime: must be"),
        ({}, {"lifetime": -1}, "lifetime: must be"),
        ({}, {"lifetime": True}, "lifetime: must be"),
        ({}, {"lifetime": 1.5}, "lifetime: must be"),
        ({}, {"lifetime": timedelta(milliseconds=999)}, "lifetime: must be"),
        ({}, {"lifetime": 2**53}, r"claims.exp: is more than"),
        ({}, {"issued_at": datetime(2026, 1, 1)}, "issued_at: must be"),  # noqa: DTZ001 - a naive one is the point
        ({}, {"issued_at": time.time()}, "issued_at: must be"),
        ({"iat": time.time()}, {"lifetime": 300}, r"claims.iat: must be whole seconds"),
        ({"iat": datetime.now(UTC)}, {"lifetime": 300}, r"claims.iat: a datetime is not JSON"),
        ({"roles": {"admin"}}, {}, r"claims.roles: a set is not JSON"),
        ({1: 2}, {"lifetime": 300}, r"claims: the member '1'"),
        ([], {}, "claims: must be a JSON object"),
        ({}, {"header": {"kid": "mine"}}, r"header.kid: cannot be added"),
        ({}, {"header": {"typ": "at\\+jwt"}}, r"header.typ: cannot be added; give it as the argument"),
        ({}, {"typ": 5}, r"header.typ: must be text"),
        ({}, {"idempotency_key": ""}, "idempotency_key: must be"),
        ({}, {"idempotency_key": "a b"}, "idempotency_key: must be"),
        ({}, {"idempotency_key": "x" * 256}, "idempotency_key: must be"),
        ({}, {"idempotency_key": 5}, "idempotency_key: must be"),
        ({}, {"timeout": -1}, "timeout"),
        ({"Exp": 1}, {}, "claims.Exp: differs from exp"),
        ({}, {"header": {"Alg": "none"}}, "header.Alg: differs from alg"),
    ],
)
async def test_what_cannot_be_signed_is_refused_and_not_signed(
    tmp_path: Path, claims: Any, options: dict[str, Any], said: str
) -> None:
    cluster = MemoryCluster(tmp_path)
    async with cluster.coordinator() as coordinator:
        with pytest.raises(MalformedRequest, match=said):
            await Mint(coordinator).jwt(claims, **options)
        if "idempotency_key" in options:
            with pytest.raises(MalformedRequest, match=said):
                await Mint(coordinator).jws(b"", **options)
    assert cluster.records == []


async def test_an_unknown_option_or_algorithm_is_refused(coordinator: Coordinator) -> None:
    with pytest.raises(TypeError, match="lifetme"):
        await Mint(coordinator).jwt({}, lifetme=300)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="lifetime"):
        await Mint(coordinator).jws(b"", lifetime=300)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="alg: must be one of EdDSA, Ed25519"):
        Mint(coordinator, alg="none")  # type: ignore[arg-type]


async def test_the_longest_idempotency_key_is_taken(coordinator: Coordinator) -> None:
    mint = Mint(coordinator)
    assert await mint.jws(b"", idempotency_key="x" * 255) == await mint.jws(b"", idempotency_key="x" * 255)


async def test_many_at_once_with_one_idempotency_key_are_one_token(coordinator: Coordinator) -> None:
    mint = Mint(coordinator)
    tokens: list[str] = []

    async def ask() -> None:
        tokens.append(await mint.jwt(CLAIMS, lifetime=60, jti=True, idempotency_key="k"))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(ask)
    assert len(tokens) == 20
    assert len(set(tokens)) == 1


async def test_a_first_use_is_forgotten_in_time_and_then_the_retry_conflicts(coordinator: Coordinator) -> None:
    mint = Mint(coordinator, remember_seconds=0.05)
    await mint.jwt(CLAIMS, lifetime=60, jti=True, idempotency_key="k")
    await anyio.sleep(1.1)
    with pytest.raises(IdempotencyConflict):
        await mint.jwt(CLAIMS, lifetime=60, jti=True, idempotency_key="k")


async def test_only_so_many_first_uses_are_remembered(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mint_module, "_MOST_REMEMBERED", 2)
    mint = Mint(coordinator)
    tokens = {key: await mint.jwt(CLAIMS, lifetime=60, idempotency_key=key) for key in "abc"}
    await anyio.sleep(1.1)
    assert await mint.jwt(CLAIMS, lifetime=60, idempotency_key="c") == tokens["c"]
    with pytest.raises(IdempotencyConflict):
        await mint.jwt(CLAIMS, lifetime=60, idempotency_key="a")


async def test_two_replicas_of_a_mint_agree_where_the_caller_says_the_time(coordinator: Coordinator) -> None:
    options: dict[str, Any] = {"lifetime": 60, "issued_at": 1_800_000_000, "jti": True, "nbf": True}
    tokens = {await Mint(coordinator).jwt(CLAIMS, **options, idempotency_key="k") for _ in range(2)}
    assert len(tokens) == 1
    with pytest.raises(IdempotencyConflict):
        await Mint(coordinator).jwt(CLAIMS, **options | {"issued_at": 1_800_000_001}, idempotency_key="k")


async def test_a_jti_of_an_idempotency_key_is_of_one_request_alone(coordinator: Coordinator) -> None:
    requests: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"sub": "alice"}, {"idempotency_key": "a", "issued_at": 1}),
        ({"sub": "alice"}, {"idempotency_key": "b", "issued_at": 1}),
        ({"sub": "alice"}, {"idempotency_key": "c", "issued_at": 2}),
        ({"sub": "bob"}, {"idempotency_key": "d", "issued_at": 1}),
    ]
    made = {(await minted(coordinator, claims, jti=True, **options))["jti"] for claims, options in requests}
    assert len(made) == 4
    assert all(len(each) == 22 for each in made)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessCluster]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder, ProcessCluster(Path(folder)) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture(scope="module", params=["in process", "sidecar"])
def blocking(request: pytest.FixtureRequest, processes: ProcessCluster) -> Iterator[BlockingSigningService]:
    toml = processes.folder / "mint.toml"
    processes.write_coordinator(toml, processes.folder / "mint-audit.log")
    with connect_blocking(toml if request.param == "in process" else f"unix:{processes.socket}") as service:
        yield service


@settings(max_examples=50, deadline=None)
@given(
    claims=st.dictionaries(
        st.text(min_size=4, max_size=12),  # the registered claims, which have types of their own, are shorter
        st.none()
        | st.integers(1 - 2**53, 2**53 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.lists(st.text(max_size=9), max_size=3),
        max_size=5,
    )
)
def test_a_blocking_mint_signs_any_claims_with_real_signers(
    blocking: BlockingSigningService, processes: ProcessCluster, claims: dict[str, Any]
) -> None:
    token = BlockingMint(blocking).jwt(claims)
    assert jwt.decode(token, pyjwt_key(processes.dealt.group_public), algorithms=["EdDSA"]) == claims
    message, _, signature = token.rpartition(".")
    verifier = nacl.signing.VerifyKey(processes.dealt.group_public)
    verifier.verify(message.encode(), base64.urlsafe_b64decode(signature + "=="))


def test_many_threads_share_a_blocking_mint(blocking: BlockingSigningService, processes: ProcessCluster) -> None:
    mint = BlockingMint(blocking)

    def one(number: int) -> str:
        return mint.jwt({"n": number % 20}, lifetime=60, jti=True, idempotency_key=f"{id(mint)}-{number % 20}")

    with ThreadPoolExecutor(16) as pool:
        tokens = list(pool.map(one, range(80), timeout=60))
    read_back = [jwt.decode(each, pyjwt_key(processes.dealt.group_public), algorithms=["EdDSA"]) for each in tokens]
    assert [each["n"] for each in read_back] == [number % 20 for number in range(80)]
    assert len(set(tokens)) == 20


def test_a_blocking_mint_signs_bytes_and_refuses_as_the_other(blocking: BlockingSigningService) -> None:
    token = BlockingMint(blocking, alg="Ed25519").jws(b"bytes", typ="receipt")
    key = joserfc_key(blocking.group_public())
    assert deserialize_compact(token, key, algorithms=["Ed25519"]).payload == b"bytes"
    with pytest.raises(MalformedRequest, match=r"claims.a: a set is not JSON"):
        BlockingMint(blocking).jwt({"a": set()})
    with pytest.raises(UnknownKey):
        BlockingMint(blocking, key="nobody").jwt({})


class Rotating:
    """A service whose key changes under its callers: each call goes to the coordinator whose ``turn`` it is."""

    def __init__(self, coordinators: list[Coordinator]) -> None:
        self._coordinators = coordinators
        self.turn = [0]
        """Which coordinator takes the next call; the last one stays."""
        self.timeouts: list[float | None] = []
        self.delay = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coordinators[self.turn.pop(0) if len(self.turn) > 1 else self.turn[0]], name)

    async def sign(self, message: bytes, **arguments: Any) -> Signed:
        self.timeouts.append(arguments["timeout"])
        await anyio.sleep(self.delay)
        signed: Signed = await self.__getattr__("sign")(message, **arguments)
        return signed


@pytest.fixture
async def rotating(tmp_path: Path) -> AsyncIterator[tuple[Any, list[bytes]]]:
    clusters = [MemoryCluster(tmp_path / name) for name in ("old", "new")]
    async with AsyncExitStack() as stack:
        coordinators = [await stack.enter_async_context(each.coordinator()) for each in clusters]
        yield Rotating(coordinators), [each.group_public for each in clusters]


def kid_of(token: str) -> str:
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


async def test_after_a_rotation_the_kid_is_the_new_keys(rotating: tuple[Any, list[bytes]]) -> None:
    service, (old, new) = rotating
    mint = Mint(service)
    before = await mint.jwt(CLAIMS)
    service.turn = [1]
    after = await mint.jwt(CLAIMS)
    assert [kid_of(before), kid_of(after)] == [thumbprint(old), thumbprint(new)]
    assert read(before, old) == read(after, new) == CLAIMS
    assert len(service.timeouts) == 3
    await mint.jwt(CLAIMS)
    assert len(service.timeouts) == 4  # the new key is known now


async def test_a_key_that_does_not_stay_is_an_error_and_never_a_wrong_kid(rotating: tuple[Any, list[bytes]]) -> None:
    service, (old, _) = rotating
    mint = Mint(service)
    service.turn = [0, 1, 0]
    with pytest.raises(Unavailable, match="changed again"):
        await mint.jwt(CLAIMS)
    token = await mint.jwt(CLAIMS)
    assert (kid_of(token), read(token, old)) == (thumbprint(old), CLAIMS)


async def test_an_idempotency_key_outlives_a_rotation(rotating: tuple[Any, list[bytes]]) -> None:
    service, (_, new) = rotating
    mint = Mint(service)
    service.turn = [0, 1]
    token = await mint.jwt(CLAIMS, lifetime=60, idempotency_key="k")
    assert kid_of(token) == thumbprint(new)
    assert await mint.jwt(CLAIMS, lifetime=60, idempotency_key="k") == token


async def test_a_retry_after_a_rotation_gets_the_token_of_before(rotating: tuple[Any, list[bytes]]) -> None:
    """Both keys are configured and the default changes, so the service still has the old answer."""
    service, (old, new) = rotating
    both: Any = Answering(service)
    mint = Mint(both)
    options: dict[str, Any] = {"lifetime": 60, "jti": True, "idempotency_key": "k"}
    token = await mint.jwt(CLAIMS, **options)
    service.turn = [1]
    assert kid_of(await mint.jwt(CLAIMS)) == thumbprint(new)  # the mint knows the new key now
    assert await mint.jwt(CLAIMS, **options) == token
    assert kid_of(token) == thumbprint(old)
    asked = len(service.timeouts)
    assert kid_of(await mint.jwt(CLAIMS)) == thumbprint(new)
    assert len(service.timeouts) == asked + 1  # the old answer has not made the mint forget the new key
    receipt = await mint.jws(b"receipt", idempotency_key="r")
    service.turn = [0]
    await mint.jwt(CLAIMS)
    assert await mint.jws(b"receipt", idempotency_key="r") == receipt


async def test_a_retry_that_the_service_has_forgotten_is_signed_with_the_new_key(
    rotating: tuple[Any, list[bytes]],
) -> None:
    service, (old, new) = rotating
    mint = Mint(service)
    options: dict[str, Any] = {"lifetime": 60, "idempotency_key": "k"}
    before = await mint.jwt(CLAIMS, **options)
    service.turn = [1]
    after = await mint.jwt(CLAIMS, **options)
    assert [kid_of(before), kid_of(after)] == [thumbprint(old), thumbprint(new)]
    assert read(before, old) == read(after, new)
    assert await mint.jwt(CLAIMS, **options) == after


class Answering:
    """The service of a rotation where both keys stay configured: an answer once given is repeated by its key."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._given: dict[str, Signed] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    async def sign(self, message: bytes, **arguments: Any) -> Signed:
        key = arguments["idempotency_key"]
        if key in self._given:
            return replace(self._given[key], replayed=True)
        signed: Signed = await self._service.sign(message, **arguments)
        if key is not None:
            self._given[key] = signed
        return signed


async def test_a_pinned_mint_gives_out_nothing_under_another_key(rotating: tuple[Any, list[bytes]]) -> None:
    service, (old, new) = rotating
    pinned, either = Mint(service, expected_public=old), Mint(service, expected_public={old, new})
    assert kid_of(await pinned.jwt(CLAIMS)) == kid_of(await either.jwt(CLAIMS)) == thumbprint(old)
    service.turn = [1]
    for _ in range(2):
        with pytest.raises(UnexpectedKey, match=f"{thumbprint(new)}, which is none of") as caught:
            await pinned.jwt(CLAIMS)
    assert isinstance(caught.value, UnexpectedAnswer)
    asked = len(service.timeouts)
    with pytest.raises(UnexpectedKey):
        await Mint(service, expected_public=[old]).jws(b"x")
    assert len(service.timeouts) == asked  # not even asked for a signature
    assert kid_of(await either.jwt(CLAIMS)) == thumbprint(new)
    service.turn = [0]
    assert kid_of(await pinned.jwt(CLAIMS)) == thumbprint(old)  # the right one is back


@pytest.mark.parametrize("expected", [b"", b"short", [], [b"short"], ["text"], {b"k" * 32, b"short"}])
def test_what_is_no_public_key_cannot_be_expected(expected: Any) -> None:
    for kind in (Mint, BlockingMint):
        with pytest.raises(ConfigError, match="expected_public: must be a public key of 32 bytes"):
            kind(None, expected_public=expected)  # type: ignore[arg-type]


async def test_one_timeout_is_for_both_attempts(rotating: tuple[Any, list[bytes]]) -> None:
    service, _ = rotating
    mint = Mint(service)
    await mint.jwt(CLAIMS, timeout=5)
    service.turn, service.delay = [1], 0.2
    await mint.jwt(CLAIMS, timeout=5)
    _, first, second = service.timeouts
    assert 4.9 < first <= 5
    assert second <= first - 0.2
    service.turn, service.delay = [0], 0.3
    with pytest.raises(DeadlineExceeded, match="no token within"):
        await mint.jwt(CLAIMS, timeout=0.2)
