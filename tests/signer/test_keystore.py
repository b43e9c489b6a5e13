"""Key shares are read from files of ours alone, and no error shows what is in them."""

from __future__ import annotations

import base64
import json
import os
import struct
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frost_sidecar.errors import ConfigError
from frost_sidecar.private_file import exposure, read_private
from frost_sidecar.sealing import SealingKey, SealingKeys
from frost_sidecar.signer.keystore import load_share, load_shares

if TYPE_CHECKING:
    from tests.signer.conftest import Group


@pytest.fixture
def file(tmp_path: Path, group: Group) -> Path:
    path = tmp_path / "share.json"
    path.touch(0o600)
    path.write_text(group.shares[1].to_json())
    return path


def refusal(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_share(path, setting="keys.default.share")
    assert caught.value.path == "keys.default.share"
    assert str(path) in str(caught.value)
    return caught.value


def test_shares_are_loaded_by_key(file: Path, group: Group) -> None:
    shares = load_shares({"a": file, "b": file})
    assert sorted(shares) == ["a", "b"]
    assert shares["a"].verifying_share == group.shares[1].verifying_share


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o620, 0o602, 0o610, 0o601, 0o644, 0o444, 0o777])
def test_a_file_open_to_others_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert f"chmod 600 {file}" in str(refusal(file))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_private_file_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    load_share(file, setting="s")


def test_a_link_is_followed_and_its_target_checked(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file)
    load_share(link, setting="s")
    file.chmod(0o644)
    refusal(link)


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat_result((0o100600, 0, 0, 1, 12345, 0, 10, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: stat)
    assert "user 12345" in str(refusal(file))


OURS, ROOT, OTHER = 1000, 0, 2000


@pytest.mark.parametrize(
    ("owner", "group", "mode", "said"),
    [
        (OURS, 1000, 0o600, None),
        (OURS, 1000, 0o400, None),
        (OURS, 4711, 0o700, None),
        (ROOT, 0, 0o600, None),
        (ROOT, 0, 0o400, None),
        (ROOT, 1000, 0o440, None),  # a secret volume with fsGroup
        (ROOT, 1000, 0o640, None),
        (ROOT, 3000, 0o440, None),
        (ROOT, 0, 0o440, "group 0 may read it (mode 0440)"),
        (ROOT, 4711, 0o640, "group 4711 may read it"),
        (ROOT, 1000, 0o660, "its group may do more than read it (mode 0660)"),
        (ROOT, 1000, 0o450, "its group may do more than read it"),
        (ROOT, 1000, 0o444, "open to other users (mode 0444)"),
        (ROOT, 1000, 0o644, "open to other users (mode 0644)"),
        (ROOT, 1000, 0o601, "open to other users"),
        (OURS, 1000, 0o640, "group 1000 may read it"),
        (OURS, 3000, 0o440, "group 3000 may read it"),
        (OURS, 1000, 0o620, "its group may do more than read it"),
        (OURS, 1000, 0o604, "open to other users"),
        (OTHER, 1000, 0o600, "belongs to user 2000; it must belong to root or to this process's user, 1000"),
        (OTHER, 1000, 0o440, "belongs to user 2000"),
    ],
)
def test_who_may_own_and_read_a_secret(owner: int, group: int, mode: int, said: str | None) -> None:
    status = os.stat_result((0o100000 | mode, 0, 0, 1, owner, group, 10, 0, 0, 0))
    found = exposure(status, OURS, {1000, 3000})
    assert (found is None) if said is None else (found is not None and said in found)


def test_a_mounted_secret_is_read(file: Path, group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts it: two links, and a file of root that our group may read."""
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda each: _owned(real(each), 0, os.getegid()))
    first = file.parent / "..2026_11_22"
    first.mkdir()
    file.rename(first / file.name)
    (first / file.name).chmod(0o440)
    (file.parent / "..data").symlink_to(first.name)
    file.symlink_to(Path("..data", file.name))
    assert load_share(file, setting="s").verifying_share == group.shares[1].verifying_share
    monkeypatch.setattr(os, "fstat", lambda each: _owned(real(each), 0, 54321))
    assert "group 54321 may read it" in str(refusal(file))


def _owned(status: os.stat_result, user: int, group: int) -> os.stat_result:
    return os.stat_result((*status[:4], user, group, *status[6:]))


def test_a_file_that_grows_or_shrinks_while_it_is_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat
    for by in (-1, 1):
        monkeypatch.setattr(os, "fstat", lambda each, by=by: _sized(real(each), by))
        assert "changed while it was read" in str(refusal(file))


def _sized(status: os.stat_result, by: int) -> os.stat_result:
    return os.stat_result((*status[:6], status.st_size + by, *status[7:]))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    refusal(tmp_path / "pipe")
    refusal(tmp_path)
    refusal(tmp_path / "missing")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: text[:-1],
        lambda text: text + text,
        lambda text: text.replace("signing_share", "signing-share"),
        lambda text: text.replace('"signing_share":"', '"signing_share":"zz'),
        lambda text: text + " " * 100_000,
        lambda text: "\ud800" + text,
    ],
)
def test_a_damaged_share_is_refused_without_showing_it(file: Path, group: Group, damage: Callable[[str], str]) -> None:
    text = group.shares[1].to_json()
    secret = text.partition('"signing_share":"')[2][:64]
    assert len(secret) == 64
    file.write_bytes(damage(text).encode(errors="surrogatepass"))
    error = refusal(file)
    assert error.__context__ is None
    assert error.__cause__ is None
    assert secret not in "".join(traceback.format_exception(error))


def test_a_share_that_does_not_fit_its_public_part_is_refused(file: Path, group: Group) -> None:
    mixed = json.loads(group.shares[1].to_json())
    mixed["signing_share"] = json.loads(group.shares[2].to_json())["signing_share"]
    file.write_text(json.dumps(mixed))
    refusal(file)


@pytest.fixture
def seal_key_file(tmp_path: Path) -> Path:
    return sealing_keys(tmp_path / "seal.key", os.urandom(32))


def sealing_keys(path: Path, *values: bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(b"".join(base64.b64encode(value) + b"\n" for value in values))
    return path


def seal(path: Path, key: SealingKey) -> bytes:
    path.write_bytes(key.seal(path.read_bytes()))
    return path.read_bytes()


def sealed_refusal(path: Path, seal_key_file: Path | None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_shares({"default": path}, seal_key_file=seal_key_file)
    assert isinstance(caught.value.__context__, OSError | None)
    return str(caught.value)


def test_a_sealed_share_is_loaded(file: Path, group: Group, seal_key_file: Path) -> None:
    seal(file, SealingKeys.load(seal_key_file).newest)
    share = load_shares({"default": file}, seal_key_file=seal_key_file)["default"]
    assert share.verifying_share == group.shares[1].verifying_share


def test_the_sealing_key_changes_and_each_step_can_start(file: Path, tmp_path: Path) -> None:
    old, new = os.urandom(32), os.urandom(32)
    before = sealing_keys(tmp_path / "before", old)
    during = sealing_keys(tmp_path / "during", new, old)
    after = sealing_keys(tmp_path / "after", new)
    text = file.read_bytes()
    seal(file, SealingKey(old))
    for key_file in (before, during):
        load_shares({"default": file}, seal_key_file=key_file)
    file.write_bytes(SealingKey(new).seal(text))
    for key_file in (during, after):
        load_shares({"default": file}, seal_key_file=key_file)
    assert f"was sealed with the key {SealingKey(new).kid}" in sealed_refusal(file, before)


def test_sealed_and_unsealed_are_not_mixed(file: Path, seal_key_file: Path) -> None:
    said = sealed_refusal(file, seal_key_file)
    assert said.startswith(f"keys.default.share: {file} is not sealed")
    assert "frost-sidecar keygen seal" in said
    seal(file, SealingKeys.load(seal_key_file).newest)
    assert f"{file} is sealed; name the file with its key in seal_key_file" in sealed_refusal(file, None)


def test_a_sealing_key_that_cannot_be_used_stops_the_start(file: Path, seal_key_file: Path, tmp_path: Path) -> None:
    seal(file, SealingKeys.load(seal_key_file).newest)
    assert sealed_refusal(file, tmp_path / "missing").startswith("seal_key_file: cannot read")
    seal_key_file.chmod(0o644)
    assert "seal_key_file: " in (said := sealed_refusal(file, seal_key_file))
    assert f"holds a sealing key and is open to other users (mode 0644); run: chmod 600 {seal_key_file}" in said


def test_no_error_shows_a_sealed_share(file: Path, group: Group, seal_key_file: Path) -> None:
    """Neither one that was tampered with, nor one that holds something else under the right key."""
    text = group.shares[1].to_json()
    secret = text.partition('"signing_share":"')[2][:64]
    key = SealingKeys.load(seal_key_file).newest
    sealed = seal(file, key)
    for content, said in (
        (sealed[:-6] + b"AAAAAA", "it was changed after it was sealed"),
        (sealed[:-30], "is damaged"),
        (key.seal(text[:-1].encode()), "holds no key package"),
        (key.seal(b""), "holds no key package"),
        (key.seal(text.encode("utf-16")), "holds no key package"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_shares({"default": file}, seal_key_file=seal_key_file)
        assert said in str(caught.value)
        assert caught.value.__context__ is None
        assert secret not in "".join(traceback.format_exception(caught.value))


def test_what_was_read_and_opened_is_wiped(file: Path, seal_key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[bytearray] = []

    def kept(read: Callable[..., bytearray]) -> Callable[..., bytearray]:
        def reading(*args: Any, **options: Any) -> bytearray:
            buffers.append(read(*args, **options))
            return buffers[-1]

        return reading

    monkeypatch.setattr("frost_sidecar.signer.keystore.read_private", kept(read_private))
    monkeypatch.setattr(SealingKeys, "open", kept(SealingKeys.open))
    load_share(file, setting="s")
    keys = SealingKeys.load(seal_key_file)
    seal(file, keys.newest)
    load_share(file, setting="s", keys=keys)
    assert len(buffers) == 3
    assert all(buffer and not any(buffer) for buffer in buffers)


def test_an_access_control_list_is_no_permission_of_the_group(tmp_path: Path) -> None:
    """Mode 0440, but the group's bits are the mask of a list, by which user 4711 may read."""
    file = tmp_path / "secret"
    file.write_text("secret")
    file.chmod(0o440)
    nobody = 0xFFFFFFFF
    entries = ((0x01, 4, nobody), (0x02, 4, 4711), (0x04, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody))
    listed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    os.setxattr(file, "system.posix_acl_access", listed)
    with pytest.raises(ConfigError, match=r"access control list|group .* may read it"):
        read_private(file, what="a secret", most=100, setting="x")
    file.chmod(0o400)  # the mask: nobody in the list may read any more
    assert read_private(file, what="a secret", most=100, setting="x") == b"secret"
