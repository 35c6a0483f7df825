"""A changed configuration in a manager that runs, over real sockets: who notices, and who must not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from configured import configure
from gguf_writer import write_model
from noa.errors import ConfigurationError
from noa.events import Event
from noa.manager import ModelManager
from noa.runtime.fake import FakeRuntime
from scripted_upstream import ScriptedUpstream, events_answer, json_answer
from served import Answer, Served, serving, until

GPT = "work:gpt-4"
BODY = {"model": GPT, "messages": [{"role": "user", "content": "Say hello."}]}
CHUNK = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
RELOAD = "/api/v1/config/reload"
OWNER = {"x-api-key": "sk-owner"}


def provider(name: str, upstream: ScriptedUpstream) -> str:
    return f"  - {{type: openai, name: {name}, baseURL: '{upstream.url}/v1', apiKey: sk-a}}\n"


class House(NamedTuple):
    """A server over a manager that is configured by the ``noa.yaml`` of a folder; and two upstreams."""

    folder: Path
    manager: ModelManager
    server: Served
    first: ScriptedUpstream
    second: ScriptedUpstream
    events: list[Event]

    def write(self, *providers: str, more: str = "") -> None:
        text = "".join(providers)
        (self.folder / "noa.yaml").write_text((f"providers:\n{text}" if text else "") + more)

    def told(self, event_type: str) -> list[Event]:
        return [event for event in self.events if event.type == event_type]


@asynccontextmanager
async def house_in(folder: Path, **environ: str) -> AsyncIterator[House]:
    async with AsyncExitStack() as opened:
        first = await opened.enter_async_context(ScriptedUpstream())
        second = await opened.enter_async_context(ScriptedUpstream())
        (folder / "noa.yaml").write_text("providers:\n" + provider("work", first))
        manager = ModelManager(configuration=configure(folder, **environ), runtime=FakeRuntime())
        manager.read_by(lambda: configure(folder, **environ))
        events: list[Event] = []
        manager.on("*", events.append)
        await opened.enter_async_context(manager)
        server = await opened.enter_async_context(serving(manager))
        yield House(folder, manager, server, first, second, events)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path) as house:
        yield house


async def test_no_request_fails_while_providers_come_change_and_go_fifty_times(house: House) -> None:
    answered = 0
    over = asyncio.Event()

    async def call(*, stream: bool) -> None:
        nonlocal answered
        while not over.is_set():
            answer = await house.server.post("/v1/chat/completions", {**BODY, "stream": stream})
            assert answer.status == 200, answer.body
            assert b"error" not in answer.body
            assert not stream or b"[DONE]" in answer.body
            answered += 1

    calls = [asyncio.create_task(call(stream=bool(number % 2))) for number in range(4)]
    for number in range(50):
        here = (house.first, house.second)[(number + 1) % 2]
        extra = [provider("extra", house.second)] if number % 3 == 0 else []
        more = f"selection: {{policies: {{cheap: {{prefer: cost, maxCost: {number + 1}}}}}}}\n"
        house.write(provider("work", here), *extra, more=more)
        before = answered
        reloaded = await house.manager.reload()
        assert reloaded.providers_changed == ("work",)
        assert "selection.policies" in reloaded.settings
        await until(lambda before=before: answered > before + 4 or any(task.done() for task in calls))  # type: ignore[misc]
    over.set()
    await asyncio.gather(*calls)
    assert {"extra"} == {
        name for event in house.told("configuration-reloaded") for name in event.data["providers_added"]
    }
    assert house.first.accepted > 20, "each time the address changed, connections of its own were opened"
    assert house.second.accepted > 20
    await until(lambda: house.second.connections == 0)
    assert house.first.connections <= 5


async def begin(house: House, go_on: asyncio.Event) -> asyncio.Task[Answer]:
    """A stream of three pieces from the first upstream: the first has been sent, and the others wait."""
    house.first.script("/v1/chat/completions", events_answer(CHUNK, CHUNK, CHUNK, "[DONE]", go_on=go_on))
    running = asyncio.create_task(house.server.post("/v1/chat/completions", {**BODY, "stream": True}))
    await until(lambda: any(request.path == "/v1/chat/completions" for request in house.first.requests))
    return running


async def test_a_stream_goes_on_with_the_provider_that_it_began_with(house: House) -> None:
    go_on = asyncio.Event()
    running = await begin(house, go_on)
    house.write(provider("work", house.second))
    await house.manager.reload()
    house.second.script("/v1/chat/completions", json_answer({"choices": [], "from": "the second"}))
    answer = await house.server.post("/v1/chat/completions", BODY)
    assert answer.json["from"] == "the second"
    go_on.set()
    assert (await running).body.count(b'"x"') == 3
    await until(lambda: house.first.connections == 0)


async def test_a_provider_that_is_taken_out_is_gone_after_its_last_request(house: House) -> None:
    go_on = asyncio.Event()
    running = await begin(house, go_on)
    house.write(provider("other", house.second))
    reloaded = await house.manager.reload()
    assert (reloaded.providers_added, reloaded.providers_removed) == (("other",), ("work",))
    refused = await house.server.post("/v1/chat/completions", BODY)
    assert refused.status == 503
    assert "work was taken out of the configuration" in refused.error["message"]
    assert (await house.server.post("/v1/chat/completions", {**BODY, "model": "other:gpt-4"})).status == 200
    assert [entry.key for entry in house.manager.registry.models() if entry.provider == "work"] == []
    go_on.set()
    assert (await running).body.count(b'"x"') == 3
    await until(lambda: house.first.connections == 0)
    await until(lambda: house.told("model-unloaded"))
    assert (await house.server.post("/v1/chat/completions", BODY)).status == 404


async def test_a_provider_that_is_put_back_in_time_serves_as_if_nothing_had_been(house: House) -> None:
    go_on = asyncio.Event()
    running = await begin(house, go_on)
    for providers in ([provider("other", house.second)], [provider("work", house.second)]):
        house.write(*providers)
        await house.manager.reload()
    assert (await house.server.post("/v1/chat/completions", BODY)).status == 200
    assert not house.told("model-unloaded")
    go_on.set()
    assert (await running).body.count(b'"x"') == 3
    await until(lambda: house.first.connections == 0)


async def test_a_lease_on_a_model_outlives_its_provider(house: House) -> None:
    async with house.manager.use(GPT) as model:
        house.write(provider("other", house.second))
        await house.manager.reload()
        assert (await model.chat("Say hello.", max_tokens=9)).text == house.first.reply
    await until(lambda: house.first.connections == 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("providers: [\n", "noa.yaml"),
        ("models:\n  maxloaded: 3\n", "noa.yaml:2: unknown field “maxloaded”; did you mean “maxLoaded”?"),
        ("providers:\n  - {type: openai, apiKey: '${env.NOT_THERE}'}\n", "the variable NOT_THERE is not set"),
        ("providers:\n  - {type: nobody-has-this, name: x, baseURL: 'http://localhost:1'}\n", "nobody-has-this"),
    ],
)
async def test_a_file_that_is_wrong_changes_nothing_and_says_why(house: House, text: str, said: str) -> None:
    before = house.manager.configuration
    (house.folder / "noa.yaml").write_text(text)
    answer = await house.server.post(RELOAD)
    assert answer.status == 400
    assert answer.error["code"] == "CONFIGURATION_ERROR"
    assert said in answer.error["message"]
    await until(lambda: house.told("configuration-rejected"))
    assert house.told("configuration-rejected")[0].data["error"] == answer.error["message"]
    assert house.manager.configuration is before
    assert (await house.server.post("/v1/chat/completions", BODY)).status == 200
    assert house.first.accepted == 1, "the provider that was there is the one that serves"


async def test_what_needs_a_restart_is_named_and_stays(house: House) -> None:
    house.write(
        provider("work", house.first), more="server: {port: 4001}\nengine: {slots: 3}\nmodels: {maxLoaded: 7}\n"
    )
    answer = await house.server.post(RELOAD)
    assert answer.status == 200, answer.body
    assert answer.json == {
        "file": str(house.folder / "noa.yaml"),
        "providersAdded": [],
        "providersChanged": [],
        "providersRemoved": [],
        "settings": ["models.maxLoaded"],
        "needsRestart": ["server.port", "engine.slots"],
    }
    configuration = house.manager.configuration
    assert (configuration.port, configuration.slots, configuration.max_loaded_models) == (3001, 1, 7)
    again = await house.server.post(RELOAD)
    assert again.json["settings"] == []
    assert again.json["needsRestart"] == ["server.port", "engine.slots"], "as long as that is so"


async def test_only_the_owner_has_it_read(tmp_path: Path) -> None:
    async with house_in(tmp_path, NOA_API_KEY=OWNER["x-api-key"]) as house:
        made = await house.manager.create_caller_key("lee")
        assert (await house.server.post(RELOAD)).status == 401
        refused = await house.server.post(RELOAD, headers={"x-api-key": made.secret})
        assert refused.status == 401
        assert refused.error["message"].startswith("The configuration is reloaded with the server's own key")
        assert (await house.server.post(RELOAD, headers=OWNER)).status == 200


async def test_a_corrected_address_is_asked_at_once(house: House) -> None:
    """Its breaker is open, and it would be left alone for a while."""
    dead = f"http://127.0.0.1:{house.second.port}"
    await house.second.aclose()
    more = ", models: [gpt-4], maxRetries: 0"
    house.write(f"  - {{type: openai, name: work, baseURL: '{dead}/v1', apiKey: sk-a{more}}}\n")
    await house.manager.reload()
    for _ in range(12):
        assert (await house.server.post("/v1/chat/completions", BODY)).status != 200
    assert house.manager.breakers()
    house.write(provider("work", house.first))
    await house.manager.reload()
    assert house.manager.breakers() == []
    assert (await house.server.post("/v1/chat/completions", BODY)).status == 200


async def test_fallbacks_and_limits_count_from_then_on(house: House) -> None:
    house.write(provider("work", house.first), provider("other", house.second))
    await house.manager.reload()
    await house.manager.load_model("other:gpt-4")
    await house.manager.load_model(GPT)
    house.first.always("/v1/chat/completions", json_answer({"error": {"message": "Busy."}}, status=503))
    assert (await house.server.post("/v1/chat/completions", BODY)).status == 503
    more = f"fallbacks: {{'{GPT}': ['other:gpt-4']}}\nmodels: {{maxLoaded: 1, '{GPT}': {{contextWindow: 4321}}}}\n"
    house.write(provider("work", house.first), provider("other", house.second), more=more)
    reloaded = await house.manager.reload()
    assert set(reloaded.settings) == {"fallbacks", "models.maxLoaded", f"models.{GPT}"}
    entry = house.manager.registry.get(GPT)
    assert entry is not None
    assert entry.context_window == 4321
    await until(lambda: len(house.manager.loaded_models) == 1)
    served = await house.server.post("/v1/chat/completions", BODY)
    assert (served.status, served.headers["x-noa-model"]) == (200, "other:gpt-4")


async def test_a_local_model_stays_loaded_when_a_folder_is_added(house: House) -> None:
    for folder, name in (("home/models", "one"), ("more", "two")):
        (house.folder / folder).mkdir(parents=True)
        write_model(house.folder / folder / f"{name}.gguf", "llama", {"context_length": 512}, [])
    await house.manager.load_model("llama.cpp:one")
    (before,) = house.manager.loaded_models
    house.write(provider("work", house.first), more="models: {folders: [more]}\n")
    reloaded = await house.manager.reload()
    assert (reloaded.providers_changed, reloaded.settings) == (("llama.cpp",), ("models.folders",))
    assert "llama.cpp:two" in house.manager.registry
    (after,) = house.manager.loaded_models
    assert (after.key, after.loaded_at) == (before.key, before.loaded_at)


async def test_a_manager_that_a_program_configured_is_given_the_next_configuration(house: House) -> None:
    async with ModelManager(
        configuration=house.manager.configuration, runtime=FakeRuntime(), max_loaded_models=2
    ) as one:
        with pytest.raises(ConfigurationError, match="give reload\\(\\) the changed one"):
            await one.reload()
        changed = one.configuration.evolve(max_loaded_models=9, explore=0.5)
        assert (await one.reload(changed)).settings == ("selection.explore",), "an argument goes before everything"
        assert one.configuration.max_loaded_models == 2
