"""Files with keys and secrets: group files, share files, what other tools wrote, and the secret of the tokens."""

from __future__ import annotations

import atexit
import base64
import hashlib
import json
import os
import secrets
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import frost_ed25519 as frost
import pytest
from frost_ed25519 import keys
from frost_sidecar_auth_hs256.file import SecretFile
from frost_sidecar_auth_hs256.secret import MIN_BYTES, Secret, find_weakness, parse_secret

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen import content, group_file
from frost_sidecar.keygen.group import Group
from frost_sidecar.keygen.importer import _check
from frost_sidecar.keygen.tool_files import ToolFile, read_tool_file
from frost_sidecar.signer.keystore import load_share
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_json, damage_text
from tests.fuzz.test_fuzz_binding import dealt, secret_texts

Package = tuple[keys.PublicKeyPackage, int]


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="fuzz-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def _private(name: str) -> tuple[Path, int]:
    """A private file, open for writing until the end: to open it for each input would take most of the time."""
    path = _folder() / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    atexit.register(os.close, descriptor)
    return path, descriptor


def written(name: str, data: bytes) -> Path:
    """A private file with ``data``."""
    path, descriptor = _private(name)
    os.ftruncate(descriptor, os.pwrite(descriptor, data, 0))
    return path


@cache
def _publics() -> list[keys.PublicKeyPackage]:
    return [dealt()[2], keys.generate_with_dealer(5, 3)[1], keys.generate_with_dealer(2, 2)[1]]


def group_seeds() -> list[bytes]:
    """Group files in both forms, with the threshold and without."""
    undated = [keys.PublicKeyPackage(each.verifying_shares, each.verifying_key, None) for each in _publics()]
    return [
        *(group_file.encode(each).encode() for each in (*_publics(), *undated)),
        *(each.to_json().encode() for each in (*_publics(), *undated)),
    ]


def _group_read(data: bytes, value: Package) -> None:
    package, threshold = value
    assert package.min_signers == threshold == package.derive_min_signers()
    assert 2 <= threshold <= package.max_signers <= 255
    assert group_file.decode(group_file.encode(package).encode()) == value
    assert group_file.decode(package.to_json().encode()) == value
    given = json.loads(data)
    if "public_key_package" in given:
        assert package.to_bincode().startswith(bytes(given["public_key_package"]))
    else:
        assert given["verifying_key"].lower() == package.verifying_key.serialize().hex()


def _file_read(data: bytes, group: Group) -> None:
    assert group_file.decode(data) == (group.package, group.min_signers)
    assert group.public == group.package.verifying_key.serialize()
    assert all(1 <= each <= 65535 for each in group.identifiers)


def share_seeds() -> list[bytes]:
    """Share files."""
    return [each.to_json().encode() for each in dealt()[1]]


def _share_read(data: bytes, share: keys.KeyPackage) -> None:
    given, mine = json.loads(data), json.loads(share.to_json())
    assert given["signing_share"].lower() == mine["signing_share"]
    assert given["verifying_key"].lower() == share.verifying_key.serialize().hex()
    assert 1 <= int(share.identifier) <= 65535
    assert share.min_signers >= 2


def tool_seeds() -> list[bytes]:
    """JSON files of the Zcash Foundation's tools."""
    shares, packages, public = dealt()
    texts = [*(each.to_json() for each in shares), *(each.to_json() for each in packages), public.to_json()]
    return [text.encode() for text in texts]


def credential_seeds() -> list[bytes]:
    """The file of a user of ``frost-client``."""
    _, packages, public = dealt()
    key = public.verifying_key.serialize().hex()
    text = (
        f'version = 0\n[group.{key}]\nciphersuite = "{frost.CIPHERSUITE}"\ndescription = "a"\n'
        f'key_package = "{packages[0].serialize().hex()}"\npublic_key_package = "{public.serialize().hex()}"\n'
    )
    return [text.encode(), text.replace("description", 'server_url = "x"\ndescription').encode()]


def _is_checked(found: ToolFile, share: keys.KeyPackage) -> bool:
    """Whether the import takes the share for one of the group's, as far as the file says what that is."""
    if found.public is None:
        return True
    try:
        _check(found, share, found.public[0])
    except ConfigError:
        return False
    return True


def _tool_read(_data: bytes, found: ToolFile) -> None:
    assert len(found.group) == 32
    assert found.public is not None or found.share is not None
    assert not found.exposed
    if found.public is not None:
        package, threshold = found.public
        assert package.verifying_key.serialize() == found.group
        assert package.derive_min_signers() == threshold
    if found.share is not None and _is_checked(found, found.share):
        assert found.share.verifying_key.serialize() == found.group, "a share of another group is imported"
    if found.commitment is not None:
        assert found.commitment.serialize()[0] == found.group


@cache
def _texts() -> list[str]:
    return [
        base64.b64encode(secrets.token_bytes(32)).decode(),
        base64.urlsafe_b64encode(secrets.token_bytes(64)).decode().rstrip("="),
    ]


def secret_seeds() -> list[bytes]:
    """Files with the secret of the tokens."""
    return [*(each.encode() + b"\n" for each in _texts()), base64.b64encode(b"0123456789abcdef" * 4)]


def _read_secret(data: bytes) -> Any:
    return parse_secret(data.decode("utf-8", "surrogateescape"), "plugins.auth_hs256.secret_b64", dev=False)


def _secret_read(data: bytes, value: tuple[Secret, tuple[str, ...]]) -> None:
    secret, forgiven = value
    text = "".join(data.decode().split()).replace("-", "+").replace("_", "/")
    assert base64.b64decode(text + "=" * (-len(text) % 4), validate=True) == secret.reveal()
    assert not forgiven
    assert len(secret.reveal()) >= MIN_BYTES
    assert find_weakness(secret.reveal()) is None
    assert secret.matches(_read_secret(base64.b64encode(secret.reveal()))[0])
    assert hashlib.sha256(secret.reveal()).hexdigest() not in repr(secret)


TARGETS: Final = [
    Target("group file", group_seeds, group_file.decode, (content.WrongContent,), _group_read),
    Target(
        "group file, loaded",
        group_seeds,
        lambda data: Group.load("default", written("group.json", data)),
        (ConfigError,),
        _file_read,
    ),
    Target(
        "share file",
        share_seeds,
        lambda data: load_share(written("share.json", data), setting="keys.default.share"),
        (ConfigError,),
        _share_read,
        secrets=secret_texts,
        bare=True,
    ),
    Target(
        "import, JSON",
        tool_seeds,
        lambda data: read_tool_file(written("tool.json", data)),
        (ConfigError,),
        _tool_read,
        mutate=damage_json,
        secrets=secret_texts,
        bare=True,
    ),
    Target(
        "import, TOML",
        credential_seeds,
        lambda data: read_tool_file(written("credentials.toml", data)),
        (ConfigError,),
        _tool_read,
        mutate=damage_text,
        secrets=secret_texts,
        bare=True,
    ),
    Target(
        "token secret", secret_seeds, _read_secret, (ConfigError,), _secret_read, mutate=damage_bytes, secrets=_texts
    ),
    Target(
        "token secret, file",
        secret_seeds,
        lambda data: SecretFile(written("secret", data), "plugins.auth_hs256.secret_file", dev=False).read(),
        (ConfigError,),
        lambda data, reading: _secret_read(data, (reading.secret, reading.forgiven)),
        mutate=damage_text,
        secrets=_texts,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
