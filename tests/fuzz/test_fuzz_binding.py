"""The binding's decoders: one encoding per value, nothing accepted that is no value, no secret in an error."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final

import frost_ed25519 as frost
import nacl.bindings
import pytest
from frost_ed25519 import keys, round1, round2
from frost_ed25519.keys import dkg

from tests.fuzz.budget import explore
from tests.fuzz.bytewise import damage_bytes
from tests.fuzz.engine import Target

ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of the prime-order group (RFC 8032, section 5.1)."""
POINTS: Final = (frost.VerifyingKey, keys.VerifyingShare)
SCALARS: Final = (frost.Identifier, round2.SignatureShare)


@cache
def dealt() -> tuple[list[keys.SecretShare], list[keys.KeyPackage], keys.PublicKeyPackage]:
    """A 2-of-3 group."""
    shares, public = keys.generate_with_dealer(3, 2)
    return list(shares.values()), [keys.KeyPackage.from_secret_share(each) for each in shares.values()], public


@cache
def _samples() -> dict[type[Any], list[Any]]:
    shares, packages, public = dealt()
    nonces = [round1.commit(each) for each in packages]
    package = frost.SigningPackage({1: nonces[0][1], 2: nonces[1][1]}, b"message")
    signed = [round2.sign(package, nonces[at][0], packages[at]) for at in (0, 1)]
    signature = frost.aggregate(package, {1: signed[0], 2: signed[1]}, public)
    first, second = (dkg.part1(each, 2, 2) for each in (1, 2))
    _, theirs = dkg.part2(first[0], {2: second[1]})
    samples: list[Any] = [
        *(frost.Identifier(1), frost.Identifier(65535), frost.Identifier.derive(b"name")),
        *(public.verifying_key, *public.verifying_shares.values(), shares[0].commitment, signature, *signed),
        *(nonces[0][1], nonces[1][1], package, public, *shares, *packages, first[1], *theirs.values()),
        keys.PublicKeyPackage(public.verifying_shares, public.verifying_key, None),
    ]
    return {kind: [each for each in samples if type(each) is kind] for kind in dict.fromkeys(map(type, samples))}


def secret_texts() -> Sequence[str]:
    """The shares of the group, as they stand in JSON and as base64 of nothing."""
    shares, packages, _ = dealt()
    return [
        *(json.loads(each.to_json())["signing_share"] for each in packages),
        *(json.loads(each.to_json())["signing_share"] for each in shares),
    ]


def _round2_texts() -> Sequence[str]:
    return [json.loads(each.to_json())["signing_share"] for each in _samples()[dkg.round2.Package]]


def _is_point(data: bytes) -> bool:
    """What another library says of a point: its one encoding, in the prime-order group, not the identity."""
    return len(data) == 32 and nacl.bindings.crypto_core_ed25519_is_valid_point(data)


def _is_scalar(data: bytes) -> bool:
    return len(data) == 32 and int.from_bytes(data, "little") < ORDER


def _bytes_read(kind: type[Any], data: bytes, value: Any) -> None:
    assert _bytes(value) == data
    if kind in POINTS:
        assert _is_point(data)
    if kind in SCALARS:
        assert _is_scalar(data)


def _bytes_refused(kind: type[Any], data: bytes) -> None:
    if kind in POINTS:
        assert not _is_point(data)
    if kind is round2.SignatureShare:
        assert not _is_scalar(data)
    if kind is frost.Identifier:
        assert not _is_scalar(data) or not any(data)


def _bytes(value: Any) -> bytes:
    made: bytes = value.serialize_whole() if hasattr(value, "serialize_whole") else value.serialize()
    return made


def _json_read(kind: type[Any], data: bytes, value: Any) -> None:
    """Python's reader finds the same in it, but for the case of hexadecimal digits and the order of participants."""
    text = value.to_json()
    assert _folded(json.loads(data, object_pairs_hook=_once)) == _folded(json.loads(text))
    again = kind.from_json(text)
    assert again.to_json() == text
    assert _bytes(again) == _bytes(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs), "a member stands twice"
    return dict(pairs)


def _folded(value: Any) -> Any:
    """A threshold that is not there is left out or null."""
    if isinstance(value, dict):
        return {
            name.lower(): _folded(each) for name, each in value.items() if not (name == "min_signers" and each is None)
        }
    if isinstance(value, list):
        return [_folded(each) for each in value]
    return value.lower() if isinstance(value, str) else value


def _from_bytes(kind: type[Any], data: bytes) -> Any:
    return (kind.deserialize_whole if hasattr(kind, "deserialize_whole") else kind.deserialize)(data)


def _from_json(kind: type[Any], data: bytes) -> Any:
    return kind.from_json(data.decode("utf-8", "replace"))


def _targets(kind: type[Any], name: str, secret: Callable[[], Sequence[str]] = tuple) -> list[Target]:
    binary = Target(
        f"{name}, bytes",
        partial(_seeds_of, kind, _bytes),
        partial(_from_bytes, kind),
        (frost.FrostError,),
        partial(_bytes_read, kind),
        partial(_bytes_refused, kind),
        mutate=damage_bytes,
        secrets=secret,
        bare=True,
    )
    text = Target(
        f"{name}, JSON",
        partial(_seeds_of, kind, _text),
        partial(_from_json, kind),
        (frost.FrostError,),
        partial(_json_read, kind),
        secrets=secret,
        bare=True,
    )
    return [binary, text]


def _seeds_of(kind: type[Any], encode: Callable[[Any], bytes]) -> list[bytes]:
    return [encode(each) for each in _samples()[kind]]


def _text(value: Any) -> bytes:
    return bytes(value.to_json(), "utf-8")


def _bincode_seeds() -> list[bytes]:
    two = keys.generate_with_dealer(5, 3)[1]
    return [each.to_bincode() for each in (*_samples()[keys.PublicKeyPackage], two)]


def _bincode_read(data: bytes, value: keys.PublicKeyPackage) -> None:
    assert value.to_bincode() == data
    assert all(_is_point(each.serialize()) for each in value.verifying_shares.values())


def _seed_key(data: bytes) -> frost.SigningKey:
    return frost.SigningKey.from_ed25519_seed(data)


def _seed_key_read(data: bytes, value: frost.SigningKey) -> None:
    assert value.verifying_key.serialize() == nacl.bindings.crypto_sign_seed_keypair(data)[0]


def _scalar_key_read(data: bytes, value: frost.SigningKey) -> None:
    assert value.verifying_key.serialize() == nacl.bindings.crypto_scalarmult_ed25519_base_noclamp(data)


def _scalar_key_refused(data: bytes) -> None:
    assert not _is_scalar(data) or not any(data)


def _commitments_read(data: bytes, value: round1.SigningCommitments) -> None:
    assert value.hiding + value.binding == data
    assert _is_point(value.hiding)
    assert _is_point(value.binding)


def _commitments_refused(data: bytes) -> None:
    assert not (_is_point(data[:32]) and _is_point(data[32:]))


def _decoded_among_others(data: bytes) -> round1.SigningCommitments:
    """Read a pair of points between good ones, which must come out as they are."""
    known = _samples()[round1.SigningCommitments][0]
    pair = (known.hiding, known.binding)
    before, outcome, after = round1.decode_many([pair, (data[:32], data[32:]), pair])
    assert before == after == known
    if isinstance(outcome, frost.FrostError):
        raise outcome
    return outcome


TARGETS: Final = [
    *_targets(frost.Identifier, "Identifier"),
    *_targets(frost.VerifyingKey, "VerifyingKey"),
    *_targets(keys.VerifyingShare, "VerifyingShare"),
    *_targets(keys.VerifiableSecretSharingCommitment, "dealer commitment"),
    *_targets(frost.Signature, "Signature"),
    *_targets(round1.SigningCommitments, "SigningCommitments"),
    *_targets(round2.SignatureShare, "SignatureShare"),
    *_targets(frost.SigningPackage, "SigningPackage"),
    *_targets(keys.PublicKeyPackage, "PublicKeyPackage"),
    *_targets(keys.SecretShare, "SecretShare", secret_texts),
    *_targets(keys.KeyPackage, "KeyPackage", secret_texts),
    *_targets(dkg.round1.Package, "DKG round 1 package"),
    *_targets(dkg.round2.Package, "DKG round 2 package", _round2_texts),
    Target(
        "PublicKeyPackage, bincode",
        _bincode_seeds,
        keys.PublicKeyPackage.from_bincode,
        (frost.FrostError,),
        _bincode_read,
        mutate=damage_bytes,
    ),
    Target(
        "SigningCommitments, points",
        lambda: [each.hiding + each.binding for each in _samples()[round1.SigningCommitments]],
        lambda data: round1.SigningCommitments(data[:32], data[32:]),
        (frost.FrostError,),
        _commitments_read,
        _commitments_refused,
        mutate=damage_bytes,
    ),
    Target(
        "SigningCommitments, many",
        lambda: [each.hiding + each.binding for each in _samples()[round1.SigningCommitments]],
        _decoded_among_others,
        (frost.FrostError,),
        _commitments_read,
        _commitments_refused,
        mutate=damage_bytes,
    ),
    Target(
        "SigningKey, seed",
        lambda: [secrets.token_bytes(32)],
        _seed_key,
        (frost.FrostError,),
        _seed_key_read,
        mutate=damage_bytes,
    ),
    Target(
        "SigningKey, scalar",
        lambda: [secrets.token_bytes(31) + b"\0", b"\1" + bytes(31)],
        frost.SigningKey.deserialize,
        (frost.FrostError,),
        _scalar_key_read,
        _scalar_key_refused,
        mutate=damage_bytes,
    ),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_fuzz(target: Target) -> None:
    explore(target)
