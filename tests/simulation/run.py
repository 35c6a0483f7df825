"""Runs schedules by seed."""

from __future__ import annotations

from simulation.promises import Promises
from simulation.world import BrokenPromiseError, World


def play(seed: int, *, trace: bool = False) -> None:
    """One schedule. Raises ``BrokenPromiseError`` if a promise was broken."""
    world = World(seed, trace=trace)
    promises = Promises(world)
    world.run()
    promises.at_rest()


def first_violation(seeds: range) -> tuple[int, AssertionError] | None:
    """The first seed that breaks a promise, and how. A move that the table does not have counts too."""
    for seed in seeds:
        try:
            play(seed)
        except (AssertionError, KeyError, ValueError) as violation:
            return seed, violation if isinstance(violation, AssertionError) else BrokenPromiseError(repr(violation))
    return None
