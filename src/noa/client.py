"""The typed client of a running server: what the command line is made of, and scripts may use.

It speaks the management API (``/api/v1``, camelCase) and streams chats from ``/v1/chat/completions``. What the server
refuses is raised as the very class of ``noa.errors`` that the server raised. Where no server answers, or something that
is not Noa, ``ServerUnreachableError`` says so and what to do about it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from noa.chat import ChatEvent
from noa.client_answers import (
    Acknowledgement,
    AliasAcknowledgement,
    AliasHistory,
    AliasList,
    CallerKeyList,
    CallerKeyRevoked,
    CurrentModel,
    LoadedModels,
    Logs,
    ModelList,
    NewCallerKey,
    Planned,
    Probed,
    ProbePlanned,
    ServerEvent,
    SwitchAcknowledgement,
    UsageTotals,
)
from noa.client_refusal import error_from_answer
from noa.config import Reloaded
from noa.dialects.openai import StreamDecoder
from noa.dialects.sse import SseEvent, SseParser
from noa.errors import AIProviderError
from noa.models import LoadOptions, LoadPlan, ModelCapability, ModelStatus, ProbePlan, RegistryEntry, Value

#: Where ``noa serve`` listens unless it is told otherwise.
DEFAULT_URL = "http://localhost:3001"
#: How long a connection may take, in seconds.
CONNECT_TIMEOUT_S = 5.0
#: How long a question that needs no model may take unless told otherwise, in seconds.
QUERY_TIMEOUT_S = 30.0

T = TypeVar("T")


class ServerUnreachableError(AIProviderError):
    """No Noa server answers at the given URL: nothing listens there, or something else does."""

    status = 503
    code = "SERVER_UNREACHABLE"
    default_retryable = True


class _Capabilities(Value, frozen=True, kw_only=True):
    capabilities: tuple[ModelCapability, ...]


class _EventBody(Value, frozen=True, kw_only=True):
    time: datetime
    data: dict[str, Any]


class NoaClient:
    """A connection to the server at ``url``, as an async context manager.

    ``api_key`` is the key the server asks for, if any. ``query_timeout_s`` limits what needs no model, and all else
    takes what it takes. Every method raises an ``AIProviderError``: the server's own, or ``ServerUnreachableError``.
    """

    def __init__(
        self, url: str = DEFAULT_URL, api_key: str | None = None, *, query_timeout_s: float = QUERY_TIMEOUT_S
    ) -> None:
        self.url = url.rstrip("/")
        self._query_timeout_s = query_timeout_s
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def health(self) -> dict[str, Any]:
        """What the server says of itself; needs no key."""
        return await self._ask(dict[str, Any], "GET", "/status/health")

    async def models(
        self,
        *,
        provider: str | None = None,
        capability: ModelCapability | None = None,
        status: ModelStatus | None = None,
    ) -> ModelList:
        """Every known model, or those that match all of the given filters."""
        filters = {"provider": provider, "capability": capability, "status": status}
        query = {name: str(value) for name, value in filters.items() if value is not None}
        return await self._ask(ModelList, "GET", "/models", query=query)

    async def model(self, key: str) -> RegistryEntry:
        """One known model."""
        return await self._ask(RegistryEntry, "GET", f"/models/{_in_path(key)}")

    async def loaded(self) -> LoadedModels:
        """The loaded models, and which of them is in use."""
        return await self._ask(LoadedModels, "GET", "/models/loaded")

    async def current(self) -> CurrentModel:
        """The model in use."""
        return await self._ask(CurrentModel, "GET", "/models/current")

    async def load(
        self,
        key: str,
        *,
        warmup: bool = False,
        ttl_s: float | None = None,
        pin: bool = False,
        priority: int = 0,
        options: LoadOptions | None = None,
        wait: bool = True,
    ) -> Acknowledgement:
        """Load a model and return when it is loaded; with ``wait=False``, when the load has begun.

        The parameters are those of ``noa.models.LoadOptions``; ``options`` says the rest, how to run a local model.
        """
        body = {"key": key, "warmup": warmup, "pin": pin, "priority": priority, "wait": wait, **_of_engine(options)}
        if ttl_s is not None:
            body["ttl"] = ttl_s
        return await self._ask(Acknowledgement, "POST", "/models/load", body=body, patient=True)

    async def plan_load(self, key: str, options: LoadOptions | None = None) -> LoadPlan:
        """What a load would take, and whom it would evict. Nothing is loaded."""
        body = {"key": key, "plan": True, **_of_engine(options)}
        return (await self._ask(Planned, "POST", "/models/load", body=body)).plan

    async def unload(self, key: str, *, force: bool = False) -> Acknowledgement:
        """Unload a model when those who use it have finished; with ``force``, at once."""
        body = {"key": key, "force": force}
        return await self._ask(Acknowledgement, "POST", "/models/unload", body=body, patient=True)

    async def switch(
        self, key: str, *, reason: str | None = None, expected: str | None = None
    ) -> SwitchAcknowledgement:
        """Make a model the one in use, loading it if it must be. ``reason`` is kept in the history.

        With ``expected`` it is refused (``ConflictError``) if another model is in use by then.
        """
        body = _given(key=key, reason=reason, expected=expected)
        return await self._ask(SwitchAcknowledgement, "POST", "/models/switch", body=body, patient=True)

    async def aliases(self) -> AliasList:
        """Every alias, by name."""
        return await self._ask(AliasList, "GET", "/aliases")

    async def alias(self, name: str) -> AliasHistory:
        """An alias with its history."""
        return await self._ask(AliasHistory, "GET", f"/aliases/{_in_path(name)}")

    async def point_alias(
        self, name: str, key: str, *, reason: str | None = None, expected: str | None = None, load: bool = True
    ) -> AliasAcknowledgement:
        """Make an alias mean a model, as ``switch`` does with ``current``; ``load=False`` leaves the load for later."""
        body = {**_given(key=key, reason=reason, expected=expected), "load": load}
        return await self._ask(AliasAcknowledgement, "PUT", f"/aliases/{_in_path(name)}", body=body, patient=True)

    async def rollback_alias(self, name: str, *, reason: str | None = None) -> AliasAcknowledgement:
        """Make an alias mean what it meant before its latest change, loading that if it must be."""
        path = f"/aliases/{_in_path(name)}/rollback"
        return await self._ask(AliasAcknowledgement, "POST", path, body=_given(reason=reason), patient=True)

    async def remove_alias(self, name: str) -> AliasAcknowledgement:
        """Drop an alias. Its model stays as it is."""
        return await self._ask(AliasAcknowledgement, "DELETE", f"/aliases/{_in_path(name)}")

    async def discover(self) -> dict[str, Any]:
        """Ask every provider again what it has; the answer says what was found, per provider."""
        return await self._ask(dict[str, Any], "POST", "/models/discover", patient=True)

    async def split(self, name: str) -> dict[str, Any]:
        """How an alias is split among models, and how each does."""
        return await self._ask(dict[str, Any], "GET", f"/aliases/{_in_path(name)}/split")

    async def split_alias(
        self, name: str, weights: Mapping[str, float], guard: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Send these percentages of an alias's requests to other models; none of them ends the split."""
        path = f"/aliases/{_in_path(name)}/split"
        if not weights:
            return await self._ask(dict[str, Any], "DELETE", path)
        return await self._ask(dict[str, Any], "PUT", path, body={"weights": weights, "guard": guard})

    async def promote_alias(self, name: str, key: str) -> AliasAcknowledgement:
        """Make one of the models that an alias is split among its own, for all of its requests."""
        path = f"/aliases/{_in_path(name)}/promote"
        return await self._ask(AliasAcknowledgement, "POST", path, body={"key": key}, patient=True)

    async def select(self, wanted: Mapping[str, object]) -> dict[str, Any]:
        """Which model should serve what is ``wanted`` (the fields of ``POST /models/select``), and why."""
        return await self._ask(dict[str, Any], "POST", "/models/select", body=dict(wanted))

    async def decision(self, request_id: str) -> dict[str, Any]:
        """Why a request to ``auto`` went where it went."""
        return await self._ask(dict[str, Any], "GET", f"/decisions/{_in_path(request_id)}")

    async def profile(self, key: str, *, test_count: int = 10, **settings: object) -> dict[str, Any]:
        """Measure a model with that many real requests; ``settings`` are the route's other fields (``mode``, …)."""
        body = {"testCount": test_count, **settings}
        return await self._ask(dict[str, Any], "POST", f"/models/{_in_path(key)}/profile", body=body, patient=True)

    async def stop_profile(self, key: str) -> dict[str, Any]:
        """End a profile that is being made; whoever asked for it is answered with what it has measured."""
        return await self._ask(dict[str, Any], "DELETE", f"/models/{_in_path(key)}/profile")

    async def history(self, key: str) -> dict[str, Any]:
        """A model's latest requests, oldest first, and its profiles, newest first."""
        return await self._ask(dict[str, Any], "GET", f"/models/{_in_path(key)}/history")

    async def capabilities(self, key: str) -> tuple[ModelCapability, ...]:
        """What a model can do."""
        answer = await self._ask(_Capabilities, "GET", f"/models/{_in_path(key)}/capabilities")
        return answer.capabilities

    async def probe(self, key: str) -> Probed:
        """Find out by real requests what a model can do; they cost what requests cost."""
        return await self._ask(Probed, "POST", f"/models/{_in_path(key)}/probe", body={}, patient=True)

    async def plan_probe(self, key: str) -> ProbePlan:
        """What that would take and cost at most. Nothing is asked of the model."""
        answer = await self._ask(ProbePlanned, "POST", f"/models/{_in_path(key)}/probe", body={"plan": True})
        return answer.plan

    async def logs(self, key: str, *, tail: int | None = None) -> Logs:
        """The last lines of a local model's process, running or ended."""
        query = {} if tail is None else {"tail": str(tail)}
        return await self._ask(Logs, "GET", f"/models/{_in_path(key)}/logs", query=query)

    async def follow_logs(self, key: str, *, tail: int | None = None) -> AsyncGenerator[str]:
        """The same lines, then each as it is written, until the process ends. A stream that breaks off raises."""
        query = {"follow": "true"} if tail is None else {"follow": "true", "tail": str(tail)}
        path = f"/api/v1/models/{_in_path(key)}/logs"
        async with contextlib.aclosing(self._stream("GET", path, query=query)) as stream:
            async for event in stream:
                if event.event == "end":
                    return
                yield event.data
        raise ServerUnreachableError(f"The server at {self.url} ended before the log of {key} did.")

    async def statistics(self) -> dict[str, Any]:
        """Counts over all models, in the quick start's fields."""
        return await self._ask(dict[str, Any], "GET", "/models/statistics")

    async def usage(self, by: str = "model", *, since: datetime | None = None, key: str | None = None) -> UsageTotals:
        """What was used and what it cost, by ``model``, ``key`` (of callers), ``hour`` or ``day``."""
        query = {"by": by}
        if since is not None:
            query["since"] = since.isoformat()
        if key is not None:
            query["key"] = key
        return await self._ask(UsageTotals, "GET", "/status/usage", query=query)

    async def caller_keys(self) -> CallerKeyList:
        """The keys for single callers; only for whoever has the server's own key, where one is set."""
        return await self._ask(CallerKeyList, "GET", "/keys")

    async def create_caller_key(self, name: str, *, ttl_s: float | None = None) -> NewCallerKey:
        """Make a key for a caller: the only answer that shows it."""
        body: dict[str, object] = {"name": name} if ttl_s is None else {"name": name, "ttl": ttl_s}
        return await self._ask(NewCallerKey, "POST", "/keys", body=body)

    async def revoke_caller_key(self, name: str) -> CallerKeyRevoked:
        """Have a caller's key open nothing from now on."""
        return await self._ask(CallerKeyRevoked, "DELETE", f"/keys/{_in_path(name)}")

    async def reload_configuration(self) -> Reloaded:
        """Have noa.yaml, .env and the environment read anew, and what has changed put into effect."""
        return await self._ask(Reloaded, "POST", "/config/reload")

    async def save_state(self) -> dict[str, Any]:
        """Write the state down now; the answer says where."""
        return await self._ask(dict[str, Any], "POST", "/models/save-state")

    async def chat_stream(
        self, messages: Sequence[Mapping[str, object]], model: str | None = None, *, max_tokens: int | None = None
    ) -> AsyncGenerator[ChatEvent]:
        """Continue a conversation (messages in OpenAI's shape) and yield the answer as it comes.

        Without ``model`` the model in use answers, and without ``max_tokens`` as long as it likes. Close the iterator
        to stop the answer. An answer that breaks off raises; it never ends as if it were whole.
        """
        body: dict[str, object] = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
        if model is not None:
            body["model"] = model
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        decoder = StreamDecoder(provider="noa")
        async with contextlib.aclosing(self._stream("POST", "/v1/chat/completions", body=body)) as stream:
            async for event in stream:
                for piece in decoder.feed(event):
                    yield piece
        decoder.close()

    async def events(self, after: int | None = None) -> AsyncGenerator[ServerEvent]:
        """Yield what happens in the server, as it happens; with ``after``, first what it remembers since then."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        async with contextlib.aclosing(self._stream("GET", "/api/v1/events", headers=headers)) as stream:
            async for event in stream:
                yield self._server_event(event)

    def _server_event(self, event: SseEvent) -> ServerEvent:
        body = self._decode(event.data.encode(), _EventBody)
        sequence = int(event.id) if event.id is not None and event.id.isdecimal() else None
        return ServerEvent(type=event.event or "message", sequence=sequence, time=body.time, data=body.data)

    async def _ask(
        self,
        answer: type[T],
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        patient: bool = False,
    ) -> T:
        address = self._address(f"/api/v1{path}").with_query(query or {})
        with self._reaching():
            async with self._open().request(
                method,
                address,
                data=None if body is None else msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(
                    total=None if patient else self._query_timeout_s, sock_connect=CONNECT_TIMEOUT_S
                ),
                allow_redirects=False,
            ) as response:
                received = await response.read()
        if not response.ok:
            raise self._refusal(response, received)
        return self._decode(received, answer)

    async def _stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[SseEvent]:
        with self._reaching():
            async with self._open().request(
                method,
                self._address(path).with_query(query or {}),
                data=None if body is None else msgspec.json.encode(body),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream", **(headers or {})},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                if not response.ok:
                    raise self._refusal(response, await response.read())
                if response.content_type != "text/event-stream":
                    raise self._not_noa(f"it sent {response.content_type} where a stream was due")
                parser = SseParser()
                async for chunk in response.content.iter_any():
                    for event in parser.feed(chunk):
                        yield event

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("NoaClient is an async context manager: use it in “async with NoaClient(…) as client:”.")
        return self._session

    def _address(self, path: str) -> URL:
        return URL(f"{self.url}{path}", encoded=True)

    def _decode(self, body: bytes, answer: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=answer)
        except msgspec.DecodeError as error:
            raise self._not_noa(f"it sent no such answer as Noa's ({error})") from error

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> AIProviderError:
        refusal = error_from_answer(response.status, body, response.headers.get("Retry-After"))
        return refusal or self._not_noa(f"it sent {response.content_type} with status {response.status}")

    def _not_noa(self, evidence: str) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"Something answers at {self.url}, but not as Noa does: {evidence}. Set NOA_URL to where Noa listens, "
            "or start it on a port of its own with “noa serve --port PORT”."
        )

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Say in one sentence what kept the server from answering."""
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ServerUnreachableError(
                f"No Noa server answers at {self.url}. Start one with “noa serve”, or “noa demo” for one with a small "
                "model in it; NOA_URL says where to look for it."
            ) from error
        except TimeoutError as error:
            raise ServerUnreachableError(
                f"The server at {self.url} took the request but did not answer in time; its log may say why."
            ) from error
        except aiohttp.ClientError as error:
            raise ServerUnreachableError(
                f"The server at {self.url} broke off the connection ({type(error).__name__}): it stopped, or it is "
                "not Noa; NOA_URL says where to look for it."
            ) from error


def _given(**fields: str | None) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _of_engine(options: LoadOptions | None) -> dict[str, object]:
    """The ``options`` of a load: those that shape a local model's process. The others are fields of their own."""
    if options is None:
        return {}
    shape = {
        "contextSize": options.context_size,
        "slots": options.slots,
        "threads": options.threads,
        "gpuLayers": options.gpu_layers,
        "cacheType": options.cache_type,
    }
    given = {name: value for name, value in shape.items() if value is not None}
    return {"options": given} if given else {}


def _in_path(key: str) -> str:
    return quote(key, safe=":/")
