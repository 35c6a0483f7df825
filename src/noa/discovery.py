"""Asking providers what they have and how they are: all at once, one at a time, and again those that are down."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from noa.errors import (
    AIProviderError,
    ConfigurationError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderTimeoutError,
    RateLimitError,
)
from noa.provider_pool import ProviderPool
from noa.providers.protocol import Health, Offer, Provider
from noa.registry import Merged, Registry

logger = logging.getLogger(__name__)

#: How soon after one look on demand another is worth it, and how long anybody waits for one, in seconds.
LOOK_INTERVAL_S: Final = 1.0
LOOK_PATIENCE_S: Final = 2.0
#: How long a start waits for providers that are asked over the network, in seconds.
START_PATIENCE_S: Final = 1.0
#: How long a provider may take to list its models, in seconds, and how often one that is down is asked again.
DISCOVERY_TIMEOUT_S: Final = 10.0
RECHECK_INTERVAL_S: Final = 15.0
#: How long a provider may take to say how it is, in seconds.
HEALTH_TIMEOUT_S: Final = 3.0
#: A provider that asks to be left alone is, but not for longer than this, in seconds.
LONGEST_REST_S: Final = 60.0

#: What a failed listing says about a request for one of its models; anything else is an answer that makes no sense.
_TELLING: Final = (
    ProviderAuthenticationError,
    RateLimitError,
    ProviderConnectionError,
    ProviderResponseError,
    ConfigurationError,
)


class ProviderReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a discovery found at one provider. ``error`` says why it is down."""

    provider: str
    up: bool
    models: tuple[str, ...] = ()
    latency_ms: float | None = None
    error: str | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A report, and what it changed in the registry: nothing if the provider is down, as ``failure`` says."""

    report: ProviderReport
    offers: tuple[Offer, ...] = ()
    merged: Merged = Merged(added=(), removed=())
    failure: AIProviderError | None = None


class Discovery:
    """Keeps the registry in step with the providers. One that is down or slow delays nobody and shows as down.

    No provider is asked twice at the same time: whoever wants to know waits for the question under way. ``take_in`` is
    told of every answer, also of one that comes when nobody waits for it any more.
    """

    def __init__(
        self,
        providers: ProviderPool,
        registry: Registry,
        take_in: Callable[[Found], None],
        *,
        timeout_s: float = DISCOVERY_TIMEOUT_S,
        health_timeout_s: float = HEALTH_TIMEOUT_S,
        recheck_s: float = RECHECK_INTERVAL_S,
        start_patience_s: float = START_PATIENCE_S,
        look_interval_s: float = LOOK_INTERVAL_S,
    ) -> None:
        self._providers = providers
        self._registry = registry
        self._take_in = take_in
        self._timeout_s = timeout_s
        self._health_timeout_s = health_timeout_s
        self._recheck_s = recheck_s
        self._start_patience_s = start_patience_s
        self._look_interval_s = look_interval_s
        self._found: dict[str, Found] = {}
        self._asking: dict[str, asyncio.Task[Found]] = {}
        self._rested_at: dict[str, float] = {}
        self._looked_until: dict[str, float] = {}
        self._rechecking: asyncio.Task[None] | None = None

    @property
    def reports(self) -> Mapping[str, ProviderReport]:
        """What each provider answered last."""
        return {name: found.report for name, found in self._found.items()}

    def failure(self, provider: str) -> AIProviderError | None:
        """Why a provider could not be asked last time, to be raised; ``None`` if it could, or is not known."""
        found = self._found.get(provider)
        # A copy, since an exception that is raised collects the traces of everybody who was told.
        return None if found is None or found.failure is None else copy.copy(found.failure)

    async def start(self) -> None:
        """Ask all for the first time, and from now on those that are down again and again.

        Files are waited for; a service that is slow to answer shows as down, and is merged when it does answer.
        """
        for name in self._providers:
            self._ask_once(name)
        await self.settle(self._providers)
        self._rechecking = asyncio.get_running_loop().create_task(self._recheck())

    async def settle(self, names: Iterable[str]) -> None:
        """Wait for those of these that are being asked: for files until they are read, for services a moment."""
        asked = {name: self._asking[name] for name in names if name in self._asking}
        files = [task for name, task in asked.items() if self._providers[name].lists_files]
        services = [task for name, task in asked.items() if not self._providers[name].lists_files]
        if services:
            await asyncio.wait(services, timeout=self._start_patience_s)
        if files:
            await asyncio.wait(files)
        for name, task in asked.items():
            if not task.done():
                sentence = f"{name} has not listed its models yet; try again in a moment."
                self._found.setdefault(name, _down(name, ProviderTimeoutError(sentence, provider=name)))

    def drop(self, name: str) -> None:
        """There is no such provider any more: forget it, and whatever it offered."""
        self._leave(name)
        self._found.pop(name, None)
        merged = Merged(added=(), removed=self._registry.drop(name))
        self._take_in(Found(report=ProviderReport(provider=name, up=False), merged=merged))

    def ask_anew(self, name: str) -> None:
        """Another provider has this name from now on: ask it. What the one before still answers does not count."""
        self._leave(name)
        self._ask_once(name)

    def _leave(self, name: str) -> None:
        if task := self._asking.pop(name, None):
            task.cancel()
        self._rested_at.pop(name, None)
        self._looked_until.pop(name, None)

    async def run(self) -> Sequence[Found]:
        """Ask all, and wait for every answer."""
        asked = [self._ask_once(name) for name in self._providers]
        if asked:
            await asyncio.wait(asked)
        return [task.result() for task in asked if not task.cancelled()]

    async def look_at_files(self, patience_s: float = LOOK_PATIENCE_S) -> None:
        """Look at the model folders again, unless somebody has just done so; wait for it a moment at most."""
        await self._look((name for name, each in self._providers.items() if each.lists_files), patience_s)

    async def look_at(self, provider: str, patience_s: float = LOOK_PATIENCE_S) -> None:
        """Ask one provider again, unless somebody has just done so; wait for it a moment at most."""
        await self._look((provider,), patience_s)

    async def _look(self, providers: Iterable[str], patience_s: float) -> None:
        now = asyncio.get_running_loop().time()
        asked: list[asyncio.Task[Found]] = []
        for name in providers:
            if name in self._asking:
                asked.append(self._asking[name])
            elif now >= max(self._looked_until.get(name, now), self._rested_at.get(name, now)):
                asked.append(self._ask_once(name))
                asked[-1].add_done_callback(lambda _, name=name: self._looked(name))  # type: ignore[misc]  # a default
        if asked:
            await asyncio.wait(asked, timeout=patience_s)

    def _looked(self, name: str) -> None:
        self._looked_until[name] = asyncio.get_running_loop().time() + self._look_interval_s

    async def _recheck(self) -> None:
        """Ask those that are down again, for ever; what they answer is taken in by the questions themselves."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._recheck_s)
            for name, found in self._found.items():
                if not found.report.up and loop.time() >= self._rested_at.get(name, 0.0):
                    self._ask_once(name)

    async def aclose(self) -> None:
        """End every question that is under way, and ask no more."""
        tasks = [*self._asking.values(), *([self._rechecking] if self._rechecking else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def health(self) -> Mapping[str, Health]:
        """Ask every provider at once whether it is well."""
        names = list(self._providers)
        found = await asyncio.gather(*(self._health(name) for name in names))
        return dict(zip(names, found, strict=True))

    async def _health(self, name: str) -> Health:
        with self._providers.lend(name) as provider:
            try:
                async with asyncio.timeout(self._health_timeout_s):
                    return await provider.health()
            except TimeoutError:
                return Health(up=False, error=f"{name} did not answer within {self._health_timeout_s:g} s.")
            except AIProviderError as error:
                return Health(up=False, error=error.message)
            except Exception as fault:
                logger.exception("asking %s how it is failed unexpectedly", name)
                return Health(up=False, error=_fault(provider, fault).message)

    def _ask_once(self, name: str) -> asyncio.Task[Found]:
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name))
            task.add_done_callback(lambda done: self._answered(name, done))
        return task

    def _answered(self, name: str, task: asyncio.Task[Found]) -> None:
        if self._asking.get(name) is task:
            del self._asking[name]
        if not task.cancelled() and (error := task.exception()):
            logger.error("taking in the models of %s failed unexpectedly", name, exc_info=error)

    async def _ask(self, name: str) -> Found:
        with self._providers.lend(name) as provider:
            found = await self._list(provider)
        self._found[name] = found
        self._rested_at.pop(name, None)
        if found.failure is not None and found.failure.retry_after_s is not None:
            rest_s = min(found.failure.retry_after_s, LONGEST_REST_S)
            self._rested_at[name] = asyncio.get_running_loop().time() + rest_s
        self._take_in(found)
        return found

    async def _list(self, provider: Provider) -> Found:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                offers = await provider.list_models()
        except TimeoutError:
            sentence = f"{provider.name} did not list its models within {self._timeout_s:g} s."
            return _down(provider.name, ProviderTimeoutError(sentence, provider=provider.name))
        except AIProviderError as error:
            return _down(provider.name, _telling(provider, error))
        except Exception as fault:
            logger.exception("listing the models of %s failed unexpectedly", provider.name)
            return _down(provider.name, _fault(provider, fault))
        latency_ms = (time.perf_counter() - began) * 1000
        merged = self._registry.merge(provider.name, offers, datetime.now(UTC))
        models = tuple(offer.model.key for offer in offers)
        report = ProviderReport(provider=provider.name, up=True, models=models, latency_ms=latency_ms)
        return Found(report=report, offers=tuple(offers), merged=merged)


def _down(provider: str, failure: AIProviderError) -> Found:
    return Found(report=ProviderReport(provider=provider, up=False, error=failure.message), failure=failure)


def _telling(provider: Provider, error: AIProviderError) -> AIProviderError:
    """The failure as whoever asks for a model of the provider is told it, free of what only the listing concerns."""
    kept = isinstance(error, _TELLING)
    told = copy.copy(error) if kept else ProviderResponseError(error.message, retry_after_s=error.retry_after_s)
    told.provider = provider.name
    told.upstream = None
    return told


def _fault(provider: Provider, fault: Exception) -> AIProviderError:
    sentence = f"{provider.name} failed in a way its adapter does not know: {fault!r}. The log says more."
    return ProviderResponseError(sentence, provider=provider.name)
