"""Where a caller stands: from memory while that is exact, else by one query."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace

from cachetools import LRUCache

from slipway_common.oci.names import RepositoryName
from slipway_common.security.signing import InvalidToken
from slipway_gateway.cache import ExactCache
from slipway_gateway.domain.access import AccessRules, Account, Action, Decision, Identity
from slipway_gateway.store.access import AccessStore, NamespaceStanding, Standing

# The one key of the exact cache under which all of it is remembered: whoever changes an account, a credential, a team, a grant, a
# repository's or a namespace's settings drops it whole. Such changes are made by people, reads by clusters.
ACCESS_KEY = ("access",)
_STANDING_BYTES = 600


class Memory:
    """What is remembered until anything of it changes. Only what is there is kept, so that additions need drop nothing.

    standings   by identity and repository name
    principals  by name, for logins with a password
    credentials by hash
    """

    __slots__ = ("credentials", "principals", "standings", "weight_bytes")

    def __init__(self, max_bytes: int) -> None:
        entries = max(100, max_bytes // 3 // _STANDING_BYTES)
        self.weight_bytes = max_bytes
        self.standings: LRUCache[Hashable, Standing] = LRUCache(entries)
        self.principals: LRUCache[str, object] = LRUCache(entries)
        self.credentials: LRUCache[bytes, object] = LRUCache(entries)


class Access:
    """Answers where somebody stands, and what they may do there."""

    def __init__(self, store: AccessStore, cache: ExactCache, rules: AccessRules, *, max_bytes: int) -> None:
        self._store = store
        self._cache = cache
        self._max_bytes = max_bytes
        self.rules = rules

    async def memory(self) -> Memory:
        """What is remembered at this moment; an empty one, for once, where nothing may be."""
        found: Memory | None = self._cache.find(ACCESS_KEY)
        if found is None:
            found = Memory(self._max_bytes)
            await self._cache.fill(ACCESS_KEY, _ready(found))
        return found

    def recall(self, identity: Identity, name: RepositoryName) -> Standing | None:
        """What `standing` answers, if it is remembered."""
        memory: Memory | None = self._cache.find(ACCESS_KEY)
        # A bearer token is taken for a few seconds longer than it says, as clocks differ; what it was had for is over by then.
        if memory is None or identity.expires_at <= time.time():
            return None
        found = memory.standings.get(_key(identity, name))
        return _checked(found, identity) if found is not None else None

    async def standing(self, identity: Identity, name: RepositoryName, *, former_names: bool = True) -> Standing:
        """Where `identity` stands at `name`. Raises InvalidToken if it does not hold any more: revoked, disabled, gone.

        `former_names`: a repository is found by a name that it had before, too. Not so for who wants to give the name to another:
        that takes a right on the name, which the repository that has left it says nothing of.
        """
        if (known := self.recall(identity, name)) is not None:
            return known
        memory = await self.memory()
        found = await self._store.find_standing(identity, name, former_names=former_names)
        # By another name than its own a repository is found for a while only.
        if found.repository is not None and found.repository.name == name:
            found = replace(found, basis=memory)
            memory.standings[_key(identity, name)] = found
        return _checked(found, identity)

    async def account(self, identity: Identity) -> Account | None:
        """Whoever is logged in; None without a login. Raises InvalidToken if it does not hold any more."""
        if not identity.known:
            return None
        found = await self._store.find_account(identity)
        if found is None:
            raise InvalidToken("the login does not hold any more")
        return found

    async def namespace(self, account: Account | None, namespace: str) -> NamespaceStanding:
        return await self._store.find_namespace_standing(account, namespace)

    def decide(
        self, identity: Identity, standing: Standing, action: Action, *, at_least: Action | None = None
    ) -> Decision:
        return self.rules.decide(standing.account, identity.scope, action, standing.place, at_least=at_least)

    def may(self, identity: Identity, standing: Standing, action: Action) -> bool:
        """Whether this very credential can do this here."""
        return self.decide(identity, standing, action) is Decision.ALLOW


def _key(identity: Identity, name: RepositoryName) -> Hashable:
    return identity.principal_id, identity.credential_id, identity.credential_version, name


def _checked(standing: Standing, identity: Identity) -> Standing:
    if identity.known and (standing.account is None or standing.account.name != identity.name):
        raise InvalidToken("the login does not hold any more")
    return standing


def _ready(memory: Memory) -> Callable[[], Awaitable[Memory | None]]:
    async def load() -> Memory | None:
        return memory

    return load
