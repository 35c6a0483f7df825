"""Reading and setting the outermost fields of a body that passes through."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa.dialects.envelope import Peek, peek, retarget
from noa.errors import ValidationError

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", Peek(None, False, False)),
        (b'{"model": null, "stream": null, "stream_options": null}', Peek(None, False, False)),
        (b'{"messages": [{"model": "no"}], "model": "gpt-4", "stream": true}', Peek("gpt-4", True, False)),
        (b'{"stream_options": {"include_usage": true, "x": 1}, "stream": true}', Peek(None, True, True)),
        (b'{"model": "a", "model": "b"}', Peek("b", False, False)),
    ],
)
def test_the_envelope_is_read_wherever_it_stands(body: bytes, expected: Peek) -> None:
    assert peek(body) == expected


@pytest.mark.parametrize(
    ("choice", "forces"),
    [
        (None, False),
        ("auto", False),
        ("none", False),
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}, True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, False),
        ({"type": "auto"}, False),
        ({"type": "none"}, False),
        ({"type": "any"}, True),
        ({"type": "tool", "name": "f"}, True),
    ],
)
def test_a_demand_for_a_tool_is_seen_in_either_dialect(choice: object, forces: bool) -> None:
    assert peek(msgspec.json.encode({"tool_choice": choice})).forces_tool is forces


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b'{"model": ', "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"model": 7}', "model must be text"),
        (b'{"stream": "yes"}', "stream must be true or false"),
        (b'{"stream_options": 1}', "stream_options must be an object"),
        (b'{"stream_options": {"include_usage": 1}}', "stream_options.include_usage must be true or false"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_envelope_is_explained(body: bytes, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        peek(body)


def test_other_fields_stay_byte_for_byte_and_in_order() -> None:
    body = b'{"seed": 1.0, "model":"a", "messages": [ {"content": "\\u00e9 1e3"} ],"n":10000000000000000001}'
    assert retarget(body, model="b/c") == (
        b'{"seed":1.0,"model":"b/c","messages":[ {"content": "\\u00e9 1e3"} ],"n":10000000000000000001}'
    )


def test_fields_are_added_and_objects_merged() -> None:
    body = b'{"stream_options": {"include_obfuscation":false}, "stream": false}'
    again = retarget(
        body, model="m", stream=True, add={"stream_options": {"include_usage": True}, "return_progress": True}
    )
    assert msgspec.json.decode(again) == {
        "stream_options": {"include_obfuscation": False, "include_usage": True},
        "stream": True,
        "model": "m",
        "return_progress": True,
    }


def test_null_stream_options_are_replaced() -> None:
    again = retarget(b'{"stream_options": null}', model="m", add={"stream_options": {"include_usage": True}})
    assert msgspec.json.decode(again)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"x": ' + b"[" * 100_000])
def test_what_cannot_be_retargeted_is_a_validation_error(body: bytes) -> None:
    with pytest.raises(ValidationError):
        retarget(body, model="m")


@given(st.dictionaries(st.text(), json_values))
def test_retargeting_changes_the_model_and_nothing_else(fields: dict[str, Any]) -> None:
    again = msgspec.json.decode(retarget(msgspec.json.encode(fields), model="m"))
    assert again == {**fields, "model": "m"}
