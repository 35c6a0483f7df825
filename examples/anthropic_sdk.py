"""Anthropic's own SDK on Noa, on models of any provider: what there is, a stream, a tool, and counting tokens.

    noa demo                        # or noa serve, in another terminal
    python examples/anthropic_sdk.py

NOA_URL says where Noa is (http://localhost:3001 unless it is set), NOA_API_KEY its key if it asks for one. This SDK
wants the address without ``/v1``.
"""

import os
from typing import Any

from anthropic import Anthropic, BadRequestError
from anthropic.types import ToolParam

GET_WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def get_weather(city: str) -> str:
    """The weather in a city; a program of yours would look it up."""
    return "7 degrees, light rain" if city == "Oslo" else "unknown"


def list_models(client: Anthropic) -> None:
    """Every name that a request may give: aliases like ``current``, and the models by their keys."""
    for model in client.models.list():
        print(f"{model.id} ({model.display_name})")


def stream(client: Anthropic) -> None:
    """An answer as it comes, by the model in use, and what it took."""
    question: Any = [{"role": "user", "content": "Count to five."}]
    with client.messages.stream(model="current", messages=question, max_tokens=60) as answer:
        for text in answer.text_stream:
            print(text, end="")
        usage = answer.get_final_message().usage
    print(f"\n{usage.input_tokens} tokens read, {usage.output_tokens} written")


def use_a_tool(client: Anthropic) -> None:
    """A conversation in which the model may ask for the weather, until it answers."""
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    for _ in range(4):
        answer = client.messages.create(model="current", messages=messages, tools=[GET_WEATHER], max_tokens=200)
        print("".join(block.text for block in answer.content if block.type == "text"))
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": get_weather(str(block.input["city"]))}
            for block in answer.content
            if block.type == "tool_use"
        ]
        if not results:
            return
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def let_noa_choose(client: Anthropic) -> None:
    """``auto:cost`` is whichever model is known to be the cheapest; a header says which one that was."""
    answer = client.messages.with_raw_response.create(
        model="auto:cost", messages=[{"role": "user", "content": "Say hello."}], max_tokens=60
    )
    print(f"{answer.headers['x-noa-model']} answered")


def count_tokens(client: Anthropic) -> None:
    """Counted where the model's provider counts: Anthropic does, llama.cpp does, OpenAI's services don't."""
    try:
        counted = client.messages.count_tokens(model="current", messages=[{"role": "user", "content": "Say hello."}])
    except BadRequestError as error:
        print(error)
    else:
        print(f"{counted.input_tokens} tokens")


def main() -> None:
    """All of it, one after the other."""
    address = os.environ.get("NOA_URL", "http://localhost:3001")
    with Anthropic(base_url=address, api_key=os.environ.get("NOA_API_KEY", "unused")) as client:
        list_models(client)
        stream(client)
        use_a_tool(client)
        let_noa_choose(client)
        count_tokens(client)


if __name__ == "__main__":
    main()
