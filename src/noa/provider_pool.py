"""The providers in use, by name; and those that were replaced or taken out, for as long as somebody uses them."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from noa.providers.protocol import Provider

logger = logging.getLogger(__name__)


class ProviderPool(Mapping[str, Provider]):
    """A mapping of the providers that there are now, in the order of the configuration.

    Whoever uses one says so: ``take`` and ``give_back``, or ``lend``. One that others have taken the place of, or
    nobody, is closed when the last of its users has gone, so that no request notices. A name that is there no more
    still gives its last provider to those who have to do with what is left of it.
    """

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self._present = dict(providers)
        self._last: dict[str, Provider] = {}
        #: By identity, since providers need not be hashable.
        self._users: defaultdict[int, int] = defaultdict(int)
        self._retired: dict[int, Provider] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __getitem__(self, name: str) -> Provider:
        return self._present[name]

    def __contains__(self, name: object) -> bool:
        return name in self._present

    def __iter__(self) -> Iterator[str]:
        return iter(self._present)

    def __len__(self) -> int:
        return len(self._present)

    @property
    def retired(self) -> int:
        """How many are not in use any more, but for those who have begun with them."""
        return len(self._retired)

    def take(self, name: str) -> Provider:
        """The provider of this name, which is not closed before it is given back; or the last that there was.

        Raises ``KeyError`` if there is none, and nobody uses one that was.
        """
        provider = self._present.get(name)
        if provider is None:
            provider = self._last[name]
        self._users[id(provider)] += 1
        return provider

    def give_back(self, provider: Provider) -> None:
        """One user less."""
        number = id(provider)
        self._users[number] -= 1
        if not self._users[number]:
            del self._users[number]
            if number in self._retired:
                self._close(number)

    @contextmanager
    def lend(self, name: str) -> Iterator[Provider]:
        """The same for the length of a block."""
        provider = self.take(name)
        try:
            yield provider
        finally:
            self.give_back(provider)

    def exchange(self, providers: Mapping[str, Provider]) -> None:
        """From now on there are these. Those that are not among them are closed as soon as nobody uses them."""
        kept = {id(provider) for provider in providers.values()}
        before, self._present = self._present, dict(providers)
        for name, provider in before.items():
            number = id(provider)
            if number in kept:
                continue
            self._retired[number] = provider
            if name not in providers:
                self._last[name] = provider
            if number not in self._users:
                self._close(number)

    async def aclose(self) -> None:
        """Close every provider, whoever uses it."""
        for provider in (*self._present.values(), *self._retired.values()):
            await provider.aclose()
        self._retired.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _close(self, number: int) -> None:
        provider = self._retired.pop(number)
        if self._last.get(provider.name) is provider:
            del self._last[provider.name]
        task = asyncio.get_running_loop().create_task(provider.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("a provider could not be closed", exc_info=error)
