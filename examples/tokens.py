"""What this mint signs, and what its clients see when it cannot: the same behind FastAPI and Flask."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from http import HTTPStatus
from typing import Any

from frost_sidecar.contract import status_of
from frost_sidecar.errors import (
    DeadlineExceeded,
    Denied,
    FrostSidecarError,
    MalformedRequest,
    RequestError,
    Unavailable,
)

TARGET = os.environ.get("FROST_TARGET", "unix:/run/frost/sign.sock")
"""How to sign: ``unix:PATH`` or ``https://HOST:PORT`` of a sidecar, or the TOML file of a coordinator in process."""

ISSUER = os.environ.get("MINT_ISSUER", "https://mint.example")
LIFETIME = 300  # seconds
CLOCKS_DIFFER = 10  # seconds that a client's clock may be ahead of ours

JWKS_TYPE = "application/jwk-set+json"
JWKS_HEADERS = {"Cache-Control": "public, max-age=300"}
PROBLEM_TYPE = "application/problem+json"


def claims(user: str, audience: str) -> dict[str, Any]:
    """The mint decides what a token says; a client says what it is for."""
    return {"iss": ISSUER, "sub": user, "aud": audience}


def scoped(idempotency_key: str | None, user: str) -> str | None:
    """The client's idempotency key as the user's own: no two users can meet in one key."""
    if idempotency_key is None:
        return None
    if not 1 <= len(idempotency_key) <= 255:
        raise MalformedRequest("Idempotency-Key: must be 1 to 255 characters")
    return hashlib.sha256(json.dumps([user, idempotency_key]).encode()).hexdigest()


def issued_at(idempotency_key: str | None, requested_at: object) -> int | None:
    """The time in the token; None is now. With an idempotency key it is the client's, and so a retry's is the same.

    The retry may reach another worker, which has not seen the first request: the time must come with it. A client gains
    nothing by a wrong one, for the token ends ``LIFETIME`` after it.
    """
    if idempotency_key is None:
        return None
    if type(requested_at) is not int:
        raise MalformedRequest(
            "requested_at: say with an Idempotency-Key when it was first sent, in seconds since 1970"
        )
    now = int(time.time())
    if not now - LIFETIME < requested_at <= now + CLOCKS_DIFFER:
        raise MalformedRequest(f"requested_at: must be within the last {LIFETIME} s; for another token take a new key")
    return requested_at


def problem(error: FrostSidecarError) -> tuple[dict[str, Any], int, dict[str, str]]:
    """RFC 9457 problem details, status and headers. Names of signers and the like stay in the log."""
    ours = not isinstance(error, RequestError | Denied | Unavailable | DeadlineExceeded)
    status = HTTPStatus.INTERNAL_SERVER_ERROR if ours else status_of(error)
    body = {
        "type": "about:blank" if ours else f"urn:frost-sidecar:error:{error.slug}",
        "title": status.phrase,
        "status": status.value,
        "detail": str(error) if isinstance(error, RequestError) else "no token this time",
    }
    headers = {"Retry-After": str(math.ceil(error.retry_after))} if isinstance(error, Unavailable) else {}
    return body, status.value, headers
