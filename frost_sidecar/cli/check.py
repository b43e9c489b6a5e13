"""``frost-sidecar check``: whether a caller may have a message signed, and why, without signing anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import anyio
import typer
from msgspec import structs

from frost_sidecar.cli.files import read
from frost_sidecar.cli.terminal import print_table
from frost_sidecar.config import CallerConfig, Config, GrantConfig
from frost_sidecar.coordinator import enter
from frost_sidecar.errors import ConfigError, Denied, FrostSidecarError
from frost_sidecar.grants import Grants
from frost_sidecar.hookspecs import Hook, Policy
from frost_sidecar.jose import thumbprint
from frost_sidecar.jws import parse_jws
from frost_sidecar.keygen.group import Group
from frost_sidecar.model import MAX_MESSAGE_BYTES, Caller, JwsSigningInput, PolicyRequest
from frost_sidecar.plugins import load
from frost_sidecar.policy import Policies
from frost_sidecar.signer import NodeConfig
from frost_sidecar.signer.permission import POLICY_SECONDS

_LONGEST_JWS = MAX_MESSAGE_BYTES + 1024
_HOOKS: tuple[Hook, ...] = ("make_policy",)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at. ``allowed`` is None where it only says what was found."""

    what: str
    allowed: bool | None
    text: str
    reason: str | None = None


@dataclass(slots=True)
class Explanation:
    """All steps up to the decision."""

    steps: list[Step] = field(default_factory=list)

    @property
    def allowed(self) -> bool:
        """Whether nothing refused."""
        return all(step.allowed is not False for step in self.steps)

    def add(self, what: str, text: str, *, allowed: bool | None = None, reason: str | None = None) -> None:
        """Note a step."""
        self.steps.append(Step(what, allowed, text, reason))

    def refuse(self, what: str, error: FrostSidecarError) -> None:
        """Note a refusal."""
        self.add(what, str(error), allowed=False, reason=error.reason or error.slug)


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked: a message, read as JWS signing input where it is one, under a key."""

    key: str
    kid: str
    message: bytes
    jws: JwsSigningInput | None
    fault: FrostSidecarError | None
    """Why the message has no one reading; it is signed for nobody."""


def check(
    jws: Annotated[
        Path | None,
        typer.Option(help="The token, or its signing input (header.payload); standard input where it is -."),
    ] = None,
    message: Annotated[Path | None, typer.Option(help="Instead of --jws: a file with any bytes.")] = None,
    caller: Annotated[str | None, typer.Option(help="A name in [callers].")] = None,
    key: Annotated[str | None, typer.Option(help="The key's name; by default the configuration's.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="FROST_SIDECAR_CONFIG", help="The coordinator's TOML file."),
    ] = None,
    signer: Annotated[
        list[Path] | None, typer.Option(help="A signer's TOML file: its own rules are asked, too. May be repeated.")
    ] = None,
    group: Annotated[
        Path | None, typer.Option(help="With --signer and without --config: the key's group.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Explain whether a caller may have a message signed. Exit 0: yes; 1: no; 2: nothing could be judged.

    The caller's grant, the rules of its policy, the policy plugins, and those of the signers whose files are given are
    asked as for a request. Nothing is sent, recorded, signed, or taken from a budget.
    """
    data = _message(jws, message)
    explanation = Explanation()
    settings = Config.load(config) if config is not None or not signer else None
    if settings is not None and caller not in settings.callers:
        known = ", ".join(settings.callers) or "none is configured"
        raise ConfigError(
            f"{caller!r} is not one of callers: {known}" if caller else f"name one: {known}", path="--caller"
        )
    name, kid = _key(settings, key, group)
    case = _read(explanation, name, kid, data)
    if settings is not None and caller is not None:
        anyio.run(_coordinator, explanation, settings, caller, case)
    for file in signer or ():
        anyio.run(_signer, explanation, file, case)
    _print(explanation, case, as_json=as_json)
    if not explanation.allowed:
        raise typer.Exit(1)


def _key(settings: Config | None, key: str | None, group: Path | None) -> tuple[str, str]:
    """The key's name and its kid, the thumbprint (RFC 7638)."""
    if settings is None:
        if group is None:
            raise ConfigError("without --config, name the key's group.json", path="--group")
        name = key or "default"
        return name, thumbprint(Group.load(name, group).public)
    name = key or settings.main_key
    if name not in settings.keys:
        raise ConfigError(f"there is no key {name!r}; configured: {', '.join(sorted(settings.keys))}", path="--key")
    found = settings.keys[name]
    return name, thumbprint(Group.load(name, settings.path(settings.state) / found.group, found.min_signers).public)


def _message(jws: Path | None, message: Path | None) -> bytes:
    """What would be signed; of a whole token all but its signature."""
    if (jws is None) is (message is None):
        raise ConfigError("name one file, with --jws or --message")
    if message is not None:
        return read(message, MAX_MESSAGE_BYTES)
    text = read(jws, _LONGEST_JWS).strip()
    return text.rpartition(b".")[0] if text.count(b".") == 2 else text


def _read(explanation: Explanation, key: str, kid: str, data: bytes) -> Case:
    try:
        jws = parse_jws(data)
    except FrostSidecarError as error:
        explanation.refuse("message", error)
        return Case(key, kid, data, None, error)
    if jws is None:
        explanation.add("message", f"{len(data)} bytes, no JWS signing input")
    else:
        explanation.add("header", json.dumps(jws.header))
        shown = f"{len(jws.payload)} bytes, no JSON object" if jws.claims is None else json.dumps(jws.claims)
        explanation.add("payload", shown)
    return Case(key, kid, data, jws, None)


async def _coordinator(explanation: Explanation, settings: Config, name: str, case: Case) -> None:
    explanation.add(f"caller {name}", "; ".join(_proofs(settings.callers[name])))
    size, most = len(case.message), settings.signing.max_message_bytes
    if not case.message:
        explanation.add("size", "the message is empty", allowed=False, reason="malformed-request")
    if size > most:
        explanation.add("size", f"{size} bytes, {most} are allowed", allowed=False, reason="too-large")
    caller = Caller(f"check:{name}", "in-process", name)
    try:
        grant = Grants(settings, dict.fromkeys(settings.keys, case.kid)).find(caller, case.key)
    except Denied as error:
        explanation.refuse("grant", error)
        return
    explanation.add("grant", _describe(grant.config), allowed=True)
    if case.fault is not None:
        return
    if grant.config.policy is not None:
        try:
            grant.check(case.jws)
            explanation.add(f"policy {grant.config.policy}", "all rules are kept", allowed=True)
        except Denied as error:
            explanation.refuse(f"policy {grant.config.policy}", error)
    policies = load(settings, "coordinator", signers=settings.signer_nodes, hooks=_HOOKS).all("make_policy", Policy)
    request = PolicyRequest(caller, case.key, case.message, case.jws, "check")
    await _plugins(explanation, "", policies, settings.signing.plugin_seconds, request)


async def _plugins(
    explanation: Explanation,
    whose: str,
    policies: Sequence[tuple[str, Policy]],
    seconds: float,
    request: PolicyRequest,
) -> None:
    async with AsyncExitStack() as stack:
        for plugin, policy in policies:
            what = f"{whose}plugin {plugin}"
            await enter(stack, plugin, policy)
            try:
                await Policies([(plugin, policy)], seconds).check(request)
                explanation.add(what, "allowed", allowed=True)
            except FrostSidecarError as error:
                explanation.refuse(what, error)


async def _signer(explanation: Explanation, file: Path, case: Case) -> None:
    node = NodeConfig.load(file)
    what = f"signer {node.name}"
    if case.key not in node.keys:
        explanation.add(what, f"has no share of a key {case.key!r}", allowed=False, reason="unknown-key")
        return
    key = node.keys[case.key]
    policies = load(node, "signer", hooks=_HOOKS).all("make_policy", Policy)
    if key.policy is None and not policies:
        explanation.add(what, "signs any bytes: no policy is set for the key", allowed=True)
        return
    if case.fault is not None:
        explanation.add(what, "a message with two readings is denied", allowed=False, reason="not-a-jws")
        return
    if key.policy is not None:
        try:
            node.policies[key.policy].check(case.jws, case.kid)
        except Denied as error:
            explanation.add(what, f"policy {key.policy}: {error}", allowed=False, reason=error.reason)
            return
        explanation.add(what, f"policy {key.policy}: all rules are kept", allowed=True)
    name = next(iter(key.clients or node.clients.names), "check")
    request = PolicyRequest(Caller(f"{name} check", "tcp", name), case.key, case.message, case.jws, "check")
    await _plugins(explanation, f"{what}: ", policies, POLICY_SECONDS, request)


def _proofs(caller: CallerConfig) -> list[str]:
    """How the caller is known, in words."""
    found = ["the program that embeds the coordinator"] if caller.in_process else []
    for place, rules in (("on the Unix socket", caller.unix), ("over TCP", caller.tcp)):
        if rules is not None:
            wanted = [f"{name} {value}" for name, value in structs.asdict(rules).items() if value is not None]
            found.append(f"{place}: {', '.join(wanted) or 'anybody who gets in'}")
    return found


def _describe(grant: GrantConfig) -> str:
    rate = "" if grant.per_second is None else f", {grant.per_second:g} a second, {grant.burst} at once"
    most = "" if grant.max_in_flight is None else f", {grant.max_in_flight} under way"
    return ("any bytes" if grant.policy is None else f"JWS by policy {grant.policy}") + rate + most


def _print(explanation: Explanation, case: Case, *, as_json: bool) -> None:
    if as_json:
        steps: Sequence[dict[str, object]] = [asdict(step) for step in explanation.steps]
        typer.echo(json.dumps({"allowed": explanation.allowed, "key": case.key, "kid": case.kid, "steps": steps}))
        return
    marks = {None: "", True: "yes", False: "NO"}
    rows = [(step.what, marks[step.allowed], step.text, step.reason or "") for step in explanation.steps]
    verdict = "would be signed" if explanation.allowed else "WOULD BE DENIED"
    style = "italic green" if explanation.allowed else "italic red"
    print_table(
        f"key {case.key}, kid {case.kid}: {verdict}", rows, columns=("asked", "allowed", "found", "reason"), style=style
    )
