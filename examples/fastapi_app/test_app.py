"""The application's tests: no network, no key, no model; Noa itself is the real one."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from fastapi_app.app import create_app
from noa.errors import ProviderResponseError
from noa.testing import FakeManager


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager("openai:gpt-4", "openai:gpt-3.5-turbo", default_model="openai:gpt-4")


@pytest.fixture
def client(manager: FakeManager) -> Iterator[TestClient]:
    with TestClient(create_app(manager)) as client:
        yield client


def test_a_question_is_answered_by_the_model_in_use(client: TestClient, manager: FakeManager) -> None:
    manager.say("Blue.")
    answer = client.post("/chat", json={"text": "What colour is the sky?"})
    assert answer.json() == {"model": "openai:gpt-4", "answer": "Blue."}
    assert manager.conversations[-1].messages[-1].text == "What colour is the sky?"


def test_an_answer_can_be_streamed(client: TestClient, manager: FakeManager) -> None:
    manager.say("one two three")
    with client.stream("POST", "/chat/stream", json={"text": "Count."}) as answer:
        assert "".join(answer.iter_text()) == "one two three"


def test_after_a_switch_the_other_model_answers(client: TestClient) -> None:
    switched = client.post("/switch/openai:gpt-3.5-turbo")
    assert switched.json() == {"previous": "openai:gpt-4", "current": "openai:gpt-3.5-turbo"}
    assert client.post("/chat", json={"text": "Hi"}).json()["model"] == "openai:gpt-3.5-turbo"


def test_without_a_model_the_caller_is_told_when_to_come_again(client: TestClient) -> None:
    answer = client.post("/summary", json={"text": "Nobody has pointed the alias at a model."})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_a_failure_of_the_provider_is_told_as_such(client: TestClient, manager: FakeManager) -> None:
    manager.fail(ProviderResponseError("openai is out of order.", provider="openai"))
    answer = client.post("/chat", json={"text": "Hi"})
    assert answer.status_code == 502
    assert answer.json()["error"]["provider"] == "openai"


def test_the_whole_api_is_mounted(client: TestClient) -> None:
    assert client.get("/ai/api/v1/models/current").json()["model"]["key"] == "openai:gpt-4"
    body = {"model": "current", "messages": [{"role": "user", "content": "Hi"}]}
    assert client.post("/ai/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "Hi"
