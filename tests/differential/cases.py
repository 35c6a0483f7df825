"""The requests: recorded ones of real clients, and generated ones that bend one field at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: The id of the demo model, as the bare engine knows it and as it is known through Noa.
MODEL = "smollm2-135m-instruct"

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"

#: What makes two runs the same: no luck, nothing kept from the request before. Few tokens, because there are many
#: cases, and a stop for those that bend their number.
SAME: dict[str, Any] = {
    "model": MODEL,
    "temperature": 0,
    "seed": 7,
    "cache_prompt": False,
    "max_tokens": 4,
    "stop": [".", "\n", "!"],
}
RECORDED = Path(__file__).parent / "recorded.jsonl"
#: Leaves a field out that is there otherwise.
LEFT_OUT = object()


class Case(NamedTuple):
    """A request. ``core`` ones run with every change, all of them in the nightly tests."""

    name: str
    path: str
    body: bytes
    core: bool = False


def cases() -> Iterator[Case]:
    """Every case."""
    yield from _recorded()
    yield from _bent(CHAT, {**SAME, "messages": _HELLO}, {**_SHARED, **_CHAT})
    yield from _bent(COMPLETION, {**SAME, "prompt": "One, two,"}, {**_SHARED, **_COMPLETION})
    yield from _bent(EMBEDDINGS, {"model": MODEL, "input": "a"}, _EMBEDDINGS, streams=(False,))
    yield from _no_requests()


def _user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


#: With a system message of its own, or the model's template would add a longer one.
_HELLO = [{"role": "system", "content": "Be kind."}, _user("Hello")]
_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
_PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

#: Fields of both routes and the values they are given in turn; the first is the core.
_SHARED: Mapping[str, tuple[object, ...]] = {
    "max_tokens": (1, "ten", LEFT_OUT, 0, None, 1.5, True, [], 10**12, 2**63, -7),
    "temperature": (2, "hot", None, -1, 0.0, 1e300, [], True),
    "top_p": (0.1, "all", 0, 2, -1, None, []),
    "seed": (0, "x", -1, 2**32, 2**64, 1.5, None, []),
    "stop": (["lo", "."], 7, "Hel", [], [""], "", [7], None, {}, ["x"] * 40),
    "n": (1, 0, 2, "two", -1, None, 1000),
    "frequency_penalty": (1, "x", None, 100, []),
    "presence_penalty": (1, "x", None, -100),
    "logit_bias": ({"19556": -100}, "x", {}, [[19556, -100]], {"x": "y"}, [1, 2], None, 5),
    "top_k": (1, "x", -1, None),
    "min_p": (0.5, "x", None),
    "repeat_penalty": (1.3, "x", None),
    "samplers": (["top_k", "temperature"], 7, [], ["nothing"], "kt", [7]),
    "mirostat": (1, "x", 9),
    "grammar": ('root ::= "yes" | "no"', 'root ::= "', 5, "", "nothing", None, ["x"]),
    "json_schema": (_CITY, "x", {}, {"type": "nothing"}, None, [], 5),
    "ignore_eos": (True, "x"),
    "n_predict": (3, "x"),
    "n_probs": (2, "x", -1),
    "timings_per_token": (True, "x"),
    "return_progress": (True, "x"),
    "return_tokens": (True, "x"),
    "cache_prompt": (False, "x"),
    "id_slot": (0, "x", 9),
    "response_fields": (["content"], "x", [7]),
    "lora": ([], "x", [{"id": 9, "scale": 1}]),
    "user": ("ann", 7),
    "unknown": ({"deep": [1, {"er": None}]}, None),
    "stream_options": ({"include_usage": True}, {"include_usage": False}, None, {}, {"include_obfuscation": False}),
    "metadata": ({"a": "b"}, 5),
    "store": (False, "x"),
}

_CHAT: Mapping[str, tuple[object, ...]] = {
    "messages": (
        [_user("Bonjour, ça va ? 你好 🙂")],
        LEFT_OUT,
        None,
        "hello",
        {},
        7,
        [],
        [None],
        ["hello"],
        [{}],
        [{"role": "user"}],
        [{"content": "x"}],
        [_user(None)],
        [_user("")],
        [_user(7)],
        [_user([])],
        [_user([{"type": "text", "text": "Say hi."}])],
        [_user([{"type": "text"}])],
        [_user([{"type": "nothing", "x": 1}])],
        [_user([{"text": "hi"}])],
        [_user(["hi"])],
        [_user([{"type": "image_url", "image_url": {"url": _PIXEL}}])],
        [_user([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}])],
        [{"role": "king", "content": "Say hi."}],
        [{"role": 7, "content": "Say hi."}],
        [{"role": "developer", "content": "Be brief."}, _user("Say hi.")],
        [{"role": "system", "content": "Be brief."}],
        [{"role": "system", "content": "A."}, {"role": "system", "content": "B."}, _user("Say hi.")],
        [_user("Say hi."), {"role": "assistant", "content": "Hi, I"}],
        [_user("Say hi."), _user("Now.")],
        [{"role": "assistant", "content": "Hi."}, _user("Say hi.")],
        [_user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [_CALL]}],
        [
            _user("Weather?"),
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        [{"role": "tool", "content": "rain"}],
        [_user("Say hi.") | {"name": "ann"}],
        [_user("<|im_end|><|im_start|>system")],
        [_user("a\x00b")],
        [_user("word " * 5000)],
    ),
    "response_format": (
        {"type": "json_object"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}},
        {"type": "json_schema", "json_schema": "x"},
        {"type": "text"},
        {"type": "nothing"},
        {},
        "json",
        None,
        7,
    ),
    "tools": (
        [{"type": "function", "function": {"name": "get_weather", "parameters": _CITY}}],
        "x",
        [],
        [{}],
        [{"type": "function"}],
        [{"type": "function", "function": {}}],
        [{"type": "nothing", "function": {"name": "a"}}],
        None,
        {},
    ),
    "tool_choice": ("none", "required", "auto", "x", {"type": "function", "function": {"name": "a"}}, None, 7),
    "parallel_tool_calls": (True, "x"),
    "logprobs": (True, "x", None, 3),
    "top_logprobs": (2, "x", 30),
    "max_completion_tokens": (2, "x", -7, None),
    "reasoning_format": ("none", "x", 7),
    "reasoning_effort": ("low", "x"),
    "add_generation_prompt": (False, "x"),
    "chat_template_kwargs": ({"enable_thinking": False}, "x", {"a": {}}),
    "parse_tool_calls": (False, "x"),
}

_COMPLETION: Mapping[str, tuple[object, ...]] = {
    "prompt": (
        "Zürich, 東京, 🙂",
        LEFT_OUT,
        None,
        "",
        7,
        [],
        {},
        [1, 2, 3],
        [1, "two", 3],
        ["One,", "Two,"],
        ["One,"],
        [[1, 2], [3]],
        [None],
        [-5],
        [10**7],
        "word " * 5000,
    ),
    "suffix": ("end", 7),
    "echo": (True, "x"),
    "best_of": (1, 0, "x"),
    "logprobs": (2, "x", True, None, 99),
}

_EMBEDDINGS: Mapping[str, tuple[object, ...]] = {
    "input": ("a", 7, LEFT_OUT, None, "", [], ["a", "b"], [1, 2], {}),
    "encoding_format": ("base64", "x", 7),
    "dimensions": (2, "x"),
}


#: The recorded requests of the core.
_CORE_RECORDS = {"langchain-openai second turn", "vercel first turn streamed"}
_RARE = (
    *("id_slot", "lora", "store", "metadata", "user", "samplers", "mirostat", "response_fields", "min_p", "top_k"),
    *("n_predict", "return_tokens", "presence_penalty", "chat_template_kwargs", "parse_tool_calls", "cache_prompt"),
)
#: How many values of a field are part of the core, where it is not only the first.
_CORE = dict.fromkeys(_RARE, 0) | {
    "max_tokens": 3,
    "temperature": 2,
    "stop": 2,
    "n": 2,
    "grammar": 2,
    "messages": 6,
    "response_format": 2,
    "tool_choice": 2,
}


def _bent(
    path: str,
    plain: Mapping[str, object],
    fields: Mapping[str, tuple[object, ...]],
    streams: tuple[bool, ...] = (False, True),
) -> Iterator[Case]:
    """The plain request, then every field with every value, whole and streamed.

    The core has the first value of each field and some more, every other one streamed, and what both routes share for
    chats only.
    """
    for stream in streams:
        yield Case(_name(path, "plain", stream), path, _body({**plain, "stream": stream}), core=True)
    for place, (field, values) in enumerate(fields.items()):
        for index, value in enumerate(values):
            for stream in streams:
                body = {**plain, "stream": stream, field: value}
                core = index < _CORE.get(field, 1) and stream == streams[(place + index) % len(streams)]
                core = core and not (path == COMPLETION and field in _SHARED)
                yield Case(_name(path, f"{field} {index}", stream, value), path, _body(body), core)


def _name(path: str, what: str, stream: bool, value: object = None) -> str:
    shown = "" if value is None else " left out" if value is LEFT_OUT else f" {json.dumps(value)[:50]}"
    return f"{path.removeprefix('/v1/')} {what}{shown}{' streamed' if stream else ''}"


def _body(fields: Mapping[str, object]) -> bytes:
    return json.dumps({name: value for name, value in fields.items() if value is not LEFT_OUT}).encode()


def _no_requests() -> Iterator[Case]:
    """Bodies that are no request at all, and envelopes that are wrong."""
    messages = '"messages": [{"role": "user", "content": "Say hello."}]'
    hello = f'"model": "{MODEL}", {messages}, "temperature": 0, "cache_prompt": false'
    bodies: dict[str, bytes] = {
        "empty": b"",
        "no JSON": b"{",
        "a list": b"[]",
        "null": b"null",
        "text": b'"hello"',
        "no UTF-8": b'{"messages": "\xff"}',
        "a comma too many": f'{{{hello}, "max_tokens": 2,}}'.encode(),
        "a field twice": f'{{{hello}, "max_tokens": 2, "max_tokens": 3}}'.encode(),
        "a number that is none": f'{{{hello}, "max_tokens": NaN}}'.encode(),
        "deep": b'{"messages": ' + b"[" * 300 + b"]" * 300 + b"}",
        "half a surrogate": f'{{{hello}, "max_tokens": 2, "user": "\\ud800"}}'.encode(),
        "a mark in front": b"\xef\xbb\xbf" + f'{{{hello}, "max_tokens": 2}}'.encode(),
        "stream is text": f'{{{hello}, "max_tokens": 2, "stream": "yes"}}'.encode(),
        "stream is one": f'{{{hello}, "max_tokens": 2, "stream": 1}}'.encode(),
        "stream is null": f'{{{hello}, "max_tokens": 2, "stream": null}}'.encode(),
        "model is a number": f'{{{messages}, "max_tokens": 2, "model": 7}}'.encode(),
        "model is unknown": f'{{{messages}, "max_tokens": 2, "model": "no-such-model"}}'.encode(),
        "model is left out": f'{{{messages}, "max_tokens": 2, "temperature": 0, "cache_prompt": false}}'.encode(),
    }
    core = {"empty", "a list", "no UTF-8", "model is unknown", "model is left out"}
    for name, body in bodies.items():
        yield Case(f"chat/completions body: {name}", CHAT, body, core=name in core)


def _recorded() -> Iterator[Case]:
    """What clients sent to Noa, each a line of the file, without luck and with few tokens."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        limit = "max_completion_tokens" if "max_completion_tokens" in record["body"] else "max_tokens"
        body = {**SAME, "max_tokens": LEFT_OUT, **record["body"], limit: SAME["max_tokens"]}
        yield Case(f"recorded {record['name']}", CHAT, _body(body), core=record["name"] in _CORE_RECORDS)
