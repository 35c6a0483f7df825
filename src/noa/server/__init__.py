"""The HTTP face: management API, OpenAI's and Anthropic's dialects, metrics."""
