"""Configuration files of both processes, and the environment: typed errors with a place, never a secret in them."""

from __future__ import annotations

import base64
import secrets
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from frost_sidecar_auth_hs256.settings import Settings

from frost_sidecar.config import Config
from frost_sidecar.errors import ConfigError
from frost_sidecar.process import ENVIRONMENT, ProcessConfig, convert
from frost_sidecar.signer import NodeConfig
from tests.fuzz.budget import explore
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_json, damage_text
from tests.fuzz.test_fuzz_files import written


@cache
def _secret() -> str:
    return base64.b64encode(secrets.token_bytes(48)).decode()


def _coordinator_seeds() -> list[bytes]:
    return [
        f"""state = "/var/lib/frost"
default_key = "a"
signer_urls_allow = ["https://*.signers.test:7000"]
[server]
socket = "/run/frost/sign.sock"
socket_mode = "0660"
bind = "127.0.0.1:7100"
client_names = ["DNS:mint.test"]
max_body_bytes = 65536
[server.token]
audience = "frost-coordinator"
leeway_seconds = 1.5
[keys.a]
min_signers = 2
[keys.b]
group = "b.json"
[signing]
budget_seconds = 5.0
max_sessions = 8
[audit]
best_effort = ["x"]
[idempotency]
on_outage = "refuse"
[[signers]]
identifier = 1
url = "https://signer-1.test:7101"
zone = "ad-1"
[[signers]]
identifier = 2
url = "https://[::1]:7102"
zone = "ad-2"
name = "two"
server_name = "two.test"
[callers.mint]
in_process = true
[callers.mint.unix]
uid = 1000
executable = "/usr/bin/mint"
[callers.issuer.tcp]
certificate = "DNS:mint.test"
subject = "mint"
[[grants]]
caller = "mint"
policy = "access-token"
per_second = 50.0
burst = 10
[[grants]]
caller = "issuer"
key = "b"
opaque = true
max_in_flight = 4
[policies.access-token]
typ = ["at+jwt"]
iss = ["https://mint.test"]
aud = ["https://*.api.test"]
max_lifetime_seconds = 900
required = ["jti"]
forbidden = ["act"]
[policies.access-token.values]
scope = ["read", "write"]
[plugins.auth_hs256]
secret_b64 = "{_secret()}"
leeway_seconds = 1
""".encode()
    ]


def _signer_seeds() -> list[bytes]:
    return [
        f"""name = "signer-1"
seal_key_file = "/secrets/seal.key"
bind = "0.0.0.0:7101"
metrics_bind = "[::1]:9101"
dev = false
[tls]
cert = "/tls/tls.crt"
trust_domain = "mint.test"
crl = "/tls/crl.pem"
[keys.default]
share = "share.json"
policy = "session"
clients = ["DNS:coordinator.test"]
[policies.session]
typ = ["JWT"]
iss = ["https://mint.test"]
max_lifetime_seconds = 60
[clients]
names = ["DNS:coordinator.test", "URI:spiffe://a/b"]
[token]
issuers = ["frost-coord"]
leeway_seconds = 2
[limits]
max_clients = 64
commitment_seconds = 600.0
[log]
level = "info"
[plugins.auth_hs256]
secret_b64 = "{_secret()}"
""".encode()
    ]


def _secret_texts() -> Sequence[str]:
    return [_secret()]


def _refuse_secret_names(values: Any) -> None:
    """Leave inputs out in which damage made a piece of the secret a name: unknown names are quoted, on purpose."""
    if isinstance(values, dict):
        if any(_secret()[at : at + 10].lower() in name.lower() for name in values for at in range(len(_secret()) - 9)):
            raise ConfigError("a secret as a name")
        for each in values.values():
            _refuse_secret_names(each)


def _load(kind: type[ProcessConfig]) -> Any:
    def decode(data: bytes) -> ProcessConfig:
        with suppress(ValueError, RecursionError):
            _refuse_secret_names(tomllib.loads(data.decode()))
        return kind.load(written("config.toml", data), {})

    return decode


def _config_read(data: bytes, config: ProcessConfig) -> None:
    """Built again from itself it is the same, and it does not show its plugins' settings."""
    kind = type(config)
    assert kind.build(msgspec.to_builtins(config)) == config
    assert _secret() not in repr(config)
    given = tomllib.loads(data.decode())
    assert given.keys() <= set(kind.__struct_fields__) - {"base"}
    assert config.plugins == given.get("plugins", {})
    assert all(Path(each).is_absolute() for each in (config.tls_files.cert, config.tls_files.key, config.tls_files.ca))
    if isinstance(config, Config):
        assert config.main_key in config.keys
        assert config.signer_nodes or config.allowed_urls
        names = [each.name for each in config.signer_nodes]
        assert len(set(names)) == len(names)
        _check_grants(config)
    if isinstance(config, NodeConfig):
        assert config.dev or config.clients.names
        assert {each.policy for each in config.keys.values()} - {None} <= config.policies.keys()
        allowed = {*config.clients.names}
        assert not allowed or all({*each.clients} <= allowed for each in config.keys.values())


def _check_grants(config: Config) -> None:
    """Each names who, for which key, and either rules or all; nobody has two for one key."""
    assert all(each.in_process or each.unix or each.tcp for each in config.callers.values())
    held = [(each.caller, each.key or config.main_key) for each in config.grants]
    assert len(set(held)) == len(held)
    assert {caller for caller, _ in held} <= config.callers.keys()
    assert {key for _, key in held} <= config.keys.keys()
    for each in config.grants:
        assert each.opaque is (each.policy is None)
        assert each.policy is None or each.policy in config.policies
    for rules in config.policies.values():
        assert not {*rules.required} & {*rules.forbidden}


def _environment_seeds() -> list[bytes]:
    return [
        "\n".join(f"{name}=1" for name in ENVIRONMENT).encode(),
        b"BIND=0.0.0.0:1\nLOG_LEVEL=info\nRUST_LOG=a=b,warn",
    ]


def _environment(data: bytes) -> Config:
    pairs = [line.partition(b"=") for line in data.split(b"\n")]
    environ = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") for name, _, value in pairs
    }
    return Config.load(written("config.toml", _coordinator_seeds()[0]), environ)


def _environment_read(_data: bytes, config: Config) -> None:
    assert config.signers
    assert isinstance(config.dev, bool)


def _settings_seeds() -> list[bytes]:
    return [
        msgspec.json.encode({"secret_b64": _secret(), "leeway_seconds": 1.5, "previous_seconds": 0}),
        msgspec.json.encode({"secret_file": "/secrets/jwt", "accept_undated": True}),
    ]


def _settings(data: bytes) -> Settings:
    try:
        values = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise ConfigError("no JSON") from None
    _refuse_secret_names(values)
    return convert(values, Settings, path="plugins.auth_hs256")


def _settings_read(_data: bytes, settings: Settings) -> None:
    assert _secret() not in repr(settings) or _secret() in (settings.secret_file or "")
    assert 0 <= settings.leeway_seconds <= 30


TARGETS: Final = [
    Target(
        "configuration, coordinator",
        _coordinator_seeds,
        _load(Config),
        (ConfigError,),
        _config_read,
        mutate=damage_text,
        secrets=_secret_texts,
    ),
    Target(
        "configuration, signer",
        _signer_seeds,
        _load(NodeConfig),
        (ConfigError,),
        _config_read,
        mutate=damage_text,
        secrets=_secret_texts,
    ),
    Target(
        "configuration, environment",
        _environment_seeds,
        _environment,
        (ConfigError,),
        _environment_read,
        mutate=damage_text,
    ),
    Target(
        "configuration, plugin",
        _settings_seeds,
        _settings,
        (ConfigError,),
        _settings_read,
        mutate=damage_json,
        secrets=_secret_texts,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
