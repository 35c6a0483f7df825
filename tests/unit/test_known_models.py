"""What ``noa.yaml`` says of single models."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from configured import configure, refusal
from noa.config import json_schema
from noa.models import ModelCapability, Price, PriceSource, PriceTier

WHOLE = """\
models:
  maxLoaded: 3
  "openai:gpt-4o":
    price:
      input: 2.5
      output: 10
      cacheRead: 1.25
      asOf: 2026-11-01
      tiers:
        - above: 200000
          input: 5
    contextWindow: 64000
    maxTokens: 4096
    capabilities: [chat_completion, vision]
  "anthropic:claude-x":
    price: {input: 0, output: 0}
  "llama.cpp:some/model.q4":
"""


def test_prices_and_facts_of_models_stand_beside_the_settings_for_all(tmp_path: Path) -> None:
    configuration = configure(tmp_path, WHOLE)
    assert configuration.max_loaded_models == 3
    assert [*configuration.known_models] == ["openai:gpt-4o", "claude:claude-x", "llama.cpp:some/model.q4"]
    known = configuration.known_models["openai:gpt-4o"]
    assert known.price == Price(
        input=2.5,
        output=10,
        cache_read=1.25,
        tiers=(PriceTier(above=200_000, input=5),),
        source=PriceSource.CONFIGURED,
        as_of=date(2026, 11, 1),
    )
    assert (known.context_window, known.max_tokens) == (64_000, 4_096)
    assert known.capabilities == (ModelCapability.CHAT_COMPLETION, ModelCapability.VISION)
    free = configuration.known_models["claude:claude-x"]
    assert free.price is not None
    assert free.price.is_free
    assert free.capabilities is None, "what is not said is left to others"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("price: {inpt: 1}", "noa.yaml:4: unknown field “inpt”; did you mean “input”?"),
        ("price: {input: cheap}", "noa.yaml:4: “input” must be a number of at least 0"),
        ("price: {input: -1}", "noa.yaml:4: “input” must be a number of at least 0"),
        ("price: {tiers: [{input: 1}]}", "noa.yaml:4: entry 1 of “tiers” needs the field “above”"),
        ("price: 3", "noa.yaml:4: “price” must be a group of fields"),
        ("contextwindow: 3", "noa.yaml:4: unknown field “contextwindow”; did you mean “contextWindow”?"),
        ("maxTokens: 0", "noa.yaml:4: “maxTokens” must be a whole number of at least 1"),
        ("capabilities: [visoin]", "noa.yaml:4: entry 1 of “capabilities” “visoin” is none of"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_a_suggestion(tmp_path: Path, lines: str, message: str) -> None:
    text = f'models:\n  maxLoaded: 2\n  "llama.cpp:a.b":\n    {lines}\n'
    assert refusal(tmp_path, text).startswith(message)


def test_a_name_without_a_provider_is_no_model(tmp_path: Path) -> None:
    assert "unknown field “gpt-4o”" in refusal(tmp_path, "models:\n  gpt-4o: {}\n")


def test_the_published_schema_has_them() -> None:
    schema = json_schema()
    assert b"patternProperties" in schema
    assert b"cacheRead" in schema
