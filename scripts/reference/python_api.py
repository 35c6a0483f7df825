"""The page of the Python library: what a program calls."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec
from scripts.reference import markdown, public_names, signature
from scripts.reference.markdown import code

import noa
from noa.manager import ModelManager, SyncModelManager


def page() -> str:
    """The page."""
    return markdown.page(
        "Python",
        "What a program calls. [Noa in your program](../python.md) shows how; the values that go in and out are in "
        "[Values](python-values.md), what can go wrong is in [Errors](errors.md), and what can be listened to in "
        "[Events](../events.md).",
        "`from noa import …` knows these names:",
        markdown.table(("Name", ""), [*_names()]),
        *(block for door in public_names.doors() for block in _door(door)),
        "## noa.integrations.fastapi",
        *(block for name, member in public_names.integration() for block in _integrated(name, member)),
        "## noa.testing",
        "Fakes for the tests of programs that use Noa.",
        *(block for door in public_names.test_doors() for block in _door(door, "###")),
    )


def _names() -> Iterator[list[str]]:
    for name in noa.__all__:
        each = getattr(noa, name)
        if not isinstance(each, type):
            about = "The version of Noa." if name == "__version__" else "One piece of an answer that streams."
            yield [code(name), about]
        elif each.__name__ != name:
            yield [code(name), f"Another name of {code(each.__name__)}."]
        else:
            yield [_linked(each), markdown.line((each.__doc__ or "").split("\n\n")[0], name)]


def _linked(kind: type) -> str:
    if public_names.is_error(kind):
        return f"[{code(kind.__name__)}](errors.md)"
    page = "python-values.md" if public_names.is_value(kind) else ""
    return f"[{code(kind.__name__)}]({page}#{kind.__name__.lower()})"


def _door(door: type, level: str = "##") -> Iterator[str]:
    yield f"{level} {door.__name__}"
    if issubclass(door, msgspec.Struct):
        yield markdown.fenced(signature.of_struct(door), "python")
    elif "__init__" in vars(door):
        yield markdown.fenced(signature.of_class(door), "python")
    yield markdown.prose(inspect.getdoc(door), door.__name__)
    inherited = {name for above in door.__mro__[1:] if above is ModelManager for name, _ in public_names.members(above)}
    for name, member in public_names.members(door):
        if not (name in inherited or (door is SyncModelManager and _waits(member))):
            yield from _member(f"{door.__name__}.{name}", name, member, level + "#")
    if door is SyncModelManager:
        same = [code(name) for name, member in public_names.members(door) if _waits(member)]
        yield f"As those of [`ModelManager`](#modelmanager), but they wait: {', '.join(same)}."


def _waits(member: object) -> bool:
    return hasattr(member, "__wrapped__")


def _member(path: str, name: str, member: Any, level: str) -> Iterator[str]:
    yield f"{level} {path}"
    if isinstance(member, property):
        given = str(getattr(member.fget, "__annotations__", {}).get("return", ""))
        yield markdown.fenced(f"{name}: {given}", "python")
        yield markdown.prose(member.__doc__, path)
    elif inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
        function = member if inspect.isfunction(member) else member.__func__
        bound = not isinstance(member, staticmethod)
        decorator = "@classmethod\n" if isinstance(member, classmethod) else ""
        yield markdown.fenced(decorator + signature.of_function(function, name, bound=bound), "python")
        yield markdown.prose(inspect.getdoc(function), path)
    else:
        yield markdown.prose(inspect.getdoc(type(member)), path)


def _integrated(name: str, member: Any) -> Iterator[str]:
    yield f"### {name}"
    if inspect.isfunction(member):
        yield markdown.fenced(signature.of_function(member, name, bound=False), "python")
        yield markdown.prose(inspect.getdoc(member), name)
    else:
        example = "[Noa in your program](../python.md#in-an-application-on-fastapi)"
        yield f"For annotations, as in `model: {name}`: see {example}."
