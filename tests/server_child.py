"""Runs ``serve`` in a process of its own: ``python server_child.py HOME SETTINGS``.

SETTINGS is JSON: ``upstream`` is an OpenAI server, ``prepare_s`` how long preparing takes, ``fail`` makes it fail.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from noa.config import Configuration, ProviderConfig, Secret
from noa.errors import AIProviderError, ModelLoadError
from noa.manager import ModelManager
from noa.server.app import serve


def main() -> int:
    """Serve, and say on standard output what happens."""
    settings = json.loads(sys.argv[2])
    openai = ProviderConfig(type="openai", api_key=Secret("unused"), base_url=settings["upstream"])
    configuration = Configuration(home=Path(sys.argv[1]), port=settings.get("port", 0), providers=(openai,))

    async def prepare(manager: ModelManager) -> None:
        print("preparing", manager.configuration.url, flush=True)
        await asyncio.sleep(settings.get("prepare_s", 0))
        if settings.get("fail"):
            raise ModelLoadError("the model is broken")

    try:
        return serve(configuration, prepare=prepare, on_ready=lambda url: print("ready", url, flush=True))
    except AIProviderError as error:
        print("refused", error.message, flush=True)
        return 6


if __name__ == "__main__":
    sys.exit(main())
