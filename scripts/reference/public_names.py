"""What of the library is public: its doors, which have methods, and the values that go in and out by them."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final, get_args

import msgspec
from scripts.reference.signature import field_types

import noa
from noa import testing
from noa.errors import AIProviderError
from noa.integrations import fastapi
from noa.leased_model import ModelUse
from noa.manager.part import Part
from noa.manager.sync import SyncRegistry
from noa.providers.fake import FakeProvider
from noa.providers.protocol import Provider
from noa.registry import Registry
from noa.runtime.fake import FakeRuntime
from noa.runtime.protocol import Runtime

#: What a program is given rather than imports.
_GIVEN: Final = (ModelUse, Registry)
#: What the manager calls, not the program.
_BEHIND: Final[Mapping[type, frozenset[str]]] = {
    Registry: frozenset(vars(Registry)) - vars(SyncRegistry).keys(),
    FakeProvider: frozenset(vars(Provider)),
    FakeRuntime: frozenset(vars(Runtime)),
}


def doors() -> list[type]:
    """The public classes that do something."""
    named = [getattr(noa, name) for name in noa.__all__]
    classes = [each for each in named if isinstance(each, type) and not is_value(each) and not is_error(each)]
    return list(dict.fromkeys([*classes, *_GIVEN]))


def test_doors() -> list[type]:
    """The classes of ``noa.testing``."""
    return [getattr(testing, name) for name in testing.__all__]


def integration() -> list[tuple[str, Any]]:
    """The functions of ``noa.integrations.fastapi``, and what it has for annotations."""
    home = fastapi.__name__
    functions = [
        (name, each)
        for name, each in vars(fastapi).items()
        if inspect.isfunction(each) and each.__module__ == home and not name.startswith("_")
    ]
    return [*functions, ("CurrentModel", fastapi.CurrentModel), ("Manager", fastapi.Manager)]


def values() -> list[type]:
    """Every value that is public itself or that a door takes, gives or is told, and what these are made of."""
    waiting: list[object] = [getattr(noa, name) for name in noa.__all__]
    for door in (*doors(), *test_doors()):
        for _, member in members(door):
            function = (
                member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
            )
            if inspect.isfunction(function):
                waiting += [*_named(" ".join(map(str, function.__annotations__.values())), function.__globals__)]
    found: dict[type, None] = {}
    while waiting:
        each = waiting.pop()
        waiting += get_args(each)
        if isinstance(each, type) and is_value(each) and each not in found and each.__module__.startswith("noa."):
            found[each] = None
            waiting += _named(" ".join(field_types(each).values()), vars(sys.modules[each.__module__]))
    return sorted(found, key=lambda each: each.__name__)


def members(door: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, its own first, then those of the classes that it is made of."""
    seen = {*_BEHIND.get(door, ())}
    for home in door.__mro__:
        if not home.__module__.startswith("noa.") or home is Part:
            continue
        for name, member in vars(home).items():
            field = isinstance(member, types.MemberDescriptorType)
            if not (name.startswith("_") or name in seen or field) and hasattr(member, "__get__"):
                seen.add(name)
                yield name, member


def is_value(kind: type) -> bool:
    """Whether it is frozen data: a struct, or words."""
    return issubclass(kind, msgspec.Struct | Enum)


def is_error(kind: type) -> bool:
    """Whether it is in the tree of errors, which has a page of its own."""
    return issubclass(kind, AIProviderError)


def _named(annotation: str, names: dict[str, Any]) -> Iterator[object]:
    """What of ours an annotation names."""
    for word in re.findall(r"\w+", annotation):
        each = names.get(word)
        if isinstance(each, type | types.UnionType):
            yield each
