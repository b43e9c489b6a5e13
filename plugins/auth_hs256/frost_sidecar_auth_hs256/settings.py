"""The section ``[plugins.auth_hs256]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the shared secret comes from, and how far clocks may differ. ``secret_file`` wins over ``secret_b64``."""

    secret_file: Annotated[str, Meta(min_length=1)] | None = None
    """File with the secret in base64, either alphabet; environment: ``JWT_HS256_B64_FILE``."""
    secret_b64: str | None = None
    """The secret itself in base64; environment: ``JWT_HS256_B64``. A file is better: it shows in no process list."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=30)] = 2.0
    """How far the clocks of issuer and checker may differ; a signer's own leeway, where smaller, decides there."""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Without the secret."""
        hidden = None if self.secret_b64 is None else "…"
        return [("secret_file", self.secret_file), ("secret_b64", hidden), ("leeway_seconds", self.leeway_seconds)]
