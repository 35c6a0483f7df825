"""An Ollama on loopback: its models are loaded and let go by its own API, and spoken to in OpenAI's dialect."""

from __future__ import annotations

from collections import Counter
from typing import Any

from scripted_upstream import Answer, Received, ScriptedUpstream, json_answer


class ScriptedOllama(ScriptedUpstream):
    """Plays Ollama; ``loaded`` maps what is loaded to its ``keep_alive``, ``orders`` counts what it was told.

    ``embedders`` refuse to generate, ``cloud`` has what runs elsewhere, and ``broken`` cannot be loaded. With
    ``modern`` the list itself says what a model can do, as in newer versions. An unload is over when it was asked
    ``polls`` times what is loaded.
    """

    def __init__(
        self,
        *,
        models: tuple[str, ...] = ("gpt-4", "text-embedding-3-small"),
        embedders: tuple[str, ...] = ("text-embedding-3-small",),
        cloud: tuple[str, ...] = (),
        modern: bool = False,
        polls: int = 1,
        key: str | None = None,
        reply: str = "Hello there, friend.",
        port: int = 0,
    ) -> None:
        super().__init__(models=(*models, *cloud), key=key, reply=reply, port=port)
        self.embedders = embedders
        self.cloud = cloud
        self.modern = modern
        self.polls = polls
        self.broken: set[str] = set()
        self.loaded: dict[str, int] = {}
        self.orders: Counter[tuple[str, str]] = Counter()
        self._leaving: dict[str, int] = {}

    def _play(self, request: Received, path: str) -> Answer:
        match request.path:
            case "/api/tags":
                return json_answer({"models": [self._tag(model) for model in self.models]})
            case "/api/ps":
                return self._ps()
            case "/api/show":
                return self._show(request.json["model"])
            case "/api/generate":
                return self._generate(request.json)
            case "/api/embed":
                return self._load(request.json["model"], request.json["keep_alive"])
        if path == "/models/gpt-4" or request.path == "/v1/models":
            return _refusal(500, "the list of models is asked for by /api/tags")
        answer = super()._play(request, path)
        if answer.status < 400 and request.body and (model := request.json.get("model")) not in self.cloud:
            # A request that says nothing of it leaves keep_alive as it is, or brings Ollama's default.
            self.loaded.setdefault(model, 300)
        return answer

    def _abilities(self, model: str) -> list[str]:
        return ["embedding"] if model in self.embedders else ["completion", "tools"]

    def _tag(self, model: str) -> dict[str, Any]:
        details: dict[str, Any] = {"family": "llama", "parameter_size": "8.0B", "quantization_level": "Q4_K_M"}
        tag: dict[str, Any] = {
            "name": model,
            "model": model,
            "size": 4_000_000,
            "digest": f"d-{model}",
            "details": details,
        }
        if model in self.cloud:
            tag["remote_host"] = "https://elsewhere.example"
        if self.modern:
            details["context_length"] = 8192
            tag["capabilities"] = self._abilities(model)
        return tag

    def _show(self, model: str) -> Answer:
        if model not in self.models:
            return _refusal(404, f"model '{model}' not found")
        info = {"general.architecture": "llama", "llama.context_length": 8192}
        details = self._tag(model)["details"]
        return json_answer({"details": details, "capabilities": self._abilities(model), "model_info": info})

    def _ps(self) -> Answer:
        rows = [
            {"name": model, "model": model, "size": 5_000_000, "size_vram": 0, "context_length": 4096}
            for model in self.loaded
        ]
        for model, polls in [*self._leaving.items()]:
            if polls:
                self._leaving[model] = polls - 1
            else:
                del self._leaving[model]
                self.loaded.pop(model, None)
        return json_answer({"models": rows})

    def _generate(self, asked: dict[str, Any]) -> Answer:
        model = asked["model"]
        if model not in self.models:
            return _refusal(404, f"model '{model}' not found")
        if asked["keep_alive"] == 0:
            self.orders["unload", model] += 1
            self._leaving[model] = self.polls
            return json_answer({"model": model, "response": "", "done": True, "done_reason": "unload"})
        if model in self.embedders:
            return _refusal(400, f'"{model}" does not support generate')
        return self._load(model, asked["keep_alive"])

    def _load(self, model: str, keep_alive: int) -> Answer:
        self.orders["load", model] += 1
        if model in self.broken:
            return _refusal(500, "model requires more system memory (9.1 GiB) than is available (3.2 GiB)")
        self.loaded[model] = keep_alive
        return json_answer({"model": model, "response": "", "done": True, "done_reason": "load"})


def _refusal(status: int, message: str) -> Answer:
    return json_answer({"error": message}, status)
