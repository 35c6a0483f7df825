"""Who is compared: Noa, what people would use instead of it, and what bounds them all."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from bench.load_plan import LoadPlan
from bench.processes import ROOT, Process, running, wait_until_answered
from bench.scenarios import CHAT, chat_body
from bench.scripted_service import CHAT_MODEL, EMBEDDING_MODEL, MARKER, PACED_MODEL
from bench.stream_client import WrongAnswerError
from noa.version import __version__

PEERS = ROOT / ".cache" / "bench"
#: The key that callers must send, and the one that goes to the service: of no worth to anybody.
CALLER_KEY = "sk-bench-caller-0123456789"
SERVICE_KEY = "sk-bench-service-0123456789"
_START_S = 120.0
_MODELS = (CHAT_MODEL, PACED_MODEL, EMBEDDING_MODEL)


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A contestant that runs: where, what its callers send, and what stands before the name of a model.

    ``start_s`` is how long it took until it had answered a request.
    """

    process: Process
    port: int
    headers: Mapping[str, str] = {}
    prefix: str = ""
    start_s: float = 0.0


class Contestant(Protocol):
    """One of those compared."""

    name: str

    def version(self) -> str | None:
        """Which one it is, ``None`` if it is not here."""
        ...

    def launch(self, service_port: int, folder: Path) -> Running:
        """Start it before the service, with ``folder`` for its own; it need not answer yet."""
        ...


@contextmanager
def started(contestant: Contestant, service_port: int, folder: Path) -> Iterator[Running]:
    """Run a contestant, from its cold start to its end. It has answered a request through and through."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    launched = contestant.launch(service_port, folder)
    with running(launched.process):
        first = LoadPlan(
            port=launched.port,
            path=CHAT,
            body=chat_body(launched.prefix + CHAT_MODEL, 100),
            headers=launched.headers,
            marker=MARKER,
        )
        wait_until_answered(first, launched.process, _START_S)
        yield msgspec.structs.replace(launched, start_s=time.perf_counter() - began)


class Noa:
    """``noa serve`` as a user has it: with a key, live figures, prices, Prometheus' figures and records of requests.

    ``source`` is another build's ``src``; ``spin_us`` makes each request cost so much more of a processor, to see
    whether the comparison notices.
    """

    def __init__(self, name: str = "Noa", *, source: Path | None = None, spin_us: float = 0.0) -> None:
        self.name = name
        self._source = source
        self._spin_us = spin_us

    def version(self) -> str | None:
        """See ``Contestant``."""
        return __version__

    def launch(self, service_port: int, folder: Path) -> Running:
        """See ``Contestant``."""
        price = {"input": 2.5, "output": 10}
        configuration = {
            "providers": [
                {
                    "type": "openai",
                    "name": "bench",
                    "baseURL": f"http://127.0.0.1:{service_port}/v1",
                    "apiKey": SERVICE_KEY,
                    "models": list(_MODELS),
                }
            ],
            "models": {f"bench:{each}": {"price": price} for each in _MODELS},
        }
        # JSON is YAML.
        (folder / "noa.yaml").write_text(json.dumps(configuration))
        environment = {"NOA_HOME": str(folder), "NOA_API_KEY": CALLER_KEY}
        paths = [str(ROOT)] if self._source is None else [str(self._source), str(ROOT)]
        environment["PYTHONPATH"] = ":".join(paths)
        program = "from noa.cli.main import main; main()"
        if self._spin_us:
            program = f"from bench.slowdown import slow_down; slow_down({self._spin_us}); {program}"
        command = [sys.executable, "-c", program, "serve", "--port", "0", "--json"]
        process = Process(command, environment=environment, folder=folder, log=folder / "noa.log")
        return Running(process=process, port=_announced_port(process), headers=_bearer(CALLER_KEY), prefix="bench:")


class Direct:
    """Nothing between: the service itself, which is the most that any gateway could be."""

    name = "direct"

    def version(self) -> str | None:
        """See ``Contestant``."""
        return "no gateway"

    def launch(self, service_port: int, folder: Path) -> Running:
        """See ``Contestant``."""
        # Somebody must be there to be measured, and takes nothing.
        nobody = Process([sys.executable, "-c", "input()"], environment={}, folder=folder, log=folder / "direct.log")
        return Running(process=nobody, port=service_port)


class LiteLLM:
    """LiteLLM's proxy, one worker, with a master key and nothing else switched on."""

    name = "LiteLLM"

    def __init__(self) -> None:
        self._port = free_port()

    def version(self) -> str | None:
        """See ``Contestant``."""
        python = PEERS / "litellm" / "bin" / "python"
        if not python.exists():
            return None
        asked = "import importlib.metadata as m; print(m.version('litellm'))"
        command = [str(python), "-c", asked]
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # Our own words.
        return found.stdout.strip() or None

    def launch(self, service_port: int, folder: Path) -> Running:
        """See ``Contestant``."""
        base = f"http://127.0.0.1:{service_port}/v1"
        models = [
            {
                "model_name": each,
                "litellm_params": {"model": f"openai/{each}", "api_base": base, "api_key": SERVICE_KEY},
            }
            for each in _MODELS
        ]
        configuration = {"model_list": models, "general_settings": {"master_key": CALLER_KEY}}
        (folder / "config.yaml").write_text(json.dumps(configuration))
        program = str(PEERS / "litellm" / "bin" / "litellm")
        command = [program, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(self._port)]
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_LOG": "ERROR",
        }
        process = _quiet([*command, "--num_workers", "1"], environment, folder, "litellm.log")
        return Running(process=process, port=self._port, headers=_bearer(CALLER_KEY))


class Portkey:
    """Portkey's gateway on Node, told by headers where to send what. It asks for no key of its own."""

    name = "Portkey"

    def __init__(self) -> None:
        self._port = free_port()
        self._package = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"

    def version(self) -> str | None:
        """See ``Contestant``."""
        manifest = self._package / "package.json"
        if shutil.which("node") is None or not manifest.exists():
            return None
        version: str = json.loads(manifest.read_text())["version"]
        return version

    def launch(self, service_port: int, folder: Path) -> Running:
        """See ``Contestant``."""
        script = str(self._package / "build" / "start-server.js")
        command = [shutil.which("node") or "node", script, f"--port={self._port}", "--headless"]
        process = _quiet(command, {"NODE_ENV": "production"}, folder, "portkey.log")
        headers = {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{service_port}/v1",
            **_bearer(SERVICE_KEY),
        }
        return Running(process=process, port=self._port, headers=headers)


class Nginx:
    """nginx as a bare relay with kept-alive connections, one worker: it reads, checks and counts nothing."""

    name = "nginx"

    def __init__(self) -> None:
        self._port = free_port()

    def version(self) -> str | None:
        """See ``Contestant``."""
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            return None
        command = [program, "-v"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr  # noqa: S603  # Our own.
        return said.strip().rpartition("/")[2] or None

    def launch(self, service_port: int, folder: Path) -> Running:
        """See ``Contestant``."""
        places = "\n".join(
            f"  {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; tcp_nodelay on; keepalive_requests 100000000; client_body_buffer_size 1m; client_max_body_size 10m;
{places}
  upstream service {{ server 127.0.0.1:{service_port}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{self._port} backlog=4096;
    location / {{
      proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffers 8 128k; proxy_buffer_size 128k; proxy_busy_buffers_size 256k;
    }}
  }}
}}
"""
        )
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or "nginx"
        command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        return Running(process=_quiet(command, {}, folder, "nginx.log"), port=self._port)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _announced_port(process: Process) -> int:
    """Where a Noa that has just been started says that it listens."""
    text = ""
    try:
        while not text.endswith("}"):
            text += process.line(_START_S)
    except WrongAnswerError:
        process.end()
        raise
    return int(json.loads(text)["url"].rpartition(":")[2])


def _bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _quiet(command: list[str], environment: Mapping[str, str], folder: Path, log: str) -> Process:
    """A process whose standard output nobody reads: it goes where its errors go, lest it wait for a reader."""
    shell = ["/bin/sh", "-c", 'exec "$@" >&2', "sh", *command]
    return Process(shell, environment=environment, folder=folder, log=folder / log)
