"""``/.well-known/jwks.json`` and ``/keys``: what verifiers and clients learn of the keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc.jwk import KeySet, OKPKey

from frost_sidecar.encoding import b64decode, b64encode
from frost_sidecar.errors import UnknownKey
from frost_sidecar.keygen.dealer import deal
from frost_sidecar.testing.cluster import MemoryCluster
from frost_sidecar.testing.sidecar import MemorySidecar


async def test_the_set_is_what_independent_libraries_read(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http:
        async with http.get("/.well-known/jwks.json") as response:
            assert (response.status, response.content_type) == (200, "application/jwk-set+json")
            assert response.headers["Cache-Control"] == "public, max-age=300"
            found = await response.json(content_type=None)
        async with http.post("/sign", json={"msg_b64": b64encode(b"message")}) as response:
            answer = await response.json()
    [key] = KeySet.import_key_set(found).keys
    assert isinstance(key, OKPKey)
    assert key.kid == key.thumbprint() == found["keys"][0]["kid"]
    assert isinstance(key.public_key, Ed25519PublicKey)
    key.public_key.verify(b64decode(answer["signature_b64"]), b"message")
    assert "d" not in found["keys"][0]


async def test_every_key_is_published_once_and_named(short_path: Path) -> None:
    other = deal(short_path / "other", min_signers=2, max_signers=3)
    keys = {"default": {}, "copy": {}, "other": {"group": str(other.group_file)}}
    cluster = MemoryCluster(short_path / "keys", settings={"keys": keys, "default_key": "other"})
    async with cluster.coordinator() as coordinator:
        published = await coordinator.jwks()
        assert [b64decode(key["x"]) for key in published["keys"]] == [cluster.group_public, other.group_public]
        published["keys"].clear()
        assert len((await coordinator.jwks())["keys"]) == 2  # a caller's copy is its own
        assert await coordinator.group_public() == other.group_public
        assert await coordinator.group_public("copy") == cluster.group_public
        with pytest.raises(UnknownKey, match="copy, default, other"):
            await coordinator.group_public("nobody")


async def test_keys_by_name(short_path: Path) -> None:
    sidecar = MemorySidecar(short_path)
    async with sidecar.serving() as http, http.get("/keys") as response:
        answer = await response.json()
    [key] = answer["keys"].values()
    assert answer["default_key"] == "default"
    assert b64decode(key["group_public_b64"]) == sidecar.cluster.group_public
    assert (key["min_signers"], key["max_signers"]) == (2, 3)
