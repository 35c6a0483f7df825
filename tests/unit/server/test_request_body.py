"""What a person is told of a body that is wrong."""

from __future__ import annotations

import pytest

from noa.errors import ValidationError
from noa.server.inference_api import ChatBody
from noa.server.profile_wire import ProfileBody
from noa.server.request_body import read
from noa.server.wire import LoadBody


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"modle": "x"}', "There is no field “modle” here. Did you mean model?"),
        (b'{"options": {"ctx": 1}}', "There is no field “options.ctx” here. Known are contextSize, slots, threads,"),
        (b'{"key": 5}', "key must be text."),
        (b'{"pin": "yes"}', "pin must be true or false."),
        (b'{"priority": 1.5}', "priority must be a whole number."),
        (b'{"ttl": -1}', "ttl must be a number, 0 or more."),
        (b'{"options": {"slots": 0}}', "options.slots must be a whole number from 1 to 256."),
        (b'{"options": []}', "options must be an object."),
        (b"[]", "The request’s body must be an object."),
        (b'{"key": ', "The request's body is not valid JSON"),
        (b"\xff", "The request's body is not valid JSON"),
    ],
)
def test_a_sentence_names_the_field(body: bytes, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(body, LoadBody)
    assert sentence in caught.value.message


def test_an_empty_body_is_an_empty_object() -> None:
    assert read(b"", ProfileBody) == ProfileBody(test_count=10)
    assert read(b'{"testCount": 3}', ProfileBody).test_count == 3


def test_a_body_that_is_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(ValidationError, match="nested too deeply"):
        read(b'{"messages": [{"content": ' + b"[" * 100_000, ChatBody)
