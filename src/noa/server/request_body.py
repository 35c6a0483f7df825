"""A request's JSON read into a value, and what is wrong with it in a sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar, get_args

import msgspec

from noa.dialects.field import malformed, too_deep
from noa.errors import ValidationError

T = TypeVar("T")

_PROBLEM: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_WRONG: Final = re.compile(r"Expected `(?P<type>[^`]*)`(?: (?P<bound>[<>]=?) (?P<limit>[-\d.]+))?(?:, got .*)?")

_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "object": "an object",
}
_BOUNDS: Final = {">=": "{}, {} or more", "<=": "{}, {} at most", ">": "{} greater than {}", "<": "{} less than {}"}


def read(body: bytes, shape: type[T]) -> T:
    """The value a body holds; an empty body is an empty object. Raises ``ValidationError`` naming the field."""
    try:
        return msgspec.json.decode(body if body.strip() else b"{}", type=shape)
    except msgspec.ValidationError as error:
        raise _explained(str(error), shape) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(body, error) from error
    except RecursionError as error:
        raise too_deep() from error


def _explained(problem: str, shape: type) -> ValidationError:
    match = _PROBLEM.fullmatch(problem)
    what, path = (match["what"], match["path"] or "") if match else (problem, "")
    if unknown := _UNKNOWN.fullmatch(what):
        return _unknown_field(unknown[1], path, shape)
    if missing := _MISSING.fullmatch(what):
        name = _joined(path, missing[1])
        return ValidationError(f"{name} is missing.", details={"field": name})
    sentence = f"{path or 'The request’s body'} {_expectation(what, _limits_at(shape, path))}"
    return ValidationError(sentence, details={"field": path} if path else None)


def _unknown_field(name: str, path: str, shape: type) -> ValidationError:
    known = _fields_at(shape, path.split(".") if path else [])
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(known)}."
    full = _joined(path, name)
    return ValidationError(f"There is no field “{full}” here. {hint}", details={"field": full})


def _expectation(what: str, limits: tuple[float, float] | None) -> str:
    wrong = _WRONG.fullmatch(what)
    if wrong is None:
        return f"is wrong: {what[:1].lower()}{what[1:]}."
    types = [name for name in wrong["type"].split(" | ") if name != "null"]
    expected = " or ".join(_WORDS.get(name, name) for name in types)
    if limits is not None:
        expected += f" from {limits[0]} to {limits[1]}"
    elif wrong["bound"]:
        limit = wrong["limit"].removesuffix(".0")
        expected = _BOUNDS[wrong["bound"]].format(expected, limit)
    return f"must be {expected}."


def _fields_at(shape: Any, path: list[str]) -> list[str]:
    """The names of the fields of the object at ``path``."""
    for candidate in (shape, *get_args(shape)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            fields = msgspec.structs.fields(candidate)
            if not path:
                return [field.encode_name for field in fields]
            inner = next((field.type for field in fields if field.encode_name == path[0]), None)
            return _fields_at(inner, path[1:])
    return []


def _limits_at(shape: type, path: str) -> tuple[float, float] | None:
    """Between which numbers the field at ``path`` must lie, if it has both limits."""
    candidates = _kinds(msgspec.inspect.type_info(shape))
    for name in path.split("."):
        fields = [each for kind in candidates if isinstance(kind, msgspec.inspect.StructType) for each in kind.fields]
        candidates = [kind for each in fields if each.encode_name == name for kind in _kinds(each.type)]
    for kind in candidates:
        if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            return None if kind.ge is None or kind.le is None else (kind.ge, kind.le)
    return None


def _kinds(kind: msgspec.inspect.Type) -> Sequence[msgspec.inspect.Type]:
    """What a value may be."""
    return kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
