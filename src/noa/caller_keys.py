"""Keys for single callers, beside the server's own: made, recognised, revoked.

A key is 256 random bits, and what is kept of it is its SHA-256. Nobody can try 2²⁵⁶ keys, so a slow hash as for
passwords would protect nothing and cost every request; for the same reason a look-up by the digest tells an attacker
nothing by how long it takes, since they cannot choose digests.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from noa.errors import CallerKeyNotFoundError, ConflictError, StorageError, ValidationError
from noa.models import Value
from noa.state import CallerKey, CallerKeyKept, CallerKeyRevoked
from noa.storage.protocol import StateStore

#: How every key begins, so that people and scanners for leaked keys know one when they see it.
PREFIX: Final = "sk-noa-"
RANDOM_BYTES: Final = 32
#: The longest that a key may be valid, in seconds: a hundred years.
LONGEST_S: Final = 100 * 365 * 86_400.0

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class NewCallerKey(Value, frozen=True, kw_only=True):
    """A key as it was made: the only time that ``secret`` is seen."""

    name: str
    secret: str
    created_at: datetime
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"NewCallerKey(name={self.name!r}, secret=…)"


def _now() -> datetime:
    return datetime.now(UTC)


class CallerKeys:
    """Every key there is. What changes is durable when the call returns, but for when a key was last used."""

    def __init__(self, state: StateStore, clock: Callable[[], datetime] = _now) -> None:
        self._state = state
        self._clock = clock
        self._by_name: dict[str, CallerKey] = {}
        self._by_digest: dict[str, CallerKey] = {}
        self._used: dict[str, datetime] = {}
        #: One change at a time, so that no note of a key's use can be written behind its revocation.
        self._changing = asyncio.Lock()

    def restore(self, keys: Iterable[CallerKey]) -> None:
        """Take over what was written before a restart."""
        for key in keys:
            self._put(key)

    def all(self) -> Sequence[CallerKey]:
        """Every key, by name."""
        return [self._with_use(self._by_name[name]) for name in sorted(self._by_name)]

    async def create(self, name: str, valid_s: float | None = None) -> NewCallerKey:
        """Make a key; with ``valid_s`` it opens nothing after so many seconds.

        Raises ``ValidationError`` for a name or time that makes no sense, ``ConflictError`` if the name is taken.
        """
        if not _NAME.fullmatch(name):
            raise ValidationError(
                f"“{name[:80]}” cannot be a key's name: it takes 1 to 64 letters, digits, “.”, “_” and “-”, and begins "
                "with a letter or a digit.",
                details={"field": "name"},
            )
        if valid_s is not None and not 0 < valid_s <= LONGEST_S:
            raise ValidationError("A key is valid for more than 0 s, and 100 years at most.", details={"field": "ttl"})
        secret, now = PREFIX + secrets.token_urlsafe(RANDOM_BYTES), self._clock()
        expires_at = None if valid_s is None else now + timedelta(seconds=valid_s)
        key = CallerKey(name=name, sha256=_digest(secret.encode()), created_at=now, expires_at=expires_at)
        async with self._changing:
            if name in self._by_name:
                raise ConflictError(f"There is a key “{name}” already; choose another name, or revoke that one first.")
            await self._state.write(CallerKeyKept(key=key))
            self._put(key)
        return NewCallerKey(name=name, secret=secret, created_at=now, expires_at=expires_at)

    async def revoke(self, name: str) -> None:
        """Have a key open nothing from now on.

        Raises ``CallerKeyNotFoundError``, and ``StorageError`` if that could not be written; then it still opens.
        """
        async with self._changing:
            key = self._by_name.pop(name, None)
            if key is None:
                raise CallerKeyNotFoundError(f"There is no key “{name[:80]}”. See what there is with: noa keys")
            del self._by_digest[key.sha256]
            self._used.pop(name, None)
            try:
                await self._state.write(CallerKeyRevoked(name=name))
            except StorageError:
                self._put(key)
                raise

    def name_of(self, presented: bytes) -> str | None:
        """Whose key this is; ``None`` if it is nobody's, or has expired."""
        if not self._by_digest or not presented:
            return None
        digest = _digest(presented)
        key = self._by_digest.get(digest)
        if key is None or not hmac.compare_digest(key.sha256, digest):
            return None
        now = self._clock()
        if key.expires_at is not None and now >= key.expires_at:
            return None
        self._used[key.name] = now
        return key.name

    async def keep(self) -> None:
        """Write down which keys were used since the last time. Raises ``StorageError``; then it is tried again."""
        async with self._changing:
            used = [self._with_use(self._by_name[name]) for name in self._used]
            await self._state.write(*(CallerKeyKept(key=key) for key in used))
            for key in used:
                self._put(key)
                if self._used.get(key.name) == key.last_used:
                    del self._used[key.name]

    def _put(self, key: CallerKey) -> None:
        self._by_name[key.name] = key
        self._by_digest[key.sha256] = key

    def _with_use(self, key: CallerKey) -> CallerKey:
        used = self._used.get(key.name)
        return key if used is None else msgspec.structs.replace(key, last_used=used)


def _digest(presented: bytes) -> str:
    return hashlib.sha256(presented).hexdigest()
