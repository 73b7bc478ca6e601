"""What a valid token says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import invalid_token

CLOCK_SKEW_SECONDS = 30


@dataclass(frozen=True)
class AccessToken:
    """A token that is valid here and now. It is not printed."""

    token: str = field(repr=False)
    client_id: str
    scopes: tuple[str, ...]
    resource: str
    issuer: str
    subject: str | None = None
    expires_at: int | None = None
    """Unix seconds; None if the gateway did not say."""
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)


def token_from_claims(token: str, claims: Mapping[str, Any], issuer: str, resource: str, now: float) -> AccessToken:
    """Checks what a JWT and an introspection response have in common.

    Raises:
        Refusal: the token is expired, not for this server, or bound to a key (RFC 9449 §7.1).
    """
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if resource not in audiences:
        raise invalid_token("The token is not for this server. Sign in for this server.")
    if claims.get("cnf") is not None:
        raise invalid_token("The token is bound to a key and cannot be sent as Bearer.")
    expires_at = _seconds(claims, "exp")
    if expires_at is not None and now >= expires_at + CLOCK_SKEW_SECONDS:
        raise invalid_token("The token has expired.")
    for name in ("nbf", "iat"):
        begins_at = _seconds(claims, name)
        if begins_at is not None and now < begins_at - CLOCK_SKEW_SECONDS:
            raise invalid_token("The token is not valid yet.")
    scope, client_id, subject = claims.get("scope"), claims.get("client_id"), claims.get("sub")
    return AccessToken(
        token=token,
        client_id=client_id if isinstance(client_id, str) else "",
        scopes=tuple(scope.split()) if isinstance(scope, str) else (),
        resource=resource,
        issuer=issuer,
        subject=subject if isinstance(subject, str) else None,
        expires_at=None if expires_at is None else int(expires_at),
        claims=claims,
    )


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid_token(f"The token's {name} is not a time.")
    return float(value)
