"""The manager for programs without asyncio: it waits, it never hangs, and it lets go."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from noa import Event, ModelCapability, ModelManager, ModelNotFoundError
from noa.errors import ConfigurationError, ProviderResponseError, ValidationError
from noa.manager import SyncModelManager
from noa.testing import FakeManager, FakeModel, FakeProvider

GPT, TURBO = "openai:gpt-4", "openai:gpt-3.5-turbo"
#: What only the server and Noa itself use of a manager, or what means something else here.
INNER = {
    *("engine", "events", "inference", "announce", "persist_at", "read_by", "sync", "from_environment"),
    *("observe", "caller_of", "admit"),
}


@pytest.fixture
def fakes() -> FakeManager:
    return FakeManager(GPT, TURBO)


@pytest.fixture
def manager(fakes: FakeManager) -> Iterator[SyncModelManager]:
    with fakes.sync() as manager:
        yield manager


def test_whatever_the_manager_can_the_one_that_waits_can_too() -> None:
    public = {name for name in dir(ModelManager) if not name.startswith("_")} - INNER
    missing = sorted(name for name in public if not hasattr(SyncModelManager, name) and name != "configuration")
    assert missing == [], "give these a line in noa/manager/sync.py"


def test_it_loads_switches_asks_and_measures(manager: SyncModelManager, fakes: FakeManager) -> None:
    fakes.say("Hello.")
    assert manager.load_model(GPT, warmup=False) == GPT
    assert manager.chat("Say hello.").text == "Hello."
    assert manager.switch_model(TURBO).previous_model == GPT
    assert manager.current_model is not None
    assert manager.current_model.key == TURBO
    assert [model.key for model in manager.loaded_models] == [GPT, TURBO]
    assert manager.profile_model(GPT, 1, max_tokens=4).success_rate == 1
    assert manager.statistics().loaded_models == 2
    assert manager.configuration is fakes.configuration


def test_the_registry_is_searched_where_nothing_changes_meanwhile(manager: SyncModelManager) -> None:
    registry = manager.registry
    assert (len(registry), sorted(registry), GPT in registry) == (2, [TURBO, GPT], True)
    assert {entry.key for entry in registry.search(provider="openai")} == {GPT, TURBO}
    assert len(registry.models_by_capability(ModelCapability.CHAT_COMPLETION)) == 2
    assert registry.get("openai:none") is None


def test_errors_are_raised_where_the_program_waits(manager: SyncModelManager) -> None:
    with pytest.raises(ModelNotFoundError):
        manager.load_model("openai:no-such-model")


def test_a_stream_is_a_plain_iterator(manager: SyncModelManager, fakes: FakeManager) -> None:
    fakes.say("one two three")
    assert "".join(manager.stream("Count.", TURBO)) == "one two three"


def test_a_stream_that_breaks_says_so_after_what_came(manager: SyncModelManager, fakes: FakeManager) -> None:
    fakes.say("one two three")
    fakes.fail(ProviderResponseError("It broke.", provider="openai"), after_pieces=2)
    stream = manager.stream("Count.", TURBO)
    assert [next(stream), next(stream)] == ["one", " two"]
    with pytest.raises(ProviderResponseError):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize("how", ["close", "drop", "leave the lease"])
def test_a_stream_that_is_left_lets_go_of_the_model(how: str) -> None:
    provider = FakeProvider([FakeModel(id="slow", reply="a b c d")], piece_delay_s=60)
    with FakeManager(provider).sync() as manager:
        with manager.use("fake:slow") as model:
            stream = model.stream("Say it.")
            assert next(stream) == "a"
            assert provider.in_flight == 1
            if how == "close":
                stream.close()
                assert provider.in_flight == 0
            elif how == "drop":
                del stream
                assert manager.statistics() is not None
        assert manager.unload_model("fake:slow", drain_s=1) == "fake:slow"
        assert (provider.in_flight, provider.abandoned) == (0, 1)


def test_a_lease_keeps_the_model(manager: SyncModelManager) -> None:
    with manager.use(GPT) as model:
        assert (model.key, model.model.id, model.chat("Hi").text) == (GPT, "gpt-4", "Hi")
        active = next(each for each in manager.loaded_models if each.key == GPT)
        assert active.in_flight == 0
        assert manager.plan_load(TURBO).evicts == ()
    assert manager.unload_model(GPT) == GPT


def test_handlers_may_use_the_manager_and_come_in_order(manager: SyncModelManager) -> None:
    seen: list[object] = []
    loaded_twice = threading.Event()

    def note(event: Event) -> None:
        seen.append((event.data["key"], manager.current_model is not None))
        if len(seen) == 2:
            loaded_twice.set()

    manager.on("model-loaded", note)
    manager.load_model(GPT)
    manager.load_model(TURBO)
    assert loaded_twice.wait(10)
    assert seen == [(GPT, True), (TURBO, True)]
    manager.off("model-loaded", note)
    manager.unload_model(GPT)
    manager.load_model(GPT)
    assert len(seen) == 2


def test_handlers_set_before_the_start_hear_of_it(fakes: FakeManager) -> None:
    seen: list[str] = []
    manager = fakes.sync()
    manager.on("*", lambda event: seen.append(event.type))
    with manager:
        pass
    assert "initialized" in seen


def test_a_coroutine_function_is_refused_as_a_handler(fakes: FakeManager) -> None:
    async def note(_: Event) -> None: ...

    with pytest.raises(ValidationError, match="plain function"):
        fakes.sync().on("model-loaded", note)


def test_events_can_be_read_as_they_come(manager: SyncModelManager) -> None:
    with manager.listen() as events:
        manager.load_model(GPT)
        assert next(event.type for event in events if event.type == "model-loaded")


def test_several_threads_may_use_it(manager: SyncModelManager) -> None:
    texts: list[str] = []
    threads = [threading.Thread(target=lambda n=n: texts.append(manager.chat(f"{n}", GPT).text)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(texts) == [str(n) for n in range(8)]


def test_before_and_after_its_life_it_says_how_to_start_it(fakes: FakeManager) -> None:
    manager = fakes.sync()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="with"):
            manager.chat("Hi")
        manager.initialize()
        manager.initialize()
        manager.load_model(GPT)
        manager.destroy()
        manager.destroy()


def test_a_start_that_fails_leaves_no_thread(fakes: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> None:
        raise ConfigurationError("It may not start.")

    monkeypatch.setattr(fakes, "initialize", refuse)
    with pytest.raises(ConfigurationError, match="may not start"):
        fakes.sync().initialize()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("noa")] == []


def test_ctrl_c_lets_go_of_what_was_waited_for() -> None:
    class Interrupting(FakeProvider):
        """Has the user press Ctrl-C as soon as it is asked."""

        async def interrupt(self, _: float) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            await never.wait()

    never = asyncio.Event()
    provider = Interrupting([FakeModel(id="slow")])
    provider._sleep = provider.interrupt
    with FakeManager(provider).sync() as manager:
        with pytest.raises(KeyboardInterrupt):
            manager.chat("Hi", "fake:slow")
        assert (provider.in_flight, provider.abandoned) == (0, 1)
        with pytest.raises(KeyboardInterrupt):
            list(manager.stream("Hi", "fake:slow"))
    assert (provider.in_flight, provider.abandoned) == (0, 2)


def test_a_program_that_never_closes_it_ends_all_the_same() -> None:
    program = (
        "from noa.testing import FakeManager\n"
        "manager = FakeManager('openai:gpt-4').sync()\n"
        "manager.initialize()\n"
        "stream = manager.stream('one two', 'openai:gpt-4')\n"
        "print(next(stream))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")


def test_made_of_the_class_it_takes_the_constructors_arguments() -> None:
    with FakeManager.sync(GPT, default_model=GPT) as manager:
        assert GPT in manager.registry
