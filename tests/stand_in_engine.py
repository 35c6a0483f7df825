"""A program that behaves like an engine, or misbehaves as its first argument says. Imports nothing of Noa.

It takes the arguments of Noa's own child as well as those of a ``llama-server``, listens on the socket they name, and
serves the few routes a start asks for.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler

#: What the engine's log says at the end of a load.
LOADED = "0.00.000.002 I srv          init: init: model loaded"


def argument(*names: str) -> str:
    return next(sys.argv[place + 1] for place, word in enumerate(sys.argv) if word in names)


class Handler(BaseHTTPRequestHandler):
    def address_string(self) -> str:
        return "socket"

    def do_GET(self) -> None:
        props = {
            "model_path": argument("--model"),
            "model_alias": "impostor" if MODE == "impostor" else argument("--alias"),
            "total_slots": int(argument("--slots", "--parallel")),
        }
        self.answer(200, props if self.path == "/props" else {"status": "ok"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if MODE == "dies-when-asked":
            os.kill(os.getpid(), signal.SIGABRT)
        if MODE == "mute":
            self.answer(500, {"error": "the device is gone"})
        elif self.path == "/embeddings":
            self.answer(200, [{"index": 0, "embedding": [[0.5]]}])
        else:
            self.answer(200, {"content": "o"})
        if MODE == "lags":
            time.sleep(0.05)
            say(LOADED)

    def answer(self, status: int, body: object) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    say("environment: " + " ".join(sorted(os.environ)))
    if MODE == "out-of-memory":
        say("0.00.202.814 E ggml_aligned_malloc: insufficient memory (attempted to allocate 10991.25 MB)")
        sys.exit(1)
    if MODE == "silent":
        time.sleep(60)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if MODE == "has-children":
        say(f"child: {subprocess.Popen(['sleep', '60']).pid}")
    if MODE == "talkative":
        for number in range(100_000):
            say(f"0.00.000.001 I line {number}")
    with socketserver.UnixStreamServer(argument("--socket", "--host"), Handler) as server:
        if "--nonce" in sys.argv:
            nonce = "0" * 16 if MODE == "wrong-nonce" else argument("--nonce")
            sys.stdout.write(f"noise\nnoa-ready {nonce}\n")
            sys.stdout.flush()
        if MODE != "lags":
            say(LOADED)
        server.serve_forever()


if __name__ == "__main__":
    MODE = sys.argv[1]
    main()
