"""Where a caller stands: remembered exactly, or asked for each time; and never past what it rests on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from slipway_common.oci.names import RepositoryName
from slipway_common.security.signing import InvalidToken
from slipway_gateway.access import ACCESS_KEY, Access
from slipway_gateway.cache import ExactCache
from slipway_gateway.domain.access import ANONYMOUS, AccessRules, Account, Action, Decision, Identity, Place, Role
from slipway_gateway.store.access import NamespaceStanding, Standing
from slipway_gateway.store.repositories import Repository

NAME = RepositoryName("acme/app")
OTHER = RepositoryName("acme/other")
ALICE = Account(1, "alice", "user", is_admin=False)
BY_PASSWORD = Identity("alice", principal_id=1, credential_version=1)


class Database:
    """The store of standings: what it says at this moment, how often it was asked, and held up if so wished."""

    def __init__(self) -> None:
        self.account: Account | None = ALICE
        self.role: Role | None = Role.WRITER
        self.repositories = {NAME: Repository(7, NAME, "private")}
        self.asked: list[tuple[Identity, str]] = []
        self.former_names: list[bool] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def find_standing(self, identity: Identity, name: RepositoryName, *, former_names: bool) -> Standing:
        self.asked.append((identity, name))
        self.former_names.append(former_names)
        found = self.repositories.get(name)
        account, role = self._account(identity), self.role
        await self.go_on.wait()
        return Standing(account, found, Place(name, found.visibility if found else None, role))

    async def find_account(self, identity: Identity) -> Account | None:
        return self._account(identity)

    def _account(self, identity: Identity) -> Account | None:
        return replace(self.account, name=identity.name) if self.account is not None and identity.name else None

    async def find_namespace_standing(self, account: Account | None, namespace: str) -> NamespaceStanding:
        return NamespaceStanding(1, namespace, self.role)


class World:
    def __init__(self) -> None:
        self.database, self.cache = Database(), ExactCache()
        self.access = Access(self.database, self.cache, AccessRules(), max_bytes=1_000_000)  # type: ignore[arg-type]

    async def may_push(self, identity: Identity = BY_PASSWORD) -> bool:
        return self.access.may(identity, await self.access.standing(identity, NAME), Action.PUSH)


@pytest.fixture
async def world() -> World:
    return World()


async def test_without_exact_answers_the_database_is_asked_each_time(world: World) -> None:
    assert await world.may_push()
    world.database.role = Role.READER
    assert not await world.may_push()
    assert len(world.database.asked) == 2


async def test_with_exact_answers_it_is_asked_once(world: World) -> None:
    world.cache.enable()
    for _ in range(5):
        assert await world.may_push()
    assert len(world.database.asked) == 1


async def test_change_of_anything_is_in_force_at_once(world: World) -> None:
    world.cache.enable()
    assert await world.may_push()
    with world.cache.changing(ACCESS_KEY):
        world.database.role = None
    assert not await world.may_push()


async def test_answer_that_was_under_way_during_a_change_is_not_remembered(world: World) -> None:
    world.cache.enable()
    world.database.go_on.clear()
    late = asyncio.create_task(world.may_push())
    await asyncio.sleep(0)
    with world.cache.changing(ACCESS_KEY):
        world.database.role = None
    world.database.go_on.set()
    await late
    assert not await world.may_push()
    assert not await world.may_push()


async def test_nothing_is_remembered_while_a_change_is_under_way(world: World) -> None:
    world.cache.enable()
    with world.cache.changing(ACCESS_KEY):
        assert await world.may_push()
        assert await world.may_push()
        world.database.role = None
    assert not await world.may_push()
    assert len(world.database.asked) == 3


async def test_who_lost_the_exact_cache_remembers_nothing(world: World) -> None:
    world.cache.enable()
    assert await world.may_push()
    world.cache.disable()
    world.database.role = None
    assert not await world.may_push()
    world.cache.enable()
    assert not await world.may_push()


async def test_callers_are_told_apart_by_the_login_they_use(world: World) -> None:
    """A password and an access token of one account are bounded differently."""
    world.cache.enable()
    callers = [
        ANONYMOUS,
        BY_PASSWORD,
        Identity("alice", principal_id=1, credential_version=2),
        Identity("alice", principal_id=1, credential_id=1),
        Identity("alice", principal_id=1, credential_id=2),
        Identity("bob", principal_id=2, credential_version=1),
    ]
    for caller in callers * 2:
        await world.access.standing(caller, NAME)
    assert [identity for identity, _ in world.database.asked] == callers


async def test_repository_that_is_missing_is_asked_for_each_time(world: World) -> None:
    """Making one has nothing to drop."""
    world.cache.enable()
    assert (await world.access.standing(BY_PASSWORD, OTHER)).repository is None
    world.database.repositories[OTHER] = Repository(8, OTHER, "private")
    assert (await world.access.standing(BY_PASSWORD, OTHER)).repository == Repository(8, OTHER, "private")


async def test_former_name_is_asked_for_each_time(world: World) -> None:
    """It ends by itself, and nobody drops anything then."""
    world.cache.enable()
    world.database.repositories[OTHER] = world.database.repositories[NAME]
    assert (await world.access.standing(BY_PASSWORD, OTHER)).repository is not None
    del world.database.repositories[OTHER]
    assert (await world.access.standing(BY_PASSWORD, OTHER)).repository is None


async def test_former_names_lead_nowhere_for_who_says_so(world: World) -> None:
    world.cache.enable()
    await world.access.standing(BY_PASSWORD, OTHER)
    await world.access.standing(BY_PASSWORD, OTHER, former_names=False)
    assert world.database.former_names == [True, False]


async def test_login_that_does_not_hold_any_more_is_refused(world: World) -> None:
    for enabled in (False, True):
        if enabled:
            world.cache.enable()
        world.database.account = None
        with pytest.raises(InvalidToken):
            await world.access.standing(BY_PASSWORD, NAME)
        with pytest.raises(InvalidToken):
            await world.access.account(BY_PASSWORD)
        assert (await world.access.standing(ANONYMOUS, NAME)).account is None
        assert await world.access.account(ANONYMOUS) is None


async def test_login_that_does_not_hold_is_refused_from_memory_too(world: World) -> None:
    world.cache.enable()
    world.database.account = None
    for _ in range(2):
        with pytest.raises(InvalidToken):
            await world.access.standing(BY_PASSWORD, NAME)


async def test_only_what_is_remembered_and_holds_is_recalled(world: World) -> None:
    world.cache.enable()
    assert world.access.recall(BY_PASSWORD, NAME) is None
    known = await world.access.standing(BY_PASSWORD, NAME)
    assert world.access.recall(BY_PASSWORD, NAME) is known
    assert world.access.recall(BY_PASSWORD, OTHER) is None
    assert world.access.recall(replace(BY_PASSWORD, expires_at=time.time() - 1), NAME) is None
    with world.cache.changing(ACCESS_KEY):
        assert world.access.recall(BY_PASSWORD, NAME) is None
    assert world.access.recall(BY_PASSWORD, NAME) is None


async def test_login_that_does_not_hold_is_not_recalled_but_refused(world: World) -> None:
    world.cache.enable()
    world.database.account = None
    with pytest.raises(InvalidToken):
        await world.access.standing(BY_PASSWORD, NAME)
    with pytest.raises(InvalidToken):
        world.access.recall(BY_PASSWORD, NAME)


async def test_what_is_remembered_of_one_name_is_no_answer_for_another(world: World) -> None:
    """Tokens carry name and id: an id that was remembered does not speak for whoever else's token says it."""
    world.cache.enable()
    assert await world.may_push()
    with pytest.raises(InvalidToken):
        await world.access.standing(Identity("mallory", principal_id=1, credential_version=1), NAME)


async def test_scope_of_a_token_counts_although_the_place_is_remembered(world: World) -> None:
    world.cache.enable()
    assert await world.may_push()
    for scope, decision in (
        (None, Decision.ALLOW),
        ({NAME: frozenset({"pull"})}, Decision.SCOPE),
        ({}, Decision.SCOPE),
    ):
        identity = Identity("alice", principal_id=1, credential_version=1, scope=scope)
        standing = await world.access.standing(identity, NAME)
        assert world.access.decide(identity, standing, Action.PUSH) is decision
        assert world.access.may(identity, standing, Action.PUSH) == (decision is Decision.ALLOW)
    assert len(world.database.asked) == 1


async def test_memory_is_bounded(world: World) -> None:
    world.cache.enable()
    small = Access(world.database, world.cache, AccessRules(), max_bytes=1)  # type: ignore[arg-type]
    for number in range(500):
        name = RepositoryName(f"acme/app{number}")
        world.database.repositories[name] = Repository(number, name, "private")
        await small.standing(BY_PASSWORD, name)
    assert len((await small.memory()).standings) == 100
