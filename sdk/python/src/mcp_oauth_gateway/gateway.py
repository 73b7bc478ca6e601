"""The gateway as this server sees it: its metadata, its keys and its introspection endpoint."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import jwt

from .errors import GatewayUnavailable

MAX_RESPONSE_BYTES = 256 * 1024
KEYS_TTL_SECONDS = 600
REFETCH_SECONDS = 60

_log = logging.getLogger("mcp_oauth_gateway")
_T = TypeVar("_T")


class SingleFlight:
    """Runs one call per key at a time; callers of the same key share its result."""

    def __init__(self) -> None:
        self._running: dict[Any, asyncio.Task[Any]] = {}

    async def run(self, key: Any, call: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `call`, or of the call that runs already. A caller that goes away stops no other."""
        task = self._running.get(key)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.ensure_future(_awaited(call))
            self._running[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        result: _T = await asyncio.shield(task)
        return result

    def _ended(self, key: Any, task: asyncio.Task[Any]) -> None:
        if self._running.get(key) is task:
            del self._running[key]
        if not task.cancelled():
            task.exception()


async def _awaited(call: Callable[[], Awaitable[_T]]) -> _T:
    return await call()


class Gateway:
    """Asks the gateway. Each answer that is not exactly as expected is an outage, never a yes."""

    def __init__(
        self, issuer: str, key: str | None, client: httpx.AsyncClient | None, timeout: float, clock: Callable[[], float]
    ) -> None:
        self._issuer = issuer
        self._key = key
        self._given_client = client
        self._own_client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None
        self._timeout = timeout
        self._clock = clock
        self._flights = SingleFlight()
        self._endpoints: dict[str, str] | None = None
        self._keys: dict[str, dict[str, Any]] | None = None
        self._keys_asked_at = 0.0
        self._unknown_asked_at: float | None = None

    async def public_key(self, kid: str) -> jwt.PyJWK | None:
        """The key with this id; None if the gateway publishes none.

        Raises:
            GatewayUnavailable: the keys were never read.
        """
        if self._keys is None:
            await self._flights.run("keys", self._read_keys)
        elif self._clock() - self._keys_asked_at >= KEYS_TTL_SECONDS:
            await self._renew_keys()
        if self._keys is not None and kid not in self._keys and self._may_ask_for_unknown():
            self._unknown_asked_at = self._clock()
            await self._renew_keys()
        found = (self._keys or {}).get(kid)
        try:
            return None if found is None else jwt.PyJWK(found)
        except jwt.PyJWTError:
            return None

    async def introspect(self, token: str) -> dict[str, Any] | None:
        """The claims of an active token; None if it is not active (RFC 7662 §2.2).

        Raises:
            GatewayUnavailable: the gateway did not answer the question.
        """
        if self._key is None:
            return None
        url = await self._endpoint("introspection_endpoint")
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {"authorization": f"Bearer {self._key}", "accept": "application/json"}
        answer = await self._json("POST", url, data=form, headers=headers)
        # Only the boolean counts: a string "false" is true in Python.
        return answer if answer.get("active") is True else None

    async def aclose(self) -> None:
        """Closes the connections that this object opened."""
        if self._own_client is not None:
            await self._own_client[1].aclose()
            self._own_client = None

    def _may_ask_for_unknown(self) -> bool:
        return self._unknown_asked_at is None or self._clock() - self._unknown_asked_at >= REFETCH_SECONDS

    async def _renew_keys(self) -> None:
        try:
            await self._flights.run("keys", self._read_keys)
        except GatewayUnavailable:
            # The keys that were read serve on; ask again in a minute.
            self._keys_asked_at = self._clock() - KEYS_TTL_SECONDS + REFETCH_SECONDS

    async def _read_keys(self) -> None:
        document = await self._json("GET", await self._endpoint("jwks_uri"))
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise self._outage("the document of keys has no list `keys`")
        self._keys = {
            key["kid"]: key
            for key in keys
            if isinstance(key, dict) and isinstance(key.get("kid"), str) and key.get("use", "sig") == "sig"
        }
        self._keys_asked_at = self._clock()

    async def _endpoint(self, name: str) -> str:
        if self._endpoints is None:
            await self._flights.run("metadata", self._read_metadata)
        url = (self._endpoints or {}).get(name)
        if url is None:
            raise self._outage(f"the metadata names no {name}")
        return url

    async def _read_metadata(self) -> None:
        parts = urlsplit(self._issuer)
        path = parts.path.rstrip("/")
        document = await self._json("GET", f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}")
        if document.get("issuer") != self._issuer:
            raise self._outage("the metadata is of another issuer (RFC 8414 §3.3)")
        found = {}
        for name in ("jwks_uri", "introspection_endpoint"):
            url = document.get(name)
            # The key goes to this address, so it must be the gateway's.
            if isinstance(url, str) and urlsplit(url)[:2] == parts[:2]:
                found[name] = url
        self._endpoints = found

    async def _json(self, method: str, url: str, **request: Any) -> dict[str, Any]:
        try:
            status, media_type, body = await asyncio.wait_for(self._exchange(method, url, **request), self._timeout)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, asyncio.TimeoutError) as error:
            raise self._outage(f"{type(error).__name__} at {url}") from None
        if status == 401 and method == "POST":
            raise self._outage(f"{url} refused the key of this server: make a new one with `servers keys add`")
        if status != 200 or media_type != "application/json":
            raise self._outage(f"{url} answered {status} {media_type or 'without a type'}")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise self._outage(f"{url} answered no JSON") from None
        if not isinstance(document, dict):
            raise self._outage(f"{url} answered no JSON object")
        return document

    async def _exchange(self, method: str, url: str, **request: Any) -> tuple[int, str, bytes]:
        async with self._client().stream(method, url, follow_redirects=False, **request) as response:
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_RESPONSE_BYTES:
                    raise httpx.DecodingError("too long")
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            return response.status_code, media_type, bytes(body)

    def _client(self) -> httpx.AsyncClient:
        if self._given_client is not None:
            return self._given_client
        loop = asyncio.get_running_loop()
        if self._own_client is None or self._own_client[0] is not loop:
            self._own_client = (loop, httpx.AsyncClient(timeout=self._timeout, trust_env=False))
        return self._own_client[1]

    def _outage(self, reason: str) -> GatewayUnavailable:
        _log.warning("gateway unavailable: issuer=%s reason=%s", self._issuer, reason)
        return GatewayUnavailable("The authorization server cannot be asked now. Try again later.")
