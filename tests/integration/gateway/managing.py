"""Calls of the management API, as tests make them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from tests.integration.gateway.client import Answer, Client

USER_PASSWORD = "the-user's-password"
_numbers = itertools.count(1)


def new_name(kind: str) -> str:
    """A name that no other test uses."""
    return f"{kind}-{next(_numbers)}-of-managing"


async def send(
    client: Client, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
) -> Answer:
    """One call below /api/v1, with a JSON document if there is one."""
    sent = {**(headers or {}), **({"Content-Type": "application/json"} if body is not None else {})}
    content = json.dumps(body).encode() if body is not None else None
    return await client.request(method, f"/api/v1{path}", body=content, headers=sent)


async def get(client: Client, path: str) -> Any:
    """What is there."""
    answer = await send(client, "GET", path)
    assert answer.status == 200, str(answer)
    return answer.json()


async def do(client: Client, method: str, path: str, body: Any = None) -> Any:
    """Change something, which must be possible; what is answered."""
    answer = await send(client, method, path, body)
    assert answer.status in (200, 201, 204), str(answer)
    return answer.json() if answer.body else None


async def make_user(client: Client, *, is_admin: bool = False) -> tuple[str, Client]:
    """A user of the test's own."""
    name = new_name("user")
    await do(client, "POST", "/users", {"name": name, "password": USER_PASSWORD, "is_admin": is_admin})
    return name, client.with_basic(name, USER_PASSWORD)


async def make_namespace(client: Client) -> str:
    name = new_name("space")
    await do(client, "POST", "/namespaces", {"name": name})
    return name


async def told(client: Client, *, actor: str) -> list[tuple[str, Any]]:
    """What somebody has done, as the audit log tells it, the newest last: the event's type and its data."""
    entries = (await get(client, f"/audit?n=1000&outcome=changed&principal={actor.replace('+', '%2B')}"))["entries"]
    return [(entry["action"].removeprefix("slipway.").removesuffix(".v1"), entry["details"]) for entry in entries][::-1]
