"""The tail of standard error stays whole and bounded however the bytes arrive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noa.runtime.stderr import MAX_LINE_BYTES, StderrTail


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
