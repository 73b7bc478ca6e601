"""Runs cases.json against the ASGI middleware."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from conftest import CASES, NOW, SETUP, FakeGateway, filled, mint

from mcp_oauth_gateway import ResourceServer, ResourceServerMiddleware

class World:
    """A protected server, its gateway, and a clock."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.gateway = FakeGateway()
        self.reached = 0
        self.server = ResourceServer(
            issuer=SETUP["issuer"],
            resource=SETUP["resource"],
            key=SETUP["key"],
            required_scopes=SETUP["required_scopes"],
            tool_scopes=SETUP["tool_scopes"],
            route_scopes=SETUP["route_scopes"],
            public_paths=SETUP["public_paths"],
            timeout_seconds=0.3,
            http_client=httpx.AsyncClient(transport=self.gateway, follow_redirects=True),
            clock=lambda: self.now,
        )
        self.app = ResourceServerMiddleware(self.application, self.server)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        status = 204 if scope["method"] == "OPTIONS" else 200
        if scope["method"] == "POST":
            assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def request(self, step: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        method = step.get("method", "POST")
        headers = [(name.lower(), value) for name, value in step.get("headers", {}).items()]
        body, content_type = b"{}", "application/json"
        if "rpc" in step:
            body = json.dumps(step["rpc"]).encode()
        if "body" in step:
            body = step["body"].encode()
        if "form" in step:
            body, content_type = with_tokens(step["form"]).encode(), "application/x-www-form-urlencoded"
        authorization = step.get("authorization", f"Bearer {mint(step['token'])}" if "token" in step else None)
        for value in authorization if isinstance(authorization, list) else [authorization]:
            if value is not None:
                headers.append(("authorization", with_tokens(value)))
        headers.append(("content-type", content_type))
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(step.get("path", "/mcp")),
            "query_string": with_tokens(step.get("query", "")).encode(),
            "headers": [(n.encode(), v.encode()) for n, v in headers],
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        raw = [(n.decode(), v.decode()) for n, v in sent[0]["headers"]]
        assert len(dict(raw)) == len(raw), "no header is repeated"
        return sent[0]["status"], dict(raw), b"".join(m.get("body", b"") for m in sent[1:])


def with_tokens(text: str) -> str:
    return re.sub(r"\$(\w+)", lambda match: mint(match[1]), text)


def parameters(challenge: str) -> dict[str, str]:
    assert challenge.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', challenge))


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: f"case_{case['n']}")
def test_the_middleware_answers_as_the_table_says(case: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.run(run(case))
    if "log" in case:
        assert case["log"] in caplog.text
    for name in ("ok_jwt", "opaque"):
        assert mint(name) not in caplog.text
    assert SETUP["key"] not in caplog.text


async def run(case: dict[str, Any]) -> None:
    world = World()
    if case.get("warm"):
        assert (await world.request({"token": "ok_jwt"}))[0] == 200
    for step in case.get("steps", [case]):
        world.now += step.get("advance", 0)
        world.gateway.now = world.now
        world.gateway.introspection = step.get("introspection")
        world.gateway.jwks = step.get("jwks", ["k1"])
        world.gateway.fetches = world.gateway.introspections = world.reached = 0
        repeat = step.get("repeat", 1)
        answers = await asyncio.gather(*(world.request(step) for _ in range(repeat)))
        for answer in answers:
            check(answer, step)
        for count in ("fetches", "introspections"):
            if count in step:
                assert getattr(world.gateway, count) == step[count], count
        passes = step["status"] in (200, 204) and "metadata" not in step
        assert world.reached == (repeat if passes else 0)


def check(answer: tuple[int, dict[str, str], bytes], step: dict[str, Any]) -> None:
    status, headers, body = answer
    assert status == step["status"], body
    challenge = headers.get("www-authenticate")
    if step.get("challenge") is None:
        assert challenge is None
    else:
        expected = filled(CASES["challenges"][step["challenge"]])
        found = parameters(challenge or "")
        assert found.keys() == expected.keys()
        assert {k: v for k, v in found.items() if expected[k] != "*"} == {k: v for k, v in expected.items() if v != "*"}
    assert ("retry-after" in headers) == step.get("retry_after", False)
    if status >= 400:
        assert headers["cache-control"] == "no-store" and isinstance(json.loads(body), dict)
    if step.get("metadata"):
        document = json.loads(body)
        assert document["resource"] == SETUP["resource"]
        assert document["authorization_servers"] == [SETUP["issuer"]]
    if "rpc_error" in step:
        assert json.loads(body)["error"]["code"] == step["rpc_error"]
