"""Answers that are given again: only while content and everybody's rights are the very ones they were made from."""

from __future__ import annotations

import time
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from slipway_common.oci.names import RepositoryName
from slipway_common.web.repeats import Answer, RepeatingConnection
from slipway_gateway.access import ACCESS_KEY, Access
from slipway_gateway.api.call import Call
from slipway_gateway.api.repeats import Repeats
from slipway_gateway.api.responses import PreparedBytes, make_head
from slipway_gateway.cache import ExactCache
from slipway_gateway.domain.access import AccessRules, Identity
from slipway_gateway.store.access import Standing
from slipway_gateway.throttle import RequestRates
from tests.unit.gateway.test_standing import BY_PASSWORD, NAME, Database

CONTENT_KEY = ("tag", 7, "latest")


class Connection(RepeatingConnection):
    """A connection on which the request came before."""

    def __init__(self, *, came_before: bool = True) -> None:
        self.came_before = came_before
        self.remembered: list[Answer] = []

    def wants_answer(self) -> bool:
        return self.came_before

    def remember(self, answer: Answer) -> None:
        self.remembered.append(answer)


class World:
    def __init__(self, *, per_second: float = 0) -> None:
        self.cache, self.database, self.connection = ExactCache(), Database(), Connection()
        self.access = Access(self.database, self.cache, AccessRules(), max_bytes=1_000_000)  # type: ignore[arg-type]
        self.repeats = Repeats(self.cache, RequestRates(per_second=per_second))
        self.content = object()

    async def standing(self, name: RepositoryName = NAME, identity: Identity = BY_PASSWORD) -> Standing:
        await self.cache.fill(CONTENT_KEY, self._content)
        return await self.access.standing(identity, name)

    async def _content(self) -> object:
        return self.content

    def offer(self, standing: Standing, identity: Identity = BY_PASSWORD) -> list[Answer]:
        """Answer a request of somebody who stands there; what the connection remembers then."""
        request: Any = SimpleNamespace(protocol=self.connection)
        call = Call(request, standing.place.name, "latest", identity, standing, "192.0.2.7")
        premises = ((CONTENT_KEY, self.content),)
        self.repeats.offer(call, PreparedBytes(make_head(200, {"Content-Length": "2"}), b"{}", premises=premises))
        return self.connection.remembered


@pytest.fixture
async def world() -> World:
    made = World()
    made.cache.enable()
    return made


def holds(answer: Answer) -> bool:
    return answer.render(time.time()) is not None


async def test_answer_is_offered_with_what_it_says(world: World) -> None:
    (answer,) = world.offer(await world.standing())
    rendered = answer.render(time.time()) or b""
    assert rendered.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nServer: " in rendered
    assert rendered.endswith(b"\r\n\r\n{}")


async def test_answer_holds_until_the_content_changes(world: World) -> None:
    (answer,) = world.offer(await world.standing())
    assert holds(answer)
    with world.cache.changing(CONTENT_KEY):
        assert not holds(answer)


async def test_answer_holds_until_anybodys_rights_change(world: World) -> None:
    (answer,) = world.offer(await world.standing())
    assert holds(answer)
    with world.cache.changing(ACCESS_KEY):
        assert not holds(answer)
    assert not holds(answer)
    await world.standing()
    assert not holds(answer), "what is remembered anew is not what it rested on"


async def test_answer_holds_while_the_cache_is_exact(world: World) -> None:
    (answer,) = world.offer(await world.standing())
    world.cache.disable()
    assert not holds(answer)


async def test_answer_ends_with_its_credential(world: World) -> None:
    end = time.time() + 60
    identity = Identity("alice", principal_id=1, credential_id=5, expires_at=end)
    (answer,) = world.offer(await world.standing(identity=identity), identity)
    assert answer.render(end - 1) is not None
    assert answer.render(end) is None
    assert BY_PASSWORD.expires_at == inf


async def test_nothing_is_offered_unless_answers_are_exact(world: World) -> None:
    standing = await world.standing()
    world.cache.disable()
    assert world.offer(standing) == []


async def test_nothing_is_offered_to_who_does_not_want_it(world: World) -> None:
    world.connection.came_before = False
    assert world.offer(await world.standing()) == []


async def test_nothing_is_offered_where_every_request_is_counted() -> None:
    world = World(per_second=5)
    world.cache.enable()
    assert world.offer(await world.standing()) == []


async def test_nothing_is_offered_for_a_former_name(world: World) -> None:
    former = RepositoryName("acme/former")
    world.database.repositories[former] = world.database.repositories[NAME]
    await world.standing()
    assert world.offer(await world.standing(former)) == []


async def test_nothing_is_offered_while_rights_change(world: World) -> None:
    standing = await world.standing()
    with world.cache.changing(ACCESS_KEY):
        standing = await world.access.standing(BY_PASSWORD, NAME)
        offered = world.offer(standing)
    assert not any(holds(answer) for answer in offered)


async def test_nothing_is_offered_that_was_decided_before_a_change(world: World) -> None:
    standing = await world.standing()
    with world.cache.changing(ACCESS_KEY):
        world.database.role = None
    await world.standing()  # somebody else's request, after the change
    assert world.offer(standing) == []
