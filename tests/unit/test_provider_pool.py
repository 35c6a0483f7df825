"""Providers are closed when the last who uses them has gone, and not before."""

from __future__ import annotations

import pytest

from noa.provider_pool import ProviderPool
from noa.providers.fake import FakeProvider
from served import until


class Closable(FakeProvider):
    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.closings = 0

    async def aclose(self) -> None:
        self.closings += 1


async def test_one_that_was_replaced_is_closed_after_its_last_user() -> None:
    old, new = Closable("a"), Closable("a")
    pool = ProviderPool({"a": old})
    first, second = pool.take("a"), pool.take("a")
    pool.exchange({"a": new})
    assert pool["a"] is new
    with pool.lend("a") as lent:
        assert lent is new
    pool.give_back(first)
    assert old.closings == 0
    pool.give_back(second)
    await until(lambda: old.closings)
    await pool.aclose()
    assert (old.closings, new.closings) == (1, 1)


async def test_one_that_nobody_uses_is_closed_at_once_and_one_that_stays_never() -> None:
    gone, stays = Closable("a"), Closable("b")
    pool = ProviderPool({"a": gone, "b": stays})
    pool.exchange({"b": stays})
    await until(lambda: gone.closings)
    assert stays.closings == 0
    assert [*pool] == ["b"]
    with pytest.raises(KeyError):
        pool.take("a")


async def test_a_name_that_is_gone_gives_its_last_provider_as_long_as_somebody_uses_it() -> None:
    old = Closable("a")
    pool = ProviderPool({"a": old})
    user = pool.take("a")
    pool.exchange({})
    assert "a" not in pool
    with pool.lend("a") as lent:
        assert lent is old
    assert old.closings == 0
    pool.give_back(user)
    await until(lambda: old.closings)
    with pytest.raises(KeyError):
        pool.take("a")


async def test_closing_closes_those_in_use_as_well() -> None:
    old, new = Closable("a"), Closable("a")
    pool = ProviderPool({"a": old})
    pool.take("a")
    pool.exchange({"a": new})
    pool.take("a")
    await pool.aclose()
    assert (old.closings, new.closings) == (1, 1)
