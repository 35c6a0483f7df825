"""Starting and stopping models: owned ones as processes, remote ones by verifying that they can be used."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

from noa.background import Background
from noa.chat import ChatRequest, Message, TextPart
from noa.errors import AIProviderError, ModelLoadError
from noa.lifecycle import messages as m
from noa.provider_pool import ProviderPool
from noa.providers.protocol import Lifecycled, Locality, Offer, Provider
from noa.providers.vigil import Vigil
from noa.registry import Registry
from noa.runtime.diagnosis import WANT_OF_MEMORY
from noa.runtime.protocol import EngineProcess, Journal, ProcessExit, Runtime
from noa.shape import Shape
from noa.sizes import Sizes
from noa.state import SizeMeasured

logger = logging.getLogger(__name__)

#: Tells whoever listens: an event's type and its data.
Publish = Callable[[str, Mapping[str, object]], None]
#: Writes down what an engine was seen to take.
Record = Callable[[SizeMeasured], Awaitable[None]]
#: Tells the scheduler what became of a start or a stop.
Report = Callable[[m.Input], None]


class Launcher:
    """Carries out ``Start`` and ``Stop``, and owns the processes in between."""

    def __init__(
        self,
        *,
        providers: ProviderPool,
        runtime: Runtime,
        registry: Registry,
        shape: Shape,
        sizes: Sizes,
        journal: Journal,
        record: Record,
        report: Report,
        publish: Publish,
    ) -> None:
        self._providers = providers
        self._runtime = runtime
        self._registry = registry
        self._shape = shape
        self._sizes = sizes
        self._journal = journal
        self._record = record
        self._report = report
        self._publish = publish
        self._processes: dict[str, EngineProcess] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._background = Background()
        self._vigil = Vigil()
        self._closing = False

    def running(self) -> Iterable[EngineProcess]:
        """Every process of an owned model that runs."""
        return self._processes.values()

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

    def exchanged(self, provider: str) -> None:
        """Another provider has this name from now on, or none has."""
        self._vigil.replace(provider, self._providers.get(provider))

    async def aclose(self) -> None:
        """End every start that is under way, then every process."""
        self._closing = True
        tasks = [*self._work.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._background.aclose()
        await self._vigil.aclose()
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
            full = failure.details.get("reason") in WANT_OF_MEMORY
            self._report(m.StartFailed(key=order.key, generation=order.generation, error=failure, out_of_memory=full))
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
        else:
            await self._let_go(order.key)
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

        spec = self._shape.spec(offer, order.options, order.generation)
        process = await self._runtime.start(spec, self._journal, progress)
        self._processes[order.key] = process
        process.exited.add_done_callback(lambda exited: self._exited(order, exited))
        self._warmed_up(order.key, began)
        return self._measure(order, offer, process)

    def _measure(self, order: m.Start, offer: Offer, process: EngineProcess) -> int | None:
        """What it takes now, which is written down for its next start: in time for that, but nobody waits for it."""
        measured = self._sizes.measure(offer, order.options, process)
        if measured is None:
            return None
        if self._sizes.note(measured):
            self._background.spawn(self._write_down(measured))
        return measured.size_bytes

    async def _write_down(self, measured: SizeMeasured) -> None:
        try:
            await self._record(measured)
        except AIProviderError as error:
            logger.warning("what %s takes was measured, but not written down: %s", measured.engine.path, error.message)

    def _exited(self, order: m.Start, exited: asyncio.Future[ProcessExit]) -> None:
        if self._closing or exited.cancelled() or exited.result().expected:
            return
        process = self._processes.pop(order.key, None)
        if process is not None:
            self._background.spawn(self._forget(order.key, process))
        ended = exited.result()
        sentence = ended.error or f"The process of {order.key} ended by itself with code {ended.code}."
        error = ModelLoadError(sentence, provider=order.key.partition(":")[0], retryable=True)
        self._report(m.Crashed(key=order.key, generation=order.generation, error=error))

    async def _forget(self, key: str, process: EngineProcess) -> None:
        with self._providers.lend(key.partition(":")[0]) as provider:
            await provider.forget(process.endpoint)

    # Remote models.

    async def _verify(self, order: m.Start, offer: Offer) -> None:
        with self._providers.lend(offer.model.provider) as provider:
            await self._verify_with(provider, order, offer)

    async def _verify_with(self, provider: Provider, order: m.Start, offer: Offer) -> None:
        if isinstance(provider, Lifecycled):
            await provider.load(
                offer.model.id, lambda phase: self._publish("model-loading", {"key": order.key, "phase": phase})
            )
        self._publish("model-loading", {"key": order.key, "phase": "verifying"})
        self._registry.amend(order.key, await provider.verify(offer.model.id))
        if isinstance(provider, Lifecycled):
            left = m.Left(key=order.key, generation=order.generation)
            self._vigil.watch(provider.name, provider, offer.model.id, lambda: self._report(left))
            self.exchanged(provider.name)
        if not order.options.warmup:
            return
        self._publish("model-loading", {"key": order.key, "phase": "warming-up"})
        self._publish("model-warming-up", {"key": order.key})
        began = time.perf_counter()
        hello = Message(role="user", parts=(TextPart(text="Say hello."),))
        await provider.complete(ChatRequest(messages=(hello,), max_tokens=1), offer.model.id)
        self._warmed_up(order.key, began)

    async def _let_go(self, key: str) -> None:
        """Have a remote model unloaded where it runs, if that is something one can ask for there."""
        with self._providers.lend(key.partition(":")[0]) as provider:
            if not isinstance(provider, Lifecycled):
                return
            try:
                offer = self._registry.last_offer(key)
                if offer.locality is Locality.REMOTE:
                    self._vigil.leave(offer.model.provider, offer.model.id)
                    await provider.unload(offer.model.id)
            except AIProviderError as error:
                logger.warning("%s may still be loaded where it runs: %s", key, error.message)

    def _warmed_up(self, key: str, began: float) -> None:
        duration_ms = (time.perf_counter() - began) * 1000
        self._publish("model-warmed-up", {"key": key, "duration_ms": round(duration_ms, 1)})
