"""The page of the settings: ``noa.yaml`` by its schema, and the environment by its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from scripts.reference import json_schema as schemas
from scripts.reference import markdown
from scripts.reference.markdown import code, told

from noa.config import Configuration, ProviderConfig
from noa.config.in_effect import ATTRIBUTES, OF_A_PROVIDER, VARIABLES
from noa.config.settings import Settings, json_schema
from noa.config.variables import PROVIDER_FIELDS, ROWS

#: What is set by a variable alone: its default, and what it is for.
_VARIABLES_ALONE: Final[Mapping[str, tuple[str, str]]] = {
    "NOA_CONFIG": (
        "`noa.yaml` in the working directory, else in the configuration folder",
        "The file to read the settings from.",
    ),
    "NOA_HOME": (
        "the platform's folder for data",
        "Where everything lives; `$NOA_HOME/models` is the model folder. If set, it is the configuration folder too.",
    ),
    "NOA_URL": ("where the server would listen", "The server that the command line talks to."),
    "HF_HOME": ("that of Hugging Face's own programs", "Where Hugging Face's programs keep what they have fetched."),
    "NO_COLOR": ("", "Set to anything, it keeps colours out of what `noa` prints."),
}

_WHERE_FROM: Final = (
    "What is set comes from arguments, the environment, `.env` in the working directory or `noa.yaml`, the first of "
    "them first. Nothing must be set. `noa config` shows what is in effect and where each value comes from; "
    "`noa config check` checks a file."
)
_ABOUT_VARIABLES: Final = (
    "Each variable may also be given as the name of a file that holds its value: `NOA_API_KEY_FILE=/run/secrets/noa`. "
    "An empty variable counts as not set. `MODEL_MANAGER_…` may have `NOA_` or `AI_` before it, and where a name "
    "begins with `AI_`, `NOA_` may stand instead, and wins. Lists are separated by commas, folders as in `PATH`."
)


def page() -> str:
    """The page."""
    published: dict[str, Any] = msgspec.json.decode(json_schema())
    definitions = published["$defs"]
    document = definitions[Settings.__name__]
    sections = [_section(name, definitions, prefix) for name, prefix in _sections(document, definitions)]
    return markdown.page(
        "Settings",
        _WHERE_FROM,
        "[noa.yaml](../../examples/noa.yaml) is an example with everything in it, and "
        "[noa.schema.json](../noa.schema.json) is what editors complete and check it by "
        "(`noa config schema` prints it). In a value, `${env.NAME}` stands for that variable.",
        "## Variables",
        _ABOUT_VARIABLES,
        markdown.table(("Variable", "Default", "Meaning"), [*_variables(document, definitions)]),
        "### Variables of providers",
        "What a service is called by its own variables is in the [table of providers](../providers.md): "
        "`OPENAI_API_KEY`. Beside them there are these, which begin with `AI_` or `NOA_`:",
        markdown.table(("Variable, of OpenAI for example", "In `noa.yaml`"), _provider_variables()),
        "## noa.yaml",
        fields("", document, definitions),
        *sections,
    )


def _sections(document: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> Iterator[tuple[str, str | None]]:
    """Each object in the file with the path of its one place; ``None`` is the path of what has many."""
    ordered = [field.encode_name for field in msgspec.structs.fields(Settings)]
    properties = document["properties"]
    once = {name: path for path in ordered if (name := schemas.referred(properties[path])) is not None}
    yield from once.items()
    for name, definition in sorted(definitions.items()):
        if name not in once and name != Settings.__name__ and "properties" in definition:
            yield name, None


def _section(name: str, definitions: Mapping[str, schemas.Schema], path: str | None) -> str:
    definition = definitions[name]
    about = markdown.prose(definition.get("description"), name)
    if path is not None:
        about = f"`{path}`: {about}"
    if "patternProperties" in definition:
        entry = schemas.words(definition["patternProperties"][":"], definitions)
        about += f" A field with a colon in it is the key of a model, and what it holds is a {entry}."
    return f"### {name}\n\n{about}\n\n{fields(path, definition, definitions, name)}"


def fields(
    path: str | None, schema: schemas.Schema, definitions: Mapping[str, schemas.Schema], name: str = "noa.yaml"
) -> str:
    """The fields of an object at ``path``. Raises ``UndocumentedError`` if one has no text."""
    rows = []
    for field, described in schema["properties"].items():
        setting = field if not path else f"{path}.{field}"
        default = _default(setting) if path is not None else _default_of(name, field, described)
        meaning = markdown.line(described.get("description"), f"The setting {field} of {name}")
        kind = schemas.words({**described, "description": ""}, definitions, optional=True)
        needed = " (required)" if field in schema.get("required", ()) else ""
        rows.append([code(field), kind + needed, default, meaning])
    return markdown.table(("Setting", "Value", "Default", "Meaning"), rows)


def _default(setting: str) -> str:
    attribute = ATTRIBUTES.get(setting)
    return _shown(getattr(_plain_configuration(), attribute)) if attribute is not None else ""


def _default_of(name: str, field: str, schema: schemas.Schema) -> str:
    """The default of a field of something that the file may hold several of."""
    if name == "ProviderSettings" and field in OF_A_PROVIDER:
        value = getattr(ProviderConfig(type="of your own"), OF_A_PROVIDER[field])
        return code(f"{value * 1000:g}") if field == "timeout" else _shown(value)
    return _shown(schema.get("default"))


def _plain_configuration() -> Configuration:
    return Configuration(home=Path("$NOA_HOME"))


def _shown(value: object) -> str:
    if value is None or value in ("", (), {}, []):
        return ""
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(value)


def _variables(document: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> Iterator[list[str]]:
    missing = {variable for _, variable in VARIABLES.values()} - _VARIABLES_ALONE.keys()
    told("" if missing else "none", f"The variable {', '.join(missing)}")
    for name, (default, meaning) in _VARIABLES_ALONE.items():
        yield [code(name), default, meaning]
    for row in ROWS:
        names = [*row.own, *row.bare, *(f"AI_{stem}" for stem in row.stems)]
        section, _, field = row.path.rpartition(".")
        holder = definitions[str(schemas.referred(document["properties"][section]))] if section else document
        meaning = told(holder["properties"][field].get("description"), row.path)
        yield [", ".join(map(code, names)), _default(row.path), f"{meaning} {code(row.path)}"]


def _provider_variables() -> Iterator[list[str]]:
    for field, end, _ in PROVIDER_FIELDS:
        yield [code(f"AI_OPENAI_{end}"), code(field)]
