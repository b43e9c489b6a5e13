"""Who may take part in a request: the key's signers, or fewer where the caller narrows the choice.

A caller names configured signers, or brings the address of one under a URL that the operator's patterns allow. Never
can it point us at a host of its own choice: what it says is only ever compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from frost_sidecar.addressing import AllowedUrls, parse_url
from frost_sidecar.errors import ParticipantsError
from frost_sidecar.keygen.group import Group
from frost_sidecar.model import Signer, SignRequest

UNLISTED = "unlisted"
"""Zone of the signers that the configuration does not list."""


class Participants:
    """The configured signers, and the patterns of addresses that callers may bring."""

    def __init__(self, signers: Iterable[Signer], allowed: AllowedUrls) -> None:
        self._listed = {signer.identifier: signer for signer in signers}
        self._by_address = {parse_url(signer.url): signer for signer in self._listed.values()}
        self._allowed = allowed

    def known(self, groups: Iterable[Group]) -> list[Signer]:
        """Every signer that may ever take part; those not listed without an address, which only a caller can bring."""
        identifiers = set(self._listed)
        if self._allowed:
            identifiers |= frozenset().union(*(group.identifiers for group in groups))
        return [self._signer(identifier) for identifier in sorted(identifiers)]

    def of(self, group: Group, request: SignRequest) -> Mapping[int, Signer]:
        """The signers of whom a quorum is chosen for ``request``, by identifier.

        Raises:
            ParticipantsError: too few, one twice, one not known, or a URL that is neither configured nor allowed.
        """
        if request.signer_urls is not None:
            among = self._addressed(group, request.signer_urls, request.participants)
        elif request.participants is not None:
            among = self._chosen(group, request.participants)
        else:
            among = {each: self._listed[each] for each in sorted(group.identifiers & self._listed.keys())}
        if len(among) < group.min_signers:
            hint = "" if request.participants or request.signer_urls else "; name them in participants and signer_urls"
            raise ParticipantsError(f"participants: {len(among)} signers given, {group.min_signers} are needed{hint}")
        return among

    def _chosen(self, group: Group, identifiers: tuple[int, ...]) -> dict[int, Signer]:
        if len(set(identifiers)) != len(identifiers):
            raise ParticipantsError("participants: an identifier stands twice")
        unknown = sorted(set(identifiers) - (group.identifiers & self._listed.keys()))
        if unknown:
            numbers = ", ".join(map(str, unknown))
            raise ParticipantsError(f"participants: no signer {numbers} is configured for key {group.name!r}")
        return {each: self._listed[each] for each in identifiers}

    def _addressed(self, group: Group, urls: tuple[str, ...], identifiers: tuple[int, ...] | None) -> dict[int, Signer]:
        """The signers at ``urls``, paired by position with ``identifiers`` where those are given."""
        addresses = [parse_url(url) for url in urls]  # one host and port has many spellings
        if None in addresses:
            raise ParticipantsError("signer_urls: a signer's URL is https://HOST:PORT and nothing more")
        if identifiers is None:
            if any(address not in self._by_address for address in addresses):
                hint = "; with participants beside them, signer_urls_allow is looked at too" if self._allowed else ""
                raise ParticipantsError(f"signer_urls: not the URL of a configured signer{hint}")
            identifiers = tuple(self._by_address[address].identifier for address in addresses)
        elif len(identifiers) != len(urls):
            raise ParticipantsError("signer_urls do not pair with participants by position: another number of them")
        if len(set(addresses)) != len(addresses):
            raise ParticipantsError("signer_urls: a URL stands twice")
        if len(set(identifiers)) != len(identifiers):
            raise ParticipantsError("participants: an identifier stands twice")
        strangers = sorted(set(identifiers) - group.identifiers)
        if strangers:
            numbers = ", ".join(map(str, strangers))
            raise ParticipantsError(f"participants: key {group.name!r} has no signer {numbers}")
        return {each: self._at(url.rstrip("/"), each) for url, each in zip(urls, identifiers, strict=True)}

    def _at(self, url: str, identifier: int) -> Signer:
        """The signer ``identifier`` at ``url``: it must be its configured URL, or one that a pattern allows for it."""
        listed = self._listed.get(identifier)
        at_address = self._by_address.get(parse_url(url))
        if listed is not None and at_address is listed:
            return listed
        if at_address is not None:
            raise ParticipantsError("signer_urls do not pair with participants by position")
        allowed = self._allowed.host(url, identifier)
        if allowed is None:
            raise ParticipantsError("signer_urls: not the URL of a configured signer")
        host, telling = allowed
        if listed is not None:  # its certificate must still carry the operator's name for it
            return replace(listed, url=url)
        return replace(self._signer(identifier), url=url, server_name=host, proved=telling)

    def _signer(self, identifier: int) -> Signer:
        return self._listed.get(identifier) or Signer(identifier, f"signer-{identifier}", "", UNLISTED, "")
