"""The folder of the Unix socket: nobody but root and the sidecar's own user can put another socket in its place."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from frost_sidecar import errors
from frost_sidecar.config import ServerConfig
from frost_sidecar.socket_file import unix_socket
from frost_sidecar.testing.sidecar import MemorySidecar

IS_ROOT = os.geteuid() == 0
STRANGER = 47130
"""A user and a group that are not ours."""
OWN_GROUP = os.getegid()


def give(path: Path, uid: int = -1, gid: int = -1) -> None:
    """Let the folder belong to others, which root alone can do."""
    os.chown(path, uid, gid)


def made(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def plain(mode: int) -> Callable[[Path], Path]:
    return lambda base: made(base / "own", mode)


def above(mode: int) -> Callable[[Path], Path]:
    def make(base: Path) -> Path:
        own = made(made(base / "above", 0o755) / "own", 0o750)
        own.parent.chmod(mode)
        return own

    return make


def link_to_good(base: Path) -> Path:
    made(base / "own", 0o750)
    (base / "link").symlink_to("own")
    return base / "link"


def link_through_open(base: Path) -> Path:
    """The folder is good; the way to it leads through a link in a folder that everybody may write to."""
    made(base / "own", 0o750)
    made(base / "open", 0o755)
    (base / "open" / "link").symlink_to("../own")
    (base / "open").chmod(0o777)
    return base / "open" / "link"


def link_into_open(base: Path) -> Path:
    made(made(base / "open", 0o755) / "own", 0o750)
    (base / "open").chmod(0o777)
    (base / "link").symlink_to(base / "open" / "own")
    return base / "link"


def dots_through_open(base: Path) -> Path:
    made(base / "own", 0o750)
    made(base / "open", 0o777)
    return base / "open" / ".." / "own"


def link_in_circles(base: Path) -> Path:
    (base / "a").symlink_to("b")
    (base / "b").symlink_to("a")
    return base / "a"


def link_to_nothing(base: Path) -> Path:
    (base / "link").symlink_to("nothing")
    return base / "link"


GOOD: dict[str, Callable[[Path], Path]] = {
    "ours alone": plain(0o700),
    "as we make it": plain(0o750),
    "read by all": plain(0o755),
    "with a group handed down": plain(0o2750),
    "writable to our own group": plain(0o770),
    "below a sticky one": above(0o1777),
    "below one of our own group": above(0o775),
    "through a link": link_to_good,
}
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "writable to all": (plain(0o777), "(mode 0777"),
    "writable to all and not to the group": (plain(0o757), "(mode 0757"),
    "writable to all, with the sticky bit": (plain(0o1777), "(mode 1777"),
    "below one that is writable to all": (above(0o777), "/above (mode 0777"),
    "below one that others may write to": (above(0o707), "/above (mode 0707"),
    "behind a link that all may change": (link_through_open, "/open (mode 0777"),
    "behind a link into one that all may change": (link_into_open, "/open (mode 0777"),
    "by way of one that is writable to all": (dots_through_open, "/open (mode 0777"),
    "a link in circles": (link_in_circles, "too many symbolic links"),
    "a link to nothing": (link_to_nothing, "cannot look at"),
}


def listens(folder: Path, *, socket_group: str | None = None) -> os.stat_result:
    """Make the socket in ``folder``, as a sidecar does at its start; the folder as it then is."""
    with unix_socket(folder / "s", ServerConfig(socket_group=socket_group)):
        assert stat.S_ISSOCK((folder / "s").lstat().st_mode)
        return folder.stat()


@pytest.mark.parametrize("name", GOOD)
def test_a_folder_that_only_we_can_change_is_good(short_path: Path, name: str) -> None:
    listens(GOOD[name](short_path))


@pytest.mark.parametrize("name", BAD)
def test_a_folder_that_others_can_change_stops_the_start(short_path: Path, name: str) -> None:
    make, said = BAD[name]
    folder = make(short_path)
    with pytest.raises(errors.ConfigError) as refused:
        listens(folder)
    assert refused.value.path == "server.socket"
    assert said in str(refused.value)
    assert not list(short_path.rglob("s"))


def test_the_error_says_what_to_do(short_path: Path) -> None:
    with pytest.raises(errors.ConfigError) as refused:
        listens(plain(0o777)(short_path))
    assert str(refused.value) == (
        f"server.socket: every user may write to {short_path}/own (mode 0777, uid {os.geteuid()}, gid {OWN_GROUP}), "
        "and so replace the socket; use a folder of root or of this process's user with mode 0750; in a Kubernetes "
        "emptyDir put the socket into a folder in the volume, which the sidecar makes"
    )


@pytest.mark.parametrize("place", ["own", "above"])
def test_another_users_folder_stops_the_start(short_path: Path, place: str) -> None:
    """As root a folder is given away; else there are folders of root alone, which are good."""
    folder = above(0o755)(short_path)
    if not IS_ROOT:
        assert Path("/usr").stat().st_uid == 0
        return
    give(folder if place == "own" else folder.parent, uid=STRANGER)
    with pytest.raises(errors.ConfigError, match=rf"uid {STRANGER}, .*belongs to another user") as refused:
        listens(folder)
    assert f"/{place} (mode" in str(refused.value)


def test_a_link_of_another_user_stops_the_start(short_path: Path) -> None:
    folder = link_to_good(short_path)
    if IS_ROOT:
        os.lchown(folder, STRANGER, -1)
        with pytest.raises(errors.ConfigError, match=rf"link {folder} belongs to another user \(uid {STRANGER}\)"):
            listens(folder)
    else:
        listens(folder)


@pytest.mark.parametrize("mode", [0o770, 0o730, 0o2770, 0o1770])
def test_a_group_may_write_only_where_it_is_the_sockets(short_path: Path, mode: int) -> None:
    folder = plain(mode)(short_path)
    if IS_ROOT:
        give(folder, gid=STRANGER)
        folder.chmod(mode)
        with pytest.raises(errors.ConfigError, match=r"name the group as server\.socket_group"):
            listens(folder)
    group = STRANGER if IS_ROOT else OWN_GROUP
    listens(folder, socket_group=str(group))


def test_a_missing_folder_is_made_for_us_and_the_sockets_group(short_path: Path) -> None:
    group = STRANGER if IS_ROOT else OWN_GROUP
    before = os.umask(0o077)
    try:
        status = listens(short_path / "made", socket_group=str(group))
    finally:
        os.umask(before)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o750, os.geteuid(), group)
    listens(short_path / "made", socket_group=str(group))  # and found again by the next start


def test_a_socket_of_another_user_is_within_its_reach(short_path: Path) -> None:
    user = STRANGER if IS_ROOT else os.geteuid()
    with unix_socket(short_path / "made" / "s", ServerConfig(socket_owner=str(user))):
        assert (short_path / "made" / "s").stat().st_uid == user
        assert stat.S_IMODE((short_path / "made").stat().st_mode) == (0o751 if IS_ROOT else 0o750)


def test_a_made_folder_and_its_socket_have_the_group_of_a_volume(short_path: Path) -> None:
    """Kubernetes gives a volume its ``fsGroup``, and the bit that hands it down."""
    volume = plain(0o2755)(short_path)
    if IS_ROOT:
        give(volume, gid=STRANGER)
        volume.chmod(0o2755)
    group = volume.stat().st_gid
    with unix_socket(volume / "made" / "s", ServerConfig()):
        status = (volume / "made").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o2750, group)
        assert (volume / "made" / "s").stat().st_gid == group


def test_only_the_last_folder_is_made(short_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=f"there is no folder {short_path}/a; make it"):
        listens(short_path / "a" / "b")
    assert list(short_path.iterdir()) == []


def test_a_file_in_the_folders_place_stops_the_start(short_path: Path) -> None:
    (short_path / "file").write_text("precious")
    with pytest.raises(errors.ConfigError, match=r"server\.socket"):
        listens(short_path / "file")
    assert (short_path / "file").read_text() == "precious"


@pytest.mark.parametrize("mounted", [True, False])
def test_a_volume_that_all_may_write_to_is_good_above_the_folder(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, mounted: bool
) -> None:
    """An ``emptyDir``, mode 0777 of root: whoever sees it is a container that was given it. Mounts are the edge."""
    folder = above(0o777)(short_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: mounted and path == folder.parent)
    if mounted and IS_ROOT:
        listens(folder)
        assert "whoever is given this volume could replace the socket" in caplog.text
        return
    with pytest.raises(errors.ConfigError, match="every user may write to"):
        listens(folder)


def test_a_volume_of_another_user_or_the_socket_in_the_volume_itself_is_not(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    with pytest.raises(errors.ConfigError, match="every user may write to"):
        listens(plain(0o777)(short_path))


async def test_under_dev_an_open_folder_is_a_warning(short_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    short_path.chmod(0o777)
    sidecar = MemorySidecar(short_path, dev=True)
    async with sidecar.serving() as http, http.post("/sign", json={"msg_b64": "aGVsbG8="}) as response:
        assert response.status == 200
    [record] = [each for each in caplog.records if each.message == "refused outside of development"]
    assert f"every user may write to {short_path} " in vars(record)["reason"]


async def test_a_sidecar_does_not_start_in_an_open_folder(short_path: Path) -> None:
    short_path.chmod(0o777)
    sidecar = MemorySidecar(short_path)
    async with sidecar.cluster.coordinator() as coordinator:
        with pytest.raises(errors.ConfigError, match=rf"server\.socket: every user may write to {short_path} "):
            await coordinator.serve(stop=anyio.Event())
    assert not sidecar.path.exists()


def test_an_access_control_list_is_no_permission_of_the_group(short_path: Path) -> None:
    """With a list, the group's bits say the most that anybody in it may: here user 4711 may write."""
    folder = short_path / "listed"
    folder.mkdir(0o770)
    folder.chmod(0o770)
    listens(folder)
    nobody = 0xFFFFFFFF
    entries = ((0x01, 7, nobody), (0x02, 7, 4711), (0x04, 5, nobody), (0x10, 7, nobody), (0x20, 0, nobody))
    os.setxattr(
        folder,
        "system.posix_acl_access",
        struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries),
    )
    with pytest.raises(errors.ConfigError, match="has an access control list"):
        listens(folder)
    folder.chmod(0o750)  # the mask: nobody in the list may write any more
    listens(folder)
