"""Inputs that were findings once: each must be read, or refused, as its decoder promises."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from frost_ed25519 import keys

from frost_sidecar.addressing import parse_address
from frost_sidecar.config import Config, ProcessConfig
from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError, MalformedRequest
from frost_sidecar.idempotency.answer import decode_answer, encode_answer
from frost_sidecar.keygen.importer import import_group
from frost_sidecar.keygen.tool_files import read_tool_file
from frost_sidecar.model import Signed
from frost_sidecar.policy import parse_jws
from frost_sidecar.signer import NodeConfig


@pytest.mark.parametrize("address", ["[]:7100", "[]:0"])
def test_brackets_around_nothing_are_no_host(address: str) -> None:
    """Refused with the configuration, and not when the socket is bound."""
    with pytest.raises(ConfigError):
        parse_address(address, path="server.metrics_bind")


@pytest.mark.parametrize("payload", [b"a.b", b'{"host":"x.test"}', b"e30"])
def test_an_unencoded_payload_has_its_own_reading_or_none(payload: bytes) -> None:
    """RFC 7797: PyJWT verifies it, the payload beside the token; a policy must not see nothing, nor another one."""
    key = Ed25519PrivateKey.generate()
    protected = b64url(json.dumps({"alg": "EdDSA", "b64": False, "crit": ["b64"]}).encode()).encode()
    message = protected + b"." + payload
    token = protected + b".." + b64url(key.sign(message)).encode()
    read = jwt.PyJWS().decode_complete(token, key.public_key(), algorithms=["EdDSA"], detached_payload=payload)
    assert read["payload"] == payload
    try:
        parsed = parse_jws(message)
    except MalformedRequest:
        return
    assert parsed is not None
    assert parsed.payload == payload


def test_a_stored_signature_has_one_spelling() -> None:
    """Two bits of the last letter of 32 bytes in base64 say nothing, and must be zero."""
    stored = encode_answer(Signed(bytes(64), bytes(32), (1, 2), "default", "r-1"))
    other: dict[str, Any] = msgspec.json.decode(stored)
    other["group_public"] = base64.b64encode(bytes(32)).decode()[:-2] + "B="
    with pytest.raises(ValueError, match=r".+"):
        decode_answer(json.dumps(other).encode())


@pytest.mark.parametrize("value", ["[" * 5000, "9" * 5000], ids=["deep", "long"])
@pytest.mark.parametrize("kind", [Config, NodeConfig])
def test_toml_that_the_parser_gives_up_is_refused_with_its_path(
    kind: type[ProcessConfig], value: str, tmp_path: Path
) -> None:
    """As an error of configuration, and not with a thousand lines of traceback."""
    file = tmp_path / "frost.toml"
    file.write_text(f"state = {value}")
    with pytest.raises(ConfigError, match=r"frost\.toml"):
        kind.load(file, {})


def test_an_imported_share_names_the_key_of_its_group(tmp_path: Path) -> None:
    """A signer with another group key in its share computes another challenge, and looks like a liar."""
    shares, public = keys.generate_with_dealer(3, 2)
    stranger = keys.generate_with_dealer(3, 2)[1].verifying_key.serialize()
    package = keys.KeyPackage.from_secret_share(next(iter(shares.values()))).serialize()
    key = public.verifying_key.serialize()
    source = tmp_path / "credentials.toml"
    source.touch(0o600)
    source.write_text(
        f'[group.{key.hex()}]\nciphersuite = "FROST-ED25519-SHA512-v1"\n'
        f'key_package = "{package.replace(key, stranger).hex()}"\npublic_key_package = "{public.serialize().hex()}"\n'
    )
    with pytest.raises(ConfigError):
        import_group([source], tmp_path / "keys")


def test_a_share_in_the_place_of_the_ciphersuite_is_not_quoted(tmp_path: Path) -> None:
    """Lines that were exchanged in a file with shares end in an error, and errors end in logs."""
    share = secrets.token_hex(32)
    source = tmp_path / "credentials.toml"
    source.touch(0o600)
    source.write_text(f'[group.a]\nciphersuite = "{share}"\nkey_package = "FROST-ED25519-SHA512-v1"\n')
    with pytest.raises(ConfigError) as caught:
        read_tool_file(source)
    assert share[:10] not in str(caught.value)
