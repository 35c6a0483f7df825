"""What a JSON Schema says of a value, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.reference.markdown import code

Schema = Mapping[str, Any]

#: The links to objects of ``noa.yaml`` or of the API begin with it in their documents.
_REFERENCES = ("#/$defs/", "#/components/schemas/")
_FORMATS = {"date-time": "moment", "date": "day", "uuid": "UUID"}


def referred(schema: Schema) -> str | None:
    """The name of the definition that a schema refers to."""
    reference = str(schema.get("$ref", ""))
    for beginning in _REFERENCES:
        if reference.startswith(beginning):
            return reference.removeprefix(beginning)
    return None


def words(schema: Schema, definitions: Mapping[str, Schema], *, optional: bool = False) -> str:
    """What kind of value it is: ``integer, 1 to 256``. Objects are links to their own headings.

    With ``optional``, ``null`` is not mentioned: it stands for what was left out.
    """
    name = referred(schema)
    if name is not None:
        target = definitions[name]
        return f"[{name}](#{name.lower()})" if _is_object(target) else words(target, definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices is not None:
        kept = [choice for choice in choices if not (optional and choice.get("type") == "null")]
        return " or ".join(dict.fromkeys(words(choice, definitions) for choice in kept))
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    return _plain(schema, definitions)


def within(value: object, definitions: Mapping[str, Schema]) -> set[str]:
    """The names of all definitions that a value refers to, and those they refer to."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            name = referred(each)
            if name is not None and name not in found:
                found.add(name)
                waiting.append(definitions[name])
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found


def _is_object(schema: Schema) -> bool:
    return "properties" in schema or "anyOf" in schema


def _plain(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or {}
        return f"list of {words(items, definitions)}" if items else "list"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"by name: {words(values, definitions)}" if isinstance(values, Mapping) and values else "object"
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), "string")
    if kind in ("integer", "number"):
        return ", ".join(filter(None, (str(kind), _limits(schema))))
    return str(kind or "any value")


def _limits(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f"above {above:g}" + (f", at most {high:,}" if high is not None else "")
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    if low is not None:
        return f"at least {low:,}"
    return f"at most {high:,}" if high is not None else ""
