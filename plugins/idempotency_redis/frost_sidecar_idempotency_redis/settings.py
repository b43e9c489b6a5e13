"""The section ``[plugins.idempotency_redis]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=60)]
Path = Annotated[str, Meta(min_length=1)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the server is and how to speak to it. Exactly one of ``url`` and ``url_file``."""

    url: str | None = None
    """``redis://``, ``rediss://`` (TLS) or ``unix://``; may hold a password: better in a file."""
    url_file: Path | None = None
    """File with the URL."""
    prefix: Annotated[str, Meta(max_length=128, pattern=r"^[!-~]*\Z")] = "frost-sidecar:idempotency:"
    """Begins every key; one for each group of replicas that sign with the same keys for the same callers."""
    ca: Path | None = None
    """Authority of the server's certificate; default: the system's. For ``rediss://`` alone, as are the next three."""
    cert: Path | None = None
    """Certificate to show to the server, with ``key``."""
    key: Path | None = None
    process_tls: bool = False
    """Use the process's own certificate, key and authority, ``tls`` of the configuration, instead of these three."""
    connect_seconds: Seconds = 1.0
    call_seconds: Seconds = 1.0
    """Deadline of one command; ``idempotency.store_seconds``, where smaller, decides."""
    max_connections: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Connections at once; a call beyond waits for one, within its deadline."""

    def __repr__(self) -> str:
        """Without the URL, which may hold a password."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Without the URL, which may hold a password."""
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return list({**shown, "url": None if self.url is None else "…"}.items())
