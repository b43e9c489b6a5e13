"""Which requests are the same: the name under which a caller's key is stored, and the digest of what it asks for."""

from __future__ import annotations

import hashlib
from typing import Final

from frost_sidecar.encoding import length_prefixed
from frost_sidecar.errors import MalformedRequest
from frost_sidecar.model import IDEMPOTENCY_KEY, Caller, SignRequest

FINGERPRINT_BYTES: Final = 32

_SCOPE: Final = b"frost-sidecar/idempotency/1/scope"
_REQUEST: Final = b"frost-sidecar/idempotency/1/request"
_BATCH: Final = b"frost-sidecar/idempotency/1/batch"


def scope_of(caller: Caller, idempotency_key: str) -> str:
    """The store's name for a caller's key: 64 hexadecimal digits, the same at every replica.

    A caller is channel, subject and configured name together: a token's subject that spells a Unix user's is somebody
    else, and so is another program of the same user, whose grants may differ. The key
    itself does not show, so a store's administrator cannot read what callers chose.

    Raises:
        MalformedRequest: the key is not 1 to 255 characters of printable ASCII without blanks.
    """
    if not IDEMPOTENCY_KEY.match(idempotency_key):
        raise MalformedRequest("the idempotency key must be 1 to 255 characters of printable ASCII without blanks")
    return _digest(
        _SCOPE,
        _text(caller.source),
        _text(caller.subject),
        _optional(None if caller.name is None else [_text(caller.name)]),
        _text(idempotency_key),
    ).hex()


def request_fingerprint(request: SignRequest) -> bytes:
    """SHA-256 of what is asked for, as it was asked for: what a default would fill in counts as left out.

    Deadline, request id and trace context are about one attempt, and are not part of it.
    """
    return _digest(
        _REQUEST,
        request.message,
        _optional(None if request.key is None else [_text(request.key)]),
        _optional(None if request.participants is None else [b"%d" % each for each in request.participants]),
        _optional(None if request.signer_urls is None else [_text(each) for each in request.signer_urls]),
    )


def batch_fingerprint(digest: bytes) -> bytes:
    """SHA-256 of a whole batch; never that of a single request."""
    return _digest(_BATCH, digest)


def _digest(*fields: bytes) -> bytes:
    return hashlib.sha256(length_prefixed(*fields)).digest()


def _optional(fields: list[bytes] | None) -> bytes:
    """Present or not, and with what: an empty list is not an absent one."""
    return b"\x00" if fields is None else b"\x01" + length_prefixed(*fields)


def _text(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
