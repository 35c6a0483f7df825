"""Noa manages AI models, local and remote, as one fleet."""
