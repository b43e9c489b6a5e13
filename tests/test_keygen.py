"""Dealing: all files or none, the shares closed to others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import frost_ed25519 as frost
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen import files
from frost_sidecar.keygen.dealer import Dealt, deal
from frost_sidecar.keygen.files import write_new
from frost_sidecar.keygen.group import Group


def _sign(dealt: Dealt, signers: list[int], message: bytes) -> bytes:
    """A signature by ``signers``, from their files alone (RFC 9591, section 5)."""
    shares = {each: frost.keys.KeyPackage.from_json(dealt.share_files[each].read_text()) for each in signers}
    nonces, commitments = {}, {}
    for each, share in shares.items():
        nonces[each], commitments[each] = frost.round1.commit(share)
    package = frost.SigningPackage(commitments, message)
    answers = {each: frost.round2.sign(package, nonces[each], share) for each, share in shares.items()}
    return frost.aggregate(package, answers, Group.load("default", dealt.group_file).package).serialize()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_modes_hold_under_every_umask(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "keys"
    dealt = deal(folder, min_signers=2, max_signers=3)
    assert {_mode(path) for path in dealt.share_files.values()} == {0o600}
    assert _mode(dealt.group_file) == 0o644
    assert _mode(folder) == 0o700
    names = {path.name for path in folder.iterdir()}
    assert names == {"group.json", "share-1.json", "share-2.json", "share-3.json"}


@pytest.mark.parametrize(("least", "most"), [(2, 2), (2, 3), (3, 5)])
def test_any_quorum_signs_and_the_group_file_says_so(tmp_path: Path, least: int, most: int) -> None:
    dealt = deal(tmp_path, min_signers=least, max_signers=most)
    group = Group.load("default", dealt.group_file)
    assert (group.min_signers, group.identifiers) == (least, frozenset(range(1, most + 1)))
    assert group.public == dealt.group_public
    signature = _sign(dealt, list(range(most - least + 1, most + 1)), b"message")
    group.verifying_key.verify(b"message", frost.Signature.deserialize(signature))


def test_a_split_key_stays_the_key_it_was(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    existing = frost.SigningKey.from_ed25519_seed(key.private_bytes_raw())
    dealt = deal(tmp_path, min_signers=2, max_signers=3, existing=existing)
    assert dealt.group_public == key.public_key().public_bytes_raw()
    key.public_key().verify(_sign(dealt, [1, 3], b"message"), b"message")


def test_two_deals_are_two_keys(tmp_path: Path) -> None:
    one, two = (deal(tmp_path / name, min_signers=2, max_signers=2) for name in "ab")
    assert one.group_public != two.group_public


@pytest.mark.parametrize(("least", "most"), [(0, 3), (1, 3), (1, 1), (4, 3), (-1, 2), (2, 256), (256, 256), (2, 0)])
def test_impossible_thresholds_are_refused(tmp_path: Path, least: int, most: int) -> None:
    with pytest.raises(ConfigError, match="is no threshold"):
        deal(tmp_path / "keys", min_signers=least, max_signers=most)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("name", ["share-1.json", "share-2.json", "share-3.json", "group.json"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, name: str, kind: str) -> None:
    there = tmp_path / name
    if kind == "file":
        there.write_text("precious")
    elif kind == "folder":
        there.mkdir()
    else:
        there.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"cannot write .*{name}: File exists"):
        deal(tmp_path, min_signers=2, max_signers=3)
    assert list(tmp_path.iterdir()) == [there]
    assert kind != "file" or there.read_text() == "precious"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "x"), KeyboardInterrupt(), MemoryError()])
def test_a_deal_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The write of the third file fails: the disk is full, or somebody pressed Ctrl-C."""
    written: list[Path] = []

    def failing(path: Path, text: str, *, mode: int) -> None:
        if len(written) == 2:
            raise error
        write_new(path, text, mode=mode)
        written.append(path)

    monkeypatch.setattr(files, "write_new", failing)
    with pytest.raises(ConfigError if isinstance(error, OSError) else type(error)):
        deal(tmp_path, min_signers=2, max_signers=3)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "keys"):
        with pytest.raises(ConfigError, match=f"cannot write {folder}"):
            deal(folder, min_signers=2, max_signers=2)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    with pytest.raises(UnicodeEncodeError):
        write_new(path, "\ud800", mode=0o600)
    assert list(tmp_path.iterdir()) == []
    write_new(path, "é", mode=0o600)
    assert path.read_bytes() == "é".encode()
    with pytest.raises(FileExistsError):
        write_new(path, "other", mode=0o600)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == "é".encode()
