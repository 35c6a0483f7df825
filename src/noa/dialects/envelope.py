"""The envelope of a request: which model it is for and how the answer is to come. Both dialects share it.

All but the structs serve the path on which a body passes through in the caller's own dialect: they read and set fields
of the outermost object, and leave every other one as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from noa.chat import ChatRequest
from noa.dialects.field import malformed, not_an_object, read_body, too_deep
from noa.errors import ValidationError


class DecodedRequest(msgspec.Struct, frozen=True):
    """A request read from a wire: the conversation, whether to stream the answer, and whether with usage."""

    request: ChatRequest
    stream: bool
    include_usage: bool


class Peek(msgspec.Struct, frozen=True):
    """What a body says of its envelope. ``model`` is ``None`` when it names none (which means ``current``).

    ``forces_tool`` says that the answer must be the call of a tool, by the ``tool_choice`` of either dialect.
    """

    model: str | None
    stream: bool
    include_usage: bool
    forces_tool: bool = False


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Envelope(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tool_choice: Any = None


_envelope = msgspec.json.Decoder(_Envelope)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def peek(body: bytes) -> Peek:
    """Read the envelope only.

    Raises ``ValidationError`` for a body that is no JSON object, a model that is no text, a stream that is no boolean.
    """
    try:
        envelope = _envelope.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(body, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(body, error) from error
    except RecursionError as error:
        raise too_deep() from error
    options = envelope.stream_options
    return Peek(
        envelope.model,
        bool(envelope.stream),
        options is not None and bool(options.include_usage),
        envelope.tool_choice is not None and _forces_tool(envelope.tool_choice),
    )


def retarget(body: bytes, *, model: str, stream: bool | None = None, add: Mapping[str, Any] | None = None) -> bytes:
    """The same body for another model.

    ``stream`` and the fields of ``add`` are set too; an object in ``add`` is merged into an object that stands there,
    so that asking for usage keeps the caller's other stream options. Values that are not set stay byte for byte.
    """
    fields = _raw_fields(body)
    fields["model"] = _raw(model)
    if stream is not None:
        fields["stream"] = _raw(stream)
    for name, value in (add or {}).items():
        before = fields.get(name)
        if before is not None and isinstance(value, Mapping) and bytes(before).lstrip().startswith(b"{"):
            inner = _raw_fields(bytes(before))
            inner.update({key: _raw(item) for key, item in value.items()})
            fields[name] = _raw(inner)
        else:
            fields[name] = _raw(value)
    return msgspec.json.encode(fields)


def without(body: bytes, name: str) -> bytes:
    """The same body without one of its fields."""
    fields = _raw_fields(body)
    fields.pop(name, None)
    return msgspec.json.encode(fields)


def renamed(body: bytes, old: str, new: str) -> bytes:
    """The same body with a field under another name, unless that one is there already."""
    fields = _raw_fields(body)
    if old in fields:
        value = fields.pop(old)
        fields.setdefault(new, value)
    return msgspec.json.encode(fields)


def _forces_tool(choice: object) -> bool:
    if not isinstance(choice, dict):
        return choice == "required"
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict):
        return allowed.get("mode") == "required"
    return choice.get("type") not in ("auto", "none")


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _raw_fields(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _fields.decode(body)
    except msgspec.ValidationError as error:
        raise not_an_object() from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(body, error) from error
    except RecursionError as error:
        raise too_deep() from error


def _explain(body: bytes, refusal: msgspec.ValidationError) -> ValidationError:
    """Say in words what the fast decoder did not accept."""
    try:
        root = read_body(body)
        root.member("model").optional_text()
        root.member("stream").optional_boolean()
        options = root.member("stream_options")
        if options.given:
            options.member("include_usage").optional_boolean()
    except ValidationError as error:
        return error
    return malformed(body, refusal)
