"""Bearer tokens with a public key: the coordinator signs them, signers need nothing that is secret to check them.

JWTs (RFC 7519) with EdDSA (RFC 8037), Ed25519 (RFC 9864) or RS256 (RFC 7518), checked with a JWK set (RFC 7517).

.. code-block:: toml

    [plugins.auth_eddsa_jwks]                  # the coordinator
    key_dir = "/secrets/token-keys"
    jwks_out = "/var/lib/frost/jwks.json"

    [plugins.auth_eddsa_jwks]                  # a signer
    jwks_file = "/etc/frost/jwks.json"         # or jwks_url = "https://…"
"""

from __future__ import annotations

from frost_sidecar import hookimpl
from frost_sidecar.hookspecs import Authenticator, PluginContext, TokenIssuer
from frost_sidecar_auth_eddsa_jwks.authenticator import JwksAuthenticator
from frost_sidecar_auth_eddsa_jwks.building import build_authenticator, build_issuer
from frost_sidecar_auth_eddsa_jwks.claims import ClaimRules
from frost_sidecar_auth_eddsa_jwks.issuer import JwksIssuer
from frost_sidecar_auth_eddsa_jwks.jwk import PublicKey, parse_jwk
from frost_sidecar_auth_eddsa_jwks.jwks import KeySet, parse_jwks
from frost_sidecar_auth_eddsa_jwks.keyfiles import KeyFiles
from frost_sidecar_auth_eddsa_jwks.private import PrivateKey, parse_private
from frost_sidecar_auth_eddsa_jwks.remote import RemoteKeys
from frost_sidecar_auth_eddsa_jwks.settings import Settings
from frost_sidecar_auth_eddsa_jwks.source import FileKeys, KeySource

__all__ = [
    "ClaimRules",
    "FileKeys",
    "JwksAuthenticator",
    "JwksIssuer",
    "KeyFiles",
    "KeySet",
    "KeySource",
    "PrivateKey",
    "PublicKey",
    "RemoteKeys",
    "Settings",
    "make_authenticator",
    "make_token_issuer",
    "parse_jwk",
    "parse_jwks",
    "parse_private",
]


@hookimpl
def make_token_issuer(context: PluginContext) -> TokenIssuer | None:
    """Read the keys, publish them and build the issuer; None where no keys are configured.

    Raises :class:`~frost_sidecar.errors.ConfigError`.
    """
    return build_issuer(context)


@hookimpl
def make_authenticator(context: PluginContext) -> Authenticator | None:
    """Read the JWK set, where it is a file, and build the authenticator; None on a coordinator that only signs.

    Raises :class:`~frost_sidecar.errors.ConfigError`.
    """
    return build_authenticator(context)
