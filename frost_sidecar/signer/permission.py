"""What the owner of a signer lets be signed, whatever its clients say: by key, its clients and its rules.

A coordinator has grants and policies of its own. Nothing here knows them: a captured coordinator gets from here what
this signer's configuration allows, and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from frost_ed25519.keys import KeyPackage

from frost_sidecar.errors import ConfigError, Denied, FrostSidecarError, MalformedRequest, PolicyUnavailable
from frost_sidecar.jose import thumbprint
from frost_sidecar.jws import parse_jws
from frost_sidecar.logs import get_logger
from frost_sidecar.metrics import SignerMetrics
from frost_sidecar.model import Caller, JwsSigningInput, PolicyRequest
from frost_sidecar.policy import Policies
from frost_sidecar.rules import JwsRules
from frost_sidecar.signer.config import NodeConfig

log = get_logger("frost_sidecar.signer.permission")

POLICY_SECONDS: Final = 1.0
"""Deadline of one policy plugin's answer about one message."""
_LONGEST_DETAIL: Final = 240


class Permissions:
    """Who may use which key of this signer, and for what. Its methods may run in several threads at once."""

    def __init__(self, config: NodeConfig, metrics: SignerMetrics, policies: Policies | None = None) -> None:
        """``policies``: plugins that must all allow a message, beside the rules of its key; None: there are none."""
        self.policies = policies
        self._clients = {key: frozenset(each.clients) for key, each in config.keys.items() if each.clients}
        self._rules: dict[str, tuple[str, JwsRules]] = {
            key: (each.policy, config.policies[each.policy])
            for key, each in config.keys.items()
            if each.policy is not None
        }
        self._metrics = metrics

    def check_shares(self, shares: Mapping[str, KeyPackage]) -> None:
        """Two names for one group would be two sets of rules for it, and the weaker one a way around the other.

        Warns of each key that signs any bytes.

        Raises:
            ConfigError: two keys are shares of one group and differ in clients or rules.
        """
        names: dict[bytes, str] = {}
        for name in shares:
            first = names.setdefault(shares[name].verifying_key.serialize(), name)
            if self._of(first) != self._of(name):
                text = f"is of the same group as {first!r}; give both the same policy and clients"
                raise ConfigError(text, path=f"keys.{name}")
            if name not in self._rules and self.policies is None:
                log.warning("this signer signs any bytes with this key; set its policy", key=name)

    def may_use(self, client: str, key: str) -> bool:
        """Whether ``client`` (its certificate's name, a blank, its token's subject) may use ``key`` at all."""
        allowed = self._clients.get(key)
        # Only under the development switch, where no names are configured, a client has several.
        return allowed is None or not allowed.isdisjoint(client.partition(" ")[0].split(","))

    def check_client(self, client: str, key: str) -> None:
        """Return where ``client`` may use ``key``; raises :class:`~frost_sidecar.errors.Denied`."""
        if not self.may_use(client, key):
            text = f"{client.partition(' ')[0]} is none of the clients of the key {key!r}"
            log.warning("denied", key=key, client=client, reason="grant-missing", detail=text)
            raise Denied(text, reason="grant-missing")

    def check_message(self, key: str, group_public: bytes, message: bytes) -> JwsSigningInput | None:
        """Return the message, read as JWS signing input, where the key's rules allow it.

        A message with two readings is allowed by no rule, and no policy plugin could speak for both. Without either,
        any bytes are signed.

        Raises:
            Denied: the rules refuse; with their reason.
        """
        rules = self._rules.get(key)
        if rules is None and self.policies is None:
            return None
        try:
            jws = parse_jws(message)
        except MalformedRequest as error:
            raise Denied(str(error), reason="not-a-jws") from None
        if rules is not None:
            name, table = rules
            try:
                table.check(jws, thumbprint(group_public))
            except Denied as error:
                raise Denied(f"policy {name}: {error}", reason=error.reason or "policy") from None
        return jws

    async def decide(
        self, client: str, key: str, message: bytes, jws: JwsSigningInput | None, request_id: str
    ) -> str | None:
        """None where all policy plugins allow the message; else why not, in short. No answer is a refusal."""
        if self.policies is None:
            return None
        caller = Caller(client, "tcp", client.partition(" ")[0])
        try:
            await self.policies.check(PolicyRequest(caller, key, message, jws, request_id))
        except Denied as error:
            return self.denied(client, key, message, error)
        except PolicyUnavailable as error:
            return self.denied(client, key, message, Denied(str(error), reason="policy"))
        return None

    def denied(self, client: str, key: str, message: bytes, error: FrostSidecarError) -> str:
        """Count and log the refusal of a message, by its digest; what of the reason is said to the client."""
        self._metrics.refused(error)
        detail = "".join(each if each.isprintable() else "\ufffd" for each in str(error)[:_LONGEST_DETAIL])
        digest = hashlib.sha256(message).hexdigest()
        log.warning("denied", key=key, client=client, reason=error.reason, message_sha256=digest)
        return detail

    def _of(self, key: str) -> tuple[frozenset[str], tuple[str, JwsRules] | None]:
        return self._clients.get(key, frozenset()), self._rules.get(key)
