"""Profiles side by side as a picture: what is drawn where, in a form that any canvas can carry out. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from noa.measurement.samples import Distribution
from noa.measurement.significance import Interval
from noa.measurement.summary import LevelFigures, ProfileMetrics

WIDTH = 960
_MARGIN = 32
_TITLE = 24
_ROW = 26
_LABELS = 270
_FIGURES = 150
_PANEL_GAP = 26
_PLOT_HEIGHT = 190
_INK, _FAINT, _GRID, _PAPER = "#1b1f24", "#5b6570", "#dfe3e8", "#ffffff"
#: Told apart by people who see colours differently (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a7a00", "#444444")


class Box(NamedTuple):
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


class Line(NamedTuple):
    """Straight lines from point to point."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 1.0


class Label(NamedTuple):
    """A piece of text; ``y`` is its baseline."""

    x: float
    y: float
    text: str
    size: int = 13
    colour: str = _INK
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


Mark = Box | Line | Label


class Picture(NamedTuple):
    """Everything to draw, in order, on white. Lengths are in pixels from the upper left."""

    width: int
    height: int
    marks: tuple[Mark, ...]


class _Panel(NamedTuple):
    title: str
    value: Callable[[ProfileMetrics], float | None]
    unit: str
    span: Callable[[ProfileMetrics], tuple[float, float] | None]


def _no_span(_: ProfileMetrics) -> None:
    return None


def _spread(spread: Distribution, interval: Interval | None) -> tuple[float, float] | None:
    """How sure the median is; where that cannot be said, from the fastest to the slowest."""
    if interval is not None:
        return interval.low, interval.high
    return None if spread.min is None or spread.max is None else (spread.min, spread.max)


_PANELS = (
    _Panel(
        "Time to first token, median: shorter is better",
        lambda metrics: metrics.ttft_ms.p50,
        "ms",
        lambda metrics: _spread(metrics.ttft_ms, metrics.p50_intervals.ttft_ms),
    ),
    _Panel(
        "Time per output token, median: shorter is better",
        lambda metrics: metrics.tpot_ms.p50,
        "ms",
        lambda metrics: _spread(metrics.tpot_ms, metrics.p50_intervals.tpot_ms),
    ),
    _Panel(
        "Tokens per second, end to end: longer is better", lambda metrics: metrics.tokens_per_second, "/s", _no_span
    ),
    _Panel(
        "Requests that succeeded",
        lambda metrics: None if metrics.success_rate is None else metrics.success_rate * 100,
        "%",
        _no_span,
    ),
)


def draw(profiles: Mapping[str, ProfileMetrics]) -> Picture:
    """A picture of these profiles, by key: bars for each figure, and curves where several callers were tried."""
    marks: list[Mark] = [Label(_MARGIN, _MARGIN + 14, "Profiles", 20, bold=True)]
    y = _MARGIN + 34.0
    for panel in _PANELS:
        marks += _bars(panel, profiles, y)
        y += _TITLE + _ROW * len(profiles) + _PANEL_GAP
    swept = {key: metrics.levels for key, metrics in profiles.items() if len(metrics.levels) > 1}
    if swept:
        half = (WIDTH - 3 * _MARGIN) / 2
        places = {key: index for index, key in enumerate(profiles)}
        marks += _curve("Tokens per second by callers at once", swept, _throughput, places, _MARGIN, y, half)
        marks += _curve("Median time to first token, ms", swept, _waiting, places, 2 * _MARGIN + half, y, half)
        y += _TITLE + _PLOT_HEIGHT + 40 + _PANEL_GAP
    for note in _notes(profiles):
        marks.append(Label(_MARGIN, y, note, 12, _FAINT))
        y += 17
    return Picture(WIDTH, int(y + _MARGIN / 2), tuple(marks))


def _notes(profiles: Mapping[str, ProfileMetrics]) -> Iterator[str]:
    yield "Thin lines: where the median lies with 95 % certainty; with fewer than six answers, from fastest to slowest."
    for key, metrics in profiles.items():
        when = "" if metrics.last_benchmarked is None else f", {metrics.last_benchmarked:%Y-%m-%d %H:%M} UTC"
        unfinished = "" if metrics.stopped is None else ", stopped early"
        requests = f"{metrics.test_count} requests of at most {metrics.max_tokens} tokens"
        yield f"{shortened(key, 60)}: {requests}, {metrics.mode}{unfinished}{when}"


def _bars(panel: _Panel, profiles: Mapping[str, ProfileMetrics], top: float) -> Iterator[Mark]:
    left, right = _MARGIN + _LABELS, WIDTH - _MARGIN - _FIGURES
    spans = {key: panel.span(metrics) for key, metrics in profiles.items()}
    values = {key: panel.value(metrics) for key, metrics in profiles.items()}
    known = [value for value in values.values() if value is not None]
    most = max([*known, *(span[1] for span in spans.values() if span is not None)], default=0.0) or 1.0
    yield Label(_MARGIN, top + 13, panel.title, 13, _FAINT, bold=True)
    for index, (key, value) in enumerate(values.items()):
        y = top + _TITLE + index * _ROW
        yield Label(_MARGIN, y + 15, shortened(key, 38), 13)
        if value is None:
            yield Label(left, y + 15, "not measured", 13, _FAINT)
            continue
        yield Box(left, y + 3, max(1.0, (right - left) * value / most), _ROW - 10, _colour(index))
        if (span := spans[key]) is not None:
            low, high = (left + (right - left) * end / most for end in span)
            middle = y + 3 + (_ROW - 10) / 2
            yield Line(((low, middle), (high, middle)), _INK, 1.5)
            yield from (Line(((end, middle - 4), (end, middle + 4)), _INK, 1.5) for end in (low, high))
        yield Label(right + 12, y + 15, f"{_number(value)} {panel.unit}", 13)


def _curve(
    title: str,
    levels: Mapping[str, Sequence[LevelFigures]],
    value: Callable[[LevelFigures], float | None],
    places: Mapping[str, int],
    left: float,
    top: float,
    width: float,
) -> Iterator[Mark]:
    """A curve for each model over the number of callers, which are evenly spaced: they double from one to the next."""
    steps = sorted({level.concurrency for each in levels.values() for level in each})
    known = [figure for each in levels.values() for level in each if (figure := value(level)) is not None]
    most = _round_up(max(known, default=0.0) or 1.0)
    x0, x1, y0, y1 = left + 46, left + width - 8, top + _TITLE + _PLOT_HEIGHT, top + _TITLE + 8

    def across(concurrency: int) -> float:
        return x0 + (x1 - x0) * (steps.index(concurrency) / max(1, len(steps) - 1))

    yield Label(left, top + 13, title, 13, _FAINT, bold=True)
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = y0 + (y1 - y0) * part
        yield Line(((x0, y), (x1, y)), _GRID)
        yield Label(x0 - 8, y + 4, _number(most * part), 11, _FAINT, "end")
    for step in steps:
        yield Label(across(step), y0 + 18, str(step), 11, _FAINT, "middle")
    for key, each in levels.items():
        shown = [(level.concurrency, figure) for level in each if (figure := value(level)) is not None]
        points = tuple((across(step), y0 + (y1 - y0) * figure / most) for step, figure in shown)
        colour = _colour(places[key])
        yield Line(points, colour, 2.0)
        yield from (Box(x - 3, y - 3, 6, 6, colour) for x, y in points)


def _throughput(level: LevelFigures) -> float | None:
    return level.tokens_per_second


def _waiting(level: LevelFigures) -> float | None:
    return level.ttft_ms.p50


def _round_up(value: float) -> float:
    """The next number whose quarters are round."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def shortened(text: str, most: int) -> str:
    """The text, cut in its middle where it is too long: keys differ at both ends."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[len(text) - (most - most // 2) :]}"
