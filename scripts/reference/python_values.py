"""The page of the values that a program gives and gets."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum

from scripts.reference import markdown, public_names, signature


def page() -> str:
    """The page."""
    return markdown.page(
        "Values in Python",
        "What methods of the library take and give, and what these values are made of. They are frozen; a changed copy "
        "is made by `msgspec.structs.replace`. On the wire their names are in camelCase, and what is not known is "
        "`None` (`null`), never 0.",
        *(block for value in public_names.values() for block in _value(value)),
    )


def _value(value: type) -> Iterator[str]:
    yield f"## {value.__name__}"
    home = value.__module__
    yield markdown.fenced(
        f"# {home}\n" + (signature.of_enum(value) if issubclass(value, Enum) else signature.of_struct(value)), "python"
    )
    yield markdown.prose(vars(value).get("__doc__"), value.__name__)
    lines = [*_abilities(value)]
    if lines:
        yield "\n".join(lines)


def _abilities(value: type) -> Iterator[str]:
    for name, member in vars(value).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property) or inspect.isfunction(member) or isinstance(member, classmethod):
            text = markdown.line(inspect.getdoc(member), f"{value.__name__}.{name}")
            yield f"- `{name}{'' if isinstance(member, property) else '()'}`: {text}"
