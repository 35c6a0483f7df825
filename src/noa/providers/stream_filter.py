"""What stands between an upstream's stream and its reader: bytes pass, what Noa asked for on its own is taken out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from noa.chat import Usage
from noa.dialects.sse import SseParser
from noa.dialects.upstream import stream_error, truncated
from noa.errors import AIProviderError, ProviderResponseError
from noa.providers.wire import Wire

#: The largest event of a stream.
MAX_EVENT_BYTES = 8 * 1024 * 1024
#: The blank line that ends an event, in any mixture of line ends; atomic, so that CR LF is never read as two. A CR at
#: the very end waits, for it may be half of one.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")
_ENDED_BY_CR = re.compile(rb"(?>\r\n|\n|\r)\r\Z")


class StreamFilter:
    """Reads a stream of server-sent events along and drops the events that its reader did not ask for.

    The others pass byte for byte, in the upstream's own chunks wherever those end with an event. Only whole events
    pass, so that an error event can follow at any time. It notices usage, the beginning of the answer, errors inside
    the stream and its end, so that a stream that merely stops, or ends before it said anything, is told from one that
    is finished. What follows the end is dropped. ``failure`` is set once the stream reports an error or makes no sense;
    nothing passes after that. ``redact`` takes the key out of such an error before it is told.
    """

    def __init__(
        self,
        wire: Wire,
        provider: str,
        *,
        redact: Callable[[bytes], bytes] = bytes,
        drop_usage: bool = False,
        drop_progress: bool = False,
    ) -> None:
        self._wire = wire
        self._provider = provider
        self._redact = redact
        self._drop_usage = drop_usage
        self._drop_progress = drop_progress
        self._buffer = bytearray()
        self._searched = 0
        self._parser = SseParser(max_event_bytes=MAX_EVENT_BYTES)
        self._counts: dict[str, Any] = {}
        self._finished = False
        self._answered = False
        self.usage: Usage | None = None
        self.begun = False
        self.ended = False
        self.failure: AIProviderError | None = None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes to pass on now that ``chunk`` has come, maybe none."""
        self._buffer += chunk
        kept = bytearray()
        try:
            while not self.ended and (frame := self._next_frame()):
                if self._keeps(frame):
                    kept += frame
            if len(self._buffer) > MAX_EVENT_BYTES:
                raise self._broken("sent an event that is too large")
        except AIProviderError as failure:
            self.failure = failure
            self._buffer.clear()
        return bytes(kept)

    def close(self) -> bytes:
        """What is left to pass on when the upstream has ended; ``failure`` is set if the answer was not finished."""
        # Some services leave out the blank line after their last event. One that is there may still wait for the LF
        # that its last CR might have been half of.
        ended = _ENDED_BY_CR.search(self._buffer) is not None
        rest = self.feed(b"\n\n") if self._buffer.strip() else b""
        if ended:
            rest = rest.removesuffix(b"\n")
        if self.failure is None and not self._finished:
            self.failure = truncated(self._provider)
        return rest

    def _next_frame(self) -> bytes | None:
        """The next whole event with the blank line that ends it."""
        boundary = _BLANK_LINE.search(self._buffer, self._searched)
        if boundary is None:
            # A blank line is at most four bytes, three of which may be here already.
            self._searched = max(0, len(self._buffer) - 3)
            return None
        end = boundary.end()
        frame = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        return frame

    def _keeps(self, frame: bytes) -> bool:
        if frame.startswith(b"data:") and frame.endswith(b"\n\n") and frame.find(b"\n", 0, -2) < 0:
            # The common form, without the way through text.
            return self._notice(None, frame[5:])
        return all(self._notice(event.event, event.data) for event in self._parser.feed(frame))

    def _notice(self, name: str | None, data: str | bytes) -> bool:
        """Take note of what an event says, and tell whether it is passed on."""
        try:
            if isinstance(data, bytes) and not data.isascii():
                data.decode()  # What is only glanced over is not checked, and a client would stumble over it.
            glance = self._wire.glance(name, data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not data.strip():
                return False  # A sign of life of some services, and no event to anybody's client.
            raise self._broken("sent an event that makes no sense") from None
        if glance.error is not None:
            shown = self._redact(msgspec.json.encode(glance.error))
            raise stream_error(msgspec.json.decode(shown), self._provider)
        if glance.ended and not self._answered:
            raise truncated(self._provider)
        self._answered = self._answered or glance.begun or glance.finished or glance.usage is not None
        self.begun = self.begun or glance.begun
        self.ended = glance.ended
        self._finished = self._finished or glance.finished
        if glance.usage:
            # Anthropic counts on: a later event repeats only some of the figures.
            self._counts.update({name: count for name, count in glance.usage.items() if count is not None})
            self.usage = self._wire.read_usage(self._counts)
        return not (glance.progress and self._drop_progress) and not (glance.usage_only and self._drop_usage)

    def _broken(self, what: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"{self._provider} {what} in the middle of its answer. Try again.",
            provider=self._provider,
            details={"sent": True},
        )
