"""Decides whether a token is valid: a JWT by its signature, any other token by asking the gateway."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jwt

from .errors import Refusal, invalid_token
from .gateway import Gateway, SingleFlight
from .token import AccessToken, token_from_claims

MAX_TOKEN_BYTES = 8192
ACTIVE_TTL_SECONDS = 60
INACTIVE_TTL_SECONDS = 5
ASYMMETRIC_ALGORITHMS = frozenset(
    {"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"}
)


class Verifier:
    """Verifies tokens of one issuer for one resource."""

    def __init__(
        self,
        gateway: Gateway,
        issuer: str,
        resource: str,
        algorithms: Sequence[str],
        max_cached: int,
        clock: Callable[[], float],
    ) -> None:
        if not algorithms or not set(algorithms) <= ASYMMETRIC_ALGORITHMS:
            raise ValueError(f"algorithms must be some of {sorted(ASYMMETRIC_ALGORITHMS)}, not {list(algorithms)}")
        self._gateway = gateway
        self._issuer = issuer
        self._resource = resource
        self._algorithms = list(algorithms)
        self._max_cached = max_cached
        self._clock = clock
        self._cache: OrderedDict[bytes, tuple[float, AccessToken | Refusal]] = OrderedDict()
        self._flights = SingleFlight()
        self._jws = jwt.PyJWS(algorithms=self._algorithms)

    async def verify(self, token: str) -> AccessToken:
        """The token's content.

        Raises:
            Refusal: the token is not valid here.
            GatewayUnavailable: nobody knows.
        """
        if len(token.encode()) > MAX_TOKEN_BYTES:
            raise invalid_token("The token is too long.")
        if token.count(".") == 2:
            return await self._verify_jwt(token)
        return await self._verify_opaque(token)

    async def _verify_jwt(self, token: str) -> AccessToken:
        header = _header(token)
        if header.get("alg") not in self._algorithms:
            raise invalid_token("The token's algorithm is not accepted.")
        media_type = header.get("typ")
        if not isinstance(media_type, str) or media_type.lower().removeprefix("application/") != "at+jwt":
            raise invalid_token("The token is not an access token (RFC 9068 §4).")
        if "crit" in header:
            raise invalid_token("The token has critical extensions.")
        kid = header.get("kid")
        key = await self._gateway.public_key(kid) if isinstance(kid, str) else None
        if key is None:
            raise invalid_token("The token's key is unknown.")
        try:
            decoded = self._jws.decode_complete(token, key, algorithms=self._algorithms)
            claims = json.loads(decoded["payload"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise invalid_token("The token's signature is wrong.") from None
        if not isinstance(claims, dict) or claims.get("iss") != self._issuer:
            raise invalid_token("The token is of another issuer.")
        if claims.get("exp") is None:
            raise invalid_token("The token has no expiry.")
        return token_from_claims(token, claims, self._issuer, self._resource, self._clock())

    async def _verify_opaque(self, token: str) -> AccessToken:
        digest = hashlib.sha256(token.encode()).digest()
        cached = self._cached(digest)
        if cached is None:
            cached = await self._flights.run(digest, lambda: self._introspect(token, digest))
        if isinstance(cached, Refusal):
            raise invalid_token(cached.description)
        return cached

    async def _introspect(self, token: str, digest: bytes) -> AccessToken | Refusal:
        claims = await self._gateway.introspect(token)
        now = self._clock()
        result: AccessToken | Refusal
        try:
            if claims is None:
                raise invalid_token("The token is not active.")
            if claims.get("iss", self._issuer) != self._issuer:
                raise invalid_token("The token is of another issuer.")
            result = token_from_claims(token, claims, self._issuer, self._resource, now)
        except Refusal as refusal:
            result = refusal
        self._keep(digest, result, now)
        return result

    def _cached(self, digest: bytes) -> AccessToken | Refusal | None:
        entry = self._cache.get(digest)
        if entry is None:
            return None
        if self._clock() >= entry[0]:
            del self._cache[digest]
            return None
        self._cache.move_to_end(digest)
        return entry[1]

    def _keep(self, digest: bytes, result: AccessToken | Refusal, now: float) -> None:
        if isinstance(result, Refusal):
            until = now + INACTIVE_TTL_SECONDS
        else:
            until = min(now + ACTIVE_TTL_SECONDS, result.expires_at or now + ACTIVE_TTL_SECONDS)
        self._cache[digest] = (until, result)
        self._cache.move_to_end(digest)
        while len(self._cache) > self._max_cached:
            self._cache.popitem(last=False)


def _header(token: str) -> dict[str, Any]:
    part = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise invalid_token("The token cannot be read.")
    return header
