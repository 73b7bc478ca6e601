"""Why a request is refused, and the response that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

RETRY_AFTER_SECONDS = 5


class Refusal(Exception):
    """A request that the server must not handle."""

    def __init__(self, status: int, error: str | None, description: str, scopes: Sequence[str] = ()) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        """The OAuth error code; None if the request had no authentication information (RFC 6750 §3)."""
        self.description = description
        self.scopes = tuple(scopes)
        """All scopes that the request needs."""

    def challenge(self, metadata_url: str) -> str | None:
        """The value of `WWW-Authenticate` (RFC 6750 §3, RFC 9728 §5.1)."""
        parameters = []
        if self.error:
            parameters += [("error", self.error), ("error_description", self.description)]
        parameters.append(("resource_metadata", metadata_url))
        if self.scopes:
            parameters.append(("scope", " ".join(self.scopes)))
        return "Bearer " + ", ".join(f'{name}="{_quotable(value)}"' for name, value in parameters)

    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        return {"error": self.error or "unauthorized", "error_description": self.description}

    def response(self, metadata_url: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body."""
        headers = [("content-type", "application/json"), ("cache-control", "no-store")]
        challenge = self.challenge(metadata_url)
        if challenge:
            headers.append(("www-authenticate", challenge))
        return self.status, headers, json.dumps(self.body()).encode()


class GatewayUnavailable(Refusal):
    """The gateway did not say whether the token is valid, so the request is refused for now."""

    def __init__(self, description: str) -> None:
        super().__init__(503, "temporarily_unavailable", description)

    def challenge(self, metadata_url: str) -> str | None:
        """None: the client's token may be good."""
        return None

    def response(self, metadata_url: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body, with `Retry-After`."""
        status, headers, body = super().response(metadata_url)
        return status, [*headers, ("retry-after", str(RETRY_AFTER_SECONDS))], body


class MessageRefusal(Refusal):
    """A JSON-RPC message that cannot be read, or contradicts its headers."""

    def __init__(self, code: int, message: str, request_id: str | int | None = None, status: int = 400) -> None:
        super().__init__(status, None, message)
        self.code = code
        self.request_id = request_id

    def challenge(self, metadata_url: str) -> str | None:
        """None: the message is wrong, not the token."""
        return None

    def body(self) -> dict[str, Any]:
        """A JSON-RPC error."""
        return {"jsonrpc": "2.0", "id": self.request_id, "error": {"code": self.code, "message": self.description}}


def invalid_token(description: str, scopes: Sequence[str] = ()) -> Refusal:
    """The token is unknown, expired, or not for this server."""
    return Refusal(401, "invalid_token", description, scopes)


def _quotable(value: str) -> str:
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in value)
