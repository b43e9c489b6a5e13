"""The section ``[plugins.transport_mtls]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the connections to the signers."""

    connections_per_signer: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Most connections to one signer at once; further calls wait for a free one, inside their deadline. Not fewer than
    the coordinator's ``signing.calls_per_signer``, or that wait is held against the signer."""
    warm_connections: Annotated[int, Meta(ge=0, le=64)] = 2
    """How many connections to each configured signer are opened at start and kept open, so that calls find one. Not
    fewer than the coordinator's ``signing.batches_per_signer``; never more than ``connections_per_signer``. None are
    where ``keepalive_seconds`` is below 1."""
    connect_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0
    """How long TCP connect and TLS handshake together may take."""
    keepalive_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """How long an idle connection is kept for the next call; keep it below the idle limit of the signers (75 s)."""
