"""Where providers are found: Ollama by what it calls its host, servers and resources by what people know of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from configured import configure, refusal
from noa.config import ProviderConfig


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("box.lan", "http://box.lan:11434"),
        ("box.lan:80", "http://box.lan:80"),
        ("http://box.lan", "http://box.lan"),
        ("https://box.lan/ollama/", "https://box.lan/ollama"),
        ("http://0.0.0.0:1/v1", "http://127.0.0.1:1"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("::", "http://[::1]:11434"),
        ("ollama.com", "https://ollama.com"),
    ],
)
def test_an_ollama_is_found_by_what_it_calls_its_host(tmp_path: Path, given: str, meant: str) -> None:
    ollama = configure(tmp_path, OLLAMA_HOST=given).provider_config("ollama")
    assert ollama is not None
    assert (ollama.type, ollama.base_url, ollama.is_set_up) == ("ollama", meant, True)


@pytest.mark.parametrize("given", ["box:port", "http://me:secret@box", "ftp://box", "a b"])
def test_an_ollama_host_that_is_none_is_refused_by_its_name(tmp_path: Path, given: str) -> None:
    message = refusal(tmp_path, OLLAMA_HOST=given)
    assert message.startswith("OLLAMA_HOST must be a URL")
    assert "secret" not in message


def test_nobody_looks_for_an_ollama_unasked(tmp_path: Path) -> None:
    assert configure(tmp_path).provider_config("ollama") is None
    assert configure(tmp_path, "providers: [{type: ollama}]\n").provider_config("ollama") == ProviderConfig(
        type="ollama", base_url="http://127.0.0.1:11434"
    )


def test_an_address_without_a_path_gets_the_services_own(tmp_path: Path) -> None:
    configuration = configure(
        tmp_path,
        AZURE_OPENAI_ENDPOINT="https://mine.openai.azure.com/",
        AZURE_OPENAI_API_KEY="k",
        NOA_AZURE_OPENAI_MODELS="gpt-4o, embed",
        VLLM_BASE_URL="http://gpu:8000",
        SGLANG_BASE_URL="http://gpu:30000/v1",
        OPENAI_BASE_URL="http://gpu:9000",
    )
    addresses = {provider.name: provider.base_url for provider in configuration.providers}
    assert addresses == {
        "openai": "http://gpu:9000",
        "azure": "https://mine.openai.azure.com/openai/v1",
        "vllm": "http://gpu:8000/v1",
        "sglang": "http://gpu:30000/v1",
        "llama.cpp": None,
    }
    azure = configuration.provider_config("azure-openai")
    assert azure is not None
    assert azure.models == ("gpt-4o", "embed")


def test_a_second_one_of_a_known_service_keeps_its_habits(tmp_path: Path) -> None:
    file = "providers:\n  - {type: azure, name: azure-eu, baseURL: 'https://eu.openai.azure.com', apiKey: k}\n"
    second = configure(tmp_path, file).provider_config("azure-eu")
    assert second is not None
    assert (second.base_url, second.habits.key_header) == ("https://eu.openai.azure.com/openai/v1", "api-key")
    assert msgspec.structs.replace(second, timeout_s=1).habits == second.habits


def test_a_servers_own_key_alone_does_not_set_it_up(tmp_path: Path) -> None:
    vllm = configure(tmp_path, VLLM_API_KEY="k").provider_config("vllm")
    assert vllm is not None
    assert not vllm.is_set_up
