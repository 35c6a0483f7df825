"""Asking every provider at once what it has and how it is."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from noa.errors import AIProviderError
from noa.providers.protocol import Health, Offer, Provider
from noa.registry import Merged, Registry

logger = logging.getLogger(__name__)

#: How soon after one look at the model folders another is worth it, and how long anybody waits for one.
REFRESH_INTERVAL_S = 1.0
REFRESH_PATIENCE_S = 2.0
#: How long a provider may take to list its models, or to say how it is, before the others go on without it.
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
        self._refreshing: asyncio.Task[None] | None = None
        self._fresh_until = 0.0

    @property
    def reports(self) -> Mapping[str, ProviderReport]:
        """What the last discovery found, by provider."""
        return self._reports

    def why_down(self, provider: str) -> str | None:
        """Why the last discovery could not ask a provider; ``None`` if it could, or did not know it."""
        report = self._reports.get(provider)
        return None if report is None or report.up else report.error or f"{provider} is down."

    async def refresh(self, look: Callable[[], Awaitable[object]]) -> None:
        """Look at the model folders again, unless somebody has just done so; wait for it a moment at most."""
        loop = asyncio.get_running_loop()
        if self._refreshing is None:
            if loop.time() < self._fresh_until:
                return
            self._refreshing = loop.create_task(self._look(look))
        await asyncio.wait([self._refreshing], timeout=REFRESH_PATIENCE_S)

    async def _look(self, look: Callable[[], Awaitable[object]]) -> None:
        try:
            await look()
        except Exception:
            logger.exception("looking at the model folders failed unexpectedly")
        finally:
            self._fresh_until = asyncio.get_running_loop().time() + REFRESH_INTERVAL_S
            self._refreshing = None

    async def aclose(self) -> None:
        """End the look that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])

    async def run(self, *, files_only: bool = False) -> Sequence[Found]:
        """Ask all (``files_only``: those that list files of this machine), and merge what they answer."""
        asked = [each for each in self._providers.values() if each.lists_files or not files_only]
        found = await asyncio.gather(*(self._ask(provider) for provider in asked))
        self._reports |= {each.report.provider: each.report for each in found}
        return found

    async def health(self) -> Mapping[str, Health]:
        """Ask every provider at once whether it is well."""
        names = list(self._providers)
        found = await asyncio.gather(*(self._health(self._providers[name]) for name in names))
        return dict(zip(names, found, strict=True))

    async def _health(self, provider: Provider) -> Health:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await provider.health()
        except TimeoutError:
            return Health(up=False, error=f"{provider.name} did not answer within {self._timeout_s:g} s.")
        except AIProviderError as error:
            return Health(up=False, error=error.message)
        except Exception as fault:
            logger.exception("asking %s how it is failed unexpectedly", provider.name)
            return Health(up=False, error=_fault(provider, fault))

    async def _ask(self, provider: Provider) -> Found:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                offers = await provider.list_models()
        except TimeoutError:
            return _down(provider, f"{provider.name} did not list its models within {self._timeout_s:g} s.")
        except AIProviderError as error:
            return _down(provider, error.message)
        except Exception as fault:
            logger.exception("listing the models of %s failed unexpectedly", provider.name)
            return _down(provider, _fault(provider, fault))
        latency_ms = (time.perf_counter() - began) * 1000
        merged = self._registry.merge(provider.name, offers, datetime.now(UTC))
        models = tuple(offer.model.key for offer in offers)
        report = ProviderReport(provider=provider.name, up=True, models=models, latency_ms=latency_ms)
        return Found(report=report, offers=tuple(offers), merged=merged)


def _down(provider: Provider, error: str) -> Found:
    return Found(report=ProviderReport(provider=provider.name, up=False, error=error))


def _fault(provider: Provider, fault: Exception) -> str:
    return f"{provider.name} failed in a way its adapter does not know: {fault!r}. The log says more."
