"""What a configuration means for each part of what is built: decided in one place, for the start and for a reload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import msgspec

from noa.catalog import Catalog
from noa.config import Configuration, ProviderConfig
from noa.config.policies import PolicySettings
from noa.engine_settings import EngineSettings
from noa.facts import Background, Lookup
from noa.failover import FailoverSettings
from noa.lifecycle.eviction import Room
from noa.models import model_key
from noa.presets import KNOWN_PROVIDERS
from noa.runtime.hardware import Hardware
from noa.runtime.launch import engine_build
from noa.selection.aliases import canonical_name
from noa.selection.wish import Objective, Wish
from noa.shape import Shape


class Blueprint(msgspec.Struct, frozen=True, kw_only=True):
    """``room`` is the scheduler's, ``policies`` and ``explore`` are the chooser's, the rest goes by its type."""

    room: Room
    engine: EngineSettings
    failover: FailoverSettings
    policies: Mapping[str, Wish]
    explore: float

    @classmethod
    def of(cls, configuration: Configuration, hardware: Hardware) -> Self:
        """What this configuration means on this machine. Raises ``ConfigurationError`` for what cannot be meant."""
        engine = _engine(configuration, hardware)
        return cls(
            room=Room(
                max_models=configuration.max_loaded_models,
                budget_bytes=configuration.memory_budget_bytes(hardware.total_bytes),
                cores=hardware.threads,
            ),
            engine=engine,
            failover=_failover(configuration, engine.providers),
            policies={
                name: _wish(name, policy, configuration, engine.providers)
                for name, policy in configuration.policies.items()
            },
            explore=configuration.explore,
        )


def look_up_with(catalog: Catalog, configuration: Configuration) -> Lookup:
    """What the user and the catalogue say of a model."""
    known_models = configuration.known_models

    def look_up(provider: str, model_id: str) -> Background:
        return Background(
            configured=known_models.get(model_key(provider, model_id)), catalog=catalog.facts(provider, model_id)
        )

    return look_up


def _engine(configuration: Configuration, hardware: Hardware) -> EngineSettings:
    names = {alias: preset.name for preset in KNOWN_PROVIDERS.values() for alias in (preset.name, *preset.aliases)}
    names |= {config.name: config.name for config in configuration.providers}
    return EngineSettings(
        providers=names,
        advice={name: _advice(name, configuration) for name in set(names.values())},
        default_model=_default_model(configuration.default_provider_config),
        shape=Shape(
            context_size=configuration.context_size,
            slots=configuration.slots,
            threads=configuration.threads or max(1, hardware.threads // 2),
            cache_type=configuration.cache_type,
        ),
        build=engine_build(configuration.llama_server),
    )


def _failover(configuration: Configuration, providers: Mapping[str, str]) -> FailoverSettings:
    """Where requests go that were not taken; the names in their canonical form, as far as they have one."""
    return FailoverSettings(
        fallbacks={
            canonical_name(name, providers): tuple(canonical_name(other, providers) for other in others)
            for name, others in configuration.fallbacks.items()
        },
        retries={config.name: config.max_retries for config in configuration.providers},
    )


def _wish(name: str, policy: PolicySettings, configuration: Configuration, known: Mapping[str, str]) -> Wish:
    """A policy of the configuration as the chooser takes it, with names in their canonical form."""
    return Wish(
        capabilities=policy.capabilities,
        prefer=Objective(policy.prefer),
        max_cost=policy.max_cost,
        max_ttft_ms=policy.max_ttft_ms,
        min_context=policy.min_context,
        min_success_rate=policy.min_success_rate,
        providers=tuple(known.get(each, each) for each in policy.providers),
        models=tuple(canonical_name(each, known) for each in policy.models),
        policy=name,
        explore=configuration.explore if policy.explore is None else policy.explore,
    )


def _default_model(provider: ProviderConfig | None) -> str | None:
    if provider is None or provider.default_model is None:
        return None
    return model_key(provider.name, provider.default_model)


def _advice(name: str, configuration: Configuration) -> str:
    return (configuration.provider_config(name) or ProviderConfig(type=name)).advice
