"""The plugin contract, whole. A plugin author needs this page, :mod:`frost_sidecar.model` and nothing else.

A plugin is a distribution with an entry point in the group ``frost_sidecar``; the entry point's name is the plugin's
name, its object (a module or an instance) carries functions marked with :data:`hookimpl`. It is loaded only when the
configuration has a section ``[plugins.NAME]``::

    from frost_sidecar import hookimpl
    from frost_sidecar.hookspecs import Decision, PluginContext, Policy, PolicyRequest

    class OnlyShort(Policy):
        async def decide(self, request: PolicyRequest) -> Decision:
            return Decision(len(request.message) < 1000, "the message is too long")

    @hookimpl
    def make_policy(context: PluginContext) -> Policy:
        return OnlyShort()

Hooks run once, at start, and build; the objects that they return act. Each object is an asynchronous context manager,
entered before the first request and left after the last: connections and background tasks live between the two. Every
call of a method has a deadline from the host and may be cancelled. An exception that is not named in a method's
documentation is a defect of the plugin: it is logged under the plugin's name and fails the request, closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

from frost_sidecar.following import Follow, read_once
from frost_sidecar.model import (
    Answer,
    AuditRecord,
    Call,
    Choice,
    Claim,
    Credentials,
    Decision,
    Identity,
    PolicyRequest,
    Quorum,
    Signer,
    TlsFiles,
    TokenClaims,
)

__all__ = [
    "Answer",
    "AuditRecord",
    "AuditSink",
    "Authenticator",
    "Call",
    "Choice",
    "Claim",
    "Component",
    "Credentials",
    "Decision",
    "IdempotencyStore",
    "Identity",
    "PluginContext",
    "Policy",
    "PolicyRequest",
    "Quorum",
    "Selector",
    "Signer",
    "Specification",
    "TlsFiles",
    "TokenClaims",
    "TokenIssuer",
    "Transport",
]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class PluginContext:
    """What a hook gets to build from: its own settings and the few facts of the host that plugins share."""

    name: str
    role: Literal["coordinator", "signer"]
    dev: bool
    """The explicit development switch. Without it a development fallback must refuse to start."""
    tls: TlsFiles
    signers: tuple[Signer, ...]
    settings: Callable[[type[S]], S] = field(repr=False)
    """``settings(Struct)`` converts the section ``[plugins.NAME]`` into a :class:`msgspec.Struct` of the plugin's.

    Unknown or wrong settings raise :class:`~frost_sidecar.errors.ConfigError` with their path: let it pass.
    """
    path: Callable[[str], Path] = field(repr=False)
    """A path from the settings: relative ones count from the folder of the configuration file."""
    follow: Follow = field(repr=False, default=read_once)
    """``follow(what, paths, reload)`` calls ``reload`` now, and again in a thread whenever a file in ``paths`` changed.

    ``reload`` reads the files and takes them over with one assignment; it returns when they end to be valid (seconds
    since the epoch) or None, and raises :class:`~frost_sidecar.errors.ConfigError` for files that cannot be used: at
    the start the host stops, later all stays as it was, is logged, counted, and shown by ``/readyz``.
    """


class Component(ABC):  # noqa: B024 - both methods have a default; ABC serves the subclasses' abstract methods
    """What all objects of plugins share: they are entered at start and left at the end; both do nothing by default."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Transport(Component):
    """Carries one call to one signer. Exactly one."""

    @abstractmethod
    async def call(self, signer: Signer, call: Call) -> Answer:
        """Send ``call`` to ``signer.url`` and return the whole answer, whatever its status.

        The peer must have proved, before any byte of the request leaves, that it is ``signer.server_name``. Raises
        :class:`~frost_sidecar.errors.TransportError` for a connection that failed, another identity, or an answer over
        ``call.max_answer_bytes``.
        """


class TokenIssuer(Component):
    """Makes the bearer token of one signer call. Exactly one."""

    @abstractmethod
    async def issue(self, claims: TokenClaims) -> str:
        """Return a compact JWT with exactly these claims."""


class Authenticator(Component):
    """Checks credentials. At least one on a signer, and on a coordinator that listens on TCP."""

    @abstractmethod
    async def authenticate(self, credentials: Credentials) -> Identity | None:
        """Return whom the credentials prove, or None for "not mine": another kind of credentials, another authority.

        Raises :class:`~frost_sidecar.errors.Unauthenticated` for credentials of its kind that are wrong. The host
        checks the claims against the call: on a signer all of :class:`TokenClaims`, for a caller of the coordinator
        audience, issuer, and the times that there are.
        """


class Selector(Component):
    """Orders quorums. At most one; the default spreads over zones."""

    @abstractmethod
    async def quorums(self, choice: Choice) -> Sequence[Quorum]:
        """Return up to ``choice.limit`` different quorums, best first, each of ``choice.size`` candidates.

        Asked again before each further attempt, without the signers that failed. An empty answer means "no quorum".
        """


class Policy(Component):
    """Allows or refuses a message for a caller. Any number, in coordinators and signers; all must allow."""

    @abstractmethod
    async def decide(self, request: PolicyRequest) -> Decision:
        """Return the decision. An exception is no answer, and no answer is a refusal."""


class AuditSink(Component):
    """Keeps records. Any number; required unless listed in ``audit.best_effort``."""

    @abstractmethod
    async def append(self, records: Sequence[AuditRecord]) -> None:
        """Return when all ``records`` are durable, in this order; raise when any of them may not be.

        Never called twice at once.
        """

    async def check(self) -> None:
        """Raise when a record could not be made durable now; for ``/readyz``. The default knows nothing to check.

        May be called at any time, also while :meth:`append` runs; writes no record.
        """


class IdempotencyStore(Component):
    """Keeps one answer per idempotency key. At most one; the default keeps them in the process's memory.

    A store that several replicas share makes them sign once for one key. Keys are 64 hexadecimal digits, made by the
    host from caller and ``Idempotency-Key``; ``owner`` is unique to one attempt; answers are opaque and below 4096
    bytes. No method may be answered from a copy that can lag behind (a read replica, a cache): two would sign.
    """

    @abstractmethod
    async def claim(self, key: str, fingerprint: bytes, owner: str, seconds: float) -> Claim:
        """Take ``key`` for ``owner`` if nobody has it, in one atomic step, and say who has it otherwise.

        What is taken is free again after ``seconds``, in case the owner dies. Asked again by the same owner before
        there is an answer, it is still the owner's: a client may repeat a call whose answer was lost.
        """

    @abstractmethod
    async def complete(self, key: str, owner: str, answer: bytes, seconds: float) -> None:
        """Store ``answer`` for ``seconds`` under the fingerprint of the claim.

        Nothing happens where ``owner`` does not hold ``key`` (any more), in the same atomic step.
        """

    @abstractmethod
    async def release(self, key: str, owner: str) -> None:
        """Free ``key``, if ``owner`` still holds it without an answer: the request failed and may be tried again."""


Hook = Literal[
    "make_transport",
    "make_token_issuer",
    "make_authenticator",
    "make_selector",
    "make_policy",
    "make_audit_sink",
    "make_idempotency_store",
]


class Specification(Protocol):
    """The hooks: signatures alone. A plugin offers any of them, each as a function of one argument ``context``.

    None says that the plugin, as it is configured, has nothing of this kind; the host then does not count it.
    """

    def make_transport(self, context: PluginContext) -> Transport | None:
        """Build the transport to the signers."""

    def make_token_issuer(self, context: PluginContext) -> TokenIssuer | None:
        """Build the issuer of signer tokens."""

    def make_authenticator(self, context: PluginContext) -> Authenticator | None:
        """Build a checker of credentials."""

    def make_selector(self, context: PluginContext) -> Selector | None:
        """Build the selector of quorums."""

    def make_policy(self, context: PluginContext) -> Policy | None:
        """Build a policy."""

    def make_audit_sink(self, context: PluginContext) -> AuditSink | None:
        """Build an audit sink."""

    def make_idempotency_store(self, context: PluginContext) -> IdempotencyStore | None:
        """Build the store of answers by idempotency key."""


PRODUCTS: Mapping[Hook, type[Component]] = {
    "make_transport": Transport,
    "make_token_issuer": TokenIssuer,
    "make_authenticator": Authenticator,
    "make_selector": Selector,
    "make_policy": Policy,
    "make_audit_sink": AuditSink,
    "make_idempotency_store": IdempotencyStore,
}
"""What each hook returns; checked by the host."""

HOW_MANY: Mapping[Literal["coordinator", "signer"], Mapping[Hook, tuple[int, int | None]]] = {
    "coordinator": {
        "make_transport": (1, 1),
        "make_token_issuer": (1, 1),
        "make_authenticator": (0, None),
        "make_selector": (0, 1),
        "make_policy": (0, None),
        "make_audit_sink": (0, None),
        "make_idempotency_store": (0, 1),
    },
    "signer": {"make_authenticator": (1, None), "make_policy": (0, None)},
}
"""How many of each a process takes: lowest and highest number (None: any). Hooks not named are not built there."""
