"""Who is calling, as the channel proves it: never as the body says."""

from __future__ import annotations

import socket
import struct

from aiohttp import web

from frost_sidecar.errors import Unauthenticated
from frost_sidecar.model import Caller

IN_PROCESS = Caller("in-process", "in-process")
"""The program that embeds the coordinator."""

_PEER_CREDENTIALS = struct.Struct("iII")
"""Linux ``struct ucred``: pid, uid, gid (socket(7), SO_PEERCRED)."""


def unix_caller(request: web.Request) -> Caller:
    """The process at the other end of a Unix socket, named by the user that connected.

    Raises:
        Unauthenticated: the kernel does not say who it is.
    """
    peer = request.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        raise Unauthenticated("the peer's credentials are not known")
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, gid = _PEER_CREDENTIALS.unpack(raw)
    return Caller(f"unix:uid={uid},gid={gid}", "unix")
