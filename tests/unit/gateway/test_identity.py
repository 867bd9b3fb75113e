"""Who is asking: one check of a password for many requests, and nothing to learn from how long a refusal takes."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from slipway_common.errors import Unauthenticated
from slipway_common.security.signing import InvalidToken
from slipway_gateway.cache import ExactCache, principal_key
from slipway_gateway.domain.access import ANONYMOUS, Action
from slipway_gateway.identity import Authenticator, BadCredentials, Passwords, TooManyLogins, _scope
from slipway_gateway.store.principals import Principal


class Accounts:
    """The store of principals."""

    def __init__(self) -> None:
        self.rows: dict[str, Principal] = {}

    def set(self, name: str, password: str, *, version: int = 1, is_admin: bool = False) -> None:
        self.rows[name] = Principal(len(self.rows) + 1, name, "user", f"hash of {password}", version, is_admin)

    async def find(self, name: str) -> Principal | None:
        await asyncio.sleep(0)
        return self.rows.get(name)


class SlowHasher:
    """Stands for argon2: says yes to the right password, counts, and can be held up."""

    def __init__(self) -> None:
        self.verified: list[tuple[str, str]] = []
        self.hashed = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def hash(self, password: str) -> str:
        self.go_on.wait(10)
        self.hashed += 1
        return f"hash of {password}"

    def verify(self, stored: str, password: str) -> bool:
        self.go_on.wait(10)
        self.verified.append((stored, password))
        return stored == f"hash of {password}"


class Ring:
    """Tokens that say what they are."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.verified = 0

    async def sign(self, claims: dict[str, Any], *, life_s: int) -> str:
        token = f"token-{len(self.known)}"
        self.known[token] = {**claims, "exp": time.time() + life_s}
        return token

    async def verify(self, token: str, *, audience: str, issuer: str) -> dict[str, Any]:
        self.verified += 1
        claims = self.known.get(token)
        if claims is None or claims["exp"] <= time.time():
            raise InvalidToken("the token is not valid")
        return claims


class World:
    def __init__(self) -> None:
        self.accounts, self.hasher, self.ring, self.cache = Accounts(), SlowHasher(), Ring(), ExactCache()
        self.passwords = Passwords()
        self.passwords._hasher = self.hasher  # type: ignore[assignment]
        self.authenticator = Authenticator(self.accounts, self.cache, self.passwords, self.ring)  # type: ignore[arg-type]

    async def by_basic(self, name: str, password: str) -> Any:
        return await self.authenticator.identify(basic(f"{name}:{password}"))


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.accounts.set("alice", "secret")
    made.accounts.set("admin", "root", is_admin=True)
    yield made
    made.hasher.go_on.set()
    made.passwords.close()


# Passwords.


async def test_nobody_is_anonymous(world: World) -> None:
    assert await world.authenticator.identify(None) is ANONYMOUS


async def test_right_password_is_its_owners(world: World) -> None:
    alice, admin = await world.by_basic("alice", "secret"), await world.by_basic("admin", "root")
    assert (alice.name, alice.is_admin, alice.scope) == ("alice", False, None)
    assert (admin.name, admin.is_admin) == ("admin", True)


@pytest.mark.parametrize(("name", "password"), [
    ("alice", "wrong"), ("alice", ""), ("alice", "secret "), ("Alice", "secret"), ("", "secret"), ("nobody", "secret"),
    ("alice\x00", "secret"),
    ("admin", "secret"), ("ali", "cesecret"),
])  # fmt: skip
async def test_wrong_name_or_password_is_refused_in_the_same_words(world: World, name: str, password: str) -> None:
    await world.by_basic("alice", "secret")
    with pytest.raises(BadCredentials) as refused:
        await world.by_basic(name, password)
    assert refused.value.message == "the name or the password is wrong"
    assert not refused.value.facts


async def test_unknown_name_takes_as_much_work_as_a_wrong_password(world: World) -> None:
    work = []
    for name in ("alice", "nobody", "alice", "nobody"):
        before = len(world.hasher.verified)
        with pytest.raises(BadCredentials):
            await world.by_basic(name, "wrong")
        work.append(len(world.hasher.verified) - before)
    assert work == [1, 1, 1, 1]
    assert world.hasher.hashed == 1


async def test_dummy_of_unknown_names_opens_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway_gateway.identity.secrets.token_hex", lambda _size: "the dummy's own password")
    with pytest.raises(BadCredentials):
        await world.by_basic("nobody", "the dummy's own password")
    assert world.hasher.verified[-1][0] == "hash of the dummy's own password"


async def test_account_without_password_takes_none(world: World) -> None:
    world.accounts.rows["robot"] = replace(world.accounts.rows["alice"], name="robot", password_hash=None)
    for password in ("", "secret"):
        with pytest.raises(BadCredentials):
            await world.by_basic("robot", password)


async def test_password_is_checked_once_and_then_remembered(world: World) -> None:
    for _ in range(5):
        await world.by_basic("alice", "secret")
    assert len(world.hasher.verified) == 1


async def test_password_is_remembered_until_it_is_changed(world: World) -> None:
    await world.by_basic("alice", "secret")
    world.accounts.set("alice", "other", version=2)
    with pytest.raises(BadCredentials):
        await world.by_basic("alice", "secret")
    assert (await world.by_basic("alice", "other")).name == "alice"


async def test_new_account_of_an_old_name_is_another(world: World) -> None:
    await world.by_basic("alice", "secret")
    del world.accounts.rows["alice"]
    with pytest.raises(BadCredentials):
        await world.by_basic("alice", "secret")
    world.accounts.set("bob", "x")
    world.accounts.rows["alice"] = replace(world.accounts.rows["admin"], id=99, name="alice", is_admin=False)
    with pytest.raises(BadCredentials):
        await world.by_basic("alice", "secret")


async def test_many_with_the_same_password_at_once_have_it_checked_once(world: World) -> None:
    found = await asyncio.gather(*(world.by_basic("alice", "secret") for _ in range(200)))
    assert {identity.name for identity in found} == {"alice"}
    assert len(world.hasher.verified) == 1


async def test_one_that_gives_up_does_not_take_the_others_along(world: World) -> None:
    world.hasher.go_on.clear()
    tasks = [asyncio.create_task(world.by_basic("alice", "secret")) for _ in range(3)]
    await asyncio.sleep(0.02)
    tasks[0].cancel()
    await asyncio.sleep(0)
    world.hasher.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [getattr(one, "name", one) for one in results[1:]] == ["alice", "alice"]


async def test_too_many_logins_at_once_are_told_to_come_later(world: World) -> None:
    with pytest.raises(BadCredentials):
        await world.by_basic("nobody", "x")  # so that the dummy is there
    world.hasher.go_on.clear()
    tasks = [asyncio.create_task(world.by_basic(f"user{number}", "x")) for number in range(100)]
    await asyncio.sleep(0.05)
    world.hasher.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in results} == {BadCredentials, TooManyLogins}
    assert sum(isinstance(one, TooManyLogins) for one in results) == 100 - 64
    assert (await world.by_basic("alice", "secret")).name == "alice", "room is given back"


async def test_waiting_that_was_given_up_makes_room(world: World) -> None:
    world.hasher.go_on.clear()
    tasks = [asyncio.create_task(world.by_basic(f"user{number}", "x")) for number in range(64)]
    await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert world.passwords._waiting == 0
    world.hasher.go_on.set()
    assert (await world.by_basic("alice", "secret")).name == "alice"


async def test_password_longer_than_any_is_refused_unchecked(world: World) -> None:
    with pytest.raises(BadCredentials):
        await world.by_basic("alice", "x" * 1025)
    assert not world.hasher.verified


async def test_argon2_itself_says_yes_and_no() -> None:
    passwords = Passwords()
    try:
        stored = await passwords.hash("sécret")
        assert stored.startswith("$argon2id$")
        assert await passwords.verify(stored, "sécret")
        assert not await passwords.verify(stored, "secret")
        assert not await passwords.verify("no hash", "secret")
        assert not await passwords.verify(None, "secret")
    finally:
        passwords.close()


@pytest.mark.parametrize("header", [
    "", " ", "Basic", "Basic ", "Basic x", "Basic =", "Basic YQ==", "Basic YTpi YTpi", "Basic \udcff", "Basic é",
    "basic " + "A" * 10_000,
    "Basic /////w==", "Digest abc", "Bearer", "bearer ", "Bearer a b", "token x", "\x00", "Basic\tYTpi", "BasicYTpi",
])  # fmt: skip
async def test_malformed_header_is_refused(world: World, header: str) -> None:
    with pytest.raises(Unauthenticated):
        await world.authenticator.identify(header)


@pytest.mark.parametrize("kind", ["Basic", "basic", "BASIC"])
async def test_scheme_is_known_in_any_capitals(world: World, kind: str) -> None:
    assert (await world.authenticator.identify(basic("alice:secret").replace("Basic", kind))).name == "alice"


async def test_password_may_have_colons_and_any_letters(world: World) -> None:
    world.accounts.set("bob", "a:b:é🚢")
    assert (await world.by_basic("bob", "a:b:é🚢")).name == "bob"


# Tokens.


async def token_for(world: World, name: str, **access: frozenset[Action]) -> str:
    identity = await world.by_basic(name, world.accounts.rows[name].password_hash.removeprefix("hash of "))  # type: ignore[union-attr]
    token, _ = await world.authenticator.issue_token(identity, access, life_s=60)  # type: ignore[arg-type]
    return f"Bearer {token}"


async def test_token_covers_what_it_was_issued_for(world: World) -> None:
    token = await token_for(world, "alice", hello=frozenset({Action.PULL}), nothing=frozenset())
    identity = await world.authenticator.identify(token)
    assert identity.name == "alice"
    assert identity.scope == {"hello": frozenset({"pull"})}
    assert identity.expires_at < time.time() + 61


async def test_token_is_verified_once(world: World) -> None:
    token = await token_for(world, "alice")
    for _ in range(3):
        await world.authenticator.identify(token)
    assert world.ring.verified == 1


async def test_token_that_ended_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await token_for(world, "alice")
    await world.authenticator.identify(token)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 61)
    with pytest.raises(InvalidToken):
        await world.authenticator.identify(token)


async def test_token_does_not_outlive_its_account(world: World) -> None:
    token = await token_for(world, "alice")
    await world.authenticator.identify(token)
    del world.accounts.rows["alice"]
    with pytest.raises(InvalidToken):
        await world.authenticator.identify(token)


async def test_token_is_an_administrators_only_while_its_owner_is_one(world: World) -> None:
    token = await token_for(world, "admin")
    assert (await world.authenticator.identify(token)).is_admin
    world.accounts.set("admin", "root")
    assert not (await world.authenticator.identify(token)).is_admin
    world.accounts.set("admin", "root", is_admin=True)
    assert (await world.authenticator.identify(token)).is_admin


async def test_anonymous_token_stays_anonymous(world: World) -> None:
    token, _ = await world.authenticator.issue_token(ANONYMOUS, {}, life_s=60)
    identity = await world.authenticator.identify(f"Bearer {token}")
    assert not identity.known
    assert identity.scope == {}


@pytest.mark.parametrize("subject", [1, ["alice"], {"name": "alice"}, True])
async def test_subject_that_is_no_name_is_refused(world: World, subject: Any) -> None:
    token = await world.ring.sign({"sub": subject}, life_s=60)
    with pytest.raises(InvalidToken):
        await world.authenticator.identify(f"Bearer {token}")


@pytest.mark.parametrize("access", [
    None, 1, "repository:a:pull", {}, [], [1], [None], ["a"], [{}], [{"type": "registry", "name": "a", "actions": ["*"]}],
    [{"type": "repository", "name": "a"}], [{"type": "repository", "name": "a", "actions": "pull"}],
    [{"type": "repository", "name": "a", "actions": {"pull": 1}}], [{"name": "a", "actions": ["pull"]}],
])  # fmt: skip
def test_access_of_another_form_grants_nothing(access: Any) -> None:
    assert _scope(access) == {}


def test_access_to_one_name_in_several_entries_adds_up() -> None:
    entries = [{"type": "repository", "name": "a", "actions": [action]} for action in ("pull", "push")]
    assert _scope(entries) == {"a": {"pull", "push"}}


async def test_account_is_looked_up_again_once_its_answer_is_dropped(world: World) -> None:
    world.cache.enable()
    await world.by_basic("alice", "secret")
    with world.cache.changing(principal_key("alice")):
        world.accounts.set("alice", "other", version=2)
    with pytest.raises(BadCredentials):
        await world.by_basic("alice", "secret")
