"""Rows for known services: what they are called, where they answer, which variables hold their keys, what is odd there.

A row is all that an OpenAI-compatible service needs. A service appears among the providers as soon as its key is set, a
server of one's own as soon as its address is. ``python -m noa.presets`` writes the table of ``docs/providers.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

#: The wire format a service speaks; the values are those of ``noa.providers.protocol.Dialect``.
DialectName = Literal["openai", "anthropic"]
#: When the rows were last compared with what is said of the services; ``docs/providers.md`` says with what.
CHECKED: Final = "2026-11-23"


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service differs from OpenAI's dialect as most speak it.

    ``key_header`` carries the key, as a bearer token if it is ``authorization``. ``max_tokens_field`` is what a
    translated request calls its limit; ``knows_completion_tokens`` is false where a caller's own
    ``max_completion_tokens`` has to be renamed, because the service refuses or overlooks it. ``reasoning_field`` takes
    earlier reasoning back (``None``: the service refuses it). ``takes_stream_options`` is false where they are
    refused; such services count tokens unasked.

    ``listing`` is the path of the list of models after the base URL, or beside it (``../catalog/models``), and ``None``
    where there is none: then they are ``models`` and those of the configuration. ``lists_usable`` is false where the
    list has what could be deployed (Azure), so that the configuration alone says what is. ``id_prefix`` stands before
    listed ids and is not needed. ``headers`` are sent with every request.
    """

    key_header: Literal["authorization", "api-key"] = "authorization"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    knows_completion_tokens: bool = True
    reasoning_field: str | None = "reasoning_content"
    takes_stream_options: bool = True
    listing: str | None = "/models"
    lists_usable: bool = True
    id_prefix: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()


class ProviderPreset(msgspec.Struct, frozen=True, kw_only=True):
    """One known service.

    ``name`` is the left half of its models' keys. ``type`` says which provider class serves it. ``base_url`` is what
    stands before the dialect's paths (``/chat/completions``, ``/v1/messages``), ``None`` where there is no usual one.
    ``path`` completes an address of a user's that has no path of its own. ``key_variables`` and ``base_url_variables``
    are the bare environment variables, the first found wins. ``variable_stems`` are the middles of the prefixed ones:
    ``OPENAI`` in ``AI_OPENAI_API_KEY``. ``needs_key`` is false for a service that works as it stands,
    ``needs_address`` true for one that cannot be reached before its address is set. ``source`` is where the service
    itself documents this.
    """

    name: str
    display_name: str
    type: str = "openai"
    dialect: DialectName = "openai"
    base_url: str | None = None
    path: str = ""
    key_variables: tuple[str, ...] = ()
    base_url_variables: tuple[str, ...] = ()
    variable_stems: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    needs_key: bool = True
    needs_address: bool = False
    habits: Habits = Habits()
    source: str = ""


def _hosted(name: str, display_name: str, base_url: str, source: str, **more: Any) -> ProviderPreset:
    """A service that speaks OpenAI's dialect and, unless told otherwise, has its key in ``<NAME>_API_KEY``."""
    stem = more.pop("stem", name.upper())
    return ProviderPreset(
        name=name,
        display_name=display_name,
        base_url=base_url,
        source=source,
        key_variables=more.pop("key", (f"{stem}_API_KEY",)),
        base_url_variables=(f"{stem}_BASE_URL", f"{stem}_API_BASE"),
        variable_stems=(stem,),
        **more,
    )


def _local(name: str, display_name: str, stem: str, source: str, **more: Any) -> ProviderPreset:
    """A server of the user's that speaks OpenAI's dialect under ``/v1``, and asks for a key only if it was told to."""
    return ProviderPreset(
        name=name,
        display_name=display_name,
        path="/v1",
        source=source,
        key_variables=(f"{stem}_API_KEY", *more.pop("keys", ())),
        base_url_variables=(f"{stem}_BASE_URL", f"{stem}_API_BASE", *more.pop("addresses", ())),
        variable_stems=(stem,),
        needs_key=False,
        needs_address=True,
        **more,
    )


_OWN = (
    ProviderPreset(
        name="openai",
        display_name="OpenAI",
        base_url="https://api.openai.com/v1",
        key_variables=("OPENAI_API_KEY",),
        base_url_variables=("OPENAI_BASE_URL",),
        variable_stems=("OPENAI",),
        habits=Habits(max_tokens_field="max_completion_tokens", reasoning_field=None),
        source="https://platform.openai.com/docs/api-reference",
    ),
    ProviderPreset(
        name="claude",
        display_name="Claude",
        type="claude",
        dialect="anthropic",
        base_url="https://api.anthropic.com",
        key_variables=("ANTHROPIC_API_KEY", "CLAUDE_API_KEY"),
        base_url_variables=("ANTHROPIC_BASE_URL",),
        variable_stems=("CLAUDE", "ANTHROPIC"),
        aliases=("anthropic",),
        source="https://docs.anthropic.com/en/api",
    ),
    ProviderPreset(
        name="llama.cpp",
        display_name="llama.cpp",
        type="llama.cpp",
        base_url_variables=("LLAMA_CPP_BASE_URL",),
        variable_stems=("LLAMA_CPP",),
        aliases=("llamacpp", "llama-cpp", "llama_cpp"),
        needs_key=False,
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    ),
    ProviderPreset(
        name="ollama",
        display_name="Ollama",
        type="ollama",
        base_url="http://127.0.0.1:11434",
        base_url_variables=("OLLAMA_HOST",),
        variable_stems=("OLLAMA",),
        needs_key=False,
        habits=Habits(reasoning_field="reasoning"),
        source="https://docs.ollama.com/api",
    ),
)

_HOSTED = (
    _hosted(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        "https://console.groq.com/docs/openai",
        habits=Habits(max_tokens_field="max_completion_tokens", reasoning_field="reasoning"),
    ),
    _hosted(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        "https://docs.mistral.ai/api",
        habits=Habits(knows_completion_tokens=False, reasoning_field=None, takes_stream_options=False),
    ),
    _hosted(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com",
        "https://api-docs.deepseek.com",
        habits=Habits(knows_completion_tokens=False),
    ),
    _hosted(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "https://openrouter.ai/docs/api-reference/overview",
        habits=Habits(reasoning_field="reasoning"),
    ),
    _hosted(
        "together",
        "Together AI",
        "https://api.together.xyz/v1",
        "https://docs.together.ai/docs/openai-api-compatibility",
    ),
    _hosted(
        "fireworks",
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
    ),
    _hosted("xai", "xAI", "https://api.x.ai/v1", "https://docs.x.ai/docs/api-reference"),
    _hosted(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "https://inference-docs.cerebras.ai/resources/openai",
        habits=Habits(max_tokens_field="max_completion_tokens", reasoning_field="reasoning"),
    ),
    _hosted(
        "gemini",
        "Google Gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "https://ai.google.dev/gemini-api/docs/openai",
        key=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        habits=Habits(reasoning_field=None, id_prefix="models/"),
    ),
    _hosted(
        "perplexity",
        "Perplexity",
        "https://api.perplexity.ai",
        "https://docs.perplexity.ai/guides/chat-completions-guide",
        habits=Habits(
            knows_completion_tokens=False,
            reasoning_field=None,
            takes_stream_options=False,
            listing=None,
            models=("sonar", "sonar-pro", "sonar-reasoning-pro", "sonar-deep-research"),
        ),
    ),
    _hosted(
        "nvidia",
        "NVIDIA NIM",
        "https://integrate.api.nvidia.com/v1",
        "https://docs.api.nvidia.com/nim/reference/llm-apis",
    ),
    _hosted("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", "https://deepinfra.com/docs/openai_api"),
    _hosted("sambanova", "SambaNova", "https://api.sambanova.ai/v1", "https://docs.sambanova.ai"),
    _hosted(
        "moonshot",
        "Moonshot AI",
        "https://api.moonshot.ai/v1",
        "https://platform.moonshot.ai/docs/api/chat",
    ),
    _hosted(
        "zai",
        "Z.ai",
        "https://api.z.ai/api/paas/v4",
        "https://docs.z.ai/guides/develop/http/introduction",
        key=("ZAI_API_KEY", "ZHIPU_API_KEY"),
        aliases=("z.ai", "zhipu"),
        habits=Habits(knows_completion_tokens=False),
    ),
    _hosted(
        "cohere",
        "Cohere",
        "https://api.cohere.ai/compatibility/v1",
        "https://docs.cohere.com/docs/compatibility-api",
        key=("COHERE_API_KEY", "CO_API_KEY"),
        habits=Habits(reasoning_field=None, listing="../../v1/models?page_size=1000"),
    ),
    _hosted(
        "minimax",
        "MiniMax",
        "https://api.minimax.io/v1",
        "https://platform.minimax.io/docs/api-reference/text-openai-api",
        habits=Habits(listing=None, models=("MiniMax-M3", "MiniMax-M2.7", "MiniMax-M2.5", "MiniMax-M2.1")),
    ),
    _hosted(
        "alibaba",
        "Alibaba Model Studio",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope",
        stem="DASHSCOPE",
        aliases=("dashscope",),
    ),
    _hosted(
        "siliconflow", "SiliconFlow", "https://api.siliconflow.com/v1", "https://docs.siliconflow.com/en/api-reference"
    ),
    _hosted(
        "nebius",
        "Nebius Token Factory",
        "https://api.tokenfactory.nebius.com/v1",
        "https://docs.tokenfactory.nebius.com",
    ),
    _hosted("novita", "Novita AI", "https://api.novita.ai/openai", "https://novita.ai/docs/guides/llm-api"),
    _hosted(
        "baseten", "Baseten", "https://inference.baseten.co/v1", "https://docs.baseten.co/inference/model-apis/overview"
    ),
    _hosted("scaleway", "Scaleway", "https://api.scaleway.ai/v1", "https://www.scaleway.com/en/docs/generative-apis"),
    _hosted(
        "vercel",
        "Vercel AI Gateway",
        "https://ai-gateway.vercel.sh/v1",
        "https://vercel.com/docs/ai-gateway/sdks-and-apis/openai-chat-completions",
        stem="VERCEL",
        key=("AI_GATEWAY_API_KEY",),
    ),
    _hosted(
        "huggingface",
        "Hugging Face",
        "https://router.huggingface.co/v1",
        "https://huggingface.co/docs/inference-providers",
        key=("HF_TOKEN",),
        habits=Habits(reasoning_field=None),
    ),
    _hosted(
        "github",
        "GitHub Models",
        "https://models.github.ai/inference",
        "https://docs.github.com/en/rest/models",
        stem="GITHUB_MODELS",
        key=("GITHUB_MODELS_TOKEN",),
        aliases=("github-models", "github_models"),
        habits=Habits(
            knows_completion_tokens=False,
            reasoning_field=None,
            listing="../catalog/models",
            headers=(("x-github-api-version", "2022-11-28"),),
        ),
    ),
    _hosted(
        "ollama-cloud",
        "Ollama's cloud",
        "https://ollama.com/v1",
        "https://docs.ollama.com/cloud",
        stem="OLLAMA_CLOUD",
        key=("OLLAMA_API_KEY",),
        habits=Habits(reasoning_field="reasoning"),
    ),
)

_AT_AN_ADDRESS = (
    ProviderPreset(
        name="azure",
        display_name="Azure OpenAI (v1)",
        path="/openai/v1",
        key_variables=("AZURE_OPENAI_API_KEY",),
        base_url_variables=("AZURE_OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT"),
        variable_stems=("AZURE_OPENAI",),
        aliases=("azure-openai", "azure_openai"),
        needs_address=True,
        habits=Habits(
            key_header="api-key",
            max_tokens_field="max_completion_tokens",
            reasoning_field=None,
            lists_usable=False,
        ),
        source="https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
    ),
    _local("vllm", "vLLM", "VLLM", "https://docs.vllm.ai/en/latest/serving/openai_compatible_server"),
    _local("sglang", "SGLang", "SGLANG", "https://docs.sglang.ai/basic_usage/openai_api.html"),
    _local(
        "lmstudio",
        "LM Studio",
        "LM_STUDIO",
        "https://lmstudio.ai/docs/developer/openai-compat",
        keys=("LMSTUDIO_API_KEY", "LM_API_TOKEN"),
        addresses=("LMSTUDIO_BASE_URL",),
        aliases=("lm-studio", "lm_studio"),
    ),
)

#: Every known service, in the order in which a default is looked for.
PRESETS: tuple[ProviderPreset, ...] = (*_OWN, *_HOSTED, *_AT_AN_ADDRESS)

#: The same by canonical name.
KNOWN_PROVIDERS: Mapping[str, ProviderPreset] = MappingProxyType({preset.name: preset for preset in PRESETS})

_CANONICAL = {name: preset.name for preset in PRESETS for name in (preset.name, *preset.aliases)}


def canonical_provider(name: str) -> str | None:
    """The canonical name of a known provider (``anthropic`` → ``claude``; case does not matter), or ``None``."""
    return _CANONICAL.get(name.lower())


def find_preset(type_: str, name: str) -> ProviderPreset | None:
    """The row that describes a configured provider: its name's, if the type agrees, else its type's."""
    by_type = KNOWN_PROVIDERS.get(canonical_provider(type_) or "")
    by_name = KNOWN_PROVIDERS.get(canonical_provider(name) or "")
    if by_type is not None and by_name is not None and by_name.type == by_type.type:
        return by_name
    return by_type


def table() -> str:
    """The rows as Markdown, for ``docs/providers.md``."""
    lines = ["| Provider | Key | Address | What is particular |", "|---|---|---|---|"]
    for preset in PRESETS:
        name = f"[{preset.display_name}]({preset.source}): `{preset.name}`"
        keys = _either(preset.key_variables) or "none"
        default = f"`{preset.base_url}`" if preset.base_url else ""
        address = "<br>".join(filter(None, (default, _either(preset.base_url_variables))))
        lines.append(f"| {name} | {keys} | {address} | {'; '.join(_particulars(preset))} |")
    return "\n".join(lines)


def _either(variables: tuple[str, ...]) -> str:
    return ", ".join(f"`{variable}`" for variable in variables)


def _particulars(preset: ProviderPreset) -> list[str]:
    habits, said = preset.habits, []
    if habits.key_header != "authorization":
        said.append(f"the key in `{habits.key_header}`")
    if habits.max_tokens_field != "max_tokens":
        said.append(f"`{habits.max_tokens_field}` for `max_tokens`")
    if not habits.knows_completion_tokens:
        said.append("`max_tokens` for `max_completion_tokens`")
    if not habits.takes_stream_options:
        said.append("no `stream_options`")
    if habits.listing is None:
        said.append("models: " + ", ".join(f"`{model}`" for model in habits.models))
    elif habits.listing != "/models":
        said.append(f"models at `{habits.listing.partition('?')[0]}`")
    if not habits.lists_usable:
        said.append("you name the deployments")
    if habits.id_prefix:
        said.append(f"ids without `{habits.id_prefix}`")
    if preset.dialect != "openai":
        said.append(f"speaks the dialect of {preset.dialect.title()}")
    return said


if __name__ == "__main__":
    print(table())  # noqa: T201 - what it is run for
