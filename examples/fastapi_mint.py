"""A mint with FastAPI, over a sidecar or with the coordinator in process: ``FROST_TARGET`` says which.

::

    FROST_TARGET=unix:/run/frost/sign.sock uvicorn --app-dir examples fastapi_mint:app
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import tokens
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, StrictInt

from frost_sidecar.errors import FrostSidecarError
from frost_sidecar.mint import Mint
from frost_sidecar.target import connect

log = logging.getLogger("mint")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """One service and one mint as long as the app lives."""
    async with connect(tokens.TARGET) as service:
        yield {"service": service, "mint": Mint(service)}


app = FastAPI(title="mint", lifespan=lifespan)


class TokenRequest(BaseModel):
    """Body of ``POST /token``."""

    audience: str
    requested_at: StrictInt | None = None
    """Seconds since 1970; goes with an ``Idempotency-Key``."""


@app.post("/token")
async def token(
    body: TokenRequest,
    request: Request,
    # Your authentication goes here. This one trusts a gateway in front, which sets the header and removes clients'.
    x_authenticated_user: Annotated[str, Header(min_length=1)],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """A signed JWT for the user."""
    signed = await request.state.mint.jwt(
        tokens.claims(x_authenticated_user, body.audience),
        lifetime=tokens.LIFETIME,
        issued_at=tokens.issued_at(idempotency_key, body.requested_at),
        jti=True,
        idempotency_key=tokens.scoped(idempotency_key, x_authenticated_user),
    )
    return {"access_token": signed, "token_type": "Bearer", "expires_in": tokens.LIFETIME}


@app.get("/.well-known/jwks.json")
async def jwks(request: Request) -> JSONResponse:
    """The keys for verifiers."""
    return JSONResponse(await request.state.service.jwks(), headers=tokens.JWKS_HEADERS, media_type=tokens.JWKS_TYPE)


@app.exception_handler(FrostSidecarError)
async def failed(_: Request, error: FrostSidecarError) -> JSONResponse:
    """Every error of signing, as the client may see it."""
    log.warning("no token: %s", error)
    body, status, headers = tokens.problem(error)
    return JSONResponse(body, status, headers, media_type=tokens.PROBLEM_TYPE)
