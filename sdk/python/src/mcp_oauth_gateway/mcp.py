"""The MCP SDK 2.x.

>>> mcp = MCPServer("files", token_verifier=GatewayTokenVerifier(server), auth=auth_settings(server))
>>> app = protect(mcp.streamable_http_app(), server)

`protect` adds what the SDK does not answer itself: scopes of tools, full challenges, and 503 while the gateway is away.
"""

from __future__ import annotations

from typing import Any

from mcp.server.auth.provider import AccessToken as SdkAccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

from .asgi import App, ResourceServerMiddleware
from .errors import GatewayUnavailable, Refusal
from .server import ResourceServer
from .token import AccessToken


class GatewayTokenVerifier:
    """The SDK's `TokenVerifier`."""

    def __init__(self, server: ResourceServer) -> None:
        self._server = server

    async def verify_token(self, token: str) -> SdkAccessToken | None:
        """The token, or None if it is not valid here.

        Raises:
            GatewayUnavailable: the gateway cannot be asked; the SDK answers 500.
        """
        try:
            return SdkAccessToken(**members(await self._server.verify_token(token)))
        except GatewayUnavailable:
            raise
        except Refusal:
            return None


def auth_settings(server: ResourceServer) -> AuthSettings:
    """The SDK's settings for this server; the audience is compared."""
    return AuthSettings(
        issuer_url=AnyHttpUrl(server.issuer),
        resource_server_url=AnyHttpUrl(server.resource),
        required_scopes=list(server.required_scopes),
        validate_token_resource=True,
    )


def protect(app: App, server: ResourceServer) -> App:
    """The application behind the middleware. FastMCP and the SDK both make one."""
    return ResourceServerMiddleware(app, server)


def members(token: AccessToken) -> dict[str, Any]:
    """The token as the SDK's members. Sessions are bound to client, issuer and subject."""
    return {
        "token": token.token,
        "client_id": token.client_id,
        "scopes": list(token.scopes),
        "expires_at": token.expires_at,
        "resource": token.resource,
        "subject": token.subject,
        "claims": {**token.claims, "iss": token.issuer},
    }
