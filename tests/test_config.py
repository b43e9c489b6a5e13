"""Configuration: what is refused and where, what wins over what, and the page that describes it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from frost_sidecar.config import Config
from frost_sidecar.errors import ConfigError
from frost_sidecar.process import ENVIRONMENT, ProcessConfig, TlsConfig
from frost_sidecar.rules import JwsRules
from frost_sidecar.signer import NodeConfig

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"

ONE = {"identifier": 1, "url": "https://one.test:7101", "zone": "ad-1"}
TWO = {"identifier": 2, "url": "https://two.test:7101", "zone": "ad-2"}
MINIMAL = '[[signers]]\nidentifier = 1\nurl = "https://one.test"\nzone = "ad-1"\n'


def _build(**values: Any) -> Config:
    return Config.build({"signers": [ONE, TWO], **values})


def _file(folder: Path, text: str = MINIMAL) -> Path:
    file = folder / "frost-sidecar.toml"
    file.write_text(text, "utf-8")
    return file


A: dict[str, Any] = {"callers": {"a": {"unix": {}}}, "policies": {"p": {}}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"statte": "x"}, "statte"),
    ({"bind": "0.0.0.0:7100"}, "bind"),
    ({"state": 5}, "state"),
    ({"dev": 1}, "dev"),
    ({"dev": "true"}, "dev"),
    ({"tls": "x"}, "tls"),
    ({"tls": {"cert": 1}}, "tls.cert"),
    ({"tls": {"key": None}}, "tls.key"),
    ({"tls": {"ca": []}}, "tls.ca"),
    ({"tls": {"crt": "x"}}, "tls.crt"),
    ({"log": {"level": 10}}, "log.level"),
    ({"log": {"levle": "x"}}, "log.levle"),
    ({"plugins": []}, "plugins"),
    ({"plugins": {"a": 1}}, "plugins[…]"),
    ({"signers": []}, "signers"),
    ({"signers": {}}, "signers"),
    ({"signers": [ONE] * 256}, "signers"),
    ({"signers": [ONE, {**TWO, "identifier": 0}]}, "signers[1].identifier"),
    ({"signers": [{**ONE, "identifier": 65536}]}, "signers[0].identifier"),
    ({"signers": [{**ONE, "identifier": True}]}, "signers[0].identifier"),
    ({"signers": [{**ONE, "identifier": "1"}]}, "signers[0].identifier"),
    ({"signers": [{**ONE, "zone": ""}]}, "signers[0].zone"),
    ({"signers": [{**ONE, "zone": "z" * 129}]}, "signers[0].zone"),
    ({"signers": [{**ONE, "name": ""}]}, "signers[0].name"),
    ({"signers": [{**ONE, "server_name": ""}]}, "signers[0].server_name"),
    ({"signers": [{**ONE, "url": "https://" + "a" * 512}]}, "signers[0].url"),
    ({"signers": [{**ONE, "adress": "x"}]}, "signers[0].adress"),
    ({"signers": [{"identifier": 1, "url": "https://one.test"}]}, "signers[0].zone"),
    ({"signers": [ONE, {**TWO, "identifier": 1}]}, "signers[1].identifier"),
    ({"signers": [ONE, {**TWO, "url": ONE["url"]}]}, "signers[1].url"),
    ({"signers": [ONE, {**TWO, "url": f"{ONE['url']}/"}]}, "signers[1].url"),
    ({"signers": [{**ONE, "name": "x"}, {**TWO, "name": "x"}]}, "signers[1].name"),
    ({"signers": [{**ONE, "name": "signer-2"}, TWO]}, "signers[1].name"),
    ({"keys": {}}, "keys"),
    ({"keys": {"a b": {}}}, "keys"),
    ({"keys": {"": {}}}, "keys"),
    ({"keys": {"../x": {}}}, "keys"),
    ({"keys": {"a\n": {}}}, "keys"),
    ({"keys": {"a": {"group": 1}}}, "keys[…].group"),
    ({"keys": {"a": {"min_signers": 1}}}, "keys[…].min_signers"),
    ({"keys": {"a": {"min_signers": 256}}}, "keys[…].min_signers"),
    ({"keys": {"a": {"threshold": 2}}}, "keys[…].threshold"),
    ({"keys": {"a": {}, "b": {}}}, "default_key"),
    ({"default_key": "b"}, "default_key"),
    ({"keys": {"a": {}}, "default_key": "default"}, "default_key"),
    ({"default_key": ""}, "default_key"),
    ({"server": {"socket": 1}}, "server.socket"),
    ({"server": {"socket_mode": "0666"}}, "server.socket_mode"),
    ({"server": {"socket_mode": "661"}}, "server.socket_mode"),
    ({"server": {"socket_mode": "0o660"}}, "server.socket_mode"),
    ({"server": {"socket_mode": "4660"}}, "server.socket_mode"),
    ({"server": {"socket_mode": "0680"}}, "server.socket_mode"),
    ({"server": {"socket_mode": "660\n"}}, "server.socket_mode"),
    ({"server": {"socket_mode": 660}}, "server.socket_mode"),
    ({"server": {"socket_owner": 0}}, "server.socket_owner"),
    ({"server": {"socket_group": 0}}, "server.socket_group"),
    ({"server": {"grace_seconds": 0}}, "server.grace_seconds"),
    ({"server": {"max_body_bytes": 1023}}, "server.max_body_bytes"),
    ({"server": {"max_body_bytes": 64 * 1024 * 1024 + 1}}, "server.max_body_bytes"),
    ({"server": {"body_seconds": -1}}, "server.body_seconds"),
    ({"server": {"max_connections": 0}}, "server.max_connections"),
    ({"server": {"bind": "x"}}, "server.bind"),
    ({"server": {"bind": "::1:7100"}}, "server.bind"),
    ({"server": {"metrics_bind": "localhost"}}, "server.metrics_bind"),
    ({"server": {"tls": "x"}}, "server.tls"),
    ({"server": {"tls": {"cert": 1}}}, "server.tls.cert"),
    ({"server": {"tls": {"key": 1}}}, "server.tls.key"),
    ({"server": {"tls": {"ca": 1}}}, "server.tls.ca"),
    ({"server": {"client_names": ["mint.example"]}}, "server.client_names[0]"),
    ({"server": {"client_names": "DNS:mint.example"}}, "server.client_names"),
    ({"server": {"token": {"audience": ""}}}, "server.token.audience"),
    ({"server": {"token": {"issuers": [""]}}}, "server.token.issuers[0]"),
    ({"server": {"token": {"leeway_seconds": 31}}}, "server.token.leeway_seconds"),
    ({"server": {"max_batch": 1025}}, "server.max_batch"),
    ({"signers": [], "signer_urls_allow": ["http://a.test"]}, "signer_urls_allow[0]"),
    ({"signer_urls_allow": ["https://signer-{identifier}.frost.svc", "https://*"]}, "signer_urls_allow[1]"),
    ({"signer_urls_allow": ["https://10.0.0.{identifier}"]}, "signer_urls_allow[0]"),
    ({"signer_urls_allow": ["https://frost.svc:7000/path"]}, "signer_urls_allow[0]"),
    ({"signer_urls_allow": ["https://{id}.frost.svc"]}, "signer_urls_allow[0]"),
    ({"signer_urls_allow": "https://frost.svc"}, "signer_urls_allow"),
    ({"signing": {"max_in_flight_per_caller": 0}}, "signing.max_in_flight_per_caller"),
    ({"idempotency": {"replay_seconds": 0}}, "idempotency.replay_seconds"),
    ({"idempotency": {"max_entries": 0}}, "idempotency.max_entries"),
    ({"idempotency": {"store_seconds": 0}}, "idempotency.store_seconds"),
    ({"idempotency": {"on_outage": "maybe"}}, "idempotency.on_outage"),
    ({"signing": {"budget_seconds": 0}}, "signing.budget_seconds"),
    ({"signing": {"budget_seconds": math.nan}}, "signing.budget_seconds"),
    ({"signing": {"call_seconds": math.inf}}, "signing.call_seconds"),
    ({"signing": {"call_seconds": "1"}}, "signing.call_seconds"),
    ({"signing": {"batches_per_signer": 0}}, "signing.batches_per_signer"),
    ({"signing": {"batches_per_signer": 65}}, "signing.batches_per_signer"),
    ({"signing": {"calls_per_signer": 0}}, "signing.calls_per_signer"),
    ({"signing": {"calls_per_signer": 1_000_001}}, "signing.calls_per_signer"),
    ({"signing": {"max_in_flight": 0}}, "signing.max_in_flight"),
    ({"signing": {"max_in_flight": 1.5}}, "signing.max_in_flight"),
    ({"signing": {"max_message_bytes": 65537}}, "signing.max_message_bytes"),
    ({"signing": {"plugin_seconds": 86401}}, "signing.plugin_seconds"),
    ({"signing": {"max_sessions": 65}}, "signing.max_sessions"),
    ({"signing": {"quarantine_seconds": 0.5}}, "signing.quarantine_seconds"),
    ({"signing": {"cool_down_seconds": 0}}, "signing.cool_down_seconds"),
    ({"signing": {"cooldown": 1}}, "signing.cooldown"),
    ({"stock": {"least": -1}}, "stock.least"),
    ({"stock": {"least": 8193}}, "stock.least"),
    ({"stock": {"most": 1.5}}, "stock.most"),
    ({"stock": {"most": 8193}}, "stock.most"),
    ({"stock": {"caller_share": 0}}, "stock.caller_share"),
    ({"stock": {"caller_share": 1.1}}, "stock.caller_share"),
    ({"stock": {"low": 1}}, "stock.low"),
    ({"audit": {"best_effort": "worm"}}, "audit.best_effort"),
    ({"audit": {"best_effort": [1]}}, "audit.best_effort[0]"),
    ({"audit": {"write_seconds": 0}}, "audit.write_seconds"),
    ({"audit": {"max_queue": 0}}, "audit.max_queue"),
    ({"audit": {"required": []}}, "audit.required"),
    ({"token": {"issuer": ""}}, "token.issuer"),
    ({"token": {"subject": 1}}, "token.subject"),
    ({"token": {"lifetime_seconds": 61}}, "token.lifetime_seconds"),
    ({"token": {"audience": "x"}}, "token.audience"),
    ({"token": {"plugin": "absent"}}, "token.plugin"),
    ({"tls": {"crl": 1}}, "tls.crl"),
    ({"tls": {"trust_domain": "Mint.example"}}, "tls.trust_domain"),
    ({"tls": {"trust_domain": "spiffe://mint.example"}}, "tls.trust_domain"),
    ({"server": {"tls": {"crl": 1}}}, "server.tls.crl"),
    ({"server": {"tls": {"trust_domain": ""}}}, "server.tls.trust_domain"),
    ({"callers": []}, "callers"),
    ({"callers": {"": {"in_process": True}}}, "callers"),
    ({"callers": {"a": {}}}, "callers.a"),
    ({"callers": {"a": {"in_process": False}}}, "callers.a"),
    ({"callers": {"a": {"in_process": 1}}}, "callers[…].in_process"),
    ({"callers": {"a": {"socket": {}}}}, "callers[…].socket"),
    ({"callers": {"a": {"unix": True}}}, "callers[…].unix"),
    ({"callers": {"a": {"unix": {"uid": -1}}}}, "callers[…].unix.uid"),
    ({"callers": {"a": {"unix": {"uid": "root"}}}}, "callers[…].unix.uid"),
    ({"callers": {"a": {"unix": {"gid": 4294967296}}}}, "callers[…].unix.gid"),
    ({"callers": {"a": {"unix": {"executable": "mint"}}}}, "callers[…].unix.executable"),
    ({"callers": {"a": {"unix": {"executable": "/mint\0"}}}}, "callers[…].unix.executable"),
    ({"callers": {"a": {"tcp": {"certificate": "mint.example"}}}}, "callers[…].tcp.certificate"),
    ({"callers": {"a": {"tcp": 1}}}, "callers[…].tcp"),
    ({"callers": {"a": {"tcp": {"subject": ""}}}}, "callers[…].tcp.subject"),
    ({"callers": {"a": {"tcp": {"issuer": 1}}}}, "callers[…].tcp.issuer"),
    ({"grants": {}}, "grants"),
    ({"grants": [{"opaque": True}]}, "grants[0].caller"),
    ({"grants": [{"caller": "a", "opaque": True}]}, "grants[0].caller"),
    ({**A, "grants": [{"caller": "a"}]}, "grants[0]"),
    ({**A, "grants": [{"caller": "a", "policy": "p", "opaque": True}]}, "grants[0]"),
    ({**A, "grants": [{"caller": "a", "policy": "q"}]}, "grants[0].policy"),
    ({**A, "grants": [{"caller": "a", "opaque": "yes"}]}, "grants[0].opaque"),
    ({**A, "grants": [{"caller": "a", "policy": "p", "key": "b"}]}, "grants[0].key"),
    ({**A, "grants": [{"caller": "a", "policy": "p"}, {"caller": "a", "opaque": True}]}, "grants[1]"),
    ({**A, "grants": [{"caller": "a", "policy": "p"}, {"caller": "a", "policy": "p", "key": "default"}]}, "grants[1]"),
    ({**A, "grants": [{"caller": "a", "policy": "p", "per_second": 0}]}, "grants[0].per_second"),
    ({**A, "grants": [{"caller": "a", "policy": "p", "burst": 0}]}, "grants[0].burst"),
    ({**A, "grants": [{"caller": "a", "policy": "p", "max_in_flight": 0}]}, "grants[0].max_in_flight"),
    ({"policies": []}, "policies"),
    ({"policies": {"p": {"tpy": ["JWT"]}}}, "policies[…].tpy"),
    ({"policies": {"p": {"alg": ["none"]}}}, "policies[…].alg[0]"),
    ({"policies": {"p": {"iss": ["*****"]}}}, "policies.p.iss"),
]


@pytest.mark.parametrize(("values", "path"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_value_is_refused_with_its_place(values: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _build(**values)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_the_table_of_wrong_values_has_every_key() -> None:
    tried = {re.sub(r"\[.*?\]", "", path) for _, path in WRONG}
    keys = {re.sub(r"\[\]|\.NAME", "", key) for key in _keys(Config)} - {"base"}
    assert keys - tried == set()


def test_signers_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"^signers: is missing"):
        Config.build({})


@pytest.mark.parametrize(
    ("url", "server_name"),
    [
        ("https://one.test", "one.test"),
        ("https://one.test/", "one.test"),
        ("https://one.test:1", "one.test"),
        ("https://ONE.test:65535", "one.test"),
        ("https://10.0.0.1:7101", "10.0.0.1"),
        ("https://[2001:db8::1]:7101", "2001:db8::1"),
        ("https://[::ffff:10.0.0.1]", "::ffff:10.0.0.1"),
        ("https://signer_1.svc", "signer_1.svc"),
    ],
)
def test_a_signers_url_gives_its_server_name(url: str, server_name: str) -> None:
    [node] = Config.build({"signers": [{**ONE, "url": url}]}).signer_nodes
    assert (node.url, node.server_name) == (url.rstrip("/"), server_name)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "one.test",
        "//one.test",
        "http://one.test",
        "HTTPS://one.test",
        "https:one.test",
        "https://",
        "https:///x",
        "https://one.test/v1",
        "https://one.test//",
        "https://one.test?",
        "https://one.test?a=1",
        "https://one.test#",
        "https://one.test#a",
        "https://user@one.test",
        "https://@one.test",
        "https://:password@one.test",
        "https://one.test\\@two.test",
        "https://one.test:",
        "https://one.test:0",
        "https://one.test:65536",
        "https://one.test:+1",
        "https://one.test:\u0667",
        "https://one.test:7101 ",
        " https://one.test",
        "https://one.test\n",
        "https://one\n.test",
        "https://one\t.test",
        "https://one test",
        "https://one.test\0",
        "https://øne.test",
        "https://one。test",
        "https://[::1",
        "https://::1",
        "https://[::1]x",
        "https://[1:2]",
        "https://[::1%25eth0]",
        "https://[fe80::1%eth0]",
    ],
)
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.build({"signers": [{**ONE, "url": url}]})
    assert caught.value.path == "signers[0].url"


@given(st.text(alphabet="https:/.@[]?#%\\ \t\n\0one:01é", max_size=24))
def test_no_url_raises_anything_but_a_config_error(url: str) -> None:
    try:
        [node] = Config.build({"signers": [{**ONE, "url": url}]}).signer_nodes
    except ConfigError:
        return
    assert node.url.startswith("https://")


def test_defaults() -> None:
    config = _build()
    [one, two] = config.signer_nodes
    assert (one.name, one.zone, two.name) == ("signer-1", "ad-1", "signer-2")
    assert config.main_key == "default"
    assert config.keys["default"].group == "group.json"
    assert config.tls_files.cert == Path("/tls/tls.crt")
    assert (config.dev, config.server.socket, config.plugins, config.audit.best_effort) == (False, None, {}, ())


@pytest.mark.parametrize(
    ("values", "main"),
    [
        ({}, "default"),
        ({"keys": {"mint": {}}}, "mint"),
        ({"keys": {"a": {}, "b": {}}, "default_key": "b"}, "b"),
        ({"keys": {"a": {}}, "default_key": "a"}, "a"),
    ],
)
def test_the_key_of_requests_that_name_none(values: dict[str, Any], main: str) -> None:
    assert _build(**values).main_key == main


@pytest.mark.parametrize("mode", ["0660", "660", "0600", "0620", "000"])
def test_modes_of_the_socket(mode: str) -> None:
    assert _build(server={"socket_mode": mode}).server.socket_mode == mode


@pytest.mark.parametrize(
    ("toml", "environ", "place", "value"),
    [
        ('state = "/a"', {"FROST_STATE": "/b"}, "state", "/b"),
        ('state = "/a"', {}, "state", "/a"),
        ('state = "/a"', {"FROST_STATE": ""}, "state", "/a"),
        ("", {"FROST_STATE": "b/c"}, "state", str(Path.cwd() / "b/c")),
        ('tls.cert = "/a"', {"TLS_CERT_PEM": "/b"}, "tls.cert", "/b"),
        ("", {"TLS_CERT_PEM": ""}, "tls.cert", "/tls/tls.crt"),
        ('tls.key = "/a"', {"TLS_KEY_PEM": "/b"}, "tls.key", "/b"),
        ('tls.ca = "/a"', {"TLS_SERVER_CA": "b.crt"}, "tls.ca", str(Path.cwd() / "b.crt")),
        ('server.socket = "/a"', {"FROST_SIDECAR_SOCKET": "/b"}, "server.socket", "/b"),
        ("", {"FROST_SIDECAR_SOCKET": "s"}, "server.socket", str(Path.cwd() / "s")),
        ('log.level = "error"', {"RUST_LOG": "warn"}, "log.level", "warn"),
        ("", {"RUST_LOG": "warn", "LOG_LEVEL": "debug"}, "log.level", "debug"),
        ("", {"RUST_LOG": "warn", "LOG_LEVEL": ""}, "log.level", "warn"),
        ("", {"RUST_LOG": "info,hyper=warn"}, "log.level", "info"),
        ("", {"RUST_LOG": "hyper=warn, error ,rustls[span{a=1,b=2}]=trace"}, "log.level", "error"),
        ("", {"RUST_LOG": "info,hyper=warn,debug"}, "log.level", "debug"),
        ("", {"RUST_LOG": "hyper=warn"}, "log.level", "info"),
        ("", {"RUST_LOG": ",, "}, "log.level", "info"),
        ("", {"RUST_LOG": "frost_coordinator"}, "log.level", "info"),
        ("", {"RUST_LOG": "tower_http, OFF"}, "log.level", "OFF"),
        ('log.level = "error"', {"RUST_LOG": "hyper=warn"}, "log.level", "error"),
        ("", {"RUST_LOG": "info,hyper=warn", "LOG_LEVEL": "error"}, "log.level", "error"),
        ("", {"FROST_SIDECAR_DEV": "1"}, "dev", True),
        ("", {"FROST_SIDECAR_DEV": "True"}, "dev", True),
        ("", {"FROST_SIDECAR_DEV": "YES"}, "dev", True),
        ("dev = true", {"FROST_SIDECAR_DEV": "0"}, "dev", False),
        ("dev = true", {"FROST_SIDECAR_DEV": "no"}, "dev", False),
        ("dev = true", {"FROST_SIDECAR_DEV": "False"}, "dev", False),
        ("dev = true", {"FROST_SIDECAR_DEV": ""}, "dev", False),
        ("dev = true", {}, "dev", True),
        ("", {"UNRELATED": "x"}, "dev", False),
        ("", {"BIND": "127.0.0.1:7100"}, "server.bind", "127.0.0.1:7100"),
        ('server.bind = "0.0.0.0:1"', {"BIND": "[::1]:7100"}, "server.bind", "[::1]:7100"),
    ],
)
def test_the_environment_wins_over_the_file(
    tmp_path: Path, toml: str, environ: dict[str, str], place: str, value: object
) -> None:
    config: Any = Config.load(_file(tmp_path, f"{toml}\n{MINIMAL}"), environ)
    for part in place.split("."):
        config = getattr(config, part)
    assert config == value


@pytest.mark.parametrize(
    ("toml", "environ", "settings"),
    [
        ("", {"JWT_HS256_B64": "c2VjcmV0"}, {"secret_b64": "c2VjcmV0"}),
        ("", {"JWT_HS256_B64_FILE": "/s"}, {"secret_file": "/s"}),
        ("", {"JWT_HS256_B64_FILE": "s"}, {"secret_file": str(Path.cwd() / "s")}),
        ("", {"JWT_HS256_B64_FILE": "/s", "JWT_HS256_B64": "c2VjcmV0"}, {"secret_file": "/s"}),
        ("", {"JWT_HS256_B64_FILE": "", "JWT_HS256_B64": "c2VjcmV0"}, {"secret_b64": "c2VjcmV0"}),
        ('secret_b64 = "b2xk"', {"JWT_HS256_B64_FILE": "/s"}, {"secret_file": "/s"}),
        ('secret_file = "/old"', {"JWT_HS256_B64": "c2VjcmV0"}, {"secret_b64": "c2VjcmV0"}),
        ('secret_file = "/old"', {"JWT_HS256_B64_FILE": "/s"}, {"secret_file": "/s"}),
        ('secret_file = "/old"', {"JWT_HS256_B64_FILE": "", "JWT_HS256_B64": ""}, {"secret_file": "/old"}),
    ],
)
def test_the_token_secret_has_one_source(
    tmp_path: Path, toml: str, environ: dict[str, str], settings: dict[str, str]
) -> None:
    config = Config.load(_file(tmp_path, f"{MINIMAL}\n[plugins.auth_hs256]\n{toml}\n"), environ)
    assert config.plugins == {"auth_hs256": settings}


def test_no_spelling_of_a_configuration_shows_a_plugins_settings() -> None:
    config = _build(plugins={"auth_hs256": {"secret_b64": "c2VjcmV0"}})
    node = NodeConfig.build({"name": "signer-1", "dev": True, "plugins": {"auth_hs256": {"secret_b64": "c2VjcmV0"}}})
    for each in (config, node):
        assert "c2VjcmV0" not in f"{each} {each!r} {pretty_repr(each)} {pretty_repr([each])}"
        assert "auth_hs256" in repr(each)


def test_a_variable_loads_no_plugin(tmp_path: Path) -> None:
    environ = {"JWT_HS256_B64_FILE": "/s", "JWT_HS256_B64": "c2VjcmV0"}
    assert Config.load(_file(tmp_path), environ).plugins == {}
    assert Config.load(_file(tmp_path, f"plugins.other = {{}}\n{MINIMAL}"), environ).plugins == {"other": {}}


@pytest.mark.parametrize(
    ("toml", "environ", "path"),
    [
        ("", {"FROST_SIDECAR_DEV": "on"}, "FROST_SIDECAR_DEV"),
        ("", {"FROST_SIDECAR_DEV": " 1"}, "FROST_SIDECAR_DEV"),
        ("tls = 5", {"TLS_KEY_PEM": "/k"}, "tls"),
        ("server = []", {"FROST_SIDECAR_SOCKET": "/s"}, "server"),
        ("plugins = 5", {"JWT_HS256_B64_FILE": "/s"}, "plugins"),
        ('plugins = "auth_hs256"', {"JWT_HS256_B64_FILE": "/s"}, "plugins"),
        ('plugins = ["auth_hs256"]', {"JWT_HS256_B64": "c2VjcmV0"}, "plugins"),
        ("plugins.auth_hs256 = 5", {"JWT_HS256_B64": "c2VjcmV0"}, "plugins.auth_hs256"),
        ('base = "/"', {}, "base"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path: Path, toml: str, environ: dict[str, str], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load(_file(tmp_path, f"{toml}\n{MINIMAL}"), environ)
    assert caught.value.path == path


def test_the_default_state_counts_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it did for the original: a deployment that sets no FROST_STATE finds its state where it was."""
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    config = Config.load(_file(tmp_path / "etc"), {})
    assert config.path(config.state) == tmp_path / "frost_state"


def test_relative_paths_count_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    _file(tmp_path / "etc", f'state = "keys"\ntls.cert = "../tls.crt"\n{MINIMAL}')
    monkeypatch.chdir(tmp_path)
    config = Config.load("etc/frost-sidecar.toml", {"TLS_KEY_PEM": "own.key"})
    monkeypatch.chdir("/")
    assert config.path(config.state) == tmp_path / "etc" / "keys"
    assert config.tls_files.cert == tmp_path / "etc" / ".." / "tls.crt"
    assert config.tls_files.key == tmp_path / "own.key"


@pytest.mark.parametrize("content", [b"signers = [", b"a = 1\na = 2", b"\xff\xfe", b"x = '\xff'"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="not a TOML file") as caught:
        Config.load(file, {})
    assert caught.value.path == str(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read") as caught:
            Config.load(path, {})
        assert caught.value.path == str(path)


def _keys(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Every key of a configuration as the page spells it: ``server.socket``, ``signers[].url``, ``keys.NAME.group``."""
    fields: dict[str, msgspec.inspect.Type] = {}
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        fields[field.encode_name] = field.type
    for name, field_type in fields.items():
        match field_type:
            case msgspec.inspect.StructType(cls=inner):
                yield from _keys(inner, f"{prefix}{name}.")
            case msgspec.inspect.DictType(value_type=msgspec.inspect.StructType(cls=inner)) if inner is JwsRules:
                yield f"{prefix}{name}.NAME"  # a page of its own has its keys: docs/policy.md
            case msgspec.inspect.DictType(value_type=msgspec.inspect.StructType(cls=inner)):
                yield from _keys(inner, f"{prefix}{name}.NAME.")
            case msgspec.inspect.UnionType(types=(msgspec.inspect.StructType(cls=inner), *_)) if inner is not TlsConfig:
                yield f"{prefix}{name}"
                yield from _keys(inner, f"{prefix}{name}.")
            case msgspec.inspect.DictType():
                yield f"{prefix}{name}.NAME"
            case msgspec.inspect.VarTupleType(item_type=msgspec.inspect.StructType(cls=inner)):
                yield f"{prefix}{name}"
                yield from _keys(inner, f"{prefix}{name}[].")
            case _:
                yield f"{prefix}{name}"


REQUIRED_BY_CHECK = {"clients.names"}
"""Keys with a default that is refused later: the type cannot say that ``dev`` makes the difference."""


def test_what_is_required_outside_development() -> None:
    given: list[dict[str, Any]] = [{}, {"clients": {}}, {"clients": {"names": []}}]
    for values in given:
        with pytest.raises(ConfigError) as caught:
            NodeConfig.build({"name": "signer-1", **values})
        assert {caught.value.path} == REQUIRED_BY_CHECK
        assert NodeConfig.build({"name": "signer-1", "dev": True, **values}).clients.names == ()


def _section(title: str) -> str:
    """The page from one heading to the next."""
    return re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[
        ["", "Environment", "Coordinator and signer alike", "Coordinator", "Signer node"].index(title)
    ]


def _rows(title: str) -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in _section(title).splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in rows}


def _default(kind: type[msgspec.Struct], key: str) -> object:
    """The default of a key, or :data:`msgspec.NODEFAULT`."""
    *sections, name = re.sub(r"\[\]|\.NAME", "", key).split(".")
    info: Any = msgspec.inspect.type_info(kind)
    for section in sections:
        inner = {field.encode_name: field.type for field in info.fields}[section]
        info = getattr(inner, "value_type", None) or getattr(inner, "item_type", None) or inner
        info = info.types[0] if isinstance(info, msgspec.inspect.UnionType) else info
    field = {field.encode_name: field for field in info.fields}[name]
    return (
        field.default_factory()
        if field.default is msgspec.NODEFAULT and callable(field.default_factory)
        else field.default
    )


@pytest.mark.parametrize(
    ("kind", "title"),
    [(Config, "Coordinator"), (NodeConfig, "Signer node"), (ProcessConfig, "Coordinator and signer alike")],
)
def test_the_page_has_every_key_and_its_default(kind: type[ProcessConfig], title: str) -> None:
    common = set(_keys(ProcessConfig))
    keys = (common if kind is ProcessConfig else set(_keys(kind)) - common) - {"base"}
    rows = _rows(title)
    assert set(rows) == keys
    for key, (_, said, _) in rows.items():
        default = _default(kind, key)
        if isinstance(default, tuple):
            default = list(default)
        if default is msgspec.NODEFAULT or key in REQUIRED_BY_CHECK:
            assert said == "required", key
        elif isinstance(default, bool):
            assert said == f"`{str(default).lower()}`", key
        elif default is not None and default != {}:
            assert said.strip("`").replace('"', "'") == str(default), key


def test_the_page_has_every_variable() -> None:
    rows = _rows("Environment")
    places = {name: row[0].strip("`") for name, row in rows.items() if row[0]}
    assert places == ENVIRONMENT
    assert set(rows) - set(places) == {"FROST_SIDECAR_CONFIG"}


@pytest.mark.parametrize(("kind", "title"), [(Config, "Coordinator"), (NodeConfig, "Signer node")])
def test_the_pages_files_load(tmp_path: Path, kind: type[ProcessConfig], title: str) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", _section(title), re.DOTALL)
    config = kind.load(_file(tmp_path, example), {})
    assert config.path(config.state) == Path("/var/lib/frost")
    assert "auth_hs256" in config.plugins
