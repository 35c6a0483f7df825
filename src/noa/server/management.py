"""The management of models: what there is, how it is doing, and every change to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from enum import StrEnum
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from noa.dialects import sse
from noa.errors import AIProviderError, ModelNotFoundError, ValidationError
from noa.manager import ModelManager
from noa.model_index import Conditions
from noa.models import LoadOptions, ModelCapability, ModelStatus, model_key, split_key
from noa.presets import canonical_provider
from noa.server import wire
from noa.server.exchange import exchange_of
from noa.server.live_stream import LiveStreams
from noa.server.model_path import name_of
from noa.server.request_body import read
from noa.server.wire import json_response

logger = logging.getLogger(__name__)

Choice = TypeVar("Choice", bound=StrEnum)


class ModelRoutes:
    """The handlers of ``/api/v1/models…``. ``{name}`` in their paths is one encoded segment (see ``model_path``)."""

    def __init__(self, manager: ModelManager, streams: LiveStreams) -> None:
        self._manager = manager
        self._streams = streams
        self._begun: set[asyncio.Task[None]] = set()

    # What there is.

    async def list(self, request: Request) -> Response:
        """Every known model, or those that match all of the given filters."""
        query = request.query_params
        provider = query.get("provider")
        await self._manager.engine.refresh()
        conditions = Conditions(
            provider=None if provider is None else self._provider(provider),
            capability=_choice(ModelCapability, "capability", query.get("capability")),
            status=_choice(ModelStatus, "status", query.get("status")),
        )
        limit = _count("limit", query.get("limit"))
        page = self._manager.registry.page(conditions, limit=limit, after=query.get("cursor"))
        models, next_cursor = page.entries, page.entries[-1].key if page.more else msgspec.UNSET
        return json_response(wire.ModelList(models=models, count=len(models), next_cursor=next_cursor))

    async def loaded(self, _: Request) -> Response:
        """The loaded models, oldest first, and the one in use."""
        models = self._manager.loaded_models
        return json_response(
            wire.LoadedModels(models=models, count=len(models), current_model=self._manager.current_model)
        )

    async def current(self, _: Request) -> Response:
        """The model in use."""
        return json_response(wire.CurrentModel(model=self._manager.current_model))

    async def statistics(self, _: Request) -> Response:
        """Counts over the whole fleet."""
        return json_response(wire.StatisticsAnswer(statistics=self._manager.statistics()))

    async def one(self, request: Request) -> Response:
        """The models of a provider, if that is what the name is, else one model."""
        name = _name(request)
        if (provider := self._known_provider(name)) is not None:
            await self._manager.engine.refresh()
            models = self._manager.registry.search(provider=provider)
            return json_response(wire.ProviderModels(provider=provider, models=models, count=len(models)))
        key = await self._manager.engine.find_key(name)
        entry = self._manager.registry.get(key)
        if entry is None:
            raise ModelNotFoundError(f"No provider offers “{key}” now. See what there is with: noa ls")
        return json_response(entry)

    async def capabilities(self, request: Request) -> Response:
        """What a model can do, as far as is known."""
        key = await self._key(request)
        model = self._manager.registry.offer(key).model
        answer = wire.Capabilities(key=key, capabilities=model.capabilities, evidence=model.evidence)
        return json_response(answer)

    async def metrics(self, request: Request) -> Response:
        """A model's live figures."""
        key = await self._key(request)
        in_flight = sum(active.in_flight for active in self._manager.loaded_models if active.key == key)
        answer = wire.Metrics(
            key=key,
            metrics=self._manager.performance_metrics(key),
            live=self._manager.live_spread(key),
            in_flight=in_flight,
        )
        return json_response(answer)

    async def logs(self, request: Request) -> Response:
        """The last lines of a local model's process, running or ended; with ``follow``, then each as it is written."""
        key, query = await self._key(request), request.query_params
        last = _count("tail", query.get("tail"))
        if _flag("follow", query.get("follow")):
            return await self._streams.send(request, _told(self._manager.follow_logs(key, last)))
        lines = [*self._manager.logs(key)]
        return json_response(wire.Logs(key=key, lines=lines if last is None else lines[-last:]))

    # Changes.

    async def load(self, request: Request) -> Response:
        """Load a model; with ``plan``, only say what that would take."""
        body = read(await request.body(), wire.LoadBody)
        key = await self._chosen(body)
        options = LoadOptions(**(msgspec.structs.asdict(body.options) if body.options else {}))
        if body.plan:
            return json_response(wire.Planned(plan=await self._manager.plan_load(key, options)))
        work = self._manager.load_model(
            key, warmup=body.warmup, ttl=body.ttl, pin=body.pin, priority=body.priority, options=options
        )
        if not body.wait:
            return self._begin(work, key, "loading")
        await work
        return json_response(_acknowledged(f"{key} is loaded.", key))

    async def unload(self, request: Request) -> Response:
        """Unload a model once its requests are done."""
        body = read(await request.body(), wire.UnloadBody)
        key = await self._chosen(body)
        work = self._manager.unload_model(key, force=body.force)
        if not body.wait:
            return self._begin(work, key, "unloading")
        await work
        return json_response(_acknowledged(f"{key} is unloaded.", key))

    async def switch(self, request: Request) -> Response:
        """Make a model the one in use, loading it first. No request fails for it."""
        body = read(await request.body(), wire.SwitchBody)
        key = await self._chosen(body)
        work = self._manager.switch_model(key, body.reason, expected=body.expected)
        if not body.wait:
            return self._begin(work, key, "switching")
        await work
        done = _acknowledged(f"{key} is the current model now.", key)
        fields = msgspec.structs.asdict(done)
        return json_response(wire.Switched(**fields, current_model=self._manager.current_model))

    async def discover(self, request: Request) -> Response:
        """Ask every provider anew what it has."""
        read(await request.body(), wire.Nothing)
        reports = [*await self._manager.discover_models()]
        return json_response(wire.Discovered(providers=reports, count=len(reports)))

    async def save_state(self, request: Request) -> Response:
        """Write every figure down now. Changes are durable anyway."""
        read(await request.body(), wire.Nothing)
        path = await self._manager.save_state()
        message = "The state is kept in memory only." if path is None else f"The state was saved to {path}."
        return json_response(wire.Saved(message=message, path=None if path is None else str(path)))

    async def probe(self, request: Request) -> Response:
        """Find out by real requests what a model can do; with ``plan``, only say what that would cost at most."""
        key = await self._key(request)
        body = read(await request.body(), wire.ProbeBody)
        if body.plan:
            return json_response(wire.ProbePlanned(plan=self._manager.plan_probe(key, body.capabilities)))
        async with exchange_of(request).while_connected():
            results = [*await self._manager.probe_model(key, body.capabilities)]
            capabilities = self._manager.model_capabilities(key)
            return json_response(wire.Probed(key=key, results=results, capabilities=capabilities))
        return Response()  # Nobody is there to read it.

    # Names.

    async def _key(self, request: Request) -> str:
        return await self._manager.engine.find_key(_name(request))

    async def _chosen(self, choice: wire.ModelChoice) -> str:
        return await self._manager.engine.find_key(chosen_name(choice))

    def _provider(self, name: str) -> str:
        provider = self._known_provider(name)
        if provider is None:
            known = ", ".join(self._manager.engine.providers)
            raise ModelNotFoundError(f"There is no provider “{name}”; set up are {known}.")
        return provider

    def _known_provider(self, name: str) -> str | None:
        """The canonical name of a provider; one that is known but not set up has no models."""
        return name if name in self._manager.engine.providers else canonical_provider(name)

    def _begin(self, work: Awaitable[object], key: str, status: wire.Beginning) -> Response:
        """Go on with a change while its caller goes away."""

        async def finish() -> None:
            try:
                await work
            except AIProviderError as error:
                logger.warning("%s %s failed: %s", status, key, error.message)

        task = asyncio.create_task(finish())
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        begun = _acknowledged(f"{key} is {status}; follow /api/v1/events, or ask for its entry.", key)
        return json_response(wire.Accepted(**msgspec.structs.asdict(begun), status=status), 202)


def chosen_name(choice: wire.ModelChoice) -> str:
    """The name that a choice of provider and model, or of a key, stands for."""
    if choice.key is not None:
        if choice.model is not None or choice.provider is not None:
            raise ValidationError("Give either key, or provider and model; not both.", details={"field": "key"})
        name = choice.key
    elif choice.model is None:
        raise ValidationError(
            "Say which model: give provider and model, or key (such as “openai:gpt-4”).", details={"field": "model"}
        )
    else:
        name = choice.model if choice.provider is None else model_key(choice.provider, choice.model)
    if not name.strip():
        raise ValidationError("The name of a model cannot be empty.", details={"field": "model"})
    return name


def _acknowledged(message: str, key: str) -> wire.Acknowledgement:
    provider, model = split_key(key)
    return wire.Acknowledgement(message=message, provider=provider, model=model, key=key)


def _name(request: Request) -> str:
    return name_of(request.path_params["name"])


def _choice(kind: type[Choice], field: str, given: str | None) -> Choice | None:
    if given is None:
        return None
    try:
        return kind(given)
    except ValueError:
        allowed = ", ".join(kind)
        raise ValidationError(
            f"{field} must be one of {allowed}.", details={"field": field, "allowed": [*map(str, kind)]}
        ) from None


def _count(field: str, given: str | None) -> int | None:
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) >= 1):
        raise ValidationError(f"{field} must be a whole number, 1 or more.", details={"field": field})
    return int(given)


def _flag(field: str, given: str | None) -> bool:
    if given not in (None, "true", "false"):
        raise ValidationError(f"{field} must be true or false.", details={"field": field})
    return given == "true"


async def _told(lines: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    """A log as events without a type; ``end`` says that the process has ended."""
    async with aclosing(lines):
        async for line in lines:
            yield sse.encode(line.encode())
    yield sse.encode(b"{}", event="end")
