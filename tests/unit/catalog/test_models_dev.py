"""What is read from models.dev, and what is not believed."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from models_dev_document import document, encoded, model
from noa.catalog.models_dev import read_document
from noa.catalog.snapshot import Rates, Row, Snapshot
from noa.errors import ValidationError
from noa.models import ModelCapability

TODAY = date(2026, 11, 23)


def read(**providers: list[dict[str, Any]]) -> Snapshot:
    return read_document(encoded(document(**providers)), as_of=TODAY)


def row(**fields: Any) -> Row:
    return read(openai=[model("gpt", **fields)]).services["openai"].models["gpt"]


def test_a_model_is_read_with_its_windows_and_prices() -> None:
    found = row(reasoning=True, structured_output=True)
    assert (found.name, found.context, found.output, found.reasoning) == ("GPT", 128_000, 16_384, True)
    assert found.price is not None
    assert (found.price.input, found.price.output, found.price.cache_read) == (2.5, 10, 1.25)
    assert set(found.can) == {
        ModelCapability.TEXT_GENERATION,
        ModelCapability.CHAT_COMPLETION,
        ModelCapability.FUNCTION_CALLING,
        ModelCapability.VISION,
        ModelCapability.JSON_MODE,
    }


def test_what_is_denied_is_told_apart_from_what_is_not_said() -> None:
    found = row(tool_call=False, modalities={"input": ["text"], "output": ["text"]})
    assert set(found.lacks) == {ModelCapability.FUNCTION_CALLING, ModelCapability.VISION}
    assert ModelCapability.JSON_MODE not in (*found.can, *found.lacks)


def test_a_model_that_embeds_does_nothing_else() -> None:
    found = row(family="text-embedding", cost={"input": 0.02, "output": 0})
    assert found.can == (ModelCapability.EMBEDDINGS,)
    assert found.output is None, "the length of a vector is no limit of an answer"
    assert found.price is not None
    assert (found.price.input, found.price.output) == (0.02, 0)


def test_a_model_that_makes_pictures_does_not_chat() -> None:
    found = row(modalities={"input": ["text"], "output": ["image"]})
    assert (found.can, found.lacks) == ((), (ModelCapability.CHAT_COMPLETION,))


def test_tiers_are_read_in_order() -> None:
    dear = {"input": 5, "output": 20, "tier": {"size": 200_000}}
    dearer = {"input": 10, "output": 40, "tier": {"type": "context", "size": 400_000}}
    by_the_hour = {"input": 1, "output": 1, "tier": {"type": "night", "size": 1}}
    found = row(cost={"input": 2.5, "output": 10, "tiers": [dearer, dear, by_the_hour]})
    assert found.price is not None
    assert found.price.tiers == (
        Rates(above=200_000, input=5, output=20),
        Rates(above=400_000, input=10, output=40),
    )


@pytest.mark.parametrize(
    ("model_id", "free"), [("llama", False), ("llama:free", True), ("llama-free", True), ("openrouter/free", True)]
)
def test_a_price_of_nothing_is_believed_only_of_what_is_called_free(model_id: str, free: bool) -> None:
    found = read(openrouter=[model(model_id, cost={"input": 0, "output": 0})]).services["openrouter"].models[model_id]
    assert (found.price is not None) is free


def test_a_model_without_a_price_has_none() -> None:
    entry = model("gpt")
    del entry["cost"]
    assert read(openai=[entry]).services["openai"].models["gpt"].price is None
    assert row(limit={"context": 0, "output": 0}).context is None


def test_plans_paid_by_the_month_are_left_out() -> None:
    found = read(zai_coding_plan=[model("glm")], xiaomi_token_plan_cn=[model("mimo")], zai=[model("glm")])
    assert [*found.services] == ["zai"]


@pytest.mark.parametrize("content", [b"", b"[]", b"<html>", b'{"openai": {}}', b'{"openai": {"id": 1, "models": {}}}'])
def test_what_is_no_such_document_is_refused(content: bytes) -> None:
    with pytest.raises(ValidationError, match=r"models\.dev"):
        read_document(content, as_of=TODAY)
