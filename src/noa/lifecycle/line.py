"""The line of those who wait: by priority, then by arrival."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from noa.lifecycle.aliases import Aliases
from noa.lifecycle.messages import Acquire, Input, Load, Switch
from noa.lifecycle.slots import Waiter


class Line:
    """Every unanswered wish. Iterating goes over those there are now, whatever happens to them meanwhile."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases
        self._waiters: list[Waiter] = []
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(tuple(self._waiters))

    def join(self, wish: Acquire | Load | Switch, now: float) -> None:
        """Wait."""
        self._arrivals += 1
        insort(self._waiters, Waiter(wish, self._arrivals, now), key=lambda waiter: waiter.rank)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer."""
        self._waiters.remove(waiter)
        if waiter.owed_by is not None:
            waiter.owed_by.owed.discard(waiter.number)

    def find(self, number: int) -> Waiter | None:
        """Who has this number and is not being granted what it wants."""
        return next((each for each in self._waiters if each.number == number and not each.committing), None)

    def target(self, waiter: Waiter) -> str | None:
        """The model it would get if it were its turn now."""
        wish = waiter.wish
        return self._aliases.meaning(wish.name) if isinstance(wish, Acquire) else wish.key

    def waiting_for(self, key: str, *kinds: type[Input]) -> list[Waiter]:
        """Those of these kinds who would get this model, first come first."""
        return [each for each in self._waiters if isinstance(each.wish, kinds) and self.target(each) == key]

    def overdue(self, now: float) -> list[Waiter]:
        """Those who waited long enough."""
        return [each for each in self._waiters if each.wish.deadline <= now and not each.committing]

    def is_displaced(self, key: str) -> bool:
        """Whether a switch waits for this model's place: whoever wants it by an alias will land on the new model."""
        return any(waiter.displaced == key for waiter in self._waiters)

    def renounce(self, key: str) -> None:
        """What somebody unloads by hand does not come back when the switch that displaced it fails."""
        for waiter in self._waiters:
            if waiter.displaced == key:
                waiter.displaced = None
