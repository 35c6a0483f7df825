"""Carries a request to the model that serves it, and the answer back.

Where the provider speaks the caller's dialect, bytes pass through; otherwise they go through the canonical form. Either
way the status line is held until the first piece of the answer, so that a failure before it is a proper status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Final, Literal, Protocol

import msgspec

from noa.attempt import Attempt
from noa.chat import ChatEvent, ChatReply
from noa.dialects import anthropic, openai, sse
from noa.dialects.envelope import DecodedRequest, Peek, peek
from noa.engine import DEFAULT_WAIT_S
from noa.errors import AIProviderError, ModelUnavailableError, UnsupportedError, ValidationError
from noa.inference import Serving
from noa.manager import ModelManager
from noa.providers.protocol import Dialect
from noa.selection.needs import needs_of, needs_of_chat
from noa.selection.wish import Wish
from noa.server.errors import LONGEST_HINT_S, ErrorEncoder, answer_error, headers_of, internal_error
from noa.server.exchange import Exchange, RawHeader
from noa.trace_context import OF_CALLER, TRACEPARENT

logger = logging.getLogger(__name__)

#: How long the status line of a stream is held, and how long its line may be silent after that, in seconds: a little
#: less than the ten that callers may count on.
HOLD_S: Final = 9.5
#: The longest that a caller may ask to wait for a model, in seconds.
LONGEST_WAIT_S: Final = 3600.0

#: Headers of the caller that concern the dialect; a provider decides which of them travel on.
_DIALECT_HEADERS: Final = (b"anthropic-beta", b"anthropic-version", b"openai-beta")
_STREAMED: Final = frozenset({"chat", "completion"})
_STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
#: Of the upstream's headers, those that our own answer sets itself.
_OUR_HEADERS: Final = frozenset({"retry-after", "retry-after-ms"})
#: Of the upstream's headers, those that name the request there; ours has a name of its own.
_IDS: Final = frozenset({"request-id", "x-request-id"})


class EventEncoder(Protocol):
    """Writes a stream in a dialect."""

    def encode(self, event: ChatEvent) -> bytes:
        """Write one event."""
        ...

    def close(self) -> bytes:
        """Write the end of a complete stream."""
        ...


class Face(msgspec.Struct, frozen=True, kw_only=True):
    """How an inference route looks to its callers: its dialect, its path below the dialect's root, its errors.

    ``error_event`` writes the end of a stream that failed. ``decode``, ``encode`` and ``encoder`` (told whether usage
    is wanted) are the codec of a chat; a route without them cannot be translated. ``keeps_refusals`` hands on what an
    upstream of the same dialect refuses in its own words.
    """

    dialect: Dialect
    path: str
    operation: Literal["chat", "completion", "embeddings", "count_tokens"]
    encode_error: ErrorEncoder
    error_event: Callable[[AIProviderError], bytes]
    decode: Callable[[bytes], DecodedRequest] | None = None
    encode: Callable[[ChatReply], bytes] | None = None
    encoder: Callable[[bool], EventEncoder] | None = None
    keeps_refusals: bool = True


class Relay:
    """Serves inference requests of every face."""

    def __init__(self, manager: ModelManager, hold_s: float = HOLD_S) -> None:
        self._manager = manager
        self._hold_s = hold_s

    async def serve(self, exchange: Exchange, face: Face, body: bytes) -> None:
        """Answer a request whose body has been read. When the client leaves, so does the work that was for it."""
        OF_CALLER.set(exchange.header(TRACEPARENT.encode()))
        async with exchange.while_connected():
            try:
                envelope = peek(body)
                if envelope.stream and face.operation in _STREAMED:
                    await self._serve_stream(exchange, face, body, envelope)
                else:
                    await self._serve_whole(exchange, face, body, envelope)
            except AIProviderError as error:
                await answer_error(exchange, error, face.encode_error)

    # Answers that come whole.

    async def _serve_whole(self, exchange: Exchange, face: Face, body: bytes, envelope: Peek) -> None:
        serving = self._admit(exchange, face, body, envelope, streamed=False)
        spoken: list[AIProviderError] = []

        async def answer(attempt: Attempt) -> None:
            with _noted(spoken, attempt.speaks(face.dialect)) as speaks:
                if speaks:
                    await self._pass_whole(exchange, face, body, envelope, attempt, serving)
                else:
                    translated = await _translated(face, body, attempt)
                    await exchange.answer(200, translated, headers=_served_by(serving))

        try:
            async with serving:
                await serving.carry(answer, bound=lambda: exchange.started)
        except AIProviderError as error:
            exchange.answer_headers.extend(_refused_by(serving, error))
            passes = error in spoken and face.keeps_refusals and not exchange.started
            if not (passes and await _pass_refusal(exchange, error)):
                raise

    async def _pass_whole(
        self, exchange: Exchange, face: Face, body: bytes, envelope: Peek, attempt: Attempt, serving: Serving
    ) -> None:
        answer = await attempt.open(
            face.dialect,
            face.path,
            body,
            stream=False,
            headers=_travelling(exchange.headers),
            forces_tool=envelope.forces_tool,
        )
        whole = await answer.whole()
        headers = [*_served_by(serving), *_raw(answer.headers.items())]
        await exchange.answer(answer.status, whole, answer.content_type, headers)

    # Streams.

    async def _serve_stream(self, exchange: Exchange, face: Face, body: bytes, envelope: Peek) -> None:
        serving = self._admit(exchange, face, body, envelope, streamed=True)
        spoken: list[AIProviderError] = []
        stream = HeldStream(exchange, self._hold_s, lambda: _served_by(serving))

        async def answer(attempt: Attempt) -> None:
            with _noted(spoken, attempt.speaks(face.dialect)) as speaks:
                if speaks:
                    await self._pass_stream(exchange, face, body, envelope, attempt, stream)
                else:
                    await _translate_stream(face, body, attempt, stream)

        try:
            async with stream, serving:
                await serving.carry(answer, bound=lambda: stream.is_named)
        except AIProviderError as error:
            if exchange.started:
                await stream.fail(face.error_event(error))
                return
            exchange.answer_headers.extend(_refused_by(serving, error))
            if not (error in spoken and face.keeps_refusals and await _pass_refusal(exchange, error)):
                raise
        except asyncio.CancelledError:
            # The client has left, or the server ends: then the caller is told that this is not the end of the answer.
            if exchange.started and not exchange.finished:
                ending = ModelUnavailableError("Noa is shutting down.", retry_after_s=5)
                await stream.fail(face.error_event(ending))
            raise
        except Exception:
            if not exchange.started:
                raise
            logger.exception("request %s failed unexpectedly within its answer", exchange.request_id)
            await stream.fail(face.error_event(internal_error(exchange.request_id)))

    async def _pass_stream(
        self, exchange: Exchange, face: Face, body: bytes, envelope: Peek, attempt: Attempt, stream: HeldStream
    ) -> None:
        answer = await attempt.open(
            face.dialect,
            face.path,
            body,
            stream=True,
            headers=_travelling(exchange.headers),
            forces_tool=envelope.forces_tool,
        )
        stream.headers = [*_STREAM_HEADERS, *_raw(answer.headers.items())]
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                await stream.write(chunk)
        await stream.end()

    def _admit(self, exchange: Exchange, face: Face, body: bytes, envelope: Peek, *, streamed: bool) -> Serving:
        return self._manager.inference.serve(
            envelope.model,
            face.operation,
            request_id=exchange.request_id,
            streamed=streamed,
            wait_s=wait_of(exchange.header(b"x-noa-wait-s")),
            needs=partial(_needs, face, body),
            caller=exchange.caller.name,
        )


def _needs(face: Face, body: bytes) -> Wish:
    """What a request asks of a model, where Noa has to choose one."""
    if face.decode is None:
        return needs_of(face.operation, characters=len(body))
    return needs_of_chat(face.decode(body).request)


class HeldStream:
    """The streamed answer: its status line waits for the first piece, but not for ever; then comments keep it alive.

    Every piece is made of whole events, so a comment may stand between any two. Use it with ``async with``; it is
    silent afterwards, but for ``fail``. ``headers`` are the upstream's, as long as nothing was sent. ``served_by``
    gives those that name who serves, if that is known by then; ``is_named`` says that they were sent.
    """

    def __init__(self, exchange: Exchange, hold_s: float, served_by: Callable[[], Sequence[RawHeader]]) -> None:
        self.headers: list[RawHeader] = list(_STREAM_HEADERS)
        self.is_named = False
        self._served_by = served_by
        self._exchange = exchange
        self._hold_s = hold_s
        self._loop = asyncio.get_running_loop()
        self._last_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._timer = self._loop.call_later(self._hold_s, self._look)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            await asyncio.gather(self._beat, return_exceptions=True)
            self._beat = None

    async def write(self, events: bytes) -> None:
        """Send events, after the status line if it was still held."""
        if self._beat is not None:
            await self._beat
        await self._begin()
        self._last_at = self._loop.time()
        await self._exchange.write(events)

    async def end(self) -> None:
        """End a complete answer."""
        if self._beat is not None:
            await self._beat
        await self._begin()
        await self._exchange.end()

    async def fail(self, error_event: bytes) -> None:
        """End an answer that is not complete: its last event says so."""
        await self._exchange.write(error_event)
        await self._exchange.end()

    async def _begin(self) -> None:
        if not self._exchange.started:
            named = self._served_by()
            self.is_named = bool(named)
            await self._exchange.start(200, "text/event-stream; charset=utf-8", [*self.headers, *named])

    def _look(self) -> None:
        silent_s = self._loop.time() - self._last_at
        if silent_s < self._hold_s:
            self._timer = self._loop.call_later(self._hold_s - silent_s, self._look)
            return
        self._timer = self._loop.call_later(self._hold_s, self._look)
        if self._beat is None:
            self._beat = asyncio.create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        try:
            await self._begin()
            await self._exchange.write(sse.comment("waiting"))
            self._last_at = self._loop.time()
        finally:
            self._beat = None


def wait_of(header: str | None) -> float:
    """How long a caller wants to wait for its model, in seconds. Raises ``ValidationError`` for what is no time."""
    if header is None:
        return DEFAULT_WAIT_S
    try:
        seconds = float(header)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_S:
        raise ValidationError(f"x-noa-wait-s must be a number of seconds from 0 to {LONGEST_WAIT_S:.0f}.")
    return seconds


async def _translated(face: Face, body: bytes, attempt: Attempt) -> bytes:
    if face.operation == "embeddings":
        wanted = openai.decode_embedding_request(body)
        vectors = await attempt.embed(wanted)
        encoding = str(wanted.extra.get("encoding_format") or "float")
        return openai.encode_embedding_reply(vectors, encoding_format=encoding)
    if face.operation == "count_tokens":
        counted = await attempt.count_tokens(anthropic.decode_request(body).request)
        return anthropic.encode_count(counted)
    if face.decode is None or face.encode is None:
        raise _untranslatable(attempt)
    return face.encode(await attempt.complete(face.decode(body).request))


async def _translate_stream(face: Face, body: bytes, attempt: Attempt, stream: HeldStream) -> None:
    if face.decode is None or face.encoder is None:
        raise _untranslatable(attempt)
    decoded = face.decode(body)
    encoder = face.encoder(decoded.include_usage)
    async with aclosing(attempt.stream(decoded.request)) as events:
        async for event in events:
            if written := encoder.encode(event):
                await stream.write(written)
    await stream.write(encoder.close())
    await stream.end()


def _untranslatable(attempt: Attempt) -> UnsupportedError:
    return UnsupportedError(
        f"{attempt.key} takes no plain completions, since its provider speaks another dialect; use chat completions.",
        provider=attempt.model.provider,
    )


@contextmanager
def _noted(spoken: list[AIProviderError], speaks: bool) -> Iterator[bool]:
    """Remember the failures of those who speak the caller's dialect: their own words may be passed on."""
    try:
        yield speaks
    except AIProviderError as error:
        if speaks:
            spoken.append(error)
        raise


async def _pass_refusal(exchange: Exchange, error: AIProviderError) -> bool:
    """Answer with the upstream's own words, if the caller reads its dialect and they are about the caller's request."""
    answer = error.upstream
    if answer is None or not _is_about_the_request(answer.status):
        return False
    if "json" not in answer.content_type.lower():
        return False
    headers = headers_of(error, longest_s=LONGEST_HINT_S)
    await exchange.answer(answer.status, answer.body, answer.content_type, headers)
    return True


def _is_about_the_request(status: int) -> bool:
    """Whether a status is the caller's concern, and not ours; Anthropic's 529 is its word for asking later."""
    return (400 <= status < 500 and status not in (401, 403, 407)) or status == 529


def _served_by(serving: Serving) -> Sequence[RawHeader]:
    """Who serves, and at which attempt; nothing as long as that is not known."""
    key = serving.told_by
    if key is None:
        return ()
    return (
        (b"x-noa-model", key.encode("ascii", "backslashreplace")),
        (b"x-noa-attempts", str(serving.attempts).encode()),
    )


def _refused_by(serving: Serving, error: AIProviderError) -> Sequence[RawHeader]:
    """The same for an error, and whether its caller had better not try again: official clients do so unasked."""
    status = error.inference_status or error.status
    is_final = not error.retryable and (status in (408, 409, 429) or status >= 500)
    return (*_served_by(serving), *(((b"x-should-retry", b"false"),) if serving.spent or is_final else ()))


def _travelling(headers: dict[bytes, bytes]) -> Sequence[tuple[str, str]]:
    return [(name.decode(), headers[name].decode("latin-1")) for name in _DIALECT_HEADERS if name in headers]


def _raw(headers: Iterable[tuple[str, str]]) -> list[RawHeader]:
    return [
        (b"x-upstream-request-id" if name in _IDS else name.encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
        if name not in _OUR_HEADERS
    ]
