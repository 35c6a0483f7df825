from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from noa.config import Secret
from noa.errors import (
    AIProviderError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from noa.models import Endpoint
from noa.providers.faults import Target, transport_error
from noa.providers.upstream import Upstream, versioned
from scripted_upstream import Answer, ScriptedUpstream, json_answer

TARGET = Target(provider="openai", address="http://127.0.0.1:1/v1", advice="Check OPENAI_BASE_URL.")
WHERE = ConnectionKey("127.0.0.1", 1, False, True, None, None, None)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as scripted:
        yield scripted


def connect(server: ScriptedUpstream | None, timeout_s: float = 5, base_url: str | None = None) -> Upstream:
    return Upstream(
        TARGET,
        base_url=base_url or (server.url if server else None),
        timeout_s=timeout_s,
        headers={"authorization": "Bearer k3y"},
        secret=Secret("k3y"),
    )


@pytest.mark.parametrize(
    ("failure", "kind", "sent", "words"),
    [
        (
            aiohttp.ClientConnectorError(WHERE, OSError(errno.ECONNREFUSED, "x")),
            ProviderConnectionError,
            False,
            "openai cannot be reached at http://127.0.0.1:1/v1: connection refused. Check OPENAI_BASE_URL.",
        ),
        (aiohttp.ClientConnectorDNSError(WHERE, OSError(-2, "x")), ProviderConnectionError, False, "host name"),
        (
            aiohttp.ClientConnectorError(WHERE, OSError(errno.EHOSTUNREACH, "x")),
            ProviderConnectionError,
            False,
            "no route",
        ),
        (aiohttp.ClientConnectorError(WHERE, OSError("several")), ProviderConnectionError, False, "no connection"),
        (aiohttp.ClientConnectorSSLError(WHERE, OSError("x")), ProviderConnectionError, False, "TLS"),
        (aiohttp.ClientConnectorCertificateError(WHERE, Exception("x")), ProviderConnectionError, False, "certificate"),
        (aiohttp.ConnectionTimeoutError("x"), ProviderTimeoutError, False, "time limit"),
        (aiohttp.SocketTimeoutError("x"), ProviderTimeoutError, True, "sent nothing for 2.5 seconds"),
        (TimeoutError(), ProviderTimeoutError, True, "sent nothing"),
        (aiohttp.ServerDisconnectedError(), ProviderResponseError, True, "closed the connection"),
        (ConnectionResetError(), ProviderResponseError, True, "closed the connection"),
        (aiohttp.ClientPayloadError("x"), ProviderResponseError, True, "before it was finished"),
        (aiohttp.ClientError("x"), ProviderResponseError, True, "no HTTP answer"),
    ],
)
def test_every_failure_of_the_transport_has_its_error(
    failure: Exception, kind: type[AIProviderError], sent: bool, words: str
) -> None:
    error = transport_error(failure, TARGET, 2.5)
    assert type(error) is kind
    assert (error.provider, error.details["sent"]) == ("openai", sent)
    assert words in error.message


async def test_silence_is_a_timeout_and_an_answer_that_keeps_coming_is_not(server: ScriptedUpstream) -> None:
    upstream = connect(server, timeout_s=0.3)
    slow = Answer(chunks=tuple(b"x" for _ in range(8)), chunk_delay_s=0.1)
    server.script("/x", slow, Answer(chunks=(b"x",), hang=True), Answer(raw=b"", hang=True))
    response = await upstream.send("GET", "/x")
    assert await response.read() == b"x" * 8
    response = await upstream.send("GET", "/x")
    with pytest.raises(ProviderTimeoutError, match=r"nothing for 0\.3 seconds"):
        await response.read()
    with pytest.raises(ProviderTimeoutError):
        await upstream.send("GET", "/x")
    await upstream.aclose()


async def test_the_whole_exchange_can_be_limited(server: ScriptedUpstream) -> None:
    upstream = connect(server)
    server.script("/x", Answer(chunks=(b"x",) * 100, chunk_delay_s=0.05))
    response = await upstream.send("GET", "/x", total_s=0.2)
    with pytest.raises(ProviderTimeoutError, match=r"0\.2 seconds"):
        await response.read()
    await upstream.aclose()


@pytest.mark.parametrize(
    "fault",
    [
        Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"),
        Answer(chunks=(b"{}",), truncate=True),
        Answer(chunks=(b"{}",), reset=True),
    ],
)
async def test_a_body_that_breaks_off_is_no_answer(server: ScriptedUpstream, fault: Answer) -> None:
    upstream = connect(server)
    server.script("/x", fault)

    async def read() -> None:
        await (await upstream.send("GET", "/x")).read()

    with pytest.raises(ProviderResponseError) as caught:
        await read()
    assert caught.value.details["sent"] is True
    await upstream.aclose()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status=307, headers={"location": "/y"}), "redirect"),
        (Answer(body=b"\x1f\x8b", headers={"content-encoding": "gzip"}), "compressed"),
        (Answer(raw=b"HTTP/1.1 banana\r\n\r\n"), "no HTTP answer"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}"), "no HTTP answer"),
    ],
)
async def test_answers_nobody_asked_for_are_refused(server: ScriptedUpstream, answer: Answer, words: str) -> None:
    upstream = connect(server)
    server.script("/x", answer)
    with pytest.raises(ProviderResponseError, match=words):
        await upstream.send("POST", "/x", body=b"{}")
    assert [request.path for request in server.requests] == ["/x"]
    await upstream.aclose()


async def test_a_body_has_a_largest_size(server: ScriptedUpstream) -> None:
    upstream = connect(server)
    server.script("/x", Answer(body=b"x" * 3_000_000))
    response = await upstream.send("GET", "/x")
    with pytest.raises(ProviderResponseError, match="more than 2 MiB"):
        await response.read(2 * 1024 * 1024)
    await upstream.aclose()


async def test_connections_are_used_again(server: ScriptedUpstream) -> None:
    upstream = connect(server)
    for _ in range(3):
        await (await upstream.send("GET", "/v1/models")).read()
    assert server.accepted == 1
    await upstream.aclose()


async def test_cookies_are_not_kept(server: ScriptedUpstream) -> None:
    # By name, since cookies of mere addresses are not kept anyway.
    upstream = connect(None, base_url=f"http://localhost:{server.port}")
    server.script("/x", Answer(body=b"{}", headers={"set-cookie": "a=b"}))
    for _ in range(2):
        await (await upstream.send("GET", "/x")).read()
    assert "cookie" not in server.requests[1].headers
    await upstream.aclose()


async def test_only_allowed_headers_come_back(server: ScriptedUpstream) -> None:
    upstream = connect(server)
    told = {"set-cookie": "a=b", "x-api-key": "k3y", "retry-after": "3", "openai-organization": "us"}
    server.script("/x", json_answer({}, headers=told))
    response = await upstream.send("GET", "/x")
    assert response.headers == {"retry-after": "3", "x-request-id": "req-1"}
    assert response.retry_after_s == 3
    response.close()
    await upstream.aclose()


async def test_an_engines_socket_gets_no_key_and_no_connection_twice(short_folder: Path) -> None:
    path = str(short_folder / "e.sock")
    endpoint = Endpoint(base_url="http://localhost/v1", socket_path=path)
    async with ScriptedUpstream(socket_path=path) as engine:
        upstream = connect(None)
        for _ in range(2):
            await (await upstream.send("GET", "/models", endpoint=endpoint)).read()
        assert [request.path for request in engine.requests] == ["/v1/models"] * 2
        assert "authorization" not in engine.requests[0].headers
        assert engine.accepted == 2
        await upstream.forget(endpoint)
    with pytest.raises(ProviderConnectionError, match="socket of its engine") as caught:
        await upstream.send("GET", "/models", endpoint=endpoint)
    assert caught.value.details["sent"] is False
    await upstream.aclose()


async def test_a_service_without_tls_is_not_spoken_to_in_plain_text() -> None:
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as plain:
        upstream = connect(None, base_url=f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}")
        with pytest.raises(ProviderConnectionError, match="TLS") as caught:
            await upstream.send("GET", "/x")
    assert caught.value.details["sent"] is False
    assert not any(b"k3y" in each for each in received)
    await upstream.aclose()


async def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        upstream = connect(None, base_url=f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(ProviderConnectionError, match="connection refused"):
            await upstream.send("GET", "/x")
    await upstream.aclose()


@pytest.mark.parametrize("given", ["http://x:1", "http://x:1/", "http://x:1/v1", "http://x:1/v1/"])
def test_a_base_url_may_end_in_its_version_or_not(given: str) -> None:
    assert versioned(given) == "http://x:1/v1"
