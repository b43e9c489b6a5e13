"""One line of configuration switches a mint between in process, Unix socket and TCP: same results, same errors."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import jwt
import pytest

from frost_sidecar import errors, hookimpl
from frost_sidecar.hookspecs import Decision, PluginContext, Policy, PolicyRequest
from frost_sidecar.jose import pyjwt_key
from frost_sidecar.mint import BlockingMint, Mint
from frost_sidecar.model import Answer, Call, Signed
from frost_sidecar.target import Options, connect, connect_blocking
from frost_sidecar.testing import behaviour
from frost_sidecar.testing import cluster as kit
from frost_sidecar.testing.processes import EVERYTHING
from frost_sidecar.testing.sidecar import MemorySidecar
from tests.background import is_background

FORBIDDEN = b"forbidden"


class Prudent(Policy):
    async def decide(self, request: PolicyRequest) -> Decision:
        return Decision(request.message != FORBIDDEN, "that is forbidden")

    @hookimpl
    def make_policy(self, context: PluginContext) -> Policy:
        return self


@dataclass
class Way:
    """One way of calling, opened from its target; the blocking ones are called in a thread of their own."""

    name: str
    sign: Callable[..., Coroutine[Any, Any, Signed]]
    mint: Callable[..., Awaitable[str]]


@asynccontextmanager
async def all_ways(sidecar: MemorySidecar, folder: Path, signing: Mapping[str, float]) -> AsyncIterator[list[Way]]:
    """Every kind of target, asynchronous and blocking, over one cluster, with the same options for all."""
    async with sidecar.serving(), AsyncExitStack() as stack:
        config = folder / "frost-sidecar.toml"
        config.write_text(_toml(sidecar, folder, signing))
        options: Options = {
            "timeout": 10,
            "attempts": 1,
            "tls": sidecar.client,
            "token": sidecar.token,
            "plugins": {kit.PLUGIN: sidecar.cluster.plugin, "prudent": Prudent()},
        }
        ways = []
        for target in (str(config), f"unix:{sidecar.path}", sidecar.url):
            service = await stack.enter_async_context(connect(target, **options))
            ways.append(Way(target, service.sign, Mint(service).jwt))
            context = connect_blocking(target, **options)
            blocking = await anyio.to_thread.run_sync(context.__enter__)
            stack.push_async_callback(anyio.to_thread.run_sync, context.__exit__, None, None, None)
            ways.append(Way(f"{target} blocking", _threaded(blocking.sign), _threaded(BlockingMint(blocking).jwt)))
        yield ways


def _threaded(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def called(*arguments: object, **options: object) -> Any:
        return await anyio.to_thread.run_sync(partial(function, *arguments, **options))

    return called


def _toml(sidecar: MemorySidecar, folder: Path, signing: Mapping[str, float]) -> str:
    lines = [f'state = "{folder / "keys"}"', "plugins.memory = {}", "plugins.prudent = {}"]
    lines += [f"signing.{name} = {value}" for name, value in signing.items()]
    for each in sidecar.cluster.config.signers:
        lines += ["[[signers]]", f'identifier = {each.identifier}\nurl = "{each.url}"\nzone = "{each.zone}"']
    return "\n".join(lines) + EVERYTHING


def _sidecar(folder: Path, signing: Mapping[str, float]) -> MemorySidecar:
    return MemorySidecar(folder, tcp=True, plugins={"prudent": Prudent()}, signing=dict(signing))


async def test_the_same_mint_makes_the_same_token_every_way(short_path: Path) -> None:
    sidecar = _sidecar(short_path, {})
    async with all_ways(sidecar, short_path, {}) as ways:
        claims = {"iss": "mint", "sub": "alice"}
        tokens = [await way.mint(claims, issued_at=1_800_000_000, lifetime=300) for way in ways]
    assert len({token.rpartition(".")[0] for token in tokens}) == 1
    for token in tokens:
        decoded = jwt.decode(
            token,
            pyjwt_key(sidecar.cluster.group_public),
            algorithms=["EdDSA"],
            options={"verify_exp": False, "verify_iat": False},
        )
        assert decoded == {**claims, "iat": 1_800_000_000, "exp": 1_800_000_300}
    callers = [record.caller.split(":")[0] for record in sidecar.cluster.records]
    assert sorted({*callers}) == ["in-process", "tcp", "unix"]
    assert len(tokens) == len(callers) == 6


Act = Callable[[Way], Awaitable[object]]


async def _twice(way: Way) -> object:
    await way.sign(b"m", idempotency_key=f"order {way.name}".replace(" ", "-"))
    return await way.sign(b"another", idempotency_key=f"order {way.name}".replace(" ", "-"))


def _all(sidecar: MemorySidecar, act: behaviour.Behaviour) -> None:
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, act)


PROVOKED: dict[str, tuple[type[errors.FrostSidecarError], Act]] = {
    "unknown key": (errors.UnknownKey, lambda way: way.sign(b"m", key="other")),
    "too few participants": (errors.ParticipantsError, lambda way: way.sign(b"m", participants=[1])),
    "a stranger": (errors.ParticipantsError, lambda way: way.sign(b"m", participants=[1, 2, 9])),
    "a foreign URL": (errors.ParticipantsError, lambda way: way.sign(b"m", signer_urls=["https://a.test"] * 2)),
    "too large": (errors.TooLarge, lambda way: way.sign(bytes(65))),
    "far too large": (errors.TooLarge, lambda way: way.sign(bytes(64 * 1024 + 1))),
    "empty": (errors.MalformedRequest, lambda way: way.sign(b"")),
    "no bytes": (errors.MalformedRequest, lambda way: way.sign("text")),
    "half a character": (errors.MalformedRequest, lambda way: way.sign(b"m", signer_urls=["https://\ud800"])),
    "a wrong argument": (errors.MalformedRequest, lambda way: way.sign(b"m", request_id="a b")),
    "claims that are none": (errors.MalformedRequest, lambda way: way.mint({"exp": "tomorrow"})),
    "denied": (errors.Denied, lambda way: way.sign(FORBIDDEN)),
    "conflict": (errors.IdempotencyConflict, _twice),
}


@pytest.mark.parametrize(("kind", "act"), PROVOKED.values(), ids=PROVOKED)
async def test_errors_have_the_same_class_every_way(
    short_path: Path, kind: type[errors.FrostSidecarError], act: Act
) -> None:
    signing = {"max_message_bytes": 64}
    raised: dict[str, str] = {}
    async with all_ways(_sidecar(short_path, signing), short_path, signing) as ways:
        for way in ways:
            with pytest.raises(kind) as caught:
                await act(way)
            assert type(caught.value) is kind
            raised[way.name] = str(caught.value)
    limits_of_contract_and_configuration = 2 if act is PROVOKED["far too large"][1] else 1
    assert len({*raised.values()}) == limits_of_contract_and_configuration, raised


async def test_no_quorum_every_way(short_path: Path) -> None:
    sidecar = _sidecar(short_path, {})
    sidecar.cluster.crash(1)
    sidecar.cluster.crash(2)
    async with all_ways(sidecar, short_path, {}) as ways:
        for way in ways:
            with pytest.raises(errors.NoQuorum, match=r"signer [12]: unreachable") as caught:
                await way.sign(b"m")
            assert caught.value.retry_after == 1


async def test_the_deadline_every_way(short_path: Path) -> None:
    sidecar = _sidecar(short_path, {})
    _all(sidecar, behaviour.stalled)
    async with all_ways(sidecar, short_path, {}) as ways:
        for way in ways:
            started = anyio.current_time()
            with pytest.raises(errors.DeadlineExceeded):
                await way.sign(b"m", timeout=0.3)
            assert anyio.current_time() - started < 3


async def test_overload_every_way(short_path: Path) -> None:
    signing = {"max_in_flight": 1, "call_seconds": 20, "budget_seconds": 20}
    sidecar = _sidecar(short_path, signing)
    entered, release = threading.Event(), threading.Event()

    async def held(handle: behaviour.Handle, call: Call) -> Answer:
        if is_background(call):
            return await handle(call)
        entered.set()
        await anyio.to_thread.run_sync(release.wait, 20)
        return await handle(call)

    _all(sidecar, held)
    async with all_ways(sidecar, short_path, signing) as ways:
        for way in ways:
            entered.clear()
            release.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(way.sign, b"first")
                assert await anyio.to_thread.run_sync(entered.wait, 20)
                with pytest.raises(errors.Overloaded, match="1 requests are already under way"):
                    await way.sign(b"second")
                release.set()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "use unix:PATH"),
        ("tcp://host:1", "use unix:PATH"),
        ("http://host:1", "not reached over plain HTTP"),
        ("HTTP://host:1", "not reached over plain HTTP"),
        ("https://host", "needs tls"),
        ("HTTPS://host", "needs tls"),
        ("UNIX:", "path of a Unix socket"),
        (b"unix:/s", "use a text or a Path, not bytes"),
        ("unix:", "path of a Unix socket"),
        ("/nonexistent/frost-sidecar.toml", "cannot read the configuration file"),
    ],
)
async def test_a_target_that_is_none_is_said(target: Any, said: str) -> None:
    with pytest.raises(errors.ConfigError, match=said):
        async with connect(target):
            raise AssertionError("opened")

    def blocking() -> None:
        with connect_blocking(target):
            raise AssertionError("opened")

    with pytest.raises(errors.ConfigError, match=said):
        await anyio.to_thread.run_sync(blocking)


async def test_the_path_of_a_socket_is_taken_for_no_configuration(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving():
        with pytest.raises(errors.ConfigError, match=f"as a target it is unix:{sidecar.path}"):
            async with connect(sidecar.path):
                raise AssertionError("opened")
