"""HTTP to the signers over TLS 1.3, both sides with a certificate, each signer pinned to one name.

.. code-block:: toml

    [tls]
    cert = "/tls/tls.crt"
    key = "/tls/tls.key"
    ca = "/tls/ca.crt"

    [plugins.transport_mtls]
"""

from __future__ import annotations

from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import PluginContext, Transport
from frost_sidecar_transport_mtls.contexts import PinnedContexts
from frost_sidecar_transport_mtls.pinning import PinnedContext, TlsIdentity
from frost_sidecar_transport_mtls.settings import Settings
from frost_sidecar_transport_mtls.transport import MtlsTransport

__all__ = ["MtlsTransport", "PinnedContext", "PinnedContexts", "Settings", "TlsIdentity", "make_transport"]


@hookimpl
def make_transport(context: PluginContext) -> Transport:
    """Read the TLS files once for all signers, follow them, and build the transport.

    Raises:
        ConfigError: a TLS file or a signer's ``server_name`` cannot be used, or a setting is wrong.
    """
    settings = context.settings(Settings)
    return MtlsTransport(PinnedContexts.following(context), settings, context.signers)
