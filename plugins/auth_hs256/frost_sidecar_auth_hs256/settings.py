"""The section ``[plugins.auth_hs256]``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the shared secret comes from, and what is forgiven. ``secret_file`` wins over ``secret_b64``."""

    secret_file: Annotated[str, Meta(min_length=1)] | None = None
    """File with the secret in base64, either alphabet; environment: ``JWT_HS256_B64_FILE``. Read again on change."""
    secret_b64: str | None = None
    """The secret itself in base64; environment: ``JWT_HS256_B64``. A file is better: it shows in no process list."""
    leeway_seconds: Annotated[float, Meta(ge=0, le=30)] = 2.0
    """How far the clocks of issuer and checker may differ; a signer's own leeway, where smaller, decides there."""
    previous_seconds: Annotated[float, Meta(ge=0, le=86400)] = 120.0
    """How long after a change of the file the secret before it is still accepted; 0: not at all."""
    accept_undated: bool = False
    """Accept tokens without ``exp`` and ``sub``, as the original coordinator's callers send them; never on a signer."""

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Without the secret."""
        hidden = None if self.secret_b64 is None else "…"
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return list({**shown, "secret_b64": hidden}.items())
