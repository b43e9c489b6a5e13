"""docs/secrets.md: its manifests parse, fit each other, and make the files that its configuration names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from frost_sidecar.signer import NodeConfig
from tests.openbao import WORKLOAD

PAGE = Path(__file__).parent.parent / "docs" / "secrets.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def manifests(kind: str) -> list[dict[str, Any]]:
    every = [each for block in blocks("yaml") for each in yaml.safe_load_all(block)]
    assert all({"apiVersion", "kind", "metadata", "spec"} == set(each) for each in every)
    return [each for each in every if each["kind"] == kind]


def pod() -> dict[str, Any]:
    (deployment,) = manifests("Deployment")
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def test_the_manifests_make_each_file_that_the_configuration_names() -> None:
    (text,) = blocks("toml")
    config = NodeConfig.build({**tomllib.loads(text), "base": "/"})
    (mount,) = [each["mountPath"] for each in pod()["containers"][0]["volumeMounts"] if each["name"] == "secrets"]
    named = {
        config.share_path("default"),
        config.seal_key_path,
        config.tls_files.cert,
        config.tls_files.key,
        config.tls_files.ca,
        config.path(config.plugins["auth_hs256"]["secret_file"]),
    }
    share = re.findall(r"--from-file=(\S+)", PAGE.read_text("utf-8"))
    for external in manifests("ExternalSecret"):
        keys = [each["secretKey"] for each in external["spec"]["data"]]
        assert named == {Path(mount, name) for name in ["tls.crt", "tls.key", "ca.crt", *keys, *share]}


def test_the_volume_is_what_a_signer_reads() -> None:
    (volume,) = [each["projected"] for each in pod()["volumes"] if each["name"] == "secrets"]
    assert volume["defaultMode"] == 0o440
    assert pod()["securityContext"]["fsGroup"] == 10001
    sources = {each["secret"]["name"] for each in volume["sources"]}
    (certificate,) = manifests("Certificate")
    targets = {each["spec"]["target"]["name"] for each in manifests("ExternalSecret")}
    assert sources == {certificate["spec"]["secretName"], *targets, "frost-signer-share"}


def test_stores_and_issuers_are_there_and_use_the_pods_account() -> None:
    stores = {each["metadata"]["name"] for each in manifests("SecretStore")}
    assert {each["spec"]["secretStoreRef"]["name"] for each in manifests("ExternalSecret")} == stores
    (issuer,) = manifests("Issuer")
    (certificate,) = manifests("Certificate")
    assert certificate["spec"]["issuerRef"]["name"] == issuer["metadata"]["name"]
    accounts = re.findall(r"serviceAccountRef: \{name: (\S+)\}", PAGE.read_text("utf-8"))
    assert set(accounts) == {pod()["serviceAccountName"]}
    assert {each["metadata"]["namespace"] for block in blocks("yaml") for each in yaml.safe_load_all(block)} == {
        "frost-1"
    }


def test_the_role_of_the_page_is_the_role_of_the_tests() -> None:
    (command,) = [each for each in blocks("console") if "pki/roles/workload" in each]
    given = dict(re.findall(r"(\w+)=('[^']*'|\S+)", command))
    for name, value in WORKLOAD.items():
        if name in {"max_ttl", "not_before_duration"}:  # a minute in the tests
            continue
        spelled = value[0] if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
        assert given.pop(name).strip("'") == spelled, name
    assert set(given) == {"max_ttl", "not_before_duration"}
