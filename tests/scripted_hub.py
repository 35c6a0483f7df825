"""A host of files on loopback, in a thread: an API that lists repositories, ranges, and connections that break off."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def small_gguf(elements: int = 64, fill: bytes = b"\0") -> bytes:
    """A file with one tensor of that many floats."""
    name = b"t"
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    header += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, elements, 0, 0)
    return header.ljust(-(-len(header) // 32) * 32, b"\0") + fill * (4 * elements)


class Asked(NamedTuple):
    """A request for a file."""

    path: str
    range: str | None
    authorization: str | None


class ScriptedHub:
    """Serves ``files`` by path, and the repositories that they are of. Change its attributes to make it misbehave.

    ``breaks`` are numbers of bytes after which the next answers with files break off; they do so when the client has
    noticed what came (``progress``). ``etags`` says whether files have one, ``ranges`` whether parts can be asked for,
    ``moved`` to which other host requests for files are redirected, and ``refusal`` how all of them are refused.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.listed: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.listings: list[Asked] = []
        self.breaks: list[int] = []
        self.etags = True
        self.ranges = True
        self.moved: str | None = None
        self.refusal: tuple[int, str] | None = None
        self.listing_refusal: tuple[int, str] | None = None
        self._noticed = threading.Condition()
        self._noticed_bytes = 0
        hub = self

        class Handler(_Handler):
            scripted = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def hold(self, repository: str, path: str, content: bytes) -> None:
        """Have this file in a repository."""
        self.files[f"/{repository}/resolve/{COMMIT}/{path}"] = content
        self.listed[f"{repository}:{path}"] = content

    def progress(self, done: int, _total: int | None) -> None:
        """The client has noticed that so many bytes came."""
        with self._noticed:
            self._noticed_bytes = done
            self._noticed.notify_all()

    def release(self) -> None:
        """Nobody will notice any more."""
        self.progress(sys.maxsize, None)

    @property
    def ranges_asked(self) -> list[str | None]:
        """The ranges of all requests for files."""
        return [asked.range for asked in self.asked]

    def listing(self, repository: str) -> bytes:
        """What the API says of a repository."""
        siblings = [
            {
                "rfilename": name.partition(":")[2],
                "size": len(content),
                "lfs": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 130},
            }
            for name, content in self.listed.items()
            if name.startswith(f"{repository}:")
        ]
        return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()

    def wait_until_noticed(self, count: int) -> None:
        """Until ``progress`` was told of so many bytes."""
        with self._noticed:
            self._noticed.wait_for(lambda: self._noticed_bytes >= count, 5)


class _Handler(BaseHTTPRequestHandler):
    scripted: ScriptedHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in the standard library
        """Nothing is logged."""

    def do_GET(self) -> None:
        hub, path = self.scripted, unquote(urlsplit(self.path).path)
        asked = Asked(path, self.headers.get("Range"), self.headers.get("Authorization"))
        if path.startswith("/api/"):
            hub.listings.append(asked)
            if not path.startswith("/api/models/"):
                self._answer(404, b"", {})
            elif hub.listing_refusal is not None:
                self._answer(hub.listing_refusal[0], b"{}", {"X-Error-Code": hub.listing_refusal[1]})
            else:
                self._answer(200, hub.listing(path.removeprefix("/api/models/")), {"Content-Type": "application/json"})
            return
        hub.asked.append(asked)
        if hub.refusal is not None:
            self._answer(hub.refusal[0], b"", {"X-Error-Code": hub.refusal[1]})
        elif hub.moved is not None:
            self._answer(302, b"", {"Location": hub.moved + self.path})
        elif path in hub.files:
            self._file(hub.files[path])
        else:
            self._answer(404, b"", {})

    def _file(self, content: bytes) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"ETag": tag} if self.scripted.etags else {}
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if wanted is None or not self.scripted.ranges or condition not in (None, tag):
            self._answer(200, content, headers, start=0)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self._answer(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206, content[start:], headers, start=start)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, start: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if start is not None and self.scripted.breaks:
            count = self.scripted.breaks.pop(0)
            self.wfile.write(body[:count])
            self.wfile.flush()
            self.scripted.wait_until_noticed(start + count)
            self.close_connection = True
            return
        self.wfile.write(body)
