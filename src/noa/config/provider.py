"""How to reach one provider, and whether that is enough to ask it."""

from __future__ import annotations

from typing import Self

import msgspec

from noa.config.address import provider_address
from noa.config.secret import Secret
from noa.config.settings import ProviderSettings, provider_name
from noa.errors import ConfigurationError
from noa.presets import KNOWN_PROVIDERS, DialectName, Habits, canonical_provider, find_preset

#: Answers that are not streamed arrive all at once, after minutes if the model reasons.
DEFAULT_TIMEOUT_S = 300.0
DEFAULT_MAX_RETRIES = 2


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one provider.

    ``type`` says which provider class serves it (``openai``, ``claude``, ``llama.cpp`` or one that was registered) and
    ``name`` is the left half of its models' keys. Given the name of a known service as the type (``groq``,
    ``anthropic``), its row in ``noa.presets`` fills in what is missing. ``base_url`` is what stands before
    ``/chat/completions``; for Claude it is what stands before ``/v1/messages``. ``timeout_s`` is how long the provider
    may stay silent, in seconds, and ``max_retries`` how often a request it did not take is tried again. ``models`` are
    ids that it has beyond those it lists. ``service`` is the name of the row that was used, and found by itself.

    Raises ``ConfigurationError`` for a base URL that is none.
    """

    type: str
    name: str = ""
    api_key: Secret | None = None
    base_url: str | None = None
    default_model: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_retries: int = DEFAULT_MAX_RETRIES
    models: tuple[str, ...] = ()
    service: str = ""

    def __post_init__(self) -> None:
        preset = KNOWN_PROVIDERS.get(self.service) or find_preset(self.type, self.name or self.type)
        name = self.name or (preset.name if preset is not None else self.type)
        name = canonical_provider(name) or name
        given: object = self.api_key
        base_url = self.base_url or (preset.base_url if preset is not None else None)
        if base_url is not None:
            try:
                base_url = provider_address(base_url, preset)
            except ValueError as error:
                raise ConfigurationError(f"The base URL of provider “{name}” {error}.", provider=name) from None
        force = msgspec.structs.force_setattr
        force(self, "type", preset.type if preset is not None else str(self.type))
        force(self, "name", str(name))
        force(self, "base_url", base_url)
        force(self, "service", preset.name if preset is not None else "")
        if isinstance(given, str):
            # A key passed as plain text would be shown by the first repr.
            force(self, "api_key", Secret(given))

    @classmethod
    def from_settings(cls, settings: ProviderSettings) -> Self:
        """The provider that ``noa.yaml`` or the variables describe.

        Its timeout is in milliseconds, as in the quick start (30000); a number below 1000 is taken for seconds, because
        people write those, and nobody means a limit below one second.
        """
        timeout, retries = settings.timeout, settings.max_retries
        if timeout is not None and timeout >= 1000:
            timeout /= 1000
        return cls(
            type=settings.type,
            name=provider_name(settings),
            api_key=settings.api_key,
            base_url=settings.base_url,
            default_model=settings.default_model,
            timeout_s=DEFAULT_TIMEOUT_S if timeout is None else timeout,
            max_retries=DEFAULT_MAX_RETRIES if retries is None else retries,
            models=settings.models or (),
        )

    @property
    def dialect(self) -> DialectName:
        """The wire format it speaks; a registered type is taken to speak OpenAI's."""
        preset = KNOWN_PROVIDERS.get(self.type)
        return preset.dialect if preset is not None else "openai"

    @property
    def habits(self) -> Habits:
        """What is particular about the service. OpenAI's own habits hold at OpenAI's own address only."""
        preset = KNOWN_PROVIDERS.get(self.service)
        if preset is None or (preset.name == "openai" and self.base_url != preset.base_url):
            return Habits()
        return preset.habits

    @property
    def key_variable(self) -> str | None:
        """The variable that would set its key, for messages; ``None`` for a name of one's own."""
        preset = KNOWN_PROVIDERS.get(self.name)
        return preset.key_variables[0] if preset is not None and preset.key_variables else None

    @property
    def address_variable(self) -> str | None:
        """The variable that would set its address, for messages; ``None`` for a name of one's own."""
        preset = KNOWN_PROVIDERS.get(self.name)
        return preset.base_url_variables[0] if preset is not None and preset.base_url_variables else None

    @property
    def models_variable(self) -> str | None:
        """The variable that would name its models, for messages; ``None`` for a name of one's own."""
        preset = KNOWN_PROVIDERS.get(self.name)
        return f"NOA_{preset.variable_stems[0]}_MODELS" if preset is not None else None

    @property
    def is_set_up(self) -> bool:
        """Whether it can be asked at all: it has a key, or an address of its own, or needs neither."""
        preset = KNOWN_PROVIDERS.get(self.service)
        if preset is None:
            return True
        if preset.needs_address and self.base_url is None:
            return False
        return self.api_key is not None or not preset.needs_key or self.base_url != preset.base_url

    @property
    def advice(self) -> str:
        """What to do so that it is set up."""
        preset = KNOWN_PROVIDERS.get(self.service)
        wanted = [self.key_variable] if preset is None or preset.needs_key else []
        if preset is not None and (preset.needs_address or not preset.needs_key):
            wanted.append(self.address_variable)
        variables = " and ".join(variable for variable in wanted if variable)
        if not variables:
            return f"give “{self.name}” an address or a key in noa.yaml."
        return f"set {variables}, in the environment or in .env."
