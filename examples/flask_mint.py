"""The same mint with Flask: no asyncio, any number of threads, the same ``FROST_TARGET``.

::

    FROST_TARGET=unix:/run/frost/sign.sock flask --app examples/flask_mint run
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from typing import Any

import tokens
from flask import Flask, Response, abort, json, request

from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.mint import BlockingMint
from frost_sidecar.target import connect_blocking


def create_app() -> Flask:
    """The app, with one service and one mint for all its threads. A server that forks calls it after the fork."""
    app = Flask("mint")
    stack = ExitStack()
    atexit.register(stack.close)
    service = stack.enter_context(connect_blocking(tokens.TARGET))
    mint = BlockingMint(service)

    @app.post("/token")
    def token() -> dict[str, Any]:
        # Your authentication goes here. This one trusts a gateway in front, which sets the header and removes clients'.
        user = request.headers.get("X-Authenticated-User") or abort(401)
        body = request.get_json()
        audience = body.get("audience") if isinstance(body, dict) else abort(422)
        key = request.headers.get("Idempotency-Key")
        signed = mint.jwt(
            tokens.claims(user, audience if isinstance(audience, str) else abort(422)),
            lifetime=tokens.LIFETIME,
            issued_at=tokens.issued_at(key, body.get("requested_at")),
            jti=True,
            idempotency_key=tokens.scoped(key, user),
        )
        return {"access_token": signed, "token_type": "Bearer", "expires_in": tokens.LIFETIME}

    @app.get("/.well-known/jwks.json")
    def jwks() -> Response:
        return Response(json.dumps(service.jwks()), headers=tokens.JWKS_HEADERS, content_type=tokens.JWKS_TYPE)

    @app.errorhandler(FrostSidecarError)
    def failed(error: FrostSidecarError) -> Response:
        app.logger.warning("no token: %s", error)
        body, status, headers = tokens.problem(error)
        return Response(json.dumps(body), status, headers, content_type=tokens.PROBLEM_TYPE)

    return app
