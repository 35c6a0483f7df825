"""Server-sent events: bytes into events, and back.

The grammar is the HTML standard's (section "Server-sent events", 9.2.6): lines end in LF, CR or CRLF, a blank line ends
an event, a line that begins with a colon is a comment. An event that the end of the body cuts short is none.
"""

from __future__ import annotations

import msgspec

from noa.errors import ProviderResponseError

#: An event larger than this is no event of a language model.
MAX_EVENT_BYTES = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class SseEvent(msgspec.Struct, frozen=True):
    """One event. ``event`` is its type if it names one, ``id`` the last id the stream has given."""

    event: str | None
    data: str
    id: str | None


class SseParser:
    """Turns the bytes of an event stream into events, however they are split.

    Raises ``ProviderResponseError`` for an event larger than ``max_event_bytes`` and for bytes that are no UTF-8.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._event: str | None = None
        self._id: str | None = None
        self._data: list[str] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether part of an event has come that is not complete."""
        return bool(self._line or self._data)

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Take more bytes and give the events that are complete now."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, newline, rest = chunk.partition(b"\n")
        self._line += head
        self._check_size(len(self._line))
        if not newline:
            return []
        events: list[SseEvent] = []
        lines = rest.split(b"\n")
        tail = lines.pop()
        first = bytes(self._line)
        self._line.clear()
        for line in (first, *lines):
            event = self._take_line(line)
            if event is not None:
                events.append(event)
        self._line += tail
        self._check_size(len(tail))
        return events

    def close(self) -> bool:
        """End the stream; true when it broke off within an event. What is left of that event is dropped."""
        pending = self.pending
        self._line.clear()
        self._forget()
        return pending

    def _take_line(self, line: bytes) -> SseEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(value)
            self._check_size(0)
            self._data.append(_text(value))
        elif name == b"event":
            self._event = _text(value) or None
        elif name == b"id" and b"\0" not in value:
            self._id = _text(value)
        return None

    def _dispatch(self) -> SseEvent | None:
        event = SseEvent(self._event, "\n".join(self._data), self._id) if self._data else None
        self._forget()
        return event

    def _forget(self) -> None:
        self._event = None
        self._data = []
        self._size = 0

    def _check_size(self, line_bytes: int) -> None:
        if self._size + line_bytes > self._max_event_bytes:
            raise ProviderResponseError(
                f"An event of the stream is larger than {self._max_event_bytes} bytes, which no answer of a model is."
            )


def encode(data: bytes | str, event: str | None = None, id: str | None = None) -> bytes:  # noqa: A002 - the field's name
    """One event as bytes. Line breaks within ``data`` survive; ``event`` and ``id`` must not have any."""
    raw = data.encode() if isinstance(data, str) else data
    if b"\n" in raw or b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    head = b""
    for name, value in ((b"event", event), (b"id", id)):
        if value is not None:
            if "\n" in value or "\r" in value or "\0" in value:
                raise ValueError(f"a line break in the {name.decode()} field of an event would end it")
            head += name + b": " + value.encode() + b"\n"
    return head + b"data: " + raw + b"\n\n"


def comment(text: str) -> bytes:
    """A comment: keeps a line alive, and no client shows it."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return b"".join(b": " + line.encode() + b"\n" for line in lines) + b"\n"


def _text(value: bytes) -> str:
    try:
        return value.removeprefix(b" ").decode()
    except UnicodeDecodeError as error:
        raise ProviderResponseError("The stream holds bytes that are no UTF-8 text.") from error
