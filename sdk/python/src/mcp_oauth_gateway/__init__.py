"""Protects an MCP server with tokens of mcp-oauth-gateway.

>>> server = ResourceServer(issuer=..., resource=..., key=...)
>>> app = ResourceServerMiddleware(app, server)
"""

from .asgi import ResourceServerMiddleware
from .errors import GatewayUnavailable, Refusal
from .server import ResourceServer
from .token import AccessToken

__all__ = ["AccessToken", "GatewayUnavailable", "Refusal", "ResourceServer", "ResourceServerMiddleware"]
