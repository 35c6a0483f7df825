"""Puts a changed configuration into effect in what runs: everything new is made first, then it counts at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from noa.alias_book import AliasBook
from noa.blueprint import Blueprint, look_up_with
from noa.catalog import Catalog, services_of
from noa.chooser import Chooser
from noa.config import Configuration, ProviderConfig, Reload
from noa.engine import Engine
from noa.errors import AIProviderError, ConfigurationError
from noa.failover import Failover
from noa.providers.broken import BrokenProvider
from noa.providers.factory import ProviderFactory
from noa.providers.protocol import Provider
from noa.runtime.hardware import Hardware

logger = logging.getLogger(__name__)


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a reload needs, made: nothing can go wrong any more. ``providers`` are those made anew."""

    reload: Reload
    blueprint: Blueprint
    providers: Mapping[str, Provider]


class Refit:
    """Changes what runs, in two steps: ``prepare`` may fail and changes nothing, ``put_in`` changes all at once."""

    def __init__(
        self,
        engine: Engine,
        failover: Failover,
        aliases: AliasBook,
        chooser: Chooser,
        catalog: Catalog,
        *,
        factory: ProviderFactory,
        hardware: Hardware,
    ) -> None:
        self._engine = engine
        self._failover = failover
        self._aliases = aliases
        self._chooser = chooser
        self._catalog = catalog
        self._factory = factory
        self._hardware = hardware

    async def prepare(self, reload: Reload) -> Prepared:
        """Make what is new. Raises ``ConfigurationError`` for what cannot be made; then nothing has changed."""
        configuration = reload.configuration
        blueprint = Blueprint.of(configuration, self._hardware)
        made: dict[str, Provider] = {}
        try:
            for config in configuration.providers:
                if config.name in reload.made_anew:
                    made[config.name] = self._made(config, configuration)
        except AIProviderError:
            for provider in made.values():
                if provider not in self._engine.providers.values():
                    await provider.aclose()
            raise
        return Prepared(reload=reload, blueprint=blueprint, providers=made)

    def put_in(self, prepared: Prepared) -> None:
        """From now on the new configuration counts. Requests under way notice nothing."""
        reload, blueprint = prepared.reload, prepared.blueprint
        configuration, present = reload.configuration, self._engine.providers
        names = blueprint.engine.providers
        self._catalog.know(services_of(configuration.providers))
        self._engine.registry.look_up_by(look_up_with(self._catalog, configuration), reload.known_models)
        self._aliases.know(names)
        self._chooser.reconfigure(blueprint.policies, blueprint.explore)
        self._failover.reconfigure(blueprint.failover, (*reload.made_anew, *reload.report.providers_removed))
        turnover = self._engine.turnover
        turnover.know(names, blueprint.engine.advice)
        turnover.resize(blueprint.room)
        if reload.made_anew or reload.report.providers_removed:
            there_are = {**present, **prepared.providers}
            now = {each.name: there_are[each.name] for each in configuration.providers if each.is_set_up}
            turnover.exchange(now, reload.report.providers_removed)

    async def settle(self, names: Sequence[str]) -> None:
        """Wait until these providers, which are new, have said what they have; for slow services a moment only."""
        await self._engine.turnover.settle(names)

    def _made(self, config: ProviderConfig, configuration: Configuration) -> Provider:
        try:
            provider = self._factory.create(config, folders=configuration.model_folders)
        except AIProviderError:
            raise
        except Exception as fault:
            logger.exception("the provider %r could not be made", config.name)
            sentence = f"{config.name} could not be made: {fault!r}. The log says more."
            raise ConfigurationError(sentence, provider=config.name) from fault
        if isinstance(provider, BrokenProvider):
            raise provider.failure
        return provider
