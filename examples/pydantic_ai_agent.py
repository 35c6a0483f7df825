"""An agent of Pydantic AI on Noa: plain, then with a tool and an answer of a type of one's own.

    noa serve                              # in another terminal, with a model that can use tools in use
    python examples/pydantic_ai_agent.py

NOA_URL says where Noa is (http://localhost:3001 unless it is set), NOA_API_KEY its key if it asks for one.
"""

import asyncio
import os

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Weather(BaseModel):
    """What the agent must answer with."""

    city: str
    degrees: int
    rain: bool


def get_weather(city: str) -> str:
    """The weather in a city."""
    return "7 degrees, light rain" if city == "Oslo" else "unknown"


async def say_hello(model: OpenAIChatModel) -> None:
    """Any model can do this, the demo model too."""
    answer = await Agent(model).run("Say hello.", model_settings={"max_tokens": 60})
    print(answer.output)


async def ask_for_the_weather(model: OpenAIChatModel) -> None:
    """The answer itself is a call that is demanded, so Noa refuses a model that it knows to have no tools."""
    agent = Agent(model, tools=[get_weather], output_type=Weather)
    answer = await agent.run("What is the weather in Oslo?", model_settings={"max_tokens": 200})
    print(f"{answer.output.city}: {answer.output.degrees} degrees, {'rain' if answer.output.rain else 'dry'}")
    print(f"{answer.usage.requests} requests")


async def main() -> None:
    """Both."""
    address = os.environ.get("NOA_URL", "http://localhost:3001")
    async with OpenAIProvider(base_url=f"{address}/v1", api_key=os.environ.get("NOA_API_KEY", "unused")) as provider:
        model = OpenAIChatModel("current", provider=provider)
        await say_hello(model)
        await ask_for_the_weather(model)


if __name__ == "__main__":
    asyncio.run(main())
