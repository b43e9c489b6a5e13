"""The plugin contract and its page: the table holds what is true, and every example on the page runs."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import secrets
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast, get_args, get_type_hints

import pytest
from aiohttp import web

from frost_sidecar import hookspecs
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import Denied, IdempotencyConflict, NoQuorum
from frost_sidecar.hookspecs import (
    HOW_MANY,
    PRODUCTS,
    AuditSink,
    Authenticator,
    Component,
    Hook,
    IdempotencyStore,
    PluginContext,
    Policy,
    Specification,
)
from frost_sidecar.metrics import SignerMetrics, new_registry
from frost_sidecar.model import Call, Signer
from frost_sidecar.plugins import hookimpl, load
from frost_sidecar.policy import Policies
from frost_sidecar.signer import NodeConfig, Permissions
from frost_sidecar.testing.behaviour import unreachable
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.idempotency_contract import IdempotencyStoreContract

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text("utf-8")
KINDS = ["Policy", "Selector", "Audit sink", "Idempotency store", "Token issuer", "Authenticator", "Transport"]

Import = Callable[[str], ModuleType]


def _block(heading: str, language: str) -> str:
    """The one code block of a language under a heading."""
    [section] = re.findall(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    [block] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(block)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Imports the page's example under a heading, as the plugin ``example``."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    names = []

    def load_example(heading: str) -> ModuleType:
        name = f"example_{heading.lower().replace(' ', '_')}"
        (folder / f"{name}.py").write_text(_block(heading, "python"), "utf-8")
        names.append(name)
        return importlib.import_module(name)

    yield load_example
    for name in names:
        sys.modules.pop(name, None)


def _cluster(folder: Path, settings: Mapping[str, Any], **more: Any) -> MemoryCluster:
    return MemoryCluster(folder, settings={"plugins": {"memory": {}, "example": settings}, "base": str(folder), **more})


def _open_without(cluster: MemoryCluster, hook: Hook, example: ModuleType) -> AbstractAsyncContextManager[Coordinator]:
    """A coordinator of the cluster whose plugin leaves one hook to the example."""
    offered = {
        "make_transport": _Carried(cluster),
        "make_token_issuer": cluster.tokens,
    }
    memory = ModuleType("memory")
    for name, product in offered.items():
        if name != hook:
            setattr(memory, name, hookimpl(_returning(product)))
    return Coordinator.open(cluster.config, plugins={"memory": memory, "example": example})


def _returning(product: Component) -> Callable[[PluginContext], Component]:
    def make(context: PluginContext) -> Component:
        return product

    return make


class _Carried(hookspecs.Transport):
    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def call(self, signer: Signer, call: Call) -> hookspecs.Answer:
        return await self._cluster.call(signer, call)


def _signing_input(**claims: object) -> bytes:
    return ".".join(b64url(json.dumps(each).encode()) for each in ({"alg": "EdDSA"}, claims)).encode()


def _counts(role: Literal["coordinator", "signer"]) -> dict[str, str]:
    words = {(1, 1): "exactly 1", (0, 1): "at most 1", (0, None): "any number", (1, None): "at least 1"}
    return {hook: words[many] for hook, many in HOW_MANY[role].items()}


def test_the_pages_table_is_the_contract() -> None:
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if line.startswith("| `make_")
    ]
    coordinator, signer = _counts("coordinator"), _counts("signer")
    assert rows == [
        [hook, product.__name__, coordinator.get(hook, ""), signer.get(hook, "")] for hook, product in PRODUCTS.items()
    ]


def test_the_contract_agrees_with_itself() -> None:
    hooks = [name for name, _ in inspect.getmembers(Specification, inspect.isfunction) if not name.startswith("_")]
    assert sorted(hooks) == sorted(PRODUCTS) == sorted(get_args(Hook))
    for hook in get_args(Hook):
        function = getattr(Specification, hook)
        assert get_type_hints(function) == {"context": PluginContext, "return": PRODUCTS[hook] | None}
        assert function.__doc__
    with pytest.raises(TypeError, match=r"[Pp]rotocol"):  # signatures alone: there is nothing to call
        cast("Any", Specification)()
    assert set(HOW_MANY["coordinator"]) == set(PRODUCTS)


def test_an_author_finds_every_name_on_one_page() -> None:
    products = {product.__name__ for product in PRODUCTS.values()}
    assert products <= set(hookspecs.__all__)
    for product in PRODUCTS.values():
        for name, method in inspect.getmembers(product, inspect.isfunction):
            if not name.startswith("_"):
                assert inspect.iscoroutinefunction(method)
                assert method.__doc__
                hints = {hint for hint in get_type_hints(method).values() if isinstance(hint, type)}
                ours = {hint.__name__ for hint in hints if hint.__module__.startswith("frost_sidecar")}
                assert ours <= set(hookspecs.__all__)


async def test_entering_does_nothing_by_default() -> None:
    class Empty(Component):
        pass

    component = Empty()
    async with component as entered:
        assert entered is component


def test_there_is_an_example_of_every_hook(example: Import) -> None:
    offered = {hook for kind in KINDS for hook in PRODUCTS if hasattr(example(kind), hook)}
    assert offered == set(PRODUCTS)
    assert re.findall(r"^### (.*)$", PAGE, re.MULTILINE) == KINDS


async def test_the_policy_example_as_a_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads(_block("A distribution", "toml"))["project"]
    [(name, module)] = project["entry-points"]["frost_sidecar"].items()
    assert (project["name"], module) == (f"frost-sidecar-{name.replace('_', '-')}", f"frost_sidecar_{name}")
    assert all(f"`{each}`" in PAGE for each in (project["name"], module, name, f"[plugins.{name}]"))
    site = tmp_path / "site"
    info = site / f"{module}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[frost_sidecar]\n{name} = {module}\n")
    (site / f"{module}.py").write_text(_block("Policy", "python"))
    monkeypatch.syspath_prepend(site)

    settings = {"plugins": {"memory": {}, name: {"issuer": "https://mint.example"}}}
    async with MemoryCluster(tmp_path / "keys", settings=settings).coordinator() as coordinator:
        assert await coordinator.sign(_signing_input(iss="https://mint.example", iat=0, exp=3600))
        for wrong in (
            b"plain bytes",
            _signing_input(iss="https://other.example", iat=0, exp=60),
            _signing_input(iss="https://mint.example"),
            _signing_input(iss="https://mint.example", iat=0, exp=3601),
            _signing_input(iss="https://mint.example", iat=60, exp=0),
        ):
            with pytest.raises(Denied, match=f"^{name}: "):
                await coordinator.sign(wrong)
    del sys.modules[module]


async def test_the_policy_example_in_a_signer(tmp_path: Path, example: Import) -> None:
    settings = {"issuer": "https://mint.example"}
    node = NodeConfig.build({"name": "s", "dev": True, "plugins": {"memory": {}, "example": settings}})
    memory = ModuleType("memory")
    cluster = MemoryCluster(tmp_path)
    setattr(memory, "make_authenticator", hookimpl(_returning(cluster.tokens)))  # noqa: B010 - a module's attribute
    loaded = load(node, "signer", given={"memory": memory, "example": example("Policy")})
    permissions = Permissions(node, SignerMetrics(new_registry()), Policies(loaded.all("make_policy", Policy), 1.0))
    for message, allowed in (
        (_signing_input(iss="https://mint.example", iat=0, exp=3600), True),
        (_signing_input(iss="https://other.example", iat=0, exp=60), False),
        (b"plain bytes", False),
    ):
        jws = permissions.check_message("default", cluster.group_public, message)
        why = await permissions.decide("DNS:coordinator.test one", "default", message, jws, "r")
        assert (why is None) == allowed


@pytest.mark.parametrize(("zone", "members"), [("ad-1", {1, 4}), ("ad-2", {2, 5})])
async def test_the_selector_example(tmp_path: Path, example: Import, zone: str, members: set[int]) -> None:
    plugin = example("Selector")
    cluster = MemoryCluster(tmp_path, max_signers=6, settings={"plugins": {"memory": {}, "example": {"zone": zone}}})
    async with cluster.coordinator({"example": plugin}) as coordinator:
        assert set((await coordinator.sign(b"message")).participants) == members
        for each in members:
            cluster.behave(each, unreachable)
        assert not members & set((await coordinator.sign(b"message")).participants)


async def test_the_audit_example(tmp_path: Path, example: Import) -> None:
    cluster = _cluster(tmp_path, {"path": "records.jsonl"})
    file = tmp_path / "records.jsonl"
    async with cluster.coordinator({"example": example("Audit sink")}) as coordinator:
        signed = await coordinator.sign(b"message")
        [record] = [json.loads(line) for line in file.read_text().splitlines()]
        assert (record["outcome"], record["request_id"]) == ("signed", signed.request_id)
        await coordinator.sign(b"message")
    assert len(file.read_text().splitlines()) == 2
    assert file.stat().st_mode & 0o777 == 0o600


async def test_the_idempotency_example(tmp_path: Path, example: Import) -> None:
    cluster = _cluster(tmp_path, {"path": "answers.db"})
    plugin = example("Idempotency store")
    async with cluster.coordinator({"example": plugin}) as one, cluster.coordinator({"example": plugin}) as two:
        first = await one.sign(b"message", idempotency_key="a")
        again = await two.sign(b"message", idempotency_key="a")
        assert (again.signature, again.replayed) == (first.signature, True)
        with pytest.raises(IdempotencyConflict):
            await two.sign(b"another message", idempotency_key="a")
    assert [record.outcome for record in cluster.records] == ["signed"]


class TestTheIdempotencyExample(IdempotencyStoreContract):
    @pytest.fixture(autouse=True)
    def _store(self, example: Import, tmp_path: Path) -> None:
        self._open: Any = example("Idempotency store").SqliteStore
        self._path = tmp_path / "answers.db"

    @asynccontextmanager
    async def two_clients(self) -> AsyncIterator[tuple[IdempotencyStore, IdempotencyStore]]:
        async with self._open(self._path) as one, self._open(self._path) as other:
            yield one, other


async def test_the_token_examples(tmp_path: Path, example: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(secrets.token_bytes(64))
    settings = {"secret_file": str(tmp_path / "secret")}
    node = NodeConfig.build({"name": "signer-1", "dev": True, "plugins": {"example": settings}})
    loaded = load(node, "signer", given={"example": example("Authenticator")})
    [(_, authenticator)] = loaded.all("make_authenticator", Authenticator)

    cluster = _cluster(tmp_path / "keys", settings, signing={"max_sessions": 1})
    strangers = cluster.tokens
    monkeypatch.setattr(cluster, "tokens", authenticator)
    for identifier in cluster.identifiers:
        cluster.restart(identifier)
    async with _open_without(cluster, "make_token_issuer", example("Token issuer")) as coordinator:
        assert await coordinator.sign(b"message")

    monkeypatch.setattr(cluster, "tokens", strangers)  # opaque tokens: not the authenticator's
    async with cluster.coordinator({"example": _only_records()}) as coordinator:
        with pytest.raises(NoQuorum, match="unauthenticated"):
            await coordinator.sign(b"message")


def _only_records() -> ModuleType:
    plugin = ModuleType("example")

    class Records(AuditSink):
        async def append(self, records: object) -> None:
            return None

    setattr(plugin, "make_audit_sink", hookimpl(_returning(Records())))  # noqa: B010 - a module's attribute
    return plugin


@asynccontextmanager
async def _mesh(cluster: MemoryCluster, socket: Path) -> AsyncIterator[None]:
    """A proxy on a Unix socket in front of the cluster's signers."""
    by_host = {node.server_name: node for node in cluster.config.signer_nodes}

    async def forward(request: web.Request) -> web.Response:
        call = Call("POST", request.path, await request.read(), dict(request.headers), 1 << 20)
        answer = await cluster.call(by_host[request.host], call)
        return web.Response(status=answer.status, body=answer.body)

    app = web.Application()
    app.router.add_post("/{path:.*}", forward)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_the_transport_example(tmp_path: Path, short_path: Path, example: Import) -> None:
    socket = short_path / "mesh.sock"
    cluster = _cluster(tmp_path, {"proxy_socket": str(socket)}, signing={"max_sessions": 1})
    plugin = example("Transport")
    async with _open_without(cluster, "make_transport", plugin) as coordinator:
        async with _mesh(cluster, socket):
            assert await coordinator.sign(b"message")
        with pytest.raises(NoQuorum, match="unreachable"):
            await coordinator.sign(b"message")
