"""The configuration files in ``examples/clients``, in the forms that their programs document.

Facts only, as of November 2026, and no field more than the examples may use: whoever adds another looks it up first.
Where a form comes from stands with it. What is read here says where a client calls, with which key, for which models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from dotenv import dotenv_values

FOLDER = Path(__file__).parents[1] / "examples" / "clients"
#: Where the examples say that Noa is.
ADDRESS = "http://localhost:3001"


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """What a file tells its program: a base address, a key, and the names of models."""

    base_url: str
    key: str
    models: tuple[str, ...]


class ClaudeEnvironment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Claude Code's variables (code.claude.com/docs: settings, env-vars, llm-gateway-protocol); all of them text."""

    ANTHROPIC_BASE_URL: str
    ANTHROPIC_AUTH_TOKEN: str
    ANTHROPIC_API_KEY: str
    ANTHROPIC_MODEL: str
    ANTHROPIC_DEFAULT_OPUS_MODEL: str
    ANTHROPIC_DEFAULT_SONNET_MODEL: str
    ANTHROPIC_DEFAULT_HAIKU_MODEL: str
    CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY: Literal["0", "1"]
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: Literal["0", "1"]


class ClaudeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``settings.json`` of Claude Code."""

    schema: str = msgspec.field(name="$schema")
    env: ClaudeEnvironment


class ContinueOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``completionOptionsSchema`` of Continue."""

    contextLength: int  # noqa: N815 - Continue's spelling, as below
    maxTokens: int  # noqa: N815


class ContinueModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``modelSchema`` of Continue (continuedev/continue: packages/config-yaml/src/schemas/models.ts)."""

    name: str
    provider: Literal["openai"]
    model: str
    apiBase: str  # noqa: N815
    apiKey: str  # noqa: N815
    roles: tuple[Literal["chat", "autocomplete", "embed", "rerank", "edit", "apply", "summarize"], ...]
    capabilities: tuple[Literal["tool_use", "image_input"], ...] = ()
    defaultCompletionOptions: ContinueOptions | None = None  # noqa: N815


class ContinueConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``config.yaml`` of Continue: these four are demanded (…/schemas/index.ts)."""

    name: str
    version: str
    schema: Literal["v1"]
    models: Annotated[tuple[ContinueModel, ...], msgspec.Meta(min_length=1)]


class ZedCapabilities(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``OpenAiCompatibleModelCapabilities`` of Zed: who gives some must give these four."""

    tools: bool
    images: bool
    parallel_tool_calls: bool
    prompt_cache_key: bool


class ZedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``OpenAiCompatibleAvailableModel`` of Zed (zed-industries/zed: crates/settings_content/src/language_model.rs)."""

    name: str
    display_name: str
    max_tokens: int
    max_output_tokens: int
    capabilities: ZedCapabilities


class ZedProvider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``OpenAiCompatibleSettingsContent`` of Zed."""

    api_url: str
    available_models: Annotated[tuple[ZedModel, ...], msgspec.Meta(min_length=1)]


class ZedModels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``language_models`` of Zed, by the name that its picker shows."""

    openai_compatible: dict[str, ZedProvider]


class ZedDefault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model a conversation begins with."""

    provider: str
    model: str


class ZedAgent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``agent`` of Zed."""

    default_model: ZedDefault


class ZedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``settings.json`` of Zed."""

    language_models: ZedModels
    agent: ZedAgent


def claude_code() -> Client:
    """Claude Code."""
    env = msgspec.json.decode((FOLDER / "claude-code" / "settings.json").read_bytes(), type=ClaudeSettings).env
    models = (env.ANTHROPIC_MODEL, env.ANTHROPIC_DEFAULT_OPUS_MODEL, env.ANTHROPIC_DEFAULT_SONNET_MODEL)
    return Client(
        base_url=env.ANTHROPIC_BASE_URL,
        key=env.ANTHROPIC_AUTH_TOKEN,
        models=(*models, env.ANTHROPIC_DEFAULT_HAIKU_MODEL),
    )


def continue_dev() -> Client:
    """Continue: the models of its file, which all have one address."""
    models = msgspec.yaml.decode((FOLDER / "continue" / "config.yaml").read_bytes(), type=ContinueConfig).models
    [base_url] = {model.apiBase for model in models}
    [key] = {model.apiKey for model in models}
    return Client(base_url=base_url, key=key, models=tuple(model.model for model in models))


def open_webui() -> Client:
    """Open WebUI (docs.openwebui.com/reference/env-configuration); it asks for the models itself."""
    given = dotenv_values(FOLDER / "open-webui" / "noa.env")
    assert given.keys() == {"OPENAI_API_BASE_URL", "OPENAI_API_KEY", "ENABLE_OLLAMA_API"}
    assert given["ENABLE_OLLAMA_API"] in ("true", "false")
    return Client(base_url=str(given["OPENAI_API_BASE_URL"]), key=str(given["OPENAI_API_KEY"]), models=("current",))


def zed() -> Client:
    """Zed. Its key comes from the provider's name in upper case with ``_API_KEY``: from ``NOA_API_KEY``."""
    settings = msgspec.json.decode((FOLDER / "zed" / "settings.json").read_bytes(), type=ZedSettings)
    [(name, provider)] = settings.language_models.openai_compatible.items()
    assert name.upper() == "NOA"
    assert settings.agent.default_model.provider == name
    assert settings.agent.default_model.model in {model.name for model in provider.available_models}
    names = tuple(model.name for model in provider.available_models)
    return Client(base_url=provider.api_url, key="unused", models=names)
