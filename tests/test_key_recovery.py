"""Why round-1 nonces are the signers' alone: whoever knows them and sees one share has the key share.

The page that this project grew from lets the coordinator make the nonces. Here is what that coordinator could do; the
rest of the file shows that ours is given no chance to.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import secrets
from pathlib import Path

import frost_ed25519 as frost
import msgspec
import nacl.bindings as sodium
import pytest

import frost_sidecar
from frost_sidecar import wire

ORDER = 2**252 + 27742317777372353535851937790883648493
CONTEXT = b"FROST-ED25519-SHA512-v1"

PACKAGE = Path(frost_sidecar.__file__).parent
SIGNER_SIDE = {"signer", "testing"}


def to_int(data: bytes) -> int:
    return int.from_bytes(data, "little")


def to_bytes(scalar: int) -> bytes:
    return (scalar % ORDER).to_bytes(32, "little")


def base(scalar: int) -> bytes:
    return sodium.crypto_scalarmult_ed25519_base_noclamp(to_bytes(scalar))


def sha512(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()


def transcript(
    package: frost.SigningPackage, points: dict[int, tuple[bytes, bytes]], group: bytes, message: bytes
) -> tuple[dict[int, int], int]:
    """Binding factors and challenge of a session (RFC 9591, sections 4.4 to 4.6): all from public values."""
    listed = b"".join(to_bytes(each) + b"".join(points[each]) for each in sorted(points))
    prefix = group + sha512(CONTEXT, b"msg", message) + sha512(CONTEXT, b"com", listed)
    rho = {each: to_int(sha512(CONTEXT, b"rho", prefix, to_bytes(each))) % ORDER for each in points}
    commitment = None
    for each, (hiding, binding) in points.items():
        term = sodium.crypto_core_ed25519_add(
            hiding, sodium.crypto_scalarmult_ed25519_noclamp(to_bytes(rho[each]), binding)
        )
        commitment = term if commitment is None else sodium.crypto_core_ed25519_add(commitment, term)
    assert commitment is not None
    assert package.message == message
    return rho, to_int(sha512(commitment, group, message)) % ORDER


def lagrange(identifier: int, among: list[int]) -> int:
    value = 1
    for other in among:
        if other != identifier:
            value = value * other * pow(other - identifier, -1, ORDER) % ORDER
    return value


def test_a_coordinator_that_makes_the_nonces_recovers_the_key_share() -> None:
    shares, public = frost.keys.generate_with_dealer(3, 2)
    victim, other = 1, 3
    key_package = frost.keys.KeyPackage.from_secret_share(shares[frost.Identifier(victim)])
    secret_share = to_int(bytes.fromhex(json.loads(key_package.to_json())["signing_share"]))
    group = public.verifying_key.serialize()
    message = b"anything at all"

    # The coordinator "optimises" round 1: it makes the victim's nonces, and knows d and e.
    d, e = secrets.randbelow(ORDER), secrets.randbelow(ORDER)
    honest = frost.keys.KeyPackage.from_secret_share(shares[frost.Identifier(other)])
    _, others = frost.round1.commit(honest)
    points = {victim: (base(d), base(e)), other: (others.hiding, others.binding)}
    package = frost.SigningPackage(
        {each: frost.round1.SigningCommitments(*pair) for each, pair in points.items()}, message
    )
    rho, challenge = transcript(package, points, group, message)
    weight = lagrange(victim, [victim, other])

    # The victim answers as RFC 9591, section 5.2, says: z = d + e*rho + lambda*s*c ...
    z = (d + e * rho[victim] + weight * secret_share * challenge) % ORDER
    frost.verify_signature_share(
        victim,
        public.verifying_shares[frost.Identifier(victim)],
        frost.round2.SignatureShare.deserialize(to_bytes(z)),
        package,
        public.verifying_key,
    )

    # ... and the coordinator solves for s.
    stolen = (z - d - e * rho[victim]) * pow(weight * challenge, -1, ORDER) % ORDER
    assert stolen == secret_share
    assert base(stolen) == public.verifying_shares[frost.Identifier(victim)].serialize()


def test_two_shares_from_one_pair_of_nonces_give_the_key_share_away() -> None:
    """Nobody needs to know the nonces when they are used three times: three equations, three unknowns."""
    s, d, e = (secrets.randbelow(ORDER - 1) + 1 for _ in range(3))
    group = base(secrets.randbelow(ORDER))
    _, others = frost.round1.commit(
        frost.keys.KeyPackage.from_secret_share(frost.keys.generate_with_dealer(3, 2)[0][frost.Identifier(2)])
    )
    points = {1: (base(d), base(e)), 2: (others.hiding, others.binding)}
    rows: list[tuple[int, int, int]] = []
    for message in (b"one", b"two", b"three"):
        package = frost.SigningPackage(
            {each: frost.round1.SigningCommitments(*pair) for each, pair in points.items()}, message
        )
        rho, challenge = transcript(package, points, group, message)
        weight = lagrange(1, [1, 2]) * challenge % ORDER
        rows.append((rho[1], weight, (d + e * rho[1] + weight * s) % ORDER))
    (r1, w1, z1), (r2, w2, z2), (r3, w3, z3) = rows
    determinant = (r2 - r1) * (w3 - w1) - (r3 - r1) * (w2 - w1)
    stolen = ((r2 - r1) * (z3 - z1) - (r3 - r1) * (z2 - z1)) * pow(determinant, -1, ORDER) % ORDER
    assert stolen == s


WIRE_MEMBERS = {
    "Commitment": {"id", "hiding", "binding"},
    "CommitmentsRequest": {"key", "count"},
    "CommitmentsAnswer": {"identifier", "epoch", "commitments", "expires_in"},
    "Session": {"session", "msg", "commitments", "request"},
    "SharesRequest": {"key", "epoch", "sessions", "replenish"},
    "ShareResult": {"session", "share", "error", "detail"},
    "SharesAnswer": {"identifier", "epoch", "results", "commitments", "expires_in"},
    "KeyInfo": {"identifier", "min_signers", "group_public", "verifying_share"},
    "InfoAnswer": {"protocols", "name", "epoch", "keys"},
}
"""Every message between coordinator and signer, whole. A new member needs a thought here: may it carry a nonce?"""


def test_no_message_has_a_place_for_a_nonce() -> None:
    found = {
        name: {field.name for field in msgspec.structs.fields(kind)}
        for name, kind in vars(wire).items()
        if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct
    }
    assert found == WIRE_MEMBERS


@pytest.mark.parametrize("kind", [wire.Commitment, wire.CommitmentsRequest, wire.Session, wire.SharesRequest])
def test_messages_to_a_signer_refuse_a_smuggled_nonce(kind: type[msgspec.Struct]) -> None:
    values: dict[str, object] = {
        "id": "a",
        "hiding": "A" * 43,
        "binding": "A" * 43,
        "key": "k",
        "count": 1,
        "epoch": "e",
        "session": "s",
        "msg": "",
        "commitments": {"1": {"id": "a", "hiding": "A" * 43, "binding": "A" * 43}},
        "sessions": [
            {"session": "s", "msg": "", "commitments": {"1": {"id": "a", "hiding": "A" * 43, "binding": "A" * 43}}}
        ],
    }
    names = {field.name for field in msgspec.structs.fields(kind)}
    good = {name: value for name, value in values.items() if name in names}
    msgspec.convert(good, kind)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**good, "nonces": "AAAA"}, kind)


def test_only_the_signer_makes_or_holds_nonces() -> None:
    """No module of the coordinator names the binding's nonces, round 1 or round 2's signing."""
    offenders = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in SIGNER_SIDE:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            if name in {"SigningNonces", "commit", "commit_many", "sign_many"} or (name == "sign" and _is_round2(node)):
                offenders.append(f"{path.name}:{getattr(node, 'lineno', 0)} {name}")
    assert offenders == []


def _is_round2(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "round2"


def test_nonces_have_no_way_out_of_the_binding() -> None:
    shares, _ = frost.keys.generate_with_dealer(3, 2)
    nonces, _ = frost.round1.commit(frost.keys.KeyPackage.from_secret_share(shares[frost.Identifier(1)]))
    public = {name for name in dir(nonces) if not name.startswith("_")}
    assert public <= {"commitments", "consumed"}
