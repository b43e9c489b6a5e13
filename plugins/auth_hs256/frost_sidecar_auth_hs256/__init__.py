"""Bearer tokens signed and checked with one shared secret (JWT, HS256; RFC 7519, RFC 7518 section 3.2).

.. code-block:: toml

    [plugins.auth_hs256]
    secret_file = "/secrets/jwt_hs256.b64"
"""

from __future__ import annotations

from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import Authenticator, PluginContext, TokenIssuer
from frost_sidecar_auth_hs256.authenticator import Hs256Authenticator
from frost_sidecar_auth_hs256.issuer import Hs256Issuer
from frost_sidecar_auth_hs256.secret import Secret, load_secret
from frost_sidecar_auth_hs256.settings import Settings

__all__ = [
    "Hs256Authenticator",
    "Hs256Issuer",
    "Secret",
    "Settings",
    "load_secret",
    "make_authenticator",
    "make_token_issuer",
]


@hookimpl
def make_token_issuer(context: PluginContext) -> TokenIssuer:
    """Read the secret and build the issuer; raises :class:`~frost_sidecar.errors.ConfigError`."""
    return Hs256Issuer(load_secret(context))


@hookimpl
def make_authenticator(context: PluginContext) -> Authenticator:
    """Read the secret and build the authenticator; raises :class:`~frost_sidecar.errors.ConfigError`."""
    return Hs256Authenticator(load_secret(context), leeway=context.settings(Settings).leeway_seconds)
