"""FastMCP 4.x.

>>> mcp = FastMCP("files", auth=GatewayAuth(server))
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastmcp.server.auth import AccessToken, RemoteAuthProvider, TokenVerifier
from pydantic import AnyHttpUrl
from starlette.middleware import Middleware
from starlette.routing import Route

from .asgi import ResourceServerMiddleware
from .errors import GatewayUnavailable, Refusal
from .mcp import members
from .server import ResourceServer


class GatewayTokenVerifier(TokenVerifier):
    """FastMCP's `TokenVerifier`."""

    def __init__(self, server: ResourceServer) -> None:
        super().__init__(required_scopes=list(server.required_scopes))
        self._server = server

    @property
    def scopes_supported(self) -> list[str]:
        """Every scope that some request needs."""
        return list(self._server.scopes_supported)

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token, or None if it is not valid here."""
        try:
            return AccessToken(**members(await self._server.verify_token(token)))
        except GatewayUnavailable:
            raise
        except Refusal:
            return None


class GatewayAuth(RemoteAuthProvider):
    """Everything for FastMCP's `auth`: tokens, scopes of tools, challenges and metadata.

    The server must run at the path of `server.resource`, as in `mcp.run(path="/mcp")`.
    """

    def __init__(self, server: ResourceServer) -> None:
        parts = urlsplit(server.resource)
        super().__init__(
            token_verifier=GatewayTokenVerifier(server),
            authorization_servers=[AnyHttpUrl(server.issuer)],
            base_url=f"{parts.scheme}://{parts.netloc}",
            resource_name=server.resource_name,
        )
        self._server = server

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        """None of its own: the middleware serves the metadata, with the resource exactly as registered."""
        if mcp_path is not None and mcp_path.rstrip("/") != self._server.path.rstrip("/"):
            raise ValueError(f"the server runs at {mcp_path}, but its resource is {self._server.resource}")
        self.set_mcp_path(mcp_path)
        return []

    def get_middleware(self) -> list[Middleware]:
        """Ours first: it answers before FastMCP does."""
        ours = Middleware(ResourceServerMiddleware, server=self._server, only=[self._server.path])
        return [ours, *super().get_middleware()]
