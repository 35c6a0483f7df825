"""The connection to the running server that every command but ``serve`` and ``demo`` works on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from noa.cli.progress import PhaseBar
from noa.client import NoaClient
from noa.client_answers import ServerEvent
from noa.config import ConfigurationManager
from noa.errors import AIProviderError

logger = logging.getLogger(__name__)

T = TypeVar("T")


def connect() -> NoaClient:
    """A client, not yet open, of the server that the environment names."""
    configuration = ConfigurationManager.from_environment()
    key = configuration.api_key
    return NoaClient(configuration.url, key.reveal() if key is not None else None)


def ask(work: Callable[[NoaClient], Awaitable[T]]) -> T:
    """Run one piece of work with the server and return its result."""

    async def session() -> T:
        async with connect() as client:
            return await work(client)

    return asyncio.run(session())


@contextlib.asynccontextmanager
async def phases_shown(client: NoaClient, requested: str) -> AsyncIterator[None]:
    """Show on stderr how far the load of a model is, while the context lasts.

    Only decoration: where the server tells no events, the bar just runs.
    """
    with PhaseBar(requested) as bar:
        watcher = asyncio.create_task(_show_phases(client, requested, bar))
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)


async def _show_phases(client: NoaClient, requested: str, bar: PhaseBar) -> None:
    try:
        async with contextlib.aclosing(client.events()) as events:
            async for event in events:
                phase = phase_of(event, requested)
                if phase is not None:
                    bar.phase(phase)
    except AIProviderError as error:
        logger.debug("no events to show the phases of the load of %r from: %s", requested, error.message)


def phase_of(event: ServerEvent, requested: str) -> str | None:
    """The phase that an event reports of the model requested by this name, which may lack the provider."""
    key, phase = event.data.get("key"), event.data.get("phase")
    if event.type != "model-loading" or not isinstance(key, str) or not isinstance(phase, str):
        return None
    names = (key, key.replace(":", "/", 1), key.partition(":")[2])
    return phase if requested in names else None
