"""The rows of known services hold together."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from noa.models import ProviderType
from noa.presets import CHECKED, KNOWN_PROVIDERS, PRESETS, canonical_provider, table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        ("anthropic", "claude"),
        ("claude", "claude"),
        ("llamacpp", "llama.cpp"),
        (ProviderType.LLAMA_CPP, "llama.cpp"),
        ("groq", "groq"),
        ("gpt-4", None),
        ("", None),
    ],
)
def test_a_provider_is_known_by_its_names(given: str, canonical: str | None) -> None:
    assert canonical_provider(given) == canonical


def test_the_built_in_providers_have_rows() -> None:
    assert set(ProviderType) <= set(KNOWN_PROVIDERS)


def test_no_two_rows_share_a_name_or_a_variable() -> None:
    names = [name for preset in PRESETS for name in (preset.name, *preset.aliases)]
    variables = [v for preset in PRESETS for v in (*preset.key_variables, *preset.base_url_variables)]
    assert len(names) == len(set(names))
    assert len(variables) == len(set(variables))


def test_keys_travel_encrypted_to_every_known_address() -> None:
    for preset in PRESETS:
        if preset.base_url is not None:
            address = urlsplit(preset.base_url)
            assert address.scheme == "https" or address.hostname == "127.0.0.1"
            assert not preset.base_url.endswith("/")


def test_what_is_unknown_to_a_key_separator_stays_out_of_names() -> None:
    for preset in PRESETS:
        assert ":" not in preset.name
        assert "/" not in preset.name


def test_every_row_says_where_the_service_documents_it() -> None:
    assert [preset.name for preset in PRESETS if not preset.source.startswith("https://")] == []


def test_the_documented_table_is_written_from_the_rows() -> None:
    """If this fails, put what ``python -m noa.presets`` writes into the page."""
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    assert table() in page
    assert CHECKED in page
