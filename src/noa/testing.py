"""Fakes for the tests of programs that use Noa: a manager like any other whose models are made up.

    async with FakeManager("openai:gpt-4", "openai:gpt-3.5-turbo") as manager:
        manager.say("Hello.")
        assert (await manager.chat("Say hello.")).text == "Hello."
        assert manager.conversations[-1].messages[-1].text == "Say hello."

Only the models are made up. Loading, switching, leases, eviction, failover, measurement and events are Noa's own, so
what a program does with them can be tested, failures included, without a network, a process or a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from noa.chat import ChatRequest
from noa.config import Configuration, ProviderConfig, Secret
from noa.errors import AIProviderError, ValidationError
from noa.manager import ModelManager
from noa.models import ProviderType, split_key
from noa.providers.factory import ProviderFactory
from noa.providers.fake import FakeModel, FakeProvider
from noa.runtime.fake import FakeProcess, FakeRuntime

__all__ = ["FakeManager", "FakeModel", "FakeProcess", "FakeProvider", "FakeRuntime"]

#: Hosts that test clients of web frameworks send, beside loopback.
_TEST_HOSTS = ("testserver", "test")


class FakeManager(ModelManager):
    """A manager over made-up models.

    ``models`` are keys (``"openai:gpt-4"``: a model that repeats what it was told), ``FakeModel`` for the provider
    ``fake``, or whole ``FakeProvider``; none means ``fake:parrot``. Those of ``llama.cpp`` are loaded by starting
    processes, which are values in ``runtime``. ``default_model`` is loaded at the start, and so in use. ``options`` are
    those of ``ModelManager``.

    ``providers`` are the fakes by name, to be scripted one by one (``up``, ``fail``, ``say``); ``say``, ``fail`` and
    ``conversations`` of the manager are about the only one, or the first.
    """

    def __init__(
        self,
        *models: str | FakeModel | FakeProvider,
        default_model: str | None = None,
        configuration: Configuration | None = None,
        **options: Any,
    ) -> None:
        self.providers = _providers(models or (FakeModel(id="parrot"),))
        self.runtime = FakeRuntime()
        default = None if default_model is None else split_key(default_model)
        configs = [_config(name, default) for name in self.providers]
        factory = ProviderFactory()
        for config in configs:
            factory.register(config.type, lambda config: self.providers[config.name])
        given = configuration or Configuration(home=Path("nowhere"), allowed_hosts=_TEST_HOSTS)
        super().__init__(
            factory,
            given.evolve(providers=tuple(configs), default_provider=default[0] if default else None),
            runtime=self.runtime,
            **options,
        )

    @property
    def conversations(self) -> Sequence[ChatRequest]:
        """The latest conversations that the first provider was asked to continue, oldest first."""
        return self._first.conversations

    def say(self, *replies: str) -> None:
        """Have the first provider's next answers be these, one each, whichever model is asked."""
        self._first.say(*replies)

    def fail(self, error: AIProviderError, *, times: int = 1, after_pieces: int | None = None) -> None:
        """Have the first provider's next ``times`` answers fail: at once, or after so many pieces of a stream.

        What no model took is tried again, and goes to fallbacks, as always.
        """
        self._first.fail(error, times=times, after_pieces=after_pieces)

    @property
    def _first(self) -> FakeProvider:
        return next(iter(self.providers.values()))


def _providers(models: Sequence[str | FakeModel | FakeProvider]) -> dict[str, FakeProvider]:
    found: dict[str, FakeProvider] = {}
    by_provider: dict[str, list[FakeModel]] = {}
    for each in models:
        if isinstance(each, FakeProvider):
            found[each.name] = each
        elif isinstance(each, FakeModel):
            by_provider.setdefault("fake", []).append(each)
        else:
            name, model_id = split_key(each)
            model = FakeModel(id=model_id, owned=name == ProviderType.LLAMA_CPP)
            by_provider.setdefault(name, []).append(model)
    if both := found.keys() & by_provider.keys():
        raise ValidationError(f"Give the models of {both.pop()} all by their keys, or all in its FakeProvider.")
    return found | {name: FakeProvider(models, name=name) for name, models in by_provider.items()}


def _config(name: str, default: tuple[str, str] | None) -> ProviderConfig:
    config = ProviderConfig(type=name, api_key=Secret("unused"))
    if config.name != name:
        raise ValidationError(f"“{name}” is another name of {config.name}; call the fake provider that.")
    if default is None or default[0] != name:
        return config
    return msgspec.structs.replace(config, default_model=default[1])
