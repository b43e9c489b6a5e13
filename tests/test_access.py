"""Who is calling, as the kernel says it; the kernel is the edge that these tests stand in for."""

from __future__ import annotations

import socket
import struct
from typing import Any, cast

import pytest
from aiohttp import web

from frost_sidecar.access import unix_caller
from frost_sidecar.errors import Unauthenticated


class Peer:
    """A connected socket, as far as its peer's credentials are concerned."""

    def __init__(self, family: int, uid: int, gid: int) -> None:
        self.family = family
        self.raw = struct.pack("iII", 4711, uid, gid)

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return self.raw


class Request:
    def __init__(self, peer: Peer | None) -> None:
        self.peer = peer

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return self.peer


def caller(peer: Peer | None) -> str:
    return unix_caller(cast("web.Request", Request(peer))).subject


@pytest.mark.parametrize(("uid", "gid"), [(1000, 2000), (0, 0), (4294967294, 65534)])
def test_the_kernels_uid_and_gid_name_the_caller(uid: int, gid: int) -> None:
    assert caller(Peer(socket.AF_UNIX, uid, gid)) == f"unix:uid={uid},gid={gid}"


@pytest.mark.parametrize("peer", [None, Peer(socket.AF_INET, 0, 0)])
def test_without_a_unix_peer_nobody_is_calling(peer: Peer | None) -> None:
    with pytest.raises(Unauthenticated):
        caller(peer)
