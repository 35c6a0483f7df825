from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from noa.chat import ChatRequest, EmbeddingRequest, Message, TextDelta, TextPart, Usage
from noa.config import ProviderConfig
from noa.errors import (
    ModelNotFoundError,
    ModelNotLoadedError,
    ProviderConnectionError,
    ProviderResponseError,
    UnsupportedError,
)
from noa.models import Endpoint, ModelCapability
from noa.providers import model_folder
from noa.providers.llama_cpp import LlamaCppProvider
from noa.providers.model_folder import WeightsFile, describe_weights, find_weights
from noa.providers.protocol import Dialect, Locality, Offer, RawRequest
from scripted_upstream import Answer, ScriptedUpstream, events_answer, json_answer

ASK = ChatRequest(messages=(Message(role="user", parts=(TextPart(text="Hi"),)),))


def gguf(architecture: str = "llama", **facts: str | int) -> bytes:
    """A header without tensors."""
    pairs: dict[str, str | int] = {"general.architecture": architecture}
    pairs |= {key.replace("__", "."): value for key, value in facts.items()}
    body = b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs))
    for key, value in pairs.items():
        body += struct.pack("<Q", len(key)) + key.encode()
        if isinstance(value, str):
            body += struct.pack("<IQ", 8, len(value)) + value.encode()
        else:
            body += struct.pack("<II", 4, value)
    return body + bytes(64)


CHATTY = gguf(llama__context_length=8192, tokenizer__chat_template="{{ messages }}", general__name="Chatty 1B")


def put(folder: Path, name: str, content: bytes = CHATTY) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def local(*folders: Path) -> LlamaCppProvider:
    return LlamaCppProvider(ProviderConfig(type="llama.cpp"), folders)


async def ids(provider: LlamaCppProvider) -> list[str]:
    return [offer.model.id for offer in await provider.list_models()]


async def test_a_file_is_a_model(tmp_path: Path) -> None:
    path = put(tmp_path, "chatty-1b.gguf")
    (offer,) = await local(tmp_path).list_models()
    assert (offer.locality, offer.path, offer.size_bytes) == (Locality.OWNED, str(path), len(CHATTY))
    assert offer.model.key == "llama.cpp:chatty-1b"
    assert (offer.model.name, offer.model.context_window) == ("chatty-1b", 8192)
    assert offer.model.metadata == {"title": "Chatty 1B", "architecture": "llama"}
    assert set(offer.model.capabilities) == {
        ModelCapability.CHAT_COMPLETION,
        ModelCapability.TEXT_GENERATION,
        ModelCapability.STREAMING,
        ModelCapability.JSON_MODE,
    }


@pytest.mark.parametrize(
    ("content", "capabilities"),
    [
        (gguf("bert"), {ModelCapability.EMBEDDINGS}),
        (gguf("qwen3", qwen3__pooling_type=3, tokenizer__chat_template="x"), {ModelCapability.EMBEDDINGS}),
        (gguf("qwen3", qwen3__pooling_type=4), set()),
        (gguf(), {ModelCapability.TEXT_GENERATION, ModelCapability.STREAMING, ModelCapability.JSON_MODE}),
    ],
)
async def test_what_a_model_can_do_is_read_from_its_header(
    tmp_path: Path, content: bytes, capabilities: set[ModelCapability]
) -> None:
    put(tmp_path, "m.gguf", content)
    (offer,) = await local(tmp_path).list_models()
    assert set(offer.model.capabilities) == capabilities


async def test_a_template_that_speaks_of_tools_means_that_it_calls_functions(tmp_path: Path) -> None:
    put(tmp_path, "m.gguf", gguf(tokenizer__chat_template="{% if tools %}{{ tools }}{% endif %}"))
    (offer,) = await local(tmp_path).list_models()
    assert ModelCapability.FUNCTION_CALLING in offer.model.capabilities


async def test_subfolders_tell_equal_names_apart(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for name in ("x.gguf", "sub/x.gguf", "sub/deep/y.gguf"):
        put(first, name)
    put(second, "x.gguf")
    assert await ids(local(first, second)) == ["x", "sub/x", "second/x", "y"]


async def test_shards_are_one_model_of_their_whole_size(tmp_path: Path) -> None:
    for part in (1, 2, 3):
        put(tmp_path, f"big-0000{part}-of-00003.gguf")
    (offer,) = await local(tmp_path).list_models()
    assert (offer.model.id, offer.size_bytes) == ("big", 3 * len(CHATTY))
    assert offer.path is not None
    assert offer.path.endswith("big-00001-of-00003.gguf")
    assert "error" not in offer.model.metadata


async def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    put(tmp_path, "big-00001-of-00003.gguf")
    put(tmp_path, "big-00003-of-00003.gguf")
    (offer,) = await local(tmp_path).list_models()
    assert offer.model.metadata["error"] == "big: part 2 of 3 is missing"


async def test_projectors_adapters_hidden_and_other_files_are_no_models(tmp_path: Path) -> None:
    put(tmp_path, "mmproj-model-f16.gguf")
    put(tmp_path, "renamed-projector.gguf", gguf("clip"))
    put(tmp_path, "lora.gguf", gguf(general__type="adapter"))
    put(tmp_path, ".hidden/x.gguf")
    put(tmp_path, "x.gguf.part")
    put(tmp_path, "UPPER.GGUF")
    assert await ids(local(tmp_path, tmp_path / "absent")) == ["UPPER"]


async def test_a_file_that_cannot_be_read_is_listed_with_its_error(tmp_path: Path) -> None:
    put(tmp_path, "junk.gguf", b"not at all")
    put(tmp_path, "fine.gguf")
    offers = {offer.model.id: offer.model for offer in await local(tmp_path).list_models()}
    assert "junk.gguf" in str(offers["junk"].metadata["error"])
    assert offers["junk"].capabilities == ()
    assert "error" not in offers["fine"].metadata


async def test_links_lead_to_models_and_never_in_circles(tmp_path: Path) -> None:
    real = put(tmp_path / "elsewhere", "x.gguf")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.gguf").symlink_to(real)
    (folder / "dangling.gguf").symlink_to(tmp_path / "nothing")
    (folder / "loop").symlink_to(folder)
    assert await ids(local(folder, folder)) == ["link"]


async def test_a_header_is_read_again_only_when_its_file_changed(tmp_path: Path) -> None:
    path = put(tmp_path, "x.gguf")
    provider = local(tmp_path)
    (first,) = await provider.list_models()
    (again,) = await provider.list_models()
    assert again is first
    path.write_bytes(gguf(llama__context_length=99))
    (changed,) = await provider.list_models()
    assert changed.model.context_window == 99
    path.unlink()
    assert await ids(provider) == []


def test_files_come_in_a_stable_order(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf", "c/d.gguf"):
        put(tmp_path, name)
    assert [weights.stem for weights in find_weights([tmp_path])] == ["a", "b", "d"]


async def test_a_file_is_verified_by_being_there(tmp_path: Path) -> None:
    put(tmp_path, "x.gguf")
    provider = local(tmp_path)
    assert (await provider.verify("x")).id == "x"
    with pytest.raises(ModelNotFoundError, match=r"put y\.gguf into the model folder"):
        await provider.verify("y")
    assert (await provider.health()).up


async def test_a_model_without_a_process_says_to_load_it(tmp_path: Path) -> None:
    put(tmp_path, "x.gguf")
    with pytest.raises(ModelNotLoadedError, match="load it"):
        await local(tmp_path).complete(ASK, "x")


# A server of the user's.


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("x", "other")) as scripted:
        yield scripted


async def test_a_file_goes_before_a_servers_model_of_its_name(tmp_path: Path, server: ScriptedUpstream) -> None:
    put(tmp_path, "x.gguf")
    provider = LlamaCppProvider(ProviderConfig(type="llama.cpp", base_url=server.url), [tmp_path])
    offers = {offer.model.id: offer.locality for offer in await provider.list_models()}
    assert offers == {"x": Locality.OWNED, "x@server": Locality.REMOTE, "other": Locality.REMOTE}
    assert (await provider.verify("x@server")).id == "x@server"
    assert (await provider.complete(ASK, "x@server")).text == server.reply
    assert server.requests[-1].json["model"] == "x"
    body = msgspec.json.encode({"model": "x@server", "messages": []})
    await provider.open(
        RawRequest(dialect=Dialect.OPENAI, path="/chat/completions", body=body, model_id="x@server", stream=False)
    )
    assert server.requests[-1].json["model"] == "x"
    assert len(server.requests) == server.accepted
    await provider.aclose()


async def test_a_server_that_is_down_hides_no_file(
    tmp_path: Path, server: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    await server.aclose()
    provider = LlamaCppProvider(ProviderConfig(type="llama.cpp", base_url=server.url), [tmp_path])
    with pytest.raises(ProviderConnectionError, match="LLAMA_CPP_BASE_URL"):
        await provider.list_models()
    assert not (await provider.health()).up
    put(tmp_path, "x.gguf")
    assert await ids(provider) == ["x"]
    assert "cannot be reached" in caplog.text
    health = await provider.health()
    assert health.up
    assert health.error is not None
    await provider.aclose()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
async def test_a_pipe_is_no_model_and_hides_none(tmp_path: Path) -> None:
    put(tmp_path, "x.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    os.mkfifo(tmp_path / "parts-00001-of-00001.gguf")
    assert await asyncio.wait_for(ids(local(tmp_path)), 5) == ["x"]


async def test_a_pipe_that_takes_the_place_of_a_file_blocks_nobody(tmp_path: Path) -> None:
    path = put(tmp_path, "x.gguf")
    (weights,) = find_weights([tmp_path])
    path.unlink()
    os.mkfifo(path)
    offer = await asyncio.wait_for(asyncio.to_thread(describe_weights, "llama.cpp", "x", weights), 5)
    assert offer is not None
    assert offer.model.metadata["error"]


async def test_a_file_that_cannot_be_understood_at_all_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "x.gguf")
    put(tmp_path, "y.gguf")

    def describe(provider: str, model_id: str, weights: WeightsFile) -> Offer | None:
        if model_id == "x":
            raise RecursionError
        return describe_weights(provider, model_id, weights)

    monkeypatch.setattr(model_folder, "describe_weights", describe)
    assert await ids(local(tmp_path)) == ["y"]
    assert "x.gguf is left out" in caplog.text


# An engine of ours.


@pytest.fixture
async def engine(short_folder: Path) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(models=("x",), socket_path=str(short_folder / "e.sock")) as scripted:
        yield scripted


@pytest.fixture
def endpoint(short_folder: Path) -> Endpoint:
    return Endpoint(base_url="http://localhost/v1", socket_path=str(short_folder / "e.sock"))


def raw(endpoint: Endpoint, stream: bool, path: str = "/chat/completions", **fields: object) -> RawRequest:
    body = {"model": "x", "messages": [], "prompt": "Hi", "stream": stream, "top_k": 3, **fields}
    return RawRequest(
        dialect=Dialect.OPENAI,
        path=path,
        body=msgspec.json.encode(body),
        model_id="x",
        stream=stream,
        endpoint=endpoint,
    )


@pytest.mark.parametrize(
    ("path", "kind"), [("/chat/completions", "chat.completion"), ("/completions", "text_completion")]
)
async def test_an_engine_is_streamed_to_and_its_answer_put_together(
    engine: ScriptedUpstream, endpoint: Endpoint, path: str, kind: str
) -> None:
    provider = local()
    response = await provider.open(raw(endpoint, False, path))
    sent = engine.requests[-1].json
    assert (sent["stream"], sent["return_progress"], sent["top_k"]) == (True, True, 3)
    assert sent["stream_options"] == {"include_usage": True}
    (body,) = [chunk async for chunk in response.chunks()]
    answer = msgspec.json.decode(body)
    assert (answer["object"], answer["model"], answer["usage"]["completion_tokens"]) == (kind, "x", 3)
    choice = answer["choices"][0]
    assert (choice.get("message") or {"content": choice.get("text")})["content"] == engine.reply
    assert choice["finish_reason"] == "stop"
    assert (response.content_type, response.usage) == ("application/json", Usage(prompt_tokens=9, completion_tokens=3))
    await provider.aclose()


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_a_streaming_caller_sees_no_progress_and_usage_only_when_asked(
    engine: ScriptedUpstream, endpoint: Endpoint, wants_usage: bool
) -> None:
    provider = local()
    response = await provider.open(raw(endpoint, True, stream_options={"include_usage": wants_usage}))
    body = b"".join([chunk async for chunk in response.chunks()])
    assert engine.requests[-1].json["return_progress"] is True
    assert b"prompt_progress" not in body
    assert (b'"usage": {' in body) is wants_usage
    assert response.usage is not None
    assert body.endswith(b"data: [DONE]\n\n")
    await provider.aclose()


async def test_a_caller_who_asks_for_progress_sees_it(engine: ScriptedUpstream, endpoint: Endpoint) -> None:
    provider = local()
    response = await provider.open(raw(endpoint, True, return_progress=True))
    assert b"prompt_progress" in b"".join([chunk async for chunk in response.chunks()])
    await provider.aclose()


async def test_embeddings_of_an_engine_are_not_streamed(engine: ScriptedUpstream, endpoint: Endpoint) -> None:
    provider = local()
    reply = await provider.embed(EmbeddingRequest(inputs=("one",)), "x", endpoint)
    assert reply.vectors == ((3.0, 1.0, 0.5),)
    assert "stream" not in engine.requests[-1].json
    await provider.aclose()


async def test_the_canonical_forms_use_the_engine_too(engine: ScriptedUpstream, endpoint: Endpoint) -> None:
    provider = local()
    assert (await provider.complete(ASK, "x", endpoint)).text == engine.reply
    events = [event async for event in provider.stream(ASK, "x", endpoint)]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == engine.reply
    assert all(request.json["stream"] for request in engine.requests)
    await provider.aclose()


async def test_an_engine_that_dies_mid_answer_leaves_no_half_answer(
    engine: ScriptedUpstream, endpoint: Endpoint
) -> None:
    provider = local()
    half = events_answer({"choices": [{"index": 0, "delta": {"content": "Hel"}}]})
    ways = [
        Answer(content_type="text/event-stream", chunks=half.chunks, truncate=True),
        Answer(content_type="text/event-stream", chunks=half.chunks, reset=True),
        half,
    ]
    for way in ways:
        engine.script("/v1/chat/completions", way)
        with pytest.raises(ProviderResponseError) as caught:
            await provider.open(raw(endpoint, False))
        assert caught.value.provider == "llama.cpp"
    await provider.aclose()


async def test_a_caller_who_leaves_before_the_answer_is_whole_stops_the_engine(
    engine: ScriptedUpstream, endpoint: Endpoint
) -> None:
    provider = local()
    progress = events_answer({"choices": [], "prompt_progress": {"total": 9, "processed": 1}})
    stuck = Answer(content_type="text/event-stream", chunks=progress.chunks, hang=True)
    engine.script("/v1/chat/completions", stuck)
    waiting = asyncio.ensure_future(provider.open(raw(endpoint, False)))
    await engine.answering.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.wait_for(engine.gone.wait(), 1)
    await provider.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_an_engine_refuses_is_told_in_our_words(
    engine: ScriptedUpstream, endpoint: Endpoint, stream: bool
) -> None:
    provider = local()
    refusal = json_answer({"error": {"code": 500, "message": "image input is not supported - hint", "type": "x"}}, 500)
    engine.script("/v1/chat/completions", refusal)
    with pytest.raises(UnsupportedError, match=r"^llama\.cpp:x takes no image input") as caught:
        await provider.open(raw(endpoint, stream))
    assert caught.value.upstream is None
    await provider.aclose()
