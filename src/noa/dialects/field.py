"""A field of a caller's JSON: its value, and the path by which a person finds it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from noa.errors import UnsupportedError, ValidationError


class Field:
    """A value within a request, read with its expectation; what is wrong is said with the path.

    Absent and ``null`` are the same: ``given`` is false.
    """

    __slots__ = ("path", "value")

    def __init__(self, value: object, path: str) -> None:
        self.value = value
        self.path = path

    @property
    def given(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    def wrong(self, expected: str) -> ValidationError:
        """The error to raise when the value is something else."""
        problem = "must be" if self.given else "is missing; it must be"
        return ValidationError(f"{self.path} {problem} {expected}.", details={"param": self.path})

    def untranslatable(self, what: str | None = None) -> UnsupportedError:
        """The error to raise when the value is fine, but has no form outside its own dialect."""
        subject = f"{self.path} is {what}, which" if what else f"{self.path}"
        return UnsupportedError(
            f"{subject} cannot be translated for a model that speaks another dialect; leave it out.",
            details={"param": self.path},
        )

    def member(self, name: str) -> Field:
        """A member of an object."""
        path = f"{self.path}.{name}" if self.path else name
        return Field(self.mapping().get(name), path)

    def mapping(self, expected: str = "an object") -> dict[str, Any]:
        """The value as an object."""
        if isinstance(self.value, dict):
            return self.value
        raise self.wrong(expected)

    def items(self, expected: str = "a list") -> list[Field]:
        """The items of a list."""
        if isinstance(self.value, list):
            return [Field(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]
        raise self.wrong(expected)

    def text(self, expected: str = "text") -> str:
        """The value as text."""
        if isinstance(self.value, str):
            return self.value
        raise self.wrong(expected)

    def choice(self, allowed: Collection[str]) -> str:
        """The value as one of a few words."""
        if isinstance(self.value, str) and self.value in allowed:
            return self.value
        raise self.wrong("one of " + ", ".join(allowed))

    def optional_text(self, expected: str = "text") -> str | None:
        """The value as text, if there is one."""
        return self.text(expected) if self.given else None

    def optional_integer(self, minimum: int | None = None) -> int | None:
        """The value as a whole number, if there is one."""
        if not self.given:
            return None
        whole = isinstance(self.value, int) or (isinstance(self.value, float) and self.value.is_integer())
        if isinstance(self.value, (int, float)) and whole and not isinstance(self.value, bool):
            number = int(self.value)
            if minimum is None or number >= minimum:
                return number
        raise self.wrong("a whole number" if minimum is None else f"a whole number, {minimum} or more")

    def optional_number(self) -> float | None:
        """The value as a number, if there is one."""
        if not self.given:
            return None
        if isinstance(self.value, (int, float)) and not isinstance(self.value, bool):
            return self.value
        raise self.wrong("a number")

    def optional_boolean(self) -> bool | None:
        """The value as true or false, if there is one."""
        if self.value is None or isinstance(self.value, bool):
            return self.value
        raise self.wrong("true or false")

    def optional_mapping(self) -> dict[str, Any] | None:
        """The value as an object, if there is one."""
        return self.mapping() if self.given else None

    def refuse_others(self, known: Collection[str]) -> None:
        """Refuse members beyond ``known`` that say something: dropping them would change the request in silence."""
        for name, value in self.mapping().items():
            if name not in known and value not in (None, "", [], {}):
                raise self.member(name).untranslatable()


def read_body(body: bytes) -> Field:
    """The JSON object a request's body holds. Raises ``ValidationError`` for anything else."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(body, error) from error
    except RecursionError as error:
        raise too_deep() from error
    if not isinstance(value, dict):
        raise not_an_object()
    return Field(value, "")


def malformed(body: bytes, error: Exception) -> ValidationError:
    """The error for a body that is no JSON."""
    if not body.strip():
        return ValidationError("The request's body is empty; it must be a JSON object.")
    return ValidationError(f"The request's body is not valid JSON: {error}.")


def too_deep() -> ValidationError:
    """The error for a body that is nested beyond reason."""
    return ValidationError("The request's body is nested too deeply.")


def not_an_object() -> ValidationError:
    """The error for a body that is JSON, but no object."""
    return ValidationError("The request's body must be a JSON object.")
