"""The OpenAPI document: what is served, what lies in the repository, and what schemathesis finds on the listener."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from frost_sidecar import errors
from frost_sidecar.contract import status_of
from frost_sidecar.openapi import DOCUMENT
from frost_sidecar.problem import TYPE_BASE
from frost_sidecar.testing.sidecar import MemorySidecar

ROOT = Path(__file__).parents[1]


def test_the_document_in_the_repository_is_the_one_that_is_served() -> None:
    """``make openapi`` brings it up to date."""
    assert json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8")) == json.loads(DOCUMENT)


async def test_it_is_served(short_path: Path) -> None:
    async with MemorySidecar(short_path).serving() as http, http.get("/openapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.read() == DOCUMENT


async def test_it_has_every_route_and_no_other(short_path: Path) -> None:
    documented = {(method, path) for path, methods in json.loads(DOCUMENT)["paths"].items() for method in methods}
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:
        for method, path in documented:
            async with http.request(method, path) as response:
                assert response.status not in {404, 405}, path
    assert {path for _, path in documented} == {
        *("/sign", "/sign/batch", "/keys", "/.well-known/jwks.json"),
        *("/readyz", "/healthz", "/metrics", "/openapi.json"),
    }


def test_every_error_stands_where_its_status_says() -> None:
    """Each type of error of /sign has its one status there, and every status its types."""
    said: dict[str, str] = {}
    for status, answer in json.loads(DOCUMENT)["paths"]["/sign"]["post"]["responses"].items():
        if status != "200":
            [_, more] = answer["content"]["application/problem+json"]["schema"]["allOf"]
            said |= dict.fromkeys(more["properties"]["type"]["enum"], status)
    for kind in _kinds(errors.FrostSidecarError):
        status = said.pop(TYPE_BASE + kind.slug, None)
        assert status in {None, str(status_of(kind).value)}
    assert said == {}


def _kinds(kind: type[errors.FrostSidecarError]) -> set[type[errors.FrostSidecarError]]:
    return {kind}.union(*(_kinds(each) for each in kind.__subclasses__()))


async def _schemathesis(sidecar: MemorySidecar, folder: Path, location: str, *more: str) -> tuple[int, str]:
    """Run it with all checks on, on the TCP listener with certificate and token: exit status and output."""
    process = await anyio.run_process(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml")),
            *("run", location, "--url", sidecar.url, "--checks", "all", "--no-color", "--continue-on-failure"),
            *("--tls-verify", str(sidecar.client.ca), "--request-cert", str(sidecar.client.cert)),
            *("--request-cert-key", str(sidecar.client.key), "-H", f"Authorization: Bearer {sidecar.token()}"),
            *("--seed", "1", "--generation-database", "none", *more),
        ],
        check=False,
        cwd=folder,
    )
    return process.returncode, process.stdout.decode()


@pytest.mark.timeout(400)
async def test_schemathesis_finds_nothing(short_path: Path, tmp_path: Path) -> None:
    """``schemathesis.toml`` says which answers it expects beyond its defaults, and why."""
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving():
        status, output = await _schemathesis(sidecar, tmp_path, f"{sidecar.url}/openapi.json", "--max-examples", "40")
    assert status == 0, output[-4000:]
    assert "No issues found" in output
    [tested] = [line for line in output.splitlines() if line.strip().startswith("Tested:")]
    assert int(tested.split(":")[1]) >= 7
    assert any(record.outcome == "signed" for record in sidecar.cluster.records)
    assert sidecar.cluster.reused == []


async def test_schemathesis_would_find_a_broken_promise(short_path: Path, tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(DOCUMENT)
    del document["paths"]["/sign"]["post"]["responses"]["400"]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    sidecar = MemorySidecar(short_path, tcp=True)
    async with sidecar.serving():
        status, output = await _schemathesis(
            sidecar, tmp_path, str(tmp_path / "openapi.json"), "--max-examples", "10", "--include-path", "/sign"
        )
    assert status == 1
    assert "Undocumented" in output
