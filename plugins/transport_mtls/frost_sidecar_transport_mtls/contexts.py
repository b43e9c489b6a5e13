"""The TLS context for each signer's name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from frost_sidecar_transport_mtls.pinning import PinnedContext, TlsIdentity

MAX_FURTHER: Final = 256
"""Most names beyond the configured ones whose context is kept."""


class PinnedContexts:
    """One context for each name, made once: connections are pooled by it.

    The configured names' contexts are kept for good, those of further names until ``MAX_FURTHER`` others have been
    asked for since.
    """

    def __init__(self, identity: TlsIdentity, configured: Iterable[str]) -> None:
        """Raises :class:`~frost_sidecar.errors.ConfigError` for a configured name that cannot be a server's."""
        self._identity = identity
        self._configured = {name: identity.context(name) for name in configured}
        self._further: OrderedDict[str, PinnedContext] = OrderedDict()

    def get(self, server_name: str) -> PinnedContext:
        """The context that accepts only the peer ``server_name``.

        Raises :class:`~frost_sidecar.errors.ConfigError` for a name that cannot be a server's.
        """
        context = self._configured.get(server_name)
        if context is not None:
            return context
        context = self._further.pop(server_name, None) or self._identity.context(server_name)
        self._further[server_name] = context  # at the end, as the one used last
        if len(self._further) > MAX_FURTHER:
            self._further.popitem(last=False)
        return context
