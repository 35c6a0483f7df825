"""Random schedules keep every promise, and the promises find the bugs that are planted."""

from __future__ import annotations

import pytest

from simulation.planted import PLANTED
from simulation.run import first_violation

SCHEDULES = 2_000
#: A bug that no schedule out of so many meets is one that the simulation is blind to.
ENOUGH = 1_500


def test_every_promise_holds_in_random_schedules() -> None:
    found = first_violation(range(SCHEDULES))
    assert found is None, f"python -m simulation --seed {found[0]}: {found[1]}"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    with PLANTED[name]():
        assert first_violation(range(ENOUGH)) is not None
