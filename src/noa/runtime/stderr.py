"""What engines wrote to standard error: the last lines of each, within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

MAX_LINES = 500
MAX_LINE_BYTES = 2_000
#: Of how many models the log of the last process is kept.
MAX_LOGS = 32


class StderrTail:
    """The last lines of a stream of bytes. A longer line is cut, control characters are made visible."""

    def __init__(self, max_lines: int = MAX_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=max_lines)
        self._open = b""
        self._count = 0
        self._ended = False
        self._news = asyncio.Event()

    def feed(self, data: bytes) -> None:
        """Take what arrived, whole lines or not."""
        *whole, rest = (self._open + data).split(b"\n")
        self._open = rest[:MAX_LINE_BYTES]
        if whole:
            self._lines.extend(_printable(line) for line in whole)
            self._count += len(whole)
            self._tell()

    def end(self) -> None:
        """Nothing more will arrive. What was begun counts as a line."""
        if self._open:
            self.feed(b"\n")
        self._ended = True
        self._tell()

    def lines(self) -> tuple[str, ...]:
        """The lines so far, oldest first, with the one that is not ended yet."""
        return (*self._lines, _printable(self._open)) if self._open else tuple(self._lines)

    async def follow(self, last: int | None = None) -> AsyncGenerator[str, None]:
        """The lines so far (only the ``last`` ones if that is given), then each as it is complete, until the end.

        Whoever reads so slowly that lines are forgotten meanwhile does not get those.
        """
        kept = len(self._lines)
        seen = self._count - (kept if last is None else min(last, kept))
        while True:
            news = self._news
            missed, seen = self._count - seen, self._count
            for line in list(self._lines)[-missed:] if missed else ():
                yield line
            if self._ended and seen == self._count:
                return
            await news.wait()

    def _tell(self) -> None:
        """Wake those who follow; who comes now waits for what comes next."""
        self._news.set()
        self._news = asyncio.Event()


class LastLogs:
    """What the last process of each model wrote, also when it is gone: that is when one wants to know."""

    def __init__(self) -> None:
        self._tails: dict[str, StderrTail] = {}

    def keep(self, key: str, tail: StderrTail) -> None:
        """A process of this model was started. The log of the one before it goes, or that of the oldest other."""
        self._tails.pop(key, None)
        self._tails[key] = tail
        while len(self._tails) > MAX_LOGS:
            del self._tails[next(iter(self._tails))]

    def get(self, key: str) -> StderrTail | None:
        """The log of the model's last process, if one was started."""
        return self._tails.get(key)


def _printable(line: bytes) -> str:
    text = line[:MAX_LINE_BYTES].rstrip(b"\r").decode(errors="replace")
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in text)
