"""Answers to requests that create something, kept for those who send them again (IETF draft idempotency-key-header)."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import orjson

from slipway_common.errors import Conflict, InvalidInput
from slipway_common.security.master_key import SecretBox
from slipway_gateway.store.idempotency import IdempotencyStore

KEPT_FOR = timedelta(hours=24)
# A request that began and never ended (its gateway was killed) may be sent again after this.
_GIVEN_UP_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class IdempotentAnswers:
    """By principal and key. Sealed by the master key: some hold a secret that is shown once."""

    def __init__(self, store: IdempotencyStore, box: SecretBox) -> None:
        self._store = store
        self._box = box

    async def begin(self, principal_id: int, key: str, wish: bytes) -> Given | None:
        """The answer that was given to this request; None: it comes for the first time, and may go on.

        Raises InvalidInput if the key was used for another request, Conflict while that one is under way.
        """
        hash_ = hashlib.sha256(wish).digest()
        known = await self._store.begin(principal_id, key, hash_, given_up_after=_GIVEN_UP_AFTER)
        if known is None:
            return None
        if known.request_hash != hash_:
            raise InvalidInput("this Idempotency-Key was used for another request: choose a new one")
        if known.sealed is None:
            raise Conflict("the same request is under way: ask again in a moment")
        document = orjson.loads(self._box.open(known.sealed))
        return Given(document["status"], document["headers"], b64decode(document["body"]))

    async def keep(self, principal_id: int, key: str, given: Given) -> None:
        document = {"status": given.status, "headers": dict(given.headers), "body": b64encode(given.body).decode()}
        await self._store.keep(principal_id, key, self._box.seal(orjson.dumps(document)))

    async def forget(self, principal_id: int, key: str) -> None:
        """The request failed: it may be sent again."""
        await self._store.forget(principal_id, key)

    async def trim(self) -> bool:
        await self._store.trim(KEPT_FOR)
        return False
