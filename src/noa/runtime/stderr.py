"""What an engine wrote to standard error: its last lines, within bounds."""

from __future__ import annotations

from collections import deque

MAX_LINES = 500
MAX_LINE_BYTES = 2_000


class StderrTail:
    """The last lines of a stream of bytes. A longer line is cut, control characters are made visible."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._open = b""

    def feed(self, data: bytes) -> None:
        """Take what arrived, whole lines or not."""
        *whole, rest = (self._open + data).split(b"\n")
        self._lines.extend(_printable(line) for line in whole)
        self._open = rest[:MAX_LINE_BYTES]

    def lines(self) -> tuple[str, ...]:
        """The lines so far, oldest first, with the one that is not ended yet."""
        return (*self._lines, _printable(self._open)) if self._open else tuple(self._lines)


def _printable(line: bytes) -> str:
    text = line[:MAX_LINE_BYTES].rstrip(b"\r").decode(errors="replace")
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)
