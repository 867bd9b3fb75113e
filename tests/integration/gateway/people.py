"""Users, robots and rights for tests, made through the management API as anybody would."""

from __future__ import annotations

import itertools
from typing import Any

from tests.integration.gateway.client import Client

PASSWORD = "a-password-of-ours"
_numbers = itertools.count(1)


def fresh_name(word: str = "user") -> str:
    """A name that no other test uses."""
    return f"{word}-{next(_numbers)}"


async def add_user(admin: Client, name: str | None = None, **values: Any) -> Client:
    """A new user, logged in by password; its name is the client's `name`."""
    name = name or fresh_name()
    answer = await admin.api("POST", "/users", {"name": name, "password": PASSWORD, **values})
    assert answer.status == 201, str(answer)
    return named(admin.with_basic(name, PASSWORD), name)


async def add_namespace(admin: Client, name: str | None = None, **values: Any) -> str:
    name = name or fresh_name("space")
    answer = await admin.api("POST", "/namespaces", {"name": name, **values})
    assert answer.status == 201, str(answer)
    return name


async def add_repository(owner: Client, name: str, **values: Any) -> dict[str, Any]:
    answer = await owner.api("POST", "/repositories", {"name": name, **values})
    assert answer.status == 201, str(answer)
    return dict(answer.json())


async def grant(admin: Client, subject: str, role: str, on: str) -> None:
    """`on` is `acme/web`, `namespace:acme`, or `pattern:acme/web-*`."""
    kind, _, what = on.rpartition(":")
    path = {
        "": f"/repositories/{what}/-/grants/{subject}",
        "namespace": f"/namespaces/{what}/grants/{subject}",
        "pattern": f"/grants/{subject}?pattern={what}",
    }[kind]
    answer = await admin.api("PUT", path, {"role": role})
    assert answer.status == 200, str(answer)


async def add_robot(admin: Client, namespace: str, name: str | None = None, **values: Any) -> Client:
    """A new robot, logged in by its first secret."""
    name = name or fresh_name("robot")
    answer = await admin.api("POST", f"/namespaces/{namespace}/robots", {"name": name, **values})
    assert answer.status == 201, str(answer)
    full = f"{namespace}+{name}"
    return named(admin.with_basic(full, answer.json()["secret"]), full)


async def add_token(user: Client, **values: Any) -> Client:
    """The same user, logged in by a new access token."""
    answer = await user.api("POST", "/account/tokens", {"name": "for a test", **values})
    assert answer.status == 201, str(answer)
    return named(user.with_basic(user.name, answer.json()["token"]), user.name)


def named(client: Client, name: str) -> Client:
    client.name = name
    return client
