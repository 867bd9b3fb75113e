"""What requests of the management API have in common: versions, and answers that are given once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from slipway_common.errors import Conflict, InvalidInput
from slipway_gateway.api.gatekeeper import ACCOUNT
from slipway_gateway.api.resources import IDEMPOTENCY, Body, once, read_json, wanted_version
from slipway_gateway.domain.access import Account
from slipway_gateway.idempotency import Given


class Answers:
    """Answers that were given, by key and wish."""

    def __init__(self) -> None:
        self.wishes: dict[str, bytes] = {}
        self.given: dict[str, Given] = {}

    async def begin(self, principal_id: int, key: str, wish: bytes) -> Given | None:
        if self.wishes.setdefault(key, wish) != wish:
            raise InvalidInput("this Idempotency-Key was used for another request")
        return self.given.get(key)

    async def keep(self, principal_id: int, key: str, given: Given) -> None:
        self.given[key] = given

    async def forget(self, principal_id: int, key: str) -> None:
        del self.wishes[key]


class Wish(Body):
    name: str


class Things:
    """Makes things by name, and says how many it made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def create(self, request: web.Request) -> web.Response:
        request[ACCOUNT] = Account(1, "alice", "user", is_admin=False)
        wish = await read_json(request, Wish)

        async def make() -> web.Response:
            if wish.name in self.made:
                raise Conflict("there is one already")
            self.made.append(wish.name)
            return web.Response(status=201, body=wish.name.encode(), headers={"Location": f"/things/{wish.name}"})

        try:
            return await once(request, make)
        except (InvalidInput, Conflict) as exc:
            return web.Response(status=400 if isinstance(exc, InvalidInput) else 409)


@pytest.fixture
async def things() -> Things:
    return Things()


@pytest.fixture
async def client(things: Things) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application()
    app[IDEMPOTENCY] = Answers()  # type: ignore[assignment]
    app.router.add_post("/things", things.create)
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def create(client: TestClient[web.Request, web.Application], name: str, key: str | None) -> tuple[int, str]:
    headers = {"Idempotency-Key": key} if key is not None else {}
    answer = await client.post("/things", json={"name": name}, headers=headers)
    return answer.status, await answer.text()


async def test_same_request_with_the_same_key_makes_one_thing(
    client: TestClient[web.Request, web.Application], things: Things
) -> None:
    for _ in range(3):
        assert await create(client, "a", "key") == (201, "a")
    assert things.made == ["a"]


async def test_without_a_key_each_request_is_another(client: TestClient[web.Request, web.Application]) -> None:
    assert (await create(client, "a", None))[0] == 201
    assert (await create(client, "a", None))[0] == 409


async def test_request_that_failed_may_be_sent_again(
    client: TestClient[web.Request, web.Application], things: Things
) -> None:
    await create(client, "a", None)
    assert (await create(client, "a", "key"))[0] == 409
    things.made.clear()
    assert await create(client, "a", "key") == (201, "a")


async def test_another_request_with_the_same_key_is_refused(
    client: TestClient[web.Request, web.Application], things: Things
) -> None:
    await create(client, "a", "key")
    assert (await create(client, "b", "key"))[0] == 400
    assert things.made == ["a"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 129, "é"])
async def test_key_that_is_none_is_refused(client: TestClient[web.Request, web.Application], key: str) -> None:
    assert (await create(client, "a", key))[0] == 400


@pytest.mark.parametrize(("text", "version"), [
    (None, None), ("*", None), (" * ", None), ('"3"', 3), ('W/"3"', 3), (' "3" ', 3), ('"0"', 0),
])  # fmt: skip
def test_change_is_meant_for_the_version_it_names(text: str | None, version: int | None) -> None:
    headers = {} if text is None else {"If-Match": text}
    assert wanted_version(make_mocked_request("PATCH", "/", headers=headers)) == version


@pytest.mark.parametrize("text", ["", "3", '"x"', '"-1"', '"3", "4"', "W/3", '"' + "9" * 30 + '"', '"٣"'])
def test_version_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        wanted_version(make_mocked_request("PATCH", "/", headers={"If-Match": text}))
