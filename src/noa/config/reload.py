"""What a changed configuration changes in a manager that runs. Pure.

Most of what people change takes effect at once. The rest has been built into what runs (where it listens, where state
is kept, how engines are started): it stays as it is until the next start, and is named.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from noa.config.configuration import Configuration
from noa.config.in_effect import ATTRIBUTES
from noa.config.provider import ProviderConfig
from noa.models import ProviderType, Value

#: The settings, by their names in ``noa.yaml``, that take effect at once; providers and single models do too.
AT_ONCE: Final = frozenset(
    {
        "defaultProvider",
        "fallbacks",
        "models.folders",
        "models.maxLoaded",
        "models.memoryBudget",
        "selection.explore",
        "selection.policies",
    }
)
#: What else is decided when the manager starts, and has no setting in ``noa.yaml``.
_AT_START: Final = {"home": "home", "hfHome": "hf_home"}


class Reloaded(Value, frozen=True, kw_only=True):
    """What a reload changed. ``file`` is the ``noa.yaml`` that was read, if there is one.

    A provider whose type has changed is both removed and added. ``settings`` took effect at once, by their names in
    ``noa.yaml``; those in ``needs_restart`` are as they were, until the next start.
    """

    file: str | None
    providers_added: tuple[str, ...] = ()
    providers_changed: tuple[str, ...] = ()
    providers_removed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done: ``configuration`` is to be in effect, and ``report`` says what that changes.

    ``known_models`` are the keys of the models of which the user says something else.
    """

    configuration: Configuration
    report: Reloaded
    known_models: frozenset[str] = frozenset()

    @property
    def made_anew(self) -> frozenset[str]:
        """The names of the providers that others are to be made for."""
        return frozenset((*self.report.providers_added, *self.report.providers_changed))


def plan_reload(running: Configuration, wanted: Configuration) -> Reload:
    """What is to change so that ``running`` becomes ``wanted``, as far as that goes without a restart."""
    at_once = {ATTRIBUTES[name]: getattr(wanted, ATTRIBUTES[name]) for name in AT_ONCE}
    after = running.evolve(
        config_path=wanted.config_path, providers=wanted.providers, known_models=wanted.known_models, **at_once
    )
    changed = [name for name, attribute in ATTRIBUTES.items() if _differs(running, wanted, attribute)]
    keys = [
        key
        for key in dict.fromkeys((*running.known_models, *wanted.known_models))
        if running.known_models.get(key) != wanted.known_models.get(key)
    ]
    added, rebuilt, removed = _providers(running, after)
    report = Reloaded(
        file=None if after.config_path is None else str(after.config_path),
        providers_added=added,
        providers_changed=rebuilt,
        providers_removed=removed,
        settings=(*(name for name in changed if name in AT_ONCE), *(f"models.{key}" for key in keys)),
        needs_restart=(
            *(name for name, attribute in _AT_START.items() if _differs(running, wanted, attribute)),
            *(name for name in changed if name not in AT_ONCE),
        ),
    )
    return Reload(configuration=after, report=report, known_models=frozenset(keys))


def _differs(one: Configuration, other: Configuration, attribute: str) -> bool:
    before: Any = getattr(one, attribute)
    return bool(before != getattr(other, attribute))


def _providers(before: Configuration, after: Configuration) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The names of those that are new, those that are made anew, and those that are there no more."""
    old, new = _set_up(before), _set_up(after)
    kept = [name for name in new if name in old and old[name].type == new[name].type]
    other_folders = before.model_folders != after.model_folders
    changed = (name for name in kept if new[name] != old[name] or (other_folders and _reads_folders(new[name])))
    return (
        tuple(name for name in new if name not in kept),
        tuple(changed),
        tuple(name for name in old if name not in kept),
    )


def _set_up(configuration: Configuration) -> dict[str, ProviderConfig]:
    return {provider.name: provider for provider in configuration.providers if provider.is_set_up}


def _reads_folders(provider: ProviderConfig) -> bool:
    return provider.type == ProviderType.LLAMA_CPP
