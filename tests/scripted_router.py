"""A llama.cpp server in router mode on loopback: its models are loaded and unloaded by its API, and take their time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from scripted_upstream import Answer, Received, ScriptedUpstream, json_answer


class ScriptedRouter(ScriptedUpstream):
    """Plays the router; ``status`` says where each model stands, ``orders`` counts what it was told to do.

    A load or an unload is over when it was asked ``polls`` times how it stands (``None``: never). The models in
    ``broken`` end while they load.
    """

    def __init__(
        self, *, models: Sequence[str] = ("x", "other"), polls: int | None = 1, key: str | None = None
    ) -> None:
        super().__init__(models=models, key=key)
        self.status: dict[str, dict[str, Any]] = {model: {"value": "unloaded", "args": []} for model in models}
        self.orders: Counter[tuple[str, str]] = Counter()
        self.polls = polls
        self.broken: set[str] = set()
        self._until: dict[str, tuple[int | None, str]] = {}

    def _play(self, request: Received, path: str) -> Answer:
        if (request.method, path) == ("GET", "/models"):
            self._pass()
            rows = [{"id": model, "object": "model", "status": self.status[model]} for model in self.status]
            return json_answer({"object": "list", "data": rows})
        if request.path in ("/models/load", "/models/unload"):
            return self._order(request.path.rpartition("/")[2], request.json["model"])
        if path == "/chat/completions" and self.status[request.json["model"]]["value"] != "loaded":
            return _refusal(400, "model is not loaded")
        return super()._play(request, path)

    def _order(self, action: str, model: str) -> Answer:
        self.orders[action, model] += 1
        if model not in self.status:
            return _refusal(404, "model is not found")
        running = self.status[model]["value"] in ("loading", "loaded", "sleeping")
        if running is (action == "load"):
            return _refusal(400, "model is already running" if running else "model is not running")
        if action == "load":
            self.status[model] = {"value": "loading", "args": []}
        self._until[model] = (self.polls, "loaded" if action == "load" else "unloaded")
        return json_answer({"success": True})

    def _pass(self) -> None:
        """Somebody has asked once more."""
        for model, (polls, value) in [*self._until.items()]:
            if polls is None:
                continue
            if polls > 0:
                self._until[model] = (polls - 1, value)
                continue
            del self._until[model]
            if value == "loaded" and model in self.broken:
                self.status[model] = {"value": "unloaded", "args": [], "failed": True, "exit_code": 1}
            else:
                self.status[model] = {"value": value, "args": []}


def _refusal(status: int, message: str) -> Answer:
    return json_answer({"error": {"code": status, "message": message, "type": "invalid_request_error"}}, status)
