"""Asking every provider at once what it has and how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from noa.errors import AIProviderError
from noa.providers.protocol import Health, Offer, Provider
from noa.registry import Merged, Registry

#: How long a provider may take to list its models before discovery goes on without it.
DISCOVERY_TIMEOUT_S = 10.0


class ProviderReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a discovery found at one provider. ``error`` says why it is down."""

    provider: str
    up: bool
    models: tuple[str, ...] = ()
    latency_ms: float | None = None
    error: str | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A report, and what it changed in the registry: nothing if the provider is down."""

    report: ProviderReport
    offers: tuple[Offer, ...] = ()
    merged: Merged = Merged(added=(), removed=())


class Discovery:
    """Keeps the registry in step with the providers. One that is down or slow delays nobody and shows as down."""

    def __init__(
        self, providers: Mapping[str, Provider], registry: Registry, timeout_s: float = DISCOVERY_TIMEOUT_S
    ) -> None:
        self._providers = providers
        self._registry = registry
        self._timeout_s = timeout_s
        self._reports: dict[str, ProviderReport] = {}

    @property
    def reports(self) -> Mapping[str, ProviderReport]:
        """What the last discovery found, by provider."""
        return self._reports

    async def run(self, *, files_only: bool = False) -> Sequence[Found]:
        """Ask all (``files_only``: those that list files of this machine), and merge what they answer."""
        asked = [each for each in self._providers.values() if each.lists_files or not files_only]
        found = await asyncio.gather(*(self._ask(provider) for provider in asked))
        self._reports |= {each.report.provider: each.report for each in found}
        return found

    async def health(self) -> Mapping[str, Health]:
        """Ask every provider at once whether it is well."""
        names = list(self._providers)
        found = await asyncio.gather(*(self._providers[name].health() for name in names))
        return dict(zip(names, found, strict=True))

    async def _ask(self, provider: Provider) -> Found:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                offers = await provider.list_models()
        except TimeoutError:
            sentence = f"{provider.name} did not list its models within {self._timeout_s:.0f} s."
            return Found(report=ProviderReport(provider=provider.name, up=False, error=sentence))
        except AIProviderError as error:
            return Found(report=ProviderReport(provider=provider.name, up=False, error=error.message))
        latency_ms = (clock() - began) * 1000
        merged = self._registry.merge(provider.name, offers, datetime.now(UTC))
        models = tuple(offer.model.key for offer in offers)
        report = ProviderReport(provider=provider.name, up=True, models=models, latency_ms=latency_ms)
        return Found(report=report, offers=tuple(offers), merged=merged)
