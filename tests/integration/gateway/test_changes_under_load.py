"""Rights that change again and again under a load of pulls: no answer contradicts a change acknowledged before it began."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY

from slipway_common.testing.images import an_image
from tests.integration.gateway.client import Client, open_client
from tests.integration.gateway.people import add_namespace, add_user, grant
from tests.integration.gateway.running import RunningGateway, make_folder, running_gateway
from tests.integration.gateway.test_repeats import Wire

IMAGE = an_image("under load").build()
_LOAD_S = 4.0
_PULLERS = 4
# What the other gateway may need to hear of a change. (It asks the database each time, so it needs nothing.)
_GRACE_S = 1.0


@dataclass(slots=True)
class Switch:
    """Something that is allowed or not, and when which of it was certain: from the acknowledgement of one change until the next
    one is sent."""

    allowed: bool = True
    certain: list[tuple[float, float, bool]] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def turning(self, allowed: bool) -> Iterator[None]:
        self.certain.append((self._since, time.monotonic(), self.allowed))
        yield
        self.allowed, self._since = allowed, time.monotonic()

    def stop(self) -> None:
        self.certain.append((self._since, time.monotonic(), self.allowed))

    def expected(self, began: float, ended: float, *, grace_s: float = 0.0) -> bool | None:
        """What an answer must be to a request of that time; None while a change was under way."""
        for since, until, allowed in self.certain:
            if since + grace_s <= began and ended <= until:
                return allowed
        return None


@dataclass(frozen=True, slots=True)
class Pull:
    where: str
    began: float
    ended: float
    status: int


async def pull(
    where: str, gateway: RunningGateway, requests: list[bytes], stop: asyncio.Event, pulls: list[Pull]
) -> None:
    """The same requests over and over, byte for byte, on one connection that stays open."""
    address = urlsplit(gateway.url)
    wire = Wire(*await asyncio.open_connection(address.hostname, address.port))
    try:
        while not stop.is_set():
            request = random.choice(requests)
            began = time.monotonic()
            status, _, _ = await wire.ask(request)
            pulls.append(Pull(where, began, time.monotonic(), status))
            await asyncio.sleep(0)
    finally:
        wire.close()


def pulling(client: Client, repository: str) -> list[bytes]:
    """A pull's requests, which repeat byte for byte."""
    authorization = f"Authorization: {client.authorization}\r\n" if client.authorization else ""
    paths = ["manifests/latest", f"manifests/{IMAGE.digest}", f"blobs/{IMAGE.config_digest}"]
    return [
        f"{method} /v2/{repository}/{path} HTTP/1.1\r\nHost: registry\r\n{authorization}\r\n".encode()
        for path in paths
        for method in ("GET", "HEAD")
    ]


@dataclass(slots=True)
class Scene:
    """A repository whose visibility flips, and one on which a grant comes and goes."""

    admin: Client
    visible: str
    granted: str
    user: Client
    bearer: Client
    visibility: Switch = field(default_factory=Switch)
    grant: Switch = field(default_factory=Switch)


async def prepare(admin: Client) -> Scene:
    space = await add_namespace(admin)
    for name in ("visible", "granted"):
        await admin.push(f"{space}/{name}", IMAGE, "latest")
    user = await add_user(admin)
    await admin.api("PATCH", f"/repositories/{space}/visible", {"visibility": "public"})
    await grant(admin, f"user:{user.name}", "reader", f"{space}/granted")
    bearer = user.with_token(await user.get_token(f"repository:{space}/granted:pull"))
    return Scene(admin, f"{space}/visible", f"{space}/granted", user, bearer)


async def flip_visibility(scene: Scene, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(random.uniform(0.05, 0.1))
        allowed = not scene.visibility.allowed
        with scene.visibility.turning(allowed):
            change = {"visibility": "public" if allowed else "private"}
            assert (await scene.admin.api("PATCH", f"/repositories/{scene.visible}", change)).status == 200
    scene.visibility.stop()


async def flip_grant(scene: Scene, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await asyncio.sleep(random.uniform(0.05, 0.1))
        allowed = not scene.grant.allowed
        with scene.grant.turning(allowed):
            path = f"/repositories/{scene.granted}/-/grants/user:{scene.user.name}"
            method, document = ("PUT", {"role": "reader"}) if allowed else ("DELETE", None)
            assert (await scene.admin.api(method, path, document)).status < 300
    scene.grant.stop()


async def run(scene: Scene, gateways: dict[str, RunningGateway], load_s: float) -> dict[str, list[Pull]]:
    """Pull everywhere while rights change; what was answered, by what it depends on."""
    stop = asyncio.Event()
    found: dict[str, list[Pull]] = {"visibility": [], "grant": []}
    nobody = scene.admin.anonymous()
    async with asyncio.TaskGroup() as group:
        group.create_task(flip_visibility(scene, stop))
        group.create_task(flip_grant(scene, stop))
        for where, gateway in gateways.items():
            for number in range(_PULLERS // len(gateways)):
                group.create_task(pull(where, gateway, pulling(nobody, scene.visible), stop, found["visibility"]))
                who = (scene.user, scene.bearer)[number % 2]
                group.create_task(pull(where, gateway, pulling(who, scene.granted), stop, found["grant"]))
        await asyncio.sleep(load_s)
        stop.set()
    return found


def check(switch: Switch, pulls: list[Pull], *, refused: int, grace_s: float = 0.0) -> Counter[tuple[str, bool]]:
    """Fail unless every answer was as it had to be; how many there were of each place and kind."""
    seen: Counter[tuple[str, bool]] = Counter()
    for one in pulls:
        expected = switch.expected(one.began, one.ended, grace_s=grace_s)
        if expected is None:
            assert one.status in (200, refused)
            continue
        assert one.status == (200 if expected else refused), f"{one}, but {expected} was acknowledged"
        seen[(one.where, expected)] += 1
    return seen


def enough(seen: Counter[tuple[str, bool]], places: set[str]) -> None:
    """Without many answers of both kinds from everywhere nothing is proven."""
    for where in places:
        for allowed in (True, False):
            assert seen[(where, allowed)] >= 50, f"too few: {seen}"


@pytest.fixture
async def one(database_url: str) -> AsyncIterator[RunningGateway]:
    folder = make_folder()
    async with running_gateway(database_url, folder=folder) as gateway:
        yield gateway
    shutil.rmtree(folder, ignore_errors=True)


async def test_gateway_that_answers_from_memory_never_answers_against_a_change(one: RunningGateway) -> None:
    repeated = REGISTRY.get_sample_value("slipway_repeated_answers_total") or 0
    async with open_client(one.url) as admin:
        scene = await prepare(admin)
        found = await run(scene, {"one": one}, _LOAD_S)
    assert (REGISTRY.get_sample_value("slipway_repeated_answers_total") or 0) > repeated, "memory was never asked"
    enough(check(scene.visibility, found["visibility"], refused=401), {"one"})
    enough(check(scene.grant, found["grant"], refused=403), {"one"})


async def test_no_gateway_answers_against_a_change_that_any_of_them_made(one: RunningGateway) -> None:
    async with (
        running_gateway(one.database_url, folder=one.folder, name="two") as two,
        open_client(one.url) as admin,
    ):
        scene = await prepare(admin)
        gateways = {"one": one, "two": two}
        found = await run(scene, gateways, _LOAD_S)
    # The promise is a second for the other one; none of them needs it, as they ask the database while they are two.
    for grace_s in (_GRACE_S, 0.0):
        seen = [
            check(scene.visibility, found["visibility"], refused=401, grace_s=grace_s),
            check(scene.grant, found["grant"], refused=403, grace_s=grace_s),
        ]
    for counted in seen:
        enough(counted, set(gateways))


async def test_change_made_at_one_gateway_holds_at_the_other_within_a_second(one: RunningGateway) -> None:
    async with (
        running_gateway(one.database_url, folder=one.folder, name="two") as two,
        open_client(one.url) as admin,
    ):
        scene = await prepare(admin)
        path = f"/repositories/{scene.granted}/-/grants/user:{scene.user.name}"
        for _ in range(10):
            for method, document, expected in (("DELETE", None, 403), ("PUT", {"role": "reader"}, 200)):
                await scene.admin.api(method, path, document)
                for who in (scene.user, scene.bearer):
                    assert (await who.at(two.url).get_manifest(scene.granted, "latest")).status == expected
                    assert (await who.get_manifest(scene.granted, "latest")).status == expected
