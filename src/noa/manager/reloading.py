"""Reloads: another configuration takes the place of the one in effect, while everything runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from noa.config import Configuration, Reload, Reloaded, plan_reload
from noa.errors import AIProviderError, ConfigurationError
from noa.manager.part import Part

logger = logging.getLogger(__name__)


class Reloading(Part):
    """Takes over what has changed in ``noa.yaml``, ``.env`` and the environment, or another configuration."""

    #: What is in effect.
    configuration: Configuration

    def __init__(self) -> None:
        super().__init__()
        self._read: Callable[[], Configuration] | None = None
        self._arguments: Mapping[str, Any] = {}
        self._one_at_a_time = asyncio.Lock()

    def read_by(self, read: Callable[[], Configuration]) -> None:
        """Have ``reload`` find out by this what the configuration is now. It may block, and raise what is wrong."""
        self._read = read

    async def reload(self, configuration: Configuration | None = None) -> Reloaded:
        """Put a changed configuration into effect and say what that changed; running requests notice nothing.

        ``configuration`` is read anew from where it came from, unless it is given. Providers that are new or have
        changed are made first, and take over all at once; those they replace are closed when the last request that uses
        them is over. What cannot change while the manager runs is named, and stays.

        Raises ``ConfigurationError`` for what is wrong; then nothing has changed. The events
        ``configuration-reloaded`` and ``configuration-rejected`` tell the same.
        """
        async with self._one_at_a_time:
            events = self.events
            try:
                wanted = configuration if configuration is not None else await self._read_anew()
                house = self._open
                reload = plan_reload(self.configuration, wanted.with_arguments(**self._arguments))
                prepared = await house.refit.prepare(reload)
            except AIProviderError as error:
                events.publish("configuration-rejected", {"error": error.message, "code": error.code})
                raise
            house.refit.put_in(prepared)
            self.configuration = reload.configuration
            events.publish("configuration-reloaded", msgspec.structs.asdict(reload.report))
            _log(reload)
        await house.refit.settle([*reload.made_anew])
        return reload.report

    async def _read_anew(self) -> Configuration:
        if self._read is None:
            raise ConfigurationError(
                "This manager was given its configuration by the program, so it cannot read it anew; "
                "give reload() the changed one."
            )
        return await asyncio.to_thread(self._read)


def _log(reload: Reload) -> None:
    report = reload.report
    if report.needs_restart:
        logger.warning("what takes effect at the next start only: %s", ", ".join(report.needs_restart))
    logger.info("the configuration was reloaded: %s", report)
