"""What is loaded: discovery, loads and unloads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from noa.config import ProviderConfig
from noa.discovery import ProviderReport
from noa.engine import DEFAULT_DRAIN_S, DEFAULT_WAIT_S
from noa.errors import ValidationError
from noa.manager.part import Part
from noa.models import LoadOptions, LoadPlan, model_key


class Residency(Part):
    """Finds models, loads them and unloads them."""

    async def discover_models(self) -> Sequence[ProviderReport]:
        """Ask every provider at once what it has. One that is down delays nobody and shows as down."""
        return await self.engine.discover()

    async def load_model(
        self,
        provider_config_or_key: ProviderConfig | str,
        model_id: str | None = None,
        *,
        warmup: bool = False,
        ttl: float | None = None,
        pin: bool = False,
        priority: int = 0,
        options: LoadOptions | None = None,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> str:
        """Load a model and return its key: the quick start's ``(provider_config, model_id)``, or a key alone.

        A local model is loaded when its own process has answered a token; a remote one when its credentials and id were
        verified, and with ``warmup`` a real request was answered. ``ttl`` is in seconds after its last use. ``options``
        holds the rest of what can be said (see ``LoadOptions``).
        """
        key = await self._key(provider_config_or_key, model_id)
        given = msgspec.structs.replace(options or LoadOptions(), warmup=warmup, ttl_s=ttl, pin=pin, priority=priority)
        await self.engine.load(key, given, wait_s=wait_s)
        return key

    async def plan_load(self, key: str, options: LoadOptions | None = None) -> LoadPlan:
        """What a load of this model would take, and whom it would cost their place. Nothing is loaded or changed.

        Raises ``ConflictError`` where the model is loaded with other options.
        """
        return self.engine.plan(await self.engine.find_key(key), options or LoadOptions())

    async def unload_model(self, key: str, *, force: bool = False, drain_s: float = DEFAULT_DRAIN_S) -> str:
        """Unload a model once its requests are done (``force``: at once) and return its key.

        Raises ``ModelNotLoadedError``, and ``ConflictError`` if it is still in use after ``drain_s``.
        """
        key = self.engine.resolve_key(key)
        await self.engine.unload(key, force=force, drain_s=drain_s)
        return key

    async def _key(self, provider_config_or_key: ProviderConfig | str, model_id: str | None) -> str:
        if isinstance(provider_config_or_key, ProviderConfig):
            if model_id is None:
                raise ValidationError("Say which model of the provider to load.")
            return await self.engine.find_key(model_key(provider_config_or_key.name, model_id))
        name = provider_config_or_key if model_id is None else model_key(provider_config_or_key, model_id)
        return await self.engine.find_key(name)
