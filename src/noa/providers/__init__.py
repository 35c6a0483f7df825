"""Sources of models: what they have, whether they are well, and inference."""
