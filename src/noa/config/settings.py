"""The shape of ``noa.yaml``: every setting with its limits, and the check of raw values against it.

Raw values come from the file and from variables alike, and each carries where it comes from, so that what is wrong is
said in the same way and at the right place. ``None`` means "not set"; defaults are ``noa.config.configuration``'s.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, field

from noa.config.address import checked_base_url, provider_address
from noa.config.known_models import KnownModel, ModelEntry
from noa.config.memory_budget import budget_bytes
from noa.config.policies import SelectionSettings
from noa.config.secret import Secret
from noa.errors import ConfigurationError
from noa.models import CacheType, model_key
from noa.presets import KNOWN_PROVIDERS, canonical_provider, find_preset

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: An origin as browsers send it: scheme, host, port; no path.
_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
#: Names that mean something else where a provider could stand.
_RESERVED_NAMES = frozenset({"auto", "current"})
#: What stands after ``auto:`` besides the name of a policy.
_OBJECTIVES = ("speed", "cost", "balanced", "reliability")


class _Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """A part of the file."""


class ProviderSettings(_Section, frozen=True, kw_only=True):
    """One provider."""

    type: Annotated[
        str,
        Meta(
            min_length=1,
            description="openai (or anything that speaks its API), claude, llama.cpp, or a service known by name.",
        ),
    ]
    name: Annotated[
        str | None, Meta(description="What its models' keys begin with; the type unless given, so needed for a second.")
    ] = None
    api_key: Annotated[Secret | None, Meta(description="Its key, best as ${env.NAME}.")] = None
    base_url: Annotated[
        str | None,
        Meta(description="What stands before /chat/completions; for Claude before /v1/messages."),
    ] = field(default=None, name="baseURL")
    default_model: Annotated[str | None, Meta(description="The model to use when none is named.")] = None
    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...] | None,
        Meta(description="Models that it has beyond those it lists, such as Azure's deployments."),
    ] = None
    timeout: Annotated[
        Annotated[float, Meta(gt=0, le=86_400_000)] | None,
        Meta(description="How long it may stay silent, in milliseconds; a number below 1000 is in seconds."),
    ] = None
    max_retries: Annotated[
        Annotated[int, Meta(ge=0, le=10)] | None,
        Meta(description="How often a request that it did not take is tried again."),
    ] = None


class ModelSettings(_Section, frozen=True, kw_only=True):
    """How models are managed."""

    max_loaded: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None, Meta(description="How many models are loaded at once at most.")
    ] = None
    memory_budget: Annotated[
        int | str | None,
        Meta(description="How much memory local models take at most together: 8GiB, a number of bytes, or 80%."),
    ] = None
    auto_load_default: Annotated[
        bool | None, Meta(description="Whether the default provider's default model is loaded at start.")
    ] = None
    performance_tracking: Annotated[bool | None, Meta(description="Whether every request is measured.")] = None
    auto_switch: Annotated[bool | None, Meta(description="Whether Noa may switch to a better model by itself.")] = None
    auto_switch_threshold: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="The score below which it does, from 0 to 1.")
    ] = None
    folders: Annotated[
        tuple[str, ...] | None, Meta(description="More folders with GGUF files, subfolders included.")
    ] = None


class ServerSettings(_Section, frozen=True, kw_only=True):
    """How Noa is reached."""

    host: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Where to listen; anything but this machine itself needs apiKey."),
    ] = None
    port: Annotated[Annotated[int, Meta(ge=0, le=65535)] | None, Meta(description="The port; 0 takes a free one.")] = (
        None
    )
    api_key: Annotated[Secret | None, Meta(description="The key that callers must send, best as ${env.NAME}.")] = None
    allowed_hosts: Annotated[
        tuple[str, ...] | None, Meta(description="Host names, beyond this machine's own, that requests may be made to.")
    ] = None
    allowed_origins: Annotated[
        tuple[str, ...] | None,
        Meta(description="Origins of web pages that may use the server, such as https://app.example; none by default."),
    ] = None
    max_body_bytes: Annotated[
        Annotated[int, Meta(ge=1024)] | None, Meta(description="How large a request may be, in bytes.")
    ] = None


class EngineSettings(_Section, frozen=True, kw_only=True):
    """How local models are run."""

    llama_server: Annotated[
        str | None, Meta(description="A llama-server program to use instead of the engine that comes with Noa.")
    ] = None
    context_size: Annotated[
        Annotated[int, Meta(ge=64, le=16_777_216)] | None,
        Meta(description="The context of a model, in tokens per slot."),
    ] = None
    slots: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | None, Meta(description="How many requests a model serves at once.")
    ] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None, Meta(description="CPU threads per model; divided up unless given.")
    ] = None
    cache_type: Annotated[
        CacheType | None, Meta(description="What a model's cache is made of; q8_0 takes half of f16, q4_0 a quarter.")
    ] = None


class StateSettings(_Section, frozen=True, kw_only=True):
    """What outlives a restart."""

    path: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="The database; a name ending in .json also gets a readable snapshot, a folder holds it."),
    ] = None


class TelemetrySettings(_Section, frozen=True, kw_only=True):
    """What others are told of how Noa is doing."""

    otlp_endpoint: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="An OpenTelemetry collector to send traces to by OTLP over HTTP: http://localhost:4318."),
    ] = None


class Settings(_Section, frozen=True, kw_only=True):
    """The settings of Noa (noa.yaml)."""

    providers: Annotated[tuple[ProviderSettings, ...], Meta(description="Where models come from.")] = ()
    default_provider: Annotated[str | None, Meta(description="The provider to use when none is named.")] = None
    fallbacks: Annotated[
        dict[str, Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1, max_length=20)]],
        Meta(description="For a model or an alias, which to go to, in order, when it does not take a request."),
    ] = {}
    models: Annotated[ModelSettings, Meta(description="How models are managed.")] = ModelSettings()
    selection: Annotated[SelectionSettings, Meta(description="How Noa chooses a model.")] = SelectionSettings()
    server: Annotated[ServerSettings, Meta(description="How Noa is reached.")] = ServerSettings()
    engine: Annotated[EngineSettings, Meta(description="How local models are run.")] = EngineSettings()
    state: Annotated[StateSettings, Meta(description="What outlives a restart.")] = StateSettings()
    telemetry: Annotated[TelemetrySettings, Meta(description="What others are told of how Noa is doing.")] = (
        TelemetrySettings()
    )


_SECTIONS = frozenset(one.encode_name for one in msgspec.structs.fields(Settings))


class Origin(NamedTuple):
    """Where a raw value comes from: ``place`` is ``noa.yaml:7`` (empty for a variable), ``subject`` what it is."""

    place: str
    subject: str

    def error(self, what: str) -> ConfigurationError:
        """The sentence about this value."""
        sentence = f"{self.subject} {what}" + ("" if what.endswith("?") else ".")
        return ConfigurationError(f"{self.place}: {sentence}" if self.place else sentence)


class Tree(NamedTuple):
    """Raw values in the shape of the file, and where each comes from by its path (``$.models.maxLoaded``)."""

    data: dict[str, Any]
    origins: dict[str, Origin]

    def origin(self, path: str) -> Origin:
        """Where the value at ``path`` comes from, or what is nearest around it."""
        while path and path not in self.origins:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.origins.get(path, Origin("", "The configuration"))


def provider_name(settings: ProviderSettings) -> str:
    """What the keys of a provider's models begin with."""
    name = settings.name or settings.type
    return canonical_provider(name) or name


def checked(tree: Tree) -> Settings:
    """The tree as settings. Raises ``ConfigurationError`` for the first value that is wrong."""
    # A section whose fields are all commented out is there, but null.
    data = {name: value for name, value in tree.data.items() if value is not None or name not in _SECTIONS}
    if isinstance(data.get("models"), dict):
        data["models"] = {name: value for name, value in data["models"].items() if not _names_a_model(name)}
    try:
        settings = msgspec.convert(data, Settings, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise _explained(str(error), tree) from None
    seen: dict[str, Origin] = {}
    for index, provider in enumerate(settings.providers):
        _check_provider(provider, f"$.providers[{index}]", tree)
        name, origin = provider_name(provider), tree.origin(f"$.providers[{index}]")
        if name in seen:
            raise origin.error(f"is a second provider “{name}”; give it a name of its own")
        seen[name] = origin
    _check_names(settings, tree)
    if settings.models.memory_budget is not None:
        _check_budget(settings.models.memory_budget, tree.origin("$.models.memoryBudget"))
    if settings.telemetry.otlp_endpoint is not None:
        _check_collector(settings.telemetry.otlp_endpoint, tree.origin("$.telemetry.otlpEndpoint"))
    for page in settings.server.allowed_origins or ():
        if not _ORIGIN.fullmatch(page):
            raise tree.origin("$.server.allowedOrigins").error(
                f"holds “{page}”, which is no origin; write it as browsers do: https://app.example, or with a port"
            )
    if settings.default_provider is not None:
        _check_default(settings.default_provider, seen, tree.origin("$.defaultProvider"))
    return settings


def _check_names(settings: Settings, tree: Tree) -> None:
    for name, others in settings.fallbacks.items():
        if name in others or len(set(others)) < len(others):
            raise tree.origin(f"$.fallbacks.{name}").error("must list other models, each once")
    for name in settings.selection.policies:
        if name in _OBJECTIVES or not _PROVIDER_NAME.fullmatch(name):
            raise tree.origin(f"$.selection.policies.{name}").error(
                f"is no name for a policy; use letters, digits, “.”, “_” and “-”, and none of {', '.join(_OBJECTIVES)}"
            )


def known_models(tree: Tree) -> dict[str, KnownModel]:
    """What is said of single models, by their keys. Raises ``ConfigurationError`` for the first value that is wrong."""
    models = tree.data.get("models")
    found: dict[str, KnownModel] = {}
    for name, value in models.items() if isinstance(models, dict) else ():
        if _names_a_model(name):
            provider, _, model_id = name.partition(":")
            try:
                entry = msgspec.convert({} if value is None else value, ModelEntry, strict=False)
            except msgspec.ValidationError as error:
                raise _explained(str(error), tree, entry=f"$.models.{name}") from None
            found[model_key(canonical_provider(provider) or provider, model_id)] = entry.known()
    return found


def _names_a_model(name: object) -> bool:
    """Whether a field of ``models`` is the key of a model rather than a setting for all of them."""
    return isinstance(name, str) and ":" in name


def json_schema() -> bytes:
    """The JSON Schema of ``noa.yaml``, as it is published in ``docs/noa.schema.json``."""
    (schema, entry), components = msgspec.json.schema_components(
        (Settings, ModelEntry), schema_hook=_schema_of_secret, ref_template="#/$defs/{name}"
    )
    components["ModelSettings"]["patternProperties"] = {":": entry}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "noa.yaml",
        **schema,
        "$defs": components,
    }
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


def _schema_of_secret(type_: type) -> dict[str, Any]:
    if type_ is Secret:
        return {"type": "string", "minLength": 1}
    raise NotImplementedError(type_)


def _decode(type_: type, value: object) -> object:
    if type_ is not Secret:
        raise NotImplementedError(type_)
    if not isinstance(value, str):
        raise TypeError("Expected `str`")
    text = value.strip()
    if not text or any(not "!" <= character <= "~" for character in text):
        raise ValueError("must be a key, which has neither spaces nor letters beyond ASCII")
    return Secret(text)


def _check_provider(provider: ProviderSettings, path: str, tree: Tree) -> None:
    name = provider_name(provider)
    if not _PROVIDER_NAME.fullmatch(name) or name in _RESERVED_NAMES:
        key = "name" if provider.name else "type"
        raise tree.origin(f"{path}.{key}").error(
            "must be a provider's name: letters, digits, “.”, “_” and “-”, and not “auto” or “current”"
        )
    if provider.base_url is not None:
        try:
            provider_address(provider.base_url, find_preset(provider.type, name))
        except ValueError as error:
            raise tree.origin(f"{path}.baseURL").error(str(error)) from None


def _check_collector(address: str, origin: Origin) -> None:
    try:
        checked_base_url(address)
    except ValueError as error:
        raise origin.error(str(error)) from None


def _check_budget(budget: int | str, origin: Origin) -> None:
    try:
        budget_bytes(budget, total_bytes=1)
    except ValueError as error:
        raise origin.error(str(error)) from None


def _check_default(name: str, configured: dict[str, Origin], origin: Origin) -> None:
    if canonical_provider(name) is None and name not in configured:
        known = [*configured, *KNOWN_PROVIDERS]
        raise origin.error(f"names the unknown provider “{name}”{_suggestion(name, known)}")


def _explained(message: str, tree: Tree, entry: str = "") -> ConfigurationError:
    """msgspec's complaint as a sentence that names the place and what is expected there.

    ``entry`` is the path of the model's entry that was checked by itself, if it was.
    """
    what, _, inner = message.partition(" - at `")
    inner = inner.removesuffix("`") or "$"
    path = entry + inner[1:] if entry else inner
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        name = unknown[1]
        place = tree.origin(f"{path}.{name}").place
        known = _field_names(inner, of_entry=bool(entry))
        return Origin(place, "unknown field").error(f"“{name}”" + (_suggestion(name, known) or f"; {_listed(known)}"))
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return tree.origin(path).error(f"needs the field “{missing[1]}”")
    if expected := re.fullmatch(r"Expected `(\w+)(?: \| null)?`(.*)", what):
        kind = _KINDS.get(expected[1], expected[1])
        return tree.origin(path).error(f"must be {kind}{_limits(inner, expected[2], bool(entry))}")
    if wrong := re.fullmatch(r"Invalid enum value '(.*)'", what, re.DOTALL):
        allowed = _schema_at(inner, bool(entry)).get("enum", ())
        return tree.origin(path).error(f"“{wrong[1]}” is none of {', '.join(allowed)}{_suggestion(wrong[1], allowed)}")
    return tree.origin(path).error(what)


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text (in quotes, if it looks like something else)",
    "bool": "true or false",
    "array": "a list",
    "object": "a group of fields",
}


def _limits(path: str, rest: str, of_entry: bool) -> str:
    """The limits of a number as words, the violated one from msgspec's message, else all from the schema."""
    if rest.startswith(" of length"):
        return " that is not empty"
    meta = _field_meta(path, of_entry)
    if meta is None:
        return ""
    low = meta.get("minimum", meta.get("exclusiveMinimum"))
    high = meta.get("maximum")
    if low is None:
        return ""
    least = f"above {low}" if "exclusiveMinimum" in meta else f"of at least {low}"
    return f" {least}" + (f" and at most {high}" if high is not None else "")


def _listed(names: Sequence[str]) -> str:
    return f"known are {', '.join(sorted(names))}" if names else "none is known here"


def _suggestion(name: str, known: Sequence[str]) -> str:
    plain = {re.sub(r"[_-]", "", other).lower(): other for other in known}
    close = difflib.get_close_matches(re.sub(r"[_-]", "", name).lower(), plain, n=1)
    return f"; did you mean “{plain[close[0]]}”?" if close else ""


def _schema_at(path: str, of_entry: bool) -> dict[str, Any]:
    """The part of the JSON Schema that describes the value at ``path``, in the file or in the entry of a model."""
    document: dict[str, Any] = msgspec.json.decode(json_schema())
    node = document["$defs"]["ModelEntry"] if of_entry else document
    # msgspec writes “[...]” for whatever name stands in a mapping.
    for step in ("", *re.findall(r"[^.\[\]]+", path.removeprefix("$").replace("[...]", ".*"))):
        if step == "*":
            node = node.get("additionalProperties", node)
        elif step:
            node = node["items"] if step.isdigit() else node.get("properties", {}).get(step, node)
        node = next((one for one in node.get("anyOf", ()) if one.get("type") != "null"), node)
        if "$ref" in node:
            node = document["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _field_names(path: str, *, of_entry: bool) -> list[str]:
    return list(_schema_at(path, of_entry).get("properties", ()))


def _field_meta(path: str, of_entry: bool) -> dict[str, Any] | None:
    node = _schema_at(path, of_entry)
    return node if node.get("type") in ("integer", "number") else None
