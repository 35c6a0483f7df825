"""How a function, a property or a value of the library looks in the reference: annotations as they were written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

_WIDTH = 100


class _AsWritten:
    """Something whose representation is this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def of_function(function: Callable[..., Any], name: str, *, bound: bool) -> str:
    """The line that defines it, broken where it is long. ``bound`` leaves out the first parameter."""
    signature = inspect.signature(function)
    given = [
        parameter.replace(
            annotation=_annotation(parameter.annotation),
            default=parameter.default
            if parameter.default is inspect.Parameter.empty
            else _AsWritten(shown(parameter.default)),
        )
        for parameter in list(signature.parameters.values())[1 if bound else 0 :]
    ]
    written = signature.replace(parameters=given, return_annotation=_annotation(signature.return_annotation))
    line = f"{'async ' if inspect.iscoroutinefunction(function) else ''}def {name}{written}"
    if len(line) <= _WIDTH:
        return line
    head, _, tail = line.partition("(")
    pieces = [str(parameter) for parameter in given]
    kinds = [parameter.kind for parameter in given]
    for index, kind in enumerate(kinds):
        if kind is inspect.Parameter.KEYWORD_ONLY:
            if inspect.Parameter.VAR_POSITIONAL not in kinds:
                pieces.insert(index, "*")
            break
    if inspect.Parameter.POSITIONAL_ONLY in kinds:
        pieces.insert(kinds.count(inspect.Parameter.POSITIONAL_ONLY), "/")
    end = tail[tail.rfind(")") :] if " -> " not in tail else ") -> " + tail.rpartition(") -> ")[2]
    return f"{head}(\n" + "".join(f"    {piece},\n" for piece in pieces) + end


def of_class(kind: type) -> str:
    """How one is made."""
    line = of_function(vars(kind)["__init__"], kind.__name__, bound=True)
    return line.removeprefix("def ").removesuffix(" -> None")


def of_struct(struct: type) -> str:
    """A value as a class with its fields."""
    types = field_types(struct)
    lines = []
    for field in msgspec.structs.fields(struct):
        default = "" if field.default is msgspec.NODEFAULT else f" = {shown(field.default)}"
        if field.default_factory is not msgspec.NODEFAULT:
            default = " = …"
        lines.append(f"    {field.name}: {types[field.name]}{default}")
    return "\n".join([f"class {struct.__name__}:", *(lines or ["    ..."])])


def of_enum(words: type[Enum]) -> str:
    """The words there are."""
    return "\n".join([f"class {words.__name__}:", *(f"    {each.name} = {shown(each.value)}" for each in words)])


def field_types(struct: type) -> dict[str, str]:
    """The fields' types as they were written, those of the classes above it first."""
    found: dict[str, str] = {}
    for each in reversed(struct.__mro__):
        found |= {name: str(text) for name, text in vars(each).get("__annotations__", {}).items()}
    return found


def shown(value: object) -> str:
    """A default as one would write it."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, type):
        return value.__name__
    return "…" if callable(value) else repr(value)


def _annotation(annotation: object) -> object:
    return _AsWritten(annotation) if isinstance(annotation, str) else annotation
