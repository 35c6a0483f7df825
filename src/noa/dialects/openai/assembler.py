"""A stream of chunks put together into the body that would have come without streaming.

For engines that must always be streamed to: the caller who asked for a whole answer gets every field that came.
"""

from __future__ import annotations

from typing import Any

import msgspec

from noa.dialects.openai.stream import DONE
from noa.dialects.sse import SseEvent
from noa.dialects.upstream import decode_answer, stream_error, truncated
from noa.errors import ProviderResponseError

_object = msgspec.json.Decoder(dict[str, Any])

#: Members of a chunk that belong to the stream and not to the answer.
_STREAM_ONLY = frozenset({"choices", "object", "prompt_progress", "error", "obfuscation"})
#: Texts of a delta that name something; others continue what came before.
_NAMES = frozenset({"role", "id", "type", "name"})


class StreamAssembler:
    """Collects the chunks of a chat completion or a text completion. ``provider`` is named in errors.

    Members of chunks and deltas that are not known are kept: texts continue, lists grow, anything else is replaced.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._done = False
        self._body: dict[str, Any] = {}
        self._is_text = False
        self._choices: dict[int, _Choice] = {}

    @property
    def finished(self) -> bool:
        """Whether the answer is complete: the terminator was seen, or every choice has its reason for ending."""
        choices = self._choices.values()
        return self._done or (bool(choices) and all(choice.finish_reason is not None for choice in choices))

    def feed(self, event: SseEvent) -> None:
        """Take one event. Raises what an error inside the stream stands for, ``ProviderResponseError`` for nonsense."""
        if self._done:
            return
        if event.data.strip() == DONE:
            self._done = True
            return
        chunk = decode_answer(_object, event.data, "chunk of a completion", self._provider)
        if chunk.get("error") or event.event == "error":
            raise stream_error(chunk.get("error") or chunk, self._provider)
        self._is_text = self._is_text or chunk.get("object") == "text_completion"
        self._body.update(
            {name: value for name, value in chunk.items() if name not in _STREAM_ONLY and value is not None}
        )
        choices = chunk.get("choices") or []
        if not isinstance(choices, list):
            raise self._nonsense("choices that are no list")
        for wire in choices:
            if not isinstance(wire, dict):
                raise self._nonsense("a choice that is no object")
            index = wire.get("index") or 0
            if not isinstance(index, int):
                raise self._nonsense("a choice without a number")
            self._choices.setdefault(index, _Choice()).add(wire)

    def body(self) -> bytes:
        """The whole answer. Raises ``ProviderResponseError`` if the stream ended too early."""
        if not self.finished or not self._choices:
            raise truncated(self._provider)
        head: dict[str, Any] = {
            "id": self._body.get("id", ""),
            "object": "text_completion" if self._is_text else "chat.completion",
            "created": self._body.get("created", 0),
            "model": self._body.get("model", ""),
            "choices": [choice.whole(index, self._is_text) for index, choice in sorted(self._choices.items())],
        }
        return msgspec.json.encode({**head, **{k: v for k, v in self._body.items() if k not in head}})

    def _nonsense(self, what: str) -> ProviderResponseError:
        return ProviderResponseError(f"{self._provider} streamed {what}.", provider=self._provider)


class _Choice:
    """One choice as it grows."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._logprobs: dict[str, Any] = {}
        self._message = _Growing()
        self._others: dict[str, Any] = {}

    def add(self, wire: dict[str, Any]) -> None:
        for name, value in wire.items():
            if name == "delta" and isinstance(value, dict):
                self._message.add(value)
            elif name == "text" and isinstance(value, str):
                self._message.add({"text": value})
            elif name == "logprobs" and isinstance(value, dict):
                for key, items in value.items():
                    if isinstance(items, list):
                        self._logprobs.setdefault(key, []).extend(items)
            elif name == "finish_reason":
                self.finish_reason = value or self.finish_reason
            elif name != "index" and value is not None:
                self._others[name] = value

    def whole(self, index: int, is_text: bool) -> dict[str, Any]:
        message = self._message.whole()
        ending = {"logprobs": self._logprobs or None, "finish_reason": self.finish_reason, **self._others}
        if is_text:
            return {"text": message.get("text", ""), "index": index, **ending}
        content = message.get("content") or (None if message.get("tool_calls") else "")
        return {"index": index, "message": {"role": "assistant", **message, "content": content}, **ending}


class _Growing:
    """An object whose texts arrive in pieces. The pieces are joined once, at the end."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._values: dict[str, Any] = {}
        self._calls: dict[int, _Growing] = {}
        self._objects: dict[str, _Growing] = {}

    def add(self, delta: dict[str, Any]) -> None:
        for name, value in delta.items():
            if value is None:
                continue
            if name == "tool_calls" and isinstance(value, list):
                self._add_calls(value)
            elif isinstance(value, str) and name not in _NAMES:
                self._texts.setdefault(name, []).append(value)
            elif isinstance(value, dict):
                self._objects.setdefault(name, _Growing()).add(value)
            elif isinstance(value, list):
                before = self._values.get(name)
                self._values[name] = [*before, *value] if isinstance(before, list) else value
            elif value != "":
                self._values[name] = value

    def whole(self) -> dict[str, Any]:
        result = dict(self._values)
        result.update({name: "".join(pieces) for name, pieces in self._texts.items()})
        result.update({name: growing.whole() for name, growing in self._objects.items()})
        if self._calls:
            result["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        return result

    def _add_calls(self, calls: list[Any]) -> None:
        for call in calls:
            if isinstance(call, dict):
                index = call.get("index")
                if not isinstance(index, int):
                    index = len(self._calls) if call.get("id") else max(len(self._calls) - 1, 0)
                self._calls.setdefault(index, _Growing()).add({k: v for k, v in call.items() if k != "index"})
