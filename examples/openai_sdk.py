"""OpenAI's own SDK on Noa: what there is, a stream, a tool, and who answers.

    noa demo                        # or noa serve, in another terminal
    python examples/openai_sdk.py

NOA_URL says where Noa is (http://localhost:3001 unless it is set), NOA_API_KEY its key if it asks for one.
"""

import json
import os
from typing import Any

from openai import NotFoundError, OpenAI
from openai.types.chat import ChatCompletionToolParam

GET_WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def get_weather(city: str) -> str:
    """The weather in a city; a program of yours would look it up."""
    return "7 degrees, light rain" if city == "Oslo" else "unknown"


def list_models(client: OpenAI) -> None:
    """Every name that a request may give: aliases like ``current``, and the models by their keys."""
    for model in client.models.list():
        print(f"{model.id} (of {model.owned_by})")


def stream(client: OpenAI) -> None:
    """An answer as it comes, by the model in use, and what it took."""
    answer = client.chat.completions.create(
        model="current",
        messages=[{"role": "user", "content": "Count to five."}],
        max_tokens=60,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in answer:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="")
        elif chunk.usage:
            print(f"\n{chunk.usage.prompt_tokens} tokens read, {chunk.usage.completion_tokens} written")


def use_a_tool(client: OpenAI) -> None:
    """A conversation in which the model may ask for the weather, until it answers."""
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    for _ in range(4):
        answer = client.chat.completions.create(model="current", messages=messages, tools=[GET_WEATHER], max_tokens=200)
        message = answer.choices[0].message
        if not message.tool_calls:
            print(message.content)
            return
        messages.append(message)
        for call in message.tool_calls:
            if call.type == "function":
                result = get_weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def let_noa_choose(client: OpenAI) -> None:
    """``auto:speed`` is whichever model was measured to be the fastest; a header says which one that was."""
    answer = client.chat.completions.with_raw_response.create(
        model="auto:speed", messages=[{"role": "user", "content": "Say hello."}], max_tokens=60
    )
    print(f"{answer.headers['x-noa-model']} says: {answer.parse().choices[0].message.content}")


def ask_for_nothing(client: OpenAI) -> None:
    """Errors are those of the SDK, and their sentences say what to do."""
    try:
        client.chat.completions.create(model="no-such-model", messages=[{"role": "user", "content": "Hello?"}])
    except NotFoundError as error:
        print(error)


def main() -> None:
    """All of it, one after the other."""
    address = os.environ.get("NOA_URL", "http://localhost:3001")
    with OpenAI(base_url=f"{address}/v1", api_key=os.environ.get("NOA_API_KEY", "unused")) as client:
        list_models(client)
        stream(client)
        use_a_tool(client)
        let_noa_choose(client)
        ask_for_nothing(client)


if __name__ == "__main__":
    main()
