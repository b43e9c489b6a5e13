"""Sealed shares and the file of their keys, against joserfc: what opens here opens there, and is what was sealed."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from frost_ed25519 import keys as frost_keys
from joserfc import jwe
from joserfc.jwk import OctKey

from frost_sidecar.encoding import b64url
from frost_sidecar.errors import ConfigError
from frost_sidecar.sealing import MAX_KEYS, TYPE, CannotOpen, SealingKey, SealingKeys
from frost_sidecar.signer.keystore import load_share
from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target
from tests.fuzz.mutation import damage_json, damage_text, respell_base64
from tests.fuzz.test_fuzz_binding import secret_texts
from tests.fuzz.test_fuzz_files import share_seeds, written

VALUES: Final = [secrets.token_bytes(32) for _ in range(3)]
"""Two keys that are there, and one that is not."""
_CONTENT: Final = secrets.token_hex(24).encode()
_ALGORITHMS: Final = ["dir", "A256GCM"]


@cache
def _keys() -> SealingKeys:
    return SealingKeys([SealingKey(value) for value in VALUES[:2]])


def _texts() -> list[str]:
    """Keys and contents in the spellings in which an error might show them."""
    spelled = [spell(value) for value in VALUES for spell in (bytes.hex, b64url, lambda each: repr(each)[2:-1])]
    standard = [base64.b64encode(value).decode() for value in VALUES]
    return [*spelled, *standard, _CONTENT.decode(), _CONTENT.hex()]


def _share_texts() -> list[str]:
    return [*_texts(), *secret_texts()]


@cache
def _sealed() -> dict[bytes, bytes]:
    """Contents by what was sealed of them, with the keys that are there."""
    contents = [_CONTENT, b"", *share_seeds()]
    return {SealingKey(value).seal(each): each for value in VALUES[:2] for each in contents}


def _sealed_seeds() -> list[bytes]:
    return [*_sealed(), SealingKey(VALUES[2]).seal(_CONTENT)]


def _damage_jwe(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the five parts in another spelling, of another seed, or with its bytes damaged; or the whole."""
    parts = random.choice(seeds).split(b".")
    at, kind = random.randrange(len(parts)), random.randrange(7)
    if kind == 0:
        return damage_bytes(random, seeds)
    if kind == 1:
        parts[at] = random.choice(random.choice(seeds).split(b"."))
    elif kind == 2:
        parts[at] = respell_base64(random, parts[at].decode("latin-1")).encode()
    elif kind == 3:
        parts[at] = damage_bytes(random, [parts[at]])
    elif kind == 4:
        parts.insert(at, parts.pop(random.randrange(len(parts))))
    elif kind == 5:
        with suppress(ValueError):  # of a seed that is damaged already
            header = base64.urlsafe_b64decode(parts[0] + b"=" * (-len(parts[0]) % 4))
            parts[0] = b64url(damage_json(random, [header])).encode()
    return random.choice((b"", b"", b"", b"\n", b" ")) + b".".join(parts) + random.choice((b"", b"\n"))


def _joserfc(sealed: bytes, value: bytes) -> bytes:
    opened = jwe.decrypt_compact(sealed, OctKey.import_key(value), algorithms=_ALGORITHMS).plaintext
    assert opened is not None
    return opened


def _opened(data: bytes, content: bytearray) -> None:
    """Only what was sealed here, to the last bit; joserfc finds the same in it."""
    sealed = data.strip()
    assert _sealed().get(sealed) == bytes(content), "opened something that nobody sealed"
    header = json.loads(base64.urlsafe_b64decode(sealed.partition(b".")[0] + b"=="))
    [value] = [each for each in VALUES[:2] if SealingKey(each).kid == header["kid"]]
    assert _joserfc(sealed, value) == content


def _header_seeds() -> list[bytes]:
    return [
        json.dumps({"alg": "dir", "enc": "A256GCM", "typ": TYPE, "kid": SealingKey(value).kid}).encode()
        for value in VALUES
    ]


def _with_header(header: bytes) -> bytes:
    """The content, sealed by somebody who has the key, under any header; by ``cryptography`` alone."""
    protected, iv = b64url(header).encode(), bytes(12)
    sealed = AESGCM(VALUES[0]).encrypt(iv, _CONTENT, protected)
    return b".".join([protected, b"", *(b64url(part).encode() for part in (iv, sealed[:-16], sealed[-16:]))])


def _header_read(header: bytes, content: bytearray) -> None:
    """The four members, each once, as documented: nothing else changes how the rest is read."""
    given = json.loads(header, object_pairs_hook=lambda pairs: pairs)
    assert sorted(given) == [
        ("alg", "dir"),
        ("enc", "A256GCM"),
        ("kid", _kid(VALUES[0])),
        ("typ", "frost-share+jwe"),
    ]
    assert bytes(content) == _CONTENT == _joserfc(_with_header(header), VALUES[0])


def _kid(value: bytes) -> str:
    digest = hashlib.sha256(b"frost-sidecar sealing key id\0" + value).digest()
    return base64.urlsafe_b64encode(digest[:8]).decode().rstrip("=")


def _file_opened(data: bytes, share: frost_keys.KeyPackage) -> None:
    assert _sealed()[data.strip()] in share_seeds()
    assert json.loads(share.to_json()) == json.loads(_sealed()[data.strip()])


@cache
def _file_seeds() -> list[bytes]:
    lines = [base64.b64encode(value) for value in VALUES]
    return [
        b"".join(line + b"\n" for line in lines),
        lines[0],
        b"\n" + b64url(VALUES[1]).encode() + b"\r\n\n" + lines[2] + b"\n",
        b"".join(base64.b64encode(secrets.token_bytes(32)) + b"\n" for _ in range(MAX_KEYS)),
        base64.b64encode(b"0123456789abcdef" * 2),
        base64.b64encode(bytes(range(32))) + b"\n",
    ]


def _key_texts() -> Sequence[str]:
    return [text for seed in _file_seeds() for text in seed.decode().split()] + _texts()


def _keys_read(data: bytes, loaded: SealingKeys) -> None:
    """One key on each line, by the ``base64`` module: each opens what joserfc sealed with it, the first seals."""
    lines = [line.strip() for line in data.replace(b"\r", b"\n").split(b"\n")]
    texts = [line.decode("ascii").replace("-", "+").replace("_", "/") for line in lines if line]
    values = [base64.b64decode(text + "=" * (-len(text) % 4), validate=True) for text in texts]
    assert 1 <= len(set(values)) == len(values) <= MAX_KEYS
    assert all(len(value) == 32 and len(set(value)) > 16 for value in values)
    for value in values:
        header = {"alg": "dir", "enc": "A256GCM", "typ": TYPE, "kid": _kid(value)}
        token = jwe.encrypt_compact(header, _CONTENT, OctKey.import_key(value), algorithms=_ALGORITHMS)
        assert loaded.open(token.encode()) == _CONTENT
    assert _joserfc(loaded.newest.seal(_CONTENT), values[0]) == _CONTENT
    assert loaded.newest.kid == _kid(values[0])


def _load_keys(data: bytes) -> SealingKeys:
    return SealingKeys.load(written("seal.key", data), setting="seal_key_file")


def _open_file(data: bytes) -> Any:
    return load_share(written("sealed.json", data), setting="keys.default.share", keys=_keys())


TARGETS: Final = [
    Target(
        "sealed share",
        _sealed_seeds,
        lambda data: _keys().open(data),
        (CannotOpen,),
        _opened,
        mutate=_damage_jwe,
        secrets=_share_texts,
        bare=True,
    ),
    Target(
        "sealed share, its header",
        _header_seeds,
        lambda header: _keys().open(_with_header(header)),
        (CannotOpen,),
        _header_read,
        mutate=damage_json,
        secrets=_texts,
        bare=True,
    ),
    Target(
        "sealed share, file",
        lambda: [sealed for sealed in _sealed_seeds() if _sealed().get(sealed) != b""],
        _open_file,
        (ConfigError,),
        _file_opened,
        mutate=_damage_jwe,
        secrets=_share_texts,
        bare=True,
    ),
    Target(
        "sealing keys, file",
        _file_seeds,
        _load_keys,
        (ConfigError,),
        _keys_read,
        mutate=damage_text,
        secrets=_key_texts,
        bare=True,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
