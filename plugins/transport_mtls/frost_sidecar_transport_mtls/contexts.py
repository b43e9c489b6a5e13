"""The TLS context for each signer's name, of the certificate that we have now."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.identity import check_in_time
from frost_sidecar.revocation import Revocations
from frost_sidecar_transport_mtls.pinning import PinnedContext, TlsIdentity

MAX_FURTHER: Final = 256
"""Most names beyond the configured ones whose context is kept."""


class PinnedContexts:
    """One context for each name, made once for each certificate of ours: connections are pooled by it.

    The configured names' contexts are kept for good, those of further names until ``MAX_FURTHER`` others have been
    asked for since. With a new certificate all are new, and so are the connections of the calls that follow.
    """

    def __init__(self, identity: TlsIdentity, configured: Iterable[str]) -> None:
        """Raises :class:`~frost_sidecar.errors.ConfigError` for a configured name that cannot be a server's."""
        self._names = tuple(configured)
        self._now = _Contexts(identity, self._names)

    @classmethod
    def following(cls, context: PluginContext) -> PinnedContexts:
        """The contexts of the host's TLS files, now and whenever these change, for its configured signers.

        Raises:
            ConfigError: a TLS file or a signer's ``server_name`` cannot be used.
        """
        return _Followed(context).contexts

    def get(self, server_name: str) -> PinnedContext:
        """The context that accepts only the peer ``server_name``.

        Raises :class:`~frost_sidecar.errors.ConfigError` for a name that cannot be a server's.
        """
        return self._now.get(server_name)

    def renew(self, identity: TlsIdentity) -> None:
        """Take another certificate, authority or list of revoked certificates for all calls from now on."""
        self._now = _Contexts(identity, self._names)


class _Contexts:
    """The contexts of one certificate of ours."""

    def __init__(self, identity: TlsIdentity, configured: Iterable[str]) -> None:
        self._identity = identity
        self._configured = {name: identity.context(name) for name in configured}
        self._further: OrderedDict[str, PinnedContext] = OrderedDict()

    def get(self, server_name: str) -> PinnedContext:
        context = self._configured.get(server_name)
        if context is not None:
            return context
        context = self._further.pop(server_name, None) or self._identity.context(server_name)
        self._further[server_name] = context  # at the end, as the one used last
        if len(self._further) > MAX_FURTHER:
            self._further.popitem(last=False)
        return context


class _Followed:
    """Reads the files and renews the contexts; in threads of the host's."""

    def __init__(self, context: PluginContext) -> None:
        files = context.tls
        self._files = files
        self._turn = threading.Lock()
        self._contexts: PinnedContexts | None = None
        self._names = [signer.server_name for signer in context.signers]
        self._trusts_until = math.inf
        if files.crl is not None:
            context.follow("crl", [files.crl], partial(self._read_lists, files.crl))
        context.follow("tls", [files.cert, files.key, files.ca], self._read)

    @property
    def contexts(self) -> PinnedContexts:
        if self._contexts is None:
            raise RuntimeError("the host has not called the function that reads the files")
        return self._contexts

    def _read(self) -> float:
        # OpenSSL would take a list that nobody can use, and then refuse everybody. At the start it was read just now.
        if self._files.crl is not None and self._contexts is not None:
            Revocations.read(self._files.crl, self._files.ca, "tls")
        return self._load()

    def _load(self) -> float:
        with self._turn:
            identity = TlsIdentity(self._files, trusts_until=self._trusts_until)
            if self._contexts is None:
                self._contexts = PinnedContexts(identity, self._names)
            else:
                check_in_time(self._files.cert, "tls")
                self._contexts.renew(identity)
            return identity.ends

    def _read_lists(self, crl: Path) -> float:
        """Check the lists and take them over. Until all files can be used, connections are made with the old ones."""
        self._trusts_until = expires = Revocations.read(crl, self._files.ca, "tls").expires
        if self._contexts is not None:
            self._load()
        return expires
