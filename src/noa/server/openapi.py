"""The OpenAPI document: what FastAPI knows of the routes, and the schemas of the very values that are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
from fastapi import FastAPI

from noa.server import wire

_REFERENCES: Final = "#/components/schemas/{name}"


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of a query or header."""

    name: str
    description: str
    schema: Mapping[str, object] = MappingProxyType({"type": "string"})
    place: str = "query"


class Documentation:
    """Collects what the routes take and answer, and writes the document."""

    def __init__(self) -> None:
        self._types: dict[type, None] = {wire.Envelope: None}
        self._paths: dict[str, dict[str, Any]] = {}

    def describe(
        self,
        *answers: type,
        status: int = 200,
        body: type | None = None,
        parameters: Sequence[Parameter] = (),
        media_type: str = "application/json",
    ) -> dict[str, Any]:
        """The OpenAPI operation of a route: what it answers (one of ``answers``), and what it takes."""
        content: dict[str, Any] = {"schema": self._one_of(answers)} if answers else {}
        operation: dict[str, Any] = {
            "responses": {
                str(status): {"description": "Done.", "content": {media_type: content}},
                "default": {"description": "An error.", "content": _json(self._one_of([wire.Envelope]))},
            }
        }
        if body is not None:
            operation["requestBody"] = {"content": _json(self._one_of([body]))}
        if parameters:
            operation["parameters"] = [
                {"name": each.name, "in": each.place, "description": each.description, "schema": dict(each.schema)}
                for each in parameters
            ]
        return operation

    def add(self, method: str, path: str, operation: dict[str, Any]) -> None:
        """Describe a route that FastAPI does not know."""
        self._paths.setdefault(path, {})[method.lower()] = operation

    def install(self, app: FastAPI) -> None:
        """Have the application answer with the whole document; it is written when it is first asked for."""
        from_fastapi = app.openapi

        def document() -> dict[str, Any]:
            if app.openapi_schema is None:
                written = from_fastapi()
                written["paths"] |= self._paths
                schemas = written.setdefault("components", {}).setdefault("schemas", {})
                _, components = msgspec.json.schema_components(
                    self._types, schema_hook=_schema_of_anything, ref_template=_REFERENCES
                )
                schemas |= components
                app.openapi_schema = written
            return app.openapi_schema

        app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document

    def _one_of(self, types: Sequence[type]) -> dict[str, Any]:
        self._types |= dict.fromkeys(types)
        references = [{"$ref": _REFERENCES.format(name=each.__name__)} for each in types]
        return references[0] if len(references) == 1 else {"oneOf": references}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _schema_of_anything(_: type) -> dict[str, Any]:
    """Types without a shape of their own (``object``, raw JSON) may hold any value."""
    return {"description": "Any JSON value."}
