"""Callers who ask the model in use without pause, and a judge of everything they are told.

async with Storm(server.url, keys) as storm:
    …                              # switch, load, kill
assert storm.failures == []
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

WORDS = ("a", "river", "told", "an", "old", "stone", "why", "its", "water", "never", "sleeps", "in", "winter")
#: How many tokens each request asks for: mostly few, so that many fit, and now and then an answer that takes a while.
TOKENS = (*(1, 2, 3, 4, 5, 8) * 4, 60)
EVENT = b"data: "
#: Begins a line that only keeps a stream alive.
COMMENT = b":"


class Asked(msgspec.Struct):
    """One request on its way. ``epoch`` and ``due`` are the storm's when it was sent; ``begun``: its answer has."""

    number: int
    epoch: int
    due: str | None
    limit: int
    begun: bool = False


class Storm:
    """``streaming`` and ``posting`` callers of ``model`` (``current``) until the block ends; each then has its answer.

    ``failures`` says what was wrong with any answer: it failed, was cut off, mixed two models, came from none of
    ``keys``, or, after ``expect``, from another than the one that alone could serve it. ``answers`` counts the right
    ones by the model that served. After ``server_ends`` a request may be refused as well, properly; ``refused`` counts
    that.
    """

    def __init__(
        self,
        url: str,
        keys: tuple[str, ...],
        *,
        model: str = "current",
        streaming: int = 4,
        posting: int = 4,
        tokens: tuple[int, ...] = TOKENS,
        seed: int = 0,
    ) -> None:
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        self.refused = 0
        self._ending = False
        self._server_ends = False
        self._url = f"{url}/v1/chat/completions"
        self._keys = keys
        self._model = model
        self._callers = [True] * streaming + [False] * posting
        self._tokens = tokens
        self._seed = seed
        self._asked: dict[int, Asked] = {}
        self._epoch = 0
        self._due: str | None = None
        self._news = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        connector = aiohttp.TCPConnector(limit=0)
        session = self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self._tasks = [
            asyncio.create_task(self._call(session, number, streams)) for number, streams in enumerate(self._callers)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        if error is not None:
            for task in self._tasks:
                task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._session is not None
        await self._session.close()
        if error is not None:
            error.add_note(f"What was wrong with the answers until then: {self.failures}")
        else:
            self.failures += [repr(outcome) for outcome in outcomes if isinstance(outcome, BaseException)]

    # What whoever makes the weather says and asks.

    def expect(self, key: str | None) -> None:
        """From now on whoever asks gets this model, until the next call; ``None``: any may come."""
        self._epoch += 1
        self._due = key

    def server_ends(self) -> None:
        """Nothing more is asked. What is under way has a complete answer, or is told properly that it gets none."""
        self._ending = self._server_ends = True

    @property
    def under_way(self) -> int:
        """How many requests have no complete answer yet."""
        return len(self._asked)

    async def served(self, key: str | None = None, times: int = 2) -> None:
        """Wait for this many more right answers, of one model or of any."""
        goal = self._count(key) + times
        async with self._news, asyncio.timeout(60):
            await self._news.wait_for(lambda: self.failures or self._count(key) >= goal)

    def _count(self, key: str | None) -> int:
        return self.answers.total() if key is None else self.answers[key]

    # The callers.

    async def _call(self, session: aiohttp.ClientSession, number: int, streams: bool) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        while not self._ending:
            limit = chance.choice(self._tokens)
            asked = self._asked[number] = Asked(number, self._epoch, self._due, limit)
            words = " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))
            # Without an end of its own, so that a complete answer has exactly as many tokens as it was asked for.
            body = {"model": self._model, "max_tokens": limit, "ignore_eos": True}
            body |= {"messages": [{"role": "user", "content": words}], "stream": streams}
            if streams:
                body["stream_options"] = {"include_usage": True}
            try:
                async with session.post(self._url, json=body) as response:
                    asked.begun = True
                    judge = self._judge_stream if streams else self._judge_whole
                    fault = await judge(response, asked)
            except Exception as error:
                fault = f"{'a begun answer' if asked.begun else 'a request'} was cut off: {error!r}"
            finally:
                del self._asked[number]
            if fault:
                self.failures.append(f"{'stream' if streams else 'whole'}, {limit} tokens: {fault}")
            async with self._news:
                self._news.notify_all()

    async def _judge_whole(self, response: aiohttp.ClientResponse, asked: Asked) -> str:
        body = await response.read()
        if response.status != 200:
            return self._judge_refusal(response.status, body)
        reply = msgspec.json.decode(body)
        served = response.headers.get("x-noa-model", "")
        fault = self._misrouted(served, {str(reply["model"])}, asked)
        fault = fault or _cut_short([reply["choices"][0]["finish_reason"]], reply["usage"], asked.limit)
        return fault or self._right(served)

    async def _judge_stream(self, response: aiohttp.ClientResponse, asked: Asked) -> str:
        body = await response.read()
        if response.status != 200:
            return self._judge_refusal(response.status, body)
        events = [line.removeprefix(EVENT) for line in body.splitlines() if line.startswith(EVENT)]
        chunks = [msgspec.json.decode(event) for event in events if event != b"[DONE]"]
        if errors := [chunk["error"] for chunk in chunks if "error" in chunk]:
            if not self._server_ends or b"[DONE]" in events:
                return f"the stream ended in {errors}"
            self.refused += 1
            return ""
        if not events or events[-1] != b"[DONE]":
            return f"the stream had no end: {body[-200:]!r}"
        reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
        models = {str(chunk["model"]) for chunk in chunks}
        served = response.headers.get("x-noa-model", "")
        if not served and body.startswith(COMMENT):
            # It waited so long that the line had to be kept alive, before anybody knew who would serve it.
            served = next((key for key in self._keys if {key.partition(":")[2]} == models), "")
        fault = self._misrouted(served, models, asked)
        fault = fault or _cut_short(reasons, chunks[-1].get("usage"), asked.limit)
        return fault or self._right(served)

    def _judge_refusal(self, status: int, body: bytes) -> str:
        if self._server_ends and status == 503 and b'"error"' in body:
            self.refused += 1
            return ""
        return f"status {status}: {body[:300]!r}"

    def _misrouted(self, served: str, models: set[str], asked: Asked) -> str:
        """What the header says, what the engine calls itself, and what alone could have served must be one model."""
        if served not in self._keys:
            return f"it was served by {served!r}"
        if models != {served.partition(":")[2]}:
            return f"the answer of {served} is from {models}"
        if asked.due is not None and asked.epoch == self._epoch and served != asked.due:
            return f"it was served by {served} after the switch to {asked.due}"
        return ""

    def _right(self, served: str) -> str:
        self.answers[served] += 1
        return ""


def _cut_short(reasons: list[str | None], usage: Mapping[str, Any] | None, limit: int) -> str:
    if not reasons or reasons[-1] != "length":
        return f"the reasons to finish are {reasons}"
    if usage is None or usage["completion_tokens"] != limit:
        return f"of {limit} tokens came {usage}"
    return ""
