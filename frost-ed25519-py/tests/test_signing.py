"""Groups that sign, and participants that cheat."""

from __future__ import annotations

import os
import sys
import threading
import time

import nacl.exceptions
import nacl.signing
import pytest
from cryptography.exceptions import InvalidSignature as OpenSslInvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from frost_ed25519 import (
    Identifier,
    InvalidSignature,
    InvalidSignatureShare,
    Signature,
    SigningKey,
    SigningPackage,
    VerifyingKey,
    aggregate,
    round1,
    round2,
    verify_signature_share,
)
from frost_ed25519.exceptions import (
    IncorrectNumberOfCommitments,
    IncorrectNumberOfShares,
    InvalidMinSigners,
    UnknownIdentifier,
)
from frost_ed25519.keys import KeyPackage, PublicKeyPackage, generate_with_dealer, split
from frost_support import Group, deal, generate
from hypothesis import given, settings
from hypothesis import strategies as st

GROUPS = [(2, 2), (3, 2), (3, 3), (5, 3), (7, 5), (10, 7)]


def verifies_everywhere(key: VerifyingKey, message: bytes, signature: Signature) -> None:
    """Check a signature with this library, OpenSSL and libsodium."""
    key.verify(message, signature)
    Ed25519PublicKey.from_public_bytes(key.serialize()).verify(signature.serialize(), message)
    nacl.signing.VerifyKey(key.serialize()).verify(message, signature.serialize())


@pytest.mark.parametrize(("max_signers", "min_signers"), GROUPS)
def test_dealt_group_signs(max_signers: int, min_signers: int) -> None:
    group = deal(max_signers, min_signers)
    assert list(group.keys) == [Identifier(i) for i in range(1, max_signers + 1)]
    for count in {min_signers, max_signers}:
        signature = group.sign(list(group.keys)[-count:], b"message").aggregate()
        verifies_everywhere(group.public.verifying_key, b"message", signature)


@pytest.mark.parametrize(("max_signers", "min_signers"), GROUPS)
def test_self_made_group_signs(max_signers: int, min_signers: int) -> None:
    group = generate(range(1, max_signers + 1), min_signers)
    assert (group.public.min_signers, group.public.max_signers) == (min_signers, max_signers)
    signature = group.sign(list(group.keys)[:min_signers], b"message").aggregate()
    verifies_everywhere(group.public.verifying_key, b"message", signature)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), message=st.binary(max_size=200), dealt=st.booleans())
def test_any_quorum_of_any_group_signs(data: st.DataObject, message: bytes, dealt: bool) -> None:
    participants = data.draw(
        st.lists(
            st.one_of(
                st.integers(1, 65535).map(Identifier), st.binary(max_size=8).map(Identifier.derive)
            ),
            min_size=2,
            max_size=7,
            unique=True,
        )
    )
    min_signers = data.draw(st.integers(2, len(participants)))
    signers = data.draw(st.lists(st.sampled_from(participants), min_size=min_signers, unique=True))
    if dealt:
        group = deal(len(participants), min_signers, participants)
    else:
        group = generate(participants, min_signers)
    assert set(group.keys) == set(participants)
    assert list(group.public.verifying_shares) == sorted(participants)
    verifies_everywhere(
        group.public.verifying_key, message, group.sign(signers, message).aggregate()
    )


def test_below_the_threshold_nobody_signs() -> None:
    group = deal(5, 3)
    package, nonces = group.open([1, 2], b"message")
    with pytest.raises(IncorrectNumberOfCommitments):
        round2.sign(package, nonces[Identifier(1)], group.key(1))


def test_below_the_threshold_nothing_is_aggregated() -> None:
    group = deal(5, 3)
    session = group.sign([1, 2, 3], b"message")
    package = SigningPackage(
        {who: session.package.signing_commitments[who] for who in list(session.shares)[:2]},
        b"message",
    )
    with pytest.raises(IncorrectNumberOfShares):
        aggregate(package, dict(list(session.shares.items())[:2]), group.public)


def test_a_package_without_threshold_still_finds_the_short_signature_bad() -> None:
    group = deal(5, 3)
    session = group.sign([1, 2, 3], b"message")
    public = PublicKeyPackage(group.public.verifying_shares, group.public.verifying_key, None)
    package = SigningPackage(
        {who: session.package.signing_commitments[who] for who in list(session.shares)[:2]},
        b"message",
    )
    with pytest.raises(InvalidSignatureShare) as caught:
        aggregate(package, dict(list(session.shares.items())[:2]), public)
    assert caught.value.culprits == [Identifier(1), Identifier(2)]


def test_a_bad_signature_is_refused_everywhere() -> None:
    group = deal(3, 2)
    key = group.public.verifying_key
    signature = group.sign([1, 3], b"message").aggregate()
    for where in (0, 31, 32, 62):
        bad = bytearray(signature.serialize())
        bad[where] ^= 1
        with pytest.raises((InvalidSignature, ValueError)):
            key.verify(b"message", Signature.deserialize(bytes(bad)))
        with pytest.raises(OpenSslInvalidSignature):
            Ed25519PublicKey.from_public_bytes(key.serialize()).verify(bytes(bad), b"message")
        with pytest.raises(nacl.exceptions.BadSignatureError):
            nacl.signing.VerifyKey(key.serialize()).verify(b"message", bytes(bad))
    with pytest.raises(InvalidSignature):
        key.verify(b"another message", signature)
    with pytest.raises(InvalidSignature):
        deal(3, 2).public.verifying_key.verify(b"message", signature)


def test_other_libraries_signatures_verify_here() -> None:
    private = Ed25519PrivateKey.generate()
    key = VerifyingKey.deserialize(private.public_key().public_bytes_raw())
    key.verify(b"message", Signature.deserialize(private.sign(b"message")))


@settings(max_examples=25, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32))
def test_an_existing_key_keeps_its_public_key(seed: bytes) -> None:
    key = SigningKey.from_ed25519_seed(seed)
    expected = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert key.verifying_key.serialize() == expected
    shares, public = split(key, 3, 2)
    assert public.verifying_key == key.verifying_key
    keys = {who: KeyPackage.from_secret_share(share) for who, share in shares.items()}
    signature = Group(keys, public).sign([2, 3], b"message").aggregate()
    verifies_everywhere(VerifyingKey.deserialize(expected), b"message", signature)


def test_rfc8032_seed() -> None:
    # RFC 8032, section 7.1, test 1.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert SigningKey.from_ed25519_seed(seed).verifying_key.serialize().hex() == public


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_all_cheaters_are_named(data: st.DataObject) -> None:
    group = deal(7, 4)
    signers = sorted(data.draw(st.lists(st.integers(1, 7), min_size=4, max_size=7, unique=True)))
    cheaters = data.draw(st.lists(st.sampled_from(signers), min_size=1, unique=True))
    session = group.sign(signers, b"message")
    other = group.sign(signers, b"another message")
    for cheater in map(Identifier, cheaters):
        session.shares[cheater] = other.shares[cheater]
    with pytest.raises(InvalidSignatureShare) as caught:
        session.aggregate()
    assert caught.value.culprits == [Identifier(cheater) for cheater in sorted(cheaters)]
    for who, share in session.shares.items():
        verifying_share = group.public.verifying_shares[who]
        arguments = (verifying_share, share, session.package, group.public.verifying_key)
        if int(who) in cheaters:
            with pytest.raises(InvalidSignatureShare) as caught:
                verify_signature_share(who, *arguments)
            assert caught.value.culprits == [who]
        else:
            verify_signature_share(who, *arguments)
            verify_signature_share(int(who), *arguments)


def test_shares_that_cancel_out_are_a_good_signature() -> None:
    # Cheating is looked for only where the sum is bad (RFC 9591, section 5.3).
    group = deal(3, 2)
    session = group.sign([1, 2], b"message")
    one, two = session.shares
    session.shares[one], session.shares[two] = session.shares[two], session.shares[one]
    group.public.verifying_key.verify(b"message", session.aggregate())


def test_strangers_are_refused() -> None:
    group = deal(3, 2)
    session = group.sign([1, 2], b"message")
    share = session.shares[Identifier(1)]
    with pytest.raises(UnknownIdentifier):
        aggregate(session.package, {1: share}, group.public)
    with pytest.raises(UnknownIdentifier):
        aggregate(session.package, {1: share, 3: share}, group.public)
    with pytest.raises(UnknownIdentifier):
        aggregate(session.package, {**session.shares, Identifier(3): share}, group.public)
    shares = group.public.verifying_shares
    without = PublicKeyPackage(
        {who: shares[who] for who in shares if int(who) != 1}, group.public.verifying_key, 2
    )
    with pytest.raises(UnknownIdentifier):
        aggregate(session.package, session.shares, without)
    with pytest.raises(UnknownIdentifier):
        verify_signature_share(
            3, shares[Identifier(3)], share, session.package, group.public.verifying_key
        )


def test_an_empty_session_is_refused() -> None:
    group = deal(3, 2)
    empty = SigningPackage({}, b"message")
    assert empty.signing_commitments == {}
    with pytest.raises(IncorrectNumberOfShares):
        aggregate(empty, {}, group.public)
    without = PublicKeyPackage(group.public.verifying_shares, group.public.verifying_key, None)
    with pytest.raises(ValueError, match="identity"):
        aggregate(empty, {}, without)
    nonces, _ = round1.commit(group.key(1))
    with pytest.raises(IncorrectNumberOfCommitments):
        round2.sign(empty, nonces, group.key(1))


def test_public_key_package_from_the_dealers_commitment() -> None:
    group = deal(5, 3)
    commitments = {share.commitment for share in group.shares.values()}
    assert len(commitments) == 1
    assert PublicKeyPackage.from_commitment(range(1, 6), commitments.pop()) == group.public


def test_messages_of_any_size() -> None:
    group = deal(2, 2)
    for message in (b"", b"\0", os.urandom(1 << 20)):
        signature = group.sign([1, 2], message).aggregate()
        verifies_everywhere(group.public.verifying_key, message, signature)


def test_other_threads_run_while_rust_computes() -> None:
    progress = 0
    done = threading.Event()

    def work() -> None:
        nonlocal progress
        while not done.is_set():
            progress += 1
            time.sleep(0)

    # With this interval a thread gets the interpreter only if another one
    # gives it up by itself.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(100):
            before = progress
            generate_with_dealer(60, 30)
            if progress > before:
                break
        else:
            pytest.fail("the interpreter was kept")
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()


def test_a_threshold_above_the_group_is_refused() -> None:
    with pytest.raises(InvalidMinSigners):
        deal(2, 3)
