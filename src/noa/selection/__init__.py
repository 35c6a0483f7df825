"""Pure decisions on which model may serve, which should, and why."""
