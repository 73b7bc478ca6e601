"""A FastAPI dependency, for single routes.

>>> signed_in = require_token(server, "files:read")
>>> @app.get("/files")
>>> async def files(token: Annotated[AccessToken, Depends(signed_in)]): ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Request

from .errors import Refusal
from .server import ResourceServer
from .token import AccessToken


def require_token(server: ResourceServer, *scopes: str) -> Callable[[Request], Awaitable[AccessToken]]:
    """A dependency that yields the request's token, or answers 401, 403 or 503 with the challenge."""

    async def dependency(request: Request) -> AccessToken:
        try:
            return await server.authenticate(request.headers.getlist("authorization"), scopes)
        except Refusal as refusal:
            status, headers, _ = refusal.response(server.metadata_url)
            kept = {name: value for name, value in headers if name != "content-type"}
            raise HTTPException(status, refusal.body(), headers=kept) from None

    return dependency
