"""An MCP server for the files of one folder, protected by the gateway. Reading and writing have scopes of their own.

    ./run.sh            # the gateway must serve gateway.toml beside this file
"""

import os
from pathlib import Path

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token
from mcp_oauth_gateway import ResourceServer
from mcp_oauth_gateway.fastmcp import GatewayAuth

ROOT = Path(os.environ.get("FILES_ROOT", "files")).resolve()
PORT = int(os.environ.get("PORT", "8010"))

server = ResourceServer(
    issuer=os.environ.get("GATEWAY_ISSUER", "http://localhost:8002/mcp/files"),
    resource=os.environ.get("RESOURCE", f"http://localhost:{PORT}/mcp"),
    key=os.environ.get("MCP_GATEWAY_SERVER_KEY"),
    required_scopes=["files:read"],
    tool_scopes={"write_file": ["files:write"], "delete_file": ["files:write"]},
    resource_name="Files",
)
mcp = FastMCP("files", auth=GatewayAuth(server))


def inside(path: str) -> Path:
    """The file of a path below the folder; links out of it are refused."""
    found = (ROOT / path).resolve()
    if not found.is_relative_to(ROOT):
        raise ValueError("the path is outside the folder")
    return found


@mcp.tool
def list_files(path: str = ".") -> list[str]:
    """Lists a folder."""
    return sorted(entry.name + ("/" if entry.is_dir() else "") for entry in inside(path).iterdir())


@mcp.tool
def read_file(path: str) -> str:
    """Reads a text file."""
    return inside(path).read_text(encoding="utf-8")


@mcp.tool
def write_file(path: str, text: str) -> str:
    """Writes a text file. Needs the scope files:write."""
    target = inside(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    token = get_access_token()
    return f"{token.subject if token else 'somebody'} wrote {len(text)} characters"


@mcp.tool
def delete_file(path: str) -> str:
    """Deletes a file. Needs the scope files:write."""
    inside(path).unlink()
    return "deleted"


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    mcp.run(transport="http", host="127.0.0.1", port=PORT, path="/mcp", stateless_http=True)
