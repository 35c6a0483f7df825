"""Pattern 1 of the quick start (block 8): an application whose routes have a loaded model, or answer 503.

OPENAI_API_KEY=… uvicorn --app-dir examples fastapi_app.app:create_app --factory
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from noa import AIProviderError, LeasedModel, ModelManager
from noa.integrations.fastapi import CurrentModel, Manager, answer_refusal, asgi, ensure_model, lifespan

#: The model that ``POST /summary`` uses: whatever the alias means just now.
Summarizer = Annotated[LeasedModel, Depends(ensure_model("summarizer", wait_s=30), scope="request")]


class Question(BaseModel):
    """What somebody wants to know."""

    text: str


def create_app(manager: ModelManager | None = None) -> FastAPI:
    """The application, over a manager that the environment configures unless one is given."""
    manager = manager or ModelManager.from_environment()
    app = FastAPI(lifespan=lifespan(manager))
    app.add_exception_handler(AIProviderError, answer_refusal)
    app.mount("/ai", asgi(manager))  # the whole of Noa's API: /ai/v1/chat/completions, /ai/api/v1/models, …

    @app.post("/chat")
    async def chat(question: Question, model: CurrentModel) -> dict[str, str]:
        reply = await model.chat(question.text, max_tokens=200)
        return {"model": model.key, "answer": reply.text}

    @app.post("/chat/stream")
    async def stream(question: Question, model: CurrentModel) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            async for piece in model.stream(question.text, max_tokens=200):  # the lease lasts as long as this
                yield piece

        return StreamingResponse(pieces(), media_type="text/plain")

    @app.post("/summary")
    async def summarize(question: Question, model: Summarizer) -> dict[str, str]:
        reply = await model.chat(f"Summarize in one sentence: {question.text}", max_tokens=100)
        return {"model": model.key, "answer": reply.text}

    @app.post("/switch/{key:path}")
    async def switch(key: str, manager: Manager) -> dict[str, str | None]:
        result = await manager.switch_model(key, reason="asked for in the application")
        return {"previous": result.previous_model, "current": result.current_model}

    return app
