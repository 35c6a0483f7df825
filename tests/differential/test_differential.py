"""Whoever asks through Noa gets what the engine behind it would have answered, but for what is listed as different."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from differential.cases import Case, cases
from differential.differences import expected
from differential.pair import Engine, Pair, both
from machine import Machine, Server

pytestmark = pytest.mark.engine

PARAMETERS = [pytest.param(case, id=case.name, marks=() if case.core else (pytest.mark.nightly,)) for case in cases()]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, demo_model: Path) -> Iterator[tuple[Engine, Server]]:
    with both(Machine.at(tmp_path_factory.mktemp("differential")), demo_model) as pair:
        yield pair


@pytest.fixture
async def pair(started: tuple[Engine, Server]) -> AsyncIterator[Pair]:
    async with Pair(*started) as pair:
        yield pair


@pytest.mark.parametrize("case", PARAMETERS)
async def test_noa_answers_as_the_engine_does(pair: Pair, case: Case) -> None:
    bare, noa = await pair.ask(case)
    assert noa == expected(case, bare)
