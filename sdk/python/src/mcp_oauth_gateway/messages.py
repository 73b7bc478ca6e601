"""Which tools a JSON-RPC body calls."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from .errors import MessageRefusal

PARSE_ERROR = -32700
HEADER_MISMATCH = -32020


def called_tools(body: bytes, method_header: str | None, name_header: str | None) -> list[str]:
    """The names of the tools that the messages call.

    Raises:
        MessageRefusal: the body cannot be read as one meaning, or `Mcp-Method` or `Mcp-Name` contradicts it.
    """
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise MessageRefusal(PARSE_ERROR, "The body is not JSON, or repeats a member.") from None
    messages = document if isinstance(document, list) else [document]
    names = []
    for message in messages:
        if not isinstance(message, dict):
            continue
        params = message.get("params")
        name = params.get("name") if isinstance(params, dict) else None
        _compare("Mcp-Method", method_header, message.get("method"), message)
        if message.get("method") == "tools/call":
            _compare("Mcp-Name", name_header, name, message)
            if isinstance(name, str):
                names.append(name)
    return names


def _compare(header: str, value: str | None, member: Any, message: Mapping[str, Any]) -> None:
    if value is None or _decoded(value) == member:
        return
    request_id = message.get("id")
    known = request_id if isinstance(request_id, str | int) else None
    raise MessageRefusal(HEADER_MISMATCH, f"The header {header} contradicts the body.", known)


def _decoded(value: str) -> str:
    value = value.strip()
    if value.startswith("=?base64?") and value.endswith("?="):
        try:
            return b64decode(value[9:-2], validate=True).decode("utf-8")
        except ValueError:
            return value
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        # Another parser may read the other value.
        raise ValueError("repeated member")
    return result
