"""A deterministic world around the scheduler. ``python -m simulation --seeds 20000`` from the tests' folder."""
