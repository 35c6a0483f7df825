"""The page of the HTTP API: the OpenAPI document that the server gives, as a page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

import msgspec
from scripts.reference import json_schema as schemas
from scripts.reference import markdown
from scripts.reference.markdown import code, told

from noa.config import Configuration
from noa.manager import ModelManager
from noa.server.app import create_app

#: The groups in the order of the page, each with what it is about.
_GROUPS: Final[Mapping[str, tuple[str, str]]] = {
    "openai": (
        "As OpenAI",
        (
            "Requests and answers are OpenAI's; what Noa makes of fields is in [Dialects](../dialects.md). "
            "`model` is a key, an alias, a bare id, `current` or `auto`."
        ),
    ),
    "anthropic": ("As Anthropic", "Requests and answers are Anthropic's; see [Dialects](../dialects.md)."),
    "inference": ("Inference as in the quick start", "With the envelope of the management API."),
    "models": ("Models", "What there is, what is loaded, what is in use."),
    "selection": ("Choosing", "Which model should serve, and why one did: [How Noa chooses](../selection.md)."),
    "aliases": ("Aliases", "Names that follow a model, and those that are tried out on several."),
    "profiles": ("Profiles", "Models measured by real requests: [Profiling](../profiling.md)."),
    "events": ("Events", "What happens, as it happens: [Events](../events.md)."),
    "keys": ("Keys", "Keys of single callers: [Who may ask](../keys.md)."),
    "configuration": ("Configuration", "What the server was configured with: [Settings](settings.md)."),
    "status": ("Status", "How the server, its providers and its figures are: [Monitoring](../monitoring.md)."),
}


def page() -> str:
    """The page."""
    document = openapi()
    definitions = document["components"]["schemas"]
    return markdown.page(
        "HTTP",
        "A running server describes itself at `/openapi.json`, and at `/api-docs` for people. A route that refuses "
        "answers with the status and code of [Errors](errors.md): those of `/v1` in the words of OpenAI or Anthropic, "
        "the others with [Envelope](#envelope). Where the server asks for a key ([Who may ask](../keys.md)), it is "
        "sent as `Authorization: Bearer …` or `x-api-key`. Every answer has an `x-request-id`.",
        *_groups(document, definitions),
        "## Values",
        "What is not known is `null`. Moments are RFC 3339. Where a text names a field as Python does (`ttft_ms`), it "
        "is `ttftMs` here.",
        *_values(document, definitions),
    )


def openapi() -> dict[str, Any]:
    """The document, asked of an application whose manager does not run."""
    manager = ModelManager(configuration=Configuration(), enable_persistence=False)
    application = create_app(manager)
    sent: list[Mapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/openapi.json",
        "raw_path": b"/openapi.json",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3001),
    }
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == 200, sent
    document: dict[str, Any] = msgspec.json.decode(b"".join(message.get("body", b"") for message in sent[1:]))
    return document


def operations(document: schemas.Schema) -> Iterator[tuple[str, str, schemas.Schema]]:
    """Every route: its method, its path, and what the document says of it."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _groups(document: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> Iterator[str]:
    routes = list(operations(document))
    for method, path, operation in routes:
        (tag,) = operation["tags"]
        told(tag if tag in _GROUPS else "", f"The group “{tag}” of {method} {path}")
    for tag, (title, about) in _GROUPS.items():
        yield f"## {title}\n\n{about}"
        for method, path, operation in routes:
            if operation["tags"] == [tag]:
                yield route(method, path, operation, definitions)


def route(method: str, path: str, operation: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> str:
    """The part about one route. Raises ``UndocumentedError`` if it or a parameter of it has no text."""
    name = f"{method} {path}"
    blocks = [f"### `{name}`", markdown.prose(operation.get("summary"), name)]
    parameters = [
        [
            code(each["name"]),
            each["in"],
            schemas.words(each["schema"], definitions),
            told(each.get("description"), f"The parameter {each['name']} of {name}"),
        ]
        for each in operation.get("parameters", ())
    ]
    if parameters:
        blocks.append(markdown.table(("Parameter", "In", "Value", "Meaning"), parameters))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        blocks.append(f"Takes {_body(body, definitions)}.")
    blocks += [_answer(status, answer, definitions) for status, answer in operation["responses"].items()]
    return "\n\n".join(filter(None, blocks))


def _body(schema: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> str:
    if "properties" not in schema:
        return schemas.words(schema, definitions)
    return "JSON with " + ", ".join(map(code, schema["properties"])) + " and whatever the dialect has besides"


def _answer(status: str, answer: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> str:
    if status == "default":
        return ""
    ((media_type, content),) = answer["content"].items()
    schema = content.get("schema")
    if schema is not None:
        return f"Answers {status} with {schemas.words(schema, definitions)}."
    return f"Answers {status} with `{media_type}`."


def _values(document: schemas.Schema, definitions: Mapping[str, schemas.Schema]) -> Iterator[str]:
    taken = schemas.within([operation.get("requestBody", {}) for _, _, operation in operations(document)], definitions)
    for name in sorted(definitions):
        if "properties" in definitions[name]:
            yield _value(name, definitions, taken=name in taken)


def _value(name: str, definitions: Mapping[str, schemas.Schema], *, taken: bool) -> str:
    """A value with its fields, and for what a route takes also what may be left out."""
    schema = definitions[name]
    columns = ("Field", "Value", "Unless given") if taken else ("Field", "Value")
    rows = [
        [code(field), schemas.words(described, definitions), _default(field, schema)][: len(columns)]
        for field, described in schema["properties"].items()
    ]
    about = markdown.prose(schema.get("description"), f"The value {name}")
    fields = markdown.table(columns, rows) if rows else ""
    return "\n\n".join(filter(None, (f"### {name}", about, fields)))


def _default(field: str, schema: schemas.Schema) -> str:
    if field in schema.get("required", ()):
        return "required"
    default = schema["properties"][field].get("default")
    return "" if default in (None, "", [], {}) else code(msgspec.json.encode(default).decode())
