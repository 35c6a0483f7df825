"""From the names that callers use to aliases and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from noa.errors import AIProviderError, ConfigurationError, ModelNotFoundError, ModelUnavailableError
from noa.lifecycle import refusals
from noa.lifecycle.aliases import CURRENT
from noa.lifecycle.scheduler import Scheduler
from noa.models import model_key
from noa.providers.protocol import Provider
from noa.registry import Registry
from noa.selection.aliases import Names

#: When to ask again for a model whose provider is down and does not say when it is back, in seconds.
RETRY_AFTER_S: Final = 5.0


class Naming:
    """What names mean just now.

    ``providers`` maps every name of every known provider to the canonical one, ``configured`` are those that are set
    up, and ``advice`` says for each what to set. ``failure`` makes the error that says why a provider is down, if it
    is.
    """

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        *,
        providers: Mapping[str, str],
        configured: Mapping[str, Provider],
        advice: Mapping[str, str],
        failure: Callable[[str], AIProviderError | None],
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._providers = providers
        self._configured = configured
        self._advice = advice
        self._failure = failure

    def know(self, providers: Mapping[str, str], advice: Mapping[str, str]) -> None:
        """These are the providers that are known from now on, and what to set for each."""
        self._providers = providers
        self._advice = advice

    def resolve(self, name: str | None) -> str:
        """The alias or key that a name means; raises what is wrong with it.

        A model of a provider that is down is unknown until it is back, so the provider is blamed, not the name. A bare
        id may be any provider's: it is unavailable if one that is down had it before, and otherwise unknown, which says
        who else could not be asked.
        """
        if name is not None and self._scheduler.view(name) is not None:
            return name  # A key, and that also of a model that is in use but listed no longer.
        try:
            return self._registry.resolve(name, self._names)
        except ModelNotFoundError as error:
            raise self._blamed(name or CURRENT, error) from None
        except AIProviderError as error:
            raise self._failure(error.provider or "") or error from None

    def _blamed(self, name: str, error: ModelNotFoundError) -> AIProviderError:
        """Who is to blame for a name that means nothing now."""
        if error.provider is not None:
            return self._failure(error.provider) or error
        down = {provider: failure for provider in self._configured if (failure := self._failure(provider))}
        had = self._had_before()
        for provider, failure in down.items():
            if model_key(provider, name) in had:
                sentence = f"“{name}” is a model of {provider}, which cannot be asked now: {failure.message}"
                after_s = failure.retry_after_s or RETRY_AFTER_S
                return ModelUnavailableError(sentence, provider=provider, retry_after_s=after_s)
        if not down:
            return error
        reasons = " ".join(failure.message for failure in down.values())
        may_have = f"{' and '.join(down)} could not be asked and may have it: {reasons}"
        details = {**error.details, "down": list(down)}
        return ModelNotFoundError(f"{error.message}. But {may_have}", details=details)

    def _had_before(self) -> AbstractSet[str]:
        """The keys of models that were used or noted before, whether or not anybody lists them now."""
        return {*self._registry.all_figures, *self._scheduler.kept, *self._scheduler.aliases.values()}

    def find(self, name: str | None) -> str:
        """As ``resolve``, for whoever goes on to use it: an alias of a model that is not known now is refused too."""
        meant = self.resolve(name)
        if absence := self.absence(meant):
            raise absence
        return meant

    def absence(self, alias: str) -> AIProviderError | None:
        """What is wrong with the model that an alias means, if it is not there now: that its provider is down, or that
        nobody offers it any more. ``None`` also where ``alias`` is none.
        """
        key = self._scheduler.aliases.get(alias)
        if key is None:
            return None
        provider = key.partition(":")[0]
        try:
            self.resolve(key)
        except ModelNotFoundError:
            return refusals.absent(alias, key, self._whereabouts(key, provider), self._scheduler.loaded, provider)
        except ConfigurationError as error:
            return refusals.absent(alias, key, error.message, self._scheduler.loaded, provider)
        except AIProviderError as failure:
            return failure
        return None

    def _whereabouts(self, key: str, provider: str) -> str:
        """Why a model is not there, and what brings it back."""
        path = self._registry.last_path(key)
        if path is not None:
            return f"its file {path} is gone; put it back."
        if provider in self._configured and self._configured[provider].lists_files:
            return f"its file {key.partition(':')[2]}.gguf is in no model folder; put it back."
        return f"{provider} does not list it any more."

    def resolve_key(self, name: str | None) -> str:
        """The key that a name means now. Raises ``ModelUnavailableError`` if it is an alias of nothing."""
        meant = self.resolve(name)
        key = self._scheduler.aliases.get(meant, meant)
        if key == CURRENT:
            raise ModelUnavailableError("No model is loaded. Load one: noa load KEY", retry_after_s=5)
        return key

    def _names(self, keys_by_id: Mapping[str, Sequence[str]]) -> Names:
        return Names(
            providers=self._providers,
            configured=self._configured,
            advice=self._advice,
            keys=self._registry,
            keys_by_id=keys_by_id,
            aliases=self._scheduler.aliases,
        )
