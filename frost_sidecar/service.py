"""What a mint calls, the same three ways: the coordinator in process, the sidecar, and either of them without asyncio.

A mint written against :class:`SigningService` (or :class:`BlockingSigningService`) changes its way of calling by
configuration alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from frost_sidecar.arguments import Message
from frost_sidecar.contract import Readiness
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import BatchItem, Signed


class SigningService(Protocol):
    """Asynchronous: :class:`~frost_sidecar.coordinator.Coordinator`, :class:`~frost_sidecar.client.AsyncSidecarClient`.

    Errors and arguments are those of :meth:`frost_sidecar.coordinator.Coordinator.sign` everywhere.
    """

    async def sign(
        self,
        message: Message,
        *,
        key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - a budget shared with the configuration's, not a cancel scope
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Signed:
        """One Ed25519 signature (RFC 8032) over ``message``."""

    async def sign_batch(
        self,
        items: Sequence[Message | BatchItem],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - see sign
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Signed | FrostSidecarError]:
        """One outcome for each item, in their order."""

    async def group_public(self, key: str | None = None) -> bytes:
        """The group's Ed25519 public key, 32 bytes."""

    async def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517)."""

    async def readiness(self) -> Readiness:
        """Whether a request could be signed now, and why not."""


class BlockingSigningService(Protocol):
    """Blocking, safe under threads: ``BlockingCoordinator`` and ``SidecarClient``."""

    def sign(
        self,
        message: Message,
        *,
        key: str | None = None,
        participants: Sequence[int] | None = None,
        signer_urls: Sequence[str] | None = None,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> Signed:
        """As :meth:`SigningService.sign`."""

    def sign_batch(
        self,
        items: Sequence[Message | BatchItem],
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Signed | FrostSidecarError]:
        """As :meth:`SigningService.sign_batch`."""

    def group_public(self, key: str | None = None) -> bytes:
        """As :meth:`SigningService.group_public`."""

    def jwks(self) -> dict[str, Any]:
        """As :meth:`SigningService.jwks`."""

    def readiness(self) -> Readiness:
        """As :meth:`SigningService.readiness`."""
