"""Finding, building, counting, starting and calling plugins: what stops the start, what is contained, what is said."""

from __future__ import annotations

import asyncio
import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
from msgspec import Struct

from frost_sidecar import coordinator
from frost_sidecar.config import Config
from frost_sidecar.containment import contained
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import ConfigError, FrostSidecarError, PluginError
from frost_sidecar.hookspecs import (
    Answer,
    AuditSink,
    Authenticator,
    Call,
    Credentials,
    Decision,
    Identity,
    PluginContext,
    Policy,
    PolicyRequest,
    Selector,
    Signer,
    TokenClaims,
    TokenIssuer,
    Transport,
)
from frost_sidecar.plugins import GROUP, Loaded, hookimpl, installed, load
from frost_sidecar.selection import ZoneSpread
from frost_sidecar.signer import NodeConfig
from frost_sidecar.testing.cluster import MemoryCluster

Build = Callable[[PluginContext], Any]
Install = Callable[..., None]


class Nothing(Transport, TokenIssuer, Authenticator, Policy, AuditSink):
    """Fits every hook but the selector's."""

    async def call(self, signer: Signer, call: Call) -> Answer:
        raise NotImplementedError

    async def issue(self, claims: TokenClaims) -> str:
        raise NotImplementedError

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        return None

    async def decide(self, request: PolicyRequest) -> Decision:
        return Decision(True)

    async def append(self, records: object) -> None:
        raise NotImplementedError


class Both:
    """What every coordinator needs: a transport and a token issuer."""

    @hookimpl
    def make_transport(self, context: PluginContext) -> Transport:
        return Nothing()

    @hookimpl
    def make_token_issuer(self, context: PluginContext) -> TokenIssuer:
        return Nothing()


def policy(build: Build = lambda _: Nothing()) -> object:
    class Plugin:
        @hookimpl
        def make_policy(self, context: PluginContext) -> Policy:
            product: Policy = build(context)
            return product

    return Plugin()


def _config(plugins: dict[str, Any], **more: Any) -> Config:
    return Config.build(
        {"signers": [{"identifier": 1, "url": "https://one.test", "zone": "z"}], "plugins": {"both": {}, **plugins}}
        | more
    )


def _load(plugin: object, settings: dict[str, Any] | None = None) -> Loaded:
    """Load ``plugin`` as "extra" into a coordinator that has all it needs."""
    return load(_config({"extra": settings or {}}), "coordinator", given={"both": Both(), "extra": plugin})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts distributions on the path as pip would: a package and its metadata."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)

    def put(distribution: str, entry_points: str, modules: dict[str, str] | None = None) -> None:
        for name, source in (modules or {}).items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
        importlib.invalidate_caches()

    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]


INSTALLED = """
    from frost_sidecar import hookimpl
    from frost_sidecar.hookspecs import Decision, Policy

    class Always(Policy):
        async def decide(self, request):
            return Decision(True)

    @hookimpl
    def make_policy(context):
        return Always()
"""


def test_an_installed_plugin_is_found_by_its_name(install: Install) -> None:
    install("acme-always", "acme_always = acme_always", {"acme_always": INSTALLED})
    loaded = load(_config({"acme_always": {}}), "coordinator", given={"both": Both()})
    [(name, product)] = loaded.all("make_policy", Policy)
    assert (name, type(product).__name__) == ("acme_always", "Always")
    [offer] = installed()["acme_always"]
    assert offer.dist is not None
    assert (offer.dist.name, offer.dist.version) == ("acme-always", "1.0")


def test_a_plugin_that_is_not_configured_is_not_even_imported(install: Install) -> None:
    install("acme-boom", "acme_boom = acme_boom", {"acme_boom": "raise SystemExit(1)"})
    loaded = load(_config({}), "coordinator", given={"both": Both()})
    assert {name for products in loaded.products.values() for name, _ in products} == {"both"}


def test_an_entry_point_may_name_an_object_in_a_module(install: Install) -> None:
    source = INSTALLED + "\n    class Plugin:\n        make_policy = staticmethod(make_policy)\n"
    install("acme-object", "acme_object = acme_object:Plugin", {"acme_object": source})
    loaded = load(_config({"acme_object": {}}), "coordinator", given={"both": Both()})
    assert len(loaded.all("make_policy", Policy)) == 1


def test_a_plugin_that_is_not_installed(install: Install) -> None:
    install("acme-always", "acme_always = acme_always", {"acme_always": INSTALLED})
    with pytest.raises(PluginError, match=r"^plugin allways: is configured but not installed; .*acme_always") as caught:
        load(_config({"allways": {}}), "coordinator", given={"both": Both()})
    assert caught.value.plugin == "allways"


def test_a_name_that_two_distributions_offer(install: Install) -> None:
    install("acme-one", "acme = acme_one", {"acme_one": INSTALLED})
    install("acme-two", "acme = acme_two", {"acme_two": INSTALLED})
    with pytest.raises(PluginError, match=r"^plugin acme: is offered by several distributions: acme-one, acme-two"):
        load(_config({"acme": {}}), "coordinator", given={"both": Both()})


def test_a_given_plugin_comes_before_an_installed_one(install: Install) -> None:
    install("acme-boom", "acme = acme_boom", {"acme_boom": "raise RuntimeError('imported')"})
    assert load(_config({"acme": {}}), "coordinator", given={"both": Both(), "acme": policy()})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("def broken(", "cannot be imported: SyntaxError"),
        ("x = 1", "offers no hook"),
        ("def policy(context): ...", "offers no hook: is its function marked with @hookimpl"),
        ("def make_policy(context): ...", "make_policy is not marked with @hookimpl"),
        (INSTALLED + "\n    def make_selector(context): ...", "make_selector is not marked with @hookimpl"),
        (INSTALLED + "\n    make_audit_sink = Always", "make_audit_sink is not marked with @hookimpl"),
    ],
)
def test_a_plugin_that_cannot_be_used(install: Install, source: str, said: str) -> None:
    install("acme-bad", "acme_bad = acme_bad", {"acme_bad": source})
    with pytest.raises(PluginError, match=f"^plugin acme_bad: {said}") as caught:
        load(_config({"acme_bad": {}}), "coordinator", given={"both": Both()})
    assert "\n" not in str(caught.value)


def test_an_entry_point_to_nowhere(install: Install) -> None:
    install("acme-bad", "acme_bad = acme_bad:missing", {"acme_bad": INSTALLED})
    with pytest.raises(PluginError, match=r"^plugin acme_bad: cannot be imported: AttributeError"):
        load(_config({"acme_bad": {}}), "coordinator", given={"both": Both()})


class UnknownHook:
    @hookimpl
    def make_polices(self, context: PluginContext) -> Policy:
        return Nothing()


class UnknownHookBeside(Both):
    @hookimpl
    def make_coffee(self, context: PluginContext) -> object:
        return None


class NoMark(Both):
    def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()


class MarkLost(Both):
    def make_transport(self, context: PluginContext) -> Transport:
        return Nothing()


class NoMarkOnTheClass(Both):
    @classmethod
    def make_policy(cls, context: PluginContext) -> Policy:
        return Nothing()

    @staticmethod
    @hookimpl
    def make_audit_sink(context: PluginContext) -> AuditSink:
        return Nothing()


class NoMarkBesideAnotherName:
    @hookimpl(specname="make_policy")
    def other(self, context: PluginContext) -> Policy:
        return Nothing()

    def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()


class WrongArgument:
    @hookimpl
    def make_policy(self, config: object) -> Policy:
        return Nothing()


class TwoArguments:
    @hookimpl
    def make_policy(self, context: PluginContext, config: object) -> Policy:
        return Nothing()


class Wrapper:
    @hookimpl(wrapper=True)
    def make_policy(self, context: PluginContext) -> Any:
        yield
        return Nothing()


class Unfriendly:
    @property
    def secret(self) -> Callable[[], None]:
        raise RuntimeError("do not look")

    @hookimpl
    def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()


class Dynamic:
    """Has every attribute that it is asked for, as a mock has."""

    def __getattr__(self, name: str) -> Callable[[PluginContext], object]:
        return lambda _: None

    @hookimpl
    def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()


class NotOffered:
    make_selector = None
    make_audit_sink = "elsewhere"

    @property
    def make_transport(self) -> Transport:
        raise RuntimeError("do not look")

    @hookimpl
    def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()


@dataclass
class NotHashable:
    allowed: bool = True

    @hookimpl
    def make_policy(self) -> Policy:
        return Nothing()


class Twice:
    @hookimpl
    def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()

    @hookimpl(specname="make_policy")
    def other(self, context: PluginContext) -> Policy:
        return Nothing()


class AsyncHook:
    @hookimpl
    async def make_policy(self, context: PluginContext) -> Policy:
        return Nothing()


def _raises(error: Exception) -> Build:
    def build(_: PluginContext) -> object:
        raise error

    return build


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (UnknownHook(), "does not fit the hooks: .*make_polices"),
        (UnknownHookBeside(), "does not fit the hooks: .*make_coffee"),
        (NoMark(), "make_policy is not marked with @hookimpl"),
        (MarkLost(), "make_transport is not marked with @hookimpl"),
        (NoMarkOnTheClass(), "make_policy is not marked with @hookimpl"),
        (NoMarkBesideAnotherName(), "make_policy is not marked with @hookimpl"),
        (WrongArgument(), "does not fit the hooks: .*config"),
        (TwoArguments(), "does not fit the hooks: .*config"),
        (Wrapper(), "make_policy must return a Policy"),
        (AsyncHook(), "make_policy must return a Policy, not coroutine"),
        (Twice(), "has 2 functions for make_policy"),
        (object(), "offers no hook"),
        (None, "is configured but not installed"),
        (
            policy(lambda _: None),
            "offers nothing that a coordinator uses, as it is configured; remove",
        ),
        (policy(lambda _: Nothing), "make_policy must return a Policy, not ABCMeta"),
        (policy(lambda _: ZoneSpread()), "make_policy must return a Policy, not ZoneSpread"),
        (policy(lambda _: SimpleNamespace(decide=1)), "make_policy must return a Policy, not SimpleNamespace"),
        (policy(_raises(ValueError("no luck"))), "make_policy failed: ValueError: no luck"),
        (policy(_raises(OSError(2, "No such file"))), "make_policy failed: FileNotFoundError"),
        (policy(_raises(PluginError("extra", "has its own say"))), "has its own say"),
    ],
)
def test_a_plugin_of_the_wrong_shape(plugin: object, said: str) -> None:
    with pytest.raises(PluginError, match=f"^plugin extra: {said}") as caught:
        _load(plugin)
    assert caught.value.plugin == "extra"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plugin", [Unfriendly(), NotHashable(), Dynamic(), NotOffered()])
def test_a_plugin_may_be_any_object(plugin: object) -> None:
    """One with attributes that raise or that come as asked for, a dataclass, one whose hook asks for no context."""
    assert len(_load(plugin).all("make_policy", Policy)) == 1


def test_one_object_under_two_names() -> None:
    both = Both()
    with pytest.raises(PluginError, match=r"^plugin again: does not fit the hooks"):
        load(_config({"again": {}}), "coordinator", given={"both": both, "again": both})


def test_a_given_plugin_without_its_section_is_not_forgotten_silently() -> None:
    with pytest.raises(PluginError, match=r"^plugin extra: .*\[plugins\.extra\]"):
        load(_config({}), "coordinator", given={"both": Both(), "extra": policy()})


class Settings(Struct, forbid_unknown_fields=True):
    limit: int = 5


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"limti": 1}, "plugins.extra.limti"),
        ({"limit": "1"}, "plugins.extra.limit"),
        ({"limit": None}, "plugins.extra.limit"),
    ],
)
def test_wrong_settings_are_refused_with_their_place(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(policy(lambda context: context.settings(Settings) and Nothing()), settings)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("error", "path"),
    [(ConfigError("no"), "plugins.extra"), (ConfigError("no", path="plugins.extra.file"), "plugins.extra.file")],
)
def test_a_plugins_own_configuration_error_names_it(error: ConfigError, path: str) -> None:
    with pytest.raises(ConfigError, match=f"^{path}: no$") as caught:
        _load(policy(_raises(error)))
    assert caught.value.path == path


def test_a_plugin_sees_its_own_settings_and_the_facts_of_the_host() -> None:
    seen: dict[str, PluginContext] = {}

    def build(context: PluginContext) -> Nothing:
        seen[context.name] = context
        return Nothing()

    config = _config({"a": {"limit": 1}, "b": {"limit": 2}}, dev=True, base="/etc/frost")
    nodes = config.signer_nodes
    given = {"both": Both(), "a": policy(build), "b": policy(build)}
    load(config, "coordinator", signers=nodes, given=given)
    assert {name: context.settings(Settings).limit for name, context in seen.items()} == {"a": 1, "b": 2}
    for context in seen.values():
        assert (context.role, context.dev, context.signers) == ("coordinator", True, nodes)
        assert context.path("x") == Path("/etc/frost/x")
        assert context.path("/x") == Path("/x")
        assert context.tls == config.tls_files
        assert "limit" not in repr(context)
        assert not hasattr(context.path, "__self__")  # no way from there to the host's configuration


class OnlySelector:
    @hookimpl
    def make_selector(self, context: PluginContext) -> Selector:
        return ZoneSpread()


class OnlyTransport:
    @hookimpl
    def make_transport(self, context: PluginContext) -> Transport:
        return Nothing()


class OnlyAuthenticator:
    @hookimpl
    def make_authenticator(self, context: PluginContext) -> Authenticator:
        return Nothing()


class OnlySink:
    @hookimpl
    def make_audit_sink(self, context: PluginContext) -> AuditSink:
        return Nothing()


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ({}, "a coordinator needs exactly 1 plugin with the hook make_transport; configured: none"),
        (
            {"both": Both(), "one": OnlyTransport()},
            "exactly 1 plugin with the hook make_transport; configured: both, one",
        ),
        ({"one": OnlyTransport()}, "exactly 1 plugin with the hook make_token_issuer; configured: none"),
        (
            {"both": Both(), "s": OnlySelector(), "t": OnlySelector()},
            "at most 1 plugin with the hook make_selector; configured: s, t",
        ),
    ],
)
def test_a_coordinator_with_too_few_or_too_many(plugins: dict[str, object], said: str) -> None:
    config = Config.build(
        {
            "signers": [{"identifier": 1, "url": "https://one.test", "zone": "z"}],
            "plugins": {name: {} for name in plugins},
        }
    )
    with pytest.raises(ConfigError, match=said) as caught:
        load(config, "coordinator", given=plugins)
    assert caught.value.path == "plugins"


def test_a_coordinator_takes_any_number_of_the_others() -> None:
    extra = {f"sink{i}": OnlySink() for i in range(3)} | {f"policy{i}": policy() for i in range(3)}
    extra |= {f"auth{i}": OnlyAuthenticator() for i in range(3)} | {"selector": OnlySelector()}
    loaded = load(_config({name: {} for name in extra}), "coordinator", given={"both": Both(), **extra})
    assert {hook: len(products) for hook, products in loaded.products.items()} == {
        "make_transport": 1,
        "make_token_issuer": 1,
        "make_authenticator": 3,
        "make_selector": 1,
        "make_policy": 3,
        "make_audit_sink": 3,
        "make_idempotency_store": 0,
    }


@pytest.mark.parametrize(
    ("plugins", "error", "said"),
    [
        ({}, ConfigError, "plugins: a signer needs at least 1 plugin with the hook make_authenticator"),
        ({"p": policy()}, ConfigError, "plugins: a signer needs at least 1"),
        (
            {"a": OnlyAuthenticator(), "p": OnlySink()},
            PluginError,
            r"plugin p: offers nothing that a signer uses, as it is configured; remove \[plugins\.p\]",
        ),
    ],
)
def test_a_signer_with_too_few_or_useless_ones(plugins: dict[str, object], error: type[Exception], said: str) -> None:
    config = NodeConfig.build({"name": "signer-1", "dev": True, "plugins": {name: {} for name in plugins}})
    with pytest.raises(error, match=f"^{said}"):
        load(config, "signer", given=plugins)


def test_a_signer_builds_authenticators_and_policies_alone() -> None:
    class Everything(OnlyAuthenticator):
        @hookimpl
        def make_policy(self, context: PluginContext) -> Policy:
            return Nothing()

        @hookimpl
        def make_selector(self, context: PluginContext) -> Selector:
            raise AssertionError("a signer has no use for it")

    config = NodeConfig.build({"name": "signer-1", "dev": True, "plugins": {"a": {}, "b": {}}})
    loaded = load(config, "signer", given={"a": Everything(), "b": OnlyAuthenticator()})
    assert [name for name, _ in loaded.all("make_authenticator", Authenticator)] == ["a", "b"]
    assert [name for name, _ in loaded.all("make_policy", Policy)] == ["a"]
    assert list(loaded.products) == ["make_authenticator", "make_policy"]


class Issuing(OnlyAuthenticator):
    """Checks tokens and could issue them, too."""

    def __init__(self, *, issues: bool = True) -> None:
        self.issues = issues

    @hookimpl
    def make_token_issuer(self, context: PluginContext) -> TokenIssuer | None:
        return Nothing() if self.issues else None


def test_of_several_that_issue_tokens_the_configuration_names_one() -> None:
    given = {"both": Both(), "extra": Issuing()}
    with pytest.raises(
        ConfigError,
        match=r"exactly 1 plugin with the hook make_token_issuer; configured: both, extra; token\.plugin says which",
    ):
        load(_config({"extra": {}}), "coordinator", given=given)
    for name in ("both", "extra"):
        loaded = load(_config({"extra": {}}, token={"plugin": name}), "coordinator", given=given)
        assert loaded.only("make_token_issuer", TokenIssuer)[0] == name
        assert [each for each, _ in loaded.all("make_authenticator", Authenticator)] == ["extra"]


def test_a_hook_that_returns_none_offers_nothing() -> None:
    loaded = load(_config({"extra": {}}), "coordinator", given={"both": Both(), "extra": Issuing(issues=False)})
    assert loaded.only("make_token_issuer", TokenIssuer)[0] == "both"


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "a", "b"), ("b", "c", "a")])
def test_the_order_of_the_configuration_is_kept(order: tuple[str, ...]) -> None:
    given = {"both": Both(), **{name: policy() for name in sorted(order)}}
    loaded = load(_config({name: {} for name in order}), "coordinator", given=given)
    assert tuple(name for name, _ in loaded.all("make_policy", Policy)) == order


def test_two_loads_share_nothing() -> None:
    made: list[Nothing] = []

    def build(_: PluginContext) -> Nothing:
        made.append(Nothing())
        return made[-1]

    plugin, both = policy(build), Both()
    config = _config({"extra": {}})
    first, second = (load(config, "coordinator", given={"both": both, "extra": plugin}) for _ in range(2))
    assert [product for _, product in first.all("make_policy", Policy)] == [made[0]]
    assert [product for _, product in second.all("make_policy", Policy)] == [made[1]]
    alone = load(_config({}), "coordinator", given={"both": both})
    assert alone.all("make_policy", Policy) == []
    assert first.only("make_transport", Transport)[1] is not second.only("make_transport", Transport)[1]


class Ours(FrostSidecarError):
    """An error that a method may raise."""


async def _cancels_itself() -> None:
    raise asyncio.CancelledError


async def _hangs() -> None:
    await anyio.sleep_forever()


async def _raises_late(error: BaseException) -> None:
    await anyio.lowlevel.checkpoint()
    raise error


@pytest.mark.parametrize("seconds", [None, 5.0])
async def test_a_contained_call_is_a_call(seconds: float | None) -> None:
    async def method(one: int, *, two: int) -> int:
        await anyio.lowlevel.checkpoint()
        return one + two

    assert await contained("p", seconds, method, 1, two=2) == 3
    with pytest.raises(Ours, match="passes through") as caught:
        await contained("p", seconds, _raises_late, Ours("passes through"))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("method", "arguments", "why", "cause"),
    [
        (_raises_late, (ValueError("secret"),), "it failed with ValueError; the log has the cause", ValueError),
        (_raises_late, (TimeoutError("secret"),), "no answer in time", TimeoutError),
        (_raises_late, (ExceptionGroup("secret", [OSError()]),), "it failed with ExceptionGroup", ExceptionGroup),
        (_hangs, (), "no answer in time", TimeoutError),
        (_cancels_itself, (), "it cancelled itself", asyncio.CancelledError),
        (lambda: None, (), "it failed with TypeError", TypeError),  # not even a coroutine
        (_hangs, ("too many",), "it failed with TypeError", TypeError),
    ],
)
async def test_whatever_goes_wrong_in_a_call_is_the_plugins_failure(
    method: Any, arguments: tuple[Any, ...], why: str, cause: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("ERROR", logger="frost_sidecar"), pytest.raises(PluginError) as caught:
        await contained("acme", 0.05, method, *arguments)
    assert str(caught.value).startswith(f"plugin acme: {why}")
    assert caught.value.plugin == "acme"
    assert "secret" not in str(caught.value)
    [record] = caplog.records
    assert (record.name, record.getMessage()) == ("frost_sidecar.containment", "plugin failed")
    assert [record.__dict__[each] for each in ("plugin", "method")] == ["acme", method.__name__]
    assert record.__dict__["why"].startswith(why)
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], cause)


async def test_a_cancellation_from_outside_is_none_of_the_plugins() -> None:
    task = asyncio.create_task(contained("p", 5.0, _hangs))
    await anyio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with anyio.move_on_after(0.01) as scope:
        await contained("p", 5.0, _hangs)
    assert scope.cancelled_caught
    with pytest.raises(PluginError):  # and leaves nothing behind
        await contained("p", 5.0, _cancels_itself)


class Stage(Nothing):
    """Starts and ends as it is told."""

    def __init__(self, start: Callable[[], Any] | None = None, end: Callable[[], Any] | None = None) -> None:
        self._start, self._end = start, end
        self.seen: list[str] = []

    async def __aenter__(self) -> Self:
        self.seen.append("start")
        if self._start:
            await self._start()
        return self

    async def __aexit__(self, *_: object) -> Any:
        self.seen.append("end")
        return await self._end() if self._end else None


def _staged(folder: Path, *stages: Stage) -> AbstractAsyncContextManager[Coordinator]:
    """A coordinator with a policy plugin of each stage."""
    given = {f"stage{index}": policy(lambda _, stage=stage: stage) for index, stage in enumerate(stages)}  # type: ignore[misc]
    cluster = MemoryCluster(folder, settings={"plugins": {"memory": {}, **{name: {} for name in given}}})
    return cluster.coordinator(given)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (lambda: _raises_late(OSError("no disk")), "plugin stage1: failed to start: OSError: no disk"),
        (_hangs, "plugin stage1: did not start within 0.1 s"),
        (_cancels_itself, "plugin stage1: failed to start: it cancelled itself"),
        (lambda: _raises_late(ConfigError("no", path="plugins.stage1.x")), "plugins.stage1.x: no"),
    ],
)
async def test_a_plugin_that_cannot_start_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[], Any], said: str
) -> None:
    assert (coordinator._START_SECONDS, coordinator._STOP_SECONDS) == (300, 10)  # as docs/plugins.md says
    monkeypatch.setattr(coordinator, "_START_SECONDS", 0.1)
    first, second, third = Stage(), Stage(start), Stage()
    with pytest.raises((PluginError, ConfigError), match=f"^{said}"):
        async with _staged(tmp_path, first, second, third):
            pytest.fail("it started")
    assert (first.seen, second.seen, third.seen) == (["start", "end"], ["start"], [])


@pytest.mark.parametrize("end", [lambda: _raises_late(OSError("secret")), _hangs, _cancels_itself])
async def test_a_plugins_end_is_bounded_and_takes_nobody_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: Callable[[], Any]
) -> None:
    monkeypatch.setattr(coordinator, "_STOP_SECONDS", 0.1)
    first, second = Stage(), Stage(end=end)
    with caplog.at_level("ERROR", logger="frost_sidecar"):
        async with _staged(tmp_path, first, second) as opened:
            assert await opened.sign(b"message")
    assert first.seen == second.seen == ["start", "end"]
    told = [each for each in caplog.records if each.getMessage() == "plugin did not end cleanly"]
    assert [each.__dict__["plugin"] for each in told] == ["stage1"]
    assert all(each.exc_info for each in told)


async def test_a_plugins_end_cannot_swallow_the_programs_error(tmp_path: Path) -> None:
    async def swallow() -> bool:
        return True

    with pytest.raises(KeyError, match="the program's own"):
        async with _staged(tmp_path, Stage(end=swallow)):
            raise KeyError("the program's own")
