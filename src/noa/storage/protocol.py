"""What storage is to the rest of Noa: small durable state, and a large history that may lag a little."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from noa.state import AliasRecord, Change, ProfileRecord, RequestRecord, SavedState, UsageGrouping, UsageTotal


class StateStore(Protocol):
    """Durable state. What ``write`` acknowledged survives ``kill -9``."""

    async def read(self) -> SavedState:
        """Everything, as of the last acknowledged write."""
        ...

    async def write(self, *changes: Change) -> None:
        """Make the changes durable, all or none, in order. Raises ``StorageError`` if they are not."""
        ...

    async def alias_history(self, name: str, limit: int = 50) -> Sequence[AliasRecord]:
        """What an alias pointed to, newest first."""
        ...

    async def aclose(self) -> None: ...


class UsageStore(Protocol):
    """The history of requests and profiles: written in batches, kept for a while."""

    def record(self, record: RequestRecord) -> None:
        """Queue a record. Never waits; when the queue is full the record is dropped and counted in ``dropped``."""
        ...

    @property
    def dropped(self) -> int:
        """How many records were lost because the disk was slower than the traffic."""
        ...

    async def flush(self) -> None:
        """Return when everything queued so far is written."""
        ...

    async def requests(self, key: str | None = None, limit: int = 100) -> Sequence[RequestRecord]:
        """Past requests, newest first."""
        ...

    async def totals(
        self,
        by: UsageGrouping,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        key: str | None = None,
    ) -> Sequence[UsageTotal]:
        """What was used and what it cost, of one model or of all, in the hours from that of ``since`` to ``until``.

        Times come newest first, everything else by name.
        """
        ...

    async def add_profile(self, profile: ProfileRecord) -> None: ...

    async def profiles(self, key: str, limit: int = 100) -> Sequence[ProfileRecord]:
        """Past profiles of a model, newest first."""
        ...

    async def aclose(self) -> None: ...
