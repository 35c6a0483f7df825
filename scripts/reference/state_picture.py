"""The picture of a model's life: the table of moves as an SVG, drawn without a browser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Final, NamedTuple

from noa.lifecycle.states import TRANSITIONS
from noa.models import ModelStatus


class Point(NamedTuple):
    """A place on the picture, in its units."""

    x: float
    y: float


#: Where each status stands: column and row. A status that is missing here cannot be drawn, which a test notices.
_PLACES: Final[Mapping[ModelStatus, tuple[int, int]]] = {
    ModelStatus.AVAILABLE: (0, 0),
    ModelStatus.LOADING: (1, 0),
    ModelStatus.LOADED: (2, 0),
    ModelStatus.FAILED: (0, 1),
    ModelStatus.UNLOADED: (1, 1),
    ModelStatus.DRAINING: (2, 1),
}
_WIDTH, _HEIGHT = 940, 420
_BOX = Point(130, 48)
_FIRST, _STEP = Point(150, 120), Point(320, 210)
#: How far an arrow bends where there is another the other way round.
_BEND = 26
#: How far from its beginning the words of an arrow stand, from 0 to 1: those of diagonals apart from where they cross.
_STRAIGHT_WORDS, _DIAGONAL_WORDS = 0.5, 0.3

_STYLE = """
  svg { color-scheme: light; }
  text { font: 15px system-ui, sans-serif; fill: #1f2933; text-anchor: middle; }
  .status { font-weight: 600; }
  .words { font-size: 13px; paint-order: stroke; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; }
  rect.status { fill: #eef4fb; stroke: #3b6ea5; stroke-width: 1.5; }
  path.move { fill: none; stroke: #52606d; stroke-width: 1.5; }
  .head, .start { fill: #52606d; }
"""


def picture() -> str:
    """The SVG."""
    arrows = dict[tuple[ModelStatus, ModelStatus], list[str]]()
    for (before, move), after in TRANSITIONS.items():
        arrows.setdefault((before, after), []).append(move)
    told = "; ".join(f"{before} to {after}: {', '.join(moves)}" for (before, after), moves in arrows.items())
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>The life of a model</title>",
        f"<desc>{escape(told)}.</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="12" fill="#ffffff"/>',
        *_start(),
        *(line for (before, after) in arrows for line in _arrow(before, after, twofold=(after, before) in arrows)),
        *(line for (before, after), moves in arrows.items() for line in _words(before, after, moves, arrows)),
        *(line for status in _PLACES for line in _status(status)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _centre(status: ModelStatus) -> Point:
    column, row = _PLACES[status]
    return Point(_FIRST.x + column * _STEP.x, _FIRST.y + row * _STEP.y)


def _status(status: ModelStatus) -> Iterator[str]:
    x, y = _centre(status)
    yield (
        f'<rect class="status" x="{x - _BOX.x / 2:g}" y="{y - _BOX.y / 2:g}" '
        f'width="{_BOX.x:g}" height="{_BOX.y:g}" rx="10"/>'
    )
    yield f'<text class="status" x="{x:g}" y="{y:g}" dy="0.35em">{status}</text>'


def _start() -> Iterator[str]:
    """How a model becomes known."""
    x, y = _centre(ModelStatus.AVAILABLE)
    top = y - _BOX.y / 2
    yield f'<circle class="start" cx="{x:g}" cy="{top - 56:g}" r="7"/>'
    yield f'<path class="move" d="M {x:g} {top - 49:g} L {x:g} {top - 8:g}"/>'
    yield _head(Point(x, top - 56), Point(x, top))
    yield f'<text class="words" x="{x + 46:g}" y="{top - 32:g}" dy="0.35em">discovered</text>'


def _arrow(before: ModelStatus, after: ModelStatus, *, twofold: bool) -> Iterator[str]:
    start, bend, end = _way(before, after, twofold=twofold)
    yield f'<path class="move" d="M {start.x:.0f} {start.y:.0f} Q {bend.x:.0f} {bend.y:.0f} {end.x:.0f} {end.y:.0f}"/>'
    yield _head(bend, end)


def _words(
    before: ModelStatus,
    after: ModelStatus,
    moves: list[str],
    arrows: Mapping[tuple[ModelStatus, ModelStatus], list[str]],
) -> Iterator[str]:
    start, bend, end = _way(before, after, twofold=(after, before) in arrows)
    t = _DIAGONAL_WORDS if _diagonal(before, after) else _STRAIGHT_WORDS
    x = (1 - t) ** 2 * start.x + 2 * t * (1 - t) * bend.x + t**2 * end.x
    y = (1 - t) ** 2 * start.y + 2 * t * (1 - t) * bend.y + t**2 * end.y
    for number, move in enumerate(moves):
        line = y + 17 * (number - (len(moves) - 1) / 2)
        yield f'<text class="words" x="{x:.0f}" y="{line:.0f}" dy="0.35em">{escape(move)}</text>'


def _way(before: ModelStatus, after: ModelStatus, *, twofold: bool) -> tuple[Point, Point, Point]:
    """The beginning, the bend and the end of an arrow, from the edge of one box to that of the other."""
    here, there = _centre(before), _centre(after)
    length = math.hypot(there.x - here.x, there.y - here.y)
    # To the right-hand side, as one goes, so that the arrows of a pair part.
    aside = Point(-(there.y - here.y) / length, (there.x - here.x) / length) if twofold else Point(0, 0)
    middle, apart = Point((here.x + there.x) / 2, (here.y + there.y) / 2), 0 if _diagonal(before, after) else _BEND
    bend = _moved(middle, aside, apart + _BEND)
    return (
        _edge(here, _moved(here, aside, apart), bend),
        bend,
        _edge(there, _moved(there, aside, apart), bend),
    )


def _diagonal(before: ModelStatus, after: ModelStatus) -> bool:
    here, there = _PLACES[before], _PLACES[after]
    return here[0] != there[0] and here[1] != there[1]


def _moved(point: Point, direction: Point, distance: float) -> Point:
    return Point(point.x + direction.x * distance, point.y + direction.y * distance)


def _edge(centre: Point, inside: Point, outside: Point) -> Point:
    """Where the line from a point inside the box to one outside leaves it."""
    dx, dy = outside.x - inside.x, outside.y - inside.y
    right = centre.x + math.copysign(_BOX.x / 2, dx)
    lower = centre.y + math.copysign(_BOX.y / 2, dy)
    t = min((right - inside.x) / dx if dx else math.inf, (lower - inside.y) / dy if dy else math.inf)
    return Point(inside.x + dx * t, inside.y + dy * t)


def _head(origin: Point, tip: Point) -> str:
    angle = math.atan2(tip.y - origin.y, tip.x - origin.x)
    corners = [tip, *(_at(tip, angle + math.pi + side, 11) for side in (0.4, -0.4))]
    return f'<polygon class="head" points="{" ".join(f"{corner.x:.0f},{corner.y:.0f}" for corner in corners)}"/>'


def _at(point: Point, angle: float, distance: float) -> Point:
    return Point(point.x + math.cos(angle) * distance, point.y + math.sin(angle) * distance)
