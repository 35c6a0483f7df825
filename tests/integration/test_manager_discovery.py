"""Discovery goes on whatever one provider does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from managed import OWL, PARROT, birds, manager_over
from noa.discovery import Discovery, Found
from noa.errors import (
    AIProviderError,
    ModelUnavailableError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderTimeoutError,
    RateLimitError,
    ValidationError,
)
from noa.models import ModelStatus
from noa.provider_pool import ProviderPool
from noa.providers.fake import FakeModel, FakeProvider
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


class Discovered:
    """A registry, and what was told of every answer."""

    def __init__(self) -> None:
        self.registry = Registry(lambda _key: (ModelStatus.AVAILABLE, None), tuple)
        self.told: list[Found] = []
        self.news = asyncio.Event()

    def over(self, *providers: FakeProvider, **options: float) -> Discovery:
        return Discovery(ProviderPool({each.name: each for each in providers}), self.registry, self.take_in, **options)

    def take_in(self, found: Found) -> None:
        self.told.append(found)
        self.news.set()

    async def until_up(self, name: str) -> None:
        while not any(found.report.up and found.report.provider == name for found in self.told):
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 5)


class Slow(FakeProvider):
    """Answers once it may; counts how often it is asked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.began = asyncio.Event()
        self.may = asyncio.Event()
        self.asked = 0
        self.failure: AIProviderError | None = None

    async def list_models(self) -> Sequence[Offer]:
        self.asked += 1
        self.began.set()
        await self.may.wait()
        if self.failure is not None:
            raise self.failure
        return await super().list_models()


async def test_discovery_goes_on_without_providers_that_hang_or_are_broken(caplog: pytest.LogCaptureFixture) -> None:
    here = Discovered()
    discovery = here.over(
        Hanging(name="hanging"), Faulty(name="faulty"), birds(), timeout_s=0.02, health_timeout_s=0.03
    )
    with caplog.at_level("CRITICAL", "noa.discovery"):
        reports = {found.report.provider: found.report for found in await discovery.run()}
        health = await discovery.health()
    assert [reports[name].up for name in ("hanging", "faulty", "fake")] == [False, False, True]
    assert "within 0.02 s" in (reports["hanging"].error or "")
    assert "no such field" in (reports["faulty"].error or "")
    assert sorted(here.registry) == [OWL, PARROT, "fake:wren"]
    assert [health[name].up for name in ("hanging", "faulty", "fake")] == [False, False, True]
    assert "within 0.03 s" in (health["hanging"].error or "")
    await discovery.aclose()


async def test_a_start_does_not_wait_for_a_slow_provider_which_is_merged_when_it_answers() -> None:
    here, slow = Discovered(), Slow(name="slow")
    discovery = here.over(birds(), slow, start_patience_s=0.0)
    await discovery.start()
    assert [report.up for report in discovery.reports.values()] == [True, False]
    assert isinstance(discovery.failure("slow"), ProviderTimeoutError)
    slow.may.set()
    await here.until_up("slow")
    assert "slow:parrot" in here.registry
    assert discovery.failure("slow") is None
    await discovery.aclose()


async def test_a_start_waits_for_files_however_long_they_take() -> None:
    here, files = Discovered(), Slow(name="files")
    files.lists_files = True
    discovery = here.over(files, start_patience_s=0.0)
    starting = asyncio.ensure_future(discovery.start())
    await files.began.wait()
    assert not starting.done()
    files.may.set()
    await asyncio.wait_for(starting, 5)
    assert "files:parrot" in here.registry
    await discovery.aclose()


async def test_a_provider_that_is_down_is_asked_again_in_the_background_until_it_is_up() -> None:
    here, down = Discovered(), birds(name="down")
    down.up = False
    discovery = here.over(down, recheck_s=0.001)
    await discovery.start()
    while len(here.told) < 3:
        here.news.clear()
        await asyncio.wait_for(here.news.wait(), 5)
    assert not here.told[-1].report.up
    down.up = True
    await here.until_up("down")
    assert "down:parrot" in here.registry
    told = len(here.told)
    await asyncio.sleep(0.02)
    assert len(here.told) == told, "one that is up is left alone"
    await discovery.aclose()


async def test_nobody_is_asked_after_the_end() -> None:
    here, hanging = Discovered(), Slow(name="slow")
    discovery = here.over(hanging, start_patience_s=0.0, recheck_s=0.001)
    await discovery.start()
    await discovery.aclose()
    hanging.may.set()
    await asyncio.sleep(0.01)
    assert (here.told, hanging.asked) == ([], 1)


async def test_many_who_miss_a_model_ask_its_provider_once_and_no_other() -> None:
    here, slow, other = Discovered(), Slow(name="slow"), Slow(name="other")
    discovery = here.over(slow, other, look_interval_s=3600)
    looks = [asyncio.ensure_future(discovery.look_at("slow")) for _ in range(5)]
    await slow.began.wait()
    slow.may.set()
    await asyncio.gather(*looks)
    await discovery.look_at("slow")
    assert (slow.asked, other.asked) == (1, 0)
    other.may.set()
    await asyncio.gather(discovery.run(), discovery.run())
    assert (slow.asked, other.asked) == (2, 1)
    await discovery.aclose()


async def test_a_provider_that_asks_to_be_left_alone_is() -> None:
    here, limited = Discovered(), Slow(name="limited")
    limited.may.set()
    limited.failure = RateLimitError("limited asks to slow down.", provider="limited", retry_after_s=30)
    discovery = here.over(limited, look_interval_s=0, recheck_s=0.001)
    await discovery.start()
    await discovery.look_at("limited")
    await asyncio.sleep(0.01)
    assert limited.asked == 1
    await discovery.aclose()


@pytest.mark.parametrize(
    ("failure", "kind", "status"),
    [
        (ProviderAuthenticationError("refused its key"), ProviderAuthenticationError, 401),
        (RateLimitError("slow down", retry_after_s=7), RateLimitError, 429),
        (ProviderResponseError("a web page"), ProviderResponseError, 502),
        (ModelUnavailableError("cannot serve", retry_after_s=7), ProviderResponseError, 502),
        (ValidationError("refused the request"), ProviderResponseError, 502),
        (ProviderConnectionError("cannot be reached"), ProviderConnectionError, 503),
    ],
)
async def test_whoever_asks_for_a_model_learns_what_is_wrong_with_its_provider(
    failure: AIProviderError, kind: type[AIProviderError], status: int
) -> None:
    broken = Slow(name="broken")
    broken.may.set()
    broken.failure = failure
    async with manager_over(birds(), broken) as manager:
        with pytest.raises(kind, match=failure.message) as caught:
            await manager.chat("hi", model="broken:parrot")
        told = caught.value
        assert (type(told), told.status, told.provider) == (kind, status, "broken")
        assert told.retry_after_s == failure.retry_after_s
        with pytest.raises(kind) as again:
            await manager.chat("hi", model="broken:parrot")
        assert again.value is not told


async def test_a_model_of_a_provider_that_came_back_serves_without_a_discovery() -> None:
    down = birds(name="down")
    down.up = False
    async with manager_over(down) as manager:
        down.up = True
        assert (await manager.chat("hi", model="down:parrot")).model == "parrot"


async def test_a_model_that_a_provider_got_meanwhile_is_found_by_its_name() -> None:
    provider = birds()
    async with manager_over(provider) as manager:
        provider.models["lark"] = FakeModel(id="lark")
        assert (await manager.chat("hi", model="fake:lark")).model == "lark"


async def test_an_alias_of_a_model_whose_provider_was_down_at_start_serves_once_it_is_back(tmp_path: Path) -> None:
    provider = birds()
    async with manager_over(provider, path=tmp_path / "state.db") as manager:
        await manager.load_model(PARROT)
    down = birds()
    down.up = False
    async with manager_over(down, path=tmp_path / "state.db") as manager:
        with pytest.raises(ProviderConnectionError):
            await manager.chat("hi")
        down.up = True
        await manager.discover_models()
        assert (await manager.chat("hi")).model == "parrot"


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
