"""Every metric by name, label and meaning: the module, the page and the dashboard say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from frost_sidecar.coordinator import Coordinator
from frost_sidecar.errors import ConfigError, FaultKind
from frost_sidecar.hookspecs import Answer, Call, PluginContext, Signer, TokenIssuer, Transport
from frost_sidecar.metrics import (
    BREAKER_STATES,
    LATENCY_BOUNDS,
    CoordinatorMetrics,
    SignerMetrics,
    Timings,
    new_registry,
    render,
)
from frost_sidecar.plugins import hookimpl
from frost_sidecar.testing.cluster import MemoryCluster

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "deploy" / "dashboard.json").read_text("utf-8"))
FROM_PROMETHEUS = {"le", "instance"}
"""Labels that are not ours: a histogram's bucket, and the scraped process."""


class Everything(Transport):
    """A cluster's transport and tokens as a plugin, to open a coordinator without the cluster's help."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster

    async def call(self, signer: Signer, call: Call) -> Answer:
        return await self._cluster.call(signer, call)

    @hookimpl
    def make_transport(self, context: PluginContext) -> Transport:
        return self

    @hookimpl
    def make_token_issuer(self, context: PluginContext) -> TokenIssuer:
        return self._cluster.tokens


class Metric(NamedTuple):
    kind: str
    labels: tuple[str, ...]


def _metrics() -> dict[str, Metric]:
    """Every metric by the name under which it is exposed."""
    found = {}
    for process in (CoordinatorMetrics(new_registry()), SignerMetrics(new_registry())):
        for metric in vars(process).values():
            if isinstance(metric, MetricWrapperBase):
                name = metric._name + ("_total" if metric._type == "counter" else "")
                found[name] = Metric(str(metric._type), tuple(metric._labelnames))
            elif isinstance(metric, Timings):
                found[metric.name] = Metric("histogram", (metric.label,))
    return found


METRICS = _metrics()


def _base(name: str) -> str:
    """A series' metric: without the suffix of a histogram's series."""
    short = re.sub(r"_(bucket|count|sum)$", "", name)
    return short if short in METRICS and METRICS[short].kind == "histogram" else name


def _rows() -> dict[str, tuple[str, tuple[str, ...]]]:
    rows = {}
    for line in PAGE.splitlines():
        if line.startswith("| `frost_"):
            name, kind, labels, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            assert meaning
            assert name.strip("`") not in rows
            rows[name.strip("`")] = kind, tuple(re.findall(r"`(\w+)`", labels))
    return rows


def _panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def _dashboard_queries() -> list[str]:
    return [target["expr"] for panel in _panels() for target in panel["targets"]]


def _page_queries() -> list[str]:
    return [each.strip() for each in re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)]


def _wrong(query: str) -> list[str]:
    """What a query speaks of that does not exist: metrics, or labels of none of its metrics."""
    names = re.findall(r"\bfrost_\w+", query)
    wrong = [name for name in names if _base(name) not in METRICS]
    labels = set(FROM_PROMETHEUS)
    for name in names:
        if _base(name) in METRICS:
            labels |= set(METRICS[_base(name)].labels)
    grouped = [each for group in re.findall(r"\bby \(([^)]*)\)", query) for each in re.split(r",\s*", group)]
    matched = re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", query)
    wrong += [label for label in (*grouped, *matched) if label not in labels]
    return wrong


def test_the_page_has_exactly_the_metrics() -> None:
    assert _rows() == METRICS


def test_the_page_has_every_kind_and_state() -> None:
    kinds = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert kinds == list(get_args(FaultKind))
    assert all(f"`{state}`" in PAGE for state in BREAKER_STATES)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {_base(name) for query in _dashboard_queries() for name in re.findall(r"\bfrost_\w+", query)}
    assert shown == set(METRICS)


@pytest.mark.parametrize("query", [*_dashboard_queries(), *_page_queries()])
def test_queries_speak_of_what_exists(query: str) -> None:
    assert _wrong(query) == []
    assert query.count("(") == query.count(")")
    assert all(_base(name) != name for name in re.findall(r"\bfrost_\w+_(?:bucket|count|sum)\b", query))


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("rate(frost_coordinator_signs[5m])", ["frost_coordinator_signs"]),
        ("frost_coordinator_requests_in_flight_count", ["frost_coordinator_requests_in_flight_count"]),
        ("sum by (zone) (frost_coordinator_audit_backlog)", ["zone"]),
        ('frost_signer_refusals_total{why="token-body"}', ["why"]),
        ('frost_signer_refusals_total{reason="token-body", kind=~"a"}', ["kind"]),
    ],
)
def test_a_wrong_query_is_found(query: str, wrong: list[str]) -> None:
    assert _wrong(query) == wrong


def test_the_dashboard_is_one_that_grafana_can_load() -> None:
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    assert (DASHBOARD["title"], DASHBOARD["uid"]) == ("frost-sidecar", "frost-sidecar")
    for panel in _panels():
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            metrics = {_base(name) for name in re.findall(r"\bfrost_\w+", target["expr"])}
            labels = {label for name in metrics for label in METRICS[name].labels} | FROM_PROMETHEUS
            assert labels.issuperset(re.findall(r"{{(\w+)}}", target["legendFormat"]))


def test_the_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("nonsense;;;q=", "text/plain"),
    ],
)
def test_the_form_is_what_the_client_prefers(accept: str, content_type: str) -> None:
    metrics = CoordinatorMetrics(new_registry())
    metrics.signs.inc()
    body, said = render(metrics.registry, accept)
    assert said.startswith(content_type)
    assert b"frost_coordinator_signs_total 1.0" in body
    assert b"_created" not in body


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from(LATENCY_BOUNDS))))
def test_timings_are_exposed_as_the_librarys_own_histograms(durations: list[float]) -> None:
    ours, theirs = new_registry(), new_registry()
    timings = Timings("a_seconds", "Text.", "phase", ("one", "two"), ours)
    histogram = Histogram("a_seconds", "Text.", ["phase"], buckets=LATENCY_BOUNDS, registry=theirs)
    histogram.labels("two")
    for seconds in durations:
        timings["one"].observe(seconds)
        histogram.labels("one").observe(seconds)
    if not durations:
        histogram.labels("one")
    for accept in ("", "application/openmetrics-text; version=1.0.0"):
        text, wanted = (sorted(render(each, accept)[0].splitlines()) for each in (ours, theirs))
        assert text == wanted


def test_a_timings_name_is_taken() -> None:
    registry = new_registry()
    Timings("a_seconds", "Text.", "phase", ("one",), registry)
    with pytest.raises(ValueError, match="a_seconds"):
        Histogram("a_seconds", "Text.", registry=registry)


def test_a_stopwatch_counts_what_fails_too() -> None:
    registry = new_registry()
    timing = Timings("a_seconds", "Text.", "phase", ("one",), registry)["one"]
    with pytest.raises(ZeroDivisionError), timing.time():
        raise ZeroDivisionError
    assert registry.get_sample_value("a_seconds_count", {"phase": "one"}) == 1


def test_every_metric_is_described_where_it_is_read() -> None:
    for process in (CoordinatorMetrics(new_registry()), SignerMetrics(new_registry())):
        body, _ = render(process.registry, "")
        for family in text_string_to_metric_families(body.decode()):
            assert family.documentation.endswith("."), family.name
            assert family.name.startswith("frost_")


def test_two_processes_in_one_program_share_nothing() -> None:
    one, two = CoordinatorMetrics(new_registry()), CoordinatorMetrics(new_registry())
    one.signs.inc()
    assert two.registry.get_sample_value("frost_coordinator_signs_total") == 0


def test_one_registry_is_for_one_process_until_it_ends() -> None:
    registry = new_registry()
    host = Counter("host_requests", "The embedding program's own.", registry=registry)
    first = CoordinatorMetrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        CoordinatorMetrics(registry)
    first.close()
    body, _ = render(registry, "")
    assert b"frost_" not in body
    assert b"host_requests_total" in body
    host.inc()
    second = CoordinatorMetrics(registry)
    second.signs.inc()
    assert registry.get_sample_value("frost_coordinator_signs_total") == 1


async def test_a_coordinators_metrics_leave_the_programs_registry_with_it(tmp_path: Path) -> None:
    registry = new_registry()
    cluster = MemoryCluster(tmp_path)
    plugins = {"memory": Everything(cluster)}
    for _ in range(2):
        async with Coordinator.open(cluster.config, plugins=plugins, registry=registry) as coordinator:
            assert coordinator.registry is registry
            await coordinator.sign(b"message")
            assert registry.get_sample_value("frost_coordinator_signs_total") == 1
            with pytest.raises(ConfigError, match="another coordinator's metrics") as caught:
                async with Coordinator.open(cluster.config, plugins=plugins, registry=registry):
                    pass
            assert caught.value.path == "registry"
            assert registry.get_sample_value("frost_coordinator_signs_total") == 1
        assert render(registry, "")[0].strip() == b""


def test_names_follow_the_rules_of_prometheus() -> None:
    for name, metric in METRICS.items():
        assert re.fullmatch(r"frost_(coordinator|signer)_[a-z_]+", name)
        timed = metric.kind == "histogram" and not name.endswith("_size")
        assert timed == (name.endswith("_seconds") and not name.endswith("_timestamp_seconds"))


@pytest.mark.parametrize(
    "accept",
    [
        *("text/plain;version=a.b", "application/openmetrics-text; version=x", "application/openmetrics-text;version="),
        *(
            "text/plain; version=1.0.0; escaping=zz",
            ";;;",
            ",",
            "\u00fc/*",
            "application/openmetrics-text;version=1..0",
        ),
    ],
)
def test_a_strange_wish_gets_the_metrics_all_the_same(accept: str) -> None:
    registry = new_registry()
    CoordinatorMetrics(registry).signs.inc()
    body, content_type = render(registry, accept)
    assert b"frost_coordinator_signs_total 1.0" in body
    assert content_type.split(";")[0] in {"text/plain", "application/openmetrics-text"}
