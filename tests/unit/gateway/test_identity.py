"""Who is asking: one check of a password for many requests, secrets by their hash, and nothing to learn from how long a refusal
takes."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from slipway_common.errors import TooMany, Unauthenticated
from slipway_common.security.signing import InvalidToken
from slipway_gateway.access import ACCESS_KEY, Access
from slipway_gateway.cache import ExactCache
from slipway_gateway.domain.access import ANONYMOUS, AccessRules, Account, Action, Identity
from slipway_gateway.domain.secrets import CredentialKind, hash_secret, make_secret
from slipway_gateway.identity import CATALOG, Authenticator, BadCredentials, _scope
from slipway_gateway.passwords import Passwords, TooManyLogins
from slipway_gateway.store.principals import Credential, Principal
from slipway_gateway.throttle import LoginThrottle
from tests.unit.gateway.test_throttle import Failures

HERE = "192.0.2.7"


class Accounts:
    """The stores of principals and of where they stand: what it says of an identity is what the database would."""

    def __init__(self) -> None:
        self.rows: dict[str, Principal] = {}
        self.credentials: dict[bytes, Credential] = {}
        self.looked_up: list[bytes] = []
        self.used: dict[int, tuple[datetime, str]] = {}
        self.logins: list[int] = []

    def set(self, name: str, password: str, *, version: int = 1, is_admin: bool = False) -> None:
        known = self.rows.get(name)
        id_ = known.id if known is not None else len(self.rows) + 1
        self.rows[name] = Principal(id_, name, "user", f"hash of {password}", version, is_admin)

    def add_secret(
        self, owner: str, kind: CredentialKind = CredentialKind.TOKEN, *, expires_at: datetime | None = None
    ) -> str:
        number = len(self.credentials) + 1
        secret = make_secret(kind, number.to_bytes(32, "big"))
        self.credentials[hash_secret(secret)] = Credential(
            100 + number, kind, expires_at, None, None, self.rows[owner].id, owner
        )
        return secret

    async def find(self, name: str) -> Principal | None:
        await asyncio.sleep(0)
        return self.rows.get(name)

    async def find_credential(self, hash_: bytes) -> Credential | None:
        self.looked_up.append(hash_)
        return self.credentials.get(hash_)

    async def touch_credentials(self, used: Mapping[int, tuple[datetime, str]]) -> None:
        self.used.update(used)

    async def touch_login(self, principal_id: int) -> None:
        self.logins.append(principal_id)

    async def find_account(self, identity: Identity) -> Account | None:
        row = self.rows.get(identity.name or "")
        wanted = (identity.principal_id, identity.credential_version)
        if row is None or wanted not in ((row.id, row.credential_version), (row.id, None)):
            return None
        return Account(row.id, row.name, row.kind, row.is_admin)


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

    async def verify(self, token: str, *, audience: str, issuer: str, accept_expired_for_s: int = 0) -> dict[str, Any]:
        self.verified += 1
        claims = self.known.get(token)
        if claims is None or claims["exp"] + accept_expired_for_s <= time.time():
            raise InvalidToken("the token is not valid")
        return claims


class World:
    def __init__(self) -> None:
        self.accounts, self.hasher, self.ring, self.cache = Accounts(), SlowHasher(), Ring(), ExactCache()
        self.failures = Failures()
        self.passwords = Passwords()
        self.passwords._hasher = self.hasher  # type: ignore[assignment]
        self.access = Access(self.accounts, self.cache, AccessRules(), max_bytes=1_000_000)  # type: ignore[arg-type]
        self.authenticator = Authenticator(
            self.accounts, self.access, self.passwords, self.ring, LoginThrottle(self.failures)  # type: ignore[arg-type]
        )  # fmt: skip

    async def identify(self, header: str | None) -> Identity:
        return await self.authenticator.identify(header, HERE)

    async def by_basic(self, name: str, password: str, address: str = HERE) -> Identity:
        return await self.authenticator.identify(basic(f"{name}:{password}"), address)


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
    assert await world.identify(None) is ANONYMOUS


async def test_right_password_is_its_owners(world: World) -> None:
    alice, admin = await world.by_basic("alice", "secret"), await world.by_basic("admin", "root")
    assert alice == Identity("alice", principal_id=1, credential_version=1)
    assert admin == Identity("admin", principal_id=2, credential_version=1)
    assert (alice.scope, alice.credential_id, alice.expires_at) == (None, None, inf)
    assert world.accounts.logins == [1, 2]


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
    monkeypatch.setattr("slipway_gateway.passwords.secrets.token_hex", lambda _size: "the dummy's own password")
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
    tasks = [asyncio.create_task(world.by_basic(f"user{number}", "x", f"198.51.100.{number}")) for number in range(100)]
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
        await world.identify(header)


@pytest.mark.parametrize("kind", ["Basic", "basic", "BASIC"])
async def test_scheme_is_known_in_any_capitals(world: World, kind: str) -> None:
    assert (await world.identify(basic("alice:secret").replace("Basic", kind))).name == "alice"


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
    identity = await world.identify(token)
    assert identity.name == "alice"
    assert identity.scope == {"hello": frozenset({"pull"})}
    assert identity.expires_at < time.time() + 61


async def test_token_is_verified_once(world: World) -> None:
    token = await token_for(world, "alice")
    for _ in range(3):
        await world.identify(token)
    assert world.ring.verified == 1


async def test_token_that_ended_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await token_for(world, "alice")
    await world.identify(token)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 61)
    with pytest.raises(InvalidToken):
        await world.identify(token)


async def test_token_says_whose_it_is_and_by_which_login_it_was_had(world: World) -> None:
    identity = await world.identify(await token_for(world, "alice"))
    assert (identity.principal_id, identity.credential_version, identity.credential_id) == (1, 1, None)
    assert identity.token_id
    secret = await world.by_basic("alice", world.accounts.add_secret("alice"))
    token, _ = await world.authenticator.issue_token(secret, {}, life_s=60)
    again = await world.identify(f"Bearer {token}")
    assert (again.principal_id, again.credential_version, again.credential_id) == (1, None, secret.credential_id)


async def test_two_tokens_are_told_apart(world: World) -> None:
    first, second = await token_for(world, "alice"), await token_for(world, "alice")
    assert (await world.identify(first)).token_id != (await world.identify(second)).token_id


async def test_token_does_not_outlive_its_account(world: World) -> None:
    identity = await world.identify(await token_for(world, "alice"))
    assert (await world.access.account(identity)) == Account(1, "alice", "user", is_admin=False)
    del world.accounts.rows["alice"]
    with pytest.raises(InvalidToken):
        await world.access.account(identity)


async def test_token_does_not_outlive_the_password_it_was_had_for(world: World) -> None:
    token = await token_for(world, "alice")
    world.accounts.set("alice", "other", version=2)
    with pytest.raises(InvalidToken):
        await world.access.account(await world.identify(token))


async def test_token_is_an_administrators_only_while_its_owner_is_one(world: World) -> None:
    token = await token_for(world, "admin")
    for is_admin in (True, False, True):
        world.accounts.set("admin", "root", is_admin=is_admin)
        account = await world.access.account(await world.identify(token))
        assert account is not None
        assert account.is_admin is is_admin


async def test_anonymous_token_stays_anonymous(world: World) -> None:
    token, _ = await world.authenticator.issue_token(ANONYMOUS, {}, life_s=60)
    identity = await world.identify(f"Bearer {token}")
    assert not identity.known
    assert identity.scope == {}


@pytest.mark.parametrize("subject", [1, ["alice"], {"name": "alice"}, True])
async def test_subject_that_is_no_name_is_refused(world: World, subject: Any) -> None:
    token = await world.ring.sign({"sub": subject, "pid": 1, "pwv": 1}, life_s=60)
    with pytest.raises(InvalidToken):
        await world.identify(f"Bearer {token}")


@pytest.mark.parametrize("claims", [
    {"sub": "alice"}, {"sub": "alice", "pid": 1}, {"sub": "alice", "pwv": 1}, {"sub": "alice", "cred": 1},
    {"sub": "alice", "pid": 1, "pwv": 1, "cred": 1}, {"sub": "", "pid": 1, "pwv": 1}, {"pid": 1, "cred": 1},
    {"sub": "", "pwv": 1}, {"sub": None, "cred": 1}, {"sub": "alice", "pid": "1", "pwv": 1},
    {"sub": "alice", "pid": 1, "pwv": "1"}, {"sub": "alice", "pid": True, "pwv": 1},
    {"sub": "alice", "pid": 1.0, "pwv": 1}, {"sub": "alice", "pid": 0, "pwv": 1},
    {"sub": "alice", "pid": -1, "pwv": 1}, {"sub": "alice", "pid": 2**63, "pwv": 1}, {"sub": "alice", "pid": 1, "cred": [1]},
])  # fmt: skip
async def test_token_that_says_half_of_whose_it_is_is_refused(world: World, claims: dict[str, Any]) -> None:
    token = await world.ring.sign(claims, life_s=60)
    with pytest.raises(InvalidToken):
        await world.identify(f"Bearer {token}")


async def test_lapsed_token_is_known_for_the_one_use_in_which_that_is_overlooked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, wall = await token_for(world, "alice", hello=frozenset({Action.PUSH})), time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 3600)
    with pytest.raises(InvalidToken):
        await world.identify(token)
    lapsed = await world.authenticator.identify_lapsed(token)
    assert (lapsed.name, lapsed.scope) == ("alice", {"hello": frozenset({"push"})})
    with pytest.raises(InvalidToken):
        await world.identify(token)
    monkeypatch.setattr(time, "time", lambda: wall() + 90_000)
    with pytest.raises(InvalidToken):
        await world.authenticator.identify_lapsed(token)


async def test_nothing_but_a_token_of_ours_can_have_lapsed(world: World) -> None:
    secret = world.accounts.add_secret("alice")
    for header in (None, "", basic("alice:secret"), "Bearer x", f"Bearer {secret}", basic(f"alice:{secret}")):
        with pytest.raises(InvalidToken):
            await world.authenticator.identify_lapsed(header)


@pytest.mark.parametrize("access", [
    None, 1, "repository:a:pull", {}, [], [1], [None], ["a"], [{}], [{"type": "registry", "name": "a", "actions": ["*"]}],
    [{"type": "repository", "name": "a"}], [{"type": "repository", "name": "a", "actions": "pull"}],
    [{"type": "repository", "name": "a", "actions": {"pull": 1}}], [{"name": "a", "actions": ["pull"]}],
])  # fmt: skip
def test_access_of_another_form_grants_nothing(access: Any) -> None:
    assert _scope(access) == {}


def test_catalog_is_no_repository_and_no_repository_is_the_catalog() -> None:
    assert _scope([{"type": "registry", "name": "catalog", "actions": ["*"]}]) == {CATALOG: {"*"}}
    for kind, name in (("repository", CATALOG), ("repository", "a:b"), ("registry", CATALOG), ("registry", "other")):
        assert _scope([{"type": kind, "name": name, "actions": ["*"]}]) == {}
    assert _scope([{"type": "repository", "name": "catalog", "actions": ["pull"]}]) == {"catalog": {"pull"}}


async def test_token_for_the_catalog_says_so(world: World) -> None:
    alice = await world.by_basic("alice", "secret")
    token, _ = await world.authenticator.issue_token(alice, {}, catalog=True, life_s=60)
    assert (await world.identify(f"Bearer {token}")).scope == {CATALOG: frozenset({"*"})}


def test_access_to_one_name_in_several_entries_adds_up() -> None:
    entries = [{"type": "repository", "name": "a", "actions": [action]} for action in ("pull", "push")]
    assert _scope(entries) == {"a": {"pull", "push"}}


async def test_account_is_looked_up_again_once_its_answer_is_dropped(world: World) -> None:
    world.cache.enable()
    await world.by_basic("alice", "secret")
    with world.cache.changing(ACCESS_KEY):
        world.accounts.set("alice", "other", version=2)
    with pytest.raises(BadCredentials):
        await world.by_basic("alice", "secret")
    assert (await world.by_basic("alice", "other")).name == "alice"


async def test_account_is_not_looked_up_while_its_answer_is_exact(world: World) -> None:
    world.cache.enable()
    await world.by_basic("alice", "secret")
    del world.accounts.rows["alice"]  # as no gateway would
    assert (await world.by_basic("alice", "secret")).name == "alice"


async def test_unknown_name_is_looked_up_each_time(world: World) -> None:
    """An account that is made has nothing to drop."""
    world.cache.enable()
    with pytest.raises(BadCredentials):
        await world.by_basic("bob", "new")
    world.accounts.set("bob", "new")
    assert (await world.by_basic("bob", "new")).name == "bob"


# Guessing.


async def test_who_guesses_is_stopped_before_the_password_is_looked_at(world: World) -> None:
    for number in range(10):
        with pytest.raises(BadCredentials):
            await world.by_basic("alice", f"guess {number}")
    looked_at = len(world.hasher.verified)
    for password in ("guess 11", "secret"):
        with pytest.raises(TooMany) as refused:
            await world.by_basic("alice", password)
        assert refused.value.retry_after_s == 5
    assert len(world.hasher.verified) == looked_at
    assert (await world.by_basic("alice", "secret", "198.51.100.1")).name == "alice"


async def test_names_that_nobody_has_are_counted_like_others(world: World) -> None:
    for _ in range(10):
        with pytest.raises(BadCredentials):
            await world.by_basic("nobody", "x")
    with pytest.raises(TooMany):
        await world.by_basic("nobody", "x")


async def test_passwords_that_are_too_long_count_as_guesses(world: World) -> None:
    for _ in range(10):
        with pytest.raises(BadCredentials):
            await world.by_basic("alice", "x" * 2000)
    with pytest.raises(TooMany):
        await world.by_basic("alice", "secret")


async def test_who_was_logged_in_stays_so_while_others_guess(world: World) -> None:
    await world.by_basic("alice", "secret")
    for number in range(300):
        with pytest.raises((BadCredentials, TooMany)):
            await world.by_basic("alice", "guess", f"198.51.{number // 250}.{number % 250}")
    with pytest.raises(TooMany):
        await world.by_basic("alice", "guess", "203.0.113.1")
    assert (await world.by_basic("alice", "secret")).name == "alice"


async def test_right_password_forgives_mistakes(world: World) -> None:
    for _ in range(3):
        for number in range(9):
            with pytest.raises(BadCredentials):
                await world.by_basic("alice", f"guess {number}")
        world.authenticator._verified_passwords.clear()
        await world.by_basic("alice", "secret")


async def test_bad_login_says_which_name_was_tried(world: World) -> None:
    with pytest.raises(BadCredentials) as refused:
        await world.by_basic("mallory", "x")
    assert refused.value.name == "mallory"


# Access tokens and robot secrets.


async def test_secret_is_its_owners_in_either_way_of_sending_it(world: World) -> None:
    secret = world.accounts.add_secret("alice")
    for header in (basic(f"alice:{secret}"), f"Bearer {secret}", f"bearer  {secret}"):
        assert await world.identify(header) == Identity("alice", principal_id=1, credential_id=101)
    assert not world.hasher.verified, "no secret goes through argon2"


async def test_secret_is_good_with_its_owners_name_only(world: World) -> None:
    secret = world.accounts.add_secret("alice")
    for name in ("admin", "nobody", "", "Alice", "alice "):
        with pytest.raises(BadCredentials):
            await world.by_basic(name, secret)


async def test_mistyped_secret_is_refused_without_a_look(world: World) -> None:
    secret = world.accounts.add_secret("alice")
    wrong = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for header in (basic(f"alice:{wrong}"), f"Bearer {wrong}", basic("alice:slipway_"), "Bearer slipway_pat_"):
        with pytest.raises(BadCredentials):
            await world.identify(header)
    assert not world.accounts.looked_up
    assert not world.hasher.verified


async def test_unknown_secret_is_refused(world: World) -> None:
    with pytest.raises(BadCredentials):
        await world.identify(f"Bearer {make_secret(CredentialKind.TOKEN, bytes(32))}")


async def test_refresh_token_is_no_login(world: World) -> None:
    secret = world.accounts.add_secret("alice", CredentialKind.REFRESH)
    for header in (basic(f"alice:{secret}"), f"Bearer {secret}"):
        with pytest.raises(BadCredentials):
            await world.identify(header)


async def test_secret_ends_when_it_says_also_in_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cache.enable()
    end = datetime.now(UTC) + timedelta(hours=1)
    secret = world.accounts.add_secret("alice", expires_at=end)
    assert (await world.identify(f"Bearer {secret}")).expires_at == end.timestamp()

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return end

    monkeypatch.setattr("slipway_gateway.identity.datetime", Later)
    with pytest.raises(BadCredentials):
        await world.identify(f"Bearer {secret}")


async def test_secret_is_looked_up_once_until_anything_changes(world: World) -> None:
    world.cache.enable()
    secret = world.accounts.add_secret("alice")
    for _ in range(3):
        await world.identify(f"Bearer {secret}")
    assert len(world.accounts.looked_up) == 1
    with world.cache.changing(ACCESS_KEY):
        world.accounts.credentials.clear()
    with pytest.raises(BadCredentials):
        await world.identify(f"Bearer {secret}")


async def test_use_of_a_secret_is_noted_and_written_down_once(world: World) -> None:
    secret = world.accounts.add_secret("alice")
    before = datetime.now(UTC)
    await world.authenticator.identify(f"Bearer {secret}", "198.51.100.1")
    await world.authenticator.identify(f"Bearer {secret}", "198.51.100.2")
    await world.authenticator.flush_used()
    at, address = world.accounts.used.pop(101)
    assert before <= at <= datetime.now(UTC)
    assert address == "198.51.100.2"
    await world.authenticator.flush_used()
    assert not world.accounts.used


async def test_refused_secret_is_no_use_of_it(world: World) -> None:
    secret = world.accounts.add_secret("alice")
    with pytest.raises(BadCredentials):
        await world.by_basic("admin", secret)
    await world.authenticator.flush_used()
    assert not world.accounts.used
