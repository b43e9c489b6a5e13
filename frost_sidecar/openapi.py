"""The contract as an OpenAPI document, made from the very types that the endpoints use. Served at ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec

from frost_sidecar import contract, errors
from frost_sidecar.contract import BatchBody, KeysAnswer, Readiness, SignAnswer, SignBody, SignedItem
from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.model import IDEMPOTENCY_KEY, REQUEST_ID
from frost_sidecar.problem import CONTENT_TYPE, TYPE_BASE, Problem

_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"

_SIGNING: Final[Sequence[type[FrostSidecarError]]] = (
    *(errors.MalformedRequest, errors.Unauthenticated, errors.Denied, errors.IdempotencyConflict, errors.TooLarge),
    *(errors.ParticipantsError, errors.UnknownKey, errors.TooManyRequests, errors.InternalError),
    *(errors.NoQuorum, errors.AuditUnavailable, errors.PolicyUnavailable, errors.IdempotencyUnavailable),
    *(errors.Overloaded, errors.ShuttingDown, errors.DeadlineExceeded),
)
"""What a request to sign can end with."""
_BATCH: Final = tuple(each for each in _SIGNING if each not in {errors.ParticipantsError, errors.UnknownKey})
"""What a batch as a whole can end with; its items have the others."""
_READING: Final = (errors.MalformedRequest, errors.Denied, errors.InternalError, errors.ShuttingDown)
"""What every other request can end with; ``denied`` on TCP alone, for a certificate that may not call."""


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    (sign, batch, answer, item, keys, readiness, problem), schemas = msgspec.json.schema_components(
        (SignBody, BatchBody, SignAnswer, SignedItem, KeysAnswer, Readiness, Problem), ref_template=_REF
    )
    made: dict[str, Any] = _portable(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "frost-sidecar",
                "version": version("frost-sidecar"),
                "summary": "One Ed25519 signature from t of n FROST signers (RFC 9591).",
                "license": {"name": "MIT OR Apache-2.0"},
                "description": "Served on a Unix socket, where the kernel says who calls, and on TCP, where a client "
                "certificate and a bearer token say it. Every error is a problem document (RFC 9457) whose `type` "
                "never changes.",
            },
            "paths": {
                contract.SIGN_PATH: {"post": _signing("sign", "One signature", sign, answer, _SIGNING)},
                contract.BATCH_PATH: {
                    "post": _signing(
                        "sign_batch",
                        "Many signatures, an outcome for each",
                        batch,
                        {"type": "array", "items": {"anyOf": [item, problem]}},
                        _BATCH,
                    )
                },
                contract.KEYS_PATH: {"get": _reading("keys", "The keys by name", _JSON, keys)},
                contract.JWKS_PATH: {
                    "get": _reading(
                        "jwks",
                        "The public keys for verifiers (RFC 7517); kid is the thumbprint (RFC 7638)",
                        "application/jwk-set+json",
                        {"$ref": _REF.format(name="JwkSet")},
                    )
                },
                contract.READY_PATH: {"get": _ready(readiness)},
                contract.HEALTH_PATH: {
                    "get": _reading("healthz", "The process lives", "text/plain", {"const": "ok", "type": "string"})
                },
                contract.METRICS_PATH: {"get": _metrics()},
                contract.OPENAPI_PATH: {"get": _reading("openapi", "This document", _JSON, {"type": "object"})},
            },
            "components": {
                "schemas": {**schemas, "JwkSet": _JWK_SET},
                "securitySchemes": {
                    "bearer": {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": "JWT",
                        "description": "On TCP alone, beside the client's certificate.",
                    }
                },
            },
        }
    )
    return made


def _signing(
    name: str, summary: str, body: Any, answer: Any, refusals: Sequence[type[FrostSidecarError]]
) -> dict[str, Any]:
    replayed = {
        "description": "`true` where the answer was made for an earlier request with this idempotency key.",
        "schema": {"const": "true", "type": "string"},
    }
    return {
        "operationId": name,
        "summary": summary,
        "security": [{"bearer": []}],
        "parameters": [
            {
                "name": contract.PROGRAM_HEADER,
                "in": "header",
                "description": f"`{contract.PROGRAM_VALUE}`: required on the Unix socket, where a program so says that "
                "it means to ask; ignored on TCP. A request that a browser or a proxy sends for somebody else is "
                "refused: on the Unix socket with `Origin`, `Sec-Fetch-*`, `Forwarded`, `X-Forwarded-*`, `X-Real-IP` "
                "or `Via`, on TCP with the first two.",
                "schema": {"type": "string"},
            },
            _header(contract.TIMEOUT_HEADER, "Deadline over all attempts, milliseconds.", r"^[1-9][0-9]{0,6}$"),
            _header(contract.IDEMPOTENCY_HEADER, "Same key, same request, same answer.", f"^{IDEMPOTENCY_KEY.pattern}"),
            _header(
                contract.REPLAY_SECONDS_HEADER,
                "How long the caller may still ask with this key; shortens the configured time, never prolongs it.",
                r"^[1-9][0-9]{0,4}$",
            ),
            *_TRACE,
        ],
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": {
            "200": _answered("Signed.", _JSON, answer, {contract.REPLAYED_HEADER: replayed} if name == "sign" else {}),
            **_refused(refusals),
        },
    }


def _reading(name: str, summary: str, content_type: str, schema: Any) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": list(_TRACE),
        "responses": {"200": _answered(summary, content_type, schema), **_refused(_READING)},
    }


def _ready(readiness: Any) -> dict[str, Any]:
    operation = _reading("readyz", "Whether a request could be signed now", _JSON, readiness)
    operation["responses"]["503"]["content"][_JSON] = {"schema": readiness}
    return operation


def _metrics() -> dict[str, Any]:
    operation = _reading("metrics", "Metrics for Prometheus", "text/plain", {"type": "string"})
    operation["responses"]["200"]["content"]["application/openmetrics-text"] = {"schema": {"type": "string"}}
    return operation


def _answered(
    description: str, content_type: str, schema: Any, headers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {**_REQUEST_ID_ANSWERED, **(headers or {})},
        "content": {content_type: {"schema": schema}},
    }


def _refused(refusals: Sequence[type[FrostSidecarError]]) -> dict[str, Any]:
    """The answers for errors, by status; each says which types it may have."""
    by_status: dict[HTTPStatus, list[str]] = {}
    for kind in refusals:
        by_status.setdefault(contract.status_of(kind), []).append(kind.slug)
    return {
        str(status.value): {
            "description": f"{status.phrase}: {', '.join(slugs)}",
            "headers": {**_REQUEST_ID_ANSWERED, **_MORE_HEADERS.get(status, {})},
            "content": {
                CONTENT_TYPE: {
                    "schema": {
                        "allOf": [
                            {"$ref": _REF.format(name="Problem")},
                            {"properties": {"status": {"const": status.value}, "type": {"enum": _types(slugs)}}},
                        ]
                    }
                }
            },
        }
        for status, slugs in sorted(by_status.items())
    }


def _types(slugs: Sequence[str]) -> list[str]:
    return [TYPE_BASE + slug for slug in slugs]


def _header(name: str, description: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", "pattern": pattern}}


def _portable(value: Any) -> Any:
    r"""The document with Python's ``\Z`` as ECMA's ``$``, which stands for the same there."""
    if isinstance(value, dict):
        return {
            name: each.replace(r"\Z", "$") if name == "pattern" and isinstance(each, str) else _portable(each)
            for name, each in value.items()
        }
    return [_portable(each) for each in value] if isinstance(value, list) else value


_TRACE: Final = (
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": f"Taken over where it matches `{REQUEST_ID.pattern.removesuffix(chr(92) + 'Z')}`, else made.",
        "schema": {"type": "string"},
    },
    {
        "name": "traceparent",
        "in": "header",
        "description": "W3C trace context; ignored where it is none.",
        "schema": {"type": "string"},
    },
)
_REQUEST_ID_ANSWERED: Final = {
    "X-Request-ID": {"description": "Finds the request in logs and audit log.", "schema": {"type": "string"}}
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[1-9][0-9]*$"}}
}
_MORE_HEADERS: Final[Mapping[int, Mapping[str, Any]]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"const": "Bearer"}}},
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}
_JWK_SET: Final = {
    "title": "JwkSet",
    "type": "object",
    "required": ["keys"],
    "properties": {
        "keys": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["kty", "crv", "x", "kid", "use"],
                "properties": {
                    "kty": {"const": "OKP"},
                    "crv": {"const": "Ed25519"},
                    "use": {"const": "sig"},
                    "x": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
                    "kid": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
                },
            },
        }
    },
}

DOCUMENT: Final = msgspec.json.encode(document())
"""The document as it is served."""
