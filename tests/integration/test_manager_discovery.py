"""Discovery goes on whatever one provider does."""

from __future__ import annotations

import asyncio

import pytest

from managed import OWL, PARROT, birds, manager_over
from noa.discovery import Discovery
from noa.errors import (
    ProviderConnectionError,
)
from noa.models import ModelStatus
from noa.providers.fake import FakeProvider
from noa.providers.protocol import Health, Offer
from noa.registry import Registry


async def test_a_provider_that_is_down_delays_nobody_and_is_blamed_by_name() -> None:
    down = birds(name="down")
    down.up = False
    async with manager_over(birds(), down) as manager:
        reports = {report.provider: report for report in await manager.discover_models()}
        assert reports["fake"].up
        assert not reports["down"].up
        assert (await manager.chat("hi", model=PARROT)).model == "parrot"
        with pytest.raises(ProviderConnectionError, match="cannot be reached"):
            await manager.chat("hi", model="down:parrot")
        down.up = True
        await manager.discover_models()
        assert (await manager.chat("hi", model="down:parrot")).model == "parrot"


class Hanging(FakeProvider):
    async def list_models(self) -> list[Offer]:
        await asyncio.Event().wait()
        raise AssertionError

    async def health(self) -> Health:
        await asyncio.Event().wait()
        raise AssertionError


class Faulty(FakeProvider):
    async def list_models(self) -> list[Offer]:
        raise KeyError("no such field")

    async def health(self) -> Health:
        raise KeyError("no such field")


async def test_discovery_goes_on_without_providers_that_hang_or_are_broken(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(lambda _key: (ModelStatus.AVAILABLE, None))
    providers = {each.name: each for each in (Hanging(name="hanging"), Faulty(name="faulty"), birds())}
    discovery = Discovery(providers, registry, timeout_s=0.02)
    with caplog.at_level("CRITICAL", "noa.discovery"):
        reports = {found.report.provider: found.report for found in await discovery.run()}
        health = await discovery.health()
    assert [reports[name].up for name in ("hanging", "faulty", "fake")] == [False, False, True]
    assert "within 0.02 s" in (reports["hanging"].error or "")
    assert "no such field" in (reports["faulty"].error or "")
    assert sorted(registry) == [OWL, PARROT, "fake:wren"]
    assert [health[name].up for name in ("hanging", "faulty", "fake")] == [False, False, True]


async def test_a_model_that_its_provider_lists_no_longer_serves_on_while_it_is_loaded() -> None:
    provider = birds()
    async with manager_over(provider) as manager:
        await manager.load_model(PARROT)
        async with manager.use("current") as model:
            del provider.models["owl"]
            kept = provider.models.pop("parrot")
            await manager.discover_models()
            assert PARROT not in manager.registry
            assert [each.key for each in manager.loaded_models] == [PARROT]
            provider.models["parrot"] = kept
            assert (await model.chat("hi")).model == "parrot"
            assert (await manager.chat("hi")).model == "parrot"
