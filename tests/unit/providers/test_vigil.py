"""What backends let go of is noticed, and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection

import pytest

from noa.errors import ProviderConnectionError
from noa.providers import vigil as module
from noa.providers.vigil import Vigil
from served import until


class Backend:
    """Says what a test tells it to."""

    def __init__(self) -> None:
        self.answer: Collection[str] | Exception | None = ()
        self.asked = 0

    async def load(self, model_id: str, progress: Callable[[str], None]) -> None: ...

    async def unload(self, model_id: str) -> None: ...

    async def resident(self) -> Collection[str] | None:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
async def vigil(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Vigil]:
    monkeypatch.setattr(module, "INTERVAL_S", 0.001)
    vigil = Vigil()
    yield vigil
    await vigil.aclose()


async def rounds(backend: Backend, count: int = 3) -> None:
    """Return when it was asked so often again."""
    wanted = backend.asked + count
    await until(lambda: backend.asked >= wanted)


async def test_it_is_told_of_what_is_gone_until_that_is_taken_note_of(vigil: Vigil) -> None:
    backend = Backend()
    backend.answer = {"x", "y"}
    left: list[str] = []
    vigil.watch("b", backend, "x", lambda: left.append("x"))
    vigil.watch("b", backend, "y", lambda: left.append("y"))
    await rounds(backend)
    assert left == []
    backend.answer = {"x"}
    await until(lambda: len(left) > 1)
    assert set(left) == {"y"}
    vigil.leave("b", "y")
    left.clear()
    await rounds(backend)
    assert left == []


@pytest.mark.parametrize("answer", [None, ProviderConnectionError("down"), ValueError("odd")])
async def test_a_backend_that_says_nothing_has_let_go_of_nothing(
    vigil: Vigil, answer: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Backend()
    backend.answer = answer
    left: list[str] = []
    vigil.watch("b", backend, "x", lambda: left.append("x"))
    await rounds(backend)
    assert left == []
    backend.answer = ()
    await until(lambda: left)
    assert ("failed unexpectedly" in caplog.text) is isinstance(answer, ValueError)


async def test_nobody_is_asked_when_there_is_nothing_to_look_after(vigil: Vigil) -> None:
    backend = Backend()
    backend.answer = {"x"}
    vigil.watch("b", backend, "x", lambda: None)
    await rounds(backend)
    vigil.leave("b", "x")
    await until(lambda: not vigil._tasks)
    vigil.watch("b", backend, "x", lambda: None)
    await rounds(backend)
