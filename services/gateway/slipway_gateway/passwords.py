"""Passwords: argon2id, off the loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from slipway_common.errors import InvalidInput, Unavailable
from slipway_gateway.domain.secrets import looks_like_secret

# One hash takes 64 MiB and a core for a while: more at once would only take longer each.
_HASHES_AT_ONCE = 2
_HASHES_WAITING = 64
MAX_PASSWORD_BYTES = 1024
# NIST SP 800-63B, 3.1.1: at least 8 characters, and no rules about which.
_MIN_PASSWORD_CHARS = 8


class TooManyLogins(Unavailable):
    """More passwords are waiting to be checked than is sensible."""


class WeakPassword(InvalidInput):
    """Too short, too long to be checked, or one that a login takes for something else."""


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._pool = ThreadPoolExecutor(max_workers=_HASHES_AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        # Checked in place of an unknown name's, so that the answer takes as long.
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        hashed: str = await self._run(self._hasher.hash, password)
        return hashed

    async def hash_new(self, password: str) -> str:
        """The hash of a password that somebody chose. Raises WeakPassword."""
        if len(password) < _MIN_PASSWORD_CHARS or len(password.encode("utf-8", "surrogatepass")) > MAX_PASSWORD_BYTES:
            raise WeakPassword(
                f"a password has at least {_MIN_PASSWORD_CHARS} characters and at most {MAX_PASSWORD_BYTES} bytes"
            )
        if looks_like_secret(password):
            raise WeakPassword("a password does not begin like an access token")
        return await self.hash(password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Compare in a time that does not tell whether there was anything to compare with."""
        if self._dummy is None:
            self._dummy = await self.hash(secrets.token_hex(16))
        matches = await self._run(self._verify, stored or self._dummy, password)
        return matches and stored is not None

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Any, *arguments: str) -> Any:
        if self._waiting >= _HASHES_WAITING:
            raise TooManyLogins("too many logins are being checked at this moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
