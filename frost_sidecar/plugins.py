"""Finds, builds and counts the configured plugins. The only module that calls pluggy.

Each :func:`load` makes a plugin manager of its own: two coordinators in one process share nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar

import pluggy

from frost_sidecar.errors import ConfigError, PluginError
from frost_sidecar.following import Follow, Reload, read_once
from frost_sidecar.hookspecs import HOW_MANY, PRODUCTS, Component, Hook, PluginContext, Specification
from frost_sidecar.model import Signer
from frost_sidecar.process import ProcessConfig, convert

GROUP = "frost_sidecar"
"""Name of the entry point group, and pluggy's project name."""

hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a plugin's function as the implementation of the hook of its name."""

_hookspec = pluggy.HookspecMarker(GROUP)
for _name in PRODUCTS:
    _hookspec(getattr(Specification, _name))

C = TypeVar("C", bound=Component)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The objects that the configured plugins built, by hook, each with its plugin's name, in configuration order."""

    products: dict[Hook, list[tuple[str, Component]]] = field(default_factory=dict)

    def all(self, hook: Hook, kind: type[C]) -> list[tuple[str, C]]:
        """All objects of ``hook``."""
        return [(name, product) for name, product in self.products.get(hook, []) if isinstance(product, kind)]

    def only(self, hook: Hook, kind: type[C]) -> tuple[str, C]:
        """The one object of ``hook``, which :func:`load` has made sure of."""
        [one] = self.all(hook, kind)
        return one


def load(
    config: ProcessConfig,
    role: Literal["coordinator", "signer"],
    *,
    signers: tuple[Signer, ...] = (),
    given: Mapping[str, object] | None = None,
    follow: Follow = read_once,
    hooks: Collection[Hook] | None = None,
) -> Loaded:
    """Load the plugins named in ``config.plugins`` and build their objects for ``role``.

    ``given`` holds plugin objects of the embedding program by name; they come before installed ones and need their
    section in the configuration like any other. ``follow`` is what plugins may follow their files with.
    ``hooks``: build the objects of these alone, and leave uncounted what the role needs.

    Raises:
        PluginError: a plugin is not installed, offered twice, fails to import, has an unknown hook, one without its
            mark or none for this role, or builds the wrong thing.
        ConfigError: a plugin's settings are wrong, or a role has too few or too many of something.
    """
    for name in given or {}:
        if name not in config.plugins:
            raise PluginError(name, f"is given by the program but not configured; add [plugins.{name}]")
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Specification)
    for name in config.plugins:
        _register(manager, name, (given or {}).get(name))
    loaded = Loaded()
    for hook in HOW_MANY[role] if hooks is None else hooks:
        products: list[tuple[str, Component]] = []
        for name in _offering(manager, hook, config):
            product = _build(manager, hook, _context(name, config, role, signers, follow))
            if product is not None:
                products.append((name, product))
        loaded.products[hook] = products
        if hooks is None:
            _check_count(role, hook, [name for name, _ in products])
    used = {name for products in loaded.products.values() for name, _ in products}
    unused = [name for name in config.plugins if name not in used]
    if unused and hooks is None:
        [first, *_] = unused
        raise PluginError(first, f"offers nothing that a {role} uses, as it is configured; remove [plugins.{first}]")
    return loaded


def _check_count(role: Literal["coordinator", "signer"], hook: Hook, names: list[str]) -> None:
    least, most = HOW_MANY[role][hook]
    if len(names) < least or (most is not None and len(names) > most):
        wanted = f"exactly {least}" if least == most else f"at least {least}" if most is None else f"at most {most}"
        hint = "; token.plugin says which" if names and hook == "make_token_issuer" else ""
        raise ConfigError(
            f"a {role} needs {wanted} plugin with the hook {hook}; configured: {', '.join(names) or 'none'}{hint}",
            path="plugins",
        )


def installed() -> dict[str, list[EntryPoint]]:
    """All plugins that installed distributions offer, by name, loaded or not."""
    offers: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        offers.setdefault(entry_point.name, []).append(entry_point)
    return offers


def _register(manager: pluggy.PluginManager, name: str, given: object | None) -> None:
    plugin = given if given is not None else _import(name)
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(name, f"does not fit the hooks: {' '.join(str(error).split())}") from None
    for hook in PRODUCTS:
        found = inspect.getattr_static(plugin, hook, None)
        is_function = callable(found) or isinstance(found, classmethod)
        if is_function and manager.parse_hookimpl_opts(plugin, hook) is None:
            raise PluginError(name, f"{hook} is not marked with @hookimpl, so that it would never be called")
    if not manager.get_hookcallers(plugin):
        raise PluginError(name, "offers no hook: is its function marked with @hookimpl?")


def _import(name: str) -> object:
    offers = installed().get(name, [])
    if not offers:
        known = ", ".join(sorted(installed())) or "none"
        raise PluginError(name, f"is configured but not installed; installed: {known}")
    if len(offers) > 1:
        owners = ", ".join(sorted(each.dist.name if each.dist else "?" for each in offers))
        raise PluginError(name, f"is offered by several distributions: {owners}; uninstall all but one")
    try:
        return offers[0].load()
    except Exception as error:
        raise PluginError(name, f"cannot be imported: {type(error).__name__}: {error}") from error


def _offering(manager: pluggy.PluginManager, hook: Hook, config: ProcessConfig) -> list[str]:
    offering = {each.plugin_name for each in getattr(manager.hook, hook).get_hookimpls()}
    chosen = config.issued_by if hook == "make_token_issuer" else None
    return [name for name in config.plugins if name in offering and chosen in {None, name}]


def _context(
    name: str,
    config: ProcessConfig,
    role: Literal["coordinator", "signer"],
    signers: tuple[Signer, ...],
    follow: Follow,
) -> PluginContext:
    def read(kind: type[Any]) -> Any:
        return convert(config.plugins[name], kind, path=f"plugins.{name}")

    def path(value: str) -> Path:
        return config.path(value)

    def follow_own(what: str, paths: Sequence[Path], reload: Reload) -> None:
        follow(f"{name}.{what}", paths, reload)

    return PluginContext(
        name=name,
        role=role,
        dev=config.dev,
        tls=config.tls_files,
        signers=signers,
        settings=read,
        path=path,
        follow=follow_own,
    )


def _build(manager: pluggy.PluginManager, hook: Hook, context: PluginContext) -> Component | None:
    name = context.name
    found = [each for each in getattr(manager.hook, hook).get_hookimpls() if each.plugin_name == name]
    if len(found) > 1:
        raise PluginError(name, f"has {len(found)} functions for {hook}; one is needed")
    [implementation] = found
    try:
        product = implementation.function(**dict.fromkeys(implementation.argnames, context))
    except PluginError:
        raise
    except ConfigError as error:
        if error.path is not None:
            raise
        raise ConfigError(str(error), path=f"plugins.{name}") from error
    except Exception as error:
        raise PluginError(name, f"{hook} failed: {type(error).__name__}: {error}") from error
    if inspect.iscoroutine(product):
        product.close()
    if product is None:
        return None
    if not isinstance(product, PRODUCTS[hook]):
        raise PluginError(name, f"{hook} must return a {PRODUCTS[hook].__name__}, not {type(product).__name__}")
    return product
