"""Successful answers on their way to whoever asked: one that is here already, and one that still streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from noa.chat import Usage
from noa.providers.stream_filter import StreamFilter
from noa.providers.upstream import UpstreamResponse


class WholeAnswer:
    """An answer that has arrived; nothing upstream is held for it."""

    begun = True

    def __init__(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers: Mapping[str, str] = headers or {}
        self.usage = usage

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, in one piece."""
        yield self.body

    async def aclose(self) -> None:
        """Do nothing."""


class StreamedAnswer:
    """An answer that is being written. Leaving ``chunks`` early, or ``aclose``, lets go of the upstream at once."""

    def __init__(self, response: UpstreamResponse, events: StreamFilter) -> None:
        self._response = response
        self._events = events
        self.status = response.status
        self.content_type = response.content_type
        self.headers = response.headers

    @property
    def usage(self) -> Usage | None:
        """The upstream's count of tokens, once it has told."""
        return self._events.usage

    @property
    def begun(self) -> bool:
        """Whether some of the answer itself has passed: text, reasoning or a tool call."""
        return self._events.begun

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The events as they come."""
        try:
            async for chunk in self._response.chunks():
                if kept := self._events.feed(chunk):
                    yield kept
                if self._events.failure:
                    raise self._events.failure
                if self._events.ended:
                    await self._response.finish()
                    return
            if rest := self._events.close():
                yield rest
            if self._events.failure:
                raise self._events.failure
        finally:
            self._response.close()

    async def aclose(self) -> None:
        """Let go of the upstream."""
        self._response.close()
