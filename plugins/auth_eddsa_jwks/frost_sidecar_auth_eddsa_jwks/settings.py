"""The section ``[plugins.auth_eddsa_jwks]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from frost_sidecar_auth_eddsa_jwks.jwk import Algorithm

Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Day = Annotated[float, Meta(gt=0, le=86400)]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """A coordinator signs with a private key; signers, and a coordinator for its callers on TCP, check with a JWK set.

    Times are in seconds.
    """

    key_file: Text | None = None
    """File with the one private key: PEM (PKCS 8) or JWK; coordinators only. Read again on change."""
    key_dir: Text | None = None
    """Folder of such files, for rotation: the last one by name is the newest key."""
    alg: Algorithm = "EdDSA"
    """What the tokens' header says; it must fit the key."""
    publish_seconds: Annotated[float, Meta(ge=0, le=604800)] = 600.0
    """How long a key that was added is published before it signs, unless there is no other."""
    retired_seconds: Annotated[float, Meta(ge=0, le=604800)] = 120.0
    """How long a key whose file is gone stays published: until the last token that it signed has expired."""
    jwks_out: Text | None = None
    """File that the public keys are written to, as a JWK set, mode 0644, at the start and on every change."""

    jwks_file: Text | None = None
    """File with the JWK set that tokens are checked with. Read again on change."""
    jwks_url: Text | None = None
    """``https`` address of that JWK set, instead of a file."""
    jwks_ca: Text | None = None
    """The authority that the address's certificate needs, PEM; without it the one in ``tls.ca``, never the system's."""
    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1)] = ("EdDSA", "Ed25519")
    """What accepted tokens' headers may say."""
    issuer: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()
    """Accepted ``iss``; empty: any, which the host then judges."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=30)] = 2.0
    """How far the clocks of issuer and checker may differ; a signer's own leeway, where smaller, decides there."""
    max_lifetime_seconds: Day | None = None
    """Longest time from ``iat`` to ``exp``; by default 60 on a signer, 3600 on a coordinator."""
    refresh_seconds: Annotated[float, Meta(ge=1, le=86400)] = 300.0
    """How often the address is asked."""
    min_refresh_seconds: Annotated[float, Meta(ge=0.1, le=3600)] = 10.0
    """Shortest time between two requests to it, whatever tokens come and whether it answers."""
    stale_seconds: Annotated[float, Meta(ge=1, le=604800)] = 3600.0
    """How long keys are used after they were last fetched; then every token is refused until they can be again."""
    fetch_seconds: Annotated[float, Meta(gt=0, le=10)] = 3.0
    """Deadline of one request."""
    max_jwks_bytes: Annotated[int, Meta(ge=256, le=1048576)] = 65536
    """Largest JWK set, of a file or from an address."""
