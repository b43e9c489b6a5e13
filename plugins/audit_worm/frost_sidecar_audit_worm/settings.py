"""The section ``[plugins.audit_worm]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the log is."""

    path: Annotated[str, Meta(min_length=1)] = "audit.log"
    """The log; its head is kept beside it in ``PATH.head``. Relative to the configuration file's folder."""
