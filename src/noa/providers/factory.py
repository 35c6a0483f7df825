"""From a provider's configuration to the provider: the built-in ones, registered ones, and installed packages'."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from noa.config import ProviderConfig
from noa.errors import ConfigurationError
from noa.models import ProviderType
from noa.providers.broken import BrokenProvider
from noa.providers.claude import ClaudeProvider
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.ollama import OllamaProvider
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
            ProviderType.OLLAMA: OllamaProvider,
        }

    def register(self, type_name: str, constructor: Constructor) -> None:
        """Have ``constructor`` make the providers of this type from now on."""
        self._constructors[type_name] = constructor

    def create(self, config: ProviderConfig, *, folders: Sequence[Path] = ()) -> Provider:
        """The provider for a configuration; ``folders`` hold the files of llama.cpp's models.

        Raises ``ConfigurationError`` for a type that nobody offers. One that an installed package offers and cannot
        make stands among the others, and says why it is down.
        """
        constructor = self._constructors.get(config.type)
        if constructor is None and config.type == ProviderType.LLAMA_CPP:
            return LlamaCppProvider(config, folders)
        if constructor is None and (offered := self._offered(config.type)):
            return self._installed(offered, config)
        if constructor is None:
            known = ", ".join(sorted({*self._constructors, ProviderType.LLAMA_CPP}))
            raise ConfigurationError(
                f"There is no provider type “{config.type}”; known are {known}. "
                f"A service that speaks OpenAI's dialect is of type openai, with a base URL.",
                provider=config.name,
            )
        return constructor(config)

    def _offered(self, type_name: str) -> EntryPoint | None:
        return next(iter(entry_points(group=ENTRY_POINT_GROUP, name=type_name)), None)

    def _installed(self, offered: EntryPoint, config: ProviderConfig) -> Provider:
        """The provider of somebody else's package, whose faults must not keep the others from being served."""
        try:
            constructor: Constructor = offered.load()
            return constructor(config)
        except Exception as error:
            package = offered.dist.name if offered.dist else offered.module
            logger.exception("the provider %r of the package %s could not be made", config.name, package)
            sentence = (
                f"{config.name} could not be made by {offered.value} of the package {package}: {error}. "
                "Mend or update that package; the log says more."
            )
            return BrokenProvider(config.name, ConfigurationError(sentence, provider=config.name))
