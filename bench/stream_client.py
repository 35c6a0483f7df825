"""A client that measures the way to the first token of a streamed answer, over TCP or a Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_HEADERS = {"Content-Type": "application/json"}
_TIMEOUT_S = 120.0


class WrongAnswerError(Exception):
    """What came is not what was asked for, so a time would mean nothing."""


class Question(NamedTuple):
    """A request for one token, streamed, to any model."""

    name: str
    path: str
    fields: Mapping[str, object]

    def body(self, model: str) -> str:
        """The request for this model. The first token is always the same one."""
        return json.dumps({"model": model, **self.fields, "stream": True, "max_tokens": 1, "temperature": 0})


class FirstToken(NamedTuple):
    """The first text of an answer, when it was here (``time.perf_counter``), and which model of Noa's gave it."""

    text: str
    at: float
    served_by: str | None


def tcp(port: int) -> http.client.HTTPConnection:
    """A connection to this machine, open already and kept so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    connection.connect()
    return connection


def unix(path: Path) -> http.client.HTTPConnection:
    """A connection to a Unix socket."""
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(_TIMEOUT_S)
    connection.sock.connect(str(path))
    return connection


def first_token(connection: http.client.HTTPConnection, question: Question, model: str) -> FirstToken:
    """Ask, and read the answer to its end. Raises ``WrongAnswerError``."""
    connection.request("POST", question.path, question.body(model), _HEADERS)
    response = connection.getresponse()
    if response.status != 200:
        raise WrongAnswerError(f"{model} answered {response.status}: {response.read(500)!r}")
    first: FirstToken | None = None
    for data in _data(response):
        if first is None and (text := _text_of(data)):
            first = FirstToken(text, time.perf_counter(), response.headers.get("x-noa-model"))
    if first is None:
        raise WrongAnswerError(f"{model} answered without a token")
    return first


def call(connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, object] | None) -> Any:
    """Ask for JSON. Raises ``WrongAnswerError`` for any status but 200."""
    connection.request(method, path, None if body is None else json.dumps(body), _HEADERS)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise WrongAnswerError(f"{method} {path} answered {response.status}: {answer[:500]!r}")
    return json.loads(answer)


def events(connection: http.client.HTTPConnection, path: str, after: int) -> Iterator[Mapping[str, Any]]:
    """Server-sent events that hold JSON, from the one after that id on, without end."""
    connection.request("GET", path, headers={"Last-Event-ID": str(after)})
    response = connection.getresponse()
    if response.status != 200:
        raise WrongAnswerError(f"{path} answered {response.status}: {response.read(500)!r}")
    for data in _data(response):
        yield json.loads(data)


def _data(response: http.client.HTTPResponse) -> Iterator[bytes]:
    for line in response:
        if line.startswith(b"data: "):
            yield line[6:].strip()


def _text_of(data: bytes) -> str | None:
    if data == b"[DONE]":
        return None
    event = json.loads(data)
    if "error" in event:
        raise WrongAnswerError(f"an error within the answer: {event['error']}")
    choice = (event.get("choices") or [{}])[0]
    text: str | None = choice.get("text") or choice.get("delta", {}).get("content")
    return text
