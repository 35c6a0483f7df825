"""The manager for programs without asyncio: the same methods, which wait.

with ModelManager.sync() as manager:
    manager.load_model("llama.cpp:smollm2-135m-instruct")
    for piece in manager.stream("Count to five.", max_tokens=60):
        print(piece, end="")
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload
from weakref import WeakSet

from noa.chat import ChatEvent
from noa.config import Configuration
from noa.engine import DEFAULT_WAIT_S
from noa.errors import AIProviderError
from noa.events import Event
from noa.leased_model import LeasedModel, Messages, ModelUse
from noa.manager.blocking import Blocking, iterates, reads, waits
from noa.manager.callers import Callers
from noa.manager.capabilities import Capabilities
from noa.manager.choices import Choices
from noa.manager.conversations import Conversations
from noa.manager.event_thread import EventThread, PlainHandler
from noa.manager.loop_thread import BlockingStream, LoopThread
from noa.manager.pointing import Pointing
from noa.manager.profiles import Profiles
from noa.manager.questions import Questions
from noa.manager.reloading import Reloading
from noa.manager.residency import Residency
from noa.manager.splitting import Splitting
from noa.models import ActiveModel, ModelInfo
from noa.openai_client import blocking_client
from noa.registry import Registry

if TYPE_CHECKING:
    from openai import OpenAI

    from noa.manager.manager import ModelManager

T = TypeVar("T")


class SyncRegistry(Blocking):
    """Every known model, searchable."""

    get = reads(Registry.get)
    models = reads(Registry.models)
    models_by_capability = reads(Registry.models_by_capability)
    search = reads(Registry.search)
    page = reads(Registry.page)
    used = reads(Registry.used)
    count = reads(Registry.count)
    counts = reads(Registry.counts)
    __len__ = reads(Registry.__len__)
    __contains__ = reads(Registry.__contains__)
    _keys = reads(lambda registry: [*registry])

    def __iter__(self) -> Iterator[str]:
        """Every key."""
        return iter(self._keys())


class SyncLeasedModel(Blocking):
    """A loaded model that nothing evicts while you have it."""

    def __init__(self, thread: LoopThread, model: LeasedModel) -> None:
        super().__init__(thread, model)
        self._model = model
        self._streams: WeakSet[BlockingStream[Any]] = WeakSet()

    @property
    def key(self) -> str:
        """Its key."""
        return self._model.key

    @property
    def model(self) -> ModelInfo:
        """What is known of it."""
        return self._thread.call(lambda: self._model.model)

    chat = waits(LeasedModel.chat)
    embed = waits(LeasedModel.embed)

    def stream(self, messages: Messages, **parameters: Any) -> BlockingStream[str]:
        """Continue a conversation, as text that comes bit by bit."""
        return self._opened(_stream(self, messages, **parameters))

    def stream_events(self, messages: Messages, **parameters: Any) -> BlockingStream[ChatEvent]:
        """Continue a conversation, as canonical events: text, reasoning, tool calls, usage."""
        return self._opened(_stream_events(self, messages, **parameters))

    def openai_client(self) -> OpenAI:
        """OpenAI's own client, whose every request this model serves, whatever ``model`` it names."""
        return blocking_client(self._model.admit, self._thread)

    def end_streams(self) -> None:
        """Close the streams that were opened and not read to their end."""
        for stream in tuple(self._streams):
            stream.close()

    def _opened(self, stream: BlockingStream[T]) -> BlockingStream[T]:
        self._streams.add(stream)
        return stream


_stream = iterates(LeasedModel.stream)
_stream_events = iterates(LeasedModel.stream_events)


class SyncModelUse:
    """``with`` this to lease a model; every stream opened through it ends when it is left."""

    def __init__(self, thread: LoopThread, use: ModelUse) -> None:
        self._thread = thread
        self._use = use
        self._model: SyncLeasedModel | None = None

    def __enter__(self) -> SyncLeasedModel:
        try:
            self._model = SyncLeasedModel(self._thread, self._thread.run(self._use.__aenter__()))
        except BaseException:
            # Interrupted, it may have been admitted in the same moment.
            with suppress(AIProviderError):
                self._thread.run(self._use.__aexit__(None, None, None))
            raise
        return self._model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._model is not None:
                self._model.end_streams()
        finally:
            self._thread.run(self._use.__aexit__(None, None, None))


class SyncModelManager(Blocking):
    """A ``ModelManager`` whose methods wait; it runs on a thread of its own from ``initialize`` to ``destroy``.

    Use it with ``with``. It may be used from several threads. Streams are plain iterators; handlers of events are plain
    functions, called on a thread of their own, and may use the manager. Ctrl-C lets go of what was waited for. A
    program that never closes it ends all the same, and its models' processes with it.
    """

    def __init__(self, manager: ModelManager) -> None:
        super().__init__(LoopThread(), manager)
        self._manager = manager
        self._events = EventThread()

    # Life.

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def initialize(self) -> None:
        """As that of ``ModelManager``: restore, discover, begin to load. Twice does nothing more."""
        if self._thread.runs:
            return
        self._thread.start()
        self._events.start()
        try:
            self._thread.run(self._manager.initialize())
        except BaseException:
            self.destroy()
            raise

    def destroy(self) -> None:
        """Save, end every process of ours, let go of the state, and end the thread."""
        if not self._thread.runs:
            return
        try:
            self._thread.run(self._manager.destroy())
        finally:
            self._thread.stop()
            self._events.stop()

    def save_state(self) -> Path | None:
        """Write every figure down now and say where; ``None`` means in memory."""
        return self._thread.run(self._manager.save_state())

    @property
    def configuration(self) -> Configuration:
        """What it is configured with."""
        return self._manager.configuration

    reload = waits(Reloading.reload)

    # Events.

    def on(self, event_type: str, handler: PlainHandler) -> None:
        """Call ``handler`` with each ``Event`` of this type (``*``: of all). Works before ``initialize`` too."""
        relay = self._events.relay(event_type, handler)
        self._there(lambda: self._manager.on(event_type, relay))

    def off(self, event_type: str, handler: PlainHandler) -> None:
        """Stop calling ``handler``."""
        relay = self._events.forget(event_type, handler)
        if relay is not None:
            self._there(lambda: self._manager.off(event_type, relay))

    def listen(self, after: int | None = None) -> BlockingStream[Event]:
        """Every event as it comes; with ``after``, first those remembered whose sequence is greater."""

        async def events() -> AsyncGenerator[Event, None]:
            async for event in self._manager.events.listen(after):
                yield event

        return self._thread.iterate(events())

    def _there(self, function: Callable[[], None]) -> None:
        if self._thread.runs:
            self._thread.call(function)
        else:
            function()

    # Questions.

    @property
    def registry(self) -> SyncRegistry:
        """Every known model, searchable."""
        return SyncRegistry(self._thread, self._thread.call(lambda: self._manager.registry))

    @property
    def current_model(self) -> ActiveModel | None:
        """The model in use, wherever it stands; ``None`` only if no model is in use."""
        return self._thread.call(lambda: self._manager.current_model)

    @property
    def loaded_models(self) -> list[ActiveModel]:
        """The loaded models, oldest first."""
        return self._thread.call(lambda: self._manager.loaded_models)

    statistics = reads(Questions.statistics)
    performance_metrics = reads(Questions.performance_metrics)
    performance_history = reads(Questions.performance_history)
    live_spread = reads(Questions.live_spread)
    usage = waits(Questions.usage)
    breakers = reads(Questions.breakers)
    logs = reads(Questions.logs)
    follow_logs = iterates(Questions.follow_logs)

    # What is loaded, and what names mean.

    discover_models = waits(Residency.discover_models)
    load_model = waits(Residency.load_model)
    plan_load = waits(Residency.plan_load)
    unload_model = waits(Residency.unload_model)
    switch_model = waits(Pointing.switch_model)
    point_alias = waits(Pointing.point_alias)
    rollback_alias = waits(Pointing.rollback_alias)
    remove_alias = waits(Pointing.remove_alias)
    aliases = waits(Pointing.aliases)
    alias_history = waits(Pointing.alias_history)
    auto_switch_to_best_model = waits(Pointing.auto_switch_to_best_model)
    alias_split = reads(Splitting.alias_split)
    alias_shares = reads(Splitting.alias_shares)
    split_alias = waits(Splitting.split_alias)
    unsplit_alias = waits(Splitting.unsplit_alias)
    promote_alias = waits(Splitting.promote_alias)

    # What models can do, and how well.

    model_capabilities = reads(Capabilities.model_capabilities)
    supports_capability = reads(Capabilities.supports_capability)
    detect_capabilities = waits(Capabilities.detect_capabilities)
    probe_model = waits(Capabilities.probe_model)
    plan_probe = reads(Capabilities.plan_probe)
    profiles = waits(Profiles.profiles)
    profile_model = waits(Profiles.profile_model)
    stop_profile = waits(Profiles.stop_profile)
    estimate_profile = reads(Profiles.estimate_profile)
    select = waits(Choices.select)
    decision = reads(Choices.decision)
    decisions = reads(Choices.decisions)

    # Who calls the server.

    caller_keys = reads(Callers.caller_keys)
    create_caller_key = waits(Callers.create_caller_key)
    revoke_caller_key = waits(Callers.revoke_caller_key)

    # Conversations.

    chat = waits(Conversations.chat)
    stream = iterates(Conversations.stream)
    embed = waits(Conversations.embed)
    record_inference = reads(Conversations.record_inference)

    def openai_client(self) -> OpenAI:
        """OpenAI's own client, for the models of this manager. It needs the package ``openai`` and no server."""
        return blocking_client(self._manager.admit, self._thread)

    def use(
        self, name: str | None = None, *, wait_s: float = DEFAULT_WAIT_S, priority: int = 0, failover: bool = True
    ) -> SyncModelUse:
        """A lease: ``with manager.use("current") as model``. It is loaded if need be, and nothing evicts it."""
        use = self._thread.call(lambda: self._manager.use(name, wait_s=wait_s, priority=priority, failover=failover))
        return SyncModelUse(self._thread, use)


class MakesSync(Protocol):
    """Makes a manager that waits; it takes what ``ModelManager`` takes."""

    def __call__(self, *arguments: Any, **options: Any) -> SyncModelManager:
        """Make it. Nothing runs yet."""
        ...


class SyncDoor:
    """``ModelManager.sync(…)`` makes one anew, with the constructor's arguments; ``manager.sync()`` takes this one."""

    @overload
    def __get__(self, manager: None, owner: type[ModelManager]) -> MakesSync: ...
    @overload
    def __get__(self, manager: ModelManager, owner: type[ModelManager]) -> Callable[[], SyncModelManager]: ...
    def __get__(
        self, manager: ModelManager | None, owner: type[ModelManager]
    ) -> MakesSync | Callable[[], SyncModelManager]:
        """The one or the other."""
        if manager is not None:
            return lambda: SyncModelManager(manager)

        def make(*arguments: Any, **options: Any) -> SyncModelManager:
            return SyncModelManager(owner(*arguments, **options))

        return make
