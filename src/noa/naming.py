"""From the names that callers use to aliases and keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from noa.errors import AIProviderError, ModelUnavailableError
from noa.lifecycle.aliases import CURRENT
from noa.lifecycle.scheduler import Scheduler
from noa.registry import Registry
from noa.selection.aliases import Names


class Naming:
    """What names mean just now.

    ``providers`` maps every name of every known provider to the canonical one, ``configured`` are those that are set
    up, and ``advice`` says for each what to set. ``failure`` makes the error that says why a provider is
    down, if it is.
    """

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        *,
        providers: Mapping[str, str],
        configured: Collection[str],
        advice: Mapping[str, str],
        failure: Callable[[str], AIProviderError | None],
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._providers = providers
        self._configured = configured
        self._advice = advice
        self._failure = failure

    def resolve(self, name: str | None) -> str:
        """The alias or key that a name means; raises what is wrong with it.

        A model of a provider that is down is unknown until it is back, so the provider is blamed, not the name.
        """
        if name is not None and self._scheduler.view(name) is not None:
            return name  # A key, and that also of a model that is in use but listed no longer.
        try:
            return self._registry.resolve(name, self._names)
        except AIProviderError as error:
            if failure := self._failure(error.provider or ""):
                raise failure from None
            raise

    def find(self, name: str | None) -> str:
        """As ``resolve``, for whoever goes on to use it: an alias of a model that is not known now is refused too."""
        meant = self.resolve(name)
        if (key := self._scheduler.aliases.get(meant)) is not None:
            self.resolve(key)
        return meant

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
