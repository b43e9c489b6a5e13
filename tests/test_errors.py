"""Every error has its page in docs/errors, with the type, status, exception and words that it really has."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web

from frost_sidecar import Config, errors, hookimpl, wire
from frost_sidecar.client import AsyncSidecarClient
from frost_sidecar.contract import STATUSES, status_of
from frost_sidecar.coordinator import Coordinator
from frost_sidecar.hookspecs import AuditSink, IdempotencyStore, Policy, Selector
from frost_sidecar.model import AuditRecord, Call, Choice, Claim, Decision, PolicyRequest, Quorum, TokenClaims
from frost_sidecar.problem import TYPE_BASE
from frost_sidecar.signer.service import STATUSES as SIGNER_STATUSES
from frost_sidecar.testing import behaviour
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar
from tests.background import is_background

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "errors"
INDEX = (FOLDER / "README.md").read_text("utf-8")
CLASSES = [
    each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.FrostSidecarError)
]
BY_SLUG = {each.slug: each for each in CLASSES if each not in {errors.FrostSidecarError, errors.RequestError}}
OF_HTTP = {"not-found", "method-not-allowed", "http"}
"""Slugs of the listener, which have no exception."""
NEVER_SENT = {
    "configuration",
    "plugin",
    "transport",
    "signer",
    "unavailable",
    "sidecar-unreachable",
    "unexpected-answer",
}
"""Of the start, of the inside, or raised by the clients themselves."""
OF_SIGNERS = {"stale-epoch", "too-many-clients"}
"""Sent by signers alone."""
ROWS = {
    match[1]: (match[2], match[3])
    for match in re.finditer(
        r"^\| \[`([a-z-]+)`\]\(\1\.md\) \| (\d{3}|\u2013) \| (?:`(\w+)`|\u2013) \|", INDEX, re.MULTILINE
    )
}
MESSAGE = {"msg_b64": "aGVsbG8="}


class Page:
    """One page of docs/errors, read as its readers do."""

    def __init__(self, slug: str) -> None:
        text = (FOLDER / f"{slug}.md").read_text("utf-8")
        self.title = text.splitlines()[0]
        self.facts = dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", text.partition("\n## ")[0], re.MULTILINE))
        self.sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
        self.details: list[str] = re.findall(
            r"^\| `(?!detail`)(.+?)` \| .+ \|$", text.partition("## What `detail`")[2], re.MULTILINE
        )
        self.metrics: set[str] = set(re.findall(r"`(frost_\w+?)(?:_total|_count)?(?:\{[^`]*)?`", text))
        operator = text.partition("## What the operator looks at")[2]
        self.settings: set[str] = set(
            re.findall(r"`((?:signing|server|limits|idempotency|audit|token)\.[a-z_]+)`", text)
        )
        self.events = [each for each in re.findall(r"`([a-z][a-z :;,\n]+ [a-z ]+)`", operator) if "=" not in each]

    def expects(self, detail: str) -> bool:
        return any(
            re.fullmatch(".+".join(map(re.escape, line.split("\u2026"))), detail, re.DOTALL) for line in self.details
        )


PAGES = {path.stem: Page(path.stem) for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}


def constants() -> set[str]:
    """Every text in the code of the package and its plugins."""
    files = [*(ROOT / "frost_sidecar").rglob("*.py"), *(ROOT / "plugins").glob("*/frost_sidecar_*/*.py")]
    return {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


CODE = "\n".join(sorted(constants()))


def test_every_slug_has_a_page_and_every_page_a_slug() -> None:
    assert PAGES.keys() == BY_SLUG.keys() | OF_HTTP


@pytest.mark.parametrize("slug", PAGES)
def test_the_page_says_type_status_and_exception(slug: str) -> None:
    page, kind = PAGES[slug], BY_SLUG.get(slug)
    assert page.title == f"# {slug}"
    assert page.facts["type"] == f"`{TYPE_BASE}{slug}`"
    assert page.facts["exception"] == (f"`{kind.__name__}`" if kind else "\u2013")
    assert page.facts.keys() >= {"audit record", "does it help to try again"}
    assert [each for each in page.sections if "detail" not in each] == [
        "What the caller does",
        "What the operator looks at",
    ]
    sidecar, signer = page.facts["status of the sidecar"], page.facts["status of a signer"]
    if kind is not None:
        assert sidecar == ("\u2013" if slug in NEVER_SENT | OF_SIGNERS else str(_status(kind, STATUSES)))
        assert signer in {"\u2013", str(_status(kind, SIGNER_STATUSES))}
    assert (slug in NEVER_SENT) == (sidecar == signer == "\u2013")


@pytest.mark.parametrize("slug", PAGES)
def test_the_words_on_the_page_are_in_the_code(slug: str) -> None:
    """A line of ``detail`` that nobody says any more fails here; those that are provoked below are real in full."""
    reasons = "\n".join(["Expected", *(status.phrase.lower() for status in HTTPStatus)])  # msgspec's word, and HTTP's
    put_in = re.compile(
        "Idempotency-Key|X-Request-Timeout-Ms|application/json"
        "|server.client_names|plugins(?=: a)|a (list of )?sign request"
    )
    for line in PAGES[slug].details:
        for piece in re.split("\u2026|[:;] ", put_in.sub("\u2026", line)):
            assert piece.strip(" .()") in CODE + reasons, piece


@pytest.mark.parametrize("slug", PAGES)
def test_what_the_operator_is_sent_to_look_at_exists(slug: str) -> None:
    page = PAGES[slug]
    missing = [name for name in page.metrics if f'"{name}"' not in _metrics_source()]
    missing += [event for event in page.events if " ".join(event.split()) not in CODE]
    configuration = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    missing += [setting for setting in page.settings if f"| `{setting}` |" not in configuration]
    assert missing == []


def test_the_index_has_every_page_with_its_status_and_exception() -> None:
    assert ROWS.keys() == PAGES.keys()
    for slug, (status, name) in ROWS.items():
        facts = PAGES[slug].facts
        ours = facts["status of a signer"] if slug in OF_SIGNERS else facts["status of the sidecar"]
        assert (status, f"`{name}`" if name else "\u2013") == (ours, facts["exception"])


@pytest.mark.parametrize("kind", get_args(errors.FaultKind))
def test_every_kind_of_fault_is_explained(kind: str) -> None:
    assert f"| `{kind}` |" in INDEX


@dataclass(frozen=True)
class Met:
    """An error as it was met, with the status on the wire where it came over one."""

    slug: str
    detail: str
    status: int | None = None
    signer: bool = False


class Stage:
    """Where errors are met: sidecars over clusters in memory, and what they put on record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sidecars: list[MemorySidecar] = []

    def sidecar(self, **settings: Any) -> MemorySidecar:
        folder = self.folder / str(len(self._sidecars))
        folder.mkdir()
        self._sidecars.append(MemorySidecar(folder, **settings))
        return self._sidecars[-1]

    @property
    def reasons(self) -> set[str | None]:
        return {record.reason for sidecar in self._sidecars for record in sidecar.cluster.records}


Provocation = Callable[[Stage], Awaitable[list[Met]]]
PROVOCATIONS: dict[str, tuple[Provocation, set[str]]] = {}
"""By name: what is done, and the slugs that it must meet."""


def provokes(*slugs: str) -> Callable[[Provocation], Provocation]:
    def note(function: Provocation) -> Provocation:
        PROVOCATIONS[function.__name__] = function, set(slugs)
        return function

    return note


async def answered(http: aiohttp.ClientSession, body: object = None, path: str = "/sign", **options: Any) -> Met:
    method = options.pop("method", "POST")
    given = {"json": MESSAGE if body is None else body} if isinstance(body, dict | list | None) else {"data": body}
    async with http.request(method, path, **given, **options) as response:
        problem = await response.json(content_type="application/problem+json")
        assert problem["status"] == response.status
        assert ("Retry-After" in response.headers) == (response.status in {429, 503})
        return Met(problem["type"].removeprefix(TYPE_BASE), problem["detail"], response.status)


def plugin(hook: str, product: object) -> ModuleType:
    """A plugin that is one hook."""
    module = ModuleType(hook)

    def make(context: object) -> object:
        return product

    setattr(module, hook, hookimpl(make))
    return module


@provokes(
    *("malformed-request", "not-found", "method-not-allowed", "too-large", "participants", "unknown-key"),
    *("idempotency-conflict", "http"),
)
async def refused_requests(stage: Stage) -> list[Met]:
    sidecar = stage.sidecar(server={"max_batch": 2, "body_seconds": 0.1})
    repeated, unreadable = b"eyJhIjoxLCJhIjoyfQ.e30", b"eyJhbGciOiJFZERTQSJ9.!"
    urls = [f"https://signer-{i}.frost.test" for i in (1, 2)]

    async def dribble() -> Any:
        yield b"{"
        await anyio.sleep(5)

    async with sidecar.serving() as http:
        met = [
            await answered(http, b"{"),
            await answered(http, {**MESSAGE, "more": 1}),
            await answered(http, {}, "/sign/batch"),
            await answered(http, [MESSAGE, {"msg_b64": "!"}], "/sign/batch"),
            await answered(http, {"msg_b64": "!"}),
            await answered(http, {"msg_b64": ""}),
            await answered(http, {**MESSAGE, "participants": [1.5, 2]}),
            await answered(http, _message(repeated)),
            await answered(http, _message(unreadable)),
            await answered(http, headers={"Idempotency-Key": "\u00fc"}),
            await answered(http, headers={"X-Request-Timeout-Ms": "soon"}),
            await answered(http, headers={"Content-Encoding": "br"}),
            await answered(http, headers={"Expect": "a miracle"}),
            await answered(http, dribble()),
            await answered(http, path="/signs"),
            await answered(http, method="DELETE"),
            await answered(http, b"x" * 300_000),
            await answered(http, _message(b"x" * 20_000)),
            await answered(http, [MESSAGE] * 3, "/sign/batch"),
            await answered(http, {**MESSAGE, "participants": [1]}),
            await answered(http, {**MESSAGE, "participants": [1, 9]}),
            await answered(http, {**MESSAGE, "participants": [1, 1]}),
            await answered(http, {**MESSAGE, "participants": [1, 9], "signer_urls": urls}),
            await answered(http, {**MESSAGE, "participants": [1, 2], "signer_urls": ["https://a.test", urls[1]]}),
            await answered(http, {**MESSAGE, "participants": [1, 2], "signer_urls": urls[::-1]}),
            await answered(http, {**MESSAGE, "participants": [1, 2], "signer_urls": urls[:1]}),
            await answered(http, {**MESSAGE, "signer_urls": [urls[0]] * 2}),
            await answered(http, {**MESSAGE, "key": "other"}),
        ]
        async with http.post("/sign", json=MESSAGE, headers={"Idempotency-Key": "k"}) as response:
            assert response.status == 200
        met.append(await answered(http, _message(b"another"), headers={"Idempotency-Key": "k"}))
        met.append(await _unreadable(sidecar.path))
    pattern = ["https://signer-{identifier}.frost.test"]
    async with stage.sidecar(signers=[], signer_urls_allow=pattern).serving() as http:
        met.append(await answered(http))
    return met


@provokes("unauthenticated", "denied")
async def a_caller_of_tcp(stage: Stage) -> list[Met]:
    sidecar = stage.sidecar(tcp=True, server={"token": {"issuers": ["mint"]}})
    stranger = sidecar.authority.issue("stranger", ["stranger.frost.test"])
    claims: list[dict[str, Any]] = [
        {"exp": 1},
        {"iat": 1e12},
        {"aud": "signer-1"},
        {"iss": "somebody"},
        {"body_sha256": "x"},
    ]
    async with sidecar.serving():
        async with sidecar.calling(anonymous=True) as http:
            tokens = ["unknown", *(sidecar.token(**each) for each in claims)]
            met = [await answered(http)]
            met += [await answered(http, headers={"Authorization": f"Bearer {each}"}) for each in tokens]
        async with sidecar.calling(stranger) as http:
            met.append(await answered(http))
    return met


@provokes("denied", "policy-unavailable")
async def a_policy(stage: Stage) -> list[Met]:
    class Rule(Policy):
        answers: list[Any] = [Decision(False), Decision(False, "not on Sundays"), True, None]  # noqa: RUF012 - a tape

        async def decide(self, request: PolicyRequest) -> Decision:
            answer = self.answers.pop(0)
            if answer is None:
                raise ValueError("broken")
            decision: Decision = answer
            return decision

    sidecar = stage.sidecar(plugins={"rule": plugin("make_policy", Rule())})
    async with sidecar.serving() as http:
        return [await answered(http) for _ in range(4)]


@provokes("overloaded", "too-many-requests")
async def a_full_sidecar(stage: Stage) -> list[Met]:
    met = []
    for bounds in ({"max_in_flight": 1}, {"max_in_flight_per_caller": 1}):
        sidecar = stage.sidecar(signing=bounds)
        begun = anyio.Event()
        for identifier in sidecar.cluster.identifiers:
            sidecar.cluster.behave(identifier, _hanging(begun))
        async with sidecar.serving() as http, anyio.create_task_group() as tasks:
            tasks.start_soon(answered, http)
            await begun.wait()
            met.append(await answered(http))
            tasks.cancel_scope.cancel()
    return met


@provokes("internal")
async def a_broken_selector(stage: Stage) -> list[Met]:
    class Nonsense(Selector):
        async def quorums(self, choice: Choice) -> Sequence[Quorum]:
            if choice.request_id == "raise":
                raise ValueError("broken")
            return [(9, 9)]

    sidecar = stage.sidecar(plugins={"nonsense": plugin("make_selector", Nonsense())})
    async with sidecar.serving() as http:
        return [await answered(http, headers={"X-Request-ID": each}) for each in ("raise", "choose")]


@provokes("no-quorum")
async def no_signer(stage: Stage) -> list[Met]:
    sidecar = stage.sidecar()
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.crash(identifier)
    async with sidecar.serving() as http:
        met = await answered(http)
    assert re.fullmatch(errors.SignerError(1, "unreachable", ".*").args[0] + ".*", met.detail.partition(": ")[2])
    assert PAGES["signer"].expects(str(errors.SignerError(1, "unreachable", "connection refused")))
    return [met]


@provokes("audit-unavailable")
async def a_broken_sink(stage: Stage) -> list[Met]:
    class Full(AuditSink):
        async def append(self, records: Sequence[AuditRecord]) -> None:
            raise OSError("no space left on device")

    async with stage.sidecar(plugins={"full": plugin("make_audit_sink", Full())}).serving() as http:
        return [await answered(http)]


@provokes("idempotency-unavailable")
async def a_broken_store(stage: Stage) -> list[Met]:
    class Store(IdempotencyStore):
        async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
            if self.lies:
                return Claim(mine=False, fingerprint=b"of somebody else")
            raise ConnectionError("refused")

        async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
            raise ConnectionError("refused")

        async def release(self, key: str, owner: str) -> None:
            raise ConnectionError("refused")

        lies = True

    store = Store()
    async with stage.sidecar(plugins={"store": plugin("make_idempotency_store", store)}).serving() as http:
        met = [await answered(http, headers={"Idempotency-Key": "k"})]
        store.lies = False
        return [*met, await answered(http, headers={"Idempotency-Key": "k"})]


@provokes("shutting-down")
async def the_end(stage: Stage) -> list[Met]:
    sidecar = stage.sidecar(server={"grace_seconds": 0.1})
    begun = anyio.Event()
    met = []
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, _hanging(begun))

    async def ask() -> None:
        met.append(await answered(http))

    async with sidecar.serving() as http, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await begun.wait()
        sidecar.stop.set()
    async with MemoryCluster(stage.folder / "closed").coordinator() as coordinator:
        pass
    with pytest.raises(errors.ShuttingDown) as caught:
        await coordinator.sign(b"message")
    return [*met, Met("shutting-down", str(caught.value))]


@provokes("deadline-exceeded")
async def a_caller_with_little_time(stage: Stage) -> list[Met]:
    sidecar = stage.sidecar()
    for identifier in sidecar.cluster.identifiers:
        sidecar.cluster.behave(identifier, behaviour.stalled)
    async with sidecar.serving() as http:
        return [await answered(http, headers={"X-Request-Timeout-Ms": "100"})]


@provokes(*("malformed-request", "unauthenticated", "unknown-key", "stale-epoch", "too-many-clients"))
async def a_signer(stage: Stage) -> list[Met]:
    cluster = MemoryCluster(stage.folder)
    signer = cluster.config.signer_nodes[0]

    async def asked(path: str, message: Any, subject: str = "s", body: bytes | None = None) -> Met | None:
        sent, now = msgspec.json.encode(message), int(time.time())
        claims = TokenClaims(
            iss="frost-coord", sub=subject, aud=signer.name, iat=now, nbf=now, exp=now + 30,
            jti=f"{subject} {path} {len(sent)}", body_sha256=wire.body_digest(sent),
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {await cluster.tokens.issue(claims)}"}
        answer = await cluster.call(signer, Call("POST", path, body or sent, headers, 65536))
        if answer.status == HTTPStatus.OK:
            return None
        problem = json.loads(answer.body)
        return Met(problem["type"].removeprefix(TYPE_BASE), problem["detail"], answer.status, signer=True)

    one = wire.CommitmentsRequest(key="default", count=1)
    points = {"id": "A" * 22, "hiding": "A" * 43, "binding": "A" * 43}
    sessions = [{"session": "s" * 16, "msg": "", "commitments": {"1": points, "2": points}}]
    met = [
        await asked(wire.SHARES_PATH, {"key": "default", "epoch": "e" * 22, "sessions": sessions}),
        await asked(wire.COMMITMENTS_PATH, wire.CommitmentsRequest(key="other", count=1)),
        await asked(wire.COMMITMENTS_PATH, one, "stolen", b"another body"),
        *[await asked(wire.COMMITMENTS_PATH, one, f"s{number}") for number in range(9)],
        await asked(wire.COMMITMENTS_PATH, {"key": "default", "count": "one"}),
    ]
    return [each for each in met if each is not None]


@provokes("sidecar-unreachable", "unexpected-answer", "unavailable", "unauthenticated", "too-large")
async def the_clients(stage: Stage) -> list[Met]:
    async def proxy(request: web.Request) -> web.Response:
        status = {"/keys": 200, "/readyz": 502}.get(request.path, 404)
        return web.Response(status=status, text="<html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(stage.folder / "p")).start()
    sidecar = stage.sidecar(tcp=True)
    met = []
    async with (
        AsyncSidecarClient(stage.folder / "nobody", attempts=1) as nobody,
        AsyncSidecarClient(stage.folder / "p", attempts=1) as html,
        sidecar.serving(),
        AsyncSidecarClient(sidecar.url, tls=sidecar.client, token=stage.folder / "missing", attempts=1) as tokenless,
    ):
        calls: list[Callable[[], Awaitable[object]]] = [
            nobody.jwks, html.group_public, html.jwks, html.readiness, tokenless.jwks,
            lambda: html.sign(b"x" * 70_000),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(errors.FrostSidecarError) as caught:
                await call()
            met.append(Met(caught.value.slug, str(caught.value)))
        [outcome] = await html.sign_batch([b"x" * 70_000])
        assert isinstance(outcome, errors.TooLarge)
        met.append(Met(outcome.slug, str(outcome)))
    await runner.cleanup()
    return met


@provokes("configuration", "plugin", "signer")
async def the_start(stage: Stage) -> list[Met]:
    (stage.folder / "f.toml").write_text("colour = 1\n")
    met: list[Met] = [Met("signer", str(errors.SignerError(1, "timeout", "no answer within 1.5 s")))]
    arrangements: list[Callable[[], Config]] = [
        lambda: Config.build({"signers": [{"identifier": 1, "url": "https://a.test"}]}),
        lambda: Config.load(stage.folder / "f.toml", {}),
        lambda: Config.load(stage.folder / "missing.toml", {}),
    ]
    for arrange in arrangements:
        with pytest.raises(errors.ConfigError) as caught:
            arrange()
        met.append(Met(caught.value.slug, str(caught.value)))
    with pytest.raises(errors.PluginError) as refused:
        async with Coordinator.open(MemoryCluster(stage.folder / "keys").config):
            pass
    met.append(Met(refused.value.slug, str(refused.value)))
    for tcp, address in ((False, "127.0.0.1:0"), (True, "192.0.2.1:1")):
        sidecar = stage.sidecar(tcp=tcp, server={"bind": address})
        with pytest.raises(ExceptionGroup) as group:
            async with sidecar.serving():
                pass
        [error] = group.value.exceptions
        assert isinstance(error, errors.ConfigError)
        met.append(Met(error.slug, str(error)))
    return met


@pytest.mark.parametrize("name", PROVOCATIONS)
async def test_the_pages_say_what_is_really_answered(name: str, short_path: Path) -> None:
    provoke, slugs = PROVOCATIONS[name]
    stage = Stage(short_path)
    met = await provoke(stage)
    assert {each.slug for each in met} == slugs
    for each in met:
        page = PAGES[each.slug]
        assert page.expects(each.detail), each
        if each.status is not None:
            assert page.facts["status of a signer" if each.signer else "status of the sidecar"] == str(each.status)
        if each.status is not None and not each.signer and page.facts["audit record"] in {"yes", "no"}:
            assert (each.detail in stage.reasons) == (page.facts["audit record"] == "yes"), each


def test_every_page_is_met_in_life() -> None:
    met = set[str]().union(*(slugs for _, slugs in PROVOCATIONS.values()))
    assert met == PAGES.keys() - {"transport"}  # a transport's error has no words of its own


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", ""),
        ("plain: \u00fc \u4e2d \U0001f600", "plain: \u00fc \u4e2d \U0001f600"),
        ("x" * 240, "x" * 240),
        ("x" * 241, "x" * 240 + "\u2026"),
        ("x" * 10_000_000, "x" * 240 + "\u2026"),
        ("a\nb\r\tc\x1b[31m\0\x7f\u2028\u202e\ud800", "a\ufffdb\ufffd\ufffdc\ufffd[31m" + "\ufffd" * 5),
    ],
    ids=["empty", "plain", "longest", "longer", "huge", "controls"],
)
def test_a_signers_words_are_kept_short_and_printable(said: str, kept: str) -> None:
    error = errors.SignerError(7, "refused", said)
    assert error.detail == kept
    assert str(error) == f"signer 7: refused: {kept}"
    assert kept.isprintable()


def test_no_two_meanings_share_a_slug() -> None:
    slugs: dict[str, list[str]] = {}
    for each in CLASSES:
        slugs.setdefault(each.slug, []).append(each.__name__)
    shared = {slug: names for slug, names in slugs.items() if len(names) > 1}
    assert shared == {
        "internal": ["FrostSidecarError", "InternalError"],
        "malformed-request": ["RequestError", "MalformedRequest"],
    }


@pytest.mark.parametrize("table", [STATUSES, SIGNER_STATUSES], ids=["sidecar", "signer"])
def test_every_error_has_a_status_of_its_family(table: dict[type[errors.FrostSidecarError], HTTPStatus]) -> None:
    for each in CLASSES:
        status = _status(each, table)
        if issubclass(each, errors.Unavailable):
            passing = HTTPStatus.TOO_MANY_REQUESTS if each in table and each is errors.TooManyRequests else None
            assert status == (passing or HTTPStatus.SERVICE_UNAVAILABLE)
        if issubclass(each, errors.RequestError) and each not in {errors.RequestError, errors.StaleEpoch}:
            own = {errors.ParticipantsError, errors.IdempotencyConflict}  # nothing that a signer is asked
            assert status in range(400, 500) or (table is SIGNER_STATUSES and each in own)


def test_the_table_of_statuses_is_what_status_of_says() -> None:
    assert status_of(errors.NoQuorum("x")) == _status(errors.NoQuorum, STATUSES) == HTTPStatus.SERVICE_UNAVAILABLE


def _status(kind: type[errors.FrostSidecarError], table: Any) -> HTTPStatus:
    status: HTTPStatus = next(table[base] for base in kind.__mro__ if base in table)
    return status


def _metrics_source() -> str:
    return (ROOT / "frost_sidecar" / "metrics.py").read_text("utf-8")


def _message(message: bytes) -> dict[str, str]:
    from frost_sidecar.encoding import b64encode

    return {"msg_b64": b64encode(message)}


def _hanging(begun: anyio.Event) -> behaviour.Behaviour:
    async def hang(handle: behaviour.Handle, call: Call) -> Any:
        if is_background(call):
            return await handle(call)
        begun.set()
        return await behaviour.stalled(handle, call)

    return hang


async def _unreadable(path: Path) -> Met:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"what?\r\n\r\n")
    with anyio.fail_after(5):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    problem = json.loads(body)
    return Met(problem["type"].removeprefix(TYPE_BASE), problem["detail"], int(head.split()[1]))
