"""A document such as models.dev publishes, small or as large as a test asks."""

from __future__ import annotations

from typing import Any

import msgspec


def model(model_id: str, **fields: Any) -> dict[str, Any]:
    """One model, chatty and priced unless ``fields`` say otherwise."""
    return {
        "id": model_id,
        "name": model_id.upper(),
        "reasoning": False,
        "tool_call": True,
        "modalities": {"input": ["text", "image"], "output": ["text"]},
        "limit": {"context": 128_000, "output": 16_384},
        "cost": {"input": 2.5, "output": 10, "cache_read": 1.25},
        **fields,
    }


def document(**providers: list[dict[str, Any]]) -> dict[str, Any]:
    """Providers with their models; names in ``providers`` have underscores for hyphens."""
    named = {name.replace("_", "-"): models for name, models in providers.items()}
    return {name: {"id": name, "models": {each["id"]: each for each in models}} for name, models in named.items()}


def many(count: int, factor: float = 1.0) -> list[dict[str, Any]]:
    """Models ``m0`` to ``m<count>``, with prices times a factor."""
    return [model(f"m{number}", cost={"input": 1.0 * factor, "output": 4.0 * factor}) for number in range(count)]


def encoded(content: dict[str, Any]) -> bytes:
    """As it comes over the wire."""
    return msgspec.json.encode(content)
