"""From the settings to issuer and authenticator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from frost_sidecar.errors import ConfigError
from frost_sidecar.hookspecs import Authenticator, PluginContext
from frost_sidecar_auth_eddsa_jwks.authenticator import JwksAuthenticator
from frost_sidecar_auth_eddsa_jwks.claims import ClaimRules
from frost_sidecar_auth_eddsa_jwks.fetching import Fetcher, PinnedAuthority, parse_url
from frost_sidecar_auth_eddsa_jwks.issuer import JwksIssuer
from frost_sidecar_auth_eddsa_jwks.jwks import KeySet, parse_jwks
from frost_sidecar_auth_eddsa_jwks.keyfiles import KeyFiles
from frost_sidecar_auth_eddsa_jwks.publication import Publication
from frost_sidecar_auth_eddsa_jwks.remote import RemoteKeys
from frost_sidecar_auth_eddsa_jwks.settings import Settings
from frost_sidecar_auth_eddsa_jwks.source import FileKeys, KeySource

_MAX_LIFETIME: Final[Mapping[str, float]] = {"signer": 60.0, "coordinator": 3600.0}
"""Where nothing is configured: a signer's calls get a token each, callers of the coordinator may keep theirs."""


def build_issuer(context: PluginContext) -> JwksIssuer | None:
    """Read the keys, publish them, and follow their files; None where no keys are configured.

    Raises :class:`~frost_sidecar.errors.ConfigError`.
    """
    settings = context.settings(Settings)
    place = f"plugins.{context.name}"
    if settings.key_file is None and settings.key_dir is None:
        if settings.jwks_out is None:
            return None
        raise ConfigError("needs key_file or key_dir, whose public keys are written there", path=f"{place}.jwks_out")
    if settings.key_file is not None and settings.key_dir is not None:
        raise ConfigError("set either key_file or key_dir", path=place)
    path = context.path(settings.key_file or settings.key_dir or "")
    folder = settings.key_file is None
    files = KeyFiles(path, settings.alg, f"{place}.{'key_dir' if folder else 'key_file'}", folder=folder)
    publication = None
    if settings.jwks_out is not None:
        out = context.path(settings.jwks_out)
        if folder and out.parent.resolve() == path.resolve():
            raise ConfigError("must not be in key_dir: it would be read as a key", path=f"{place}.jwks_out")
        publication = Publication(out, f"{place}.jwks_out")
    issuer = JwksIssuer(
        files,
        publish_seconds=settings.publish_seconds,
        retired_seconds=settings.retired_seconds,
        publication=publication,
    )
    context.follow("token-keys", [path], issuer.reload)
    return issuer


def build_authenticator(context: PluginContext) -> Authenticator | None:
    """Read what tokens are checked with; None on a coordinator that only signs.

    Raises :class:`~frost_sidecar.errors.ConfigError`.
    """
    settings = context.settings(Settings)
    place = f"plugins.{context.name}"
    if context.role == "signer":
        for name in ("key_file", "key_dir", "jwks_out"):
            if getattr(settings, name) is not None:
                raise ConfigError("only coordinators sign tokens; remove the setting", path=f"{place}.{name}")
    if settings.jwks_file is not None and settings.jwks_url is not None:
        raise ConfigError("set either jwks_file or jwks_url", path=place)
    source = _source(context, settings, place)
    if source is None:
        return None
    lifetime = settings.max_lifetime_seconds or _MAX_LIFETIME[context.role]
    rules = ClaimRules(max_lifetime=lifetime, leeway=settings.leeway_seconds, issuers=settings.issuer)
    return JwksAuthenticator(source, rules, settings.algorithms)


def _source(context: PluginContext, settings: Settings, place: str) -> KeySource | None:
    def parse(data: bytes) -> KeySet:
        return parse_jwks(data, settings.algorithms)

    if settings.jwks_file is not None:
        path = context.path(settings.jwks_file)
        file = FileKeys(path, parse, f"{place}.jwks_file", max_bytes=settings.max_jwks_bytes)
        context.follow("jwks", [path], file.reload)
        return file
    if settings.jwks_url is not None:
        url = parse_url(settings.jwks_url, f"{place}.jwks_url")
        if settings.stale_seconds < settings.refresh_seconds:
            raise ConfigError("must not be less than refresh_seconds", path=f"{place}.stale_seconds")
        ca = context.tls.ca if settings.jwks_ca is None else context.path(settings.jwks_ca)
        authority = PinnedAuthority(ca, f"{place}.jwks_ca")
        context.follow("jwks-ca", [ca], authority.reload)
        return RemoteKeys(
            Fetcher(url, authority.context, seconds=settings.fetch_seconds, max_bytes=settings.max_jwks_bytes),
            parse,
            str(url),
            refresh_seconds=settings.refresh_seconds,
            min_refresh_seconds=settings.min_refresh_seconds,
            stale_seconds=settings.stale_seconds,
        )
    if context.role == "signer":
        raise ConfigError("set jwks_file or jwks_url, to the keys that tokens are checked with", path=place)
    return None
