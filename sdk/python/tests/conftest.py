"""The gateway of the tests, and the tokens of cases.json."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import new as hmac
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

CASES = json.loads((Path(__file__).parents[2] / "cases.json").read_text())
SETUP = CASES["setup"]
NOW = 1_796_000_000
KEYS = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("k1", "k2", "other")}
GATEWAY = "https://gw.example"


def public(name: str) -> dict[str, Any]:
    jwk = json.loads(ECAlgorithm.to_jwk(KEYS[name].public_key()))
    return {**jwk, "kid": name, "alg": "ES256", "use": "sig"}


def filled(value: Any) -> Any:
    """Replaces `$name` by what it stands for."""
    if isinstance(value, str) and value.startswith("$"):
        return public("other") if value == "$other_public" else SETUP[value[1:]]
    if isinstance(value, list):
        return [filled(v) for v in value]
    if isinstance(value, dict):
        return {k: filled(v) for k, v in value.items()}
    return value


def times(claims: dict[str, Any], now: float) -> dict[str, Any]:
    return {
        k: now + v if k in ("exp", "iat", "nbf") and type(v) is int else v for k, v in claims.items()
    }


def mint(name: str, now: float = NOW) -> str:
    """The token with this name."""
    fixture = CASES["tokens"][name]
    if "text" in fixture:
        return fixture["text"]
    if "repeat" in fixture:
        return fixture["repeat"] * fixture["times"]
    header = {**CASES["jwt"]["header"], **fixture.get("header", {})}
    claims = {**CASES["jwt"]["claims"], **fixture.get("claims", {})}
    header = {k: filled(v) for k, v in header.items() if v is not None}
    claims = times({k: filled(v) for k, v in claims.items() if v is not None}, now)
    sign = fixture.get("sign", "k1")
    signed = ".".join(_b64(json.dumps(part).encode()) for part in (header, claims))
    if sign == "none":
        return f"{signed}."
    if sign == "hs256_public_key":
        pem = KEYS["k1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return f"{signed}.{_b64(hmac(pem, signed.encode(), sha256).digest())}"
    algorithm = jwt.get_algorithm_by_name("ES256")
    return f"{signed}.{_b64(algorithm.sign(signed.encode(), KEYS[sign]))}"


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class FakeGateway(httpx.AsyncBaseTransport):
    """Answers as a case says, and counts."""

    def __init__(self) -> None:
        self.jwks: list[str] | str = ["k1"]
        self.introspection: str | None = None
        self.fetches = self.introspections = 0
        self.now = NOW

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        assert url.startswith(GATEWAY), f"a request to {url}"
        if url == f"{GATEWAY}/.well-known/oauth-authorization-server/mcp/tracker":
            return httpx.Response(
                200,
                json={
                    "issuer": SETUP["issuer"],
                    "jwks_uri": f"{GATEWAY}/.well-known/jwks.json",
                    "introspection_endpoint": f"{GATEWAY}/introspect/mcp/tracker",
                },
            )
        if url == f"{GATEWAY}/.well-known/jwks.json":
            self.fetches += 1
            if self.jwks == "refused":
                raise httpx.ConnectError("refused")
            return httpx.Response(200, json={"keys": [public(name) for name in self.jwks]})
        assert url == f"{GATEWAY}/introspect/mcp/tracker" and request.method == "POST"
        assert request.headers["authorization"] == f"Bearer {SETUP['key']}"
        assert set(parse_qs(request.content.decode())) == {"token", "token_type_hint"}
        self.introspections += 1
        assert self.introspection is not None, "the gateway was asked about a token"
        return await self.answer(CASES["introspection"][self.introspection])

    async def answer(self, fixture: dict[str, Any]) -> httpx.Response:
        if "refused" in fixture:
            raise httpx.ConnectError("refused")
        if "hang" in fixture:
            await asyncio.sleep(60)
        if "json" in fixture:
            body = filled(fixture["json"])
            await asyncio.sleep(0.01)
            return httpx.Response(200, json=times(body, self.now) if isinstance(body, dict) else body)
        headers = {"content-type": fixture.get("type", "")}
        if "location" in fixture:
            headers["location"] = fixture["location"]
        text = fixture["repeat"] * fixture["times"] if "repeat" in fixture else fixture.get("text", "")
        return httpx.Response(fixture["status"], headers=headers, content=text.encode())
