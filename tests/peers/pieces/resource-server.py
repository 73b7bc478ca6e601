"""An MCP server, or a plain FastAPI application, behind the Python package: python resource-server.py fastapi|mcp.

ISSUER, RESOURCE and KEY come from the environment, as in an operator's own server.
"""
import os
import sys
from urllib.parse import urlsplit

import uvicorn
from mcp_oauth_gateway import ResourceServer, ResourceServerMiddleware

server = ResourceServer(
    issuer=os.environ["ISSUER"],
    resource=os.environ["RESOURCE"],
    key=os.environ.get("KEY"),
    required_scopes=["read"],
    tool_scopes={"write_file": ["write"]},
)


def fastapi_app():
    from fastapi import FastAPI, Request

    app = FastAPI()

    @app.post("/mcp")
    async def call(request: Request):
        message = await request.json()
        text = f"{request.state.access_token.subject} called {message.get('params', {}).get('name')}"
        return {"jsonrpc": "2.0", "id": message.get("id"), "result": {"content": [{"type": "text", "text": text}]}}

    app.add_middleware(ResourceServerMiddleware, server=server)
    return app


def mcp_app():
    from mcp.server.auth.middleware.auth_context import get_access_token
    from mcp.server.mcpserver import MCPServer
    from mcp_oauth_gateway.mcp import GatewayTokenVerifier, auth_settings, protect

    mcp = MCPServer("files", token_verifier=GatewayTokenVerifier(server), auth=auth_settings(server))

    @mcp.tool()
    def write_file(path: str = "", text: str = "") -> str:
        token = get_access_token()
        return f"{token.subject if token else 'nobody'} called write_file"

    @mcp.tool()
    def list_files() -> str:
        return "none"

    return protect(mcp.streamable_http_app(stateless_http=True, json_response=True), server)


app = {"fastapi": fastapi_app, "mcp": mcp_app}[sys.argv[1]]()
uvicorn.run(app, host="127.0.0.1", port=urlsplit(server.resource).port, log_level="warning")
