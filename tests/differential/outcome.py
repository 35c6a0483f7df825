"""What came of a request: its status, the shape of the answer, and what was said."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

#: A value's kind, with every member's of an object, and of a list the kinds that occur in it.
Shape = Any
#: The shape of Noa's errors in OpenAI's dialect: the fields, whatever their kinds.
ERROR = ("code", "message", "param", "type")


class Outcome(NamedTuple):
    """An answer. ``shape`` is that of the body, or of a stream's events in the order in which they first occur.

    ``said`` is what must be the same to the letter: texts, calls, vectors, reasons for ending, and counted tokens.
    """

    status: int
    kind: str
    shape: Shape
    said: Shape


def outcome(status: int, content_type: str, body: bytes) -> Outcome:
    """Read an answer."""
    kind = content_type.partition(";")[0]
    if kind == "text/event-stream":
        return _of_stream(status, kind, body)
    try:
        value = json.loads(body)
    except ValueError:
        return Outcome(status, kind, "no JSON", body.decode("latin-1"))
    if status >= 400:
        return Outcome(status, kind, tuple(sorted(value["error"])), None)
    return Outcome(status, kind, shape(value), said(value))


def _of_stream(status: int, kind: str, body: bytes) -> Outcome:
    events = [event.removeprefix("data:").strip() for event in body.decode().replace("\r\n", "\n").split("\n\n")]
    events = [event for event in events if event and not event.startswith(":")]
    shapes: list[Shape] = []
    values = []
    for event in events:
        value = event if event == "[DONE]" else json.loads(event)
        values.append(value)
        if (seen := value if value == "[DONE]" else shape(value)) not in shapes:
            shapes.append(seen)
    return Outcome(status, kind, shapes, _joined(values))


def shape(value: object) -> Shape:
    """The kinds within a value."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        kinds: list[Shape] = []
        for member in value:
            if (kind := shape(member)) not in kinds:
                kinds.append(kind)
        return kinds
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "text"


def said(value: dict[str, Any]) -> Shape:
    """What a whole answer says."""
    choices = [
        {name: choice.get(name) for name in ("message", "text", "finish_reason", "logprobs") if name in choice}
        for choice in value.get("choices") or ()
    ]
    vectors = [row.get("embedding") for row in value.get("data") or () if isinstance(row, dict)]
    return {"choices": _without_ids(choices), "vectors": vectors, "usage": value.get("usage")}


def _joined(values: list[Any]) -> Shape:
    """What a stream says, its pieces put together by choice."""
    texts: dict[str, str] = {}
    for value in values:
        for choice in value.get("choices") or () if isinstance(value, dict) else ():
            index = choice.get("index", 0)
            for name, piece in [*(choice.get("delta") or {}).items(), *choice.items()]:
                if name in {"content", "text", "finish_reason", "reasoning_content"} and isinstance(piece, str):
                    texts[f"{index} {name}"] = texts.get(f"{index} {name}", "") + piece
    usage = [value["usage"] for value in values if isinstance(value, dict) and value.get("usage")]
    return {"texts": texts, "usage": usage[-1:]}


def _without_ids(value: Any) -> Any:
    """The same without the ids that are drawn anew each time."""
    if isinstance(value, dict):
        return {name: _without_ids(member) for name, member in value.items() if name != "id"}
    if isinstance(value, list):
        return [_without_ids(member) for member in value]
    return value
