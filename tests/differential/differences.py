"""Where Noa answers otherwise than the engine behind it, on purpose, and why. Whatever is not here is a mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import ANY

from differential.cases import CHAT, COMPLETION, EMBEDDINGS, Case
from differential.outcome import ERROR, Outcome


class Difference(NamedTuple):
    """One difference: for which cases (by the engine's answer) it is expected, and what Noa's answer is then."""

    reason: str
    concerns: Callable[[Case, Outcome], bool]
    noa: Callable[[Case, Outcome], Outcome]


def expected(case: Case, bare: Outcome) -> Outcome:
    """What Noa answers where the bare engine answers so."""
    for difference in DIFFERENCES:
        if difference.concerns(case, bare):
            bare = difference.noa(case, bare)
    return bare


def asked(case: Case) -> dict[str, Any]:
    """The request's fields; none where it is no request."""
    try:
        fields = json.loads(case.body)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _refused(status: int) -> Callable[[Case, Outcome], Outcome]:
    return lambda _case, _bare: Outcome(status, "application/json", ERROR, None)


def _any_answer(_case: Case, _bare: Outcome) -> Outcome:
    return Outcome(200, ANY, ANY, ANY)


# What concerns which answer.


def _is_whole_chat(case: Case, bare: Outcome) -> bool:
    return case.path == CHAT and bare.status == 200 and bare.kind == "application/json"


def _is_chat_stream_without_usage(case: Case, bare: Outcome) -> bool:
    streamed = case.path == CHAT and bare.kind == "text/event-stream"
    return streamed and not (asked(case).get("stream_options") or {}).get("include_usage")


def _demands_a_call(case: Case, bare: Outcome) -> bool:
    choice = asked(case).get("tool_choice")
    return bare.status == 200 and (choice == "required" or isinstance(choice, dict))


def _continues_an_answer(case: Case, bare: Outcome) -> bool:
    messages = asked(case).get("messages") or [{}]
    return _is_whole_chat(case, bare) and messages[-1].get("role") == "assistant"


def _is_cut_within_the_fence(case: Case, bare: Outcome) -> bool:
    return _is_whole_chat(case, bare) and any(
        str(choice["message"].get("content")).startswith("```js") for choice in bare.said["choices"]
    )


def _has_several_prompts(case: Case, bare: Outcome) -> bool:
    prompt = asked(case).get("prompt")
    several = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    return case.path == COMPLETION and bare.status == 200 and several


# What Noa answers there.


def _with_logprobs(_case: Case, bare: Outcome) -> Outcome:
    shape = {**bare.shape, "choices": [{"logprobs": "null", **choice} for choice in bare.shape["choices"]]}
    said = {**bare.said, "choices": [{"logprobs": None, **choice} for choice in bare.said["choices"]]}
    return bare._replace(shape=shape, said=said)


def _without_timings(_case: Case, bare: Outcome) -> Outcome:
    shapes: list[Any] = []
    for event in bare.shape:
        kept = event
        if isinstance(event, dict) and any(choice["finish_reason"] == "text" for choice in event["choices"]):
            kept = {name: member for name, member in event.items() if name != "timings"}
        shapes.append(kept)
    return bare._replace(shape=shapes)


def _with_content(content: Callable[[str], str]) -> Callable[[Case, Outcome], Outcome]:
    def changed(_case: Case, bare: Outcome) -> Outcome:
        choices = [
            {**choice, "message": {**choice["message"], "content": content(choice["message"]["content"])}}
            for choice in bare.said["choices"]
        ]
        return bare._replace(said={**bare.said, "choices": choices})

    return changed


def _continuation(case: Case, bare: Outcome) -> Outcome:
    beginning = asked(case)["messages"][-1]["content"] or ""
    return _with_content(lambda content: content.removeprefix(beginning))(case, bare)


def _without_counts(_case: Case, bare: Outcome) -> Outcome:
    shape = bare.shape
    if isinstance(shape, list):
        shape = [event for event in shape if event != "null"]
    return bare._replace(shape=shape, said={**bare.said, "usage": ANY})


DIFFERENCES = (
    Difference(
        "A mistake of the caller's is status 400, also where the engine calls it its own and says 500.",
        lambda _case, bare: bare.status == 500,
        _refused(400),
    ),
    Difference(
        "To embed with a model that only chats is a mistake of the caller's, and not one of the server's.",
        lambda case, bare: case.path == EMBEDDINGS and bare.status == 501,
        _refused(400),
    ),
    Difference(
        "The engine serves its one model whatever is asked for. Noa has many, and refuses one that it does not know.",
        lambda case, bare: "model is unknown" in case.name,
        _refused(404),
    ),
    Difference(
        "The same for a model's name that is no text.",
        lambda case, bare: "model is a number" in case.name,
        _refused(400),
    ),
    Difference(
        "A call demanded of a model known to have no tools is refused; the engine answers in prose and says nothing.",
        _demands_a_call,
        _refused(400),
    ),
    Difference(
        "JSON begins without a byte order mark (RFC 8259, 8.1); the engine's library skips one.",
        lambda case, bare: case.body.startswith(b"\xef\xbb\xbf"),
        _refused(400),
    ),
    Difference(
        "Errors are in the form that OpenAI's clients read: with param, and with a code that is a word.",
        lambda case, bare: bare.status >= 400,
        lambda case, bare: bare._replace(shape=ERROR),
    ),
    Difference(
        "A choice has logprobs, if only null, as OpenAI's answers do.",
        _is_whole_chat,
        _with_logprobs,
    ),
    Difference(
        "The engine's timings come with the usage if that was asked for. Noa asks, and takes that chunk out again.",
        _is_chat_stream_without_usage,
        _without_timings,
    ),
    Difference(
        "Noa always streams from the engine, and a stream does not repeat the beginning that the caller gave.",
        _continues_an_answer,
        _continuation,
    ),
    Difference(
        "The engine lets a model open its JSON with a Markdown fence and takes that off. An answer that is cut off "
        "there shows it only where the engine does not stream.",
        _is_cut_within_the_fence,
        _with_content(lambda _content: ""),
    ),
    Difference(
        "Of several prompts the engine counts one: the first, or the last where it streams. Its “null” events between "
        "them go no further.",
        _has_several_prompts,
        _without_counts,
    ),
    Difference(
        "Noa sets return_progress itself, so that it can leave while a prompt is read, and takes it out again.",
        lambda case, bare: bare.status == 400 and "return_progress" in asked(case),
        _any_answer,
    ),
)
