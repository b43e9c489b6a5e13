"""The published vectors: RFC 9591, and the crate's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import frost_ed25519
import pytest
from frost_ed25519 import (
    Signature,
    SigningKey,
    SigningPackage,
    VerifyingKey,
    _native,
    aggregate,
    verify_signature_share,
)
from frost_ed25519.keys import (
    KeyPackage,
    PublicKeyPackage,
    SecretShare,
    VerifiableSecretSharingCommitment,
    dkg,
)
from frost_ed25519.round1 import SigningCommitments
from frost_ed25519.round2 import SignatureShare

HERE = Path(__file__).parent
PROJECT = HERE.parent
SIGNING = ["rfc9591_e1", "crate_small", "crate_big_identifier"]

Json = dict[str, Any]


def load(name: str) -> Json:
    vector: Json = json.loads((HERE / "vectors" / f"{name}.json").read_text())
    return vector


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.fixture(scope="module")
def deterministic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a copy of the package, built with the feature `deterministic`.

    It has its own target directory, which makes a second run quick and keeps
    the normal build what it is.
    """
    cargo = shutil.which("cargo")
    assert cargo is not None, "building the feature `deterministic` needs cargo"
    target = PROJECT / "target" / "deterministic"
    command = [cargo, "build", "--release", "--locked", "--features", "deterministic"]
    # The generated code is the same kind, the linking is quicker.
    command += ["--config", "profile.release.lto=false"]
    command += ["--config", "profile.release.codegen-units=16"]
    environment = os.environ | {"CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable}
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True)
    names = {"darwin": "lib_native.dylib", "win32": "_native.dll"}
    library = target / "release" / names.get(sys.platform, "lib_native.so")
    where = tmp_path_factory.mktemp("deterministic")
    package = where / "frost_ed25519"
    shutil.copytree(
        Path(frost_ed25519.__file__).parent,
        package,
        ignore=shutil.ignore_patterns("_native.*.so", "_native.*.pyd", "__pycache__"),
    )
    shutil.copy(
        library, package / ("_native.pyd" if sys.platform == "win32" else "_native.abi3.so")
    )
    return where


def recompute(where: Path, what: str, vector: Json) -> Json:
    process = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "vectors_worker.py"), what],
        env=os.environ | {"PYTHONPATH": str(where), "PYTHONDONTWRITEBYTECODE": "1"},
        input=json.dumps(vector),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    computed: Json = json.loads(process.stdout)
    return computed


def test_normal_build_has_no_deterministic_functions() -> None:
    assert not hasattr(_native, "vectors")
    given_away = ("randomness", "coefficient", "reveal", "with_secret", "vectors", "binding_factor")
    names = {name for name in dir(_native) if any(part in name for part in given_away)}
    assert not names
    library = Path(_native.__file__).read_bytes()
    assert b"commit_with_randomness" not in library
    assert b"reveal_nonces" not in library


@pytest.mark.parametrize("name", SIGNING)
def test_every_value_of_a_signing_vector(deterministic: Path, name: str) -> None:
    vector = load(name)
    assert recompute(deterministic, "signing", vector) == vector


def test_every_value_of_the_key_generation_vector(deterministic: Path) -> None:
    vector = load("crate_dkg")
    assert recompute(deterministic, "generation", vector) == vector


def header() -> Json:
    return {"version": 0, "ciphersuite": frost_ed25519.CIPHERSUITE}


def key_package(vector: Json, who: str) -> KeyPackage:
    """Read a published signing share, with the public parts computed by the binding."""
    group = vector["group"]
    commitment = [group["verifying_key"], public_coefficient(group)]
    share = SecretShare.from_json(
        json.dumps(
            {
                "header": header(),
                "identifier": int(who).to_bytes(32, "little").hex(),
                "signing_share": group["signing_shares"][who],
                "commitment": commitment,
            }
        )
    )
    return KeyPackage.from_secret_share(share)


def public_coefficient(group: Json) -> str:
    (coefficient,) = group["coefficients"]
    return SigningKey.deserialize(raw(coefficient)).verifying_key.serialize().hex()


@pytest.mark.parametrize("name", SIGNING)
def test_normal_build_agrees_with_the_published_values(name: str) -> None:
    vector = load(name)
    group = vector["group"]
    key = SigningKey.deserialize(raw(group["signing_key"])).verifying_key
    assert key.serialize() == raw(group["verifying_key"])
    packages = {int(who): key_package(vector, who) for who in group["signing_shares"]}
    assert {package.min_signers for package in packages.values()} == {group["min_signers"]}
    assert {package.verifying_key for package in packages.values()} == {key}
    public = PublicKeyPackage(
        {who: package.verifying_share for who, package in packages.items()},
        key,
        group["min_signers"],
    )
    commitments = {
        int(who): SigningCommitments(
            raw(signer["hiding"]["commitment"]), raw(signer["binding"]["commitment"])
        )
        for who, signer in vector["signers"].items()
    }
    message = raw(vector["message"])
    package = SigningPackage(commitments, message)
    shares = {
        int(who): SignatureShare.deserialize(raw(signer["signature_share"]))
        for who, signer in vector["signers"].items()
    }
    for who, share in shares.items():
        verify_signature_share(who, packages[who].verifying_share, share, package, key)
    signature = aggregate(package, shares, public)
    assert signature.serialize() == raw(vector["signature"])
    key.verify(message, Signature.deserialize(raw(vector["signature"])))


def test_normal_build_agrees_with_the_published_key_generation() -> None:
    vector = load("crate_dkg")
    commitments = {
        int(who): VerifiableSecretSharingCommitment.deserialize(
            [raw(part) for part in participant["commitment"]]
        )
        for who, participant in vector["participants"].items()
    }
    public = PublicKeyPackage.from_dkg_commitments(commitments)
    assert public.verifying_key == VerifyingKey.deserialize(raw(vector["verifying_key"]))
    assert (public.min_signers, public.max_signers) == (2, 3)
    for who, share in public.verifying_shares.items():
        expected = vector["participants"][str(int(who))]["verifying_share"]
        assert share.serialize() == raw(expected)
    for participant in vector["participants"].values():
        for share in participant["received"].values():
            packed = json.loads(dkg.round2.Package(raw(share)).to_json())
            assert packed == {"header": header(), "signing_share": share}
