"""Looks after models that backends keep loaded for us: others have a hand in those too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from noa.errors import AIProviderError
from noa.providers.protocol import Lifecycled

logger = logging.getLogger(__name__)

#: How often a backend is asked what it has loaded, in seconds, as long as something of ours is.
INTERVAL_S: Final = 5.0


class Vigil:
    """Tells when a backend has let go of a model that nobody here unloaded, again and again while that is so.

    A backend that does not answer tells nothing; that it is down is found out by those who look at its list.
    """

    def __init__(self) -> None:
        self._watched: dict[str, dict[str, Callable[[], None]]] = {}
        self._backends: dict[str, Lifecycled] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, name: str, backend: Lifecycled, model_id: str, left: Callable[[], None]) -> None:
        """The backend of the provider ``name`` has loaded a model; ``left`` is called when it has it no longer."""
        self._watched.setdefault(name, {})[model_id] = left
        self._backends[name] = backend
        if name not in self._tasks:
            self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name))

    def replace(self, name: str, backend: object) -> None:
        """Another provider has this name from now on, or none has; one that has no such backend is not asked."""
        if name in self._backends and isinstance(backend, Lifecycled):
            self._backends[name] = backend
        elif name in self._backends:
            self._watched[name].clear()

    def leave(self, name: str, model_id: str) -> None:
        """The model is being unloaded from here."""
        self._watched.get(name, {}).pop(model_id, None)

    async def aclose(self) -> None:
        """Watch no more."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str) -> None:
        try:
            while self._watched[name]:
                await asyncio.sleep(INTERVAL_S)
                await self._look(name)
        finally:
            del self._tasks[name], self._backends[name]

    async def _look(self, name: str) -> None:
        # Whoever is loaded while the backend answers may be missing from the answer.
        before = dict(self._watched[name])
        try:
            resident = await self._backends[name].resident()
        except AIProviderError as error:
            logger.debug("%s did not say what it has loaded: %s", name, error.message)
            return
        except Exception:
            logger.exception("asking %s what it has loaded failed unexpectedly", name)
            return
        if resident is None:
            return
        for model_id, left in before.items():
            if model_id not in resident and self._watched[name].get(model_id) is left:
                left()
