"""Bearer tokens signed and checked with one shared secret (JWT, HS256; RFC 7519, RFC 7518 section 3.2).

.. code-block:: toml

    [plugins.auth_hs256]
    secret_file = "/secrets/jwt_hs256.b64"
"""

from __future__ import annotations

from frost_sidecar import hookimpl
from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import Authenticator, PluginContext, TokenIssuer
from frost_sidecar_auth_hs256.authenticator import Hs256Authenticator
from frost_sidecar_auth_hs256.issuer import Hs256Issuer
from frost_sidecar_auth_hs256.keyring import Keyring
from frost_sidecar_auth_hs256.secret import Secret
from frost_sidecar_auth_hs256.settings import Settings
from frost_sidecar_auth_hs256.source import load_keyring, log

__all__ = [
    "Hs256Authenticator",
    "Hs256Issuer",
    "Keyring",
    "Secret",
    "Settings",
    "load_keyring",
    "make_authenticator",
    "make_token_issuer",
]


@hookimpl
def make_token_issuer(context: PluginContext) -> TokenIssuer:
    """Read the secret and build the issuer; raises :class:`~frost_sidecar.errors.ConfigError`."""
    return Hs256Issuer(load_keyring(context, "issuer"))


@hookimpl
def make_authenticator(context: PluginContext) -> Authenticator:
    """Read the secret and build the authenticator.

    Raises :class:`~frost_sidecar.errors.ConfigError`, also for ``accept_undated`` on a signer.
    """
    settings = context.settings(Settings)
    if settings.accept_undated:
        if context.role == "signer":
            raise ConfigError(
                "a signer takes only tokens with an end, a subject and one use; remove the setting",
                path=f"plugins.{context.name}.accept_undated",
            )
        log.warning(
            "accept_undated is on: a token without exp is good for ever, so that whoever gets hold of one may ask for "
            "signatures until the secret is changed; switch it off when all callers send exp and sub"
        )
    return Hs256Authenticator(
        load_keyring(context, "authenticator"), leeway=settings.leeway_seconds, accept_undated=settings.accept_undated
    )
