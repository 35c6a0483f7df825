"""Who may ask: the decisions over headers."""

from __future__ import annotations

import base64

import pytest

from noa.config import Configuration, Secret
from noa.errors import AIProviderError, AuthenticationError, ConfigurationError, HostNotAllowedError, ValidationError
from noa.server.security import (
    LIVENESS_PATH,
    LIVENESS_PATHS,
    OWNER,
    Caller,
    Gate,
    check_exposure,
    is_loopback,
)

KEY = Secret("correct horse")
OPEN = Gate.of(Configuration())
LOCKED = Gate.of(Configuration(api_key=KEY))


def verdict(gate: Gate, method: str = "GET", path: str = "/v1/models", **headers: str) -> type[AIProviderError] | None:
    raw = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()
    ]
    try:
        gate.check(method, path, raw)
    except AIProviderError as error:
        return type(error)
    return None


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:3001", "127.0.0.1:9", "[::1]:3001", "[::1]", "localhost."])
def test_the_loopback_is_ours(host: str) -> None:
    assert OPEN.answers_to(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:3001", "localhost.evil.example", "localhost:3001/x", "localhost?x", "localhost#x",
        "evil@localhost", "localhost:x", "", " localhost", "127.0.0.1.evil.example", "[::1", "localhost,evil.example",
        "0.0.0.0", "localhost:3001:3001", "localhost\\x",
    ],
)  # fmt: skip
def test_other_and_malformed_hosts_are_not(host: str) -> None:
    assert not OPEN.answers_to(host)
    assert verdict(OPEN, host=host) is HostNotAllowedError


def test_two_host_headers_or_none_are_refused() -> None:
    for hosts in ([], [b"localhost", b"localhost"]):
        with pytest.raises(HostNotAllowedError):
            OPEN.check("GET", "/", [(b"host", host) for host in hosts])


def test_the_bound_and_the_listed_hosts_are_ours_too() -> None:
    gate = Gate.of(Configuration(host="192.168.1.7", api_key=KEY, allowed_hosts=("noa.example:443",)))
    assert gate.answers_to("192.168.1.7:3001")
    assert gate.answers_to("noa.example")
    assert not gate.answers_to("evil.example")


def test_a_wildcard_with_a_key_answers_to_any_name_unless_some_are_listed() -> None:
    assert Gate.of(Configuration(host="0.0.0.0", api_key=KEY)).answers_to("my-laptop.local:3001")
    listed = Gate.of(Configuration(host="::", api_key=KEY, allowed_hosts=("noa.example",)))
    assert listed.answers_to("noa.example")
    assert not listed.answers_to("my-laptop.local")
    assert not Gate.of(Configuration(host="0.0.0.0")).answers_to("my-laptop.local")


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({}, False),
        ({"authorization": "Bearer correct horse"}, True),
        ({"authorization": "bearer correct horse"}, True),
        ({"x_api_key": "correct horse"}, True),
        ({"authorization": "Bearer sk-other", "x_api_key": "correct horse"}, True),
        ({"authorization": "Bearer correct hors"}, False),
        ({"authorization": "Basic correct horse"}, False),
        ({"authorization": "Bearer "}, False),
        ({"x_api_key": ""}, False),
        ({"x_api_key": "ünicode"}, False),
    ],
)
def test_the_key_opens(headers: dict[str, str], admitted: bool) -> None:
    assert verdict(LOCKED, **headers) is (None if admitted else AuthenticationError)


def basic(password: str, user: str = "anybody") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "admitted"),
    [
        (basic("correct horse"), True),
        (basic("correct horse", user=""), True),
        (basic("correct horse").replace("Basic", "bASIC"), True),
        (basic("correct hors"), False),
        (basic(""), False),
        (basic("anybody", user="correct horse"), False),
        ("Basic " + base64.b64encode(b"correct horse").decode(), False),
        ("Basic not*base64", False),
        ("Basic \N{SNOWMAN}", False),
    ],
)
def test_the_key_is_the_password_of_http_basic(authorization: str, admitted: bool) -> None:
    assert verdict(LOCKED, authorization=authorization) is (None if admitted else AuthenticationError)


def test_http_basic_opens_nothing_where_no_key_is_set() -> None:
    assert verdict(OPEN, authorization=basic("")) is None
    assert verdict(OPEN, "POST", authorization=basic("x"), content_type="text/plain") is None


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, ValidationError),
        ({"content_type": "text/plain", "content_length": "9"}, ValidationError),
        ({"content_type": "application/x-www-form-urlencoded"}, ValidationError),
        ({"content_type": "application/json"}, None),
        ({"content_type": "application/json", "origin": "http://localhost:3001"}, None),
        ({"content_type": "application/json", "origin": "https://localhost:3001"}, None),
        ({"content_type": "application/json", "origin": "http://localhost:8080"}, HostNotAllowedError),
        ({"content_type": "application/json", "origin": "http://localhost"}, HostNotAllowedError),
        ({"content_type": "application/json", "origin": "https://evil.example"}, HostNotAllowedError),
        ({"content_type": "application/json", "origin": "null"}, HostNotAllowedError),
        ({"content_type": "text/plain", "content_length": "9", "origin": "http://localhost:3001"}, ValidationError),
    ],
)
def test_what_a_browser_adds_by_itself_changes_something_for_our_own_page_only(
    host: str, headers: dict[str, str], refused: type[AIProviderError] | None
) -> None:
    gate = Gate.of(Configuration(host=host, api_key=KEY))
    given = {"host": "localhost:3001", "authorization": basic("correct horse"), **headers}
    assert verdict(gate, "POST", **given) is refused


def test_the_port_of_the_scheme_may_be_left_out() -> None:
    given = {"authorization": basic("correct horse"), "content_type": "application/json"}
    assert verdict(LOCKED, "POST", host="localhost:80", origin="http://localhost", **given) is None
    assert verdict(LOCKED, "POST", host="LOCALHOST", origin="https://localhost:443", **given) is None


def test_liveness_alone_asks_for_no_key() -> None:
    assert verdict(LOCKED, path=LIVENESS_PATH) is None
    for path in ("/", "/api-docs", f"{LIVENESS_PATH}/", f"{LIVENESS_PATH}x", "/api/v1/status/health", "/metrics"):
        assert verdict(LOCKED, path=path) is AuthenticationError


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", "//x", ""]
)
def test_a_page_of_another_site_changes_nothing(method: str, origin: str) -> None:
    assert verdict(OPEN, method, origin=origin) is HostNotAllowedError


def test_our_own_page_does() -> None:
    assert verdict(OPEN, "POST", origin="http://localhost:3001", content_type="application/json") is None
    assert verdict(OPEN, "GET", origin="https://evil.example") is None


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_browsers_body_must_be_json(media_type: str) -> None:
    headers = {"origin": "http://localhost", "content_type": media_type, "content_length": "2"}
    assert verdict(OPEN, "POST", **headers) is ValidationError


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_the_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Configuration(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "noa.example", "localhost.evil.example", "128.0.0.1"])
def test_beyond_it_a_key_is_needed(host: str) -> None:
    with pytest.raises(ConfigurationError, match="NOA_API_KEY"):
        check_exposure(Configuration(host=host))
    check_exposure(Configuration(host=host, api_key=KEY))


def test_a_gate_does_not_show_its_key() -> None:
    assert "correct" not in repr(LOCKED)


def test_a_callers_own_key_is_known_by_its_name() -> None:
    gate = Gate.of(Configuration(api_key=KEY), {b"sk-noa-of-ci": "ci"}.get)
    host = (b"host", b"localhost")
    assert gate.check("GET", "/", [host, (b"x-api-key", b"correct horse")]) == OWNER
    assert gate.check("GET", "/", [host, (b"x-api-key", b"sk-noa-of-ci")]) == Caller("ci")
    assert gate.check("GET", "/", [host, (b"authorization", basic("sk-noa-of-ci").encode())]) == Caller("ci")
    assert gate.check("GET", LIVENESS_PATH, [host]) == Caller()
    with pytest.raises(AuthenticationError):
        gate.check("GET", "/", [host, (b"x-api-key", b"sk-noa-of-nobody")])
    unlocked = Gate.of(Configuration(), {b"sk-noa-of-ci": "ci"}.get)
    assert unlocked.check("GET", "/", [host, (b"x-api-key", b"sk-noa-of-ci")]) == Caller("ci", is_owner=True)
    assert unlocked.check("GET", "/", [host, (b"x-api-key", b"whatever")]) == OWNER


def test_health_asks_for_no_key_wherever_monitors_look_for_it() -> None:
    for path in LIVENESS_PATHS:
        assert verdict(LOCKED, path=path) is None
