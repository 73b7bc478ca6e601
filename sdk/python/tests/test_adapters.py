"""The adapters, in front of FastAPI, the MCP SDK and FastMCP."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from conftest import NOW, SETUP, FakeGateway, mint
from fastapi import Depends, FastAPI, Request
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token as fastmcp_token
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from mcp_oauth_gateway import AccessToken, GatewayUnavailable, ResourceServer, ResourceServerMiddleware
from mcp_oauth_gateway.fastapi import require_token
from mcp_oauth_gateway.fastmcp import GatewayAuth
from mcp_oauth_gateway.mcp import GatewayTokenVerifier, auth_settings, protect

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def call(tool: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": {}}}


def make(**more: Any) -> tuple[ResourceServer, FakeGateway]:
    gateway = FakeGateway()
    names = ("issuer", "resource", "key", "required_scopes", "tool_scopes")
    options: dict[str, Any] = {name: SETUP[name] for name in names}
    client = httpx.AsyncClient(transport=gateway)
    return ResourceServer(**{**options, "http_client": client, "clock": lambda: NOW, **more}), gateway


def now_token(name: str) -> str:
    """A token that is valid now: the SDKs compare `exp` with the machine's clock."""
    return mint(name, now=time.time())


@asynccontextmanager
async def browser(app: Any) -> Any:
    lifespan = getattr(app, "lifespan", None) or app.router.lifespan_context
    async with lifespan(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://rs.example") as http:
        yield http


def mcp_headers(token: str | None) -> dict[str, str]:
    headers = {"accept": "application/json, text/event-stream"}
    return headers if token is None else {**headers, "authorization": f"Bearer {token}"}


def test_fastapi_middleware_and_dependency_pass_the_token_on() -> None:
    async def run() -> None:
        server, _ = make(tool_scopes=None)
        app = FastAPI()

        @app.get("/whoami")
        async def whoami(request: Request) -> dict[str, Any]:
            token: AccessToken = request.state.access_token
            return {"sub": token.subject, "scopes": token.scopes}

        app.add_middleware(ResourceServerMiddleware, server=server)
        async with browser(app) as http:
            assert (await http.get("/whoami")).status_code == 401
            answer = await http.get("/whoami", headers=mcp_headers(mint("ok_jwt")))
            assert answer.json() == {"sub": "u_81", "scopes": ["tracker:read"]}

        single = FastAPI()

        @single.get("/write")
        async def write(token: AccessToken = Depends(require_token(server, "tracker:write"))) -> str:
            return token.client_id

        async with browser(single) as http:
            refused = await http.get("/write", headers=mcp_headers(mint("ok_jwt")))
            assert refused.status_code == 403 and refused.headers["cache-control"] == "no-store"
            assert 'scope="tracker:read tracker:write"' in refused.headers["www-authenticate"]
            assert (await http.get("/write", headers=mcp_headers(mint("ok_write")))).json() == "c1"

    asyncio.run(run())


def sdk_app(server: ResourceServer) -> Any:
    mcp = MCPServer("files", token_verifier=GatewayTokenVerifier(server), auth=auth_settings(server))

    @mcp.tool()
    def create_issue() -> str:
        token = get_access_token()
        return f"created by {token.subject}" if token else "nobody"

    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return mcp.streamable_http_app(stateless_http=True, json_response=True, transport_security=security)


def fastmcp_app(server: ResourceServer) -> Any:
    mcp = FastMCP("files", auth=GatewayAuth(server))

    @mcp.tool
    def create_issue() -> str:
        token = fastmcp_token()
        return f"created by {token.subject}" if token else "nobody"

    return mcp.http_app(path="/mcp", stateless_http=True, json_response=True)


class Protected:
    """`protect`, with the lifespan that the test needs."""

    def __init__(self, inner: Any, server: ResourceServer) -> None:
        self.app = protect(inner, server)
        self.lifespan = lambda _: inner.router.lifespan_context(inner)

    async def __call__(self, *connection: Any) -> None:
        await self.app(*connection)


@pytest.mark.parametrize("kind", ["mcp", "fastmcp"])
def test_an_mcp_server_asks_for_the_scopes_of_a_tool_and_knows_the_user(kind: str) -> None:
    async def run() -> None:
        server, gateway = make(clock=time.time)
        app = Protected(sdk_app(server), server) if kind == "mcp" else fastmcp_app(server)
        async with browser(app) as http:
            metadata = await http.get("/.well-known/oauth-protected-resource/mcp")
            assert metadata.json()["resource"] == SETUP["resource"]
            none = await http.post("/mcp", json=INITIALIZE, headers=mcp_headers(None))
            assert none.status_code == 401 and "error=" not in none.headers["www-authenticate"]
            step = await http.post("/mcp", json=call("create_issue"), headers=mcp_headers(now_token("ok_jwt")))
            assert step.status_code == 403
            assert 'scope="tracker:read tracker:write"' in step.headers["www-authenticate"]
            write = mcp_headers(now_token("ok_write"))
            first = await http.post("/mcp", json=INITIALIZE, headers=write)
            assert first.status_code == 200, first.text
            version = {**write, "mcp-protocol-version": "2025-06-18"}
            done = await http.post("/mcp", json=call("create_issue"), headers=version)
            assert "created by u_81" in json.dumps(done.json()), done.text
            gateway.introspection = "status_500"
            away = await http.post("/mcp", json=INITIALIZE, headers=mcp_headers(mint("opaque")))
            assert away.status_code == 503 and away.headers["retry-after"]

    asyncio.run(run())


def test_the_verifier_alone_says_none_for_a_bad_token_and_raises_in_an_outage() -> None:
    async def run() -> None:
        server, gateway = make(timeout_seconds=0.1)
        verifier = GatewayTokenVerifier(server)
        good = await verifier.verify_token(mint("ok_jwt"))
        assert good and good.resource == SETUP["resource"] and good.subject == "u_81"
        assert await verifier.verify_token(mint("aud_of_sibling")) is None
        gateway.introspection = "timeout"
        with pytest.raises(GatewayUnavailable):
            await verifier.verify_token(mint("opaque"))

    asyncio.run(run())


def test_fastmcp_at_another_path_than_its_resource_is_refused() -> None:
    server, _ = make()
    with pytest.raises(ValueError, match="its resource is"):
        FastMCP("x", auth=GatewayAuth(server)).http_app(path="/other")


def test_the_cache_is_bounded_and_a_token_is_not_printed() -> None:
    async def run() -> None:
        server, gateway = make(max_cached_tokens=2)
        gateway.introspection = "active"
        for name in ("a", "b", "c", "a"):
            token = await server.verify_token(name * 20)
            assert name * 20 not in repr(token)
        assert gateway.introspections == 4

    asyncio.run(run())


def test_a_caller_that_goes_away_stops_no_other() -> None:
    async def run() -> None:
        server, gateway = make()
        gateway.introspection = "active"
        first = asyncio.create_task(server.verify_token("opaque"))
        second = asyncio.create_task(server.verify_token("opaque"))
        await asyncio.sleep(0.005)
        first.cancel()
        assert (await second).subject == "u_81" and gateway.introspections == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": "http://gw.example"},
        {"resource": "https://rs.example/mcp?x=1"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
    ],
)
def test_unsafe_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        make(**options)


def test_an_endpoint_of_another_origin_gets_no_key() -> None:
    async def run() -> None:
        class Elsewhere(FakeGateway):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                assert request.url.host == "gw.example"
                document = {"issuer": SETUP["issuer"], "introspection_endpoint": "https://attacker.example/introspect"}
                return httpx.Response(200, json=document)

        server, _ = make(http_client=httpx.AsyncClient(transport=Elsewhere()))
        with pytest.raises(GatewayUnavailable):
            await server.verify_token("opaque")

    asyncio.run(run())
