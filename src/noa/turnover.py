"""Providers that come, change and go, and room that grows or shrinks, while everything runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from noa.discovery import Discovery
from noa.events import Event, EventBus
from noa.launcher import Launcher
from noa.lifecycle import messages as m
from noa.lifecycle.eviction import Room
from noa.lifecycle.slots import SlotView
from noa.naming import Naming
from noa.provider_pool import ProviderPool
from noa.providers.protocol import Provider


class Turnover:
    """Puts other providers into the place of those there are, all at once.

    Requests under way finish with the provider they began with; those that come go to the new one. A model stays loaded
    when another provider takes the name. When a provider is taken out, its models go once nobody uses them, and it is
    closed after the last of them.
    """

    def __init__(
        self,
        *,
        providers: ProviderPool,
        discovery: Discovery,
        launcher: Launcher,
        naming: Naming,
        residents: Callable[[], Iterable[SlotView]],
        submit: Callable[[m.Input], Any],
        events: EventBus,
    ) -> None:
        self._providers = providers
        self._discovery = discovery
        self._launcher = launcher
        self._naming = naming
        self._residents = residents
        self._submit = submit
        self._going: dict[str, list[Provider]] = {}
        for event_type in ("model-unloaded", "model-crashed"):
            events.on(event_type, self._gone)

    def resize(self, room: Room) -> None:
        """There is so much room from now on."""
        self._submit(m.RoomChanged(room=room))

    def know(self, names: Mapping[str, str], advice: Mapping[str, str]) -> None:
        """Every name of every known provider from now on, each with the canonical one; and what to set for those."""
        self._naming.know(names, advice)

    def exchange(self, providers: Mapping[str, Provider], withdrawn: Collection[str] = ()) -> None:
        """From now on there are these. ``withdrawn`` are the names whose models go, even if one of these has it now.

        The new ones are asked what they have; ``settle`` waits for that.
        """
        going = [view.key for view in self._residents() if view.key.partition(":")[0] in withdrawn]
        for key in going:
            self._going.setdefault(key, []).append(self._providers.take(key.partition(":")[0]))
        for key in [key for key in self._going if key.partition(":")[0] in providers]:
            self._let_go(key)
        before = dict(self._providers)
        self._providers.exchange(providers)
        for name in {*before, *providers}:
            if before.get(name) is not providers.get(name):
                self._launcher.exchanged(name)
        for name in withdrawn:
            self._discovery.drop(name)
        for key in going:
            self._submit(m.Withdrawn(key=key))
        for name, provider in providers.items():
            if before.get(name) is not provider:
                self._submit(m.Reconsidered(provider=name))
                self._discovery.ask_anew(name)

    async def settle(self, names: Iterable[str]) -> None:
        """Wait for those of these that are asked what they have; for a service that is slow only a moment."""
        await self._discovery.settle(names)

    def _gone(self, event: Event) -> None:
        self._let_go(event.data["key"])

    def _let_go(self, key: str) -> None:
        for provider in self._going.pop(key, ()):
            self._providers.give_back(provider)
