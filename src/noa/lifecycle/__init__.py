"""Pure decisions on the life of models: states, scheduling, eviction."""
