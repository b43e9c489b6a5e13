"""Addresses: ``HOST:PORT`` of listeners, URLs of signers, and the patterns of URLs that callers may name.

A pattern is a signer's URL in whose host ``*`` stands for letters, digits and hyphens (never a dot, so never for
another domain) and ``{identifier}`` for the number of the participant that the caller pairs the URL with::

    https://frost-signer-{identifier}.frost.svc:7000
    https://*.frost-signer.frost.svc:7000
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from frost_sidecar.errors import ConfigError

_URL = re.compile(r"https://(?P<host>[A-Za-z0-9._-]+|\[(?P<v6>[0-9A-Fa-f:.]+)\])(:(?P<port>[0-9]{1,5}))?/?\Z")
_PATTERN = re.compile(r"https://(?P<host>[A-Za-z0-9._*{}-]+?)(:(?P<port>[0-9]{1,5}))?/?\Z")
_IDENTIFIER = "{identifier}"


def parse_url(text: str) -> tuple[str, int] | None:
    """Host, in lower case, and port of a signer's URL, ``https://HOST:PORT``; None for anything else."""
    url = _URL.match(text)
    if url is None or not 1 <= (port := int(url["port"] or 443)) <= 65535 or not _is_v6(url["v6"]):
        return None
    return (url["v6"] or url["host"]).lower(), port


def parse_address(text: str, *, path: str) -> tuple[str, int]:
    """``HOST:PORT`` in its two parts, an IPv6 host in brackets; raises :class:`ConfigError`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or host in {"", "[]"} or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError("use HOST:PORT with a port from 0 to 65535", path=path)
    if ":" in host and not bracketed:
        raise ConfigError("write an IPv6 address in brackets: [::1]:7101", path=path)
    return (host[1:-1] if bracketed else host), int(port)


class AllowedUrls:
    """The patterns of URLs that callers may name."""

    def __init__(self, patterns: Iterable[str], *, path: str) -> None:
        """Read the patterns; raises :class:`ConfigError` with ``path`` for one that is none."""
        self._rules = [_rule(pattern, f"{path}[{index}]") for index, pattern in enumerate(patterns)]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def host(self, url: str, identifier: int) -> tuple[str, bool] | None:
        """The host of ``url`` where a pattern allows it for the participant ``identifier``, else None.

        With it goes whether the host tells which participant it is, by an ``{identifier}`` in the pattern.
        """
        address = parse_url(url)
        if address is None:
            return None
        host, port = address
        telling = [
            len(pieces) > 1
            for pieces, allowed_port in self._rules
            if port == allowed_port and re.fullmatch(str(identifier).join(pieces), host)
        ]
        return (host, any(telling)) if telling else None


def _rule(pattern: str, path: str) -> tuple[list[str], int]:
    """The pieces of a host's expression between the places of the identifier, and the port."""
    match = _PATTERN.match(pattern)
    sample = pattern.replace(_IDENTIFIER, "1").replace("*", "x")
    if match is None or parse_url(sample) is None:
        raise ConfigError("use https://HOST:PORT with * or {identifier} in HOST and nothing more", path=path)
    pieces = match["host"].lower().split(_IDENTIFIER)
    if not re.search(r"[a-z]", pieces[-1].rpartition("*")[2]):
        raise ConfigError("would allow strangers' hosts; end HOST with a domain of your own", path=path)
    return ["[a-z0-9-]+".join(map(re.escape, piece.split("*"))) for piece in pieces], int(match["port"] or 443)


def _is_v6(host: str | None) -> bool:
    try:
        return host is None or bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False
