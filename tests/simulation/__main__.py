"""``python -m simulation --seeds 20000``, or ``--seed 17`` to see one schedule step by step."""

from __future__ import annotations

import argparse
import sys

from simulation.run import first_violation, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first of them")
    parser.add_argument("--seed", type=int, help="run this one alone, and show every step")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        play(arguments.seed, trace=True)
        return 0
    found = first_violation(range(arguments.first, arguments.first + arguments.seeds))
    if found is None:
        print(f"{arguments.seeds} schedules, and every promise was kept.")
        return 0
    print(f"seed {found[0]}: {found[1]}\nSee it with: python -m simulation --seed {found[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
