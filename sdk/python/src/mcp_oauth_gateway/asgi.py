"""ASGI middleware: Starlette, FastAPI, and the HTTP applications of the MCP SDK and FastMCP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from .errors import MessageRefusal, Refusal
from .server import ResourceServer
from .token import AccessToken

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 4 * 1024 * 1024
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class ResourceServerMiddleware:
    """Lets requests with a valid token pass, and serves the protected resource metadata.

    The token is in `scope["state"]["access_token"]`, which is `request.state.access_token`.

    Args:
        only: Paths that are protected, with what is below them. Without it: every path.
    """

    def __init__(self, app: App, server: ResourceServer, only: Iterable[str] | None = None) -> None:
        self._app = app
        self._server = server
        self._only = None if only is None else tuple(path.rstrip("/") for path in only)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] not in ("http", "websocket") or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == self._server.metadata_path and scope["method"] in ("GET", "HEAD"):
            await self._send_metadata(send)
            return
        try:
            token, receive = await self._check(scope, receive)
        except Refusal as refusal:
            await self._refuse(scope, refusal, send)
            return
        scope.setdefault("state", {})["access_token"] = token
        await self._app(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        if path == self._server.metadata_path:
            return False
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return True
        if self._only is not None and not any(path == p or path.startswith(p + "/") for p in self._only):
            return True
        return path in self._server.public_paths

    async def _check(self, scope: Scope, receive: Receive) -> tuple[AccessToken, Receive]:
        server = self._server
        pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        authorization = [value for name, value in pairs if name == "authorization"]
        scopes = server.scopes_of_path(scope["path"])
        token = await server.authenticate(authorization, scopes)
        headers = dict(pairs)
        if self._may_call_tools(scope, headers.get("content-type", "")):
            body, receive = await _read(receive)
            server.require(token, [*scopes, *server.scopes_of_body(body, headers)])
        return token, receive

    def _may_call_tools(self, scope: Scope, content_type: str) -> bool:
        if not self._server.tool_scopes or scope["type"] != "http" or scope["method"] != "POST":
            return False
        is_form = content_type.partition(";")[0].strip().lower() in _FORMS
        return scope["path"].rstrip("/") == self._server.path.rstrip("/") or not is_form

    async def _refuse(self, scope: Scope, refusal: Refusal, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.description[:120]})
            return
        status, headers, body = refusal.response(self._server.metadata_url)
        await _send(send, status, headers, body)

    async def _send_metadata(self, send: Send) -> None:
        headers = [
            ("content-type", "application/json"),
            ("cache-control", "public, max-age=300"),
            ("access-control-allow-origin", "*"),
        ]
        await _send(send, 200, headers, json.dumps(self._server.metadata()).encode())


async def _send(send: Send, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    headers = [*headers, ("content-length", str(len(body)))]
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and a `receive` that yields it once more."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise MessageRefusal(-32700, "The client went away.")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise MessageRefusal(-32600, f"The body is longer than {MAX_BODY_BYTES} bytes.", status=413)
        if not message.get("more_body", False):
            break
    whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

    async def replay() -> Message:
        nonlocal whole
        if whole is None:
            return await receive()
        first, whole = whole, None
        return first

    return bytes(body), replay
