"""The rules of one protected server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from .errors import GatewayUnavailable, Refusal
from .gateway import Gateway
from .messages import called_tools
from .token import AccessToken
from .verifier import Verifier

_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class ResourceServer:
    """An MCP server whose tokens come from a gateway.

    Args:
        issuer: The issuer that the gateway shows for this server, such as `https://gw.example.com/mcp/files`.
        resource: The URL of this server, exactly as registered at the gateway.
        key: The server's key (`sk_…`). Without it only JWTs are accepted.
        required_scopes: What every request needs.
        tool_scopes: What the calls of a tool need in addition.
        route_scopes: What requests at and below a path need in addition.
        public_paths: Paths that need no token; exact.
    """

    def __init__(
        self,
        *,
        issuer: str,
        resource: str,
        key: str | None = None,
        required_scopes: Sequence[str] = (),
        tool_scopes: Mapping[str, Sequence[str]] | None = None,
        route_scopes: Mapping[str, Sequence[str]] | None = None,
        public_paths: Iterable[str] = (),
        resource_name: str | None = None,
        algorithms: Sequence[str] = ("ES256",),
        max_cached_tokens: int = 10_000,
        timeout_seconds: float = 3.0,
        http_client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_url("issuer", issuer)
        _check_url("resource", resource)
        self.issuer = issuer
        self.resource = resource
        self.required_scopes = tuple(required_scopes)
        self.tool_scopes = {name: tuple(scopes) for name, scopes in (tool_scopes or {}).items()}
        self.route_scopes = {_comparable(path).rstrip("/"): tuple(scopes) for path, scopes in (route_scopes or {}).items()}
        self.public_paths = frozenset(public_paths)
        self.resource_name = resource_name
        parts = urlsplit(resource)
        self.path = parts.path or "/"
        suffix = "" if parts.path in ("", "/") else parts.path
        self.metadata_path = f"/.well-known/oauth-protected-resource{suffix}"
        self.metadata_url = f"{parts.scheme}://{parts.netloc}{self.metadata_path}"
        self._gateway = Gateway(issuer, key, http_client, timeout_seconds, clock)
        self._verifier = Verifier(self._gateway, issuer, resource, algorithms, max_cached_tokens, clock)

    @property
    def scopes_supported(self) -> tuple[str, ...]:
        """Every scope that some request needs."""
        extra = [*self.tool_scopes.values(), *self.route_scopes.values()]
        return _union(self.required_scopes, *extra)

    def metadata(self) -> dict[str, Any]:
        """The protected resource metadata (RFC 9728 §2)."""
        document: dict[str, Any] = {
            "resource": self.resource,
            "authorization_servers": [self.issuer],
            "bearer_methods_supported": ["header"],
        }
        if self.scopes_supported:
            document["scopes_supported"] = list(self.scopes_supported)
        if self.resource_name:
            document["resource_name"] = self.resource_name
        return document

    async def verify_token(self, token: str) -> AccessToken:
        """The content of a token that is valid at this server, whatever its scopes.

        Raises:
            Refusal: the token is not valid here.
            GatewayUnavailable: the gateway cannot be asked.
        """
        return await self._verifier.verify(token)

    async def authenticate(self, authorization: Sequence[str], scopes: Sequence[str] = ()) -> AccessToken:
        """The token of a request, by its `Authorization` headers; it has `scopes` and the required ones.

        Raises:
            Refusal: the response says why, and which scopes are needed.
            GatewayUnavailable: the gateway cannot be asked.
        """
        needed = _union(self.required_scopes, scopes)
        bearer = _bearer(authorization, needed)
        try:
            token = await self._verifier.verify(bearer)
        except GatewayUnavailable:
            raise
        except Refusal as refusal:
            raise Refusal(refusal.status, refusal.error, refusal.description, needed) from None
        self.require(token, scopes)
        return token

    def require(self, token: AccessToken, scopes: Sequence[str]) -> None:
        """Checks that the token has `scopes` and the required ones.

        Raises:
            Refusal: 403 with all scopes that are needed (RFC 6750 §3.1).
        """
        needed = _union(self.required_scopes, scopes)
        if not set(needed) <= set(token.scopes):
            raise Refusal(403, "insufficient_scope", "The token lacks a scope. Ask for all of these.", needed)

    def scopes_of_path(self, path: str) -> tuple[str, ...]:
        """What `route_scopes` ask at this path."""
        path = _comparable(path)
        routes = self.route_scopes.items()
        return _union(*(scopes for prefix, scopes in routes if path == prefix or path.startswith(prefix + "/")))

    def scopes_of_body(self, body: bytes, headers: Mapping[str, str]) -> tuple[str, ...]:
        """What the tools need that a JSON-RPC body calls.

        Raises:
            Refusal: the body cannot be read, or contradicts its headers.
        """
        names = called_tools(body, headers.get("mcp-method"), headers.get("mcp-name"))
        return _union(*(self.tool_scopes.get(name, ()) for name in names))

    async def aclose(self) -> None:
        """Closes the connections to the gateway."""
        await self._gateway.aclose()


def _bearer(authorization: Sequence[str], needed: Sequence[str]) -> str:
    if len(authorization) > 1:
        raise Refusal(400, "invalid_request", "The request has more than one Authorization header.")
    scheme, _, value = (authorization[0] if authorization else "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Refusal(401, None, "Send an access token of the authorization server as Bearer.", needed)
    value = value.strip()
    if not _BEARER.fullmatch(value):
        raise Refusal(400, "invalid_request", "The Authorization header has no token, or more than one.")
    return value


def _union(*groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scope for group in groups for scope in group))


def _comparable(path: str) -> str:
    """A path as the most lenient router reads it: in small letters, without empty segments."""
    return re.sub("/+", "/", path.lower())


def _check_url(name: str, value: str) -> None:
    parts = urlsplit(value)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise ValueError(f"{name} must be an https URL (http only at this machine), not {value!r}")
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{name} must have a host, and no user, query or fragment: {value!r}")
