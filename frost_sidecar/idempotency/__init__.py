"""One signature for one idempotency key, however often and at how many replicas it is asked for.

``fingerprint`` says which requests are the same, ``flights`` lets one of them sign, ``shared`` and ``memory`` keep what
came of it, and ``answer`` is the form in which it is kept. docs/idempotency.md tells the whole.
"""

from __future__ import annotations

from frost_sidecar.idempotency.flights import Idempotency
from frost_sidecar.idempotency.memory import MemoryStore

__all__ = ["Idempotency", "MemoryStore"]
