"""The cache is exact or it is off: under every interleaving of readers and writers, and whoever else comes."""

from __future__ import annotations

import asyncio
import random

import pytest

from slipway_common.errors import Unavailable
from slipway_common.oci.digests import Digest
from slipway_gateway.cache import ContentCache, ExactCache
from slipway_gateway.store.manifests import StoredManifest

KEY = ("tag", 1, "latest")
OTHER = ("tag", 1, "other")


class Database:
    """One value that changes at a point in time, and readers that take a while."""

    def __init__(self) -> None:
        self.value = "old"
        self.reads = 0
        self.go_on = asyncio.Event()
        self.has_read = asyncio.Event()

    async def read_at_once(self) -> str | None:
        self.reads += 1
        return self.value

    async def read_slowly(self) -> str | None:
        """Read now, answer later: what was true then may be false by then."""
        seen = await self.read_at_once()
        self.has_read.set()
        await self.go_on.wait()
        return seen


@pytest.fixture
def cache() -> ExactCache:
    made = ExactCache()
    made.enable()
    return made


@pytest.fixture
def database() -> Database:
    return Database()


async def look(cache: ExactCache, database: Database) -> str | None:
    return cache.find(KEY) or await cache.fill(KEY, database.read_at_once)


async def test_answer_is_remembered(cache: ExactCache, database: Database) -> None:
    assert [await look(cache, database) for _ in range(3)] == ["old"] * 3
    assert database.reads == 1


async def test_nothing_found_is_not_remembered(cache: ExactCache) -> None:
    async def nothing() -> str | None:
        return None

    assert await cache.fill(KEY, nothing) is None
    assert cache.find(KEY) is None
    assert not cache.holds(KEY, "x")


async def test_change_drops_the_answer(cache: ExactCache, database: Database) -> None:
    await look(cache, database)
    with cache.changing(KEY):
        database.value = "new"
    assert await look(cache, database) == "new"


async def test_reader_that_began_before_a_change_leaves_nothing_stale(cache: ExactCache, database: Database) -> None:
    reader = asyncio.create_task(cache.fill(KEY, database.read_slowly))
    await database.has_read.wait()
    with cache.changing(KEY):
        database.value = "new"
    database.go_on.set()
    assert await reader == "old"
    assert await look(cache, database) == "new"


async def test_reader_that_ends_during_a_change_leaves_nothing_stale(cache: ExactCache, database: Database) -> None:
    with cache.changing(KEY):
        assert await look(cache, database) == "old"
        database.value = "new"
    assert await look(cache, database) == "new"


async def test_reader_that_began_during_a_change_leaves_nothing_stale(cache: ExactCache, database: Database) -> None:
    with cache.changing(KEY):
        reader = asyncio.create_task(cache.fill(KEY, database.read_slowly))
        await database.has_read.wait()
        database.value = "new"
    database.go_on.set()
    await reader
    assert await look(cache, database) == "new"


async def test_two_changes_of_one_key_keep_it_out_until_both_are_over(cache: ExactCache, database: Database) -> None:
    with cache.changing(KEY):
        with cache.changing(KEY):
            database.value = "new"
        await look(cache, database)
        assert cache.find(KEY) is None
        database.value = "newer"
    assert await look(cache, database) == "newer"


async def test_change_of_one_key_leaves_the_others(cache: ExactCache, database: Database) -> None:
    await cache.fill(OTHER, database.read_at_once)
    with cache.changing(KEY):
        pass
    assert cache.find(OTHER) == "old"


async def test_reader_that_began_before_the_cache_was_off_leaves_nothing(cache: ExactCache, database: Database) -> None:
    reader = asyncio.create_task(cache.fill(KEY, database.read_slowly))
    await database.has_read.wait()
    cache.disable()
    database.value = "changed by another process"
    cache.enable()
    database.go_on.set()
    await reader
    assert cache.find(KEY) is None


async def test_cache_that_is_off_remembers_nothing(database: Database) -> None:
    cache = ExactCache()
    for _ in range(2):
        assert await look(cache, database) == "old"
    assert database.reads == 2


async def test_change_whose_outcome_is_unknown_keeps_the_key_out_until_it_must_be_known(
    cache: ExactCache, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A COMMIT that was sent, and whose answer was lost, may still be carried out."""
    monkeypatch.setattr("slipway_gateway.cache.OUTCOME_KNOWN_AFTER_S", 0.1)
    for lost in (Unavailable("gone"), ConnectionResetError(), TimeoutError()):
        with pytest.raises(type(lost)), cache.changing(KEY):
            raise lost
        assert await look(cache, database) == database.value
        assert cache.find(KEY) is None
        database.value += "er"
        assert await look(cache, database) == database.value
        await asyncio.sleep(0.15)
        assert await look(cache, database) == database.value
        assert cache.find(KEY) == database.value


async def test_change_that_was_refused_ends_at_once(cache: ExactCache, database: Database) -> None:
    with pytest.raises(ValueError, match="refused"), cache.changing(KEY):
        raise ValueError("refused")
    await look(cache, database)
    assert cache.find(KEY) == "old"


async def test_writes_need_no_guard_only_while_this_process_is_alone() -> None:
    cache = ExactCache()
    assert cache.guard_key is not None
    cache.claim()
    assert cache.guard_key is None
    assert not cache.enabled
    cache.enable()
    assert cache.guard_key is None
    cache.disable()
    assert cache.guard_key is not None


@pytest.mark.parametrize("seed", range(20))
async def test_no_interleaving_answers_with_what_was_overwritten(seed: int) -> None:
    """Readers, writers and a switch that goes off and on, in random order: a finished write is seen by all who ask after it."""
    rng = random.Random(seed)
    cache = ExactCache()
    cache.enable()
    stored = dict.fromkeys(range(3), 0)
    acknowledged = dict(stored)

    async def pause() -> None:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)

    async def read(number: int) -> None:
        async def load() -> int | None:
            await pause()
            seen = stored[number]
            await pause()
            return seen + 1

        at_least = acknowledged[number]
        found = cache.find(number) or await cache.fill(number, load)
        assert found is not None
        assert found - 1 >= at_least

    async def write(number: int) -> None:
        with cache.changing(number):
            await pause()
            stored[number] += 1
            value = stored[number]
            await pause()
        acknowledged[number] = max(acknowledged[number], value)

    async def switch() -> None:
        cache.disable()
        await pause()
        cache.enable()

    async def work() -> None:
        for _ in range(60):
            await pause()
            number = rng.randrange(3)
            await rng.choices([read, write, lambda _: switch()], [10, 4, 1])[0](number)

    await asyncio.gather(*(work() for _ in range(8)))


def test_contents_stay_within_their_bytes_and_the_least_used_go_first() -> None:
    contents = ContentCache(max_bytes=100, max_item_bytes=40)
    for name in "abc":
        contents.put(name, name.encode() * 30)
    assert contents.find("a") == b"a" * 30
    contents.put("d", b"d" * 30)
    assert contents.find("b") is None
    assert [name for name in "acd" if contents.find(name)] == ["a", "c", "d"]


def test_content_that_is_too_large_or_there_already_changes_nothing() -> None:
    contents = ContentCache(max_bytes=100, max_item_bytes=40)
    contents.put("a", b"x" * 41)
    assert contents.find("a") is None
    for _ in range(10):
        contents.put("b", b"y" * 40)
    contents.put("c", b"z" * 40)
    assert contents.find("b") == b"y" * 40


async def test_answers_are_bounded_and_the_oldest_go_first(database: Database) -> None:
    cache = ExactCache(max_bytes=3 * 600)
    cache.enable()
    for number in range(5):
        await cache.fill(number, database.read_at_once)
    assert [number for number in range(5) if cache.find(number)] == [2, 3, 4]


async def test_heavy_answers_take_the_room_of_many() -> None:
    cache = ExactCache(max_bytes=10_000)
    cache.enable()
    manifest = StoredManifest(Digest("sha256:" + "a" * 64), "type", b"x" * 9000, None)

    async def load() -> StoredManifest:
        return manifest

    async def load_light() -> str:
        return "light"

    await cache.fill("heavy", load)
    assert cache.find("heavy") is manifest
    await cache.fill("light", load_light)
    assert cache.find("heavy") is None
    for _ in range(20):
        with cache.changing("light"):
            pass
        await cache.fill("light", load_light)
    assert cache.find("light") == "light", "what was dropped still counts"


async def test_change_of_several_keys_drops_each_and_counts_each(cache: ExactCache, database: Database) -> None:
    for key in (KEY, OTHER):
        await cache.fill(key, database.read_at_once)
    with cache.changing(KEY, OTHER, KEY):
        database.value = "new"
        assert cache.find(OTHER) is None
    assert await look(cache, database) == "new"
    assert cache.find(KEY) == "new", "a key named twice is free again as well"
