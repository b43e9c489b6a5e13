"""A share file sealed at rest: any JOSE library opens it with the key, and nothing but the key opens it."""

from __future__ import annotations

import base64
import itertools
import json
import os
import pickle
import re
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from frost_ed25519 import keys as frost_keys
from joserfc import jwe
from joserfc.jwk import OctKey

from frost_sidecar.encoding import b64url, decode_base64url
from frost_sidecar.errors import ConfigError
from frost_sidecar.keygen.sealing import SealedFile, reseal_files, seal_files, unseal_files
from frost_sidecar.private_file import read_private
from frost_sidecar.sealing import MAX_KEYS, CannotOpen, SealingKey, SealingKeys, is_sealed, sealed_kid

SECRET = b'{"signing_share":"0badc0de"}'


def key_file(path: Path, *values: bytes, spell: Callable[[bytes], bytes] = base64.b64encode) -> Path:
    path.touch(0o600)
    path.write_bytes(b"".join(spell(value) + b"\n" for value in values))
    return path


@pytest.fixture
def value() -> bytes:
    return os.urandom(32)


@pytest.fixture
def key(value: bytes) -> SealingKey:
    return SealingKey(value)


@pytest.fixture
def keys(key: SealingKey) -> SealingKeys:
    return SealingKeys([key])


@pytest.fixture
def share(tmp_path: Path) -> Path:
    return a_share(tmp_path / "share-1.json")


def a_share(path: Path) -> Path:
    dealt, _ = frost_keys.generate_with_dealer(2, 2)
    path.touch(0o600)
    path.write_text(frost_keys.KeyPackage.from_secret_share(next(iter(dealt.values()))).to_json())
    return path


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        action()
    assert isinstance(caught.value.__context__, OSError | None)
    return str(caught.value)


# --- the form ---------------------------------------------------------------------------------------------------------


def test_a_jose_library_opens_what_was_sealed(value: bytes, key: SealingKey) -> None:
    sealed = key.seal(SECRET)
    opened = jwe.decrypt_compact(sealed, OctKey.import_key(value), algorithms=["dir", "A256GCM"])
    assert opened.plaintext == SECRET
    assert opened.protected == {"alg": "dir", "enc": "A256GCM", "typ": "frost-share+jwe", "kid": key.kid}


def test_what_a_jose_library_sealed_is_opened(value: bytes, key: SealingKey, keys: SealingKeys) -> None:
    header = {"kid": key.kid, "typ": "frost-share+jwe", "enc": "A256GCM", "alg": "dir"}
    sealed = jwe.encrypt_compact(header, SECRET, OctKey.import_key(value), algorithms=["dir", "A256GCM"])
    assert keys.open(sealed.encode()) == SECRET
    assert keys.open(sealed.encode() + b"\r\n") == SECRET


def test_one_content_is_never_sealed_the_same_way_twice(key: SealingKey) -> None:
    ivs = {key.seal(SECRET).split(b".")[2] for _ in range(100)}
    assert len(ivs) == 100


def test_the_key_id_is_of_the_key_alone(value: bytes) -> None:
    assert SealingKey(value).kid == SealingKey(value).kid
    assert re.fullmatch("[A-Za-z0-9_-]{11}", SealingKey(value).kid)
    assert len({SealingKey(os.urandom(32)).kid for _ in range(100)}) == 100


def test_a_key_shows_nothing_of_itself(value: bytes, key: SealingKey) -> None:
    assert repr(key) == f"SealingKey({key.kid})"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    assert not hasattr(key, "__dict__")


# --- what does not open -----------------------------------------------------------------------------------------------


def parts(sealed: bytes, **changes: bytes) -> bytes:
    names = ("header", "encrypted_key", "iv", "ciphertext", "tag")
    return b".".join({**dict(zip(names, sealed.split(b"."), strict=True)), **changes}.values())


def header(sealed: bytes, **changes: Any) -> bytes:
    members = {**json.loads(decode_base64url(sealed.split(b".")[0])), **changes}
    return parts(sealed, header=b64url(json.dumps(members).encode()).encode())


def flipped(data: bytes, at: int) -> bytes:
    raw = bytearray(decode_base64url(data))
    raw[at] ^= 1
    return b64url(bytes(raw)).encode()


CHANGED = {
    "ciphertext": lambda sealed: parts(sealed, ciphertext=flipped(sealed.split(b".")[3], 0)),
    "ciphertext cut": lambda sealed: parts(
        sealed, ciphertext=b64url(decode_base64url(sealed.split(b".")[3])[:-1]).encode()
    ),
    "no ciphertext": lambda sealed: parts(sealed, ciphertext=b""),
    "tag": lambda sealed: parts(sealed, tag=flipped(sealed.split(b".")[4], -1)),
    "iv": lambda sealed: parts(sealed, iv=flipped(sealed.split(b".")[2], 5)),
    "header in another order": lambda sealed: parts(
        sealed,
        header=b64url(
            json.dumps(dict(reversed(json.loads(decode_base64url(sealed.split(b".")[0])).items()))).encode()
        ).encode(),
    ),
}
DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda sealed: b"",
    "four parts": lambda sealed: sealed.rpartition(b".")[0],
    "six parts": lambda sealed: sealed + b".",
    "an encrypted key": lambda sealed: parts(sealed, encrypted_key=b"AAAA"),
    "a short iv": lambda sealed: parts(sealed, iv=b"AAAA"),
    "a short tag": lambda sealed: parts(sealed, tag=b64url(b"\0" * 12).encode()),
    "padding": lambda sealed: sealed + b"==",
    "white space inside": lambda sealed: sealed.replace(b".", b". ", 1),
    "bytes of no alphabet": lambda sealed: parts(sealed, ciphertext=b"\xff\xfe"),
    "header no JSON": lambda sealed: parts(sealed, header=b64url(b"{").encode()),
    "header no object": lambda sealed: parts(sealed, header=b64url(b"[]").encode()),
    "header member twice": lambda sealed: parts(
        sealed, header=b64url(decode_base64url(sealed.split(b".")[0])[:-1] + b',"alg":"dir"}').encode()
    ),
    "another alg": lambda sealed: header(sealed, alg="A256KW"),
    "no alg": lambda sealed: header(sealed, alg="none"),
    "another enc": lambda sealed: header(sealed, enc="A128GCM"),
    "another typ": lambda sealed: header(sealed, typ="JWT"),
    "zip": lambda sealed: header(sealed, zip="DEF"),
    "crit": lambda sealed: header(sealed, crit=["exp"]),
    "an embedded key": lambda sealed: header(sealed, jwk={"kty": "oct", "k": "AAAA"}),
    "a long kid": lambda sealed: header(sealed, kid="A" * 12),
    "a kid of other characters": lambda sealed: header(sealed, kid="\x1b[31m......"),
    "a kid with a line end": lambda sealed: header(sealed, kid="AAAAAAAAAA\n"),
}


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in CHANGED.items()])
def test_what_was_changed_says_so(key: SealingKey, keys: SealingKeys, change: Callable[[bytes], bytes]) -> None:
    sealed = key.seal(SECRET)
    with pytest.raises(CannotOpen, match=f"its key, {key.kid}: it was changed after it was sealed") as caught:
        keys.open(change(sealed))
    assert caught.value.__context__ is None
    assert keys.open(sealed) == SECRET


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGED.items()])
def test_what_is_of_another_form_says_so(key: SealingKey, keys: SealingKeys, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(CannotOpen, match="no compact JWE") as caught:
        keys.open(damage(key.seal(SECRET)))
    assert caught.value.__context__ is None


def test_no_byte_of_it_can_be_exchanged(key: SealingKey, keys: SealingKeys) -> None:
    sealed = key.seal(SECRET)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= \n\0\xff"
    for at in range(len(sealed)):
        for other in {*alphabet} - {sealed[at]}:
            with pytest.raises(CannotOpen):
                keys.open(sealed[:at] + bytes([other]) + sealed[at + 1 :])
    for at in range(len(sealed)):
        with pytest.raises(CannotOpen):
            keys.open(sealed[:at])


def test_another_key_is_named(key: SealingKey) -> None:
    others = SealingKeys([SealingKey(os.urandom(32)), SealingKey(os.urandom(32))])
    with pytest.raises(CannotOpen) as caught:
        others.open(key.seal(SECRET))
    assert f"was sealed with the key {key.kid}, which is not in the key file" in str(caught.value)
    assert others.newest.kid in str(caught.value)


def test_another_key_under_the_same_name_opens_nothing(key: SealingKey) -> None:
    other = SealingKey(os.urandom(32))
    other.kid = key.kid
    with pytest.raises(CannotOpen, match="was changed"):
        SealingKeys([other]).open(key.seal(SECRET))


# --- the key file -----------------------------------------------------------------------------------------------------


def test_several_keys_open_and_the_first_seals(tmp_path: Path) -> None:
    new, old = os.urandom(32), os.urandom(32)
    both = SealingKeys.load(key_file(tmp_path / "keys", new, old))
    assert both.open(SealingKey(old).seal(SECRET)) == SECRET
    assert both.open(SealingKey(new).seal(SECRET)) == SECRET
    assert sealed_kid(both.newest.seal(SECRET)) == SealingKey(new).kid


@pytest.mark.parametrize(
    "spell",
    [
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda value: base64.b64encode(value).rstrip(b"="),
        lambda value: b"\n \t" + base64.b64encode(value) + b" \r\n\r",
    ],
)
def test_keys_are_read_in_each_base64(tmp_path: Path, spell: Callable[[bytes], bytes]) -> None:
    values = [os.urandom(32) for _ in range(MAX_KEYS)]
    loaded = SealingKeys.load(key_file(tmp_path / "keys", *values, spell=spell))
    assert all(loaded.open(SealingKey(value).seal(SECRET)) == SECRET for value in values)
    assert loaded.newest.kid == SealingKey(values[0]).kid


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no sealing key"),
        (b"\n \n", "holds no sealing key"),
        (b"not base64 at all!", "line 1: not base64"),
        (b"\xff\xfe\xfd", "line 1: not base64"),
        (base64.b64encode(os.urandom(31)), "has 32 bytes, this has 31"),
        (base64.b64encode(os.urandom(64)), "has 32 bytes, this has 64"),
        (base64.b64encode(bytes(32)), "simple pattern"),
        (base64.b64encode(bytes(range(32))), "simple pattern"),
        (base64.b64encode(bytes(range(250, 26, -7))), "simple pattern"),
        (base64.b64encode(bytes(range(200, 216)) * 2), "simple pattern"),
        (base64.b64encode(b"correct horse battery staple 42!"), "this is text"),
        (base64.b64encode(os.urandom(32)) * 200, "too large for a sealing key"),
    ],
    ids=itertools.count(),
)
def test_weak_and_broken_keys_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(content)
    text = refused(lambda: SealingKeys.load(path, setting="seal_key_file"))
    assert text.startswith(f"seal_key_file: {path} ")
    assert said in text
    assert len(content) < 12 or content.decode("latin-1") not in text


def test_the_line_of_a_wrong_key_is_named(tmp_path: Path, value: bytes, key: SealingKey) -> None:
    path = key_file(tmp_path / "key", value, os.urandom(16))
    assert "line 2: a sealing key has 32 bytes" in refused(lambda: SealingKeys.load(path))
    path = key_file(tmp_path / "key", value, value)
    assert f"line 2: the key {key.kid} stands there twice" in refused(lambda: SealingKeys.load(path))
    path = key_file(tmp_path / "key", *(os.urandom(32) for _ in range(MAX_KEYS + 1)))
    assert "more than 8 keys" in refused(lambda: SealingKeys.load(path))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, value: bytes, mode: int) -> None:
    path = key_file(tmp_path / "key", value)
    path.chmod(mode)
    for administrator in (False, True):
        assert "is open to other users" in refused(lambda: SealingKeys.load(path, administrator=administrator))  # noqa: B023


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_sealed_where_they_lie_and_opened_again(share: Path, keys: SealingKeys) -> None:
    before = share.read_bytes()
    assert seal_files([share], keys) == [SealedFile(share, keys.newest.kid)]
    sealed = share.read_bytes()
    assert is_sealed(sealed)
    assert keys.open(sealed) == before
    assert stat.S_IMODE(share.stat().st_mode) == 0o600
    assert unseal_files([share], keys) == [SealedFile(share, None)]
    assert share.read_bytes() == before
    assert [path.name for path in share.parent.iterdir()] == [share.name]


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_file_keeps_its_mode(share: Path, keys: SealingKeys, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda each: of_root(real(each)))
    share.chmod(mode)
    seal_files([share], keys)
    assert stat.S_IMODE(share.stat().st_mode) == mode


def of_root(status: os.stat_result) -> os.stat_result:
    """The same file, as if root owned it: whoever runs the test."""
    return os.stat_result((*status[:4], 0, *status[5:]))


def test_root_prepares_the_file_of_a_signer_that_runs_as_another_user(
    share: Path, keys: SealingKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, given = Path.stat, []
    monkeypatch.setattr(Path, "stat", lambda path, **how: of_signer(real(path, **how)))
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))
    seal_files([share], keys)
    unseal_files([share], keys)
    assert given == [(4711, 4712)] * 2


def of_signer(status: os.stat_result) -> os.stat_result:
    return os.stat_result((*status[:4], 4711, 4712, *status[6:]))


def test_a_link_stays_one(share: Path, keys: SealingKeys) -> None:
    link = share.with_name("link.json")
    link.symlink_to(share.name)
    assert [each.path for each in seal_files([link, share, link], keys)] == [share]
    assert link.is_symlink()
    assert is_sealed(share.read_bytes())


def test_a_second_name_would_keep_the_plaintext(share: Path, keys: SealingKeys) -> None:
    os.link(share, share.with_name("other.json"))
    assert "hard links" in refused(lambda: seal_files([share], keys))
    assert not is_sealed(share.read_bytes())


def test_nothing_is_replaced_unless_all_can_be(share: Path, keys: SealingKeys) -> None:
    other = share.with_name("group.json")
    other.touch(0o600)
    for content, said in ((b"{}", "no key package"), (b"x" * 70_000, "no key package"), (b"", "no key package")):
        other.write_bytes(content)
        assert said in refused(lambda: seal_files([share, other], keys))
    assert "cannot read" in refused(lambda: seal_files([share, share.with_name("missing")], keys))
    assert not is_sealed(share.read_bytes())
    assert len(list(share.parent.iterdir())) == 2


def test_a_disk_that_fails_leaves_the_file_and_no_draft(
    share: Path, keys: SealingKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = share.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot replace .*share-1.json: No space left on device"):
        seal_files([share], keys)
    assert [path.name for path in share.parent.iterdir()] == [share.name]
    assert share.read_bytes() == before


def test_sealed_twice_and_opened_twice_is_refused(share: Path, keys: SealingKeys) -> None:
    assert "is not sealed" in refused(lambda: unseal_files([share], keys))
    assert "is not sealed" in refused(lambda: reseal_files([share], keys))
    seal_files([share], keys)
    assert "is sealed already" in refused(lambda: seal_files([share], keys))


def test_the_sealing_key_is_changed(tmp_path: Path) -> None:
    old, new = SealingKey(os.urandom(32)), SealingKey(os.urandom(32))
    one, two = a_share(tmp_path / "one"), a_share(tmp_path / "two")
    before = [one.read_bytes(), two.read_bytes()]
    seal_files([one, two], SealingKeys([old]))
    both = SealingKeys([new, old])
    assert reseal_files([one], both) == [SealedFile(one, new.kid)]
    kept = one.read_bytes()
    assert reseal_files([one, two], both) == [SealedFile(one, new.kid, changed=False), SealedFile(two, new.kid)]
    assert one.read_bytes() == kept
    assert [SealingKeys([new]).open(each.read_bytes()) for each in (one, two)] == before
    with pytest.raises(ConfigError, match=f"was sealed with the key {new.kid}"):
        reseal_files([one], SealingKeys([old]))


def test_no_error_shows_the_share(share: Path, key: SealingKey, keys: SealingKeys) -> None:
    secret = json.loads(share.read_bytes())["signing_share"]
    seal_files([share], keys)
    share.write_bytes(share.read_bytes()[:-4])
    with pytest.raises(ConfigError) as caught:
        unseal_files([share], keys)
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_the_buffers_are_wiped(share: Path, keys: SealingKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[bytearray] = []

    def reading(*args: Any, **options: Any) -> bytearray:
        buffers.append(read_private(*args, **options))
        return buffers[-1]

    monkeypatch.setattr("frost_sidecar.keygen.sealing.read_private", reading)
    seal_files([share], keys)
    unseal_files([share], keys)
    assert len(buffers) == 2
    assert not any(buffers[0])


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "frost_sidecar", "keygen", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_seals_reseals_and_unseals(tmp_path: Path, share: Path, value: bytes) -> None:
    before = share.read_bytes()
    old = key_file(tmp_path / "key", value)
    done = run("seal", "--key-file", old, share, "--json")
    assert done.returncode == 0, done.stderr
    assert "may still be on the disk" in done.stderr
    assert json.loads(done.stdout) == {"files": [{"file": str(share), "kid": SealingKey(value).kid, "changed": True}]}
    new = os.urandom(32)
    done = run("reseal", "-k", key_file(tmp_path / "keys", new, value), share)
    assert done.returncode == 0, done.stderr
    assert SealingKey(new).kid in done.stdout
    assert SealingKey(value).kid not in done.stdout
    done = run("unseal", "-k", old, share)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{share} was sealed with the key {SealingKey(new).kid}" in done.stderr
    done = run("unseal", "-k", tmp_path / "keys", share)
    assert done.returncode == 0, done.stderr
    assert share.read_bytes() == before
    assert len(done.stderr.splitlines()) == 0


def test_a_file_that_fails_while_it_is_read_is_named() -> None:
    path = Path("/proc/self/mem")  # regular, our own, mode 0600; nothing is mapped at its begin
    with pytest.raises(ConfigError, match=f"cannot read {path}: Input/output error"):
        read_private(path, what="a key share", most=100)
