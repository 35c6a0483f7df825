"""The tail of standard error stays whole and bounded however the bytes arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hypothesis import given
from hypothesis import strategies as st

from noa.runtime.stderr import MAX_LINE_BYTES, MAX_LOGS, LastLogs, StderrTail


@given(st.lists(st.text(alphabet="ab é", max_size=9), max_size=9), st.integers(1, 7))
def test_lines_are_the_same_however_they_are_cut(lines: list[str], step: int) -> None:
    data = "".join(line + "\n" for line in lines).encode()
    tail = StderrTail()
    for start in range(0, len(data), step):
        tail.feed(data[start : start + step])
    assert list(tail.lines()) == lines


def test_only_the_last_lines_are_kept_and_the_one_being_written() -> None:
    tail = StderrTail(max_lines=3)
    tail.feed(b"1\n2\n3\n4\n5\n6")
    assert tail.lines() == ("3", "4", "5", "6")


def test_a_line_without_end_is_cut() -> None:
    tail = StderrTail()
    for _ in range(100):
        tail.feed(b"." * 1000)
    tail.feed(b"\nnext\n")
    first, second = tail.lines()
    assert len(first) <= MAX_LINE_BYTES
    assert second == "next"


def test_control_characters_are_made_visible() -> None:
    tail = StderrTail()
    tail.feed(b"\x1b[31mred\x07\xff\n")
    assert tail.lines() == ("\\x1b[31mred\\x07\N{REPLACEMENT CHARACTER}",)


async def collect(lines: AsyncGenerator[str, None]) -> list[str]:
    return [line async for line in lines]


async def test_a_log_is_followed_line_by_line_to_its_end() -> None:
    tail = StderrTail()
    tail.feed(b"1\n2\n3\n")
    following = asyncio.create_task(collect(tail.follow()))
    late = asyncio.create_task(collect(tail.follow(last=1)))
    await asyncio.sleep(0)
    for piece in (b"4\n5", b"5\n\n", b"half"):
        tail.feed(piece)
        await asyncio.sleep(0)
    assert not following.done()
    tail.end()
    assert await following == ["1", "2", "3", "4", "55", "", "half"]
    assert await late == ["3", "4", "55", "", "half"]
    assert await collect(tail.follow(last=2)) == ["", "half"]
    assert tail.lines()[-1] == "half"


async def test_a_slow_follower_misses_what_is_forgotten_and_nothing_else() -> None:
    tail = StderrTail(max_lines=3)
    lines = tail.follow()
    tail.feed(b"1\n")
    assert await anext(lines) == "1"
    tail.feed(b"2\n3\n4\n5\n")
    tail.end()
    assert await collect(lines) == ["3", "4", "5"]


def test_the_logs_of_the_latest_models_are_kept() -> None:
    logs = LastLogs()
    first, second = StderrTail(), StderrTail()
    logs.keep("a", first)
    logs.keep("a", second)
    assert logs.get("a") is second
    for number in range(MAX_LOGS):
        logs.keep(str(number), StderrTail())
    assert logs.get("a") is None
    assert logs.get("0") is not None
