"""From a provider's configuration to the provider: the built-in ones, registered ones, and installed packages'."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from noa.config import ProviderConfig
from noa.errors import ConfigurationError
from noa.models import ProviderType
from noa.providers.claude import ClaudeProvider
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.openai import OpenAIProvider
from noa.providers.protocol import Provider

logger = logging.getLogger(__name__)

#: Where installed packages offer providers: the entry point's name is the type, its object a ``Constructor``.
ENTRY_POINT_GROUP = "noa.providers"

Constructor = Callable[[ProviderConfig], Provider]


class ProviderFactory:
    """Creates providers by the ``type`` of their configuration.

    What is registered goes before what is built in, and both before what installed packages offer.
    """

    def __init__(self) -> None:
        self._constructors: dict[str, Constructor] = {
            ProviderType.OPENAI: OpenAIProvider,
            ProviderType.CLAUDE: ClaudeProvider,
        }

    def register(self, type_name: str, constructor: Constructor) -> None:
        """Have ``constructor`` make the providers of this type from now on."""
        self._constructors[type_name] = constructor

    def create(self, config: ProviderConfig, *, folders: Sequence[Path] = ()) -> Provider:
        """The provider for a configuration; ``folders`` hold the files of llama.cpp's models.

        Raises ``ConfigurationError`` for a type that nobody offers.
        """
        constructor = self._constructors.get(config.type)
        if constructor is None and config.type == ProviderType.LLAMA_CPP:
            return LlamaCppProvider(config, folders)
        constructor = constructor or self._installed(config.type)
        if constructor is None:
            known = ", ".join(sorted({*self._constructors, ProviderType.LLAMA_CPP}))
            raise ConfigurationError(
                f"There is no provider type “{config.type}”; known are {known}. "
                f"A service that speaks OpenAI's dialect is of type openai, with a base URL.",
                provider=config.name,
            )
        return constructor(config)

    def _installed(self, type_name: str) -> Constructor | None:
        for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=type_name):
            try:
                constructor: Constructor = entry_point.load()
            except Exception as error:
                logger.exception("the provider type %r could not be loaded", type_name)
                raise ConfigurationError(
                    f"The provider type “{type_name}” of {entry_point.value} could not be loaded: {error}",
                    provider=type_name,
                ) from error
            self._constructors[type_name] = constructor
            return constructor
        return None
