"""Starting and stopping models: owned ones as processes, remote ones by verifying that they can be used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping

import msgspec

from noa.chat import ChatRequest, Message, TextPart
from noa.errors import AIProviderError, ModelLoadError
from noa.lifecycle import messages as m
from noa.models import ModelCapability, ModelInfo
from noa.providers.protocol import Locality, Offer, Provider
from noa.registry import Registry
from noa.runtime.protocol import EngineProcess, EngineSpec, Journal, ProcessExit, Runtime

logger = logging.getLogger(__name__)

#: Tells whoever listens: an event's type and its data.
Publish = Callable[[str, Mapping[str, object]], None]
#: Tells the scheduler what became of a start or a stop.
Report = Callable[[m.Input], None]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How an owned model is started where its load does not say: see ``LoadOptions``."""

    context_size: int = 4096
    slots: int = 1
    threads: int = 1
    gpu_layers: int | None = None


class Launcher:
    """Carries out ``Start`` and ``Stop``, and owns the processes in between."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        runtime: Runtime,
        registry: Registry,
        shape: Shape,
        journal: Journal,
        report: Report,
        publish: Publish,
    ) -> None:
        self._providers = providers
        self._runtime = runtime
        self._registry = registry
        self._shape = shape
        self._journal = journal
        self._report = report
        self._publish = publish
        self._processes: dict[str, EngineProcess] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._cleanups: set[asyncio.Task[None]] = set()
        self._closing = False

    def process(self, key: str) -> EngineProcess | None:
        """The process of an owned model that runs."""
        return self._processes.get(key)

    def start(self, order: m.Start) -> None:
        """Start it in its turn; the scheduler is told ``Started`` or ``StartFailed``."""
        self._queue(order.key, self._start(order))

    def stop(self, order: m.Stop) -> None:
        """Stop it in its turn; a stop that overtakes its own start cancels it. The scheduler is told ``Stopped``."""
        if running := self._work.get(order.key):
            running.cancel()
        self._queue(order.key, self._stop(order))

    async def aclose(self) -> None:
        """End every start that is under way, then every process."""
        self._closing = True
        tasks = [*self._work.values(), *self._cleanups]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runtime.aclose()

    # One after the other.

    def _queue(self, key: str, work: Coroutine[None, None, None]) -> None:
        previous = self._work.get(key)

        async def in_turn() -> None:
            try:
                if previous is not None:
                    await asyncio.wait([previous])
                await work
            finally:
                work.close()

        task = asyncio.get_running_loop().create_task(in_turn())
        self._work[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))

    def _finished(self, key: str, task: asyncio.Task[None]) -> None:
        if self._work.get(key) is task:
            del self._work[key]
        if not task.cancelled() and (error := task.exception()):
            logger.error("starting or stopping %s failed unexpectedly", key, exc_info=error)

    async def _start(self, order: m.Start) -> None:
        try:
            offer = self._registry.offer(order.key)
            launch = self._launch if offer.locality is Locality.OWNED else self._verify
            size_bytes = await launch(order, offer)
        except AIProviderError as failure:
            self._report(m.StartFailed(key=order.key, generation=order.generation, error=failure))
        except Exception as fault:
            logger.exception("loading %s failed unexpectedly", order.key)
            sentence = f"{order.key} could not be loaded: {fault}. This is a fault of Noa's; its log says more."
            surprise = ModelLoadError(sentence, provider=order.key.partition(":")[0])
            self._report(m.StartFailed(key=order.key, generation=order.generation, error=surprise))
        else:
            self._report(m.Started(key=order.key, generation=order.generation, size_bytes=size_bytes))

    async def _stop(self, order: m.Stop) -> None:
        process = self._processes.pop(order.key, None)
        if process is not None:
            await process.stop()
            await self._forget(order.key, process)
        self._report(m.Stopped(key=order.key, generation=order.generation))

    # Owned models.

    async def _launch(self, order: m.Start, offer: Offer) -> int | None:
        began = time.perf_counter()

        def progress(phase: str) -> None:
            phase = phase.replace(" ", "-")
            if phase != "starting":  # The scheduler said so when it ordered the start.
                self._publish("model-loading", {"key": order.key, "phase": phase})
            if phase == "warming-up":
                self._publish("model-warming-up", {"key": order.key})

        process = await self._runtime.start(self._spec(order, offer), self._journal, progress)
        self._processes[order.key] = process
        process.exited.add_done_callback(lambda exited: self._exited(order, exited))
        self._warmed_up(order.key, began)
        return process.memory_bytes()

    def _spec(self, order: m.Start, offer: Offer) -> EngineSpec:
        options, shape, model = order.options, self._shape, offer.model
        return EngineSpec(
            key=order.key,
            generation=order.generation,
            path=offer.path or "",
            alias=model.id,
            context_size=options.context_size or min(shape.context_size, model.context_window or shape.context_size),
            slots=options.slots or shape.slots,
            threads=options.threads or shape.threads,
            gpu_layers=options.gpu_layers if options.gpu_layers is not None else shape.gpu_layers,
            embedding=_only_embeds(model),
        )

    def _exited(self, order: m.Start, exited: asyncio.Future[ProcessExit]) -> None:
        if self._closing or exited.cancelled() or exited.result().expected:
            return
        process = self._processes.pop(order.key, None)
        if process is not None:
            task = asyncio.get_running_loop().create_task(self._forget(order.key, process))
            self._cleanups.add(task)
            task.add_done_callback(self._cleanups.discard)
        ended = exited.result()
        sentence = ended.error or f"The process of {order.key} ended by itself with code {ended.code}."
        error = ModelLoadError(sentence, provider=order.key.partition(":")[0], retryable=True)
        self._report(m.Crashed(key=order.key, generation=order.generation, error=error))

    async def _forget(self, key: str, process: EngineProcess) -> None:
        await self._providers[key.partition(":")[0]].forget(process.endpoint)

    # Remote models.

    async def _verify(self, order: m.Start, offer: Offer) -> None:
        provider = self._providers[offer.model.provider]
        self._publish("model-loading", {"key": order.key, "phase": "verifying"})
        self._registry.amend(order.key, await provider.verify(offer.model.id))
        if not order.options.warmup:
            return
        self._publish("model-loading", {"key": order.key, "phase": "warming-up"})
        self._publish("model-warming-up", {"key": order.key})
        began = time.perf_counter()
        hello = Message(role="user", parts=(TextPart(text="Say hello."),))
        await provider.complete(ChatRequest(messages=(hello,), max_tokens=1), offer.model.id)
        self._warmed_up(order.key, began)

    def _warmed_up(self, key: str, began: float) -> None:
        duration_ms = (time.perf_counter() - began) * 1000
        self._publish("model-warmed-up", {"key": key, "duration_ms": round(duration_ms, 1)})


def _only_embeds(model: ModelInfo) -> bool:
    can = model.capabilities
    return ModelCapability.EMBEDDINGS in can and ModelCapability.CHAT_COMPLETION not in can
