"""Key shares are read from files of ours alone, and no error shows what is in them."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from frost_sidecar.errors import ConfigError
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


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
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
