"""The node's configuration: defaults, wrong values with their place, and the environment."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from frost_sidecar.addressing import parse_address
from frost_sidecar.errors import ConfigError
from frost_sidecar.signer import NodeConfig
from frost_sidecar.signer import config as module

CLIENTS = {"names": ["DNS:coordinator.test"]}


def test_the_defaults_are_the_documented_ones() -> None:
    config = NodeConfig.build({"name": "signer-1", "clients": CLIENTS})
    limits = config.limits
    assert (limits.max_commitments_per_client, limits.max_clients, limits.commitment_seconds) == (2048, 64, 600.0)
    assert config.token.issuers == ("frost-coord",)
    assert config.share_path("default") == Path("frost_state/share.json")


def test_the_example_in_the_documentation_is_read() -> None:
    example = textwrap.dedent((module.__doc__ or "").partition("::\n")[2])
    config = NodeConfig.build(tomllib.loads(example))
    assert config.metrics_bind == "127.0.0.1:9101"
    assert config.share_path("default") == Path("/var/lib/frost/share.json")


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"name": ""}, "name"),
        ({"bind": "7101"}, "bind"),
        ({"metrics_bind": "::1:7101"}, "metrics_bind"),
        ({"keys": {}}, "keys"),
        ({"keys": {"a/b": {}}}, "keys"),
        ({"keys": {"a": {"file": "x"}}}, "keys"),
        ({"token": {"issuers": []}}, "token.issuers"),
        ({"token": {"leeway_seconds": 31}}, "token.leeway_seconds"),
        ({"clients": {"names": ["coordinator"]}}, "clients.names"),
        ({"clients": {"names": ["DNS:two names"]}}, "clients.names"),
        ({"limits": {"max_clients": 0}}, "limits.max_clients"),
        ({"limits": {"max_commitments_per_client": 255}}, "limits.max_commitments_per_client"),
        ({"limits": {"max_body_bytes": 9 * 1024 * 1024}}, "limits.max_body_bytes"),
        ({"server": {"socket": "x"}}, "server"),
    ],
)
def test_wrong_values_are_refused_with_their_place(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=place.replace(".", r"\.")):
        NodeConfig.build({"name": "signer-1", "clients": CLIENTS, **values})


@pytest.mark.parametrize("values", [{}, {"clients": {}}, {"clients": {"names": []}}])
def test_without_client_names_only_a_development_signer_starts(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"clients\.names: say which certificates may call"):
        NodeConfig.build({"name": "signer-1", **values})
    assert NodeConfig.build({"name": "signer-1", "dev": True, **values}).clients.names == ()


def test_a_name_is_needed() -> None:
    with pytest.raises(ConfigError, match="name: is missing"):
        NodeConfig.build({"clients": CLIENTS})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0.0.0.0:7101", ("0.0.0.0", 7101)),
        ("signer.test:0", ("signer.test", 0)),
        ("[::1]:7101", ("::1", 7101)),
    ],
)
def test_addresses_are_read(text: str, parts: tuple[str, int]) -> None:
    assert parse_address(text, path="bind") == parts


@pytest.mark.parametrize(
    "text", ["", ":", ":7101", "host", "host:", "host:65536", "host:-1", "host:\u0667", "::1:7101"]
)
def test_wrong_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="bind"):
        parse_address(text, path="bind")


def test_the_environment_of_a_coordinator_beside_it_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "signer.toml"
    file.write_text('name = "signer-1"\nclients.names = ["DNS:coordinator.test"]\n')
    config = NodeConfig.load(
        file, {"FROST_SIDECAR_SOCKET": "/run/x.sock", "FROST_STATE": "/state", "LOG_LEVEL": "debug"}
    )
    assert config.share_path("default") == Path("/state/share.json")
    assert config.log.level == "debug"


def test_paths_count_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "signer.toml"
    file.write_text('name = "signer-1"\nstate = "state"\nclients.names = ["DNS:c"]\n[keys.mint]\nshare = "mint.json"\n')
    assert NodeConfig.load(file, {}).share_path("mint") == tmp_path / "state" / "mint.json"
