"""What was measured, and how it is summed up."""
