"""Where the secret comes from."""

from __future__ import annotations

from typing import Final, Literal

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import PluginContext
from frost_sidecar.logs import get_logger
from frost_sidecar_auth_hs256.file import SecretFile
from frost_sidecar_auth_hs256.keyring import Keyring
from frost_sidecar_auth_hs256.secret import HOW_TO, Secret, parse_secret
from frost_sidecar_auth_hs256.settings import Settings
from frost_sidecar_auth_hs256.watch import WatchedKeyring

log = get_logger("frost_sidecar.auth_hs256")

DEV_SECRET: Final = b"devsecret"
"""What the development switch falls back to when no secret is configured."""


def load_keyring(context: PluginContext, user: Literal["issuer", "authenticator"]) -> Keyring:
    """The configured secret; from a file, it follows the file. Under the development switch alone ``devsecret``.

    ``user`` is for the log: issuer and authenticator of one process each have a keyring of their own.

    Raises:
        ConfigError: no secret is configured, its file cannot be read or is open to every user, it is not base64, or it
            is too weak. The message never shows any of it.
    """
    settings = context.settings(Settings)
    ours = log.bind(used_by=user)
    if settings.secret_file is not None:
        place = f"plugins.{context.name}.secret_file"
        file = SecretFile(context.path(settings.secret_file), place, dev=context.dev)
        reading = file.read()
        for sentence in reading.forgiven:
            ours.warning(sentence, path=str(file.path))
        return WatchedKeyring(file, reading, previous_seconds=settings.previous_seconds, log=ours)
    if settings.secret_b64 is not None:
        place = f"plugins.{context.name}.secret_b64"
        secret, forgiven = parse_secret(settings.secret_b64, place, dev=context.dev)
        for sentence in forgiven:
            ours.warning(sentence, place=place)
        return Keyring(secret)
    if context.dev:
        ours.warning("no secret is configured: the development secret is in use; anybody can make valid tokens")
        return Keyring(Secret(DEV_SECRET))
    raise ConfigError(
        f"no secret; set secret_file (environment: JWT_HS256_B64_FILE) to a file with it in base64; {HOW_TO}",
        path=f"plugins.{context.name}",
    )
