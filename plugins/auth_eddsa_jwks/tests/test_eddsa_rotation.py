"""Rotation: which key signs, what is published, and what a file that is broken, swapped or gone changes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from frost_sidecar_auth_eddsa_jwks import (
    ClaimRules,
    FileKeys,
    JwksAuthenticator,
    JwksIssuer,
    KeyFiles,
    parse_jwks,
)
from frost_sidecar_auth_eddsa_jwks.__main__ import main
from frost_sidecar_auth_eddsa_jwks.publication import Publication
from joserfc.jwk import OKPKey

from frost_sidecar.config import Config
from frost_sidecar.encoding import b64url, decode_base64url
from frost_sidecar.errors import ConfigError, Unauthenticated
from frost_sidecar.following import Follow, Following, read_once
from frost_sidecar.hookspecs import Authenticator, TokenIssuer
from frost_sidecar.model import Credentials, TokenClaims
from frost_sidecar.plugins import Loaded, load
from frost_sidecar.testing.authority import Authority

START = 2_000_000_000


def claims() -> TokenClaims:
    now = int(time.time())
    return TokenClaims("frost-coord", "frost-coordinator", "signer-1", now, now, now + 30, "one", "AA")


def kid_of(token: str) -> str:
    kid: str = json.loads(decode_base64url(token.partition(".")[0].encode()))["kid"]
    return kid


@pytest.fixture
def keygen(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    def make(path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert main(["keygen", str(path)]) == 0
        return capsys.readouterr().out.strip()

    return make


@dataclass
class Rotating:
    """An issuer over a folder, with a clock of ours."""

    folder: Path
    publish_seconds: float = 600
    retired_seconds: float = 120
    now: float = START
    issuer: JwksIssuer = field(init=False)

    def __post_init__(self) -> None:
        self.keys = self.folder / "keys"
        self.out = self.folder / "jwks.json"
        self.keys.mkdir(exist_ok=True)

    def start(self) -> None:
        self.issuer = JwksIssuer(
            KeyFiles(self.keys, "EdDSA", "key_dir", folder=True),
            publish_seconds=self.publish_seconds,
            retired_seconds=self.retired_seconds,
            publication=Publication(self.out, "jwks_out"),
            clock=lambda: self.now,
        )
        self.issuer.reload()

    async def signs(self) -> str:
        return kid_of(await self.issuer.issue(claims()))

    @property
    def published(self) -> dict[str, int | None]:
        """Each ``kid`` in the file with its end."""
        listed = json.loads(self.out.read_text())["keys"]
        assert listed == self.issuer.jwks()["keys"]
        return {key["kid"]: key.get("exp") for key in listed}


# --- which key signs, and which are published -------------------------------------------------------------------------


async def test_a_rotation_from_end_to_end(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path)
    old = keygen(ours.keys / "2026-01-01.pem")
    ours.start()
    assert (await ours.signs(), ours.published) == (old, {old: None})
    new = keygen(ours.keys / "2026-11-22.pem")
    ours.now += 10
    ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (old, {new: None, old: None})
    ours.now += 599
    assert await ours.signs() == old
    ours.now += 1
    assert await ours.signs() == new  # by the clock alone
    (ours.keys / "2026-01-01.pem").unlink()
    ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (new, {new: None, old: int(ours.now) + 120})
    end = ours.now + 120
    for _ in range(3):
        ours.now += 30
        ours.issuer.reload()
        assert ours.published == {new: None, old: end}  # it gets no second life
    ours.now = end
    ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (new, {new: None})


async def test_at_the_first_start_the_first_name_signs_whatever_the_times(
    tmp_path: Path, keygen: Callable[[Path], str]
) -> None:
    """Others may know it already; the last name's turn comes when everybody had time to learn of it."""
    ours = Rotating(tmp_path)
    kids = [keygen(ours.keys / name) for name in ("b.pem", "c.pem", "a.pem")]
    for path in ours.keys.iterdir():
        os.utime(path, (1, 1))
    ours.start()
    assert await ours.signs() == kids[2]
    assert list(ours.published) == [kids[1], kids[0], kids[2]]
    ours.now += 600
    assert await ours.signs() == kids[1]


async def test_a_start_without_memory_does_not_hurry_a_new_key(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    """The publication lay in /run, or it is a further coordinator with the same keys."""
    ours = Rotating(tmp_path)
    old = keygen(ours.keys / "1.pem")
    ours.start()
    new = keygen(ours.keys / "2.pem")
    ours.issuer.reload()
    ours.out.unlink()
    ours.start()
    assert await ours.signs() == old
    ours.now += 600
    assert await ours.signs() == new


async def test_the_only_key_signs_at_once(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path)
    old = keygen(ours.keys / "1.pem")
    ours.start()
    (ours.keys / "1.pem").unlink()
    new = keygen(ours.keys / "2.pem")
    ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (new, {new: None, old: START + 120})


async def test_a_key_that_comes_back_signs_at_once(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path, publish_seconds=0)
    old, new = keygen(ours.keys / "1.pem"), keygen(ours.keys / "2.pem")
    ours.start()
    moved = (ours.keys / "2.pem").rename(tmp_path / "2.pem")
    ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (old, {old: None, new: START + 120})
    moved.rename(ours.keys / "2.pem")
    ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (new, {new: None, old: None})


async def test_a_key_that_comes_back_after_its_withdrawal_waits(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    """While the process was down the key's time ran out: those who check have dropped it, whatever the file says."""
    ours = Rotating(tmp_path)
    old = keygen(ours.keys / "1.pem")
    ours.start()
    new = keygen(ours.keys / "2.pem")
    ours.issuer.reload()
    moved = (ours.keys / "2.pem").rename(tmp_path / "2.pem")
    ours.now += 700
    ours.issuer.reload()
    assert ours.published == {old: None, new: START + 820}
    moved.rename(ours.keys / "2.pem")
    ours.now += 5000
    ours.start()
    assert (await ours.signs(), ours.published) == (old, {new: None, old: None})
    ours.now += 600
    assert await ours.signs() == new


async def test_a_start_without_memory_passes_over_a_key_that_has_expired(
    tmp_path: Path, keygen: Callable[[Path], str]
) -> None:
    ours = Rotating(tmp_path)
    write_jwk(ours.keys / "1.json", exp=START - 1)
    old, new = keygen(ours.keys / "2.pem"), keygen(ours.keys / "3.pem")
    ours.start()
    assert await ours.signs() == old
    ours.now += 600
    assert await ours.signs() == new


async def test_a_clock_that_was_ahead_keeps_no_key_from_signing(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path, now=START + 10**8)
    old = keygen(ours.keys / "1.pem")
    ours.start()
    new = keygen(ours.keys / "2.pem")
    ours.issuer.reload()
    ours.now = START
    ours.start()
    assert await ours.signs() == old
    ours.now += 600
    assert await ours.signs() == new


async def test_a_restart_forgets_nothing(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path)
    oldest, old = keygen(ours.keys / "1.pem"), keygen(ours.keys / "2.pem")
    ours.start()
    (ours.keys / "1.pem").unlink()
    new = keygen(ours.keys / "3.pem")
    ours.now += 100
    ours.issuer.reload()
    ours.now += 50
    ours.start()
    assert await ours.signs() == old
    assert ours.published == {new: None, old: None, oldest: START + 220}
    (ours.keys / "2.pem").unlink()  # while the process is down
    ours.now = START + 699
    ours.start()
    assert (await ours.signs(), ours.published) == (new, {new: None, old: START + 819})
    ours.now += 1
    assert await ours.signs() == new


async def test_a_restart_does_not_hurry_a_new_key(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path)
    old = keygen(ours.keys / "1.pem")
    ours.start()
    new = keygen(ours.keys / "2.pem")  # while the process is down
    ours.now += 10
    ours.start()
    assert await ours.signs() == old
    ours.now += 599
    ours.start()
    assert await ours.signs() == old
    ours.now += 1
    assert await ours.signs() == new


@pytest.mark.parametrize("text", ["", "{", '{"keys":[{"kty":"EC"}]}', '{"keys":5}', "[]", '{"keys":[{"iat":"x"}]}'])
async def test_a_broken_publication_is_written_anew(
    text: str, tmp_path: Path, keygen: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    ours = Rotating(tmp_path)
    kid = keygen(ours.keys / "1.pem")
    ours.out.write_text(text)
    ours.start()
    assert (await ours.signs(), ours.published) == (kid, {kid: None})
    assert [each.getMessage() for each in caplog.records] == [
        "the published keys cannot be read; they are published anew"
    ]


async def test_a_key_that_cannot_be_published_does_not_sign(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path, publish_seconds=0)
    old = keygen(ours.keys / "1.pem")
    ours.start()
    new = keygen(ours.keys / "2.pem")
    ours.out.unlink()
    ours.out.mkdir()
    with pytest.raises(ConfigError, match=r"^jwks_out: cannot write"):
        ours.issuer.reload()
    assert await ours.signs() == old
    ours.out.rmdir()
    ours.issuer.reload()
    assert await ours.signs() == new
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


async def test_the_publication_is_for_everybody_and_written_on_change_alone(
    tmp_path: Path, keygen: Callable[[Path], str]
) -> None:
    ours = Rotating(tmp_path)
    keygen(ours.keys / "1.pem")
    mask = os.umask(0o077)
    try:
        ours.start()
    finally:
        os.umask(mask)
    before = ours.out.stat()
    assert stat.S_IMODE(before.st_mode) == 0o644
    ours.now += 1000
    ours.issuer.reload()
    assert ours.out.stat().st_ino == before.st_ino
    keygen(ours.keys / "2.pem")
    ours.issuer.reload()
    assert ours.out.stat().st_ino != before.st_ino
    assert "PRIVATE" not in ours.out.read_text()
    assert '"d"' not in ours.out.read_text()


def write_jwk(path: Path, **members: Any) -> str:
    key = OKPKey.import_key(Ed25519PrivateKey.generate())
    path.write_text(json.dumps({**key.as_dict(private=True), **members}))
    path.chmod(0o600)
    return str(members.get("kid", key.thumbprint()))


async def test_a_key_with_an_end(tmp_path: Path) -> None:
    ours = Rotating(tmp_path, publish_seconds=0)
    old = write_jwk(ours.keys / "1.json", exp=START + 1000)
    new = write_jwk(ours.keys / "2.json", exp=START + 100)
    ours.start()
    assert ours.issuer.reload() == START + 1000
    assert (await ours.signs(), ours.published) == (new, {new: START + 220, old: START + 1120})
    ours.now += 100
    assert await ours.signs() == old
    ours.now = START + 220
    ours.issuer.reload()
    assert ours.published == {old: START + 1120}
    ours.now = START + 1000
    with pytest.raises(ConfigError, match="every key has expired"):
        await ours.signs()
    write_jwk(ours.keys / "3.json")
    assert ours.issuer.reload() is None


async def test_one_kid_for_two_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = Rotating(tmp_path)
    write_jwk(ours.keys / "1.json", kid="same")
    write_jwk(ours.keys / "2.json", kid="same")
    ours.start()
    assert list(ours.published) == ["same"]
    [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert vars(record)["file"] == "1.json"


async def test_broken_files_stop_no_other_and_are_named_once(
    tmp_path: Path, keygen: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ours = Rotating(tmp_path, publish_seconds=0)
    old, new = keygen(ours.keys / "1.pem"), keygen(ours.keys / "2.pem")
    ours.start()
    (ours.keys / "2.pem").chmod(0o644)
    (ours.keys / "3.pem").write_text("-----BEGIN KEY-----\nhalf")
    (ours.keys / "3.pem").chmod(0o600)
    os.mkfifo(ours.keys / "4.pem", 0o600)
    (ours.keys / "5.pem").symlink_to("nowhere")
    (ours.keys / ".hidden").write_text("not read")
    (ours.keys / "folder").mkdir()
    for _ in range(3):
        ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (old, {old: None, new: START + 120})
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert sorted(vars(each)["file"] for each in errors) == ["2.pem", "3.pem", "4.pem", "5.pem"]
    (ours.keys / "2.pem").chmod(0o600)
    ours.issuer.reload()
    assert await ours.signs() == new
    assert "key file is no longer in the way" in [each.getMessage() for each in caplog.records]


def test_folders_that_stop_the_start(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path)
    with pytest.raises(ConfigError, match=r"^key_dir: no usable key in .*: it is empty"):
        ours.start()
    (ours.keys / "1.pem").write_text("half")
    (ours.keys / "1.pem").chmod(0o600)
    with pytest.raises(ConfigError, match=r"no usable key in .*: key_dir: the key is neither PEM nor a JWK"):
        ours.start()
    for number in range(32):
        keygen(ours.keys / f"{number:03}.pem")
    with pytest.raises(ConfigError, match="33 files; at most 32"):
        ours.start()
    shutil.rmtree(ours.keys)
    with pytest.raises(ConfigError, match="cannot read"):
        ours.start()


async def test_an_emptied_folder_leaves_things_as_they_are(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    ours = Rotating(tmp_path)
    kid = keygen(ours.keys / "1.pem")
    ours.start()
    (ours.keys / "1.pem").unlink()
    with pytest.raises(ConfigError, match="it is empty"):
        ours.issuer.reload()
    assert (await ours.signs(), ours.published) == (kid, {kid: None})


# --- as a host runs it ------------------------------------------------------------------------------------------------


@dataclass
class Host:
    """A coordinator's plugins, as configured; with ``follow`` they notice changes by themselves."""

    folder: Path
    follow: Follow = read_once
    signs_with: str | None = None

    def issuer(self, **settings: Any) -> TokenIssuer:
        [(_, issuer)] = self.load(auth_eddsa_jwks=settings).all("make_token_issuer", TokenIssuer)
        return issuer

    def both(self, **settings: Any) -> tuple[TokenIssuer, Authenticator]:
        loaded = self.load(auth_eddsa_jwks=settings)
        [(_, issuer)] = loaded.all("make_token_issuer", TokenIssuer)
        [(_, authenticator)] = loaded.all("make_authenticator", Authenticator)
        return issuer, authenticator

    def load(self, **plugins: Any) -> Loaded:
        files = Authority(self.folder / "tls").issue("coordinator", ["coordinator.test"])
        signers = [{"identifier": 1, "url": "https://signer-1.test", "zone": "a"}]
        tls = {"cert": str(files.cert), "key": str(files.key), "ca": str(files.ca)}
        token = {} if self.signs_with is None else {"token": {"plugin": self.signs_with}}
        own = {"transport_mtls": {}, **plugins}
        config = Config.build({"signers": signers, "tls": tls, "plugins": own, **token})
        return load(config, "coordinator", follow=self.follow)


@contextmanager
def following(folder: Path) -> Iterator[tuple[Host, Following]]:
    with Following() as files:
        yield Host(folder, files.follow), files


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.02)


def swap(volume: Path, number: int, source: dict[str, bytes]) -> None:
    """As the kubelet does it: a new folder, all of one time, and one rename of the link to it."""
    data = volume / f"..2026_11_22.{number}"
    data.mkdir(parents=True)
    for name, content in source.items():
        (data / name).write_bytes(content)
        (data / name).chmod(0o640)
        os.utime(data / name, (START, START))
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")
    link = volume / "..data_tmp"
    link.symlink_to(data.name)
    link.replace(volume / "..data")
    for path in volume.iterdir():
        if path.is_symlink() and not path.exists():
            path.unlink()


async def test_a_kubernetes_volume(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    kids = {name: keygen(tmp_path / "made" / name) for name in ("2026-01.pem", "2026-11.pem")}
    files = {name: (tmp_path / "made" / name).read_bytes() for name in kids}
    old, new = kids.values()
    volume, out = tmp_path / "volume", tmp_path / "jwks.json"
    swap(volume, 1, {"2026-01.pem": files["2026-01.pem"]})

    def published() -> list[str]:
        return [key["kid"] for key in json.loads(out.read_text())["keys"]]

    with following(tmp_path) as (host, watched):
        issuer = host.issuer(key_dir=str(volume), jwks_out=str(out), publish_seconds=1.5, retired_seconds=2)
        async with issuer:
            assert kid_of(await issuer.issue(claims())) == old
            swap(volume, 2, files)
            await until(lambda: published() == [new, old])
            assert kid_of(await issuer.issue(claims())) == old
            signing = {old}
            async with asyncio.timeout(20):
                while new not in signing:
                    signing.add(kid_of(await issuer.issue(claims())))
                    await asyncio.sleep(0.02)
            swap(volume, 3, {"2026-11.pem": files["2026-11.pem"]})
            await until(lambda: any("exp" in key for key in json.loads(out.read_text())["keys"]))
            assert published() == [new, old]
            await until(lambda: published() == [new])  # by itself, when its time is over
            assert kid_of(await issuer.issue(claims())) == new
        assert watched.faults == {}


async def test_a_jwks_file_is_followed_through_swap_rename_and_damage(
    tmp_path: Path, keygen: Callable[[Path], str]
) -> None:
    issuers = {}
    for name in ("old", "new"):
        keygen(tmp_path / f"{name}.pem")
        issuers[name] = Host(tmp_path).issuer(key_file=str(tmp_path / f"{name}.pem"))
    sets = {name: msgspec.json.encode(each.jwks()) for name, each in issuers.items() if isinstance(each, JwksIssuer)}
    volume = tmp_path / "volume"
    swap(volume, 1, {"jwks.json": sets["old"]})

    async def accepted(authenticator: Authenticator, name: str) -> bool:
        try:
            return await authenticator.authenticate(Credentials(await issuers[name].issue(claims()))) is not None
        except Unauthenticated as error:
            if error.reason != "token-key":
                raise
            return False

    with following(tmp_path) as (host, watched):
        _, authenticator = host.both(key_file=str(tmp_path / "old.pem"), jwks_file=str(volume / "jwks.json"))
        async with authenticator, asyncio.timeout(40):
            assert (await accepted(authenticator, "old"), await accepted(authenticator, "new")) == (True, False)
            swap(volume, 2, {"jwks.json": sets["new"]})
            while not await accepted(authenticator, "new"):
                await asyncio.sleep(0.02)
            assert not await accepted(authenticator, "old")
            swap(volume, 3, {"jwks.json": b'{"keys":[]}'})
            await until(lambda: "no key that can be used" in watched.faults.get("auth_eddsa_jwks.jwks", ""))
            assert await accepted(authenticator, "new")
            swap(volume, 4, {"jwks.json": sets["old"]})
            while not await accepted(authenticator, "old"):
                await asyncio.sleep(0.02)
            assert watched.faults == {}


async def test_the_end_of_a_key_is_told(tmp_path: Path) -> None:
    end = int(time.time()) + 1000
    write_jwk(tmp_path / "key.json", exp=end)
    public = {**json.loads((tmp_path / "key.json").read_text())}
    del public["d"]
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public]}))
    with following(tmp_path) as (host, watched):
        host.both(key_file=str(tmp_path / "key.json"), jwks_file=str(tmp_path / "jwks.json"))
        ours = {what: each for what, each in watched.expiries.items() if what.startswith("auth_eddsa_jwks.")}
        assert ours == {"auth_eddsa_jwks.token-keys": end, "auth_eddsa_jwks.jwks": end}


async def test_a_coordinator_signs_with_one_plugin_and_checks_callers_with_another(
    tmp_path: Path, keygen: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """So that callers on TCP move to keys before the coordinator does, or after."""
    keygen(tmp_path / "key.pem")
    assert main(["jwks", str(tmp_path / "key.pem")]) == 0
    (tmp_path / "jwks.json").write_text(capsys.readouterr().out)
    signs = {"key_file": str(tmp_path / "key.pem")}
    checks = {"jwks_file": str(tmp_path / "jwks.json")}
    hs256 = {"secret_b64": b64url(os.urandom(32))}
    alone = Host(tmp_path).load(auth_eddsa_jwks=signs)
    assert [name for name, _ in alone.all("make_token_issuer", TokenIssuer)] == ["auth_eddsa_jwks"]
    assert alone.all("make_authenticator", Authenticator) == []
    before = Host(tmp_path).load(auth_hs256=hs256, auth_eddsa_jwks=checks)
    assert [name for name, _ in before.all("make_token_issuer", TokenIssuer)] == ["auth_hs256"]
    assert [name for name, _ in before.all("make_authenticator", Authenticator)] == ["auth_hs256", "auth_eddsa_jwks"]
    after = Host(tmp_path, signs_with="auth_eddsa_jwks").load(auth_hs256=hs256, auth_eddsa_jwks=signs)
    assert [name for name, _ in after.all("make_token_issuer", TokenIssuer)] == ["auth_eddsa_jwks"]
    assert [name for name, _ in after.all("make_authenticator", Authenticator)] == ["auth_hs256"]
    [_, (_, authenticator)] = before.all("make_authenticator", Authenticator)
    [(_, issuer)] = alone.all("make_token_issuer", TokenIssuer)
    assert await authenticator.authenticate(Credentials(await issuer.issue(claims())))


async def test_callers_of_a_coordinator_may_have_longer_tokens(
    tmp_path: Path, keygen: Callable[[Path], str], capsys: pytest.CaptureFixture[str]
) -> None:
    keygen(tmp_path / "key.pem")
    assert main(["jwks", str(tmp_path / "key.pem")]) == 0
    (tmp_path / "jwks.json").write_text(capsys.readouterr().out)
    settings = {"key_file": str(tmp_path / "key.pem"), "jwks_file": str(tmp_path / "jwks.json")}
    hour = msgspec.structs.replace(claims(), exp=claims().iat + 3600)
    day = msgspec.structs.replace(claims(), exp=claims().iat + 86400)
    for own, longest in (({}, hour), ({"max_lifetime_seconds": 86400}, day)):
        issuer, authenticator = Host(tmp_path).both(**settings, **own)
        async with authenticator:
            assert await authenticator.authenticate(Credentials(await issuer.issue(longest)))
            longer = msgspec.structs.replace(longest, exp=longest.exp + 1)
            with pytest.raises(Unauthenticated) as caught:
                await authenticator.authenticate(Credentials(await issuer.issue(longer)))
            assert caught.value.reason == "token-lifetime"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"needs exactly 1 plugin with the hook make_token_issuer"),
        ({"jwks_out": "jwks.json"}, r"^plugins\.auth_eddsa_jwks\.jwks_out: needs key_file or key_dir"),
        ({"key_file": "a.pem", "key_dir": "keys"}, r"^plugins\.auth_eddsa_jwks: set either key_file"),
        ({"key_file": "missing.pem"}, r"^plugins\.auth_eddsa_jwks\.key_file: cannot read"),
        ({"key_dir": "{}/keys", "jwks_out": "{}/keys/jwks.json"}, r"jwks_out: must not be in key_dir"),
        ({"key_dir": "{}/keys", "jwks_out": "{}/missing/jwks.json"}, r"jwks_out: cannot write"),
        ({"key_dir": "{}/keys", "alg": "RS256"}, r"key_dir: no usable key .* does not fit alg = 'RS256'"),
        ({"key_dir": "{}/keys", "alg": "HS256"}, r"alg"),
        ({"key_dir": "{}/keys", "jwks_file": "{}/none.json"}, r"jwks_file: cannot read"),
        ({"key_dir": "{}/keys", "publish_seconds": -1}, r"publish_seconds"),
    ],
)
def test_settings_that_stop_the_start(
    settings: dict[str, Any], message: str, tmp_path: Path, keygen: Callable[[Path], str]
) -> None:
    keygen(tmp_path / "keys" / "1.pem")
    filled = {name: value.format(tmp_path) if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=message):
        Host(tmp_path).load(auth_eddsa_jwks=filled)


def test_a_jwks_file_that_everybody_may_write(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    keygen(tmp_path / "key.pem")
    issuer = Host(tmp_path).issuer(key_file=str(tmp_path / "key.pem"))
    assert isinstance(issuer, JwksIssuer)
    path = tmp_path / "jwks.json"
    path.write_bytes(msgspec.json.encode(issuer.jwks()))
    path.chmod(0o666)
    with pytest.raises(ConfigError, match=r"jwks_file: .* can be written by every user; run `chmod o-w"):
        Host(tmp_path).both(key_file=str(tmp_path / "key.pem"), jwks_file=str(path))
    path.chmod(0o644)
    Host(tmp_path).both(key_file=str(tmp_path / "key.pem"), jwks_file=str(path))


async def test_tokens_are_checked_while_keys_change(tmp_path: Path, keygen: Callable[[Path], str]) -> None:
    """Ten rotations at full speed, checked by what was published at the time: no token is refused."""
    ours = Rotating(tmp_path, publish_seconds=5, retired_seconds=90)
    keygen(ours.keys / "00.pem")
    ours.start()
    keys = FileKeys(ours.out, lambda data: parse_jwks(data, ["EdDSA"]), "jwks_file", max_bytes=65536)
    keys.reload()
    rules = ClaimRules(max_lifetime=60, leeway=2, clock=lambda: ours.now)
    authenticator = JwksAuthenticator(keys, rules, ["EdDSA"])
    signed = set()
    for second in range(100):
        ours.now = START + second
        if second % 10 == 3:
            keygen(ours.keys / f"{second:02}.pem")
        if second % 10 == 9:
            min(ours.keys.iterdir()).unlink()
        ours.issuer.reload()
        now = int(ours.now)
        token = await ours.issuer.issue(msgspec.structs.replace(claims(), iat=now, nbf=now, exp=now + 30))
        if second % 4 == 0:
            keys.reload()  # the checker is up to four seconds behind
        assert await authenticator.authenticate(Credentials(token))
        signed.add(kid_of(token))
    assert len(signed) == 11


async def test_issuing_before_the_first_reading_is_a_defect(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path, "EdDSA", "key_dir", folder=True)
    with pytest.raises(ConfigError, match="not read yet"):
        await JwksIssuer(files, publish_seconds=0, retired_seconds=0).issue(claims())


def test_a_token_has_nothing_of_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = Ed25519PrivateKey.generate()
    write = {**OKPKey.import_key(key).as_dict(private=True)}
    (tmp_path / "key.json").write_text(json.dumps(write))
    (tmp_path / "key.json").chmod(0o600)
    issuer = Host(tmp_path).issuer(key_file=str(tmp_path / "key.json"))
    assert isinstance(issuer, JwksIssuer)
    shown = [repr(issuer), repr(issuer.jwks()), *(str(vars(each)) for each in caplog.records)]
    assert all(b64url(key.private_bytes_raw()) not in text for text in shown)
