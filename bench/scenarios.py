"""The loads that every contestant is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from bench.load_plan import LoadPlan
from bench.scripted_service import CHAT_MODEL, EMBEDDING_MODEL, EVENTS, INPUTS, MARKER, PACED_MODEL

CHAT = "/v1/chat/completions"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A load: its name in the results, what it is to people, and the plan but for where it is sent."""

    name: str
    title: str
    model: str
    plan: LoadPlan

    def towards(self, port: int, headers: Mapping[str, str], prefix: str) -> LoadPlan:
        """The plan for somebody who listens there, and puts ``prefix`` before the names of models."""
        body = json.loads(self.plan.body)
        body["model"] = prefix + self.model
        return msgspec.structs.replace(
            self.plan, port=port, headers=headers, body=json.dumps(body, separators=(",", ":"))
        )


def chat_body(model: str, characters: int, *, stream: bool = False) -> str:
    """A conversation whose request is about so long."""
    messages = [{"role": "user", "content": "y" * characters}]
    return json.dumps({"model": model, "messages": messages, **({"stream": True} if stream else {})})


def scenarios(seconds: float) -> Sequence[Scenario]:
    """Every load, each about so long; a paced stream takes four seconds whatever is asked for."""
    whole = LoadPlan(
        port=0, path=CHAT, body=chat_body("", 900), marker=MARKER, connections=32, seconds=seconds, warm_up=200
    )
    stream = LoadPlan(
        port=0,
        path=CHAT,
        body=chat_body("", 900, stream=True),
        marker=f"{MARKER} ",
        markers=EVENTS,
        ending="data: [DONE]",
        connections=64,
        warm_up=1,
        streamed=True,
    )
    texts = [f"input {index}" for index in range(INPUTS)]
    embeddings = LoadPlan(
        port=0,
        path="/v1/embeddings",
        body=json.dumps({"input": texts, "encoding_format": "float"}),
        marker='"embedding":[',
        markers=INPUTS,
        connections=8,
        seconds=seconds,
        warm_up=8,
    )
    replace = msgspec.structs.replace
    return (
        Scenario(name="chat-1k", title="chat, 1 KB, 32 connections", model=CHAT_MODEL, plan=whole),
        Scenario(
            name="chat-100k",
            title="chat, 100 KB, 32 connections",
            model=CHAT_MODEL,
            plan=replace(whole, body=chat_body("", 100_000)),
        ),
        Scenario(
            name="chat-at-rate",
            title="chat, 50 requests a second",
            model=CHAT_MODEL,
            plan=replace(whole, connections=16, rate=50.0, warm_up=50, seconds=max(2 * seconds, 1.0)),
        ),
        Scenario(
            name="stream-fast",
            title=f"64 streams × {EVENTS} events, as fast as they come",
            model=CHAT_MODEL,
            plan=replace(stream, requests=64, seconds=seconds),
        ),
        Scenario(
            name="stream-paced",
            title=f"64 streams × {EVENTS} events, 50 a second each",
            model=PACED_MODEL,
            plan=replace(stream, requests=64),
        ),
        Scenario(name="embeddings", title=f"embeddings of {INPUTS} inputs", model=EMBEDDING_MODEL, plan=embeddings),
    )
